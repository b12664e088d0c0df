"""What the process is told from outside."""
