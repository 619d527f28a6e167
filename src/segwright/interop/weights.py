"""Network weights with nnU-Net v2's names.

nnU-Net stores most tensors several times: every block lists its modules once by name and once in `all_modules`, and the
decoder holds the encoder. The copies share storage. Segwright's networks have each tensor once; the copies are made for
files that nnU-Net loads strictly, and dropped when such a file is read.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from itertools import groupby

import torch
from torch import Tensor, nn

from segwright.errors import CheckpointError, message
from segwright.networks.blocks import ConvBlock
from segwright.networks.unet import UNet

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
ENCODER_COPY = "decoder.encoder."
BLOCK_COPY = ".all_modules."


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, without the wrappers of torch.compile and distributed training."""
    while True:
        inner = getattr(network, "_orig_mod", None) or (
            network.module if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel) else None
        )
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def to_nnunet_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """State of a network with nnU-Net's keys in nnU-Net's order, copies included; copies share their tensor's storage.

    A network that is not one of Segwright's returns its own state, unchanged.
    """
    network = unwrap(network)
    state: dict[str, Tensor] = dict(network.state_dict())
    if not isinstance(network, UNet):
        return state
    blocks = {name: module for name, module in network.named_modules() if isinstance(module, ConvBlock)}
    result: dict[str, Tensor] = {}
    for block_name, group in groupby(state, key=lambda key: key.rsplit(".", 2)[0]):
        keys = list(group)
        result.update((key, state[key]) for key in keys)
        if block_name in blocks:
            result.update((_block_copy(blocks[block_name], block_name, key), state[key]) for key in keys)
    encoder = {key: value for key, value in result.items() if key.startswith("encoder.")}
    copies = {f"decoder.{key}": value for key, value in encoder.items()}
    decoder = {key: value for key, value in result.items() if key not in encoder}
    return {**encoder, **copies, **decoder}


def _block_copy(block: ConvBlock, block_name: str, key: str) -> str:
    present = [name for name, module in block.named_children() if module is not None]
    part, tensor_name = key.rsplit(".", 2)[1:]
    return f"{block_name}{BLOCK_COPY}{present.index(part)}.{tensor_name}"


def load_state_dict(
    network: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    where: str,
    network_name: str = "the network that the plan describes",
) -> None:
    """Load weights from a file into a network; the tensors must match one to one.

    `where` names the file in errors, and `network_name` the network.

    Raises:
        CheckpointError: naming every key that is missing, unexpected, of another shape or kind of number, or not
            finite.
    """
    network = unwrap(network)
    own = network.state_dict()
    found = without_copies(state_dict, keep=own.keys())
    problems = [
        *(f"{key} is missing" for key in own if key not in found),
        *(f"{key} is not part of the network" for key in found if key not in own),
        *(
            f"{key} has shape {tuple(found[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in found and found[key].shape != own[key].shape
        ),
        *(
            f"{key} is of {found[key].dtype} instead of {own[key].dtype}"
            for key in own
            if key in found and _kind(found[key]) != _kind(own[key])
        ),
    ]
    broken = [key for key in own if not problems and not torch.isfinite(found[key]).all()]
    problems += [f"{key} has NaN or infinite values" for key in broken]
    if problems:
        raise CheckpointError(
            message(
                where,
                expected=f"weights for each of the {len(own)} tensors of {network_name}",
                got="; ".join(problems),
                remedy="Use the plan, the data set and the trainer class that the model was trained with.",
            )
        )
    network.load_state_dict(dict(found))


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    """Floating or complex: torch casts one kind to another without a word, any precision within one is fine."""
    return tensor.is_floating_point(), tensor.is_complex()


def without_copies(state_dict: Mapping[str, Tensor], *, keep: Container[str] = ()) -> dict[str, Tensor]:
    """Weights without nnU-Net's copies and without the prefixes of wrapped networks; keys in `keep` always stay."""
    plain = {_without_prefixes(key): value for key, value in state_dict.items()}
    return {key: value for key, value in plain.items() if key in keep or not _is_copy(key)}


def _is_copy(key: str) -> bool:
    return key.startswith(ENCODER_COPY) or BLOCK_COPY in key


def _without_prefixes(key: str) -> str:
    while key.startswith(WRAPPER_PREFIXES):
        key = key.split(".", 1)[1]
    return key
