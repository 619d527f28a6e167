"""Compiled kernels for the loops that no array library expresses without waste. They release the GIL.

Axis tables describe resampling along one axis, made by `segwright.preprocessing.operators`: `taps` int64 (3, n) holds
for each output position the lower, upper and nearest input index, `weights` float64 (2, n) those of the first two.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

# More than half of the weights, which sum to 1 but for rounding: no other label can have as much.
_MAJORITY = 0.5 + 1e-9


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def interpolate_labels(
    labels: NDArray[np.int16],
    z_taps: NDArray[np.int64],
    z_weights: NDArray[np.float64],
    y_taps: NDArray[np.int64],
    y_weights: NDArray[np.float64],
    x_taps: NDArray[np.int64],
    x_weights: NDArray[np.float64],
    out: NDArray[np.int16],
) -> None:
    """Write to `out` the label with the largest trilinearly interpolated indicator; arrays are (z, y, x).

    Of labels that share the largest value the nearest voxel's wins, else the smallest. Where the 8 corners of a cell
    agree so does all between them, because the weights are convex: the cost does not depend on the number of labels.
    """
    corners = np.empty(8, np.int16)
    weights = np.empty(8, np.float64)
    values = np.empty(8, np.int16)
    scores = np.empty(8, np.float64)
    for z in range(out.shape[0]):
        z0, z1 = z_taps[0, z], z_taps[1, z]
        for y in range(out.shape[1]):
            y0, y1 = y_taps[0, y], y_taps[1, y]
            near, far, above, opposite = labels[z0, y0], labels[z0, y1], labels[z1, y0], labels[z1, y1]
            for x in range(out.shape[2]):
                x0, x1 = x_taps[0, x], x_taps[1, x]
                first = near[x0]
                corners[0], corners[1] = first, near[x1]
                corners[2], corners[3] = far[x0], far[x1]
                corners[4], corners[5] = above[x0], above[x1]
                corners[6], corners[7] = opposite[x0], opposite[x1]
                differences = 0
                for corner in range(1, 8):
                    differences |= corners[corner] ^ first
                if differences == 0:
                    out[z, y, x] = first
                    continue
                nearest = labels[z_taps[2, z], y_taps[2, y], x_taps[2, x]]
                share = 0.0
                for corner in range(8):
                    # the order of these products and sums is scipy's, so that ties are the same ties
                    weight = z_weights[corner >> 2, z] * y_weights[(corner >> 1) & 1, y] * x_weights[corner & 1, x]
                    weights[corner] = weight
                    share += weight if corners[corner] == nearest else 0.0
                if share > _MAJORITY:
                    out[z, y, x] = nearest
                    continue
                count = 0
                for corner in range(8):
                    at = 0
                    while at < count and values[at] != corners[corner]:
                        at += 1
                    if at == count:
                        values[at] = corners[corner]
                        scores[at] = 0.0
                        count += 1
                    scores[at] += weights[corner]
                best = 0
                for at in range(1, count):
                    if scores[at] > scores[best] or (
                        scores[at] == scores[best]
                        and values[best] != nearest
                        and (values[at] == nearest or values[at] < values[best])
                    ):
                        best = at
                out[z, y, x] = values[best]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def interpolate_logits_to_labels(
    logits: NDArray[np.float32],
    winners: NDArray[np.int32],
    z_taps: NDArray[np.int64],
    z_weights: NDArray[np.float64],
    y_taps: NDArray[np.int64],
    y_weights: NDArray[np.float64],
    x_taps: NDArray[np.int64],
    x_weights: NDArray[np.float64],
    drawn_as: NDArray[np.int16],
    regions: bool,
    out: NDArray[np.int16],
) -> None:
    """Write to `out` (z, y, x) the label map of trilinearly interpolated `logits` (k, z, y, x), exactly.

    `winners` (z, y, x) holds the decision at each input voxel: the first channel with the largest logit, or for
    regions the bits of the channels above 0. Only cells whose corners decide differently are interpolated.
    `drawn_as` is the label that each channel is written as; of regions later channels are drawn over earlier ones.
    """
    for z in range(out.shape[0]):
        z0, z1 = z_taps[0, z], z_taps[1, z]
        for y in range(out.shape[1]):
            y0, y1 = y_taps[0, y], y_taps[1, y]
            for x in range(out.shape[2]):
                x0, x1 = x_taps[0, x], x_taps[1, x]
                decision = winners[z0, y0, x0]
                if (
                    winners[z0, y0, x1] != decision
                    or winners[z0, y1, x0] != decision
                    or winners[z0, y1, x1] != decision
                    or winners[z1, y0, x0] != decision
                    or winners[z1, y0, x1] != decision
                    or winners[z1, y1, x0] != decision
                    or winners[z1, y1, x1] != decision
                ):
                    wz0, wz1 = z_weights[0, z], z_weights[1, z]
                    wy0, wy1 = y_weights[0, y], y_weights[1, y]
                    wx0, wx1 = x_weights[0, x], x_weights[1, x]
                    decision = np.int32(0)
                    largest = np.float32(0.0)
                    for channel in range(logits.shape[0]):
                        # products and sums in scipy's order, so that they round alike
                        logit = np.float32(
                            logits[channel, z0, y0, x0] * wz0 * wy0 * wx0
                            + logits[channel, z0, y0, x1] * wz0 * wy0 * wx1
                            + logits[channel, z0, y1, x0] * wz0 * wy1 * wx0
                            + logits[channel, z0, y1, x1] * wz0 * wy1 * wx1
                            + logits[channel, z1, y0, x0] * wz1 * wy0 * wx0
                            + logits[channel, z1, y0, x1] * wz1 * wy0 * wx1
                            + logits[channel, z1, y1, x0] * wz1 * wy1 * wx0
                            + logits[channel, z1, y1, x1] * wz1 * wy1 * wx1
                        )
                        if regions:
                            if logit > 0:
                                decision |= np.int32(1) << np.int32(channel)
                        elif channel == 0 or logit > largest:
                            largest = logit
                            decision = np.int32(channel)
                if regions:
                    label = np.int16(0)
                    for channel in range(logits.shape[0]):
                        if (decision >> np.int32(channel)) & np.int32(1):
                            label = drawn_as[channel]
                    out[z, y, x] = label
                else:
                    out[z, y, x] = drawn_as[decision]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def decide(logits: NDArray[np.float32], regions: bool, winners: NDArray[np.int32]) -> None:
    """Write to `winners` (n) the decision at each voxel of `logits` (k, n), for `interpolate_logits_to_labels`."""
    for voxel in range(logits.shape[1]):
        decision = np.int32(0)
        largest = logits[0, voxel]
        for channel in range(logits.shape[0]):
            logit = logits[channel, voxel]
            if regions:
                if logit > 0:
                    decision |= np.int32(1) << np.int32(channel)
            elif logit > largest:
                largest = logit
                decision = np.int32(channel)
        winners[voxel] = decision
