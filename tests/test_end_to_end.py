"""The whole way, from raw images to a scored model and a report, in three dimensions and on colour pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from segwright.cli.main import main
from segwright.planning import Plan
from tiny_datasets import make_3d, make_rgb

# A trainer that is stopped as by Ctrl-C in its second epoch, once.
TRAINERS = """
import os, signal
from segwright import Trainer

class Whole(Trainer):
    num_epochs = 2
    num_iterations_per_epoch = 3
    num_val_iterations_per_epoch = 1

class Stopped(Whole):
    def train_step(self, batch):
        told = self.output_folder.parent / "stopped"
        if self.current_epoch == 1 and self.state.step == 1 and not told.exists():
            told.touch()
            os.kill(os.getpid(), signal.SIGINT)
        return super().train_step(batch)
"""


@pytest.mark.parametrize(
    ("make", "name", "configuration", "ending"),
    [
        (make_3d, "Dataset001_Balls", "3d_fullres", ".nii.gz"),
        (make_3d, "Dataset001_Balls", "2d", ".nii.gz"),
        (make_rgb, "Dataset002_Discs", "2d", ".png"),
    ],
)
def test_every_step(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], Path],
    name: str,
    configuration: str,
    ending: str,
) -> None:
    raw = make(tmp_path / "raw" / name)
    (tmp_path / "trainers.py").write_text(TRAINERS)

    def segwright(*words: object, code: int = 0) -> str:
        found = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert found == code, captured.err
        assert "Traceback" not in captured.err
        return captured.out + captured.err

    def train(class_name: str, *more: str, code: int = 0) -> str:
        trainer = f"{tmp_path / 'trainers.py'}:{class_name}"
        words = ("train", raw, configuration, 0, *place, "--trainer", trainer, "--workers", 0, "--device", "cpu")
        return segwright(*words, *more, code=code)

    def weights(class_name: str) -> dict[str, torch.Tensor]:
        model = tmp_path / "results" / name / f"{class_name}__nnUNetPlans__{configuration}"
        checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
        return checkpoint["network_weights"]

    place = ("--workspace", tmp_path)
    segwright("check", raw, "--workers", 1)
    segwright("plan", raw, *place, "--workers", 1)
    segwright("explain", raw, *place, "-c", configuration)
    segwright("preprocess", raw, *place, "-c", configuration, "--workers", 1)

    train("Whole")
    assert "--continue" in train("Stopped", code=130)
    assert "checkpoint_latest.pth" in train("Stopped", "--continue")
    whole, stopped = weights("Whole"), weights("Stopped")
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)

    model = tmp_path / "results" / name / f"Stopped__nnUNetPlans__{configuration}"
    masks = tmp_path / "masks"
    segwright("predict", raw / "imagesTs", masks, "--model", model, "--folds", 0, "--device", "cpu")
    assert len(list(masks.glob(f"*{ending}"))) == 2
    segwright("evaluate", masks, raw / "labelsTs", "--workers", 1)
    summary = json.loads((masks / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1
    segwright("report", raw, *place, "-c", configuration)
    pages = list((tmp_path / "results").rglob("report.html"))
    assert len(pages) == 1
    assert name in pages[0].read_text()


def test_run_does_everything_and_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = make_3d(tmp_path / "raw" / "Dataset001_Balls")
    words = ["run", str(raw), "--workspace", str(tmp_path), "--workers", "1", "--device", "cpu", "--epochs", "1"]
    words += ["--iterations-per-epoch", "2", "--val-iterations-per-epoch", "1"]
    assert main(words) == 0
    first = capsys.readouterr()
    assert re.search("validation cases .*fold 0", first.out, flags=re.IGNORECASE)
    assert "test cases" in first.out.lower()
    (page,) = tmp_path.rglob("report.html")
    assert f"Report: {page}" in first.out
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
    checkpoint = next(tmp_path.rglob("checkpoint_final.pth"))
    trained_at = checkpoint.stat().st_mtime_ns
    assert main(words) == 0
    second = capsys.readouterr()
    assert re.search(r"\b0 cases .*\b6 ", second.err)
    assert "epoch 0: loss" not in second.err
    assert checkpoint.stat().st_mtime_ns == trained_at
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")} == files


def test_a_small_configuration_of_ones_own_learns_and_its_report_is_kept_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_3d(tmp_path / "raw" / "Dataset001_Balls")
    for path in raw.glob("labelsT?/*.nii.gz"):  # placed elsewhere than the images by their headers, which is bearable
        image = sitk.ReadImage(str(path))
        image.SetOrigin((10.0, 20.0, 30.0))
        sitk.WriteImage(image, str(path))
    assert main(["plan", str(raw), "--workspace", str(tmp_path), "--workers", "1"]) == 0
    add_small_configuration(tmp_path / "preprocessed" / "Dataset001_Balls" / "nnUNetPlans.json")
    words = ["run", "1", "-c", "3d_small", "--workspace", str(tmp_path), "--workers", "1", "--device", "cpu"]
    words += ["--iterations-per-epoch", "60", "--val-iterations-per-epoch", "1", "--lr", "0.01"]
    assert main([*words, "--epochs", "1"]) == 0
    shown = capsys.readouterr()
    assert "+30 voxels along z, +20 voxels along y, +10 voxels along x" in shown.err
    model = tmp_path / "results" / "Dataset001_Balls" / "nnUNetTrainer__nnUNetPlans__3d_small"
    predicted = model / "predictions_imagesTs_fold_0"
    summary = json.loads((predicted / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] > 0.8

    # More iterations go on from there, and what a newer model would predict otherwise is predicted anew.
    before = (predicted / "ballTs_000.nii.gz").stat().st_mtime_ns
    assert main([*words, "--epochs", "2", "--iterations-per-epoch", "2"]) == 0
    assert "checkpoint_final.pth" in capsys.readouterr().err
    assert (predicted / "ballTs_000.nii.gz").stat().st_mtime_ns > before

    # A report made later is as full as that of the run.
    report = model / "report.html"
    figures = [re.findall(r"\d\.\d{2,}", report.read_text())]
    report.unlink()
    assert main(["report", "1", "--workspace", str(tmp_path)]) == 0
    figures.append(re.findall(r"\d\.\d{2,}", report.read_text()))
    assert "ballTs_000" in report.read_text()
    assert set(figures[0]) <= set(figures[1])


def add_small_configuration(path: Path) -> None:
    """Add `3d_small`, with so few features that a step takes milliseconds."""
    plan = Plan.read(path)
    architecture = dict(plan.configuration("3d_fullres").raw["architecture"])
    kwargs = dict(architecture["arch_kwargs"])
    kwargs["features_per_stage"] = [8 * 2**stage for stage in range(kwargs["n_stages"])]
    small = {"inherits_from": "3d_fullres", "architecture": {**architecture, "arch_kwargs": kwargs}}
    plan.with_configuration("3d_small", small).write(path)
