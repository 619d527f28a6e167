"""Networks: blocks, the plain and the residual encoder U-Net, and the builder that follows a plan."""

from __future__ import annotations

from segwright.networks.builder import build_network
from segwright.networks.unet import initialise

__all__ = ["build_network", "initialise"]
