"""Images of another size: interpolation, and channels exchanged for pixels."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from numbers import Real
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError, ShapeError
from ..geometry import is_int, pair
from ..tensor import Tensor
from ..tracing import operation
from .layout import batch_first, batch_last, image_size
from .lines import Lines, Resample

Array = Any
Factor = float | tuple[float, float]

MODES = ("nearest", "bilinear")


class PixelShuffle(Function):
    """See :func:`pixel_shuffle`."""

    arguments = ("input",)

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def forward(self, backend: Backend, x: Array) -> Array:
        return _shuffle(backend.xp, x, self.factor)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return _unshuffle(backend.xp, dy, self.factor)


class PixelUnshuffle(Function):
    """See :func:`pixel_unshuffle`."""

    arguments = ("input",)

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def forward(self, backend: Backend, x: Array) -> Array:
        return _unshuffle(backend.xp, x, self.factor)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return _shuffle(backend.xp, dy, self.factor)


def _shuffle(xp: Any, x: Array, r: int) -> Array:
    x = batch_last(xp, x)
    channels, height, width, batch = x.shape
    channels //= r**2
    pixels = x.reshape(channels, r, r, height, width, batch).transpose(0, 3, 1, 4, 2, 5)
    # (C, H, r, W, r, N)
    return batch_first(pixels.reshape(channels, height * r, width * r, batch))


def _unshuffle(xp: Any, x: Array, r: int) -> Array:
    x = batch_last(xp, x)
    channels, height, width, batch = x.shape
    height, width = height // r, width // r
    pixels = x.reshape(channels, height, r, width, r, batch).transpose(0, 2, 4, 1, 3, 5)
    # (C, r, r, H, W, N)
    return batch_first(pixels.reshape(channels * r**2, height, width, batch))


@operation
def interpolate(
    input: Any,
    size: int | tuple[int, int] | None = None,
    scale_factor: Factor | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Images in another size.

    With ``scale = H / oH``, or 1 / ``scale_factor`` where that is given, row ``o`` of the result
    shows the row of the input at

    - ``floor(o * scale)`` with ``mode="nearest"``, rounded as PyTorch does in float32,
    - ``(o + 1/2) * scale - 1/2``, at least 0, with ``"bilinear"``: pixels are squares,
    - ``o * (H - 1) / (oH - 1)`` with ``"bilinear"`` and ``align_corners=True``: pixels are points,
      and the corners stay where they are.

    Between two rows bilinear takes both, weighted by how near they are; columns likewise. An axis
    that keeps its number of pixels is left as it is.

    Parameters
    ----------
    input : (N, C, H, W)
    size
        Pixels of the result: an int for both or (height, width).
    scale_factor
        Size of the result / size of the input: a number for both or (height, width). Rounded down
        to whole pixels. Either this or ``size`` must be given.
    mode
        ``"nearest"`` or ``"bilinear"``.
    align_corners
        For ``"bilinear"`` only; None is False.

    Returns
    -------
    Tensor
        (N, C, oH, oW)

    Raises
    ------
    ShapeError
        Not four axes, an image without pixels, or a result without any.
    ArgumentError
        A setting out of range, or some that exclude each other.
    """
    input = Tensor.of(input)
    _, *image = image_size(input, "NCHW")
    factors = check_interpolation(size, scale_factor, mode, align_corners)
    output = pair(size, "size") if factors is None else _scaled(image, factors)
    if min(*image, *output) < 1:
        raise ShapeError(
            f"input has shape {input.shape}, the result would be of {output} pixels (height, "
            "width): both need at least one; use a larger image or scale_factor"
        )
    kind = "corners" if align_corners else mode
    axes = zip(image, output, factors or (None, None), strict=True)
    rows, columns = (_lines(kind, *axis) for axis in axes)
    return Resample(rows, columns)(input)


@operation
def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """Images r times as high and wide out of r² times as many channels.

    ``y[n, c, h*r + i, w*r + j] = x[n, c*r² + i*r + j, h, w]`` with r = ``upscale_factor``.
    Source: Shi et al. 2016, "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network".

    Parameters
    ----------
    input : (N, C·r², H, W)
    upscale_factor
        An int >= 1.

    Returns
    -------
    Tensor
        (N, C, H·r, W·r)

    Raises
    ------
    ShapeError
        Not four axes, or the channels are no multiple of r².
    ArgumentError
        The factor is out of range.
    """
    input = Tensor.of(input)
    factor = check_factor("upscale_factor", upscale_factor)
    channels, _, _ = image_size(input, "NCHW")
    if channels % factor**2:
        raise ShapeError(
            f"input has shape {input.shape}: {channels} channels are no multiple of "
            f"upscale_factor² = {factor**2}"
        )
    return PixelShuffle(factor)(input)


@operation
def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """The inverse of :func:`pixel_shuffle`: pixels become channels.

    Parameters
    ----------
    input : (N, C, H·r, W·r)
    downscale_factor
        r, an int >= 1.

    Returns
    -------
    Tensor
        (N, C·r², H, W)

    Raises
    ------
    ShapeError
        Not four axes, or the height or width is no multiple of r.
    ArgumentError
        The factor is out of range.
    """
    input = Tensor.of(input)
    factor = check_factor("downscale_factor", downscale_factor)
    _, height, width = image_size(input, "NCHW")
    if height % factor or width % factor:
        raise ShapeError(
            f"input has shape {input.shape}: height {height} and width {width} must be multiples "
            f"of downscale_factor={factor}; pad or crop the images"
        )
    return PixelUnshuffle(factor)(input)


def check_factor(name: str, value: Any) -> int:
    """The factor of a pixel shuffle.

    Raises
    ------
    ArgumentError
        Not an int >= 1.
    """
    if not is_int(value) or value < 1:
        raise ArgumentError(f"{name}={value!r}: expected an int >= 1")
    return int(value)


def check_interpolation(
    size: Any, scale_factor: Any, mode: str, align_corners: bool | None
) -> tuple[float, float] | None:
    """The factors (height, width) of an interpolation, or None if a size was given.

    Raises
    ------
    ArgumentError
        A setting out of range, or some that exclude each other.
    """
    if mode not in MODES:
        raise ArgumentError(f"mode={mode!r}: expected one of {', '.join(map(repr, MODES))}")
    if mode == "nearest" and align_corners is not None:
        raise ArgumentError(
            f'align_corners={align_corners!r} is for mode="bilinear": leave it out, or choose that'
        )
    if (size is None) == (scale_factor is None):
        raise ArgumentError(
            f"size={size!r} and scale_factor={scale_factor!r}: give exactly one of them"
        )
    if size is not None:
        pair(size, "size")
        return None
    both = scale_factor if isinstance(scale_factor, list | tuple) else (scale_factor,) * 2
    if len(both) != 2 or not all(map(_is_factor, both)):
        raise ArgumentError(
            f"scale_factor={scale_factor!r}: expected a number > 0 or a pair of them (height, "
            "width)"
        )
    return float(both[0]), float(both[1])


def _is_factor(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _scaled(image: list[int], factors: tuple[float, float]) -> tuple[int, int]:
    height, width = (int(n * f) for n, f in zip(image, factors, strict=True))
    return height, width


@lru_cache(maxsize=256)
def _lines(kind: str, size: int, output: int, factor: float | None) -> Lines:
    """The lines of an axis of ``size`` pixels that each of ``output`` is made of."""
    if output == size:  # whatever the factor, as in PyTorch
        return Lines(size, [[(o, 1.0)] for o in range(output)])
    if kind == "nearest":
        return Lines(size, [[(i, 1.0)] for i in _nearest(size, output, factor)])
    scale = size / output if factor is None else 1 / factor
    positions = [max(0.0, (o + 0.5) * scale - 0.5) for o in range(output)]
    if kind == "corners":
        scale = (size - 1) / (output - 1) if output > 1 else 0.0
        positions = [o * scale for o in range(output)]
    return Lines(size, [_between(position, size) for position in positions])


def _nearest(size: int, output: int, factor: float | None) -> list[int]:
    """Rounded as PyTorch does, which takes double sizes as such whatever the factor."""
    if output == 2 * size:
        return [o // 2 for o in range(output)]
    scale = _float32(size / output if factor is None else 1 / factor)
    return [min(math.floor(_float32(o * scale)), size - 1) for o in range(output)]


def _float32(value: float) -> float:
    """The nearest number that float32 holds: it decides which pixel is taken at a border."""
    return struct.unpack("f", struct.pack("f", value))[0]


def _between(position: float, size: int) -> list[tuple[int, float]]:
    """The lines on both sides of ``position``, the nearer one with more weight."""
    before = min(int(position), size - 1)
    after = min(before + 1, size - 1)
    share = min(position - before, 1.0)
    if after == before or share == 0:
        return [(before, 1.0)]
    return [(before, 1 - share), (after, share)]
