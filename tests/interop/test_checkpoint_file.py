from __future__ import annotations

import io
import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segwright.errors import CheckpointError, MissingFileError, WriteError
from segwright.interop.checkpoint_file import read_checkpoint, write_checkpoint


def nnunet_like_checkpoint() -> dict[str, Any]:
    return {
        "network_weights": {"a.weight": torch.arange(4.0)},
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(4)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.5)],
            "dice_per_class_or_region": [[np.float32(0.25), np.float64("nan")]],
            "train_losses": [np.float32(-0.125)],
            "lrs": [0.01],
            "counts": [np.int64(3), np.bool_(True)],
            "array": np.arange(3, dtype=np.int32),
        },
        "_best_ema": np.float64(0.75),
        "current_epoch": 3,
        "init_args": {"plans": {"a": [1, 2]}, "configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "random_state": {"state": 2**127 + 1},
    }


def test_round_trip_of_everything_that_nnunet_stores(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_final.pth"
    write_checkpoint(path, nnunet_like_checkpoint())
    found = read_checkpoint(path)
    assert torch.equal(found["network_weights"]["a.weight"], torch.arange(4.0))
    assert found["_best_ema"] == 0.75
    assert found["logging"]["dice_per_class_or_region"][0][0] == np.float32(0.25)
    assert np.array_equal(found["logging"]["array"], [0, 1, 2])
    assert found["init_args"]["device"] == torch.device("cpu")
    assert found["inference_allowed_mirroring_axes"] == (0, 1, 2)
    assert found["random_state"]["state"] == 2**127 + 1
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_scalars_named_by_numpy_1_and_by_numpy_2_are_read(tmp_path: Path, module: str) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": {}, "_best_ema": np.float64(0.5), "array": np.zeros(2)}, path)
    renamed = _rewrite_pickle(path, lambda data: _rename_global(data, module))
    path.write_bytes(renamed)
    assert module.encode() in renamed
    found = read_checkpoint(path)
    assert found["_best_ema"] == 0.5
    assert found["array"].tolist() == [0, 0]


class Odd:
    """Pickles as numpy's own float64 dtype with flags of a dtype of Python objects."""

    def __init__(self, flags: int) -> None:
        self.flags = flags

    def __reduce__(self) -> Any:
        return np.dtype, ("f8", False, True), (3, "<", None, None, None, -1, -1, self.flags)


class OddArray:
    """Pickles as an array of more values than it has bytes for."""

    def __reduce__(self) -> Any:
        function, args, (version, _, dtype, order, data) = np.zeros(2).__reduce__()
        return function, args, (version, (2**40,), dtype, order, data)


@pytest.mark.parametrize("odd", [Odd(1), Odd(4), Odd(63), OddArray()], ids=["counted", "pointer", "object", "shape"])
def test_a_dtype_or_array_that_numpy_would_crash_on_is_refused(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": {}, "array": odd}, path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_an_array_that_was_read_is_written_as_numpys_own(tmp_path: Path) -> None:
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    torch.save({"network_weights": {}, "array": np.arange(6.0).reshape(2, 3).T}, first)
    write_checkpoint(second, read_checkpoint(first))
    assert type(torch.load(second, weights_only=False)["array"]) is np.ndarray
    assert np.array_equal(read_checkpoint(second)["array"], np.arange(6.0).reshape(2, 3).T)


def _rename_global(data: bytes, module: str) -> bytes:
    for name in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        data = data.replace(b"c" + name + b"\n", b"c" + module.encode() + b"\n")
    return data


def _rewrite_pickle(path: Path, change: Any) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(result, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return result.getvalue()


class Exploit:
    """Pickles as a call of `function` with `argument`."""

    def __init__(self, function: Any, argument: str) -> None:
        self.call = (function, (argument,))

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "name"), [(os.system, "system"), (exec, "exec"), (subprocess.call, "call"), (np.load, "load")]
)
def test_a_planted_exploit_is_refused_by_name_and_does_not_run(tmp_path: Path, function: Any, name: str) -> None:
    path, trace = tmp_path / "checkpoint.pth", tmp_path / "ran"
    argument = f"open({str(trace)!r}, 'w')" if function is exec else f"touch {trace}"
    torch.save({"network_weights": {}, "_best_ema": Exploit(function, argument)}, path)
    with pytest.raises(CheckpointError, match=rf"checkpoint\.pth.*\b{name}\b"):
        read_checkpoint(path)
    assert not trace.exists()


def test_an_old_style_pickle_with_an_exploit_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "checkpoint.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"network_weights": Exploit(os.system, f"touch {trace}")}, protocol=2))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_torn_file_is_an_error(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "checkpoint.pth"
    write_checkpoint(path, nnunet_like_checkpoint())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth"):
        read_checkpoint(path)


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": {}, "epoch": 1}, path)
    with pytest.raises(CheckpointError, match=r"network_weights.*'epoch', 'state_dict'"):
        read_checkpoint(path)
    torch.save(torch.zeros(1), path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth.*Tensor"):
        read_checkpoint(path)
    path.write_text("not a model")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth"):
        read_checkpoint(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"checkpoint_final\.pth"):
        read_checkpoint(tmp_path / "checkpoint_final.pth")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pth"
    write_checkpoint(path, {"network_weights": {}, "current_epoch": 1})

    def full(*_: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WriteError, match=r"checkpoint\.pth"):
        write_checkpoint(path, {"network_weights": {}, "current_epoch": 2})
    monkeypatch.undo()
    assert read_checkpoint(path)["current_epoch"] == 1
    assert sorted(tmp_path.iterdir()) == [path]
