"""Prediction: sliding window, restoration to the image's grid, models and cohorts."""
