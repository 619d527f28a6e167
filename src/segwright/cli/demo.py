"""`segwright demo`: every step on real data that ships with the package."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.evaluate import show_scores
from segwright.cli.options import DeviceOption, choose_device
from segwright.cli.run import show_times
from segwright.cli.train import finish
from segwright.cli.watch import TerminalWatch


def demo(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for all output.")] = Path("demo"),
    device: DeviceOption = None,
) -> int:
    """Train and evaluate on real MRI scans, in minutes on a CPU.

    The data, 64 hippocampus scans of the Medical Segmentation Decathlon, are part of the package.

    \b
    Examples:
      segwright demo
      segwright demo --output /tmp/demo
    """
    from segwright import demo as material
    from segwright.dataset import DatasetDescription, Workspace
    from segwright.steps.run import run_dataset

    start = time.monotonic()
    terminal = Terminal.open()
    watch = TerminalWatch(terminal)
    chosen_device = choose_device(device)
    workspace = Workspace.resolve(output, {}, Path.cwd())
    watch.step("unpack data")
    location = workspace.find_dataset(str(material.copy_raw_data(workspace.raw)))
    outcome = run_dataset(
        location,
        configuration=material.CONFIGURATION,
        fold=material.FOLD,
        edit_plan=material.with_demo_configuration,
        flags=material.TRAINING,
        device=chosen_device,
        resume=False,
        page=output / "report.html",
        credit=material.CREDIT,
        watch=watch,
    )
    if not outcome.training.finished:
        words = ["train", location.raw, material.CONFIGURATION, material.FOLD, "--workspace", output]
        return finish(terminal, outcome.training, again=[*map(str, words), "--continue"])
    assert outcome.test is not None, "the demo's data have test cases"
    show_scores(terminal, outcome.test, DatasetDescription.read(location.raw / "dataset.json").labels)
    show_times(terminal, outcome.times)
    terminal.answer(f"Report: {outcome.page}")
    seconds = round(time.monotonic() - start)
    terminal.answer(
        f"mean foreground Dice {outcome.test.foreground_mean['Dice']:.3f} on {len(outcome.test.metric_per_case)} "
        f"unseen cases, {seconds // 60} min {seconds % 60} s"
    )
    return 0
