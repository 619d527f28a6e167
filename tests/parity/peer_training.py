"""Runs in nnunetv2's own environment: plan and preprocess, train, step and predict, for tests to compare with.

PYTHON peer_training.py COMMAND REQUEST.json     with nnUNet_raw, nnUNet_preprocessed and nnUNet_results set

prepare  measure, plan and preprocess a data set
train    train a fold as nnUNetv2_train does, with fewer iterations; `continue` is its --c
step     go on from the checkpoint of a fold, as --c does, with given batches; keep the weights
predict  predict images with the models of folders as nnUNetv2_predict does; keep what the network was given and gave
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

Request = dict[str, Any]
CPU = torch.device("cpu")


def prepare(request: Request) -> None:
    number, name = [int(request["dataset"][len("Dataset") :][:3])], request["configuration"]
    plan_and_preprocess_api.extract_fingerprints(number, num_processes=1, show_progress_bar=False)
    plan_and_preprocess_api.plan_experiments(number)
    path = Path(nnUNet_preprocessed, request["dataset"], "nnUNetPlans.json")
    plans = json.loads(path.read_text())
    plans["configurations"][name] = request["entry"]
    path.write_text(json.dumps(plans))
    plan_and_preprocess_api.preprocess(number, configurations=[name], num_processes=[1])


def shorten(settings: dict[str, Any]) -> None:
    """Let the trainer itself, whose name checkpoints and folders carry, have other settings than its defaults."""
    initialise = nnUNetTrainer.__init__

    @functools.wraps(initialise)
    def with_settings(self: nnUNetTrainer, *arguments: Any, **more: Any) -> None:
        initialise(self, *arguments, **more)
        vars(self).update(settings)

    nnUNetTrainer.__init__ = with_settings


def train(request: Request) -> None:
    shorten(request["settings"])
    torch.manual_seed(0)
    run_training(request["dataset"], request["configuration"], 0, continue_training=request["continue"], device=CPU)


def step(request: Request) -> None:
    shorten(request["settings"])
    for run in request["runs"]:
        os.environ.update(nnUNet_results=run["results"])
        trainer = get_trainer_from_args(
            request["dataset"], request["configuration"], 0, continue_training=True, device=CPU
        )
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
        trainer.set_deep_supervision_enabled(True)
        trainer.network.train()
        trainer.lr_scheduler.step(trainer.current_epoch)
        losses = [float(trainer.train_step(batch)["loss"]) for batch in torch.load(request["batches"])]
        weights = {name: value.detach() for name, value in trainer.network.named_parameters()}
        torch.save({"epoch": trainer.current_epoch, "losses": losses, "weights": weights}, run["answer"])


@contextlib.contextmanager
def single_precision_sums() -> Iterator[None]:
    """nnunetv2 asks for `torch.half` by name where it sums tiles."""
    half = torch.half
    torch.half = torch.float32
    try:
        yield
    finally:
        torch.half = half


def record(predictor: nnUNetPredictor, folder: Path) -> None:
    """Write for each case what the network was given, and its logits as they are and with sums in float32."""
    predict_as_it_is = predictor.predict_logits_from_preprocessed_data
    numbers = iter(range(10**6))

    def predict(data: torch.Tensor) -> torch.Tensor:
        as_it_is = predict_as_it_is(data)
        with single_precision_sums():
            single = predict_as_it_is(data)
        path = folder / f"recorded_{next(numbers)}.npz"
        np.savez(path, data=data.numpy(), as_it_is=as_it_is.float().numpy(), single=single.numpy())
        return as_it_is

    predictor.predict_logits_from_preprocessed_data = predict


def predict(request: Request) -> None:
    for run in request["runs"]:
        predictor = nnUNetPredictor(use_mirroring=run["mirroring"], device=CPU, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(run["model"], ("0",))
        record(predictor, Path(run["output"]))
        predictor.predict_from_files_sequential(request["images"], run["output"])
        compute_gaussian.cache_clear()


if __name__ == "__main__":
    commands = {"prepare": prepare, "train": train, "step": step, "predict": predict}
    commands[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
