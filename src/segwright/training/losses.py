"""Dice and cross entropy with deep supervision (nnU-Net v2's loss for plain labels)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SMOOTH = 1e-5


def soft_dice_loss(logits: Tensor, target: Tensor, *, batch_dice: bool) -> Tensor:
    """Negative soft Dice, averaged over foreground classes (and over samples unless `batch_dice`).

    Args:
        logits: (b, k, *spatial), before softmax; channel 0 is background and ignored.
        target: (b, 1, *spatial), label values 0..k-1.
        batch_dice: sum over the batch before taking the ratio.

    Dice = (2 I + s) / max(sum of target + sum of probabilities + s, 1e-8), s = 1e-5, as in nnU-Net v2.
    """
    probabilities = logits.softmax(1)[:, 1:]
    classes = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, *[1] * (logits.ndim - 2))
    one_hot = target == classes
    axes = tuple(range(2, logits.ndim))
    intersection = (probabilities * one_hot).sum(axes)
    total = probabilities.sum(axes) + one_hot.sum(axes)
    if batch_dice:
        intersection, total = intersection.sum(0), total.sum(0)
    return -((2 * intersection + SMOOTH) / (total + SMOOTH).clamp_min(1e-8)).mean()


class DiceCELoss(nn.Module):
    """Cross entropy plus soft Dice loss, each with weight 1."""

    def __init__(self, *, batch_dice: bool) -> None:
        super().__init__()
        self.batch_dice = batch_dice

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits (b, k, *spatial) against labels (b, 1, *spatial)."""
        cross_entropy = functional.cross_entropy(logits, target[:, 0].long())
        return cross_entropy + soft_dice_loss(logits, target, batch_dice=self.batch_dice)


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of one loss over the outputs of all resolutions, the highest first."""

    def __init__(self, loss: nn.Module, weights: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.weights = tuple(weights)

    def forward(self, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Loss of a list of logits against a list of label maps, one pair per resolution."""
        parts = [
            weight * self.loss(output, target)
            for weight, output, target in zip(self.weights, outputs, targets, strict=True)
            if weight != 0
        ]
        return torch.stack(parts).sum()


def deep_supervision_weights(num_outputs: int) -> tuple[float, ...]:
    """Weights 1, 1/2, 1/4, ..., the last 0, scaled to sum 1 (nnU-Net v2). A single output has weight 1."""
    if num_outputs == 1:
        return (1.0,)
    raw = [0.5**i for i in range(num_outputs - 1)]
    return (*(weight / sum(raw) for weight in raw), 0.0)
