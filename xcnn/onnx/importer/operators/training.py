"""Optimiser steps: new parameters and states from gradients, without autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, operator

#: ``update(xp, x, gradient, *states)``, which returns the new parameter and states
Update = Callable[..., tuple]


def _adagrad(node: Node, rate: float, t: int) -> Update:
    rate /= 1 + t * node.number("decay_factor", 0.0)
    epsilon = node.number("epsilon", 1e-6)

    def update(xp: Any, x: Array, g: Array, squares: Array) -> tuple:
        squares = squares + g * g
        return x - rate * g / (xp.sqrt(squares) + epsilon), squares

    return update


def _adam(node: Node, rate: float, t: int) -> Update:
    alpha, beta = node.number("alpha", 0.9), node.number("beta", 0.999)
    epsilon, decay = node.number("epsilon", 1e-6), node.number("norm_coefficient_post", 0.0)
    if t > 0:
        rate *= math.sqrt(1 - beta**t) / (1 - alpha**t)

    def update(xp: Any, x: Array, g: Array, mean: Array, squares: Array) -> tuple:
        mean = alpha * mean + (1 - alpha) * g
        squares = beta * squares + (1 - beta) * (g * g)
        new = x - rate * (mean / (xp.sqrt(squares) + epsilon))
        return (1 - decay) * new if decay else new, mean, squares

    return update


def _momentum(node: Node, rate: float, t: int) -> Update:
    alpha, beta = node.number("alpha"), node.number("beta") if t > 0 else 1.0
    is_nesterov = node.text("mode", None, ("standard", "nesterov")) == "nesterov"

    def update(xp: Any, x: Array, g: Array, velocity: Array) -> tuple:
        velocity = alpha * velocity + beta * g
        return x - rate * (g + alpha * velocity if is_nesterov else velocity), velocity

    return update


#: by type: number of states, and ``make(node, rate, t)``, which returns an Update
_OPTIMIZERS = {"Adagrad": (1, _adagrad), "Adam": (2, _adam), "Momentum": (1, _momentum)}


@operator(*_OPTIMIZERS, domain="ai.onnx.preview.training", static=(0, 1))
def step(node: Node, r: Array, t: Array, *tensors: Tensor) -> tuple:
    """Inputs: learning rate, step count, all parameters, all gradients, and all states of each
    kind. Outputs: all new parameters, and all new states of each kind.
    """
    states, make = _OPTIMIZERS[node.type]
    count, rest = divmod(len(tensors), 2 + states)
    if rest or not count or any(t is None for t in tensors):
        raise node.error(f"{len(tensors)} inputs after R and T: expected {2 + states} for each x")
    update = make(node, r.item(), t.item())
    results = [_updated(node, tensors[i::count], update) for i in range(count)]
    return tuple(Tensor(y) for kind in zip(*results, strict=True) for y in kind)


def _updated(node: Node, tensors: tuple[Tensor, ...], update: Update) -> tuple:
    """Update one parameter; L2 regularisation adds norm_coefficient · x to its gradient."""
    x = tensors[0]
    if any(t.shape != x.shape or t.dtype != x.dtype for t in tensors) or x.dtype.kind != "f":
        kinds = ", ".join(f"{t.dtype} {t.shape}" for t in tensors)
        raise node.error(
            f"parameter, gradient and states are {kinds}: expected floats of one type and shape"
        )
    decay = node.number("norm_coefficient", 0.0)
    x, gradient, *states = (t.data for t in tensors)
    with tensors[0].backend.active():
        gradient = decay * x + gradient if decay else gradient
        return update(tensors[0].backend.xp, x, gradient, *states)
