"""Predicting into a folder that has results: what counts as done, what is made again, and who else works there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from numpy.typing import NDArray

from model_folders import write_image, write_model
from segwright.dataset import find_cases
from segwright.errors import LockedError, MissingFileError, SettingsError, WriteError
from segwright.inference import Predictor, predict_cases, predict_folder
from segwright.inference.output_folder import NOTES_NAME, OWN_FOLDER, inputs_of, open_output_folder
from segwright.interop import read_checkpoint, write_checkpoint
from segwright.io import reader_named

ALL = ("a", "b", "c")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model", folds=(0, 1))


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.from_folder(model, folds=[0], mirroring=False)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(ALL):
        write_image(tmp_path / "images" / f"{name}_0000.nii.gz", seed=number)
    return tmp_path / "images"


@pytest.fixture
def out(predictor: Predictor, images: Path, tmp_path: Path) -> Path:
    """Results of `predictor` for all images."""
    assert predict_folder(predictor, images, tmp_path / "out").done == ALL
    return tmp_path / "out"


def changed_copy(model: Path, copy: Path) -> Path:
    """A copy of a model with one weight changed."""
    shutil.copytree(model, copy)
    path = copy / "fold_0" / "checkpoint_final.pth"
    checkpoint = read_checkpoint(path)
    next(iter(checkpoint["network_weights"].values())).view(-1)[0] += 1
    write_checkpoint(path, checkpoint)
    return copy


def test_a_copied_model_and_moved_images_give_the_same_results(
    model: Path, images: Path, out: Path, tmp_path: Path
) -> None:
    copy = Predictor.from_folder(Path(shutil.copytree(model, tmp_path / "copy")), folds=[0], mirroring=False)
    moved = images.rename(tmp_path / "moved")
    result = predict_folder(copy, moved, out)
    assert (result.skipped, result.done, result.foreign) == (ALL, (), ())


def test_results_of_another_model_are_made_again(model: Path, images: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = changed_copy(model, tmp_path / "other" / "model")
    plan = json.loads((other / "plans.json").read_text())
    (other / "plans.json").write_text(json.dumps({**plan, "plans_name": "otherPlans"}))
    result = predict_folder(Predictor.from_folder(other, folds=[0], mirroring=False), images, out)
    assert (result.skipped, result.done) == ((), ALL)
    assert result.remade == dict.fromkeys(ALL, "model")
    assert json.loads((out / "plans.json").read_text())["plans_name"] == "otherPlans"


def test_other_weights_alone_are_another_model(model: Path, images: Path, out: Path, tmp_path: Path) -> None:
    other = Predictor.from_folder(changed_copy(model, tmp_path / "other"), folds=[0], mirroring=False)
    assert predict_folder(other, images, out).remade == dict.fromkeys(ALL, "model")


def test_a_model_built_from_parts_is_known_by_its_weights(model: Path, predictor: Predictor, tmp_path: Path) -> None:
    changed = Predictor.from_folder(changed_copy(model, tmp_path / "other"), folds=[0], mirroring=False)
    parts, again, other = (
        dataclasses.replace(made, checkpoints=()).origin
        for made in (predictor, Predictor.from_folder(model, folds=[0], mirroring=False), changed)
    )
    assert parts == again
    assert parts.model != other.model
    assert parts.settings == other.settings


@pytest.mark.parametrize("changes", [{"step_size": 0.75}, {"mirror_axes": (0,)}])
def test_results_with_other_settings_are_made_again(
    predictor: Predictor, images: Path, out: Path, changes: dict[str, Any]
) -> None:
    result = predict_folder(dataclasses.replace(predictor, **changes), images, out)
    assert result.remade == dict.fromkeys(ALL, "settings")


def test_other_folds_are_another_model(model: Path, images: Path, out: Path) -> None:
    assert set(predict_folder(Predictor.from_folder(model, mirroring=False), images, out).remade) == set(ALL)


def test_another_image_of_the_same_name_is_predicted(predictor: Predictor, images: Path, out: Path) -> None:
    before = (out / "b.nii.gz").read_bytes()
    status = (images / "b_0000.nii.gz").stat()
    write_image(images / "b_0000.nii.gz", seed=7)
    os.utime(images / "b_0000.nii.gz", ns=(status.st_atime_ns, status.st_mtime_ns))
    result = predict_folder(predictor, images, out)
    assert (result.done, result.skipped, result.remade) == (("b",), ("a", "c"), {"b": "input"})
    assert (out / "b.nii.gz").read_bytes() != before


@pytest.mark.parametrize("content", [b"", b"hello", bytes(500), None])
def test_a_damaged_result_is_made_again(predictor: Predictor, images: Path, out: Path, content: bytes | None) -> None:
    result = out / "b.nii.gz"
    result.write_bytes(result.read_bytes()[:-50] if content is None else content)
    again = predict_folder(predictor, images, out)
    assert (again.done, again.remade) == (("b",), {"b": "damaged"})
    assert predict_folder(predictor, images, out).skipped == ALL


def test_a_result_corrected_by_hand_stays(predictor: Predictor, images: Path, out: Path) -> None:
    corrected = SimpleITK.ReadImage(str(out / "b.nii.gz")) * 0
    SimpleITK.WriteImage(corrected, str(out / "b.nii.gz"))
    content = (out / "b.nii.gz").read_bytes()
    assert predict_folder(predictor, images, out).skipped == ALL
    assert (out / "b.nii.gz").read_bytes() == content


@pytest.mark.parametrize("target", ["gone/new", "file"])
def test_a_folder_that_cannot_be_made_is_an_error(
    predictor: Predictor, images: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "out").symlink_to(tmp_path / target)
    with pytest.raises(WriteError, match="out"):
        predict_folder(predictor, images, tmp_path / "out")


def test_what_is_overwritten_is_said(predictor: Predictor, images: Path, out: Path) -> None:
    assert predict_folder(predictor, images, out, overwrite=True).remade == dict.fromkeys(ALL, "done")


def test_results_of_nnunet_are_made_again_or_kept(predictor: Predictor, images: Path, out: Path) -> None:
    shutil.rmtree(out / OWN_FOLDER)
    kept = predict_folder(predictor, images, out, keep_existing=True)
    assert (kept.skipped, kept.foreign) == (ALL, ALL)
    shutil.rmtree(out / OWN_FOLDER)
    assert predict_folder(predictor, images, out).remade == dict.fromkeys(ALL, "unknown")


@pytest.mark.parametrize("predict", [predict_folder, lambda p, images, out: predict_cases(p, find(images), out)])
def test_label_maps_that_no_prediction_made_are_not_replaced(
    predictor: Predictor, images: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    reference = tmp_path / "labelsTr" / "b.nii.gz"
    reference.parent.mkdir()
    reference.write_bytes(b"drawn by hand")
    with pytest.raises(SettingsError, match="labelsTr"):
        predict(predictor, images, reference.parent)
    assert [path.read_bytes() for path in reference.parent.iterdir()] == [b"drawn by hand"]
    with pytest.raises(SettingsError):
        predict_folder(predictor, images, reference.parent, overwrite=True, keep_existing=True)
    assert predict_folder(predictor, images, reference.parent, keep_existing=True).done == ("a", "c")
    assert reference.read_bytes() == b"drawn by hand"
    assert not (reference.parent / "plans.json").exists()
    assert predict_folder(predictor, images, reference.parent, overwrite=True).done == ALL


@pytest.mark.parametrize("settings", [{}, {"overwrite": True}, {"keep_existing": True}])
@pytest.mark.parametrize("inside", ["", "labelsTr", "fold_0/validation"])
def test_nothing_is_predicted_into_a_data_set_or_model(
    predictor: Predictor, images: Path, tmp_path: Path, inside: str, settings: dict[str, bool]
) -> None:
    place = tmp_path / "of_others"
    (place / inside).mkdir(parents=True)
    (place / "dataset.json").write_text("{}")
    (place / inside / "b.nii.gz").write_bytes(b"drawn by hand")
    (tmp_path / "link").symlink_to(place / inside)
    for out in (place / inside, tmp_path / "link"):
        with pytest.raises(SettingsError, match=str(out)):
            predict_folder(predictor, images, out, **settings)
        with pytest.raises(SettingsError, match=str(out)):
            predict_cases(predictor, find(images), out, **settings)
    assert {path.name for path in (place / inside).iterdir()} - {"dataset.json", "fold_0"} == {"b.nii.gz"}
    assert (place / inside / "b.nii.gz").read_bytes() == b"drawn by hand"


def test_a_new_folder_in_a_data_set_is_predicted_into(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    assert predict_folder(predictor, images, tmp_path / "predictions").done == ALL
    assert predict_folder(predictor, images, tmp_path / "predictions").skipped == ALL


@pytest.mark.parametrize("overlap", [False, True])
def test_a_folder_deleted_meanwhile_is_not_made_again(
    predictor: Predictor, images: Path, tmp_path: Path, overlap: bool
) -> None:
    def delete(what: str, done: int, total: int) -> None:
        if done == 1:
            (tmp_path / "out").rename(tmp_path / "deleted")  # at one stroke: others write into it

    with pytest.raises(MissingFileError, match=str(tmp_path / "out")):
        predict_cases(predictor, find(images), tmp_path / "out", overlap=overlap, progress=delete)
    assert not (tmp_path / "out").exists()


def find(images: Path) -> Any:
    return find_cases(images, ".nii.gz", 1)


def test_the_plan_beside_results_that_stay_is_theirs(model: Path, images: Path, out: Path, tmp_path: Path) -> None:
    other = changed_copy(model, tmp_path / "other")
    plan = json.loads((other / "plans.json").read_text())
    (other / "plans.json").write_text(json.dumps({**plan, "plans_name": "otherPlans"}))
    changed = Predictor.from_folder(other, folds=[0], mirroring=False)
    away = (images / "b_0000.nii.gz").rename(tmp_path / "b_0000.nii.gz")
    result = predict_folder(changed, images, out)
    assert (result.done, result.foreign) == (("a", "c"), ("b",))
    assert json.loads((out / "plans.json").read_text())["plans_name"] == plan["plans_name"]
    away.rename(images / "b_0000.nii.gz")
    result = predict_folder(changed, images, out)
    assert (result.done, result.skipped, result.foreign) == (("b",), ("a", "c"), ())
    assert json.loads((out / "plans.json").read_text())["plans_name"] == "otherPlans"


def test_a_torn_last_line_costs_its_case_and_no_other(predictor: Predictor, images: Path, out: Path) -> None:
    notes = out / OWN_FOLDER / NOTES_NAME
    notes.write_bytes(notes.read_bytes()[:-5])
    assert predict_folder(predictor, images, out).remade == {"c": "unknown"}
    assert predict_folder(predictor, images, out).skipped == ALL


@pytest.mark.parametrize("note", ["5", '"text"', "[]", '["a"]', '["a", 5]', '["a", {"model": []}]', "\x00\xff"])
def test_a_damaged_note_is_none(predictor: Predictor, images: Path, out: Path, note: str) -> None:
    with (out / OWN_FOLDER / NOTES_NAME).open("a") as file:
        file.write(f"\n{note}\n")
    assert set(predict_folder(predictor, images, out).remade) <= {"a"}


def test_a_result_replaced_in_vain_is_not_done(predictor: Predictor, out: Path, images: Path) -> None:
    inputs = inputs_of([images / "a_0000.nii.gz"])
    with open_output_folder(out, ".nii.gz", predictor.origin, reader_named("SimpleITKIO")) as folder:
        assert folder.state("a", inputs) == "done"
        with pytest.raises(KeyboardInterrupt), folder.replacing("a", inputs):
            raise KeyboardInterrupt
        assert folder.state("a", inputs) == "unknown"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_inputs_that_cannot_be_looked_at_are_never_done(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert inputs_of([tmp_path / "absent"]) is None
    assert inputs_of([tmp_path / "pipe"]) is None


def test_another_model_waits_for_its_turn(predictor: Predictor, images: Path, out: Path) -> None:
    other = dataclasses.replace(predictor, step_size=0.75)
    with open_output_folder(out, ".nii.gz", predictor.origin, reader_named("SimpleITKIO")):
        with pytest.raises(LockedError, match=str(out)):
            predict_folder(other, images, out)
        with pytest.raises(LockedError):
            predict_cases(other, find(images), out)
        assert predict_folder(predictor, images, out).skipped == ALL
    assert predict_folder(other, images, out).done == ALL
    assert {path.name for path in (out / OWN_FOLDER).iterdir()} <= {NOTES_NAME, "folder.lock"}


class Waiting(Predictor):
    """A predictor that begins its first case and goes on when it is let."""

    begun = threading.Event()
    may_go_on = threading.Event()

    def predict_logits(self, data: NDArray[np.float32], **more: Any) -> torch.Tensor:
        self.begun.set()
        assert self.may_go_on.wait(60)
        return super().predict_logits(data, **more)


@pytest.mark.parametrize("overlap", [False, True])
def test_two_processes_share_the_work(predictor: Predictor, images: Path, tmp_path: Path, overlap: bool) -> None:
    Waiting.begun.clear()
    Waiting.may_go_on.clear()
    slow = Waiting(**{field.name: getattr(predictor, field.name) for field in dataclasses.fields(predictor)})
    out, results = tmp_path / "out", {}

    def start(name: str, made: Predictor, **more: Any) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: results.update({name: predict_cases(made, find(images), out, **more)}), daemon=True
        )
        thread.start()
        return thread

    first = start("slow", slow, overlap=False)
    assert Waiting.begun.wait(60)
    said: list[str] = []
    second = start("fast", predictor, overlap=overlap, note=said.append)
    while second.is_alive() and not said:
        time.sleep(0.01)
    Waiting.may_go_on.set()
    first.join(60)
    second.join(60)
    assert (results["slow"].done, results["slow"].shared) == (("a",), ("b", "c"))
    assert (results["fast"].done, results["fast"].shared) == (("b", "c"), ("a",))
    assert results["fast"].failures == ()
    assert len(said) == 1, "it looked again several times, and says once that it waits"


PROGRAM = """
import sys, time
from pathlib import Path
from segwright.inference import Predictor, predict_folder

def stop_at_the_last(what, done, total):
    if done == total - 1:
        Predictor.predict_logits = lambda *_, **__: (print("waits", flush=True), time.sleep(600))

model, images, out = map(Path, sys.argv[1:])
predictor = Predictor.from_folder(model, folds=[0], mirroring=False)
predict_folder(predictor, images, out, progress=stop_at_the_last)
"""


def test_after_a_kill_exactly_the_missing_cases_are_predicted(
    model: Path, predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-c", PROGRAM, *map(str, (model, images, out))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        claims = [path.name for path in (out / OWN_FOLDER).glob("*.claim")]
        process.kill()
    assert claims == ["c.claim"]
    made = {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    result = predict_folder(predictor, images, out)
    assert (result.skipped, result.done, result.remade) == (("a", "b"), ("c",), {})
    assert {path: path.stat().st_mtime_ns for path in made} == made
