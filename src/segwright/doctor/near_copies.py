"""Which images of a data set are nearly copies of others, as they are or mirrored.

The thresholds leave the Decathlon's hippocampi, DRIVE and the nuclei of the Data Science Bowl without a finding, and
tell of no two frames of ACDC that one is a copy of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import NDArray

from segwright.doctor.case_summary import MANY_VALUES, CaseSummary
from segwright.doctor.image_signature import block_correlation, cells_correlations, mirrored_cells, symmetric_cells

# Correlation of the cells: another scale, and noise of a tenth of the contrast, leave it above; frames of one patient
# of ACDC reach 0.9974.
_SAME_CELLS = 0.9995
# Correlation of the blocks, for images whose cells are alike: cropped copies have 1, frames of one patient 0.91.
_SAME_BLOCK, _LIKE_CELLS = 0.985, 0.9
_LIKE_DISTANCE = 2 * (1 - _LIKE_CELLS)  # squared, of cells that correlate so
# Cases around a case show what is usual: a shading, a padding, an outline. Copies correlate in the rest as well, above
# 0.985 in four data sets. With nothing but copies of one image there is no rest, but blocks tell.
_USUAL_CELLS, _ENOUGH_CASES, _MOST_CASES = 0.99, 8, 24
_SAME_REST, _SURE_BLOCK = 0.95, 0.85
# Images of fewer voxels, or that are dark but for fewer cells, may be alike by chance.
_FEW_VOXELS, _FEW_CELLS = 64, 12
# So many of the most similar cases are looked at for each.
_NEIGHBOURS = 5
_ROWS = 256

# Cells of norm 1 that differ by less differ by rounding.
_ROUNDING = 1e-5

Pair = tuple[int, int]


@dataclass(frozen=True)
class Copy:
    """How like the copy is, and along which axes it is mirrored."""

    correlation: float
    mirrored: tuple[int, ...] = ()


def can_be_compared(case: CaseSummary) -> bool:
    """Whether the case has voxels enough for another's likeness to tell anything."""
    return prod(case.shape) >= _FEW_VOXELS


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


def near_copies(cases: Sequence[CaseSummary], pairs: Mapping[Pair, float]) -> dict[Pair, Copy]:
    """Pairs of which the second is nearly the first: some of `pairs`, with their cells' correlation, or mirrored."""
    likely = [*_mirrored_pairs(cases), *((pair, Copy(value)) for pair, value in pairs.items())]
    usual = _usual_cells(cases, {one for (one, _), copy in likely if copy.correlation > _SAME_CELLS})
    near = {}
    for (one, other), copy in likely:
        original, case = cases[one], cases[other]
        if copy.correlation > _SAME_CELLS:
            is_copy = _is_more_than_usual(original, case, copy.mirrored, usual[one])
        else:
            is_copy = _least_block_correlation(original, case, copy.mirrored) > _SAME_BLOCK
        if is_copy:
            near[one, other] = copy  # a mirrored one gives way to one as it is
    return dict(sorted(near.items()))


def _usual_cells(cases: Sequence[CaseSummary], indices: Collection[int]) -> dict[int, NDArray[np.float32] | None]:
    """What the cases around each of some have in common, cells (channels, cells), or None where these are few.

    It is the median, so that one among them that is another does not make all others alike.
    """
    cells = all_cells(cases) if indices else np.empty((0, 0, 0), np.float32)
    usual: dict[int, NDArray[np.float32] | None] = {}
    for index in indices:
        correlation = least_correlations(cells, np.array([index]))[0]
        nearest = np.argsort(-correlation)[:_MOST_CASES]
        around = nearest[correlation[nearest] > _USUAL_CELLS]
        usual[index] = np.median(cells[:, around], axis=1) if len(around) >= _ENOUGH_CASES else None
    return usual


def _is_more_than_usual(
    original: CaseSummary, case: CaseSummary, axes: tuple[int, ...], usual: NDArray[np.float32] | None
) -> bool:
    """Whether two cases of which the cells are the same are so for more than what all around them have in common."""
    if _correlation_of_rest(original, case, axes, usual) > _SAME_REST:
        return True
    return _least_block_correlation(original, case, axes) > _SURE_BLOCK


def _correlation_of_rest(
    original: CaseSummary, case: CaseSummary, axes: tuple[int, ...], usual: NDArray[np.float32] | None
) -> float:
    """Correlation of the cells without what is usual, `case` mirrored along `axes`; 0 where few cells are left."""
    if case.signatures[0].grid != original.signatures[0].grid:
        return 0.0
    mirrored = [mirrored_cells(each, axes) for each in case.signatures]
    cells = np.array([[each.cells for each in original.signatures], mirrored])
    rest = (cells if usual is None else cells - usual).reshape(2, -1)
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    rest = np.divide(rest, norms, out=np.zeros_like(rest), where=norms > _ROUNDING)
    num_cells = 1 / max(1e-9, float((rest**4).sum(axis=1).max()))  # as many as have anything, if all have as much
    return float(rest[0] @ rest[1]) if num_cells >= _FEW_CELLS else 0.0


def _least_block_correlation(original: CaseSummary, case: CaseSummary, axes: tuple[int, ...] = ()) -> float:
    """The least of the channels, without those that are flat in the middle, or masks: many have the same edge there."""
    correlations = [
        block_correlation(original.signatures[channel], case.signatures[channel], axes)
        for channel in range(len(case.channels))
        if all(_has_texture(each, channel) for each in (original, case))
    ]
    return min(correlations, default=0.0)


def _has_texture(case: CaseSummary, channel: int) -> bool:
    return case.channels[channel].num_values >= MANY_VALUES and bool(case.signatures[channel].block.any())


def _mirrored_pairs(cases: Sequence[CaseSummary]) -> Iterator[tuple[Pair, Copy]]:
    """Pairs of which one's cells are like the other's mirrored, among those alike in what mirroring leaves."""
    alike: dict[tuple[int, int, int], list[int]] = {}
    for index, case in enumerate(cases):
        if all(signature.cells.any() for signature in case.signatures):
            alike.setdefault(case.signatures[0].grid, []).append(index)
    for one, other in sorted({pair for indices in alike.values() for pair in _pairs_alike_if_mirrored(cases, indices)}):
        copy = _as_mirrored(cases[one], cases[other])
        if copy is not None:
            yield (one, other), copy


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
            for column in neighbours[distances[row, neighbours] < _LIKE_DISTANCE]:
                one, other = sorted((indices[start + row], indices[column]))
                yield one, other


def _squared_distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = (one**2).sum(axis=1)[:, np.newaxis] + (other**2).sum(axis=1)
    return np.asarray(lengths - 2 * cells_correlations(one, other))


def _as_mirrored(original: CaseSummary, case: CaseSummary) -> Copy | None:
    """How `case` is mirrored, where its cells are like those of `original` so, and more than as they are."""
    ways, places = _mirrorings(original.signatures[0].grid)
    both = zip(original.signatures, case.signatures, strict=True)
    correlations = np.min([other.cells[places] @ one.cells for one, other in both], axis=0)
    best = int(correlations.argmax())
    return Copy(float(correlations[best]), ways[best]) if ways[best] and correlations[best] > _LIKE_CELLS else None


@lru_cache(maxsize=2)
def _mirrorings(grid: tuple[int, int, int]) -> tuple[list[tuple[int, ...]], NDArray[np.int_]]:
    """The sets of axes to mirror along, none first, and for each where the cells come from (ways, cells)."""
    axes = [axis for axis in range(3) if grid[axis] > 1]
    ways = [way for count in range(len(axes) + 1) for way in combinations(axes, count)]
    cells = np.arange(prod(grid)).reshape(grid)
    return ways, np.stack([np.flip(cells, way).ravel() for way in ways])
