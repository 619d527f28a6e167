"""Numbers that no machine can do, and settings that no network has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from attack.commands import (
    CHECK,
    CHECK_FOREIGN,
    CONTINUE,
    EXPLAIN,
    HERE,
    OVERWRITE,
    PLAN,
    PREDICT,
    PREPROCESS,
    REPORT,
    TRAIN_0,
    Prepare,
    foreign,
    with_description,
    with_network,
    with_plan,
)
from attack.engine import Attack, Expectation, answered, refused
from attack.place import Place, edit_json

FAMILY = "numbers"
# What is refused by a look at it takes no longer than the start.
SOON = 15
SMALL = 1 << 30
# By what is edited in the plan, and the key to name.
PLANS: dict[str, tuple[Prepare, str]] = {
    "batch-1e9": (with_plan(batch_size=10**9), "batch_size"),
    "batch-1e400": (with_plan(batch_size=10**400), "nnUNetPlans.json"),
    "patch-1e6": (with_plan(patch_size=[10**6] * 3), "patch_size"),
    "patch-4096": (with_plan(patch_size=[4096] * 3), "patch_size"),
    "features-1e9": (with_network(features_per_stage=[10**9] * 3), "features_per_stage"),
    "features-1e30": (with_network(features_per_stage=[10**30] * 3), "nnUNetPlans.json"),
    "convs-1e6": (with_network(n_conv_per_stage=[10**6] * 3), "n_conv_per_stage"),
    "convs-decoder-1e6": (with_network(n_conv_per_stage_decoder=[10**6] * 2), "n_conv_per_stage_decoder"),
    "stages-1e6": (with_network(n_stages=10**6), "n_stages"),
    "stages-1e6-listed": (
        with_network(
            n_stages=10**5,
            features_per_stage=[1] * 10**5,
            kernel_sizes=[[1, 1, 1]] * 10**5,
            strides=[[1, 1, 1]] * 10**5,
            n_conv_per_stage=[1] * 10**5,
            n_conv_per_stage_decoder=[1] * (10**5 - 1),
        ),
        "stage",
    ),
    "kernel-1e6": (with_network(kernel_sizes=[[10**6 + 1] * 3] * 3), "kernel_sizes"),
    "kernel-even": (with_network(kernel_sizes=[[2, 2, 2]] * 3), "kernel_sizes"),
    "first-stride-2": (with_network(strides=[[2, 2, 2], [1, 1, 1], [2, 2, 2]]), "strides"),
    "stride-0": (with_network(strides=[[1, 1, 1], [0, 1, 1], [2, 2, 2]]), "strides"),
    "stride-1e9": (with_network(strides=[[1, 1, 1], [10**9] * 3, [2, 2, 2]]), "stride"),
    "dropout-2": (
        with_network(dropout_op="torch.nn.Dropout3d", dropout_op_kwargs={"p": 2.0}),
        "dropout_op_kwargs",
    ),
    "norm-eps-nan": (with_network(norm_op_kwargs={"eps": float("nan"), "affine": True}), "norm_op_kwargs"),
    "norm-eps-text": (with_network(norm_op_kwargs={"eps": "small"}), "norm_op_kwargs"),
    "norm-unknown-key": (with_network(norm_op_kwargs={"epsilon": 1e-5}), "norm_op_kwargs"),
    "nonlin-unknown-key": (with_network(nonlin_kwargs={"slope": 1}), "nonlin_kwargs"),
    "nonlin-of-os": (with_network(nonlin="os.system"), "nonlin"),
    "conv-of-other-dims": (with_network(conv_op="torch.nn.modules.conv.Conv2d"), "conv_op"),
    "norm-of-other-dims": (with_network(norm_op="torch.nn.modules.instancenorm.InstanceNorm2d"), "norm_op"),
}
WHILE_PREPROCESSING: dict[str, tuple[Prepare, str]] = {
    "spacing-1e-9": (with_plan(spacing=[1e-9] * 3), "spacing"),
    "spacing-1e-300": (with_plan(spacing=[1e-300] * 3), "spacing"),
    "spacing-1e300": (with_plan(spacing=[1e300] * 3), "spacing"),
    "spacing-0.01": (with_plan(spacing=[0.01] * 3), "spacing"),
    "median-1e18": (with_plan(median_image_size_in_voxels=[1e18] * 3), ""),
    "order-1e6": (with_plan(resampling_fn_data_kwargs={"order": 10**6, "is_seg": False}), "order"),
}
FLAGS: dict[str, tuple[str, ...]] = {
    "batch-1e6": ("--batch-size", "1000000"),
    "batch-1e12": ("--batch-size", "1000000000000"),
    "batch-1e30": ("--batch-size", "1" + "0" * 30),
    "batch-0": ("--batch-size", "0"),
    "epochs-0": ("--epochs", "0"),
    "epochs-minus": ("--epochs", "-1"),
    "epochs-1e30": ("--epochs", "1" + "0" * 30),
    "iterations-1e30": ("--iterations-per-epoch", "1" + "0" * 30),
    "iterations-0": ("--iterations-per-epoch", "0"),
    "val-iterations-0": ("--val-iterations-per-epoch", "0"),
    "lr-nan": ("--lr", "nan"),
    "lr-inf": ("--lr", "inf"),
    "lr-1e300": ("--lr", "1e300"),
    "lr-minus": ("--lr", "-1"),
    "lr-0": ("--lr", "0"),
    "seed-2-70": ("--seed", str(2**70)),
    "seed-minus": ("--seed", "-1"),
    "workers-1e5": ("--workers", "100000"),
    "workers-1e30": ("--workers", "1" + "0" * 30),
    "workers-minus": ("--workers", "-3"),
    "device-none": ("--device", "cuda:99"),
    "device-meta": ("--device", "meta"),
}

# Nothing is learnt, or the loss is no number soon, which is found then.
_ALLOWED = {"lr-0", "lr-1e300", "val-iterations-0"}


def attacks() -> Iterator[Attack]:
    """Refused before anything is allocated, naming the key or the option."""
    limits: dict[str, Any] = {"cpu_seconds": SOON, "peak_bytes": SMALL}
    for what, (prepare, key) in PLANS.items():
        yield Attack(f"{what}-train", FAMILY, TRAIN_0, refused(key), prepare, **limits)
        yield Attack(f"{what}-explain", FAMILY, EXPLAIN, refused(key), prepare, **limits)
    for what, (prepare, key) in WHILE_PREPROCESSING.items():
        expect = Expectation(frozenset({1, 2}), (key,)) if key else answered()
        yield Attack(f"{what}-preprocess", FAMILY, OVERWRITE, expect, prepare, **limits)
    for what, words in FLAGS.items():
        # the option, or the setting that it is
        naming = Expectation(frozenset({2}), says_one_of=(words[0], words[0][2:], words[0][2:].replace("-", "_")))
        expect = answered() if what in _ALLOWED else naming
        yield Attack(f"flag-{what}-train", FAMILY, (*TRAIN_0, *words), expect, **limits)
    for what in ("batch-1e6", "batch-1e12", "epochs-1e30", "lr-nan"):
        yield Attack(f"flag-{what}-explain", FAMILY, (*EXPLAIN, *FLAGS[what]), refused(), **limits)
        yield Attack(f"flag-{what}-run", FAMILY, ("run", "1", *HERE, *FLAGS[what]), refused(), **limits)
    for verb in ("check", "plan", "preprocess"):
        for number in ("100000", "1" + "0" * 30, "0", "-1"):
            words = (verb, "1", *HERE, "--workers", number)
            yield Attack(f"workers-{number[:6]}-{len(number)}-{verb}", FAMILY, words, _few_workers(number), **limits)
    yield from _chains()
    yield from _labels()
    yield from _expressions()
    yield from _others()


def _few_workers(number: str) -> Expectation:
    # more than there are cases may be cut to their number
    return answered() if number == "100000" else refused()


def _chains() -> Iterator[Attack]:
    def chain(place: Place, *, length: int, loops: bool = False) -> None:
        def change(plan: dict[str, Any], _: dict[str, Any]) -> None:
            names = [f"c{number}" for number in range(length)]
            parents = [*names[1:], names[0] if loops else "3d_fullres"]
            plan["configurations"].update(
                {name: {"inherits_from": parent} for name, parent in zip(names, parents, strict=True)}
            )

        place.edit_plan(change)

    for length in (3000, 30_000):
        for loops in (False, True):
            prepare = partial(chain, length=length, loops=loops)
            expect = refused("inherits_from") if loops else answered()
            name = f"inherits-{length}{'-loop' if loops else ''}"
            yield Attack(name, FAMILY, ("explain", "1", "-c", "c0", *HERE), expect, prepare, cpu_seconds=30)
            argv = ("preprocess", "1", "-c", "c0", *HERE, "--workers", "1")
            yield Attack(f"{name}-preprocess", FAMILY, argv, expect, prepare, cpu_seconds=30)
    stages = partial(_stages, count=2000)
    yield Attack("previous-stages-2000", FAMILY, ("explain", "1", "-c", "s0", *HERE), answered(), stages)
    for key in ("plans", "dataset", "splits"):
        for what, text in {
            "deep": '{"a":' * 50_000 + "1" + "}" * 50_000,
            "long-number": "[" + "9" * 100_000 + "]",
            "nan": "NaN",
            "twice": '{"labels": {"a": 1}, "labels": {"b": 1}}',
        }.items():
            yield Attack(f"{key}-{what}", FAMILY, TRAIN_0, answered(), partial(_write, key=key, text=text))


def _stages(place: Place, *, count: int) -> None:
    stages = {f"s{n}": {"inherits_from": "3d_fullres", "previous_stage": f"s{n + 1}"} for n in range(count)}
    stages[f"s{count}"] = {"inherits_from": "3d_fullres"}
    place.edit_plan(lambda plan, _: plan["configurations"].update(stages))


def _write(place: Place, *, key: str, text: str) -> None:
    path = {
        "plans": place.plans,
        "dataset": place.preprocessed / "dataset.json",
        "splits": place.preprocessed / "splits_final.json",
    }[key]
    path.write_text(text)


def _labels() -> Iterator[Attack]:
    million = {"background": 0, **{f"l{number}": number for number in range(1, 10**6)}}
    raw = with_description("raw/Dataset001_Balls/dataset.json", labels=million)
    for verb, argv in (("check", CHECK), ("plan", PLAN), ("preprocess", PREPROCESS)):
        yield Attack(f"labels-1e6-{verb}", FAMILY, argv, refused("labels"), raw, cpu_seconds=30, peak_bytes=SMALL)
    preprocessed = with_description("preprocessed/Dataset001_Balls/dataset.json", labels=million)
    for verb, argv in (("train", TRAIN_0), ("explain", EXPLAIN), ("continue", CONTINUE)):
        yield Attack(
            f"labels-1e6-{verb}", FAMILY, argv, refused("labels"), preprocessed, cpu_seconds=30, peak_bytes=SMALL
        )
    model = "results/Dataset001_Balls/nnUNetTrainer__nnUNetPlans__3d_fullres/dataset.json"
    yield Attack(
        "labels-1e6-predict", FAMILY, PREDICT, refused(), with_description(model, labels=million), peak_bytes=SMALL
    )
    channels = {str(number): "MRI" for number in range(10**5)}
    yield Attack(
        "channels-1e5-check",
        FAMILY,
        CHECK,
        refused(),
        with_description("raw/Dataset001_Balls/dataset.json", channel_names=channels),
    )
    yield Attack(
        "label-1e30-check",
        FAMILY,
        CHECK,
        refused(),
        with_description("raw/Dataset001_Balls/dataset.json", labels={"background": 0, "a": 10**30}),
    )
    yield Attack(
        "label-70000-check",
        FAMILY,
        CHECK,
        refused(),
        with_description("raw/Dataset001_Balls/dataset.json", labels={"background": 0, "a": 70_000}),
    )
    for value in (10**30, -1, 0, "six", 1e300):
        numbered = with_description("raw/Dataset001_Balls/dataset.json", numTraining=value)
        yield Attack(f"numTraining-{value}", FAMILY, CHECK, answered(), numbered)


def _expressions() -> Iterator[Attack]:
    ids = {"a" * 40 + str(number): number for number in range(6)}
    for what, expression in {
        "nested": "(a+)+$",
        "alternatives": "(a|a)*$",
        "numbered": "(a*)*b\\1",
        "repeats": "a{1,60000}{1,60000}",
        "huge": "(" * 5000 + ")" * 5000,
        "empty": "",
        "bad": "(",
        "escape": "\x1b[31m(",
    }.items():
        for verb in ("check", "preprocess", "plan"):
            argv = (verb, "2", *HERE, "--workers", "1", "--group-by", expression)
            yield Attack(f"regex-{what}-{verb}", FAMILY, argv, refused(), partial(foreign, case_ids=ids))


def _others() -> Iterator[Attack]:
    for option, values in {"--gpu-memory": ("0", "-1", "nan", "inf", "1e300", "1e-9")}.items():
        for value in values:
            expect = refused() if value != "1e300" else answered()
            yield Attack(f"plan{option}-{value}", FAMILY, (*PLAN, option, value), expect)
    for value in ("nan", "0", "-1", "1e-9", "2"):
        yield Attack(f"step-size-{value}", FAMILY, (*PREDICT, "--step-size", value), refused())
    for value in (
        "batch_size=1000000000",
        "patch_size=1,1,1",
        "x=1",
        "=",
        "batch_size",
        "spacing=1e-300,1,1",
        "a.b.c=1",
    ):
        yield Attack(f"set-{value}", FAMILY, (*EXPLAIN, "--set", value), answered(), cpu_seconds=SOON, peak_bytes=SMALL)
    for what, text in {
        "nan": '{"epoch": NaN, "event": "epoch"}\n',
        "huge": '{"event": "epoch", "epoch": 1e308, "train_loss": 1e308, "val_loss": -1e308}\n' * 3,
        "million": '{"event": "epoch", "epoch": 1, "train_loss": 1, "val_loss": 1}\n' * 200_000,
    }.items():
        yield Attack(f"log-{what}-report", FAMILY, REPORT, answered(), partial(_log, text=text))
    for value in (math.nan, 1e308, -1e308, "0.5", None):
        yield Attack(f"dice-{value}-report", FAMILY, REPORT, answered(), partial(_dice, value=value))
    yield Attack(
        "long-strings-check",
        FAMILY,
        CHECK_FOREIGN,
        answered(),
        partial(foreign, name="x" * 10_000_000, channel_names={"0": "y" * 1_000_000}),
    )
    yield Attack("plan-of-hundred-megabytes", FAMILY, EXPLAIN, answered(), _large_plan)


def _log(place: Place, *, text: str) -> None:
    path = place.fold / "training_log.jsonl"
    path.write_text(path.read_text() + text)


def _dice(place: Place, *, value: Any) -> None:
    def change(summary: dict[str, Any]) -> None:
        for entry in summary["metric_per_case"]:
            for metrics in entry["metrics"].values():
                metrics["Dice"] = value

    edit_json(place.fold / "validation" / "summary.json", change)


def _large_plan(place: Place) -> None:
    plan = json.loads(place.plans.read_text())
    plan["foreground_intensity_properties_per_channel"] = {
        str(number): {"mean": 1.0, "std": 1.0} for number in range(500_000)
    }
    place.plans.write_text(json.dumps(plan))
