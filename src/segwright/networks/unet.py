"""The two networks that a plan can ask for: nnU-Net v2's PlainConvUNet and ResidualEncoderUNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segwright.networks.blocks import ConvBlock, ConvStack, Decoder, Operators, ResidualBlock, ResidualStack

NEGATIVE_SLOPE = 1e-2


class PlainEncoder(nn.Module):
    """Stages of strided convolution blocks. Gives the output of every stage, highest resolution first."""

    def __init__(
        self,
        in_channels: int,
        features_per_stage: Sequence[int],
        *,
        operators: Operators,
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        blocks_per_stage: Sequence[int],
    ) -> None:
        super().__init__()
        inputs = [in_channels, *features_per_stage[:-1]]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    ConvStack(count, before, after, operators=operators, kernel_size=kernel_size, stride=stride)
                )
                for count, before, after, kernel_size, stride in zip(
                    blocks_per_stage, inputs, features_per_stage, kernel_sizes, strides, strict=True
                )
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return _outputs_of(self.stages, x)


class ResidualEncoder(nn.Module):
    """A stem of one convolution block, then stages of residual blocks. Gives the output of every stage."""

    def __init__(
        self,
        in_channels: int,
        features_per_stage: Sequence[int],
        *,
        operators: Operators,
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        blocks_per_stage: Sequence[int],
    ) -> None:
        super().__init__()
        inputs = [features_per_stage[0], *features_per_stage[:-1]]
        self.stem = ConvStack(1, in_channels, inputs[0], operators=operators, kernel_size=kernel_sizes[0])
        self.stages = nn.Sequential(
            *(
                ResidualStack(count, before, after, operators=operators, kernel_size=kernel_size, stride=stride)
                for count, before, after, kernel_size, stride in zip(
                    blocks_per_stage, inputs, features_per_stage, kernel_sizes, strides, strict=True
                )
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return _outputs_of(self.stages, self.stem(x))


class UNet(nn.Module):
    """An encoder and a decoder. `network.decoder.deep_supervision` switches between one output and a list.

    Takes (batch, channels, *patch), gives logits (batch, outputs, *patch), or a list of them at falling resolution.
    """

    def __init__(self, encoder: PlainEncoder | ResidualEncoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        return self.decoder(self.encoder(x))  # type: ignore[no-any-return]


def initialise(network: nn.Module) -> None:
    """Draw fresh weights as nnU-Net does: He normal for a slope of 0.01, no bias, residual branches silent at first."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            _silence(module.conv2)


def _silence(block: ConvBlock) -> None:
    weight, bias = getattr(block.norm, "weight", None), getattr(block.norm, "bias", None)
    for parameter in (weight, bias):
        if parameter is not None:
            nn.init.zeros_(parameter)


def _outputs_of(stages: nn.Sequential, x: Tensor) -> list[Tensor]:
    outputs = []
    for stage in stages:
        x = stage(x)
        outputs.append(x)
    return outputs
