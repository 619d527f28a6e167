"""Trainings and models cross between nnunetv2 and Segwright in both directions, on real data and in the same folders.

nnunetv2 sums overlapping tiles in half precision. With its sums made in float32, all logits agree to 1e-3. As it is,
nearly all agree to 1e-3 of their range; at the image's corners, which only the faintest corner of a tile covers, it
rounds logits to whole numbers. Label maps are compared with those that it writes as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segwright.dataset import RawDataset, read_splits, split_for_fold
from segwright.evaluation import Summary, evaluate_folder
from segwright.fingerprint import fingerprint_dataset
from segwright.inference import Predictor, predict_folder
from segwright.interop.checkpoint import Checkpoint
from segwright.interop.checkpoint_file import read_checkpoint
from segwright.io import reader_named
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.preprocessing.cohort import preprocess_dataset
from segwright.preprocessing.store import PreprocessedStore
from segwright.training.run import train
from segwright.training.trainer import Trainer

pytestmark = pytest.mark.parity

SCRIPT = Path(__file__).with_name("peer_training.py")
CONFIGURATION = "small"
MODEL = f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
FOLD = Path(MODEL) / "fold_0"
FEATURES = (8, 16, 24, 32, 32, 32, 32)
# Higher than nnU-Net's, and foreground in every patch, so that a few iterations end with a model that finds something.
RATE, FOREGROUND_PART = 0.15, 1.0
ITERATIONS_GOING_ON = 4
STEPS = 3
LEAST_FOREGROUND = 0.005
LEAST_CLOSE_TO_HALF = 0.98


@dataclass(frozen=True)
class Excerpt:
    """What of a data set is used, and a patch and a grid that a CPU can train on."""

    dataset: str
    training: int
    test: int
    patch_size: tuple[int, ...]
    in_plane_factor: float
    iterations: int


EXCERPTS = (
    Excerpt("Dataset004_Hippocampus", 10, 1, patch_size=(24, 32, 24), in_plane_factor=1, iterations=60),
    Excerpt("Dataset027_ACDC", 5, 1, patch_size=(10, 64, 64), in_plane_factor=2, iterations=60),
)


@dataclass(frozen=True)
class Both:
    """A data set planned and preprocessed by both."""

    excerpt: Excerpt
    root: Path
    raw: RawDataset
    peer: Callable[..., None]

    def preprocessed(self, by: str) -> Path:
        """Folder of the data set that `own` or `peer` made."""
        return self.root / by / self.excerpt.dataset

    def results(self, trained_by: str) -> Path:
        return self.root / f"results_{trained_by}" / self.excerpt.dataset

    def plan(self, by: str) -> Plan:
        return Plan.read(self.preprocessed(by) / "nnUNetPlans.json")


def settings(num_epochs: int, iterations: int) -> dict[str, Any]:
    """Settings of a short run by names that both trainers share."""
    return {
        "num_epochs": num_epochs,
        "num_iterations_per_epoch": iterations,
        "num_val_iterations_per_epoch": 2,
        "initial_lr": RATE,
        "oversample_foreground_percent": FOREGROUND_PART,
    }


def small_configuration(plan: Plan, excerpt: Excerpt) -> dict[str, Any]:
    """A narrow network with a small patch, as a user adds one to the plans."""
    fullres = plan.configuration("3d_fullres")
    architecture = json.loads(json.dumps(fullres.raw["architecture"]))
    arguments = architecture["arch_kwargs"]
    arguments["features_per_stage"] = list(FEATURES[: arguments["n_stages"]])
    through_plane, *in_plane = fullres.spacing_mm
    return {
        "inherits_from": "3d_fullres",
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "batch_size": 2,
        "patch_size": list(excerpt.patch_size),
        "spacing": [through_plane, *(excerpt.in_plane_factor * spacing for spacing in in_plane)],
        "architecture": architecture,
    }


@pytest.fixture(scope="module", params=EXCERPTS, ids=lambda excerpt: excerpt.dataset)
def both(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    peer_python: str,
    copy_excerpt: Callable[..., RawDataset],
) -> Both:
    excerpt: Excerpt = request.param
    root = tmp_path_factory.mktemp(excerpt.dataset)
    raw = copy_excerpt(excerpt.dataset, root / "raw" / excerpt.dataset, training=excerpt.training, test=excerpt.test)

    def peer(command: str, *, preprocessed: Path, results: Path, **values: Any) -> None:
        path = root / f"{command}.json"
        path.write_text(json.dumps({"dataset": excerpt.dataset, "configuration": CONFIGURATION, **values}))
        folders = {
            "nnUNet_raw": str(root / "raw"),
            "nnUNet_preprocessed": str(preprocessed.parent),
            "nnUNet_results": str(results.parent),
        }
        limits = {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
        result = subprocess.run(
            [peer_python, str(SCRIPT), command, str(path)],
            env={**os.environ, **folders, **limits},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]

    made = Both(excerpt, root, raw, peer)
    plan = prepare_own(excerpt, raw, made.preprocessed("own"))
    peer(
        "prepare",
        preprocessed=made.preprocessed("peer"),
        results=made.results("peer"),
        entry=plan.raw["configurations"][CONFIGURATION],
    )
    return made


def prepare_own(excerpt: Excerpt, raw: RawDataset, folder: Path) -> Plan:
    fingerprint = fingerprint_dataset(raw)
    reader = raw.reader().name
    plan = make_plan(fingerprint, raw.description, dataset_name=raw.name, image_reader_writer=reader)
    plan = plan.with_configuration(CONFIGURATION, small_configuration(plan, excerpt))
    result = preprocess_dataset(raw, plan, [CONFIGURATION], folder, workers=1)
    assert not result.failures
    fingerprint.write(folder / "dataset_fingerprint.json")
    plan.write(folder / "nnUNetPlans.json")
    return plan


@pytest.fixture(scope="module")
def trained(both: Both) -> Both:
    """One epoch by nnunetv2 from Segwright's folder, and one by Segwright from nnunetv2's folder."""
    both.peer(
        "train",
        preprocessed=both.preprocessed("own"),
        results=both.results("peer"),
        settings=settings(1, both.excerpt.iterations),
        **{"continue": False},
    )
    outcome = train(
        both.plan("peer"),
        CONFIGURATION,
        0,
        preprocessed_folder=both.preprocessed("peer"),
        results_folder=both.results("own"),
        flags={**settings(1, both.excerpt.iterations), "recipe": "nnunet"},
        loader_workers=0,
    )
    assert outcome.finished
    assert outcome.fold_folder == both.results("own") / FOLD
    return both


def checkpoint_of(results: Path) -> dict[str, Any]:
    return read_checkpoint(results / FOLD / "checkpoint_final.pth")


def test_each_trains_an_epoch_in_the_others_folder(trained: Both) -> None:
    by_peer, by_own = (checkpoint_of(trained.results(by)) for by in ("peer", "own"))
    assert by_peer.keys() == by_own.keys() - {"segwright"}
    assert list(by_peer["network_weights"]) == list(by_own["network_weights"])
    assert by_peer["logging"].keys() == by_own["logging"].keys()
    for checkpoint in (by_peer, by_own):
        assert checkpoint["current_epoch"] == 1
        assert {len(values) for values in checkpoint["logging"].values()} == {1}
        assert checkpoint["logging"]["lrs"] == [RATE]
    for key in ("trainer_name", "inference_allowed_mirroring_axes"):
        assert by_peer[key] == by_own[key]
    own_splits, peer_splits = (trained.preprocessed(by) / "splits_final.json" for by in ("own", "peer"))
    assert json.loads(own_splits.read_text()) == json.loads(peer_splits.read_text())


def test_validations_are_scored_alike(trained: Both) -> None:
    """Segwright scores the label maps that nnunetv2 wrote after its training, and finds what nnunetv2 found."""
    folder = trained.results("peer") / FOLD / "validation"
    description = trained.raw.description
    expected = Summary.read(folder / "summary.json")
    found = evaluate_folder(
        folder,
        trained.preprocessed("own") / "gt_segmentations",
        labels=description.labels,
        file_ending=description.file_ending,
        reader=trained.raw.reader(),
        case_ids=[case.case_id for case in expected.metric_per_case],
    )
    assert expected.foreground_mean["n_pred"] > 0
    assert found.foreground_mean == pytest.approx(expected.foreground_mean, nan_ok=True)
    for value, metrics in expected.mean.items():
        assert found.mean[value] == pytest.approx(metrics, nan_ok=True)


@dataclass(frozen=True)
class Prediction:
    """The model that one of them trained, used with or without mirroring."""

    trained_by: str
    mirroring: bool

    def folder(self, root: Path, predicted_by: str) -> Path:
        kind = "mirrored" if self.mirroring else "plain"
        return root / "predictions" / f"trained_by_{self.trained_by}_{kind}" / predicted_by


PREDICTIONS = [Prediction(by, mirroring) for by in ("peer", "own") for mirroring in (True, False)]


@pytest.fixture(scope="module")
def predicted(trained: Both) -> Both:
    """nnunetv2's predictions with both models."""
    runs = []
    for prediction in PREDICTIONS:
        output = prediction.folder(trained.root, "peer")
        output.mkdir(parents=True)
        model = trained.results(prediction.trained_by) / MODEL
        runs.append({"model": str(model), "output": str(output), "mirroring": prediction.mirroring})
    trained.peer(
        "predict",
        preprocessed=trained.preprocessed("own"),
        results=trained.results("peer"),
        images=str(trained.raw.folder / "imagesTs"),
        runs=runs,
    )
    return trained


class RecordingPredictor(Predictor):
    """Keeps the logits that label maps are made of."""

    recorded: ClassVar[list[NDArray[np.float32]]] = []

    def predict_logits(self, data: NDArray[np.float32], **more: Any) -> torch.Tensor:
        logits = super().predict_logits(data, **more)
        self.recorded.append(logits.numpy())
        return logits


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda prediction: prediction.folder(Path(), "").name)
def test_same_weights_give_the_same_logits_and_label_maps(predicted: Both, prediction: Prediction) -> None:
    model = predicted.results(prediction.trained_by) / MODEL
    predictor = RecordingPredictor.from_folder(model, mirroring=prediction.mirroring)
    assert predictor.mirror_axes == ((0, 1, 2) if prediction.mirroring else ())
    own, peer = (prediction.folder(predicted.root, by) for by in ("own", "peer"))
    RecordingPredictor.recorded.clear()
    result = predict_folder(predictor, predicted.raw.folder / "imagesTs", own)
    assert not result.failures
    assert len(result.done) == predicted.excerpt.test
    reader = reader_named(predictor.plan.image_reader_writer)
    for number, case_id in enumerate(result.done):
        with np.load(peer / f"recorded_{number}.npz") as recorded:
            compare_logits(RecordingPredictor.recorded[number], recorded["single"], recorded["as_it_is"])
        mine, theirs = (reader.read_labels(folder / f"{case_id}.nii.gz") for folder in (own, peer))
        agreeing, foreground = (float(part.mean()) for part in (mine.array == theirs.array, theirs.array > 0))
        print(f"{prediction} {case_id}: label maps agree in {agreeing:.6f}, foreground {foreground:.4f}")
        assert foreground > LEAST_FOREGROUND, "a model that finds nothing compares nothing"
        assert mine.geometry == theirs.geometry
        assert agreeing >= 0.999


def compare_logits(own: NDArray[Any], single: NDArray[Any], as_it_is: NDArray[Any]) -> None:
    extent = float(np.ptp(single))
    in_single = float(np.abs(own - single).max())
    in_half = np.abs(own - as_it_is)
    print(f"logits of range {extent:.1f} differ by {in_single:.1e}, from sums in half precision by {in_half.max():.1e}")
    close = float((in_half <= 1e-3 * extent).mean())
    print(f"{close:.4f} of them differ from those by less than 1e-3 of the range")
    assert close >= LEAST_CLOSE_TO_HALF
    assert in_half.max() <= 0.5 + 1e-3 * extent
    assert in_single <= 1e-3


def test_steps_from_either_checkpoint_are_the_same(trained: Both) -> None:
    """Weights and momentum have arrived: from each checkpoint both take the same steps on the same batches."""
    trainers = {by: restored_trainer(trained, by) for by in ("peer", "own")}
    batches, _ = trainers["peer"].get_dataloaders()
    some = [{key: batch[key] for key in ("data", "target")} for batch, _ in zip(batches, range(STEPS), strict=False)]
    torch.save(some, trained.root / "batches.pth")
    trained.peer(
        "step",
        preprocessed=trained.preprocessed("own"),
        results=trained.results("peer"),
        settings=settings(2, STEPS),
        batches=str(trained.root / "batches.pth"),
        runs=[
            {"results": str(trained.results(by).parent), "answer": str(trained.root / f"steps_{by}.pth")}
            for by in trainers
        ],
    )
    for by, trainer in trainers.items():
        answer = torch.load(trained.root / f"steps_{by}.pth", weights_only=True)
        before = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
        trainer.on_train_epoch_start()
        losses = [trainer.train_step(batch)["loss"] for batch in some]
        assert answer["epoch"] == trainer.current_epoch == 1
        assert losses == pytest.approx(answer["losses"], abs=1e-5)
        compare_steps(before, dict(trainer.network.named_parameters()), answer["weights"])


def compare_steps(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """The weights have moved by the same amounts, but for the rounding of a few steps."""
    assert list(after) == list(expected)
    moved, differing = (
        torch.cat([(weights[name] - reference[name]).detach().flatten() for name in before])
        for weights, reference in ((after, before), (after, expected))
    )
    assert moved.norm() > 0
    assert differing.norm() <= 1e-4 * moved.norm()


def restored_trainer(both: Both, trained_by: str) -> Trainer:
    """A trainer as `train` makes it to go on from a checkpoint for a second epoch."""
    plan = both.plan("own")
    folder = both.results(trained_by) / FOLD
    trainer = Trainer(plan.raw, CONFIGURATION, 0, both.raw.description.raw, device=torch.device("cpu"))
    store = PreprocessedStore(both.preprocessed("own") / trainer.configuration.data_identifier)
    path = folder / "checkpoint_final.pth"
    checkpoint = Checkpoint.read(path)
    trainer.prepare(
        store=store,
        split=split_for_fold(read_splits(both.preprocessed("own") / "splits_final.json"), 0, store.case_ids()),
        output_folder=folder,
        flags=settings(2, STEPS),
        resumed=checkpoint.settings,
    )
    trainer.restore(checkpoint)
    return trainer


@pytest.mark.parametrize("name", ["checkpoint_final.pth", "checkpoint_latest.pth"])
def test_segwright_goes_on_with_a_training_that_nnunet_began(trained: Both, name: str) -> None:
    begun = checkpoint_of(trained.results("peer"))
    results = copy_results(trained, "peer", f"own_from_{name}")
    (results / FOLD / "checkpoint_final.pth").rename(results / FOLD / name)
    outcome = train(
        trained.plan("own"),
        CONFIGURATION,
        0,
        preprocessed_folder=trained.preprocessed("own"),
        results_folder=results,
        flags=settings(2, ITERATIONS_GOING_ON),
        resume=True,
        loader_workers=0,
    )
    assert outcome.finished
    assert outcome.fold_folder == results / FOLD
    assert json.loads((outcome.fold_folder / "settings.json").read_text())["recipe"]["name"] == "nnunet"
    compare_continuation(begun, checkpoint_of(results))


def test_nnunet_goes_on_with_a_training_that_segwright_began(trained: Both) -> None:
    results = copy_results(trained, "own", "peer")
    trained.peer(
        "train",
        preprocessed=trained.preprocessed("peer"),
        results=results,
        settings=settings(2, ITERATIONS_GOING_ON),
        **{"continue": True},
    )
    compare_continuation(checkpoint_of(trained.results("own")), checkpoint_of(results))
    assert (results / FOLD / "validation" / "summary.json").is_file()


def copy_results(both: Both, trained_by: str, continued_by: str) -> Path:
    target = both.root / f"results_{trained_by}_continued_by_{continued_by}" / both.excerpt.dataset
    shutil.copytree(both.results(trained_by), target)
    return target


def compare_continuation(begun: Mapping[str, Any], continued: Mapping[str, Any]) -> None:
    """One epoch more, after the first one's entries and with the second one's rate."""
    assert continued["current_epoch"] == 2
    for key, values in continued["logging"].items():
        assert len(values) == 2, key
        assert values[0] == pytest.approx(begun["logging"][key][0], nan_ok=True), key
    assert continued["logging"]["lrs"] == pytest.approx([RATE, RATE * 0.5**0.9])
    before, after = begun["network_weights"], continued["network_weights"]
    assert list(before) == list(after)
    assert any(not torch.equal(before[key], after[key]) for key in before)
