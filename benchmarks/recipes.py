"""Measure recipes: train the same small net with each, for each length, and score held-out cases.

    python benchmarks/recipes.py DATASET --iterations 250 1000 --recipes nnunet short [--features 8] [--batch-size 2]

DATASET is a raw data set; the cases of fold 0 are held out. A recipe may be varied on the spot:
`short,augmentation=none,peak_learning_rate=1e-3,mirroring=True`. Each run adds a line to results/recipes.jsonl.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch: a shared core must not stop the others

import torch

from segwright.dataset import RawDataset
from segwright.fingerprint import fingerprint_dataset
from segwright.parallel import available_cores
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.planning.recipes import RECIPES, Recipe, recipe_named
from segwright.preprocessing.cohort import preprocess_dataset
from segwright.training.run import train

EPOCHS = 10


def prepare(dataset: RawDataset, work: Path, *, configuration: str, features: int, batch_size: int) -> tuple[Plan, str]:
    """Plan and preprocess once, and add a configuration with a net small enough for a CPU."""
    folder = work / "preprocessed" / dataset.name
    fingerprint = fingerprint_dataset(dataset, workers=available_cores())
    plan = make_plan(
        fingerprint, dataset.description, dataset_name=dataset.name, image_reader_writer=dataset.reader().name
    )
    entry = plan.configuration(configuration).raw
    architecture = json.loads(json.dumps(entry["architecture"]))
    kwargs = architecture["arch_kwargs"]
    kwargs["features_per_stage"] = [min(features * 2**s, 320) for s in range(kwargs["n_stages"])]
    name = f"{configuration}_{features}"
    plan = plan.with_configuration(
        name, {"inherits_from": configuration, "batch_size": batch_size, "architecture": architecture}
    )
    folder.mkdir(parents=True, exist_ok=True)
    plan.write(folder / "nnUNetPlans.json")
    preprocess_dataset(dataset, plan, [configuration], folder, workers=available_cores())
    return plan, name


def varied(spec: str) -> Recipe:
    """Parse `NAME,field=value,...` into a recipe, registered under the whole text."""
    name, *changes = spec.split(",")
    values: dict[str, Any] = {}
    for change in changes:
        field, _, text = change.partition("=")
        try:
            values[field] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[field] = text
    recipe = dataclasses.replace(recipe_named(name), name=spec, **values)
    RECIPES[spec] = recipe
    return recipe


def measure(plan: Plan, configuration: str, work: Path, *, recipe: str, iterations: int, seed: int) -> dict[str, Any]:
    """Train with one recipe for one length and return the scores of the held-out cases."""
    start = time.monotonic()
    outcome = train(
        plan,
        configuration,
        0,
        preprocessed_folder=work / "preprocessed" / plan.dataset_name,
        results_folder=work / "results" / f"{recipe}_{iterations}_{seed}" / plan.dataset_name,
        flags={
            "recipe": recipe,
            "num_epochs": EPOCHS,
            "num_iterations_per_epoch": max(iterations // EPOCHS, 1),
            "num_val_iterations_per_epoch": 5,
            "seed": seed,
        },
    )
    if outcome.summary is None:
        raise SystemExit("interrupted")
    return {
        "dataset": plan.dataset_name,
        "configuration": configuration,
        "recipe": recipe,
        "iterations": iterations,
        "seed": seed,
        "dice": outcome.summary.foreground_mean["Dice"],
        "dice_per_class": {str(key): value["Dice"] for key, value in outcome.summary.mean.items()},
        "seconds": round(time.monotonic() - start, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Run the measurements that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--iterations", type=int, nargs="+", default=[250])
    parser.add_argument("--recipes", nargs="+", default=["nnunet", "short"])
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/results/work"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/recipes.jsonl"))
    arguments = parser.parse_args()
    dataset = RawDataset.open(arguments.dataset)
    plan, configuration = prepare(
        dataset,
        arguments.work,
        configuration=arguments.configuration,
        features=arguments.features,
        batch_size=arguments.batch_size,
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for iterations in arguments.iterations:
        for recipe in arguments.recipes:
            result = measure(
                plan,
                configuration,
                arguments.work,
                recipe=varied(recipe).name,
                iterations=iterations,
                seed=arguments.seed,
            )
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(f"{iterations} iterations, {result['seconds']} s, Dice {result['dice']:.4f}: {recipe}", flush=True)


if __name__ == "__main__":
    main()
