"""Interpolation and sampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from .... import functional as F
from ....extend import onnx_emitter
from ...importer import Axis, Sampling, resampling
from ..writer import Value, Writer
from .spatial import along

_NEAREST = ("nearest", "nearest-exact")
_RESIZE = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


@onnx_emitter("interpolate")
def interpolate(w: Writer, input: Value, mode: str, **settings: Any) -> str:
    """Resize if it has the weights of F.interpolate, else Gather or a matrix product per axis.

    Resize differs for some scale factors because ONNX stores them in float32.
    """
    sizes, corners, smooth = input.shape[2:], settings["align_corners"], settings["antialias"]
    matrices = [_matrix(sizes, axis, mode, settings) for axis in range(len(sizes))]
    sampling = Sampling(
        _RESIZE.get(mode, "nearest"),
        "align_corners" if corners else "asymmetric" if mode == "nearest" else "half_pixel",
        "floor" if mode == "nearest" else "round_prefer_ceil",
        -0.5 if smooth else -0.75,
        smooth,
        smooth,
    )
    pairs = list(zip(sizes, matrices, strict=True))
    if mode != "area" and all(
        np.allclose(_resized(sampling, n, len(m)), m, 0, 1e-6) for n, m in pairs
    ):
        kept = sampling.mode != "nearest"
        factors = [len(m) / n for n, m in pairs]
        # factors leave the size of the image variable; whole ones are exact in float32
        by_factor = settings["size"] is None and all(f.is_integer() for f in factors)
        return w.node(
            "Resize",
            input,
            None,
            w.number(factors, "float32") if by_factor else None,
            None if by_factor else w.ints(map(len, matrices)),
            axes=list(range(2, input.ndim)),
            mode=sampling.mode,
            coordinate_transformation_mode=sampling.coordinates,
            nearest_mode=None if kept else sampling.nearest,
            cubic_coeff_a=sampling.cubic_a if sampling.mode == "cubic" else None,
            antialias=int(smooth) or None,
            exclude_outside=int(smooth) or None,
        )
    y: Any = input
    for axis, (size, matrix) in enumerate(pairs, 2):
        if matrix.shape == (size, size) and (matrix == np.eye(size)).all():
            continue
        if mode in _NEAREST:
            y = w.node("Gather", y, w.ints(matrix.argmax(1)), axis=axis)
        else:
            y = along(w, y, axis, input, matrix)
    return y if isinstance(y, str) else w.node("Identity", y)


def _matrix(sizes: Any, axis: int, mode: str, settings: dict[str, Any]) -> Any:
    """The weights (output, size) of an axis: F.interpolate applied to images of one pixel each."""
    count = len(sizes)
    shape = [sizes[axis] if i == axis else 1 for i in range(count)]
    ones = np.eye(sizes[axis]).reshape(1, sizes[axis], *shape)
    given = dict(settings)
    for name, rest in (("size", 1), ("scale_factor", 1.0)):
        value = given[name]
        if value is not None:
            values = value if isinstance(value, list | tuple) else (value,) * count
            given[name] = tuple(values[i] if i == axis else rest for i in range(count))
    return F.interpolate(ones, mode=mode, **given).numpy().reshape(sizes[axis], -1).T


def _resized(sampling: Sampling, size: int, output: int) -> Any:
    """The weights of an axis with ONNX's Resize to ``output`` pixels."""
    weights = resampling(sampling, Axis(size, output, output / size, float(output))).weights
    matrix = np.zeros((output, size))
    for row, terms in zip(matrix, weights.terms, strict=True):
        for pixel, weight in terms:
            row[pixel] += weight
    return matrix


@onnx_emitter("pixel_shuffle")
def pixel_shuffle(w: Writer, input: Value, upscale_factor: int) -> str | None:
    """DepthToSpace, for images of any size; None for other axes."""
    if input.ndim != 4:
        return None
    return w.node("DepthToSpace", input, blocksize=int(upscale_factor), mode="CRD")


_MODES = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}


@onnx_emitter("grid_sample")
def grid_sample(
    w: Writer, input: Value, grid: Value, mode: str, padding_mode: str, align_corners: bool | None
) -> str:
    settings: dict[str, Any] = {"mode": _MODES[mode], "padding_mode": padding_mode}
    return w.node("GridSample", input, grid, align_corners=int(bool(align_corners)), **settings)
