"""Helpers for emitters of image and signal operations; ONNX's operators take only (N, C, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....checks import Pair, signal_pair
from ....geometry import Geometry
from ....layout import image_padding
from ..writer import Value, Writer

#: in the order of the parameters of window_geometry and transposed_geometry
_SETTINGS = ("kernel", "stride", "padding", "output_padding", "dilation", "ceil_mode")


def channels_first(w: Writer, input: Value, data_format: str) -> Any:
    """Images as (N, C, H, W)."""
    return input if data_format == "NCHW" else w.node("Transpose", input, perm=[0, 3, 1, 2])


def in_format(w: Writer, y: str, data_format: str) -> str:
    """Images (N, C, H, W) converted to ``data_format``."""
    return y if data_format == "NCHW" else w.node("Transpose", y, perm=[0, 2, 3, 1])


def spatial_size(input: Value, data_format: str) -> Any:
    """(height, width) of images, (length,) of signals."""
    return input.shape[2:] if data_format == "NCHW" else input.shape[1:-1]


def geometry(
    make: Callable[..., Geometry], input: Value, data_format: str, **settings: Any
) -> Geometry:
    """``make(size, *settings)``; signals are treated as images one pixel high."""
    size, names = spatial_size(input, data_format), [n for n in _SETTINGS if n in settings]
    if len(size) == 2:
        return make(size, *(settings[n] for n in names))
    return make((1, *size), *(_as_2d(n, settings[n]) for n in names))


def _as_2d(name: str, value: Any) -> Any:
    """A 1-D setting, for an image one pixel high."""
    if name == "padding":
        return image_padding(value)
    if name == "ceil_mode":
        return value
    return signal_pair(value, name, 0 if name == "output_padding" else 1)


def window_attributes(
    geometry: Geometry, ndim: int, padding: tuple[Pair, ...] | None = None
) -> dict[str, Any]:
    """ONNX's window attributes for the last ``ndim`` axes."""
    return {
        "kernel_shape": list(geometry.kernel)[-ndim:],
        "strides": list(geometry.stride)[-ndim:],
        "pads": pads((padding or geometry.padding)[-ndim:]),
        "dilations": list(geometry.dilation)[-ndim:],
    }


def pads(padding: tuple[Pair, ...]) -> list[int]:
    """In ONNX's order: all begins, then all ends."""
    return [p[0] for p in padding] + [p[1] for p in padding]


def unsqueezed(w: Writer, weight: Value, input: Value) -> Any:
    """A weight (C,) in a shape that broadcasts to (N, C, ...)."""
    if input.ndim <= 2:
        return weight
    return w.node("Unsqueeze", weight, w.ints(range(1, input.ndim - 1)))
