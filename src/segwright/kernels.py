"""Compiled kernels for loops that array libraries cannot express efficiently. They release the GIL.

Axis tables describe resampling along one axis, made by `segwright.preprocessing.operators`: `taps` int64 (3, n) holds
for each output position the lower, upper and nearest input index, `weights` float64 (2, n) those of the first two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.compiling import compiled

_ROUNDING = 1e-9  # more than eight products and sums in float64 can be wrong by


@compiled
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

    In a tie, the nearest voxel's label wins, otherwise the smallest. The weights of a cell's 8
    corners sum to 1, so a label with more than half of them wins whatever the others are: the cost hardly depends on
    the number of labels. Each row is processed in passes over ever fewer voxels, so that branches are well predicted:
    all; those whose nearest column disagrees; those where the nearest label has no certain majority.
    """
    size, new_size = labels.shape[2], out.shape[2]
    # unsigned, because numba would check for negative indices each time
    lower, upper, nearest = x_taps[0].astype(np.uintp), x_taps[1].astype(np.uintp), x_taps[2].astype(np.uintp)
    farther = lower + upper - nearest
    near_weights, far_weights = np.maximum(x_weights[0], x_weights[1]), np.minimum(x_weights[0], x_weights[1])
    agreement = np.empty(size, np.uint8)
    sums = np.zeros(16, np.float64)
    undecided = np.empty(new_size + 1, np.uintp)
    values, scores = np.empty(8, np.int16), np.empty(8, np.float64)
    for z in range(out.shape[0]):
        z0, z1 = z_taps[0, z], z_taps[1, z]
        for y in range(out.shape[1]):
            y0, y1 = y_taps[0, y], y_taps[1, y]
            rows = labels[z0, y0], labels[z0, y1], labels[z1, y0], labels[z1, y1]
            nearest_row, out_row = labels[z_taps[2, z], y_taps[2, y]], out[z, y]
            # the order of these products is scipy's, so that ties are the same ties
            weights = (
                z_weights[0, z] * y_weights[0, y],
                z_weights[0, z] * y_weights[1, y],
                z_weights[1, z] * y_weights[0, y],
                z_weights[1, z] * y_weights[1, y],
            )
            for x in range(size):  # which of the four rows agree with the nearest one, as bits
                label = nearest_row[x]
                agreement[x] = (
                    np.uint8(rows[0][x] == label)
                    | (np.uint8(rows[1][x] == label) << 1)
                    | (np.uint8(rows[2][x] == label) << 2)
                    | (np.uint8(rows[3][x] == label) << 3)
                )
            for row in range(4):  # the weight of those that do
                for bits in range(1 << row):
                    sums[bits + (1 << row)] = sums[bits] + weights[row]
            count = 0
            for x in range(new_size):
                # the nearest column has at least half of the weight, so it wins if its corners agree
                out_row[x] = nearest_row[nearest[x]]
                undecided[count] = np.uintp(x)
                count += agreement[nearest[x]] != 15
            left = 0
            for at in range(count):
                x = undecided[at]
                far_sum = sums[agreement[farther[x]]] * (nearest_row[farther[x]] == out_row[x])
                undecided[left] = x
                left += near_weights[x] * sums[agreement[nearest[x]]] + far_weights[x] * far_sum <= 0.5 + _ROUNDING
            for at in range(left):
                x = undecided[at]
                x0, x1, w0, w1 = lower[x], upper[x], x_weights[0, x], x_weights[1, x]
                share = _share(out_row[x], rows, weights, x0, x1, w0, w1)
                rival = _first_other(out_row[x], rows, x0, x1)
                rival_share = _share(rival, rows, weights, x0, x1, w0, w1)
                if max(share, rival_share) > 1.0 - share - rival_share + _ROUNDING:  # more than all others together
                    if rival_share > share:
                        out_row[x] = rival
                else:
                    out_row[x] = _largest(out_row[x], rows, weights, x0, x1, w0, w1, values, scores)


@compiled
def _share(label: Any, rows: Any, weights: Any, x0: Any, x1: Any, w0: float, w1: float) -> Any:
    """Interpolated indicator of a label."""
    return (
        weights[0] * w0 * (rows[0][x0] == label)
        + weights[0] * w1 * (rows[0][x1] == label)
        + weights[1] * w0 * (rows[1][x0] == label)
        + weights[1] * w1 * (rows[1][x1] == label)
        + weights[2] * w0 * (rows[2][x0] == label)
        + weights[2] * w1 * (rows[2][x1] == label)
        + weights[3] * w0 * (rows[3][x0] == label)
        + weights[3] * w1 * (rows[3][x1] == label)
    )


@compiled
def _first_other(label: Any, rows: Any, x0: Any, x1: Any) -> Any:
    """Label of the first corner that has another one than `label`."""
    other = rows[3][x1]
    other = rows[3][x0] if rows[3][x0] != label else other
    other = rows[2][x1] if rows[2][x1] != label else other
    other = rows[2][x0] if rows[2][x0] != label else other
    other = rows[1][x1] if rows[1][x1] != label else other
    other = rows[1][x0] if rows[1][x0] != label else other
    other = rows[0][x1] if rows[0][x1] != label else other
    return rows[0][x0] if rows[0][x0] != label else other


@compiled
def _largest(
    nearest: Any,
    rows: Any,
    weights: Any,
    x0: Any,
    x1: Any,
    w0: float,
    w1: float,
    values: NDArray[np.int16],
    scores: NDArray[np.float64],
) -> Any:
    """Label with the largest interpolated indicator, by the whole rule. `values` and `scores` are buffers of 8."""
    count = 0
    for row, row_weight in zip(rows, weights):  # noqa: B905, numba has no strict
        for x, weight in ((x0, row_weight * w0), (x1, row_weight * w1)):
            at = 0
            while at < count and values[at] != row[x]:
                at += 1
            if at == count:
                values[at], scores[at] = row[x], 0.0
                count += 1
            scores[at] += weight
    best = 0
    for at in range(1, count):
        if scores[at] > scores[best] or (
            scores[at] == scores[best]
            and values[best] != nearest
            and (values[at] == nearest or values[at] < values[best])
        ):
            best = at
    return values[best]


@compiled
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


@compiled
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
