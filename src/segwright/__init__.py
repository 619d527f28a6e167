"""Segwright: medical image segmentation that configures itself."""

from __future__ import annotations

__version__ = "0.1.0"
