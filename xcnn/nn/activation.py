"""Activation layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..errors import ArgumentError
from ..tensor import Tensor
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return F.relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """tanh(x)."""

    def forward(self, x: Any) -> Tensor:
        return F.tanh(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along ``dim`` (default: classes of (N, C, ...))."""

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.softmax(x, self.dim)


class LogSoftmax(Module):
    """log(softmax(x)) along ``dim`` (default: classes of (N, C, ...))."""

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.log_softmax(x, self.dim)


_BY_NAME: dict[str, type[Module]] = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}


def activation(name: str) -> Module:
    """The layer called "relu", "sigmoid" or "tanh".

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    if name not in _BY_NAME:
        raise ArgumentError(f"activation={name!r}: expected one of {sorted(_BY_NAME)}")
    return _BY_NAME[name]()
