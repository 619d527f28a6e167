"""Walk through a training step as torch does and keep account of its memory, without torch.

Every operation takes what it puts out and what it works with, and holds what its backward pass will need; the backward
pass runs the operations in reverse and lets go of it. The order of taking and releasing is torch's (2.13) for nnU-Net's
layers, as its memory profiler shows it; on the CPU the peak equals the profiler's to about 1 %, but for what oneDNN's
convolutions work with, which depends on the processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segwright.explain.ledger import Buffer, Ledger
from segwright.planning.memory import voxels_per_stage

if TYPE_CHECKING:
    from segwright.planning.architecture import Architecture

BYTES_FLOAT32 = 4
BYTES_FLOAT16 = 2
_BYTES_LONG = 8
_BYTES_SHORT = 2
# On the CPU torch hands a batch of one to oneDNN only where channels times the first two axes exceed this; below, it
# unfolds the map, a column of kernel times channels for each voxel (`use_mkldnn` in torch's Convolution.cpp).
_UNFOLDED_BELOW = 20480


@dataclass(frozen=True)
class StepDevice:
    """How a device runs a step: bytes of an element of a feature map, whether maps are channels-last (which instance
    normalisation is not, so that they are copied to and fro), and whether the optimizer takes all parameters at once.
    """

    name: str
    map_bytes: int
    channels_last: bool
    optimizes_at_once: bool


CPU = StepDevice("cpu", BYTES_FLOAT32, channels_last=True, optimizes_at_once=False)
CUDA = StepDevice("cuda", BYTES_FLOAT16, channels_last=False, optimizes_at_once=True)
MPS = StepDevice("mps", BYTES_FLOAT32, channels_last=False, optimizes_at_once=True)
STEP_DEVICES = {device.name: device for device in (CPU, CUDA, MPS)}


@dataclass
class _Map:
    """A feature map: its memory, whether its layout differs from the convolutions', and its gradient once there is.
    `front` is the product of channels and the first two axes."""

    buffer: Buffer
    front: int
    plain_layout: bool
    needs_gradient: bool = True
    gradient: Buffer | None = None

    @property
    def size(self) -> int:
        return self.buffer.size


class StepSimulation:
    """One training step of a U-Net with deep supervision. `run` walks through it; `ledger` has the account."""

    def __init__(self, architecture: Architecture, device: StepDevice, *, optimizer_states: int) -> None:
        self.ledger = Ledger()
        self.architecture = architecture
        self.device = device
        self.optimizer_states = optimizer_states
        self.normalised = architecture.norm_op is not None
        self.by_instance = "InstanceNorm" in (architecture.norm_op or "")
        self.affine = self.normalised and bool(architecture.norm_op_kwargs.get("affine", False))
        self.in_place = bool(architecture.nonlin_kwargs.get("inplace"))
        self.backward: list[Callable[[], None]] = []
        self.weight_gradients: list[Buffer] = []

    def run(
        self,
        *,
        patch_size: Sequence[int],
        batch_size: int,
        num_input_channels: int,
        num_outputs: int,
        num_parameters: int,
    ) -> None:
        """Take parameters and optimizer state, as after the first step, then run a step from batch to update."""
        ledger, strides = self.ledger, self.architecture.strides
        self.single = batch_size == 1
        self.voxels = [batch_size * size for size in voxels_per_stage(patch_size, strides)]
        self.fronts = voxels_per_stage(patch_size[:2], [stride[:2] for stride in strides])
        ledger.take(num_parameters * BYTES_FLOAT32, "parameters")
        ledger.take(num_parameters * BYTES_FLOAT32 * self.optimizer_states, "optimizer")
        image = self._batch(num_input_channels)
        half = None
        if self.device.map_bytes == BYTES_FLOAT16:
            half = ledger.take(num_parameters * BYTES_FLOAT16, "parameters")
        skips = self._encoder(image, num_input_channels)
        logits = self._decoder(skips, num_outputs)
        supervised = logits[:-1] if len(logits) > 1 else logits  # the lowest resolution has weight 0
        for output, size in zip(supervised, self.voxels, strict=False):
            self._loss(output, size, num_outputs)
        ledger.drop(*(output.buffer for output in logits))
        for undo in reversed(self.backward):
            undo()
        if half is not None:
            ledger.drop(half)
        self._update()

    def _batch(self, channels: int) -> _Map:
        size = self.voxels[0] * channels * BYTES_FLOAT32
        self.ledger.take(sum(self.voxels[:-1]) * _BYTES_SHORT)
        if self.device.channels_last and channels > 1:
            self.ledger.take(size)  # the batch as it was loaded stays beside its channels-last copy
        front = channels * self.fronts[0]
        image = _Map(self.ledger.take(size, "activations"), front, plain_layout=False, needs_gradient=False)
        if self.device.map_bytes == BYTES_FLOAT16:
            image.buffer = self.ledger.take(size // 2, "activations")
        return image

    # ------------------------------------------------------------------ the network

    def _encoder(self, image: _Map, channels: int) -> list[_Map]:
        architecture, ledger = self.architecture, self.ledger
        residual = architecture.kind == "residual"
        x = image
        if residual:
            stem = architecture.features_per_stage[0]
            x = self._conv(image, 0, (channels, stem), math.prod(architecture.kernel_sizes[0]))
            channels = stem
        skips: list[_Map] = []
        stages = zip(
            architecture.features_per_stage,
            architecture.kernel_sizes,
            architecture.strides,
            architecture.blocks_per_stage,
            strict=True,
        )
        for stage, (features, kernel, stride, blocks) in enumerate(stages):
            for block in range(blocks):
                strided = block == 0 and any(step != 1 for step in stride)
                if residual:
                    out = self._residual_block(x, stage, (channels, features), math.prod(kernel), strided=strided)
                else:
                    out = self._conv(x, stage, (channels, features), math.prod(kernel))
                if x is not image and (not skips or x is not skips[-1]):
                    ledger.drop(x.buffer)
                x, channels = out, features
            skips.append(x)
        return skips

    def _decoder(self, skips: list[_Map], num_outputs: int) -> list[_Map]:
        """Outputs, the highest resolution first."""
        architecture, ledger = self.architecture, self.ledger
        features = architecture.features_per_stage
        x, outputs = skips[-1], []
        for stage, convs in zip(reversed(range(len(skips) - 1)), architecture.convs_per_decoder_stage, strict=True):
            here, kernel = features[stage], math.prod(architecture.kernel_sizes[stage])
            stride = math.prod(architecture.strides[stage + 1])
            up = self._plain_conv(
                x, stage, (features[stage + 1], here), stride, bias=architecture.conv_bias, transposed=True
            )
            joined = self._concatenate(up, skips[stage])
            if x is not skips[-1]:
                ledger.drop(x.buffer)
            x, channels = joined, 2 * here
            for _ in range(convs):
                out = self._conv(x, stage, (channels, here), kernel)
                ledger.drop(x.buffer)
                x, channels = out, here
            outputs.append(self._plain_conv(x, stage, (here, num_outputs), 1, bias=True))
        ledger.drop(*(skip.buffer for skip in skips))
        if x is not skips[-1]:
            ledger.drop(x.buffer)
        return outputs[::-1]

    def _conv(
        self,
        x: _Map,
        stage: int,
        channels: tuple[int, int],
        kernel_volume: int,
        *,
        bias: bool | None = None,
        nonlinear: bool = True,
    ) -> _Map:
        """Convolution, normalisation and nonlinearity; `channels` are those that enter and those that leave."""
        bias = self.architecture.conv_bias if bias is None else bias
        out = self._plain_conv(x, stage, channels, kernel_volume, bias=bias, affine=self.affine)
        if self.normalised:
            out = self._normalise(out)
        return self._activate(out) if nonlinear else out

    def _plain_conv(
        self,
        x: _Map,
        stage: int,
        channels: tuple[int, int],
        kernel_volume: int,
        *,
        bias: bool,
        affine: bool = False,
        transposed: bool = False,
    ) -> _Map:
        """Convolution alone, put out at a stage; `affine` counts the parameters of its normalisation with its own."""
        ledger, (inputs, outputs) = self.ledger, channels
        weights = outputs * (inputs * kernel_volume + bias + 2 * affine)
        size = self.voxels[stage] * outputs * self.device.map_bytes
        front = outputs * self.fronts[stage]
        columns = 0
        unfolded = self.device.channels_last and self.single and x.front <= _UNFOLDED_BELOW
        if unfolded and kernel_volume > 1:
            columns = size if transposed else self.voxels[stage] * inputs * kernel_volume * self.device.map_bytes
        with ledger.passing(0 if unfolded else self._copy(x), columns):
            plain_layout = unfolded or not self.device.channels_last
            out = _Map(ledger.take(size, "activations"), front, plain_layout)
            with ledger.passing(weights * BYTES_FLOAT32):
                pass
        ledger.hold(x.buffer)
        self.backward.append(lambda: self._conv_backward(x, out, weights, columns, unfolded=unfolded))
        return out

    def _copy(self, x: _Map) -> int:
        return x.size if self.device.channels_last and x.plain_layout else 0

    def _conv_backward(self, x: _Map, out: _Map, weights: int, columns: int, *, unfolded: bool) -> None:
        ledger, gradient = self.ledger, out.gradient
        if gradient is None:  # the head of the lowest resolution, which no loss looks at
            ledger.drop(x.buffer)
            return
        # where maps are channels-last, the gradient comes in the layout of the normalisation
        copies = (0, 0) if unfolded else (self._copy(x), out.size if self.device.channels_last else 0)
        with ledger.passing(*copies):
            down = ledger.take(x.size) if x.needs_gradient else None
            with ledger.passing(columns, weights * BYTES_FLOAT32):
                self.weight_gradients.append(ledger.take(weights * BYTES_FLOAT32, "gradients"))
        ledger.drop(gradient, x.buffer)
        if down is not None:
            self._add_gradient(x, down)

    def _normalise(self, x: _Map) -> _Map:
        ledger, size = self.ledger, x.size
        # instance normalisation works on a copy in the plain layout
        copied = self.by_instance and not x.plain_layout
        saved = ledger.take(size, "activations") if copied else ledger.hold(x.buffer)
        out = _Map(ledger.take(size, "activations"), x.front, x.plain_layout or self.by_instance)
        ledger.drop(x.buffer)

        def undo() -> None:
            gradient = _gradient_of(out)
            x.gradient = ledger.take(size)
            with ledger.passing(size if self.by_instance and self.device.channels_last else 0):
                pass
            ledger.drop(gradient, saved)

        self.backward.append(undo)
        return out

    def _activate(self, x: _Map) -> _Map:
        """LeakyReLU or its like; in place after instance normalisation it changes a view, whose gradient is copied."""
        ledger, size = self.ledger, x.size
        saved = ledger.hold(x.buffer)
        out = _Map(x.buffer, x.front, x.plain_layout)
        if not self.in_place:
            out.buffer = ledger.take(size, "activations")
            ledger.drop(x.buffer)

        def undo() -> None:
            gradient = _gradient_of(out)
            if self.in_place and self.by_instance:
                copied = ledger.take(size)
                ledger.drop(gradient)
                x.gradient = ledger.take(size)
                with ledger.passing(size, size):
                    pass
                ledger.drop(copied)
            else:
                x.gradient = ledger.take(size)
                ledger.drop(gradient)
            ledger.drop(saved)

        self.backward.append(undo)
        return out

    def _residual_block(
        self, x: _Map, stage: int, channels: tuple[int, int], kernel_volume: int, *, strided: bool
    ) -> _Map:
        ledger, (before, features) = self.ledger, channels
        inner = self._conv(x, stage, channels, kernel_volume)
        main = self._conv(inner, stage, (features, features), kernel_volume, nonlinear=False)
        ledger.drop(inner.buffer)
        skip = self._pool(x, stage, before) if strided else x
        if before != features:
            projected = self._conv(skip, stage, channels, 1, bias=False, nonlinear=False)
            if skip is not x:
                ledger.drop(skip.buffer)
            skip = projected
        out = _Map(ledger.take(main.size, "activations"), main.front, main.plain_layout)
        ledger.drop(main.buffer)
        if skip is not x:
            ledger.drop(skip.buffer)
        saved = ledger.hold(out.buffer)

        def undo() -> None:
            gradient = ledger.take(out.size)
            ledger.drop(_gradient_of(out), saved)
            self._add_gradient(main, ledger.hold(gradient))
            self._add_gradient(skip, gradient)

        self.backward.append(undo)
        return out

    def _pool(self, x: _Map, stage: int, channels: int) -> _Map:
        ledger, size = self.ledger, self.voxels[stage] * channels * self.device.map_bytes
        out = _Map(ledger.take(size, "activations"), channels * self.fronts[stage], x.plain_layout)
        ledger.hold(x.buffer)

        def undo() -> None:
            down = ledger.take(x.size)
            ledger.drop(_gradient_of(out), x.buffer)
            self._add_gradient(x, down)

        self.backward.append(undo)
        return out

    def _concatenate(self, up: _Map, skip: _Map) -> _Map:
        """Both gradients are views of one piece of memory, which the skip connection holds until the encoder."""
        ledger = self.ledger
        plain_layout = self.by_instance or up.plain_layout
        joined = _Map(ledger.take(2 * up.size, "activations"), 2 * up.front, plain_layout)
        ledger.drop(up.buffer)

        def undo() -> None:
            gradient = _gradient_of(joined)
            self._add_gradient(up, ledger.hold(gradient))
            self._add_gradient(skip, gradient)

        self.backward.append(undo)
        return joined

    def _add_gradient(self, x: _Map, gradient: Buffer) -> None:
        if x.gradient is None:
            x.gradient = gradient
        else:
            total = self.ledger.take(x.size)
            self.ledger.drop(x.gradient, gradient)
            x.gradient = total

    # ------------------------------------------------------------------ loss and optimizer

    def _loss(self, logits: _Map, voxels: int, num_outputs: int) -> None:
        """Cross entropy and soft Dice of one resolution, in float32; foreground masks are booleans."""
        ledger = self.ledger
        whole, foreground = num_outputs * voxels * BYTES_FLOAT32, (num_outputs - 1) * voxels
        layout_copy = whole if self.device.channels_last else 0
        target = ledger.take(_BYTES_LONG * voxels, "activations")
        logarithm = ledger.take(whole, "activations")
        with ledger.passing(layout_copy):
            pass
        probability = ledger.take(whole, "activations")
        with ledger.passing(layout_copy):
            pass
        with ledger.passing(_BYTES_LONG * voxels):
            mask = ledger.take(foreground, "activations")
        with ledger.passing(2 * BYTES_FLOAT32 * foreground):  # the mask as numbers, times the probabilities
            pass
        with ledger.passing(_BYTES_LONG * foreground):  # the mask as whole numbers, to be counted
            pass

        def undo() -> None:
            with ledger.passing(2 * BYTES_FLOAT32 * foreground):
                pass
            ledger.drop(mask)
            with ledger.passing(2 * BYTES_FLOAT32 * foreground):
                pass
            sliced = ledger.take(whole)
            of_dice = ledger.take(whole)
            ledger.drop(sliced, probability)
            picked = ledger.take(whole)
            ledger.drop(target)
            with ledger.passing(whole):
                pass
            ledger.drop(picked, logarithm)
            logits.gradient = of_dice
            if logits.size != whole:  # mixed precision: back to the maps' own
                logits.gradient = ledger.take(logits.size)
                ledger.drop(of_dice)

        self.backward.append(undo)

    def _update(self) -> None:
        """The optimizer makes two copies of what it works on: of all gradients, or of one parameter after another."""
        sizes = [gradient.size for gradient in self.weight_gradients]
        at_once = sum(sizes) if self.device.optimizes_at_once else max(sizes)
        with self.ledger.passing(at_once, at_once):
            pass


def _gradient_of(x: _Map) -> Buffer:
    assert x.gradient is not None
    return x.gradient
