"""A payment client: each order is charged once, whatever becomes of answers and processes."""
