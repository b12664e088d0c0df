"""Which endpoint a call takes: the less loaded of two, and none that fails while others do not."""
