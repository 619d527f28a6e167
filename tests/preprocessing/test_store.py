from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segwright.errors import CheckpointError, ImageError, MissingFileError, WriteError
from segwright.preprocessing.chunking import MAX_BLOCK_BYTES, MAX_CHUNK_BYTES, blocks_and_chunks
from segwright.preprocessing.pipeline import PreprocessedCase
from segwright.preprocessing.store import OWN_FOLDER, PreprocessedStore


def some_case(seed: int = 0, shape: tuple[int, ...] = (20, 30, 40)) -> PreprocessedCase:
    rng = np.random.default_rng(seed)
    return PreprocessedCase(
        data=rng.normal(size=(2, *shape)).astype(np.float32),
        seg=rng.integers(-1, 3, (1, *shape)).astype(np.int8),
        properties={"spacing": [1.0, 2.0, 3.0], "class_locations": {1: np.array([[0, 1, 2, 3]]), (1, 2): []}},
    )


@pytest.fixture
def store(tmp_path: Path) -> PreprocessedStore:
    return PreprocessedStore(tmp_path / "nnUNetPlans_3d_fullres")


@pytest.mark.parametrize(
    ("shape", "patch", "item_bytes", "blocks", "chunks"),
    [  # nnU-Net 2.8.1
        ((1, 200, 300, 300), (128, 128, 128), 4, (1, 32, 32, 32), (1, 96, 128, 128)),
        ((1, 200, 300, 300), (128, 128, 128), 2, (1, 64, 32, 32), (1, 128, 192, 128)),
    ],
)
def test_blocks_and_chunks_are_nnunets(
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    item_bytes: int,
    blocks: tuple[int, ...],
    chunks: tuple[int, ...],
) -> None:
    assert blocks_and_chunks(shape, patch, item_bytes) == (blocks, chunks)


@given(
    st.tuples(st.integers(1, 4), *[st.integers(1, 700)] * 3),
    st.tuples(*[st.integers(1, 600)] * 3) | st.tuples(*[st.integers(1, 2000)] * 2),
    st.sampled_from([2, 4]),
)
def test_blocks_and_chunks_stay_within_their_bounds(
    shape: tuple[int, ...], patch: tuple[int, ...], item_bytes: int
) -> None:
    blocks, chunks = blocks_and_chunks(shape, patch, item_bytes)
    assert blocks[0] == chunks[0] == 1
    assert all(1 <= block <= chunk <= size for block, chunk, size in zip(blocks, chunks, shape, strict=True))
    assert math.prod(blocks) * item_bytes <= MAX_BLOCK_BYTES
    assert math.prod(chunks) * item_bytes <= MAX_CHUNK_BYTES
    if len(patch) == 2:
        assert blocks[1] == 1


def test_blocks_of_a_chunk_are_even() -> None:
    assert blocks_and_chunks((1, 35, 52, 34), (40, 56, 40), 4) == ((1, 18, 26, 17), (1, 35, 52, 34))


def test_slices_share_a_chunk() -> None:
    assert blocks_and_chunks((1, 40, 512, 512), (512, 512), 4) == ((1, 1, 256, 128), (1, 6, 512, 512))
    assert blocks_and_chunks((1, 40, 60, 70), (64, 80), 4) == ((1, 1, 60, 70), (1, 40, 60, 70))


def test_a_case_comes_back_as_it_was_written(store: PreprocessedStore) -> None:
    case = some_case()
    store.write("a", case, (16, 16, 16))
    read = store.open("a")
    assert read.shape == (20, 30, 40)
    assert read.data.dtype == np.float32
    assert read.seg.dtype == np.int16
    np.testing.assert_array_equal(read.data[:], case.data)
    np.testing.assert_array_equal(read.seg[:], case.seg)
    np.testing.assert_array_equal(read.data[1, 3:5, :, 7:30], case.data[1, 3:5, :, 7:30])
    properties = store.read_properties("a")
    assert properties["spacing"] == [1.0, 2.0, 3.0]
    assert list(properties["class_locations"]) == [1, (1, 2)]
    assert {path.name for path in store.folder.iterdir() if path.is_file()} == {"a.b2nd", "a_seg.b2nd", "a.pkl"}


def test_large_arrays_are_written_piece_by_piece_to_the_same_files(
    store: PreprocessedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("a", some_case(), (16, 16, 16))
    monkeypatch.setattr("segwright.preprocessing.store._PACKED_IN_MEMORY_BYTES", 0)
    others = PreprocessedStore(tmp_path / "others")
    others.write("a", some_case(), (16, 16, 16))
    for name in ("a.b2nd", "a_seg.b2nd"):
        assert (store.folder / name).read_bytes() == (others.folder / name).read_bytes()


@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 24])
def test_what_a_killed_process_left_of_a_case_is_written_over(
    store: PreprocessedStore, monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int
) -> None:
    monkeypatch.setattr("segwright.preprocessing.store._PACKED_IN_MEMORY_BYTES", in_memory_bytes)
    case = some_case()
    store.write("a", case, (16, 16, 16))
    unfinished = store.folder / OWN_FOLDER
    (unfinished / "a.b2nd").write_bytes((store.folder / "a.b2nd").read_bytes()[:5000])
    (unfinished / "a_seg.b2nd").write_bytes(b"")
    (unfinished / "a.pkl").write_bytes(b"torn")
    store.write("a", case, (16, 16, 16))
    np.testing.assert_array_equal(store.open("a").data[:], case.data)
    np.testing.assert_array_equal(store.open("a").seg[:], case.seg)
    assert list(unfinished.iterdir()) == []


@pytest.mark.parametrize("quantised", [True, False])
def test_the_filter_follows_the_intensities(store: PreprocessedStore, quantised: bool) -> None:
    ramp = np.linspace(0, 1, 48**3, dtype=np.float32).reshape(1, 48, 48, 48)
    data = np.round(ramp * 3) if quantised else ramp
    store.write("a", PreprocessedCase(data, np.zeros((1, 48, 48, 48), np.int8), {}), (32, 32, 32))
    array = blosc2.open(str(store.folder / "a.b2nd"))
    assert array.schunk.cparams.codec == blosc2.Codec.LZ4HC
    wanted = blosc2.Filter.NOFILTER if quantised else blosc2.Filter.SHUFFLE
    assert array.schunk.cparams.filters[0] == wanted


def test_only_complete_cases_are_listed(store: PreprocessedStore) -> None:
    assert store.case_ids() == ()
    for case_id in ("b", "a", "c_seg"):
        store.write(case_id, some_case(), (8, 8, 8))
    assert store.case_ids() == ("a", "b", "c_seg")
    (store.folder / "b.pkl").unlink()
    (store.folder / "a_seg.b2nd").unlink()
    assert store.case_ids() == ("c_seg",)
    assert not store.is_complete("a")
    assert not store.is_complete("b")
    assert store.is_complete("c_seg")


def test_a_case_is_incomplete_while_it_is_written_again(
    store: PreprocessedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("a", some_case(), (8, 8, 8))

    def full_disk(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blosc2, "asarray", full_disk)
    with pytest.raises(OSError, match="space"):
        store.write("a", some_case(1), (8, 8, 8))
    assert not store.is_complete("a")


@pytest.mark.skipif(sys.platform == "win32", reason="files have no largest size there")
@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 24])
def test_a_disk_that_is_full_is_told_of_large_and_small_arrays(
    store: PreprocessedStore, monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int
) -> None:
    import resource

    monkeypatch.setattr("segwright.preprocessing.store._PACKED_IN_MEMORY_BYTES", in_memory_bytes)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(WriteError, match=r"a\.b2nd"):
            store.write("a", some_case(), (16, 16, 16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not store.is_complete("a")


@pytest.mark.parametrize("name", ["a.b2nd", "a_seg.b2nd", "a.pkl"])
@pytest.mark.parametrize("kept", [0, 20, -1])
def test_a_case_with_a_torn_file_is_not_whole(store: PreprocessedStore, name: str, kept: int) -> None:
    store.write("a", some_case(), (8, 8, 8))
    assert store.is_whole("a")
    path = store.folder / name
    path.write_bytes(path.read_bytes()[:kept])
    assert store.is_complete("a")
    assert not store.is_whole("a")


def test_removing_a_case_leaves_the_others(store: PreprocessedStore) -> None:
    for case_id in ("a", "b"):
        store.write(case_id, some_case(), (8, 8, 8))
    store.remove("a")
    assert store.case_ids() == ("b",)
    assert {path.name for path in store.folder.iterdir() if path.is_file()} == {"b.b2nd", "b_seg.b2nd", "b.pkl"}


def test_properties_are_read_again_after_a_change(store: PreprocessedStore) -> None:
    store.write("a", some_case(), (8, 8, 8))
    assert store.read_properties("a") is store.read_properties("a")
    changed = some_case()
    changed.properties["spacing"] = [9.0, 9.0, 9.0, 9.0]
    store.write("a", changed, (8, 8, 8))
    assert store.read_properties("a")["spacing"] == [9.0, 9.0, 9.0, 9.0]


def test_properties_kept_in_memory_are_bounded(store: PreprocessedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segwright.preprocessing.store._CACHED_PROPERTIES_BYTES", 1)
    for case_id in ("a", "b", "c"):
        store.write(case_id, some_case(), (8, 8, 8))
        store.read_properties(case_id)
    assert list(store._properties) == ["c"]


def test_a_store_goes_to_another_process_without_its_memory(store: PreprocessedStore) -> None:
    store.write("a", some_case(), (8, 8, 8))
    store.read_properties("a")
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert not copy._properties
    assert copy.case_ids() == ("a",)


@pytest.mark.parametrize("unpacked", [False, True])
def test_older_folders_can_be_read(store: PreprocessedStore, unpacked: bool) -> None:
    case = some_case()
    store.folder.mkdir()
    np.savez_compressed(store.folder / "a.npz", data=case.data, seg=case.seg)
    (store.folder / "a.pkl").write_bytes(pickle.dumps(case.properties))
    if unpacked:
        np.save(store.folder / "a.npy", case.data)
        np.save(store.folder / "a_seg.npy", case.seg)
    assert store.case_ids() == ("a",)
    read = store.open("a")
    np.testing.assert_array_equal(read.data[:], case.data)
    np.testing.assert_array_equal(read.seg[:], case.seg)
    assert isinstance(read.data, np.memmap) == unpacked
    assert store.read_properties("a")["spacing"] == [1.0, 2.0, 3.0]


def test_a_case_that_is_not_there_is_named(store: PreprocessedStore) -> None:
    for read in (store.open, store.read_properties):
        with pytest.raises(MissingFileError, match="'z'"):
            read("z")


@pytest.mark.parametrize("name", ["a.b2nd", "a_seg.b2nd"])
def test_damaged_arrays_are_named(store: PreprocessedStore, name: str) -> None:
    store.write("a", some_case(), (8, 8, 8))
    (store.folder / name).write_bytes(b"no array")
    with pytest.raises(ImageError, match=name):
        store.open("a")


def test_damaged_archives_and_properties_are_named(store: PreprocessedStore) -> None:
    store.folder.mkdir()
    (store.folder / "a.npz").write_bytes(b"no archive")
    (store.folder / "a.pkl").write_bytes(b"no pickle")
    with pytest.raises(ImageError, match=r"a\.npz"):
        store.open("a")
    with pytest.raises(CheckpointError, match=r"a\.pkl"):
        store.read_properties("a")
