"""Interpolation by sparse weights along each axis, and pixel shuffle."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import Factor, check_int, check_interpolation, check_size, pair
from ..errors import ShapeError
from ..layout import image_size
from ..tensor import ImageFunction, Tensor, operation
from ..tiling import split_range

__all__ = ["interpolate", "pixel_shuffle", "pixel_unshuffle"]


class AxisWeights:
    """Sparse weights along an axis: each output pixel as a weighted sum of input pixels.

    Parameters
    ----------
    size
        Number of input pixels.
    terms
        For each output pixel, the (input pixel, weight) pairs to sum.
    """

    def __init__(self, size: int, terms: Iterable[Iterable[tuple[int, float]]]) -> None:
        self.size = size
        self.terms = [tuple(pairs) for pairs in terms]
        self._on_device: dict[Any, tuple[list[tuple[Any, Array | None]], Any]] = {}

    @cached_property
    def transposed(self) -> AxisWeights:
        """The weights of the gradient: each input pixel as a sum of output pixels."""
        transposed: list[list[tuple[int, float]]] = [[] for _ in range(self.size)]
        for output, pairs in enumerate(self.terms):
            for input, weight in pairs:
                transposed[input].append((output, weight))
        return AxisWeights(len(self.terms), transposed)

    def apply(self, backend: Backend, x: Array, axis: int) -> Array:
        """Resample ``axis`` (1 or 2) of x (C, H, W, N); the result is contiguous."""
        shape = (*x.shape[:axis], len(self.terms), *x.shape[axis + 1 :])
        y = backend.xp.empty(shape, x.dtype)
        steps, unread = self._steps(backend, x.dtype)

        def compute(part: slice) -> None:
            _weighted_sum(backend.xp, x[part], steps, axis, y[part])
            if unread is not None:
                y[(part, slice(None), unread) if axis == 2 else (part, unread)] = 0

        backend.each(compute, _pieces(backend, y))
        return y

    def _steps(self, backend: Backend, dtype: Any) -> tuple[list[tuple[Any, Array | None]], Any]:
        """Input pixels and weights of the first, second, ... term of all output pixels.

        Weights are None if all are 1. Also the output pixels without terms, or None. Cached on the
        device.
        """
        key = backend, str(dtype)
        if key not in self._on_device:
            depth = max(len(pairs) for pairs in self.terms)
            padded = [_padded(pairs, depth) for pairs in self.terms]
            steps = []
            for k in range(depth):
                pixels, weights = zip(*(pairs[k] for pairs in padded), strict=True)
                are_ones = all(weight == 1 for weight in weights)
                factors = None if are_ones else backend.asarray(list(weights), dtype)
                steps.append((_index(backend, list(pixels)), factors))
            unread = [output for output, pairs in enumerate(self.terms) if not pairs]
            self._on_device[key] = steps, _index(backend, unread) if unread else None
        return self._on_device[key]


def _padded(pairs: tuple[tuple[int, float], ...], depth: int) -> list[tuple[int, float]]:
    """Pad to ``depth`` terms with the same sum.

    The first term is split into equal terms, as weights of 0 would turn infinity into NaN. Pixels
    without terms get any, and are cleared afterwards.
    """
    (first, weight), *rest = pairs or ((0, 1.0),)
    repeats = depth - len(rest)
    return [*([(first, weight / repeats)] * repeats), *rest]


def _index(backend: Backend, numbers: list[int]) -> Any:
    """These indices as a slice, which avoids a copy, or as an array."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    stop = numbers[0] + step * len(numbers)
    if step > 0 and numbers == list(range(numbers[0], stop, step)):
        return slice(numbers[0], numbers[-1] + 1, step)
    return backend.asarray(numbers, "int32")


def _pieces(backend: Backend, y: Array) -> tuple[slice, ...]:
    """Slices of the channels whose two temporary arrays stay within the backend's budget."""
    shares = len(backend.channels(y))
    return split_range(len(y), max(shares, 2 * y.nbytes // backend.column_budget))


def _weighted_sum(
    xp: Any, x: Array, steps: list[tuple[Any, Array | None]], axis: int, y: Array
) -> None:
    for k, (index, weight) in enumerate(steps):
        if isinstance(index, slice):
            pixels = x[:, index] if axis == 1 else x[:, :, index]
        else:
            pixels = xp.take(x, index, axis=axis)
        if weight is not None:
            pixels = pixels * weight.reshape(-1, *(1,) * (3 - axis))
        if k == 0:
            y[...] = pixels
        else:
            y += pixels


class Resample(ImageFunction):
    """Applies weights to the rows and the columns of images."""

    def __init__(self, rows: AxisWeights, columns: AxisWeights, data_format: str = "NCHW") -> None:
        axes = [(1, rows), (2, columns)]
        # shrink before enlarging; rows first where it makes no difference, as they are contiguous
        self.axes = axes if len(rows.terms) <= rows.size else axes[::-1]
        self.data_format = data_format

    def compute(self, backend: Backend, x: Array) -> Array:
        for axis, weights in self.axes:
            x = weights.apply(backend, x, axis)
        return x

    def gradient(self, backend: Backend, dy: Array) -> Array:
        for axis, weights in reversed(self.axes):
            dy = weights.transposed.apply(backend, dy, axis)
        return dy


@operation
def interpolate(
    input: Any,
    size: int | tuple[int, int] | None = None,
    scale_factor: Factor | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resize images.

    With ``scale = H / oH``, or 1 / ``scale_factor`` if it is passed, row ``o`` of the result
    samples the input at row

    - ``floor(o * scale)`` with ``mode="nearest"``, rounded in float32 as in PyTorch,
    - ``(o + 1/2) * scale - 1/2``, at least 0, with ``"bilinear"``: pixels are squares,
    - ``o * (H - 1) / (oH - 1)`` with ``"bilinear"`` and ``align_corners=True``: pixels are points,
      and the corners stay where they are.

    Between two rows, bilinear interpolation weights both by their distance. Columns are treated the
    same. An axis that keeps its number of pixels does not change.

    Parameters
    ----------
    input : (N, C, H, W)
    size
        Pixels of the result: an int for both or (height, width).
    scale_factor
        Size of the result / size of the input: a number for both or (height, width). Rounded down
        to whole pixels. Pass either this or ``size``.
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
        Not four axes, or an image or a result without pixels.
    ArgumentError
        A setting is out of range, or settings conflict.
    """
    input = Tensor.of(input)
    _, *image = image_size(input, "NCHW")
    factors = check_interpolation(size, scale_factor, mode, align_corners)
    output = pair(size, "size") if factors is None else _scaled(image, factors)
    if min(*image, *output) < 1:
        raise ShapeError(
            f"input has shape {input.shape}, the result would have {output} pixels (height, "
            "width): both need at least one; use a larger image or scale_factor"
        )
    name, value = ("size", size) if factors is None else ("scale_factor", scale_factor)
    check_size(name, value, output, visited=True)
    kind = "corners" if align_corners else mode
    axes = zip(image, output, factors or (None, None), strict=True)
    rows, columns = (_axis_weights(kind, *axis) for axis in axes)
    return Resample(rows, columns)(input)


def _scaled(image: list[int], factors: tuple[float, float]) -> tuple[int, int]:
    height, width = (int(n * f) for n, f in zip(image, factors, strict=True))
    return height, width


@lru_cache(maxsize=256)
def _axis_weights(kind: str, size: int, output: int, factor: float | None) -> AxisWeights:
    """The weights from an axis of ``size`` pixels to one of ``output`` pixels."""
    if output == size:  # regardless of the factor, as in PyTorch
        return AxisWeights(size, [[(o, 1.0)] for o in range(output)])
    if kind == "nearest":
        return AxisWeights(size, [[(i, 1.0)] for i in _nearest(size, output, factor)])
    scale = size / output if factor is None else 1 / factor
    positions = [max(0.0, (o + 0.5) * scale - 0.5) for o in range(output)]
    if kind == "corners":  # a quotient of integers: the corners are exact
        positions = [o * (size - 1) / max(1, output - 1) for o in range(output)]
    return AxisWeights(size, [_between(position, size) for position in positions])


def _nearest(size: int, output: int, factor: float | None) -> list[int]:
    """The nearest pixels, rounded as in PyTorch, which treats doubling separately."""
    if output == 2 * size:
        return [o // 2 for o in range(output)]
    scale = _float32(size / output if factor is None else 1 / factor)
    return [min(math.floor(_float32(o * scale)), size - 1) for o in range(output)]


def _float32(value: float) -> float:
    """``value`` rounded to float32, which decides ties between pixels."""
    return struct.unpack("f", struct.pack("f", value))[0]


def _between(position: float, size: int) -> list[tuple[int, float]]:
    """The pixels on both sides of ``position``, weighted by their distance."""
    before = min(int(position), size - 1)
    after = min(before + 1, size - 1)
    fraction = min(position - before, 1.0)
    if after == before or fraction == 0:
        return [(before, 1.0)]
    return [(before, 1 - fraction), (after, fraction)]


class PixelShuffle(ImageFunction):
    """See :func:`pixel_shuffle`."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def compute(self, backend: Backend, x: Array, /) -> Array:
        (channels, height, width, batch), r = x.shape, self.factor
        channels //= r**2
        pixels = x.reshape(channels, r, r, height, width, batch).transpose(0, 3, 1, 4, 2, 5)
        return pixels.reshape(channels, height * r, width * r, batch)  # from (C, H, r, W, r, N)

    def gradient(self, backend: Backend, dy: Array, /) -> Array:
        (channels, height, width, batch), r = dy.shape, self.factor
        height, width = height // r, width // r
        pixels = dy.reshape(channels, height, r, width, r, batch).transpose(0, 2, 4, 1, 3, 5)
        return pixels.reshape(channels * r**2, height, width, batch)  # from (C, r, r, H, W, N)


@operation
def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """Rearrange r² channels into images r times as high and wide.

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
        Not four axes, or the channels are not a multiple of r².
    ArgumentError
        The factor is out of range.
    """
    input = Tensor.of(input)
    factor = check_int("upscale_factor", upscale_factor)
    channels, _, _ = image_size(input, "NCHW")
    if channels % factor**2:
        raise ShapeError(
            f"input has shape {input.shape}: {channels} channels are not a multiple of "
            f"upscale_factor² = {factor**2}"
        )
    return PixelShuffle(factor)(input)


class PixelUnshuffle(PixelShuffle):
    """See :func:`pixel_unshuffle`."""

    compute, gradient = PixelShuffle.gradient, PixelShuffle.compute


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
        Not four axes, or the height or width is not a multiple of r.
    ArgumentError
        The factor is out of range.
    """
    input = Tensor.of(input)
    factor = check_int("downscale_factor", downscale_factor)
    _, height, width = image_size(input, "NCHW")
    if height % factor or width % factor:
        raise ShapeError(
            f"input has shape {input.shape}: height {height} and width {width} must be multiples "
            f"of downscale_factor={factor}; pad or crop the images"
        )
    return PixelUnshuffle(factor)(input)
