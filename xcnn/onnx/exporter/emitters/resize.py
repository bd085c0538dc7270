"""Images of another size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ..writer import Value, Writer, emits


@emits("interpolate")
def interpolate(
    w: Writer,
    input: Value,
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
) -> str:
    """Resize, where it gives the same pixels as F.interpolate does; else what that does, by axis:
    ONNX knows the factors in float32 only.
    """
    settings = {"size": size, "scale_factor": scale_factor, "mode": mode}
    settings["align_corners"] = align_corners
    axes = [(n, _lines(input.shape[2:], axis, settings)) for axis, n in enumerate(input.shape[2:])]
    if all(_agree(n, lines, mode, align_corners) for n, lines in axes):
        sizes = w.ints([len(lines) for _, lines in axes])
        return w.node("Resize", input, None, None, sizes, axes=[2, 3], **_how(mode, align_corners))
    if mode == "nearest":
        y: Any = input
        for axis, (_, lines) in enumerate(axes, 2):
            y = w.node("Gather", y, w.ints(np.rint(lines).astype(int)), axis=axis)
        return y
    rows, columns = (_matrix(n, lines) for n, lines in axes)
    return w.node("MatMul", w.like(input, rows), w.node("MatMul", input, w.like(input, columns.T)))


def _lines(image: Any, axis: int, settings: dict[str, Any]) -> Any:
    """Where each line of the result lies in the input: F.interpolate of an image of positions."""
    ramp = np.zeros((1, 1, *image))
    ramp += np.arange(image[axis], dtype=float).reshape((-1, 1) if axis == 0 else (1, -1))
    found = F.interpolate(ramp, **settings).numpy()[0, 0]
    return found[:, 0] if axis == 0 else found[0]


def _agree(size: int, lines: Any, mode: str, align_corners: bool | None) -> bool:
    """Whether Resize to as many lines as there are takes them from the same positions."""
    count = len(lines)
    o = np.arange(count)
    if mode == "nearest":
        scale = np.float32(count / size)
        expected = np.floor(o.astype("float32") / scale)
    elif align_corners:
        expected = o * ((size - 1) / max(1, count - 1))
    else:
        expected = np.clip((o + 0.5) * (size / count) - 0.5, 0, size - 1)
    return bool(np.allclose(expected, lines, rtol=0, atol=1e-6 * size))


def _how(mode: str, align_corners: bool | None) -> dict[str, Any]:
    if mode == "nearest":
        names = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return {"mode": "nearest", **names}
    kind = "align_corners" if align_corners else "half_pixel"
    return {"mode": "linear", "coordinate_transformation_mode": kind}


def _matrix(size: int, positions: Any) -> Any:
    """(lines of the result, lines of the input), with the weights of the two nearest."""
    matrix = np.zeros((len(positions), size))
    for row, position in zip(matrix, positions, strict=True):
        before = min(math.floor(position), size - 1)
        row[before] += 1 - (position - before)
        row[min(before + 1, size - 1)] += position - before
    return matrix


@emits("pixel_shuffle")
def pixel_shuffle(w: Writer, input: Value, upscale_factor: int) -> str:
    return w.node("DepthToSpace", input, blocksize=int(upscale_factor), mode="CRD")


@emits("pixel_unshuffle")
def pixel_unshuffle(w: Writer, input: Value, downscale_factor: int) -> str:
    """ONNX's SpaceToDepth has the channels in another order."""
    r = int(downscale_factor)
    _, channels, height, width = input.shape
    height, width = height // r, width // r
    pixels = w.node("Reshape", input, w.ints([0, channels, height, r, width, r]))
    pixels = w.node("Transpose", pixels, perm=[0, 1, 3, 5, 2, 4])
    return w.node("Reshape", pixels, w.ints([0, channels * r * r, height, width]))
