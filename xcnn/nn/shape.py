"""Layers that only change the shape."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..tensor import Tensor
from .module import Module


class Flatten(Module):
    """(N, C, H, W) to (N, C·H·W): joins the axes from ``start_dim`` on."""

    def __init__(self, start_dim: int = 1) -> None:
        self.start_dim = start_dim

    def forward(self, x: Any) -> Tensor:
        return F.flatten(x, self.start_dim)


class Unflatten(Module):
    """(N, features) to (N, ``*shape``), such as (N, 1, 28, 28)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        return F.reshape(x, (x.shape[0], *self.shape))
