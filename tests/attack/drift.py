"""Plans and data sets that are edited between two commands: weights, arrays and plan no longer belong together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

from attack.checkpoints import same_label_maps, unfinished
from attack.commands import CONTINUE, HERE, PREDICT, PREPROCESS, TRAIN_0, TRAIN_1, together
from attack.engine import Attack, done, refused, refused_or_warned
from attack.place import Place, edit_json
from attack.runner import Outcome

FAMILY = "drift"
MODEL_FILES = tuple(
    f"results/Dataset001_Balls/nnUNetTrainer__nnUNetPlans__3d_fullres/{name}" for name in ("plans.json", "dataset.json")
)
# By the way to the key within the configuration; each changes what the network is given, or what it does with it.
EDITS: dict[str, Any] = {
    "normalization_schemes": ["NoNormalization"],
    "spacing": [2.0, 1.0, 1.0],
    "patch_size": [20, 16, 24],
    "use_mask_for_norm": [True],
    "resampling_fn_data_kwargs/order": 0,
    "resampling_fn_probabilities_kwargs/order": 0,
    "architecture/arch_kwargs/nonlin": "torch.nn.ReLU",
    "architecture/arch_kwargs/norm_op_kwargs": {"eps": 0.5, "affine": True},
    "architecture/arch_kwargs/nonlin_kwargs": {"negative_slope": 0.9, "inplace": True},
    "architecture/arch_kwargs/kernel_sizes": [[1, 1, 1], [3, 3, 3], [3, 3, 3]],
    "architecture/arch_kwargs/strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
}
# Keys that the stored arrays depend on.
OF_THE_STORE = ("normalization_schemes", "spacing", "use_mask_for_norm", "resampling_fn_data_kwargs/order")


def attacks() -> Iterator[Attack]:
    """Edits after training and edits after preprocessing, before each command that would not notice."""
    for way, value in EDITS.items():
        key, name = way.split("/")[-1], way.split("/")[-1]
        if "probabilities" in way:
            name = "probabilities-order"
        edit = partial(_edit, way=way, value=value)
        top = way.split("/")[0] if way.endswith("/order") else key
        for state, prepare in (("trained", edit), ("stopped", together(unfinished, edit))):
            yield Attack(
                f"{name}-{state}-continue",
                FAMILY,
                CONTINUE,
                refused(top),
                prepare,
                keeps=MODEL_FILES,
            )
        model = partial(_edit, way=way, value=value, of_model=True)
        yield Attack(f"{name}-in-the-model-predict", FAMILY, PREDICT, refused(top), model)
        # a second fold in the folder of the first: one plans.json for both
        prepare = together(edit, _make_store) if way in OF_THE_STORE else edit
        yield Attack(f"{name}-second-fold", FAMILY, TRAIN_1, refused(top), prepare, keeps=MODEL_FILES)
    for way in OF_THE_STORE:
        edit = partial(_edit, way=way, value=EDITS[way])
        top = way.split("/")[0]
        prepare = together(_without_results, edit)
        yield Attack(f"{top}-train-without-preprocess", FAMILY, TRAIN_0, refused(top), prepare)
    yield from _other()


def _other() -> Iterator[Attack]:
    labels = partial(_edit_description, labels={"background": 0, "core": 1, "shell": 2})
    channels = partial(_edit_description, channel_names={"0": "CT"})
    yield Attack("labels-swapped-continue", FAMILY, CONTINUE, refused("labels"), labels, keeps=MODEL_FILES)
    yield Attack("labels-swapped-second-fold", FAMILY, TRAIN_1, refused("labels"), labels, keeps=MODEL_FILES)
    yield Attack("channel-renamed-continue", FAMILY, CONTINUE, refused_or_warned("channel_names"), channels)
    more = partial(_edit_description, labels={"background": 0, "shell": 1, "core": 2, "more": 3})
    yield Attack("labels-more-continue", FAMILY, CONTINUE, refused("labels"), more, keeps=MODEL_FILES)
    fewer = partial(_edit_description, labels={"background": 0, "shell": 1})
    yield Attack("labels-fewer-continue", FAMILY, CONTINUE, refused("labels"), fewer, keeps=MODEL_FILES)
    yield Attack("labels-fewer-train", FAMILY, TRAIN_0, refused("label"), together(_without_results, fewer))
    yield Attack(
        "transpose-continue",
        FAMILY,
        CONTINUE,
        refused("transpose_forward"),
        lambda place: place.edit_plan(
            lambda plan, _: plan.update(transpose_forward=[0, 2, 1], transpose_backward=[0, 2, 1])
        ),
        keeps=MODEL_FILES,
    )
    yield Attack(
        "reader-continue",
        FAMILY,
        CONTINUE,
        refused_or_warned("image_reader_writer"),
        lambda place: place.edit_plan(lambda plan, _: plan.update(image_reader_writer="NibabelIO")),
    )
    yield Attack("batch_size-continue", FAMILY, CONTINUE, done(), partial(_edit, way="batch_size", value=1))
    yield Attack("untouched-continue", FAMILY, CONTINUE, done(), check=_two_epochs)
    yield Attack("formatted-anew-continue", FAMILY, CONTINUE, done(), lambda place: edit_json(place.plans, _reordered))
    yield Attack(
        "accepted-continue",
        FAMILY,
        (*CONTINUE, "--accept-plan"),
        done(),
        partial(_edit, way="resampling_fn_probabilities_kwargs/order", value=0),
    )
    yield Attack("unset-configuration", FAMILY, CONTINUE, refused("3d_fullres"), _without_configuration)
    yield Attack("other-plan-in-its-place", FAMILY, CONTINUE, refused(), _planned_anew, keeps=MODEL_FILES)
    yield Attack("store-of-fewer-cases", FAMILY, TRAIN_0, refused("ballTr_001"), _lose_a_case)
    yield Attack("store-of-other-plans", FAMILY, TRAIN_0, refused("spacing"), _store_of_other_plans)
    yield Attack("predict-of-edited-labels", FAMILY, PREDICT, refused("labels"), _edit_model_labels)
    yield Attack("predict-with-foreign-plans", FAMILY, PREDICT, done(), _reorder_model, check=_same_as_before)
    yield Attack("preprocess-other-spacing", FAMILY, PREPROCESS, done(), partial(_edit, way="spacing", value=[2, 1, 1]))


def _edit(place: Place, *, way: str, value: Any, of_model: bool = False) -> None:
    def change(_: dict[str, Any], configuration: dict[str, Any]) -> None:
        *above, key = way.split("/")
        inner = configuration
        for step in above:
            inner = inner[step]
        inner[key] = value

    place.edit_plan(change, place.model / "plans.json" if of_model else None)


def _edit_description(place: Place, **keys: Any) -> None:
    edit_json(place.preprocessed / "dataset.json", lambda value: {**value, **keys})


def _edit_model_labels(place: Place) -> None:
    labels = {"background": 0, "core": 1, "shell": 2}
    edit_json(place.model / "dataset.json", lambda value: {**value, "labels": labels})


def _without_results(place: Place) -> None:
    shutil.rmtree(place.results)


def _make_store(place: Place) -> None:
    place.run(*PREPROCESS)


def _reordered(value: Any) -> Any:
    """The same in another order of the keys, with whole numbers written as fractions."""
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return value


def _reorder_model(place: Place) -> None:
    place.run(*PREDICT[:2], "{workspace}/before", *PREDICT[3:])
    edit_json(place.model / "plans.json", _reordered)


def _same_as_before(place: Place, outcome: Outcome) -> str | None:
    return same_label_maps(place.out, place.workspace / "before")


def _without_configuration(place: Place) -> None:
    def change(plan: dict[str, Any], _: dict[str, Any]) -> None:
        del plan["configurations"]["3d_fullres"]  # a value returned by this would be written as the whole plan

    place.edit_plan(change)


def _planned_anew(place: Place) -> None:
    """The features are the planner's own again, so the weights do not fit."""
    place.plans.unlink()
    place.run("plan", "1", *HERE, "--workers", "1")


def _lose_a_case(place: Place) -> None:
    for path in place.store.glob("ballTr_001*"):
        path.unlink()


def _store_of_other_plans(place: Place) -> None:
    """Arrays that another plan made, under this plan's name."""
    _without_results(place)
    original = place.plans.read_text()
    place.edit_plan(lambda _, configuration: configuration.update(spacing=[2.0, 1.0, 1.0]))
    place.run(*PREPROCESS)
    place.plans.write_text(original)


def _two_epochs(place: Place, outcome: Outcome) -> str | None:
    lines = [json.loads(line) for line in (place.fold / "training_log.jsonl").read_text().splitlines()]
    return None if any(line.get("event") == "resume" for line in lines) else "it did not go on from the checkpoint"
