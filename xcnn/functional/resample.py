"""Interpolation, pixel shuffle, and the weighted sums along an axis behind them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import Factor, check_factor, check_interpolation, pair
from ..errors import ShapeError
from ..layout import batch_first, batch_last, image_size
from ..tensor import Function, Tensor, operation
from ..tiling import parts


class Lines:
    """Each new line along an axis as a weighted sum of old ones.

    Parameters
    ----------
    size
        Number of old lines.
    terms
        For each new line the pairs (old line, weight) that it adds up.
    """

    def __init__(self, size: int, terms: Iterable[Iterable[tuple[int, float]]]) -> None:
        self.size = size
        self.terms = [tuple(line) for line in terms]
        self._on_device: dict[Any, list[tuple[Any, Array | None]]] = {}

    @cached_property
    def transposed(self) -> Lines:
        """Each old line as the sum of the new ones that it went into: what a gradient takes."""
        back: list[list[tuple[int, float]]] = [[] for _ in range(self.size)]
        for new, line in enumerate(self.terms):
            for old, weight in line:
                back[old].append((new, weight))
        return Lines(len(self.terms), back)

    def apply(self, backend: Backend, x: Array, axis: int) -> Array:
        """The new lines along ``axis`` (1 or 2) of x (C, H, W, N), contiguous."""
        shape = (*x.shape[:axis], len(self.terms), *x.shape[axis + 1 :])
        y = backend.xp.empty(shape, x.dtype)
        steps = self._steps(backend, x.dtype)

        def compute(part: slice) -> None:
            _add_up(backend.xp, x[part], steps, axis, y[part])

        backend.each(compute, _pieces(backend, y))
        return y

    def _steps(self, backend: Backend, dtype: Any) -> list[tuple[Any, Array | None]]:
        """Which old line each new one takes in step 0, 1, ..., and its weight; kept on the device.

        A weight of None stands for ones.
        """
        key = backend, str(dtype)
        if key not in self._on_device:
            depth = max(len(line) for line in self.terms)
            padded = [_padded(line, depth) for line in self.terms]
            self._on_device[key] = [
                (
                    _as_slice([line[k][0] for line in padded])
                    or backend.asarray([line[k][0] for line in padded], "int32"),
                    None
                    if all(line[k][1] == 1 for line in padded)
                    else backend.asarray([line[k][1] for line in padded], dtype),
                )
                for k in range(depth)
            ]
        return self._on_device[key]


def _padded(line: tuple[tuple[int, float], ...], depth: int) -> list[tuple[int, float]]:
    """``depth`` terms with the same sum. Only a line of none gets a weight of 0, which would make
    NaN of infinity; others get their first term in equal shares.
    """
    if not line:
        return [(0, 0.0)] * depth
    (first, weight), *others = line
    shares = depth - len(others)
    return [*([(first, weight / shares)] * shares), *others]


def _as_slice(numbers: list[int]) -> slice | None:
    """The slice with these indices, which needs no copy, if there is one."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    stop = numbers[0] + step * len(numbers)
    if step > 0 and numbers == list(range(numbers[0], stop, step)):
        return slice(numbers[0], numbers[-1] + 1, step)
    return None


def _pieces(backend: Backend, y: Array) -> tuple[slice, ...]:
    """Parts of the channels whose two temporary arrays keep to the backend's budget."""
    shares = len(backend.channels(y))
    return parts(len(y), max(shares, 2 * y.nbytes // backend.column_budget))


def _add_up(xp: Any, x: Array, steps: list[tuple[Any, Array | None]], axis: int, y: Array) -> None:
    for k, (index, weight) in enumerate(steps):
        if isinstance(index, slice):
            lines = x[:, index] if axis == 1 else x[:, :, index]
        else:
            lines = xp.take(x, index, axis=axis)
        if weight is not None:
            lines = lines * weight.reshape(-1, *(1,) * (3 - axis))
        if k == 0:
            y[...] = lines
        else:
            y += lines


class Resample(Function):
    """New rows, and of those new columns, of each image."""

    arguments = ("input",)

    def __init__(self, rows: Lines, columns: Lines, data_format: str = "NCHW") -> None:
        axes = [(1, rows), (2, columns)]
        # few lines are made first: rows, which lie together in memory, where there will be less
        self.axes = axes if len(rows.terms) <= rows.size else axes[::-1]
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array) -> Array:
        y = batch_last(backend.xp, x, self.data_format)
        for axis, lines in self.axes:
            y = lines.apply(backend, y, axis)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = batch_last(backend.xp, dy, self.data_format)
        for axis, lines in reversed(self.axes):
            dx = lines.transposed.apply(backend, dx, axis)
        return batch_first(dx, self.data_format)


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
