"""Checks for your own layers: close arrays, and gradients against finite differences.

Tolerances are one table by dtype, :data:`TOLERANCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import backends
from .autograd import vjp
from .errors import DTypeError, GradientError

Array = Any

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
    actual = getattr(actual, "data", actual) if hasattr(actual, "creator") else actual
    host = backends.of(actual).to_host(actual)
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
    (⟨f(x + eps·v), u⟩ - ⟨f(x - eps·v), u⟩) / (2·eps) must equal ⟨pullback(u), v⟩, for each input
    alone. Where the slopes of the two sides differ the point is not differentiable (a tie of a
    max-pool, a ReLU at 0), and no comparison is possible.

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
    for array in arrays:
        if array is not None and array.dtype.kind == "f" and array.dtype.itemsize < 8:
            raise DTypeError(f"gradcheck needs float64 arrays, got {array.dtype}")
    rng = np.random.default_rng(seed)
    y, pullback = vjp(function, *arrays, **settings)
    u = _direction(rng, y)
    gradients = pullback(u)
    center = _inner(y, u)
    worst = 0.0
    for index, array in enumerate(arrays):
        if array is None or array.dtype.kind != "f" or array.size == 0:
            continue
        v = _direction(rng, array)

        def shifted(step: float, index: int = index, v: Array = v) -> float:
            moved = [a + step * v if i == index else a for i, a in enumerate(arrays)]
            return _inner(vjp(function, *moved, **settings)[0], u)

        ahead, behind = (shifted(eps) - center) / eps, (center - shifted(-eps)) / eps
        numeric, exact = (ahead + behind) / 2, _inner(gradients[index], v)
        scale = max(abs(numeric), abs(exact), 1.0)
        if abs(ahead - behind) > 1e-2 * scale:
            raise GradientError(f"argument {index}: the function has a kink at this point")
        difference = abs(numeric - exact) / scale
        if not difference <= tolerance:
            raise AssertionError(
                f"argument {index}: the gradient along a random direction is {exact:.9g}, finite "
                f"differences give {numeric:.9g} (relative difference {difference:.2g})"
            )
        worst = max(worst, difference)
    return worst


def _direction(rng: np.random.Generator, like: Array) -> Array:
    drawn = rng.standard_normal(like.shape).astype(str(like.dtype))
    return backends.of(like).asarray(drawn)


def _inner(a: Array, b: Array) -> float:
    return float(backends.of(a).to_host((a * b).sum()))
