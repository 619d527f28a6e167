"""Options shared by several commands, and how they are resolved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segwright.errors import MissingFileError, SettingsError, TrainerError, message
from segwright.names import parse_name

if TYPE_CHECKING:
    import torch

    from segwright.dataset import DatasetLocation, Workspace
    from segwright.planning import Plan
    from segwright.training.trainer import Trainer

DEFAULT_PLANS = "nnUNetPlans"

DatasetArgument = Annotated[
    str,
    typer.Argument(metavar="DATASET", help="Folder of a raw nnU-Net v2 data set, or its id or name in the workspace."),
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="Folder that holds raw/, preprocessed/ and results/. Default: nnU-Net's three environment variables if "
        "set, otherwise ./segwright.",
    ),
]


def _plans_name(name: str) -> str:
    return parse_name(name, where="--plans", error=SettingsError, remedy="Give the file's name, without .json.")


PlansOption = Annotated[
    str, typer.Option("--plans", metavar="NAME", help="Name of the plans file, without .json.", callback=_plans_name)
]


def _refuse_too_many(workers: int | None) -> int | None:
    if workers is not None:
        from segwright.parallel import refuse_too_many_workers

        refuse_too_many_workers(workers)
    return workers


WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        callback=_refuse_too_many,
        help="Worker processes, up to 8 per core. Default: as many as cores and memory allow.",
    ),
]
LoaderWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=0,
        callback=_refuse_too_many,
        help="Processes that load batches, up to 8 per core. Default: chosen from the number of cores.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Try a batch that cannot fit the memory that there is.")]
GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="REGEX|CSV",
        help="Keep the cases of a patient in the same fold: a regular expression for the patient in the case id, "
        "such as '(patient[0-9]+)', or a table with the columns case and group.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with JSON on stdout, for programs.")]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Epochs. Default: 1000, as in nnU-Net.")
]
IterationsOption = Annotated[
    int | None,
    typer.Option(
        "--iterations-per-epoch",
        metavar="N",
        help="Iterations per epoch, independent of the data set's size. Default: 250.",
    ),
]
ValIterationsOption = Annotated[
    int | None,
    typer.Option("--val-iterations-per-epoch", metavar="N", help="Validation iterations per epoch. Default: 50."),
]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", metavar="N", help="Patches per batch. Default: the plan's.")
]
LearningRateOption = Annotated[
    float | None, typer.Option("--lr", metavar="X", help="Initial or peak learning rate. Default: the recipe's.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Random seed; the same seed repeats a run. Default: 0.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="NAME", help="nnunet or short. Default: short below 25,000 iterations, otherwise nnunet."
    ),
]
TrainerOption = Annotated[
    str | None, typer.Option("--trainer", metavar="FILE.py:CLASS", help="Your own class that inherits Trainer.")
]
AcceptPlanOption = Annotated[
    bool, typer.Option("--accept-plan", help="Continue although the plan was edited, if the weights still fit it.")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="cpu|cuda|mps", help="Default: cuda if available, then mps, then cpu.")
]
Fold = int | Literal["all"]


def workspace_of(folder: Path | None) -> Workspace:
    """Resolve the workspace; the environment and the current folder are read here and nowhere else."""
    from segwright.dataset import Workspace

    return Workspace.resolve(folder, os.environ, Path.cwd())


def locate(dataset: str, workspace: Path | None) -> DatasetLocation:
    """Find a data set by path, id or name."""
    return workspace_of(workspace).find_dataset(dataset)


def plans_of(location: DatasetLocation) -> list[str]:
    """Names of a data set's plans."""
    return sorted(path.stem for path in location.preprocessed.glob("*.json") if "plans" in path.stem.lower())


def read_plan(location: DatasetLocation, plans_name: str) -> Plan:
    """Read a data set's plans file.

    Raises:
        MissingFileError: it has not been planned; the message lists the existing plans.
    """
    from segwright.planning import Plan

    path = location.preprocessed / f"{plans_name}.json"
    if not path.is_file():
        known = plans_of(location)
        raise MissingFileError(
            message(
                path,
                expected="the plans of the data set",
                got=f"no such file (existing plans: {', '.join(known) or 'none'})",
                remedy=f"Run `segwright plan {location.name}` first, or name another with --plans.",
            )
        )
    return Plan.read(path)


def choose_device(name: str | None) -> torch.device:
    """The requested device, or the best available one.

    Raises:
        SettingsError: there is no such device on this machine.
    """
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = ["cuda"] * bool(num_gpus) + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if name is None:
        return torch.device(available[0])
    if name not in (*available, *(f"cuda:{number}" for number in range(num_gpus))):
        raise SettingsError(
            message(
                "--device",
                expected=f"one of {', '.join(available)}, which this machine has",
                got=repr(name),
                remedy="Leave it out to use the best available device.",
            )
        )
    return torch.device(name)


def trainer_class_of(spec: str | None) -> type[Trainer]:
    """The user's own trainer class, or `Trainer` where none was named.

    Raises:
        TrainerError: there is no such class, or it cannot be constructed with nnU-Net's arguments.
    """
    import inspect

    from segwright.training.trainer import Trainer
    from segwright.training.trainer_class import load_trainer_class

    if spec is None:
        return Trainer
    found = load_trainer_class(spec)
    try:
        inspect.signature(found).bind({}, "3d_fullres", 0, {}, device=None)
    except TypeError as error:
        raise TrainerError(
            message(
                f"option --trainer, {spec}",
                expected="__init__(self, plans, configuration, fold, dataset_json, device)",
                got=f"one that raises: {error}",
                remedy="Accept these arguments and pass them to super().__init__; others need a default.",
            )
        ) from error
    return found


def refuse_bad_settings(flags: Mapping[str, Any]) -> None:
    """Validate the settings of a training before the steps that precede it.

    Raises:
        SettingsError: a flag is out of its range, or there is no such recipe.
    """
    from segwright.planning.budget import resolve_budget

    resolve_budget(plan={"batch_size": 1}, flags=flags)
