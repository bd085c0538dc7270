"""Gradient clipping, to call between ``loss.backward()`` and ``optimizer.step()``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..arrays import Array
from ..checks import check_number
from ..tensor import Tensor
from .optimizer import one_backend, tensors


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0
) -> Tensor:
    """Scale all gradients in place so that their total norm is at most ``max_norm``.

    Multiplies each by min(1, max_norm / (norm + 1e-6)), with the norm of all gradients taken as one
    vector. Source: Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063.

    Parameters
    ----------
    parameters
        ``model.parameters()``; parameters without a gradient are ignored.
    max_norm
        Maximum norm.
    norm_type
        The p of the p-norm, > 0; ``math.inf`` for the largest absolute value.

    Returns
    -------
    Tensor
        The norm before clipping, one number on the device; the call does not wait for it.

    Raises
    ------
    ArgumentError
        No parameters, or a value out of range.
    DeviceError
        Parameters are on more than one device.
    """
    check_number("max_norm", max_norm, 0)
    norm_type = check_number("norm_type", norm_type, 0, above=True)
    params, grads = _gradients(parameters, "clip_grad_norm_")
    backend: Any = one_backend(params)
    with backend.active():  # a limit may be infinite in float32
        filled = [g for g in grads if g.size]
        if not filled:
            return Tensor(backend.xp.zeros((), params[0].dtype))
        return Tensor(backend.clip_norm(filled, max_norm, norm_type))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every element of the gradients to [-clip_value, clip_value], in place.

    Parameters
    ----------
    parameters
        ``model.parameters()``; parameters without a gradient are ignored.
    clip_value
        Maximum absolute value.

    Raises
    ------
    ArgumentError
        No parameters, or a negative value.
    """
    check_number("clip_value", clip_value, 0)
    params, grads = _gradients(parameters, "clip_grad_value_")
    backend: Any = one_backend(params)
    with backend.active():  # a limit may be infinite in float32
        for g in grads:
            backend.xp.clip(g, -clip_value, clip_value, out=g)


def _gradients(
    parameters: Tensor | Iterable[Tensor], caller: str
) -> tuple[list[Tensor], list[Array]]:
    params = tensors(parameters, f"{caller}: parameters", "call")
    return params, [p.grad.data for p in params if p.grad is not None]
