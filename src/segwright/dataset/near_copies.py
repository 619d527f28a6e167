"""Which images of a data set are nearly copies of others, as they are or mirrored.

The thresholds leave the Decathlon's hippocampi, DRIVE and the nuclei of the Data Science Bowl without a finding, and
tell of no two frames of ACDC that one is a copy of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.case_summary import CaseSummary
from segwright.dataset.image_signature import block_correlation, cells_correlations, mirrored_cells, symmetric_cells

# Correlation of the cells: another scale, and noise of a tenth of the contrast, leave it above; frames of one patient
# of ACDC reach 0.9974.
_SAME_CELLS = 0.9995
_SAME_DISTANCE = 2 * (1 - _SAME_CELLS)  # squared, of cells that correlate so
# Correlation of the blocks, for images whose cells are alike: cropped copies have 1, frames of one patient 0.91.
_SAME_BLOCK, _LIKE_CELLS = 0.985, 0.9
# So many of the most similar cases are looked at for each.
_NEIGHBOURS = 5
_ROWS = 256

Pair = tuple[int, int]


@dataclass(frozen=True)
class Copy:
    """How like the copy is, and along which axes it is mirrored."""

    correlation: float
    mirrored: tuple[int, ...] = ()


def similar_pairs(cases: Sequence[CaseSummary]) -> dict[Pair, float]:
    """Correlation of the cells, the least of all channels, of each case and the few most like it, where above 0.9."""
    pairs: dict[Pair, float] = {}
    if len(cases) < 2:
        return pairs
    cells = all_cells(cases)
    count = min(_NEIGHBOURS, len(cases) - 1)
    for start in range(0, len(cases), _ROWS):
        correlation = least_correlations(cells, np.arange(start, min(start + _ROWS, len(cases))))
        own = np.arange(len(correlation))
        correlation[own, start + own] = -1
        for row, neighbours in enumerate(np.argpartition(-correlation, count - 1, axis=1)[:, :count]):
            for column in neighbours.tolist():
                one, other = sorted((start + row, column))
                pairs[one, other] = float(correlation[row, column])
    return {pair: value for pair, value in sorted(pairs.items()) if value > _LIKE_CELLS}


def all_cells(cases: Sequence[CaseSummary]) -> NDArray[np.float32]:
    """All cells (channels, cases, cells)."""
    return np.stack([[signature.cells for signature in case.signatures] for case in cases], axis=1)


def least_correlations(cells: NDArray[np.float32], rows: NDArray[np.int_]) -> NDArray[np.float32]:
    least = cells_correlations(cells[0, rows], cells[0])
    for channel in cells[1:]:
        np.minimum(least, cells_correlations(channel[rows], channel), out=least)
    return least


def is_copy(cases: Sequence[CaseSummary], pair: Pair, correlation: float) -> bool:
    if correlation > _SAME_CELLS or correlation <= _LIKE_CELLS:
        return correlation > _SAME_CELLS
    one, other = (cases[index].signatures for index in pair)
    textured = [both for both in zip(one, other, strict=True) if all(each.block.any() for each in both)]
    return bool(textured) and all(block_correlation(*both) > _SAME_BLOCK for both in textured)


def mirrored_copies(cases: Sequence[CaseSummary]) -> dict[Pair, Copy]:
    """Pairs of which one is nearly the other mirrored, among those that are alike in what mirroring leaves as it is."""
    alike: dict[tuple[int, int, int], list[int]] = {}
    for index, case in enumerate(cases):
        if all(signature.cells.any() for signature in case.signatures):
            alike.setdefault(case.signatures[0].grid, []).append(index)
    pairs = {pair for indices in alike.values() for pair in _pairs_alike_if_mirrored(cases, indices)}
    copies = {pair: _as_mirrored(*(cases[index] for index in pair)) for pair in sorted(pairs)}
    return {pair: copy for pair, copy in copies.items() if copy is not None}


def _pairs_alike_if_mirrored(cases: Sequence[CaseSummary], indices: Sequence[int]) -> Iterator[Pair]:
    if len(indices) < 2:
        return
    cells = np.stack([[symmetric_cells(each) for each in cases[index].signatures] for index in indices], axis=1)
    count = min(_NEIGHBOURS, len(indices) - 1)
    for start in range(0, len(indices), _ROWS):
        rows = cells[:, start : start + _ROWS]
        distances = np.max([_squared_distances(*both) for both in zip(rows, cells, strict=True)], axis=0)
        own = np.arange(len(distances))
        distances[own, start + own] = np.inf
        for row, neighbours in enumerate(np.argpartition(distances, count - 1, axis=1)[:, :count]):
            for column in neighbours[distances[row, neighbours] < _SAME_DISTANCE]:
                one, other = sorted((indices[start + row], indices[column]))
                yield one, other


def _squared_distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = (one**2).sum(axis=1)[:, np.newaxis] + (other**2).sum(axis=1)
    return np.asarray(lengths - 2 * cells_correlations(one, other))


def _as_mirrored(original: CaseSummary, case: CaseSummary) -> Copy | None:
    """How `case` is mirrored, where it is nearly `original` so and not as it is."""
    axes = [axis for axis in range(3) if original.signatures[0].grid[axis] > 1]
    ways = [way for count in range(len(axes) + 1) for way in combinations(axes, count)]
    best = max(
        (Copy(_mirrored_correlation(original, case, way), way) for way in ways), key=lambda copy: copy.correlation
    )
    return best if best.mirrored and best.correlation > _SAME_CELLS else None


def _mirrored_correlation(original: CaseSummary, case: CaseSummary, axes: Sequence[int]) -> float:
    both = zip(original.signatures, case.signatures, strict=True)
    return min(float(one.cells @ mirrored_cells(other, axes)) for one, other in both)
