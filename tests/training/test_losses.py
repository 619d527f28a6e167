"""The loss against a plain reference, number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segwright.training.losses import DeepSupervisionLoss, DiceCELoss, deep_supervision_weights, soft_dice_loss


def _slow_dice(logits: np.ndarray, target: np.ndarray, batch_dice: bool) -> float:
    exponent = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponent / exponent.sum(1, keepdims=True)
    groups = [list(range(len(logits)))] if batch_dice else [[b] for b in range(len(logits))]
    dices = []
    for group in groups:
        for k in range(1, logits.shape[1]):
            p = np.concatenate([probabilities[b, k].ravel() for b in group])
            t = np.concatenate([(target[b, 0] == k).ravel() for b in group])
            dices.append((2 * (p * t).sum() + 1e-5) / max(t.sum() + p.sum() + 1e-5, 1e-8))
    return -float(np.mean(dices))


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("spatial", [(4, 5), (3, 4, 5)])
def test_dice_equals_the_slow_reference(batch_dice: bool, spatial: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, *spatial)).astype(np.float32)
    target = rng.integers(0, 4, size=(2, 1, *spatial)).astype(np.int16)
    got = soft_dice_loss(torch.from_numpy(logits), torch.from_numpy(target), batch_dice=batch_dice)
    assert float(got) == pytest.approx(_slow_dice(logits, target, batch_dice), abs=1e-6)


def test_a_perfect_prediction_costs_minus_one() -> None:
    target = torch.randint(0, 3, (1, 1, 6, 6))
    logits = torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1) * 100.0
    assert float(DiceCELoss(batch_dice=True)(logits, target)) == pytest.approx(-1, abs=1e-5)


def test_an_absent_class_that_is_not_predicted_costs_nothing() -> None:
    target = torch.zeros(1, 1, 4, 4, dtype=torch.int16)
    logits = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    assert float(soft_dice_loss(logits, target, batch_dice=False)) == pytest.approx(-1, abs=1e-3)


def test_deep_supervision_weights_are_nnunets() -> None:
    assert deep_supervision_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))
    assert deep_supervision_weights(2) == (1.0, 0.0)
    assert deep_supervision_weights(1) == (1.0,)
    for n in range(1, 8):
        assert math.isclose(sum(deep_supervision_weights(n)), 1)


def test_deep_supervision_is_the_weighted_sum_and_has_gradients() -> None:
    loss = DiceCELoss(batch_dice=False)
    outputs = [torch.randn(1, 3, 8 // s, 8 // s, requires_grad=True) for s in (1, 2, 4)]
    targets = [torch.randint(0, 3, (1, 1, 8 // s, 8 // s)) for s in (1, 2, 4)]
    weights = deep_supervision_weights(3)
    total = DeepSupervisionLoss(loss, weights)(outputs, targets)
    parts = [w * loss(o, t) for w, o, t in zip(weights, outputs, targets, strict=True)]
    assert total.item() == pytest.approx(sum(part.item() for part in parts), abs=1e-6)
    total.backward()
    assert outputs[0].grad is not None
    assert outputs[2].grad is None
