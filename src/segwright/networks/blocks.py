"""The blocks that both U-Nets are made of (nnU-Net v2; the residual block is ResNet-D's, He et al. 2019).

Attribute names are nnU-Net's parameter names and the order of registration is its parameter order: a checkpoint's
weights are found by the one and its optimizer state by the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS: Mapping[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: Mapping[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
AVERAGE_POOLS: Mapping[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


@dataclass(frozen=True)
class Operators:
    """Which torch modules a network is made of; `None` leaves the operation out."""

    spatial_dims: int
    conv_bias: bool
    norm: type[nn.Module] | None
    norm_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dropout: type[nn.Module] | None = None
    dropout_kwargs: Mapping[str, Any] = field(default_factory=dict)
    nonlin: type[nn.Module] | None = nn.LeakyReLU
    nonlin_kwargs: Mapping[str, Any] = field(default_factory=dict)


class ConvBlock(nn.Module):
    """Convolution, dropout, norm, nonlinearity, in this order; dropout and nonlinearity can be left out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        operators: Operators,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
        bias: bool | None = None,
        dropout: bool = True,
        nonlin: bool = True,
    ) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[operators.spatial_dims]
        self.conv = convolution(
            in_channels,
            out_channels,
            tuple(kernel_size),  # type: ignore[arg-type]
            tuple(stride or [1] * operators.spatial_dims),  # type: ignore[arg-type]
            padding=tuple((size - 1) // 2 for size in kernel_size),  # type: ignore[arg-type]
            bias=operators.conv_bias if bias is None else bias,
        )
        self.dropout = operators.dropout(**operators.dropout_kwargs) if dropout and operators.dropout else None
        self.norm = operators.norm(out_channels, **operators.norm_kwargs) if operators.norm else None
        self.nonlin = operators.nonlin(**operators.nonlin_kwargs) if nonlin and operators.nonlin else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for module in (self.dropout, self.norm, self.nonlin):
            if module is not None:
                x = module(x)
        return x


class ConvStack(nn.Module):
    """Convolution blocks in a row; the first one changes channels and resolution."""

    def __init__(
        self,
        num_blocks: int,
        in_channels: int,
        out_channels: int,
        *,
        operators: Operators,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                ConvBlock(
                    in_channels if i == 0 else out_channels,
                    out_channels,
                    operators=operators,
                    kernel_size=kernel_size,
                    stride=stride if i == 0 else None,
                )
                for i in range(num_blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two convolution blocks and a skip, summed before the last nonlinearity.

    The skip pools by averaging where the block strides, and projects by a 1x1 convolution where channels change.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        operators: Operators,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = ConvBlock(in_channels, out_channels, operators=operators, kernel_size=kernel_size, stride=stride)
        self.conv2 = ConvBlock(
            out_channels, out_channels, operators=operators, kernel_size=kernel_size, dropout=False, nonlin=False
        )
        self.nonlin2 = operators.nonlin(**operators.nonlin_kwargs) if operators.nonlin else nn.Identity()
        skip: list[nn.Module] = []
        if stride is not None and any(step != 1 for step in stride):
            skip.append(AVERAGE_POOLS[operators.spatial_dims](tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if in_channels != out_channels:
            skip.append(
                ConvBlock(
                    in_channels,
                    out_channels,
                    operators=operators,
                    kernel_size=[1] * operators.spatial_dims,
                    bias=False,
                    dropout=False,
                    nonlin=False,
                )
            )
        self.skip = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))  # type: ignore[no-any-return]


class ResidualStack(nn.Module):
    """Residual blocks in a row; the first one changes channels and resolution."""

    def __init__(
        self,
        num_blocks: int,
        in_channels: int,
        out_channels: int,
        *,
        operators: Operators,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(
                    in_channels if i == 0 else out_channels,
                    out_channels,
                    operators=operators,
                    kernel_size=kernel_size,
                    stride=stride if i == 0 else None,
                )
                for i in range(num_blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Way back up a U-Net; stage 0 is the lowest.

    Takes the encoder's outputs, highest resolution first. Gives logits: a list, highest resolution first, one for every
    stage, if `deep_supervision` is set, else the highest alone. The heads exist either way, so that weights fit both.
    """

    def __init__(
        self,
        features_per_stage: Sequence[int],
        num_outputs: int,
        *,
        operators: Operators,
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        convs_per_stage: Sequence[int],
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        stages: list[nn.Module] = []
        transpconvs: list[nn.Module] = []
        seg_layers: list[nn.Module] = []
        dims = operators.spatial_dims
        for index, skip in enumerate(reversed(range(len(features_per_stage) - 1))):
            below, here = features_per_stage[skip + 1], features_per_stage[skip]
            stride: Any = tuple(strides[skip + 1])
            transpconvs.append(TRANSPOSED[dims](below, here, stride, stride, bias=operators.conv_bias))
            stages.append(
                ConvStack(convs_per_stage[index], 2 * here, here, operators=operators, kernel_size=kernel_sizes[skip])
            )
            seg_layers.append(CONVOLUTIONS[dims](here, num_outputs, 1))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(transpconvs)
        self.seg_layers = nn.ModuleList(seg_layers)

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        x = skips[-1]
        outputs: list[Tensor] = []
        last = len(self.stages) - 1
        for index, (up, stage, head) in enumerate(zip(self.transpconvs, self.stages, self.seg_layers, strict=True)):
            x = stage(torch.cat((up(x), skips[-(index + 2)]), dim=1))
            if self.deep_supervision or index == last:
                outputs.append(head(x))
        return outputs[::-1] if self.deep_supervision else outputs[0]
