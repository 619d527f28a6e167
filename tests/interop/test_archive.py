"""Damage to a checkpoint file is found, whatever byte it hits, before anything is unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segwright.errors import CheckpointError
from segwright.interop.archive import DIGEST_NAME, verify
from segwright.interop.checkpoint_file import read_checkpoint, write_checkpoint

WEIGHTS = {"a.weight": torch.arange(5000.0), "b.weight": torch.ones(5000)}


@pytest.fixture(params=["own", "nnunet"])
def path(request: Any, tmp_path: Path) -> Path:
    """A checkpoint with our digest, and one without, as nnU-Net writes it."""
    path = tmp_path / "checkpoint_final.pth"
    write: Callable[..., Any] = write_checkpoint if request.param == "own" else lambda to, value: torch.save(value, to)
    write(path, {"network_weights": WEIGHTS, "current_epoch": 3})
    return path


def own_checkpoint(folder: Path) -> Path:
    path = folder / "checkpoint_latest.pth"
    write_checkpoint(path, {"network_weights": WEIGHTS, "current_epoch": 3})
    return path


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> None:
    """Write an archive anew, with correct checksums, after a change to its entries."""
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in entries.items():
            target.writestr(name, data)


def same_weights(path: Path) -> bool:
    found = read_checkpoint(path)["network_weights"]
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


def test_zeros_in_the_weights_are_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    start = data.index(WEIGHTS["b.weight"].numpy().tobytes()[:400])
    data[start : start + 4096] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"checkpoint_final\.pth"):
        read_checkpoint(path)


def test_a_byte_that_flips_anywhere_is_refused_or_does_no_harm(path: Path) -> None:
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    directory = range(len(whole) - 1200, len(whole))
    refused = 0
    for position in [*rng.integers(0, len(whole), 60), *rng.choice(directory, 60)]:
        data = bytearray(whole)
        data[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            assert same_weights(path)
        except CheckpointError:
            refused += 1
    assert refused > 60


def test_entries_that_changed_places_are_refused_though_each_fits_its_checksum(tmp_path: Path) -> None:
    path = own_checkpoint(tmp_path)

    def swap(entries: dict[str, bytes]) -> None:
        first, second = (name for name in entries if name.rsplit("/", 1)[-1] in ("0", "1"))
        entries[first], entries[second] = entries[second], entries[first]

    rewrite(path, lambda entries: None)
    assert same_weights(path)
    rewrite(path, swap)
    assert torch.equal(torch.load(path)["network_weights"]["a.weight"], WEIGHTS["b.weight"])
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: Any) -> None:
    path = own_checkpoint(tmp_path)
    rewrite(path, lambda entries: entries.update({"x/data/2": bytes(8 << 20)}), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with path.open("rb") as file, pytest.raises(CheckpointError):
        verify(file, path)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = own_checkpoint(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"")
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = own_checkpoint(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(8):
            again = zipfile.ZipInfo(largest.filename[:-1] + str(number + 2))
            again.file_size = again.compress_size = largest.file_size
            again.CRC, again.header_offset = largest.CRC, largest.header_offset
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_the_digest_is_of_the_contents(tmp_path: Path) -> None:
    digests = []
    for name, weights in (("a", WEIGHTS), ("b", WEIGHTS), ("c", {**WEIGHTS, "b.weight": torch.zeros(5000)})):
        path = tmp_path / name / "checkpoint_final.pth"
        write_checkpoint(path, {"network_weights": weights})
        with path.open("rb") as file:
            digests.append(verify(file, path))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_the_file_with_the_digest(tmp_path: Path, mmap: bool) -> None:
    path = own_checkpoint(tmp_path)
    assert any(name.endswith(DIGEST_NAME) for name in zipfile.ZipFile(path).namelist())
    found = torch.load(path, map_location="cpu", weights_only=False, mmap=mmap)
    assert torch.equal(found["network_weights"]["a.weight"], WEIGHTS["a.weight"])


def test_a_file_in_torchs_older_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": WEIGHTS}, path, _use_new_zipfile_serialization=False)
    assert same_weights(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
