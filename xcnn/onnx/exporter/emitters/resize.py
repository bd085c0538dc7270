"""Interpolation and pixel shuffle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ....extend import onnx_emitter
from ..writer import CannotExportError, Value, Writer


@onnx_emitter("interpolate")
def interpolate(w: Writer, input: Value, mode: str, **settings: Any) -> str:
    """Resize if it samples the same positions as F.interpolate, else Gather or matrix products.

    Resize differs for some scale factors because ONNX stores them in float32.
    """
    if mode not in ("nearest", "bilinear") or input.ndim != 4 or settings["antialias"]:
        raise CannotExportError(f"with mode={mode!r}, {input.ndim} axes and {settings}")
    corners, size = settings["align_corners"], input.shape[2:]
    positions = [_positions(size, axis, mode=mode, **settings) for axis in (0, 1)]
    axes = list(zip(size, positions, strict=True))
    if all(np.allclose(_resized(n, len(p), mode, corners), p, 0, 1e-6 * n) for n, p in axes):
        kind, nearest_mode = "align_corners" if corners else "half_pixel", None
        if mode == "nearest":
            kind, nearest_mode = "asymmetric", "floor"
        attributes: Any = {"coordinate_transformation_mode": kind, "nearest_mode": nearest_mode}
        attributes["mode"] = "linear" if mode == "bilinear" else mode
        sizes = w.ints(map(len, positions))
        return w.node("Resize", input, None, None, sizes, axes=[2, 3], **attributes)
    if mode == "nearest":
        y: Any = input
        for axis, p in enumerate(positions, 2):
            y = w.node("Gather", y, w.ints(np.rint(p).astype(int)), axis=axis)
        return y
    rows, columns = (_matrix(n, p) for n, p in axes)
    return w.node("MatMul", w.like(input, rows), w.node("MatMul", input, w.like(input, columns.T)))


def _positions(image: Any, axis: int, **settings: Any) -> Any:
    """The input position of each output row or column: F.interpolate applied to coordinates."""
    ramp = np.zeros((1, 1, *image))
    ramp += np.arange(image[axis], dtype=float).reshape((-1, 1) if axis == 0 else (1, -1))
    y = F.interpolate(ramp, **settings).numpy()[0, 0]
    return y[:, 0] if axis == 0 else y[0]


def _resized(size: int, output: int, mode: str, align_corners: bool | None) -> Any:
    """The input position of each output pixel with ONNX's Resize."""
    o = np.arange(output)
    if mode == "nearest":
        return np.floor(o.astype("float32") / np.float32(output / size))
    if align_corners:
        return o * ((size - 1) / max(1, output - 1))
    return np.clip((o + 0.5) * (size / output) - 0.5, 0, size - 1)


def _matrix(size: int, positions: Any) -> Any:
    """The matrix (output, size) that interpolates between the two pixels nearest each position."""
    matrix = np.zeros((len(positions), size))
    for row, position in zip(matrix, positions, strict=True):
        before = min(math.floor(position), size - 1)
        row[before] += 1 - (position - before)
        row[min(before + 1, size - 1)] += position - before
    return matrix


@onnx_emitter("pixel_shuffle")
def pixel_shuffle(w: Writer, input: Value, upscale_factor: int) -> str:
    return w.node("DepthToSpace", input, blocksize=int(upscale_factor), mode="CRD")


@onnx_emitter("pixel_unshuffle")
def pixel_unshuffle(w: Writer, input: Value, downscale_factor: int) -> str:
    """ONNX's SpaceToDepth orders channels differently."""
    r = int(downscale_factor)
    channels, height, width = input.shape[1], input.shape[2] // r, input.shape[3] // r
    pixels = w.node("Reshape", input, w.ints([0, channels, height, r, width, r]))
    pixels = w.node("Transpose", pixels, perm=[0, 1, 3, 5, 2, 4])
    return w.node("Reshape", pixels, w.ints([0, channels * r * r, height, width]))
