"""Count the bytes that one training step holds, by taking the trainer's own step on tensors that have no memory.

Torch's `meta` device computes shapes, types and layouts and nothing else, so a step of any size takes a fraction of a
second. Each storage is counted once, from the operation that makes it until nothing refers to it any more. What oneDNN
and cuDNN work with inside an operation depends on the processor and is not seen.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from segwright.explain.cost import StepMemory
from segwright.explain.step_measurement import random_batch
from segwright.planning.budget import SETTING_NAMES
from segwright.training.trainer import memory_format_on

if TYPE_CHECKING:
    from segwright.training.trainer import Trainer

# Beyond this batch size the parts that grow with the batch are scaled: shapes of millions of patches overflow.
LARGEST_COUNTED = 1024
# What torch's autocast runs in float16 and in float32 on CUDA, of the functions that segmentation networks use.
_IN_FLOAT16 = frozenset(
    {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
    | {"linear", "matmul", "bmm", "mm", "addmm", "baddbmm", "einsum", "scaled_dot_product_attention", "prelu"}
)
# On the CPU torch unfolds the map of a single patch for a convolution, where channels times the first two axes are as
# few as this (`use_mkldnn` in torch's Convolution.cpp).
_UNFOLDED_UP_TO = 20480
_IN_FLOAT32 = frozenset(
    {"softmax", "log_softmax", "cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "mse_loss"}
)
_SUMS = (torch.ops.aten.sum.default, torch.ops.aten.sum.dim_IntList)


def count_step_memory(trainer: Trainer, *, device: str, batch_size: int | None = None) -> StepMemory:
    """Count what a training step with an optimizer that has its state holds at its peak, on a device of that type.

    A validation step never holds more: it keeps nothing for a backward pass. `trainer` has its settings and need not
    have a network; another of its class takes the step. On CUDA that is in mixed precision, as the trainer's own.

    Raises:
        Exception: of any kind, where code of the user's own needs the values of tensors.
    """
    asked = trainer.batch_size if batch_size is None else batch_size
    with _compiler_left_out(), torch.device("meta"), StorageCount(unfolds=device == "cpu") as storages:
        stand_in = _stand_in(trainer, device)
        stand_in.batch_size = min(asked, LARGEST_COUNTED)
        parameters = [*stand_in.network.parameters(), *stand_in.network.buffers()]
        storages.name(parameters, "parameters")
        storages.name(_state_of(stand_in.optimizer), "optimizer")
        stand_in.network.train()
        stand_in.train_step(random_batch(stand_in))
        storages.name([each.grad for each in stand_in.network.parameters() if each.grad is not None], "gradients")
    held, scale = storages.at_peak(), asked / stand_in.batch_size
    return StepMemory(
        parameters=held["parameters"],
        gradients=held["gradients"],
        optimizer=held["optimizer"],
        activations=round(held["activations"] * scale),
        temporary=round(held["temporary"] * scale),
    )


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    """Keep torch from importing its compiler, which takes as long as torch itself, to exempt functions from it."""
    name = "torch._dynamo"
    if name in sys.modules:
        yield
        return
    exempted: list[Any] = []

    def disable(function: Any, *_: Any, **__: Any) -> Any:
        exempted.append(function)
        return function

    stub = ModuleType(name)
    stub.disable = disable  # type: ignore[attr-defined]
    stub.graph_break = lambda *_, **__: None  # type: ignore[attr-defined]
    sys.modules[name] = torch._dynamo = stub
    try:
        yield
    finally:
        del sys.modules[name], torch._dynamo
        for function in exempted:  # where torch keeps what it was given
            vars(function).pop("__dynamo_disable", None)


def _stand_in(trainer: Trainer, device: str) -> Trainer:
    """A trainer of the same class and settings on tensors without memory, its optimizer as after the first step."""
    made = type(trainer)(
        trainer.plan.raw,
        trainer.configuration_name,
        trainer.fold,
        trainer.description.raw,
        device=torch.device("meta"),
    )
    made.budget = trainer.budget
    for name in SETTING_NAMES:
        setattr(made, name, trainer.budget.value(name))
    made._autocast = HalfPrecision if device == "cuda" else nullcontext  # type: ignore[method-assign,assignment]
    made.initialize()
    made.memory_format = memory_format_on(torch.device(device), made.configuration)
    made.network.to(memory_format=made.memory_format)  # type: ignore[call-overload]
    for group in made.optimizer.param_groups:
        if device != "cpu" and group.get("foreach") is None:
            group["foreach"] = True  # torch's own default there: all parameters at once
    for parameter in made.network.parameters():
        parameter.grad = torch.empty_like(parameter)
    made.optimizer.step()
    made.optimizer.zero_grad(set_to_none=True)
    return made


def _state_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


class StorageCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each storage that an operation makes, and when it goes. Views and changes in place take nothing.

    With `unfolds`, convolutions of a single small map also take its unfolded columns, as on the CPU.
    """

    def __init__(self, *, unfolds: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._unfolds = unfolds
        self._changes: list[tuple[int, int]] = []  # number of the storage, bytes: negative where they are released
        self._kinds: dict[int, str] = {}
        self._live: dict[int, tuple[int, weakref.ref[torch.UntypedStorage]]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # torch's own way around an import of its compiler, which takes a second
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it puts out."""
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return 1.0  # of `loss.item()`
        if _changes_in_place_only(func, args):
            return args[0] if func._schema.returns else None
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._see(tensor, _kind_of(func, args, self))
        working = _bytes_of_cast(func, args, out) + (_bytes_of_columns(func, args, out) if self._unfolds else 0)
        if working:
            number = self._new("temporary")
            self._changes += [(number, working), (number, -working)]
        return out

    def name(self, tensors: list[Tensor], kind: str) -> None:
        """Say what these tensors are for."""
        for tensor in tensors:
            number = self.number_of(tensor)
            if number is not None:
                self._kinds[number] = kind

    def number_of(self, tensor: Tensor) -> int | None:
        """Number of a tensor's storage; None where nothing was seen to make it."""
        found = self._live.get(tensor.untyped_storage()._cdata)
        return None if found is None else found[0]

    def kind_of(self, tensor: Tensor) -> str | None:
        """What a tensor was said to be for."""
        number = self.number_of(tensor)
        return None if number is None else self._kinds[number]

    def at_peak(self) -> Counter[str]:
        """Bytes by kind at the moment when most were held."""
        held: Counter[str] = Counter()
        peak, total, largest = Counter[str](), 0, 0
        for number, size in self._changes:
            held[self._kinds[number]] += size
            total += size
            if total > largest:
                peak, largest = held.copy(), total
        return peak

    def _see(self, tensor: Tensor, kind: str) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._live or size == 0:
            return
        number = self._new(kind)
        self._changes.append((number, size))

        def release(_: object) -> None:
            self._changes.append((number, -size))
            del self._live[key]

        self._live[key] = number, weakref.ref(storage, release)

    def _new(self, kind: str) -> int:
        number = len(self._kinds)
        self._kinds[number] = kind
        return number


def _bytes_of_cast(func: Any, args: Any, out: Any) -> int:
    """A sum of booleans or integers first casts all that it sums."""
    if func not in _SUMS or out.dtype == args[0].dtype:
        return 0
    return int(args[0].numel() * out.element_size())


def _bytes_of_columns(func: Any, args: Any, out: Any) -> int:
    """What a convolution that unfolds its map works with: its kernel times its channels, for each voxel."""
    if func is torch.ops.aten.convolution.default:
        (x, weight), transposed, after = args[:2], args[6], out
    elif func is torch.ops.aten.convolution_backward.default:
        (x, weight), transposed, after = args[1:3], args[7], args[0]
    else:
        return 0
    if x.shape[0] > 1 or math.prod(x.shape[:4]) > _UNFOLDED_UP_TO or math.prod(weight.shape[2:]) == 1:
        return 0
    voxels = math.prod((x if transposed else after).shape[2:])
    return int(math.prod(weight.shape[1:]) * voxels * x.element_size())


def _changes_in_place_only(func: Any, args: Any) -> bool:
    """Whether an operation gives back its first argument as it was, but for the values, which a meta tensor lacks."""
    if not func._schema.name.endswith("_") or torch.Tag.inplace_view in func.tags or not args:
        return False
    first = args[0][0] if isinstance(args[0], tuple | list) and args[0] else args[0]
    return isinstance(first, Tensor) and first.is_meta


def _kind_of(func: Any, args: Any, storages: StorageCount) -> str:
    """What a new storage is for: copies of parameters in half precision are of their kind, the forward pass makes
    activations, and what comes without recording gradients, the backward pass above all, is temporary."""
    if func is torch.ops.aten._to_copy.default and storages.kind_of(args[0]) == "parameters":
        return "parameters"
    return "activations" if torch.is_grad_enabled() else "temporary"


class HalfPrecision(TorchFunctionMode):
    """Do as torch's autocast does on CUDA, on a device that it does not know; parameters are cast once."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Cast what a function takes, where autocast would."""
        name = getattr(func, "__name__", "")
        cast = self._half if name in _IN_FLOAT16 else _single if name in _IN_FLOAT32 else None
        if cast is None:
            return func(*args, **(kwargs or {}))
        return func(*(cast(value) for value in args), **{key: cast(value) for key, value in (kwargs or {}).items()})

    def _half(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.half()
        if id(value) not in self._copies:
            self._copies[id(value)] = value.half()
        return self._copies[id(value)]


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float16 else value
