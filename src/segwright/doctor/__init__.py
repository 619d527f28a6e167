"""Check a data set, and write a corrected copy of it."""
