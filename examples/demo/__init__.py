"""Three callers of one failing service, side by side: `python -m examples.demo`."""
