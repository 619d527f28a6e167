"""Which images of a data set are alike, and which of them are nearly copies, as they are or mirrored.

The thresholds leave the Decathlon's hippocampi, DRIVE and the nuclei of the Data Science Bowl without a finding, and
call no two frames of ACDC copies of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from segwright.doctor.case_summary import MANY_VALUES, CaseSummary
from segwright.doctor.image_signature import texture_correlation

# Correlation of the cells: another scale, and noise of a tenth of the contrast, leave it above; frames of one patient
# of ACDC reach 0.9974. Cropped copies are alike.
_SAME_CELLS, _LIKE_CELLS = 0.9995, 0.9
# Correlation of the textures: cropped copies have 1, frames of one patient at most 0.82. Noise lowers it more than the
# cells' correlation.
_SAME_TEXTURE, _SAME_NOISY_TEXTURE = 0.985, 0.85
# Cases around a case show what is usual: a shading, a padding, an outline. Copies correlate in the rest as well, above
# 0.985 in four data sets. With nothing but copies of one image there is no rest, but textures tell.
_USUAL_CELLS, _ENOUGH_CASES, _MOST_CASES = 0.99, 8, 24
_SAME_REST = 0.95
# Images that are dark but for fewer cells may be alike by chance.
_FEW_CELLS = 12
# Cells of norm 1 that differ by less differ by rounding.
_ROUNDING = 1e-5
# So many of the most similar cases are looked at for each.
_NEIGHBOURS = 5
_ROWS = 256


@dataclass(frozen=True)
class Likeness:
    """Two cases, along which axes the second is `mirrored`, and the correlation of their cells then."""

    original: CaseSummary
    case: CaseSummary
    mirrored: tuple[int, ...]
    correlation: float

    @property
    def case_ids(self) -> tuple[str, str]:
        """The ids of both."""
        return self.original.case_id, self.case.case_id


def cells_of(cases: Sequence[CaseSummary]) -> NDArray[np.float32]:
    """The cells (channels, cases, z, y, x) of cases that are all volumes or all slices."""
    return np.stack([[signature.cells for signature in case.signatures] for case in cases], axis=1)


def cells_correlations(cells: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlations (n, m) of cells (channels, n, z, y, x) with others (channels, m, z, y, x): the least channel's."""
    flat, other_flat = (each.reshape(*each.shape[:2], -1) for each in (cells, others))
    return np.asarray(np.min(flat @ other_flat.swapaxes(1, 2), axis=0))


def likenesses(cases: Sequence[CaseSummary], cells: NDArray[np.float32]) -> list[Likeness]:
    """Pair each case with the few most like it, as it is, and mirrored where it is more like them so."""
    axes = [axis for axis in (0, 1, 2) if cells.shape[axis - 3] > 1]
    ways = [way for length in range(len(axes) + 1) for way in combinations(axes, length)]
    found: dict[tuple[int, int, tuple[int, ...]], float] = {}
    for start in range(0, len(cases), _ROWS):
        rows = cells[:, start : start + _ROWS]
        as_it_is = cells_correlations(rows, cells)
        for way in ways:
            correlations = cells_correlations(_mirrored(rows, way), cells)
            correlations[np.arange(rows.shape[1]), np.arange(start, start + rows.shape[1])] = -1
            if way:
                correlations[correlations <= as_it_is] = -1
            nearest = np.argpartition(-correlations, min(_NEIGHBOURS, len(cases)) - 1, axis=1)[:, :_NEIGHBOURS]
            for row, columns in enumerate(nearest.tolist()):
                for column in columns:
                    if correlations[row, column] > _LIKE_CELLS:
                        one, other = sorted((start + row, column))
                        found[one, other, way] = float(correlations[row, column])
    return [
        Likeness(cases[one], cases[other], way, correlation) for (one, other, way), correlation in sorted(found.items())
    ]


def near_copies(pairs: Iterable[Likeness], cells: NDArray[np.float32]) -> list[Likeness]:
    """Those of the pairs that are nearly copies; a mirrored one gives way to one as it is."""
    usual = cache(lambda case: _usual_cells(case, cells))
    near: dict[tuple[str, str], Likeness] = {}
    for pair in pairs:
        texture = _texture_correlation(pair)
        if pair.correlation <= _SAME_CELLS:
            is_copy = texture > _SAME_TEXTURE
        else:
            is_copy = texture > _SAME_NOISY_TEXTURE or _rest_correlation(pair, usual(pair.original)) > _SAME_REST
        if is_copy:
            near.setdefault(pair.case_ids, pair)
    return list(near.values())


def _mirrored(cells: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float32]:
    return np.flip(cells, tuple(axis - 3 for axis in axes))


def _usual_cells(case: CaseSummary, cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the cases around one have in common, (channels, 1, z, y, x), or 0 where these are few.

    It is the median, so that one among them that is another does not make all others alike.
    """
    correlations = cells_correlations(cells_of([case]), cells)[0]
    nearest = np.argsort(-correlations)[:_MOST_CASES]
    around = cells[:, nearest[correlations[nearest] > _USUAL_CELLS]]
    return np.median(around, axis=1, keepdims=True) if around.shape[1] >= _ENOUGH_CASES else np.float32(0)


def _rest_correlation(pair: Likeness, usual: NDArray[np.float32]) -> float:
    """Correlation of the cells without what is usual; 0 where few cells are left."""
    both = np.stack([cells_of([pair.original]), _mirrored(cells_of([pair.case]), pair.mirrored)])
    rest = (both - usual).reshape(2, -1)
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    rest = np.divide(rest, norms, out=np.zeros_like(rest), where=norms > _ROUNDING)
    num_cells = 1 / max(1e-9, float((rest**4).sum(axis=1).max()))  # as many as have anything, if all have as much
    return float(rest[0] @ rest[1]) if num_cells >= _FEW_CELLS else 0.0


def _texture_correlation(pair: Likeness) -> float:
    """The least of the channels, without those that are flat in the middle, or masks: many have the same edge there."""
    sides = [list(zip(case.channels, case.signatures, strict=True)) for case in (pair.original, pair.case)]
    correlations = [
        texture_correlation(one, other, pair.mirrored)
        for (channel, one), (other_channel, other) in zip(*sides, strict=True)
        if min(channel.num_values, other_channel.num_values) >= MANY_VALUES
        if one.texture.any() and other.texture.any()
    ]
    return min(correlations, default=0.0)
