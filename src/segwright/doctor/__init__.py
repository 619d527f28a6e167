"""What is wrong with a data set, and a corrected copy of it."""
