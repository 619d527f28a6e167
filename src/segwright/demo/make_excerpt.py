"""Make the excerpt of the Decathlon's hippocampus set that ships with the package.

    python -m segwright.demo.make_excerpt PATH/TO/Dataset004_Hippocampus OUTPUT

Values and headers stay what they are for any reader that applies NIfTI's `scl_slope`. Many of the images are whole
numbers times a factor, kept as float32: storing the whole numbers and the factor takes a quarter less.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_TRAINING, NUM_TEST = 48, 16
SEED = 0
ENDING = ".nii.gz"

_HEADER_BYTES = 352
_FLOAT32, _UINT8, _UINT16 = 16, 2, 512
_DTYPES: dict[int, np.dtype[Any]] = {_FLOAT32: np.dtype("<f4"), _UINT8: np.dtype("u1"), _UINT16: np.dtype("<u2")}


def main(source: Path, output: Path) -> None:
    """Choose the cases, pack and write them, and their dataset.json."""
    factors = {path.name[: -len("_0000" + ENDING)]: _factor_of(path) for path in _images(source)}
    test, training = choose_cases(factors)
    for split, case_ids in (("Tr", training), ("Ts", test)):
        for kind, suffix in (("images", "_0000"), ("labels", "")):
            (output / f"{kind}{split}").mkdir(parents=True)
            for case_id in case_ids:
                name = f"{case_id}{suffix}{ENDING}"
                (output / f"{kind}{split}" / name).write_bytes(pack((source / f"{kind}Tr" / name).read_bytes()))
    description = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    description["numTraining"] = len(training)
    (output / "dataset.json").write_text(json.dumps(description, indent=4) + "\n", encoding="utf-8")


def choose_cases(factors: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Draw test and training cases; a scan's left and right hippocampus never part.

    The two sides of a scan are not marked. They have neighbouring numbers and the same factor of intensity.
    """
    groups = list(_scans(factors))
    chosen: list[list[str]] = []
    for wanted in (NUM_TEST, NUM_TRAINING):
        part: list[str] = []
        for index in np.random.default_rng(SEED).permutation(len(groups)):
            if len(part) + len(groups[index]) <= wanted:
                part += groups[index]
                groups[index] = []
        chosen.append(sorted(part))
    return chosen[0], chosen[1]


def _scans(factors: Mapping[str, float]) -> Iterator[list[str]]:
    groups: list[list[str]] = []
    for case_id in sorted(factors):
        twins = [
            group
            for group in groups
            if factors[group[-1]] == factors[case_id]
            and (factors[case_id] != 1.0 or _number_of(case_id) - _number_of(group[-1]) == 1)
        ]
        if twins:
            twins[0].append(case_id)
        else:
            groups.append([case_id])
    yield from groups


def _number_of(case_id: str) -> int:
    match = re.search(r"\d+$", case_id)
    assert match is not None, case_id
    return int(match[0])


def _images(source: Path) -> Sequence[Path]:
    return sorted((source / "imagesTr").glob(f"*_0000{ENDING}"))


def _factor_of(path: Path) -> float:
    header, values = _parse(gzip.decompress(path.read_bytes()))
    return 1.0 if _datatype(header) == _UINT8 else _whole_numbers(values)[1]


def pack(compressed: bytes) -> bytes:
    """Return the NIfTI file with the same values in fewer bytes, or as it is if they are no multiples of a factor."""
    header, values = _parse(gzip.decompress(compressed))
    factor = 1.0
    if _datatype(header) == _FLOAT32:
        whole, factor = _whole_numbers(values)
        datatype = _UINT8 if whole.max() < 256 else _UINT16
        packed = whole.astype(_DTYPES[datatype])
        restored = (packed.astype(np.float64) * np.float64(factor)).astype(np.float32)
        if not np.array_equal(restored, values):
            return compressed
        struct.pack_into("<hh", header, 70, datatype, packed.itemsize * 8)
        values = packed
    struct.pack_into("<ff", header, 112, factor, 0.0)
    return _gzip(bytes(header) + values.tobytes())


def _parse(content: bytes) -> tuple[bytearray, NDArray[Any]]:
    header = bytearray(content[:_HEADER_BYTES])
    slope, intercept = struct.unpack_from("<ff", header, 112)
    if struct.unpack_from("<i", header, 0)[0] != 348 or slope not in (0.0, 1.0) or intercept != 0.0:
        raise ValueError("Expected a little-endian NIfTI-1 file without a factor of its own.")
    return header, np.frombuffer(content, dtype=_DTYPES[_datatype(header)], offset=_HEADER_BYTES)


def _datatype(header: bytearray) -> int:
    return int(struct.unpack_from("<h", header, 70)[0])


def _whole_numbers(values: NDArray[Any]) -> tuple[NDArray[np.float64], float]:
    """Split float32 values into whole numbers and the float32 factor that gives back every bit of them."""
    levels = np.unique(values).astype(np.float64)
    positive = levels[levels > 0]
    step = np.diff(levels).min()
    step = float(np.median(positive / np.round(positive / step)))
    whole = np.round(positive / step)
    rounding = np.spacing(positive.astype(np.float32)).astype(np.float64) / 2
    low, high = ((positive - rounding) / whole).max(), ((positive + rounding) / whole).min()
    factor = float(np.float32((low + high) / 2))
    return np.round(values.astype(np.float64) / factor), factor


def _gzip(content: bytes) -> bytes:
    packers = [
        zlib.compressobj(9, zlib.DEFLATED, 31, memory, strategy)
        for memory in (8, 9)
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY)
    ]
    return min((packer.compress(content) + packer.flush() for packer in packers), key=len)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
