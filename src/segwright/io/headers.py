"""How many voxels a file claims, from its header alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segwright.errors import SegwrightError
from segwright.io import nifti_header, text_header
from segwright.io.integrity import VoxelLayout, require_memory, require_plausible_size

# What the other formats, which are pictures, pack into a byte at most in practice.
_VOXELS_PER_BYTE = 8

_READ_HEADER: dict[str, Callable[[Path], VoxelLayout]] = {
    **dict.fromkeys(nifti_header.FILE_ENDINGS, nifti_header.read_nifti_header),
    **dict.fromkeys(text_header.METAIMAGE_ENDINGS, text_header.read_metaimage_header),
    **dict.fromkeys(text_header.NRRD_ENDINGS, text_header.read_nrrd_header),
}


def num_voxels_claimed(path: Path) -> int:
    """Voxels of all channels in a file; an estimate for pictures, and 0 for a file that will not be read.

    Not read is what has no sound header, or claims more voxels than the file or the free memory could hold.
    """
    read_header = next((read for ending, read in _READ_HEADER.items() if path.name.lower().endswith(ending)), None)
    try:
        if read_header is None:
            return path.stat().st_size * _VOXELS_PER_BYTE
        layout = read_header(path)
        if layout.is_plain:
            require_plausible_size(layout)
        require_memory(layout)
        return layout.num_voxels
    except (SegwrightError, OSError):  # reported when the file is read
        return 0
