"""Helpers for emitters of image and signal operations; ONNX's operators take only (N, C, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....checks import Pair
from ....geometry import Geometry, spatial_geometry
from ..writer import Value, Writer


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
    """The windows of images; signals are treated as images one pixel high."""
    windows = spatial_geometry(make, spatial_size(input, data_format), **settings)
    return windows[-1]


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
