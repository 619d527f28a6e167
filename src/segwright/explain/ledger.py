"""An account of memory: what is taken and released, in order, and what was held when it was most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Purpose = Literal["parameters", "gradients", "optimizer", "activations", "temporary"]


@dataclass
class Buffer:
    """A piece of memory and how many hold it; it is released when the last of them drops it."""

    purpose: Purpose
    size: int
    holders: int = 1


class Ledger:
    """Bytes held at present, and `at_peak`: bytes by purpose at the moment when the sum was largest."""

    def __init__(self) -> None:
        self.held: Counter[Purpose] = Counter()
        self.at_peak: Counter[Purpose] = Counter()

    def take(self, size: int, purpose: Purpose = "temporary") -> Buffer:
        """Take memory, held once."""
        self.held[purpose] += size
        if self.held.total() > self.at_peak.total():
            self.at_peak = self.held.copy()
        return Buffer(purpose, size)

    def hold(self, buffer: Buffer) -> Buffer:
        """Hold a buffer once more."""
        buffer.holders += 1
        return buffer

    def drop(self, *buffers: Buffer) -> None:
        """Hold each buffer once less."""
        for buffer in buffers:
            buffer.holders -= 1
            if buffer.holders == 0:
                self.held[buffer.purpose] -= buffer.size

    @contextmanager
    def passing(self, *sizes: int) -> Iterator[None]:
        """Take memory for as long as the block lasts."""
        buffers = [self.take(size) for size in sizes]
        yield
        self.drop(*buffers)
