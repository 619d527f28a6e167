"""TIFFs compressed in the ways that microscopes and their programs write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from segwright.errors import ImageError
from segwright.io import reader_named

PIXELS = np.arange(120, dtype=np.uint16).reshape(10, 12)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd"])
def test_pictures_and_stacks_are_read(tmp_path: Path, compression: str) -> None:
    tifffile.imwrite(tmp_path / "a_0000.tif", PIXELS, compression=compression)
    picture = reader_named("NaturalImage2DIO").read_image([tmp_path / "a_0000.tif"])
    np.testing.assert_array_equal(picture.array[0, 0], PIXELS)
    tifffile.imwrite(tmp_path / "b_0000.tif", np.stack([PIXELS, PIXELS + 7]), compression=compression)
    stack = reader_named("Tiff3DIO").read_image([tmp_path / "b_0000.tif"])
    np.testing.assert_array_equal(stack.array[0], np.stack([PIXELS, PIXELS + 7]))


def test_damage_in_it_is_no_lack_of_a_package(tmp_path: Path) -> None:
    path = tmp_path / "a_0000.tif"
    tifffile.imwrite(path, np.random.default_rng(1).integers(0, 9, (64, 64), np.uint8), compression="lzw")
    content = bytearray(path.read_bytes())
    content[-400:-200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a_0000\.tif") as caught:
        reader_named("NaturalImage2DIO").read_image([path])
    assert "imagecodecs" not in str(caught.value)
