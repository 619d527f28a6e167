"""What a header says that readers pass over, take otherwise than others, or make up because it is not said.

What SimpleITK 2 does, found by trying: of NIfTI the spacing is pixdim, in the unit of xyzt_units, and the position that
of the sform if its code is 1 or there is no qform, else of the qform; a slope that is not finite is none, and an
intercept is added where the slope is 0. nibabel takes the sform before the qform, knows no units, and ignores the
intercept of a slope of 0. In NRRD and MetaImage a spacing that is missing is 1, a position 0, and units are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, message
from segwright.geometry import corner_steps
from segwright.io import nifti_header, text_header

# Half a voxel at the end of 512 of them.
_SPACING_TOLERANCE = 1e-3
_LEAST_DISPLACEMENT_VOXELS = 0.5
_UNIT_LENGTH_TOLERANCE = 1e-3
# A slope that ITK takes for 0.
_SMALLEST_SLOPE = float(np.finfo(np.float64).eps)
_UNITS = {1: "metres", 3: "micrometres"}
_UNITS_OF_SPACE = 0b111
_SPACING_KEYS = ("ElementSpacing", "ElementSize")
_POSITION_KEYS = (("Offset", "Position", "Origin"), ("TransformMatrix", "Rotation", "Orientation"))
_NEAR = 0.8
# Spaces that ITK turns into left-posterior-superior; the others it takes for that.
_KNOWN_SPACES = {"left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"}

_NO_POSITION = (
    "Export the file again. Where all files are alike in this, training and prediction are right, and only what is "
    "shown in space is not."
)

Doubts = Iterator[tuple[str, str]]
"""What is doubtful, and what to do about it."""


def header_doubts(path: Path) -> tuple[tuple[str, str], ...]:
    """What is doubtful in the header of an image file that was read, each with a remedy; nothing of other formats.

    Raises:
        ImageError, OSError: the header is damaged.
    """
    name = path.name.lower()
    find = next((find for endings, find in _DOUBTS.items() if name.endswith(endings)), None)
    return () if find is None else tuple(find(path))


def require_spacing(path: Path) -> None:
    """Refuse an image in 3D whose header does not say how large its voxels are, because readers take 1 mm.

    So is one with a place that ITK would take from the default, while a key that nearly names it is there.

    Raises:
        ImageError
    """
    name = path.name.lower()
    if name.endswith(text_header.NRRD_ENDINGS):
        fields = text_header.nrrd_fields(path)[0]
        sizes = fields["sizes"].split()
        if _in_space(sizes) and not _says_spacing(fields):
            raise _made_up(path, "'space directions' or 'spacings' for every axis", "none", "spacings: 1 1 1")
    elif name.endswith(text_header.METAIMAGE_ENDINGS):
        fields = text_header.metaimage_fields(path)[0]
        for keys in (_SPACING_KEYS, *_POSITION_KEYS):
            near = _near(fields, keys)
            is_needed = keys is _SPACING_KEYS and _in_space(fields["DimSize"].split())
            if not fields.keys() & set(keys) and (near or is_needed):
                raise _made_up(path, f"'{keys[0]}'", f"{near!r}" if near else "none", "ElementSpacing = 1 1 1")


def _made_up(path: Path, expected: str, got: str, declaration: str) -> ImageError:
    return ImageError(
        message(
            path,
            expected=f"{expected} in its header",
            got=got,
            remedy="Without it the geometry would be made up. Export the file again, or correct its header; if its "
            f"voxels are of 1 mm, write '{declaration}' into it.",
        )
    )


def _nifti_doubts(path: Path) -> Doubts:
    fields = nifti_header.fields_of(nifti_header.read_nifti_header(path).beginning)
    yield from _scale_doubts(*fields["scale"])
    unit = int(fields["units"][0]) & _UNITS_OF_SPACE
    spacing = _numbers(fields["pixdim"][1:4])
    if unit in _UNITS:
        yield (
            f"expected millimetres as xyzt_units, got {unit}, {_UNITS[unit]}: pixdim {spacing} is that of SimpleITK in "
            f"{_UNITS[unit]}, but taken as mm by nibabel",
            "Look whether the unit is right; if not, set xyzt_units to 2.",
        )
    elif unit not in (0, 2):
        yield (
            f"expected millimetres as xyzt_units, got the unknown code {unit}: pixdim {spacing} is taken as mm",
            "Set xyzt_units to 2, or export the file again.",
        )
    if _in_space(fields["dim"][1 : fields["dim"][0] + 1]):
        yield from _form_doubts(fields)


def _scale_doubts(slope: float, intercept: float) -> Doubts:
    remedy = "Look at the voxels' values, and set scl_slope and scl_inter, or export the file again."
    if not math.isfinite(slope):
        yield (
            f"expected a number as scl_slope, got {slope}: the voxels are taken as they are stored, without scale",
            remedy,
        )
    elif 0 < abs(slope) < _SMALLEST_SLOPE:
        yield f"expected a scl_slope that scales, got {slope:g}: SimpleITK takes it for none, nibabel does not", remedy
    if not math.isfinite(intercept):
        yield f"expected a number as scl_inter, got {intercept}: SimpleITK takes 0, nibabel refuses the file", remedy
    elif slope == 0 and intercept:
        yield (
            f"expected scl_inter to be 0 where scl_slope is 0, which means no scale, got {intercept:g}: SimpleITK adds "
            "it to every voxel, nibabel does not",
            remedy,
        )


def _form_doubts(fields: Mapping[str, tuple[Any, ...]]) -> Doubts:
    """Doubts about where a NIfTI image in 3D lies."""
    codes, pixdim = fields["form_codes"], np.array(fields["pixdim"][1:4])
    if not any(codes):
        yield (
            "expected qform_code or sform_code to say where the image lies, got 0 for both: position and orientation "
            "are made up, by SimpleITK otherwise than by nibabel",
            _NO_POSITION,
        )
        return
    sform = np.array(fields["sform"]).reshape(3, 4)
    lengths = np.linalg.norm(sform[:, :3], axis=0)
    is_seen = np.array(fields["dim"][1:4]) > 1
    if codes[1] and (np.abs(lengths - pixdim)[is_seen] > _SPACING_TOLERANCE * pixdim[is_seen]).any():
        yield (
            f"expected the same spacing in pixdim and sform, got {_numbers(pixdim)} and {_numbers(lengths)}: pixdim is "
            "used for training and prediction, the sform by most viewers",
            "Find out which is right, and correct the other.",
        )
    length = float(np.linalg.norm(fields["qform"][:3]))
    if codes[0] and length > 1 + _UNIT_LENGTH_TOLERANCE:
        yield (
            f"expected quatern_b, quatern_c and quatern_d of a length of at most 1, got {length:.6g}: no rotation has "
            "it, and SimpleITK takes one that is near",
            "Export the file again, or set qform_code to 0 if there is an sform.",
        )
    elif all(codes):
        steps_mm = corner_steps(sform, _qform(fields, lengths), fields["dim"][1:4])
        apart = float(np.linalg.norm(steps_mm, axis=1).max()) / max(lengths.min(), 1e-30)
        if apart > _LEAST_DISPLACEMENT_VOXELS:
            by_itk = "the sform" if codes[1] == 1 else "the qform"
            yield (
                f"expected qform (code {codes[0]}) and sform (code {codes[1]}) to agree, got places up to {apart:.3g} "
                f"voxels apart: SimpleITK takes {by_itk}, nibabel the sform",
                "If they are not meant to differ, find out which is right, and correct the other.",
            )


def _qform(fields: Mapping[str, tuple[Any, ...]], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine (3, 4) of the qform with this spacing, by nifti1.h."""
    b, c, d, *offset = fields["qform"]
    a = math.sqrt(max(1 - b * b - c * c - d * d, 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    hand = -1 if fields["pixdim"][0] < 0 else 1
    return np.column_stack([rotation * spacing * (1, 1, hand), offset])


def _nrrd_doubts(path: Path) -> Doubts:
    fields = text_header.nrrd_fields(path)[0]
    if _in_space(fields["sizes"].split()):
        yield from _missing(fields, ("space directions", "space origin"))
        space = fields.get("space", "").lower()
        if "space directions" in fields and space.removesuffix("-time") not in _KNOWN_SPACES:
            yield (
                f"expected a space such as left-posterior-superior, got {space or 'none'!r}: SimpleITK takes the "
                "directions for those of left-posterior-superior",
                "Write the right 'space' into the header.",
            )
    units = {unit for key in ("units", "space units") for unit in re.findall(r'"([^"]*)"', fields.get(key, ""))}
    if foreign := units - {"mm", "millimeter", "millimetre", ""}:
        yield from _foreign_unit("units", " ".join(sorted(foreign)))


def _metaimage_doubts(path: Path) -> Doubts:
    fields = text_header.metaimage_fields(path)[0]
    for key in fields.keys() - text_header.METAIMAGE_KEYS:
        if near := get_close_matches(key, text_header.METAIMAGE_KEYS, 1, _NEAR):
            yield (
                f"expected a known key, got {key!r}, which is ignored; is it {near[0]}?",
                "Correct the header, or export the file again.",
            )
    if not _in_space(fields["DimSize"].split()):
        return
    for keys in _POSITION_KEYS:
        if not fields.keys() & set(keys):
            yield from _missing(fields, keys[:1])
    unit = fields.get("DistanceUnits", "mm")
    if unit not in ("mm", "?"):
        yield from _foreign_unit("DistanceUnits", unit)
    for key in _POSITION_KEYS[1]:
        size = math.isqrt(len(fields.get(key, "").split()))
        axes = np.array(fields.get(key, "").split(), dtype=np.float64).reshape(size, size)
        if not np.allclose(axes @ axes.T, np.eye(size), rtol=0, atol=_UNIT_LENGTH_TOLERANCE):
            yield (
                f"expected axes of length 1 at right angles as {key}, got {fields[key]}",
                "Correct the header, or export the file again.",
            )


def _missing(fields: Mapping[str, str], keys: Sequence[str]) -> Doubts:
    missing = [key for key in keys if key not in fields]
    if missing:
        yield (
            f"expected {' and '.join(map(repr, missing))} in the header, got none: SimpleITK makes the position up",
            _NO_POSITION,
        )


def _foreign_unit(key: str, unit: str) -> Doubts:
    yield (
        f"expected mm as {key}, got {unit!r}: the spacing is taken as mm all the same",
        "Write the spacing in mm into the header.",
    )


def _says_spacing(fields: Mapping[str, str]) -> bool:
    """Whether an NRRD header gives a number for each axis; ITK takes 1 for one that is NaN or none."""
    directions, spacings = fields.get("space directions", ""), fields.get("spacings", "")
    given = directions or spacings
    return bool(given) and not re.search(r"none|nan", given, re.IGNORECASE)


def _near(fields: Collection[str], keys: Sequence[str]) -> str | None:
    """A key that is unknown, but nearer to one of these than to any other."""
    unknown = [key for key in fields if key not in text_header.METAIMAGE_KEYS]
    return next(
        (key for key in unknown if set(get_close_matches(key, text_header.METAIMAGE_KEYS, 1, _NEAR)) & set(keys)), None
    )


def _in_space(sizes: Sequence[int | str]) -> bool:
    """Whether an image has more than one voxel along each of three axes."""
    return len(sizes) >= 3 and min(int(size) for size in sizes[:3]) > 1


def _numbers(values: Sequence[float] | NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


_DOUBTS: dict[tuple[str, ...], Callable[[Path], Doubts]] = {
    nifti_header.FILE_ENDINGS: _nifti_doubts,
    text_header.NRRD_ENDINGS: _nrrd_doubts,
    text_header.METAIMAGE_ENDINGS: _metaimage_doubts,
}
