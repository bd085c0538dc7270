"""Helpers for emitters of image and signal operations; ONNX's operators take only (N, C, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....checks import Pair, signal_pair
from ....geometry import Geometry, volume_geometry
from ....layout import image_padding
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
    """``make(size, **settings)``, each field with one entry per axis.

    Signals are treated as images one pixel high.
    """
    size = spatial_size(input, data_format)
    if len(size) == 2:
        return make(size, **settings)
    if len(size) == 1:
        whole = make((1, *size), **{n: _as_2d(n, v) for n, v in settings.items()})
        return Geometry(*(field[-1:] for field in whole))  # type: ignore[arg-type]
    deep, flat = volume_geometry(make, size, **settings)
    return Geometry(*((d[0], *f) for d, f in zip(deep, flat, strict=True)))  # type: ignore[arg-type]


def _as_2d(name: str, value: Any) -> Any:
    """A 1-D setting, for an image one pixel high."""
    if name == "padding":
        return image_padding(value)
    if name == "ceil_mode":
        return value
    return signal_pair(value, name, 0 if name == "output_padding" else 1)


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
