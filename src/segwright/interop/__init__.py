"""Exchange with nnU-Net v2: weights with its names, checkpoint files in its layout."""

from __future__ import annotations

from segwright.interop.checkpoint import Checkpoint, Progress
from segwright.interop.checkpoint_file import read_checkpoint, write_checkpoint
from segwright.interop.weights import load_state_dict, to_nnunet_state_dict, unwrap

__all__ = [
    "Checkpoint",
    "Progress",
    "load_state_dict",
    "read_checkpoint",
    "to_nnunet_state_dict",
    "unwrap",
    "write_checkpoint",
]
