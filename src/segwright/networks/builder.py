"""Build the network that a plan describes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from segwright.errors import PlanError, message
from segwright.networks.blocks import Decoder, Operators
from segwright.networks.unet import PlainEncoder, ResidualEncoder, UNet, initialise

if TYPE_CHECKING:
    from segwright.planning.plan import Architecture

# A plan is a file from anywhere: its class names are looked up here and nowhere else.
NORMS: Mapping[int, tuple[type[nn.Module], ...]] = {
    2: (nn.InstanceNorm2d, nn.BatchNorm2d),
    3: (nn.InstanceNorm3d, nn.BatchNorm3d),
}
DROPOUTS: Mapping[int, tuple[type[nn.Module], ...]] = {
    2: (nn.Dropout2d, nn.Dropout, nn.AlphaDropout),
    3: (nn.Dropout3d, nn.Dropout, nn.AlphaDropout),
}
NONLINEARITIES: tuple[type[nn.Module], ...] = (
    nn.LeakyReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
)


def build_network(
    architecture: Architecture, *, num_input_channels: int, num_outputs: int, deep_supervision: bool = True
) -> UNet:
    """Build and initialise the network of a plan's configuration, on the CPU.

    Draws from torch's global generator. `network.decoder.deep_supervision` switches deep supervision later on.

    Raises:
        PlanError: the architecture is not one that Segwright has, or names a module that it does not allow.
    """
    encoder_class: type[PlainEncoder] | type[ResidualEncoder]
    if architecture.kind == "plain":
        encoder_class = PlainEncoder
    elif architecture.kind == "residual":
        encoder_class = ResidualEncoder
    else:
        raise PlanError(
            message(
                "plans, key 'architecture.network_class_name'",
                expected="PlainConvUNet or ResidualEncoderUNet",
                got=repr(architecture.network_class_name),
                remedy="Plan with a planner that asks for one of these.",
            )
        )
    _refuse_unknown_arguments(architecture)
    if architecture.num_stages < 2:
        raise PlanError(
            message(
                "plans, key 'architecture.arch_kwargs.n_stages'",
                expected="two stages or more",
                got=architecture.num_stages,
                remedy="A U-Net needs a stage below the first; plan with a larger patch.",
            )
        )
    operators = operators_of(architecture)
    encoder = encoder_class(
        num_input_channels,
        architecture.features_per_stage,
        operators=operators,
        kernel_sizes=architecture.kernel_sizes,
        strides=architecture.strides,
        blocks_per_stage=architecture.blocks_per_stage,
    )
    decoder = Decoder(
        architecture.features_per_stage,
        num_outputs,
        operators=operators,
        kernel_sizes=architecture.kernel_sizes,
        strides=architecture.strides,
        convs_per_stage=architecture.convs_per_decoder_stage,
        deep_supervision=deep_supervision,
    )
    network = UNet(encoder, decoder)
    initialise(network)
    return network


def _refuse_unknown_arguments(architecture: Architecture) -> None:
    asked = {key: value for key, value in architecture.other_kwargs.items() if value is not None and value is not False}
    if asked:
        raise PlanError(
            message(
                "plans, key 'architecture.arch_kwargs'",
                expected="the arguments that nnU-Net's planners write",
                got=f"also {asked}",
                remedy="Take them out, or train and predict with the network that they are made for.",
            )
        )


def operators_of(architecture: Architecture) -> Operators:
    """Look up the torch modules that an architecture names, in lists of allowed ones.

    Raises:
        PlanError: naming the key, the name and the allowed names, or the arguments that the module refuses.
    """
    dims = architecture.spatial_dims
    norm = _module_named("norm_op", architecture.norm_op, NORMS[dims])
    dropout = _module_named("dropout_op", architecture.dropout_op, DROPOUTS[dims])
    nonlin = _module_named("nonlin", architecture.nonlin, NONLINEARITIES)
    norm_kwargs = dict(architecture.norm_op_kwargs or {})
    dropout_kwargs = dict(architecture.dropout_op_kwargs or {})
    nonlin_kwargs = dict(architecture.nonlin_kwargs or {})
    for channels in sorted(set(architecture.features_per_stage)):
        shape = (1, channels, *[2] * dims)
        _try_out("norm_op_kwargs", norm, norm_kwargs, shape, channels)
        _try_out("dropout_op_kwargs", dropout, dropout_kwargs, shape)
        _try_out("nonlin_kwargs", nonlin, nonlin_kwargs, shape)
    return Operators(
        spatial_dims=dims,
        conv_bias=architecture.conv_bias,
        norm=norm,
        norm_kwargs=norm_kwargs,
        dropout=dropout,
        dropout_kwargs=dropout_kwargs,
        nonlin=nonlin,
        nonlin_kwargs=nonlin_kwargs,
    )


def _module_named(key: str, name: str | None, allowed: tuple[type[nn.Module], ...]) -> type[nn.Module] | None:
    """The allowed class of that dotted name; torch's own short and long paths (`torch.nn.X`) name the same class."""
    if name is None:
        return None
    for module in allowed:
        if name in (f"torch.nn.{module.__name__}", f"{module.__module__}.{module.__name__}"):
            return module
    raise PlanError(
        message(
            f"plans, key 'architecture.arch_kwargs.{key}'",
            expected="one of " + ", ".join(f"torch.nn.{module.__name__}" for module in allowed),
            got=repr(name),
            remedy="Name one of these in the plans file.",
        )
    )


def _try_out(
    key: str, module: type[nn.Module] | None, kwargs: dict[str, Any], shape: Sequence[int], *args: int
) -> None:
    """Make the module and run it on one small map: torch looks at many arguments only when they are used."""
    if module is None:
        return
    try:
        with torch.device("cpu"), torch.no_grad():
            made = module(*args, **kwargs).train(bool(args))  # dropout would draw random numbers in training
            out = made(torch.linspace(-1, 1, math.prod(shape)).reshape(tuple(shape)))
        if not torch.isfinite(out).all():
            raise ValueError("the output is not finite")
    except Exception as error:  # whatever torch raises is due to these arguments
        raise PlanError(
            message(
                f"plans, key 'architecture.arch_kwargs.{key}'",
                expected=f"arguments that torch.nn.{module.__name__} takes",
                got=f"{kwargs} ({error})",
                remedy="Correct them in the plans file.",
            )
        ) from error
