"""Checks for your own layers: close arrays, and gradients against finite differences.

Tolerances are one table by dtype, :data:`TOLERANCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import backends
from .arrays import Array
from .errors import DTypeError, GradientError
from .nn import Module
from .tensor import Tensor, enable_grad, no_grad, walk

#: dtype: (relative, absolute) tolerance
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
    """Assert that ``actual`` has ``expected``'s shape and, within tolerance, its values.

    Parameters
    ----------
    actual
        Array of any backend, or a Tensor.
    expected
        NumPy array or numbers, usually float64 from an oracle.
    rtol, atol
        Default: :data:`TOLERANCES` of ``actual``'s dtype.
    dtype
        The dtype that ``actual`` must have; None: any.

    Raises
    ------
    AssertionError
        Shape, dtype or values differ; the text says where and by how much.
    """
    host = Tensor.of(actual).numpy()
    expected = np.asarray(expected)
    if dtype is not None and host.dtype != np.dtype(dtype):
        raise AssertionError(f"dtype {host.dtype}, expected {np.dtype(dtype)}")
    if host.shape != expected.shape:
        raise AssertionError(f"shape {host.shape}, expected {expected.shape}")
    relative, absolute = TOLERANCES.get(str(host.dtype), (0, 0))
    np.testing.assert_allclose(
        host,
        expected,
        rtol=relative if rtol is None else rtol,
        atol=absolute if atol is None else atol,
    )


def gradcheck(
    function: Callable[..., Any],
    *arrays: Any,
    eps: float = 1e-6,
    tolerance: float = 1e-6,
    seed: int = 0,
    **settings: Any,
) -> float:
    """Compare a functional's gradients with central differences along a random direction.

    For random u in the output's shape and v in each input's shape, with f the function,
    (⟨f(x + eps·v), u⟩ - ⟨f(x - eps·v), u⟩) / (2·eps) must equal ⟨gradient of ⟨f, u⟩, v⟩, for each
    input and, of a Module, each parameter alone. Where the slopes of the two sides differ the
    point is not differentiable (a tie of a max-pool, a ReLU at 0), and no comparison is possible.

    Parameters
    ----------
    function
        Takes the arrays, returns a Tensor: a functional, or a Module of float64 parameters.
    *arrays
        float64 arrays of one backend; integer arrays and None are passed on as they are.
    eps
        Step.
    tolerance
        Largest difference allowed, relative to the larger of the two slopes and 1.
    seed
        Of the directions.
    **settings
        Passed to ``function``.

    Returns
    -------
    float
        The largest relative difference found.

    Raises
    ------
    AssertionError
        A gradient is wrong.
    GradientError
        The point is not differentiable; draw another one.
    DTypeError
        An array is of another floating-point type.
    """
    inputs = [None if a is None else Tensor(a, a.dtype.kind == "f") for a in arrays]
    variables = {f"argument {i}": t for i, t in enumerate(inputs) if t is not None}
    if isinstance(function, Module):
        variables.update(function.named_parameters())
    variables = {name: t for name, t in variables.items() if t.requires_grad and t.size}
    for name, tensor in variables.items():
        if tensor.dtype.itemsize < 8:
            raise DTypeError(f"gradcheck needs float64 arrays, {name} is {tensor.dtype}")
    rng = np.random.default_rng(seed)
    with enable_grad():
        y = function(*inputs, **settings)
    u = _direction(rng, y.data)
    gradients = {id(leaf): gradient for leaf, gradient in walk(y, u)}

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
    """Slope of ``value()`` as ``tensor`` moves along ``v``."""
    before = tensor.data
    values = []
    try:
        for step in (-eps, 0.0, eps):
            tensor.data = before + step * v
            values.append(value())
    finally:
        tensor.data = before
    behind, ahead = (values[1] - values[0]) / eps, (values[2] - values[1]) / eps
    if abs(ahead - behind) > 1e-2 * max(abs(ahead), abs(behind), 1.0):
        raise GradientError(f"{name}: the function has a kink at this point")
    return (ahead + behind) / 2


def _direction(rng: np.random.Generator, like: Array) -> Array:
    drawn = rng.standard_normal(like.shape).astype(str(like.dtype))
    return backends.of(like).asarray(drawn)


def _inner(a: Array, b: Array) -> float:
    return float(backends.of(a).to_host((a * b).sum()))
