"""Steps of optimisers: new arrays out of parameters, gradients and state; nothing is recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, operator

_DOMAIN = "ai.onnx.preview.training"


def _stepped(node: Node, tensors: tuple[Any, ...], kinds: int, step: Callable[..., tuple]) -> tuple:
    """The outputs for ``tensors``: all parameters, all gradients, then all states of each kind.

    ``step(xp, x, gradient, *states)`` gives the new parameter and the new states.
    """
    count, rest = divmod(len(tensors), kinds)
    if rest or not count or any(t is None for t in tensors):
        raise node.error(f"{len(tensors)} inputs after R and T: expected {kinds} for each tensor")
    found = [_step_of_one(node, tensors[i::count], step) for i in range(count)]
    return tuple(Tensor(y) for kind in zip(*found, strict=True) for y in kind)


def _step_of_one(node: Node, tensors: tuple[Tensor, ...], step: Callable[..., tuple]) -> tuple:
    x = tensors[0]
    if any(t.shape != x.shape or t.dtype != x.dtype for t in tensors) or x.dtype.kind != "f":
        kinds = ", ".join(f"{t.dtype} {t.shape}" for t in tensors)
        raise node.error(f"a tensor, its gradient and its state are {kinds}: expected floats alike")
    with x.backend.active():
        return step(x.backend.xp, *[t.data for t in tensors])


def _decayed(node: Node, x: Array, gradient: Array) -> Array:
    """The gradient with that of norm_coefficient / 2 · |x|²."""
    factor = node.number("norm_coefficient", 0.0)
    return factor * x + gradient if factor else gradient


@operator("Adagrad", domain=_DOMAIN, static=(0, 1))
def adagrad(node: Node, r: Array, t: Array, *tensors: Tensor) -> tuple:
    rate = r.item() / (1 + t.item() * node.number("decay_factor", 0.0))
    epsilon = node.number("epsilon", 1e-6)

    def step(xp: Any, x: Array, gradient: Array, squares: Array) -> tuple:
        g = _decayed(node, x, gradient)
        new = squares + g * g
        return x - rate * g / (xp.sqrt(new) + epsilon), new

    return _stepped(node, tensors, 3, step)


@operator("Adam", domain=_DOMAIN, static=(0, 1))
def adam(node: Node, r: Array, t: Array, *tensors: Tensor) -> tuple:
    alpha, beta = node.number("alpha", 0.9), node.number("beta", 0.999)
    epsilon, shrink = node.number("epsilon", 1e-6), node.number("norm_coefficient_post", 0.0)
    rate, count = r.item(), t.item()
    if count > 0:
        rate *= math.sqrt(1 - beta**count) / (1 - alpha**count)

    def step(xp: Any, x: Array, gradient: Array, mean: Array, squares: Array) -> tuple:
        g = _decayed(node, x, gradient)
        mean = alpha * mean + (1 - alpha) * g
        squares = beta * squares + (1 - beta) * (g * g)
        new = x - rate * (mean / (xp.sqrt(squares) + epsilon))
        return (1 - shrink) * new if shrink else new, mean, squares

    return _stepped(node, tensors, 4, step)


@operator("Momentum", domain=_DOMAIN, static=(0, 1))
def momentum(node: Node, r: Array, t: Array, *tensors: Tensor) -> tuple:
    alpha, beta, mode = node.number("alpha"), node.number("beta"), node.text("mode")
    if mode not in ("standard", "nesterov"):
        raise node.error(f'mode={mode!r}: expected "standard" or "nesterov"')
    rate, share = r.item(), beta if t.item() > 0 else 1.0

    def step(xp: Any, x: Array, gradient: Array, velocity: Array) -> tuple:
        g = _decayed(node, x, gradient)
        velocity = alpha * velocity + share * g
        return x - rate * (g + alpha * velocity if mode == "nesterov" else velocity), velocity

    return _stepped(node, tensors, 3, step)
