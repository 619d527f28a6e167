"""`segwright evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import JsonOption, WorkersOption
from segwright.steps.failures import all_or_nothing

if TYPE_CHECKING:
    from segwright.evaluation import Summary
    from segwright.labels import Labels


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder of predicted label maps.")],
    references: Annotated[
        Path, typer.Argument(metavar="REFERENCES", help="Folder of reference label maps of the same names.")
    ],
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> int:
    """Score predictions against references, per class and case.

    Writes summary.json beside the predictions. The labels are those of a dataset.json beside predictions or references.

    \b
    Examples:
      segwright evaluate masks/ labelsTs/
      segwright evaluate masks/ labelsTs/ --json
    """
    from segwright.evaluation import evaluate_folder, labels_for_evaluation
    from segwright.parallel import available_cores

    terminal = Terminal.open()
    with all_or_nothing(), terminal.progress() as progress:
        setup = labels_for_evaluation(predictions, references, progress=progress)
        summary = evaluate_folder(
            predictions,
            references,
            labels=setup.labels,
            file_ending=setup.file_ending,
            reader=setup.reader,
            workers=workers or available_cores(),
            progress=progress,
        )
    path = predictions / "summary.json"
    summary.write(path)
    if as_json:
        terminal.json(json.loads(path.read_text(encoding="utf-8")))
        return 0
    terminal.note(f"Labels from {setup.labels_from}.")
    show_scores(terminal, summary, setup.labels)
    terminal.answer(f"Scores of each case: {path}")
    return 0


def show_scores(terminal: Terminal, summary: Summary, labels: Labels) -> None:
    """Print one row per class and the foreground mean."""
    from segwright.evaluation import class_rows

    rows = [
        [row.name, f"{row.mean_dice:.4f}", f"{row.median_dice:.4f}", f"{row.min_dice:.4f}", str(row.num_cases)]
        for row in class_rows(summary, labels)
    ]
    terminal.table(["class", "mean Dice", "median", "lowest", "cases"], rows, answer=True)
    terminal.answer(
        f"mean foreground Dice {summary.foreground_mean['Dice']:.4f} on {len(summary.metric_per_case)} cases"
    )
