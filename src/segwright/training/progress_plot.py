"""progress.png, as in nnU-Net: losses and pseudo Dice, seconds per epoch, learning rate."""

from __future__ import annotations

import os
from pathlib import Path

from segwright.io.atomic import atomic_path
from segwright.training.history import History


def plot_progress(history: History, path: Path) -> None:
    """Write the three panels of a training's history as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lists = history.lists
    epochs = range(len(history))
    figure = Figure(figsize=(11, 14), layout="constrained")
    FigureCanvasAgg(figure)
    losses, seconds, rates = figure.subplots(3, 1, sharex=True)
    losses.plot(epochs, lists["train_losses"], color="tab:blue", label="training loss")
    losses.plot(epochs, lists["val_losses"], color="tab:red", label="validation loss")
    losses.set_ylabel("loss")
    dice = losses.twinx()
    dice.plot(epochs, lists["mean_fg_dice"], color="tab:green", linestyle=":", label="pseudo Dice")
    dice.plot(epochs, lists["ema_fg_dice"], color="tab:green", label="pseudo Dice, moving average")
    dice.set_ylabel("pseudo Dice")
    losses.legend(handles=[*losses.lines, *dice.lines], loc="center right")
    spent = [e - s for s, e in zip(lists["epoch_start_timestamps"], lists["epoch_end_timestamps"], strict=True)]
    seconds.plot(epochs, spent, color="tab:gray")
    seconds.set_ylabel("seconds per epoch")
    seconds.set_ylim(bottom=0)
    rates.plot(epochs, lists["lrs"], color="tab:purple")
    rates.set_ylabel("learning rate")
    rates.set_xlabel("epoch")
    with atomic_path(path) as temporary:
        figure.savefig(os.fspath(temporary), format="png", dpi=80)
