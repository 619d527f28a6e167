"""`segwright demo`: the whole way on real data that ships with the package."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from segwright.cli.check import check_or_stop
from segwright.cli.console import Terminal
from segwright.cli.evaluate import show_scores
from segwright.cli.options import DeviceOption
from segwright.cli.plan import plan_dataset
from segwright.cli.preprocess import preprocess_configurations
from segwright.cli.report import write_page
from segwright.cli.run import Steps, predict_test_cases
from segwright.cli.train import finish, train_fold


def demo(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for everything that is made.")] = Path(
        "demo"
    ),
    device: DeviceOption = None,
) -> int:
    """See it work on real MRI scans, in minutes on a CPU.

    The data, 64 hippocampus scans of the Medical Segmentation Decathlon, are part of the package.

    \b
    Examples:
      segwright demo
      segwright demo --output /tmp/demo
    """
    from segwright import demo as material
    from segwright.dataset import DatasetDescription, Workspace

    start = time.monotonic()
    terminal = Terminal.open()
    steps = Steps(terminal)
    workspace = Workspace.resolve(output, {}, Path.cwd())
    with steps.step("unpack data"):
        raw = material.copy_raw_data(workspace.raw)
    location = workspace.find_dataset(str(raw))
    with steps.step("check"):
        check_or_stop(terminal, location, None)
    with steps.step("fingerprint and plan"):
        plan, path = plan_dataset(terminal, location, checked=True)
        plan = plan.with_configuration(material.CONFIGURATION, material.demo_configuration(plan))
        plan.write(path)
    with steps.step("preprocess"):
        preprocess_configurations(terminal, location, plan, [material.CONFIGURATION])
    with steps.step("train and validate"):
        outcome = train_fold(
            terminal, location, plan, material.CONFIGURATION, material.FOLD, flags=material.TRAINING, device=device
        )
    if not outcome.finished:
        words = ["train", raw, material.CONFIGURATION, material.FOLD, "--workspace", output]
        return finish(terminal, outcome, again=[*map(str, words), "--continue"])
    test = predict_test_cases(terminal, steps, location, outcome.model_folder, material.FOLD, device)
    assert test is not None, "the demo's data have test cases"
    folders, summary = test
    page = output / "report.html"
    with steps.step("report"):
        write_page(
            location,
            page,
            model=outcome.model_folder,
            fold=material.FOLD,
            test=folders,
            steps=steps.times,
            credit=material.CREDIT,
        )
    show_scores(terminal, summary, DatasetDescription.read(location.raw / "dataset.json").labels)
    steps.show()
    terminal.answer(f"Report: {page}")
    seconds = round(time.monotonic() - start)
    terminal.answer(
        f"mean foreground Dice {summary.foreground_mean['Dice']:.3f} on {len(summary.metric_per_case)} unseen cases, "
        f"{seconds // 60} min {seconds % 60} s"
    )
    return 0
