"""Images of another size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....arrays import Array
from ....backends import Backend
from ....functional.resample import Lines
from ....layout import rows_last
from ....tensor import Function, Tensor
from ..node import Node, as_ints, operator
from ..sampling import NEAREST, POSITIONS, REACH, Axis, Resampling, Sampling

_NEAREST_MODES = [name for name in NEAREST if name != "simple"]
_POLICIES = {"not_larger": min, "not_smaller": max}


class Resample(Function):
    """New lines along some axes, one after the other.

    Parameters
    ----------
    axes
        Resampling by axis; what is not inside becomes ``fill``.
    """

    arguments = ("input",)

    def __init__(self, axes: dict[int, Resampling], fill: float) -> None:
        # what makes fewer lines goes first
        self.axes = sorted(axes.items(), key=lambda a: len(a[1].lines.terms) / a[1].lines.size)
        self.fill = fill

    def forward(self, backend: Backend, x: Array) -> Array:
        y = rows_last(backend.xp, x)
        for axis, (lines, _) in self.axes:
            y = _along(backend, y, axis, lines)
        y = backend.xp.moveaxis(y, -1, 0)
        for axis, (_, inside) in self.axes:
            lines_of = np.s_[:,] * axis
            y[(*lines_of, slice(0, inside.start))] = self.fill
            y[(*lines_of, slice(inside.stop, None))] = self.fill
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = rows_last(backend.xp, dy)
        for axis, (lines, _) in reversed(self.axes):
            dx = _along(backend, dx, axis, lines.transposed)
        return backend.xp.moveaxis(dx, -1, 0)


def _along(backend: Backend, x: Array, axis: int, lines: Lines) -> Array:
    """The new lines along axis ``axis`` of (N, ...) whose memory x (..., N) is."""
    number = (axis - 1) % x.ndim
    before, after = x.shape[:number], x.shape[number + 1 :]
    # (before, lines, after, 1)
    y = lines.apply(
        backend, x.reshape(math.prod(before), x.shape[number], math.prod(after), 1), axis=1
    )
    return y.reshape(*before, len(lines.terms), *after)


@operator("Resize", static=(1, 2, 3))
def resize(
    node: Node, x: Tensor, roi: Array = None, scales: Array = None, sizes: Array = None
) -> Tensor:
    if node.version < 11:
        return _resized(node, x, _first_sampling(node), _scaled(node, x, range(x.ndim), roi))
    axes = node.axes(node.integers("axes", list(range(x.ndim))), x.ndim)
    sampling = _sampling(node)
    if (_given(scales) is None) == (_given(sizes) is None):
        raise node.error("expected either scales or sizes")
    if _given(scales) is not None:
        found = _scaled(node, x, axes, scales)
    else:
        found = _sized(node, x, axes, sizes)
    if sampling.coordinates == "tf_crop_and_resize":
        found = _cropped(node, found, axes, roi)
    return _resized(node, x, sampling, found)


@operator("Upsample", static=(1,))
def upsample(node: Node, x: Tensor, scales: Array = None) -> Tensor:
    scales = node.attributes.get("scales") if node.version < 9 else scales
    return _resized(node, x, _first_sampling(node), _scaled(node, x, range(x.ndim), scales))


# -- settings -------------------------------------------------------------------------------


def _one_of(node: Node, name: str, default: str, choices: Any) -> str:
    value = node.text(name, default)
    if value not in choices:
        raise node.error(f"{name}={value!r}: expected one of {', '.join(choices)}")
    return value


def _first_sampling(node: Node) -> Sampling:
    """Before version 11 there was one way."""
    mode = _one_of(node, "mode", "nearest", ("nearest", "linear"))
    return Sampling(mode, "asymmetric", "simple")


def _sampling(node: Node) -> Sampling:
    sampling = Sampling(
        mode=_one_of(node, "mode", "nearest", ("nearest", *REACH)),
        coordinates=_one_of(node, "coordinate_transformation_mode", "half_pixel", POSITIONS),
        nearest=_one_of(node, "nearest_mode", "round_prefer_floor", _NEAREST_MODES),
        cubic_a=node.number("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.integer("exclude_outside", 0)),
        antialias=bool(node.integer("antialias", 0)),
    )
    if sampling.mode == "nearest" and (sampling.exclude_outside or sampling.antialias):
        raise node.error("exclude_outside and antialias are for mode linear or cubic")
    if not math.isfinite(sampling.cubic_a):
        raise node.error(f"cubic_coeff_a={sampling.cubic_a}: expected a finite number")
    return sampling


def _given(value: Array) -> Array:
    """None for an empty array: an older way to leave an input out."""
    return None if value is None or value.size == 0 else value


def _numbers(node: Node, name: str, value: Any, count: int) -> list[float]:
    """``count`` floats, finite and small enough to compute with."""
    found = np.asarray([] if value is None else value)
    if found.shape != (count,) or found.dtype.kind not in "fiu":
        raise node.error(f"{name} of shape {found.shape} ({found.dtype}): expected {count} numbers")
    numbers = found.astype("float64").tolist()
    if not all(abs(n) < 2**31 for n in numbers):
        raise node.error(f"{name} {numbers}: expected finite numbers below 2**31")
    return numbers


def _scaled(node: Node, x: Tensor, axes: Any, scales: Any) -> dict[int, Axis]:
    found = {}
    numbers = _numbers(node, "scales", scales, len(axes))
    for axis, scale in zip(axes, numbers, strict=True):
        if scale <= 0:
            raise node.error(f"scales {numbers}: expected numbers > 0")
        size = x.shape[axis]
        # in float32, which scales are: 10 * 0.7 must not become 6
        output = size if scale == 1 else int(np.float32(size * scale))
        found[axis] = Axis(size, output, scale, size * scale)
    return found


def _sized(node: Node, x: Tensor, axes: list[int], sizes: Array) -> dict[int, Axis]:
    wanted = as_ints(_numbers(node, "sizes", sizes, len(axes)))
    policy = _one_of(node, "keep_aspect_ratio_policy", "stretch", ("stretch", *_POLICIES))
    shape = [x.shape[axis] for axis in axes]
    if policy != "stretch" and 0 not in shape:
        scale = _POLICIES[policy](w / n for w, n in zip(wanted, shape, strict=True))
        return {
            axis: Axis(n, math.floor(scale * n + 0.5), scale, scale * n)
            for axis, n in zip(axes, shape, strict=True)
        }
    return {
        axis: Axis(n, output, output / n if n else 1.0, float(output))
        for axis, n, output in zip(axes, shape, wanted, strict=True)
    }


def _cropped(node: Node, found: dict[int, Axis], axes: list[int], roi: Any) -> dict[int, Axis]:
    """The axes with the part of each that the input ``roi`` (starts, then ends) names."""
    numbers = _numbers(node, "roi", roi, 2 * len(axes))
    parts = zip(axes, numbers[: len(axes)], numbers[len(axes) :], strict=True)
    return {axis: found[axis]._replace(roi=(start, end)) for axis, start, end in parts}


# -- the work -------------------------------------------------------------------------------


def _resized(node: Node, x: Tensor, sampling: Sampling, found: dict[int, Axis]) -> Tensor:
    shape = list(x.shape)
    for number, axis in found.items():
        shape[number] = axis.output
    node.check_size(shape, x.dtype)
    changed = {number: axis for number, axis in found.items() if not axis.is_unchanged}
    for axis in changed.values():
        if not axis.size or not axis.output:
            raise node.error(f"from shape {x.shape} to {tuple(shape)}: an axis has no elements")
        # Python's lists of numbers and weights take about so much
        node.check_size((axis.output, sampling.taps(axis), 128), "uint8")
    if not changed:
        return x
    function = Resample(
        {number: sampling.resampling(axis) for number, axis in changed.items()},
        node.number("extrapolation_value", 0.0),
    )
    if x.dtype.kind == "f":
        return function(x)
    with x.backend.active():
        return Tensor(_whole_numbers(x.backend, x.data, function, sampling.mode == "nearest"))


def _whole_numbers(backend: Backend, x: Array, function: Resample, nearest: bool) -> Array:
    """Integers, or bool: as floats between, then to the nearest whole number that fits."""
    if nearest:
        return function.forward(backend, x)
    xp = backend.xp
    if x.dtype == bool:
        x = x.astype("uint8")
    wide = x.astype("float32" if x.dtype.itemsize < 4 else "float64")
    y, limits = xp.rint(function.forward(backend, wide)), xp.iinfo(x.dtype)
    return xp.clip(y, limits.min, limits.max).astype(x.dtype)
