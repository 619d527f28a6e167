"""Outlines of the labels in a slice as lines that can be drawn dashed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.report.content import Polyline

_Vertex = tuple[int, int]
_Edge = tuple[_Vertex, _Vertex]


def outlines(label_slice: NDArray[Any]) -> tuple[Polyline, ...]:
    """Trace the borders of every label above 0 in a slice (rows, columns).

    Points are (x, y) in voxels, voxel (row, column) covering x in [column, column + 1] and y in [row, row + 1]. The
    lines run through the middles of the voxels' edges, so corners are cut; a border between two labels is traced once.
    A closed line ends with its first point.
    """
    seen: set[_Edge] = set()
    lines: list[Polyline] = []
    for value in np.unique(label_slice):
        if value > 0:
            edges = [edge for edge in _directed_edges(label_slice == value) if edge[::-1] not in seen]
            seen.update(edges)
            lines.extend(_through_midpoints(chain) for chain in _chains(edges))
    return tuple(lines)


def _directed_edges(mask: NDArray[np.bool_]) -> list[_Edge]:
    """Voxel edges between inside and outside, directed so that the inside is on the right hand (y points down)."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    top, bottom = inside & ~padded[:-2, 1:-1], inside & ~padded[2:, 1:-1]
    left, right = inside & ~padded[1:-1, :-2], inside & ~padded[1:-1, 2:]
    edges: list[_Edge] = [((x, y), (x + 1, y)) for y, x in np.argwhere(top).tolist()]
    edges += [((x + 1, y + 1), (x, y + 1)) for y, x in np.argwhere(bottom).tolist()]
    edges += [((x, y + 1), (x, y)) for y, x in np.argwhere(left).tolist()]
    edges += [((x + 1, y), (x + 1, y + 1)) for y, x in np.argwhere(right).tolist()]
    return edges


def _chains(edges: list[_Edge]) -> list[list[_Vertex]]:
    """Join directed edges head to tail: first the open lines, then the loops."""
    leaving: dict[_Vertex, list[_Vertex]] = {}
    surplus: dict[_Vertex, int] = {}
    for start, end in edges:
        leaving.setdefault(start, []).append(end)
        surplus[start] = surplus.get(start, 0) + 1
        surplus[end] = surplus.get(end, 0) - 1
    open_starts = [vertex for vertex, count in surplus.items() for _ in range(count)]
    chains = [_walk(start, leaving) for start in open_starts]
    for start, ends in leaving.items():
        while ends:
            chains.append(_walk(start, leaving))
    return chains


def _walk(start: _Vertex, leaving: dict[_Vertex, list[_Vertex]]) -> list[_Vertex]:
    chain = [start]
    while ends := leaving.get(chain[-1]):
        chain.append(ends.pop(_right_turn(chain, ends)))
        # Where a line passes its start a second time, it ends only if the right turn leads into its first edge.
        if chain[-1] == start and _right_turn(chain, [chain[1], *leaving[start]]) == 0:
            break
    return chain


def _right_turn(chain: list[_Vertex], ends: list[_Vertex]) -> int:
    """Index of the end to go on to; of two, the right turn, so that voxels that touch at a corner stay apart."""
    if len(ends) == 1 or len(chain) < 2:
        return 0
    (x0, y0), (x1, y1) = chain[-2], chain[-1]
    turns = [(x1 - x0) * (y - y1) - (y1 - y0) * (x - x1) for x, y in ends]
    return turns.index(max(turns))


def _through_midpoints(chain: list[_Vertex]) -> Polyline:
    middles = [((x0 + x1) / 2, (y0 + y1) / 2) for (x0, y0), (x1, y1) in pairwise(chain)]
    closed = chain[0] == chain[-1]
    points = [*middles, middles[0]] if closed else [chain[0], *middles, chain[-1]]
    return _without_collinear([(float(x), float(y)) for x, y in points])


def _without_collinear(points: list[tuple[float, float]]) -> Polyline:
    kept = points[:1]
    for here, after in pairwise(points[1:]):
        (x0, y0), (x1, y1), (x2, y2) = kept[-1], here, after
        if (x1 - x0) * (y2 - y1) != (y1 - y0) * (x2 - x1):
            kept.append(here)
    return (*kept, points[-1])
