"""Resize and Upsample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ....arrays import Array
from ....backends import Backend
from ....layout import to_batch_last
from ....tensor import Function, Tensor
from ..node import Node, as_ints, operator
from ..sampling import NEAREST, POSITIONS, RADIUS, Axis, Resampling, Sampling, resampling

_NEAREST_MODES = [name for name in NEAREST if name != "simple"]
_POLICIES = {"not_larger": min, "not_smaller": max}
_TERM_SIZE = 128  # bytes of a weight in Python's lists


class Resample(Function):
    """Resampling of some axes, one at a time.

    Parameters
    ----------
    axes
        The resampling of each axis.
    fill
        The value of output pixels whose position is outside the input.
    """

    arguments = ("input",)

    def __init__(self, axes: dict[int, Resampling], fill: float) -> None:
        # shrink before enlarging
        self.axes = sorted(axes.items(), key=lambda a: len(a[1].weights.terms) / a[1].weights.size)
        self.fill = fill

    def forward(self, backend: Backend, x: Array) -> Array:
        y = to_batch_last(backend.xp, x)
        for axis, (weights, _) in self.axes:
            y = weights.apply(backend, y, (axis - 1) % y.ndim)
        y = backend.xp.moveaxis(y, -1, 0)
        for axis, (_, inside) in self.axes:
            before = (slice(None),) * axis
            y[(*before, slice(0, inside.start))] = self.fill
            y[(*before, slice(inside.stop, None))] = self.fill
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = to_batch_last(backend.xp, dy)
        for axis, (weights, _) in reversed(self.axes):
            dx = weights.transposed.apply(backend, dx, (axis - 1) % dx.ndim)
        return backend.xp.moveaxis(dx, -1, 0)


@operator("Resize", static=(1, 2, 3))
def resize(
    node: Node, x: Tensor, roi: Array = None, scales: Array = None, sizes: Array = None
) -> Tensor:
    if node.version < 11:
        return upsample(node, x, roi)
    numbers = node.axes(node.integers("axes", list(range(x.ndim))), x.ndim)
    sampling = _sampling(node)
    # an empty array is an older way to omit an input
    has_scales, has_sizes = (v is not None and v.size > 0 for v in (scales, sizes))
    if has_scales == has_sizes:
        raise node.error("expected either scales or sizes")
    axes = _scaled(node, x, numbers, scales) if has_scales else _sized(node, x, numbers, sizes)
    if sampling.coordinates == "tf_crop_and_resize":
        ends = _numbers(node, "roi", roi, 2 * len(numbers))
        parts = zip(numbers, ends[: len(numbers)], ends[len(numbers) :], strict=True)
        axes = {axis: axes[axis]._replace(roi=(start, end)) for axis, start, end in parts}
    return _resized(node, x, sampling, axes)


@operator("Upsample", static=(1,))
def upsample(node: Node, x: Tensor, scales: Array = None) -> Tensor:
    """Also Resize before version 11, which had only one way of sampling."""
    if node.type == "Upsample" and node.version < 9:
        scales = node.attributes.get("scales")
    mode = node.text("mode", "nearest", ("nearest", "linear"))
    sampling = Sampling(mode, "asymmetric", "simple")
    return _resized(node, x, sampling, _scaled(node, x, range(x.ndim), scales))


# -- attributes and settings ----------------------------------------------------------------


def _sampling(node: Node) -> Sampling:
    sampling = Sampling(
        mode=node.text("mode", "nearest", ("nearest", *RADIUS)),
        coordinates=node.text("coordinate_transformation_mode", "half_pixel", [*POSITIONS]),
        nearest=node.text("nearest_mode", "round_prefer_floor", _NEAREST_MODES),
        cubic_a=node.number("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.integer("exclude_outside", 0)),
        antialias=bool(node.integer("antialias", 0)),
    )
    if sampling.mode == "nearest" and (sampling.exclude_outside or sampling.antialias):
        raise node.error("exclude_outside and antialias require mode linear or cubic")
    if not math.isfinite(sampling.cubic_a):
        raise node.error(f"cubic_coeff_a={sampling.cubic_a}: expected a finite number")
    return sampling


def _numbers(node: Node, name: str, value: Any, count: int) -> list[float]:
    """``count`` floats, finite and small enough to compute with."""
    array = np.asarray([] if value is None else value)
    if array.shape != (count,) or array.dtype.kind not in "fiu":
        raise node.error(f"{name} of shape {array.shape} ({array.dtype}): expected {count} numbers")
    numbers = array.astype("float64").tolist()
    if not all(abs(n) < 2**31 for n in numbers):
        raise node.error(f"{name} {numbers}: expected finite numbers below 2**31")
    return numbers


def _scaled(node: Node, x: Tensor, axes: Sequence[int], scales: Any) -> dict[int, Axis]:
    numbers, resized = _numbers(node, "scales", scales, len(axes)), {}
    for axis, scale in zip(axes, numbers, strict=True):
        if scale <= 0:
            raise node.error(f"scales {numbers}: expected numbers > 0")
        size = x.shape[axis]
        # in float32 like the scales: 10 * 0.7 must not become 6
        output = size if scale == 1 else int(np.float32(size * scale))
        resized[axis] = Axis(size, output, scale, size * scale)
    return resized


def _sized(node: Node, x: Tensor, axes: list[int], sizes: Array) -> dict[int, Axis]:
    outputs = as_ints(_numbers(node, "sizes", sizes, len(axes)))
    policy = node.text("keep_aspect_ratio_policy", "stretch", ("stretch", *_POLICIES))
    shape = [x.shape[axis] for axis in axes]
    if policy != "stretch" and 0 not in shape:
        scale = _POLICIES[policy](w / n for w, n in zip(outputs, shape, strict=True))
        resized = [Axis(n, math.floor(scale * n + 0.5), scale, scale * n) for n in shape]
    else:
        pairs = zip(shape, outputs, strict=True)
        resized = [Axis(n, w, w / n if n else 1.0, float(w)) for n, w in pairs]
    return dict(zip(axes, resized, strict=True))


# -- computation ----------------------------------------------------------------------------


def _resized(node: Node, x: Tensor, sampling: Sampling, axes: dict[int, Axis]) -> Tensor:
    shape = [axes[i].output if i in axes else n for i, n in enumerate(x.shape)]
    node.check_size(shape, x.dtype)
    changed = {i: a for i, a in axes.items() if a != Axis(a.size, a.size, 1.0, a.length)}
    for axis in changed.values():
        if not axis.size or not axis.output:
            raise node.error(f"from shape {x.shape} to {tuple(shape)}: an axis has no elements")
        node.check_size((axis.output, sampling.taps(axis), _TERM_SIZE), "uint8")
    if not changed:
        return x
    function = Resample(
        {number: resampling(sampling, axis) for number, axis in changed.items()},
        node.number("extrapolation_value", 0.0),
    )
    if x.dtype.kind == "f":
        return function(x)
    with x.backend.active():
        compute = function.forward if sampling.mode == "nearest" else partial(_rounded, function)
        return Tensor(compute(x.backend, x.data))


def _rounded(function: Resample, backend: Backend, x: Array) -> Array:
    """Resample integers or bool: computed in floats, then rounded and clipped."""
    xp = backend.xp
    x = x.astype("uint8") if x.dtype == bool else x
    y = function.forward(backend, x.astype("float32" if x.dtype.itemsize < 4 else "float64"))
    limits = xp.iinfo(x.dtype)
    return xp.clip(xp.rint(y), limits.min, limits.max).astype(x.dtype)
