"""A large file, uploaded piece by piece: what was received stays received, whatever breaks."""
