"""Test helpers for user-defined layers: array comparison and gradient checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import backends
from .arrays import Array
from .errors import DTypeError, GradientError
from .nn import Module
from .tensor import Tensor, enable_grad, no_grad, walk

__all__ = ["TOLERANCES", "assert_close", "gradcheck"]

#: (relative, absolute) tolerance by dtype
TOLERANCES: dict[str, tuple[float, float]] = {
    "float16": (1e-2, 1e-3),
    "float32": (2e-5, 2e-6),
    "float64": (1e-10, 1e-12),
}


def assert_close(
    actual: Array,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    dtype: Any = None,
) -> None:
    """Assert that two arrays have the same shape and, within tolerance, the same values.

    Parameters
    ----------
    actual
        An array of any backend, or a Tensor.
    expected
        A NumPy array or numbers, usually a float64 reference.
    rtol, atol
        Default: from :data:`TOLERANCES`, by the dtype of ``actual``.
    dtype
        Required dtype of ``actual``; None accepts any.

    Raises
    ------
    AssertionError
        Shape, dtype or values differ; the message says where and by how much.
    """
    host = Tensor.of(actual).numpy()
    expected = np.asarray(expected)
    if dtype is not None and host.dtype != np.dtype(dtype):
        raise AssertionError(f"dtype {host.dtype}, expected {np.dtype(dtype)}")
    if host.shape != expected.shape:
        raise AssertionError(f"shape {host.shape}, expected {expected.shape}")
    relative, absolute = TOLERANCES.get(str(host.dtype), (0, 0))
    rtol, atol = relative if rtol is None else rtol, absolute if atol is None else atol
    np.testing.assert_allclose(host, expected, rtol, atol)


def gradcheck(
    function: Callable[..., Any],
    *arrays: Any,
    eps: float = 1e-6,
    tolerance: float = 1e-6,
    seed: int = 0,
    **settings: Any,
) -> float:
    """Compare gradients with central finite differences along random directions.

    For a function f, random u of the output's shape and random v of an input's shape,
    (⟨f(x + eps·v), u⟩ - ⟨f(x - eps·v), u⟩) / (2·eps) must equal ⟨gradient of ⟨f, u⟩, v⟩. Each
    input, and each parameter of a Module, is checked separately. Where the one-sided slopes differ,
    f is not differentiable (a tie in a max-pool, a ReLU at 0) and no comparison is possible.

    Parameters
    ----------
    function
        Maps the arrays to a Tensor: a functional, or a Module with float64 parameters.
    *arrays
        float64 arrays on one device; integer arrays and None are passed through unchecked.
    eps
        Step size.
    tolerance
        Largest allowed difference, relative to the larger of the two slopes and 1.
    seed
        Seed of the random directions.
    **settings
        Passed to ``function``.

    Returns
    -------
    float
        The largest relative difference.

    Raises
    ------
    AssertionError
        A gradient is wrong.
    GradientError
        f is not differentiable here; try another point.
    DTypeError
        A floating-point array is not float64.
    """
    inputs = [None if a is None else Tensor(a, a.dtype.kind == "f") for a in arrays]
    variables = {f"argument {i}": t for i, t in enumerate(inputs) if t is not None}
    if isinstance(function, Module):
        variables.update(function.named_parameters())
    variables = {name: t for name, t in variables.items() if t.requires_grad and t.numel()}
    for name, tensor in variables.items():
        if tensor.dtype.itemsize < 8:
            raise DTypeError(f"gradcheck needs float64 arrays, {name} is {tensor.dtype}")
    rng = np.random.default_rng(seed)
    with enable_grad():
        y = function(*inputs, **settings)
    u = _direction(rng, y.data)
    gradients = {id(leaf): gradient for leaf, gradient, _ in walk(y, u)}

    def value() -> float:
        with no_grad():
            return _inner(function(*inputs, **settings).data, u)

    worst = 0.0
    for name, tensor in variables.items():
        v = _direction(rng, tensor.data)
        gradient = gradients.get(id(tensor))
        exact = 0.0 if gradient is None else _inner(gradient, v)
        numeric = _slope(name, value, tensor, v, eps)
        difference = abs(numeric - exact) / max(abs(numeric), abs(exact), 1.0)
        if not difference <= tolerance:
            raise AssertionError(
                f"{name}: the gradient along a random direction is {exact:.9g}, finite "
                f"differences give {numeric:.9g} (relative difference {difference:.2g})"
            )
        worst = max(worst, difference)
    return worst


def _slope(name: str, value: Callable[[], float], tensor: Tensor, v: Array, eps: float) -> float:
    """Directional derivative of ``value()`` along ``v``, by central differences."""
    original = tensor.data

    def value_at(step: float) -> float:
        tensor.data = original + step * v
        return value()

    try:
        low, middle, high = map(value_at, (-eps, 0.0, eps))
    finally:
        tensor.data = original
    left, right = (middle - low) / eps, (high - middle) / eps
    if abs(right - left) > 1e-2 * max(abs(right), abs(left), 1.0):
        raise GradientError(f"{name}: the function has a kink at this point")
    return (right + left) / 2


def _direction(rng: np.random.Generator, like: Array) -> Array:
    return backends.of(like).asarray(rng.standard_normal(like.shape).astype(str(like.dtype)))


def _inner(a: Array, b: Array) -> float:
    return float(backends.of(a).to_host((a * b).sum()))
