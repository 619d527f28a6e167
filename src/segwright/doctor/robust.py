"""Robust statistics over cases of which some may be wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Added to deviations, in units of the values' range, so that nearly equal cases have no outliers.
FLOOR = 0.05


def middle_and_deviation(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median, and the median distance from it, scaled to a normal distribution's standard deviation; without NaN."""
    values = np.where(np.isnan(values).all(axis=0), 0.0, values)
    middle = np.nanmedian(values, axis=0)
    return np.asarray(middle), np.asarray(1.4826 * np.nanmedian(np.abs(values - middle), axis=0))
