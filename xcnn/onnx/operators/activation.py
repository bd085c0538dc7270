"""Activations."""

from __future__ import annotations

from ... import functional as F
from ...tensor import Tensor
from ..node import Node, operator


@operator("Relu")
def relu(node: Node, x: Tensor) -> Tensor:
    return F.relu(x)
