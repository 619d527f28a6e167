"""What a training goes on from: damage, another checkpoint, a plan that was edited, a store made otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from segwright.dataset import DatasetDescription
from segwright.errors import CheckpointError, MissingFileError, PlanError
from segwright.inference import Predictor
from segwright.interop import Checkpoint, read_checkpoint, write_checkpoint
from segwright.planning.plan import Plan
from segwright.training.run import TrainingOutcome, train

SHORT = {"num_epochs": 3, "num_iterations_per_epoch": 1, "num_val_iterations_per_epoch": 1}


class Events:
    """Keeps the events of a training."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.values: dict[str, Mapping[str, Any]] = {}

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        self.names.append(name)
        self.values[name] = values


def run(tiny: Any, results: Path, *, plan: Plan | None = None, fold: int = 0, **kwargs: Any) -> TrainingOutcome:
    arguments = {"flags": SHORT, "preprocessed_folder": tiny.preprocessed, "loader_workers": 0, **kwargs}
    return train(plan or tiny.plan, tiny.configuration, fold, results_folder=results, **arguments)


@pytest.fixture(scope="module")
def trained(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a finished training of fold 0, which nothing may change."""
    results = tmp_path_factory.mktemp("trained")
    run(tiny, results)
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "results")
    return tmp_path / "results"


def fold_of(results: Path, fold: int = 0) -> Path:
    return next(results.iterdir()) / f"fold_{fold}"


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tiny: Any, results: Path, trained: Path) -> None:
    damage(fold_of(results) / "checkpoint_final.pth")
    best = Checkpoint.read(fold_of(results) / "checkpoint_best.pth").progress.epoch
    events = Events()
    outcome = run(tiny, results, resume=True, monitor=events)
    assert events.names[:2] == ["damaged_checkpoint", "resume"]
    assert "checkpoint_final.pth" in events.values["damaged_checkpoint"]["problem"]
    assert events.values["resume"]["epoch"] == best
    assert Path(events.values["resume"]["from_checkpoint"]).name == "checkpoint_best.pth"
    assert outcome.finished
    again, before = (
        read_checkpoint(fold_of(place) / "checkpoint_final.pth")["network_weights"] for place in (results, trained)
    )
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_nothing_whole_is_refused_and_nothing_is_changed(tiny: Any, results: Path) -> None:
    paths = [fold_of(results) / f"checkpoint_{name}.pth" for name in ("final", "best")]
    for path in paths:
        damage(path)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(CheckpointError) as caught:
        run(tiny, results, resume=True)
    assert all(str(path) in str(caught.value) for path in paths)
    assert [path.read_bytes() for path in paths] == before


def test_a_damaged_model_does_not_predict(results: Path) -> None:
    Predictor.from_folder(next(results.iterdir()))
    damage(fold_of(results) / "checkpoint_final.pth")
    with pytest.raises(CheckpointError, match=r"checkpoint_final\.pth"):
        Predictor.from_folder(next(results.iterdir()))


def test_a_chosen_checkpoint_takes_the_place_of_newer_ones(tiny: Any, results: Path, trained: Path) -> None:
    best = fold_of(results) / "checkpoint_best.pth"
    epoch = Checkpoint.read(best).progress.epoch
    events = Events()
    run(tiny, results, checkpoint=best, monitor=events)
    assert events.values["resume"]["epoch"] == epoch
    moved = Path(events.values["resume"]["earlier_training_moved_to"])
    assert (moved / "checkpoint_final.pth").is_file()
    again, before = (
        read_checkpoint(fold_of(place) / "checkpoint_final.pth")["network_weights"] for place in (results, trained)
    )
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_a_chosen_checkpoint_is_there_to_go_on_from_at_once(tiny: Any, results: Path) -> None:
    class Stop(Events):
        def event(self, name: str, values: Mapping[str, Any]) -> None:
            if name == "resume":
                raise KeyboardInterrupt

    best = fold_of(results) / "checkpoint_best.pth"
    epoch = Checkpoint.read(best).progress.epoch
    with pytest.raises(KeyboardInterrupt):
        run(tiny, results, checkpoint=best, monitor=Stop())
    assert Checkpoint.read(fold_of(results) / "checkpoint_latest.pth").progress.epoch == epoch


def test_the_newest_checkpoint_chosen_by_name_moves_nothing(tiny: Any, results: Path) -> None:
    events = Events()
    run(tiny, results, checkpoint=fold_of(results) / "checkpoint_final.pth", monitor=events)
    assert events.values["resume"]["earlier_training_moved_to"] is None
    assert "checkpoint" not in events.names


def test_checkpoints_of_something_else_are_refused(tiny: Any, results: Path, tmp_path: Path) -> None:
    final = fold_of(results) / "checkpoint_final.pth"
    with pytest.raises(CheckpointError, match="fold 1"):
        run(tiny, results, fold=1, checkpoint=final)
    with pytest.raises(MissingFileError, match="absent"):
        run(tiny, results, checkpoint=tmp_path / "absent.pth")
    weights_only = tmp_path / "weights.pth"
    write_checkpoint(weights_only, {"network_weights": read_checkpoint(final)["network_weights"]})
    with pytest.raises(CheckpointError, match="'optimizer_state'"):
        run(tiny, results, checkpoint=weights_only)


def edited(tiny: Any, key: str, value: Any) -> Plan:
    if key in tiny.plan.raw:
        return Plan.from_json({**tiny.plan.raw, key: value})
    entry = dict(tiny.plan.configuration("tiny").raw)
    where = entry
    *above, last = key.split(".")
    for name in above:
        where[name] = dict(where[name])
        where = where[name]
    where[last] = value
    return tiny.plan.with_configuration("tiny", entry)


ARRAYS = [
    ("spacing", [1.1, 1.1, 1.1], "spacing"),
    ("normalization_schemes", ["NoNormalization"], "normalization_schemes"),
    ("resampling_fn_data_kwargs.order", 1, r"resampling_fn_data_kwargs\.order"),
    ("image_reader_writer", "NibabelIO", "image_reader_writer"),
]
NETWORK = [
    ("architecture.arch_kwargs.nonlin", "torch.nn.ReLU", "architecture.nonlin"),
    ("architecture.arch_kwargs.nonlin_kwargs", {"negative_slope": 0.5}, "architecture.nonlin_kwargs"),
]
PROBABILITIES = "resampling_fn_probabilities_kwargs.order"
HARMLESS = [
    ("patch_size", [16, 16, 16], "patch_size"),
    ("batch_dice", True, "batch_dice"),
    (PROBABILITIES, 0, PROBABILITIES),
]


@pytest.mark.parametrize(("key", "value", "named"), ARRAYS)
def test_a_store_made_otherwise_is_refused(tiny: Any, tmp_path: Path, key: str, value: Any, named: str) -> None:
    with pytest.raises(PlanError, match=named):
        run(tiny, tmp_path, plan=edited(tiny, key, value))
    assert not list(tmp_path.iterdir())


def test_a_store_of_nnunet_says_nothing_and_is_taken(tiny: Any, tmp_path: Path) -> None:
    preprocessed = tmp_path / "preprocessed"
    shutil.copytree(tiny.preprocessed, preprocessed)
    for record in preprocessed.glob("*/segwright"):
        shutil.rmtree(record)
    plan = edited(tiny, "normalization_schemes", ["NoNormalization"])
    assert run(tiny, tmp_path / "results", plan=plan, preprocessed_folder=preprocessed).finished


@pytest.mark.parametrize(("key", "value", "named"), [*NETWORK, *HARMLESS])
def test_an_edited_plan_does_not_go_on(tiny: Any, results: Path, key: str, value: Any, named: str) -> None:
    plans = (next(results.iterdir()) / "plans.json").read_bytes()
    with pytest.raises(PlanError, match=named):
        run(tiny, results, plan=edited(tiny, key, value), resume=True)
    assert (next(results.iterdir()) / "plans.json").read_bytes() == plans


@pytest.mark.parametrize(("key", "value", "named"), NETWORK)
def test_a_network_of_another_kind_cannot_be_accepted(
    tiny: Any, results: Path, key: str, value: Any, named: str
) -> None:
    with pytest.raises(PlanError, match=named):
        run(tiny, results, plan=edited(tiny, key, value), resume=True, accept_plan=True)


def test_a_harmless_change_can_be_accepted(tiny: Any, results: Path) -> None:
    events = Events()
    plan = edited(tiny, "batch_dice", not tiny.plan.configuration("tiny").batch_dice)
    outcome = run(tiny, results, plan=plan, resume=True, accept_plan=True, monitor=events)
    assert outcome.finished
    assert [change.split()[0] for change in events.values["resume"]["accepted_plan_changes"]] == ["batch_dice"]
    assert Plan.read(outcome.model_folder / "plans.json") == plan


def test_settings_of_a_training_may_change(tiny: Any, results: Path) -> None:
    assert run(tiny, results, plan=edited(tiny, "batch_size", 1), resume=True).finished
    assert run(tiny, results, plan=edited(tiny, "num_epochs", 4), resume=True).finished


def test_another_fold_of_the_model_keeps_its_plan(tiny: Any, results: Path) -> None:
    plan = edited(tiny, "architecture.arch_kwargs.nonlin", "torch.nn.ReLU")
    model = next(results.iterdir())
    before = (model / "plans.json").read_bytes()
    with pytest.raises(PlanError, match=r"architecture\.nonlin"):
        run(tiny, results, plan=plan, fold=1)
    assert (model / "plans.json").read_bytes() == before
    # the only fold may start anew with it
    assert run(tiny, results, plan=plan).finished


def test_a_plan_edited_beside_the_weights_does_not_predict(results: Path) -> None:
    model = next(results.iterdir())
    raw = json.loads((model / "plans.json").read_text())
    entry = raw["configurations"]["tiny"]
    (model / "plans.json").write_text(
        json.dumps({**raw, "transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]})
    )
    with pytest.raises(PlanError, match="transpose_forward"):
        Predictor.from_folder(model)
    entry["batch_dice"] = True
    (model / "plans.json").write_text(json.dumps(raw))
    assert any("batch_dice" in warning for warning in Predictor.from_folder(model).warnings)
    entry["patch_size"] = [16, 16, 16]
    (model / "plans.json").write_text(json.dumps(raw))
    with pytest.raises(PlanError, match="patch_size"):
        Predictor.from_folder(model)
    assert Predictor.from_folder(model, accept_plan=True).configuration.patch_size == (16, 16, 16)


def test_labels_that_swapped_their_names_do_not_predict(results: Path) -> None:
    model = next(results.iterdir())
    raw = json.loads((model / "dataset.json").read_text())
    background, first, second = raw["labels"]
    for labels, refused in (((background, second, first), True), ((background, first, "renamed"), False)):
        swapped = {name: value for value, name in enumerate(labels)}
        (model / "dataset.json").write_text(json.dumps({**raw, "labels": swapped}))
        if refused:
            with pytest.raises(PlanError, match="labels"):
                Predictor.from_folder(model, accept_plan=True)
        else:
            assert any("labels" in warning for warning in Predictor.from_folder(model).warnings)


def test_labels_that_changed_their_meaning_are_refused(tiny: Any, tmp_path: Path, results: Path) -> None:
    preprocessed = tmp_path / "preprocessed"
    shutil.copytree(tiny.preprocessed, preprocessed)
    raw = dict(DatasetDescription.read(preprocessed / "dataset.json").raw)
    raw["labels"] = dict(zip(raw["labels"], [0, 2, 1], strict=True))
    (preprocessed / "dataset.json").write_text(json.dumps(raw))
    with pytest.raises(PlanError, match="labels"):
        run(tiny, tmp_path / "other", preprocessed_folder=preprocessed)
    for record in preprocessed.glob("*/segwright"):
        shutil.rmtree(record)
    with pytest.raises(PlanError, match="labels"):
        run(tiny, results, resume=True, accept_plan=True, preprocessed_folder=preprocessed)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"optimizer_state": {"state": {0: {"momentum_buffer": 3}}, "param_groups": []}}, "optimizer_state"),
        ({"optimizer_state": {}}, "optimizer_state"),
        ({"logging": {"train_losses": "none"}}, "logging.train_losses"),
        ({"logging": {}}, "logging"),
        ({"current_epoch": 7}, "logging"),
        ({"network_weights": {}}, "network"),
    ],
)
def test_odd_states_are_refused_by_key(
    tiny: Any, results: Path, tmp_path: Path, changed: dict[str, Any], key: str
) -> None:
    path = tmp_path / "odd.pth"
    write_checkpoint(path, {**read_checkpoint(fold_of(results) / "checkpoint_final.pth"), **changed})
    with pytest.raises(CheckpointError, match=key):
        run(tiny, results, checkpoint=path)
    assert (fold_of(results) / "checkpoint_final.pth").is_file()
