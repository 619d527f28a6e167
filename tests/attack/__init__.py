"""Attacks from outside: hostile and damaged files given to the real command line. Run with `make attack`."""
