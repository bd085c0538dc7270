"""Layers that change only the shape."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import check_shape
from ..tensor import Tensor
from .module import Module
from .operation import OperationLayer

__all__ = ["Flatten", "Unflatten"]


class Flatten(OperationLayer, function=F.flatten):
    """Join the axes from ``start_dim`` to ``end_dim``: (N, C, H, W) to (N, C·H·W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim


class Unflatten(Module):
    """Split one axis: (N, features) to (N, ``*unflattened_size``) with ``dim=1``."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        self.dim = dim
        self.unflattened_size = check_shape("unflattened_size", unflattened_size, -1)

    def forward(self, x: Any) -> Tensor:
        return F.unflatten(x, self.dim, self.unflattened_size)
