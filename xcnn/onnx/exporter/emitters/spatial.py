"""Helpers for emitters of image and signal operations; ONNX's operators take only (N, C, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....checks import Pair
from ....geometry import Geometry, along_axes, spatial_geometry
from ..writer import Value, Writer


def channels_first(w: Writer, input: Value, data_format: str) -> Any:
    """Images as (N, C, H, W)."""
    return input if data_format == "NCHW" else w.node("Transpose", input, perm=[0, 3, 1, 2])


def in_format(w: Writer, y: str, data_format: str) -> str:
    """Images (N, C, H, W) converted to ``data_format``."""
    return y if data_format == "NCHW" else w.node("Transpose", y, perm=[0, 2, 3, 1])


def spatial_size(input: Value, data_format: str) -> Any:
    """(height, width) of images, (length,) of signals, (depth, height, width) of volumes."""
    return input.shape[1:-1] if data_format == "NHWC" else input.shape[2:]


def geometry(
    make: Callable[..., Geometry], input: Value, data_format: str, **settings: Any
) -> Geometry:
    """The windows that ``make`` makes, each field with one entry per axis."""
    size = spatial_size(input, data_format)
    windows = spatial_geometry(make, size, **settings)
    return Geometry(*(along_axes(windows, name, len(size)) for name in Geometry._fields))


def window_attributes(
    geometry: Geometry, padding: tuple[Pair, ...] | None = None
) -> dict[str, Any]:
    """ONNX's window attributes."""
    return {
        "kernel_shape": list(geometry.kernel),
        "strides": list(geometry.stride),
        "pads": pads(padding or geometry.padding),
        "dilations": list(geometry.dilation),
    }


def pads(padding: tuple[Pair, ...]) -> list[int]:
    """In ONNX's order: all begins, then all ends."""
    return [p[0] for p in padding] + [p[1] for p in padding]


def unsqueezed(w: Writer, weight: Value, input: Value) -> Any:
    """A weight (C,) in a shape that broadcasts to (N, C, ...)."""
    if input.ndim <= 2:
        return weight
    return w.node("Unsqueeze", weight, w.ints(range(1, input.ndim - 1)))


def along(w: Writer, x: Any, axis: int, input: Value, matrix: Any) -> str:
    """``matrix``, (output, size), applied to an axis of ``x``, which has the axes of ``input``."""
    weights, last = w.like(input, matrix.T), input.ndim - 1
    if axis == last - 1:
        return w.node("MatMul", w.like(input, matrix), x)
    order = list(range(input.ndim))
    order[axis], order[last] = last, axis
    if axis != last:
        x = w.node("Transpose", x, perm=order)
    y = w.node("MatMul", x, weights)
    return y if axis == last else w.node("Transpose", y, perm=order)
