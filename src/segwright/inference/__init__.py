"""Prediction: sliding window, restoration to the image's grid, models and cohorts."""

from __future__ import annotations

from segwright.inference.cohort import PredictionResult, predict_cases, predict_folder
from segwright.inference.predictor import Predictor

__all__ = ["PredictionResult", "Predictor", "predict_cases", "predict_folder"]
