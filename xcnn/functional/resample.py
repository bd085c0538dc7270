"""Interpolation by sparse weights along each axis, and pixel shuffle."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import INTERPOLATION_AXES, check_int, check_interpolation, check_size
from ..errors import ArgumentError, ShapeError, show
from ..geometry import adaptive_spans
from ..tensor import ImageFunction, Tensor, operation
from ..tiling import split_range
from .shape import permute, reshape

# fmt: off
__all__ = [
    "channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample_bilinear",
    "upsample_nearest",
]
# fmt: on


Size = int | Sequence[int] | None
Factor = float | Sequence[float] | None


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
        """Resample ``axis`` of x, which is contiguous, as the result is."""
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        rows = x.reshape(math.prod(before), self.size, math.prod(after))
        y = backend.xp.empty((len(rows), len(self.terms), rows.shape[2]), x.dtype)
        steps, unread = self._steps(backend, x.dtype)

        def compute(part: slice) -> None:
            _weighted_sum(backend.xp, rows[part], steps, y[part])
            if unread is not None:
                y[part, unread] = 0

        backend.each(compute, _pieces(backend, y))
        return y.reshape(*before, len(self.terms), *after)

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


def _weighted_sum(xp: Any, x: Array, steps: list[tuple[Any, Array | None]], y: Array) -> None:
    """Resample the middle axis of x (A, size, B) into y."""
    for k, (index, weight) in enumerate(steps):
        pixels = x[:, index] if isinstance(index, slice) else xp.take(x, index, axis=1)
        if weight is not None:
            pixels = pixels * weight[:, None]
        if k == 0:
            y[...] = pixels
        else:
            y += pixels


class Resample(ImageFunction):
    """Applies weights to the rows, columns and depth of images; None keeps an axis."""

    def __init__(
        self,
        rows: AxisWeights | None,
        columns: AxisWeights | None,
        data_format: str = "NCHW",
        depth: AxisWeights | None = None,
    ) -> None:
        axes = [(axis, w) for axis, w in enumerate((rows, columns, depth), 1) if w is not None]
        # shrink before enlarging, and each time the rows while they are contiguous
        shrink = [(axis, w) for axis, w in axes if len(w.terms) <= w.size]
        self.axes = shrink + [(axis, w) for axis, w in axes[::-1] if len(w.terms) > w.size]
        self.data_format = data_format

    def compute(self, backend: Backend, x: Array) -> Array:
        for axis, weights in self.axes:
            x = weights.apply(backend, x, axis)
        return x

    def gradient(self, backend: Backend, dy: Array) -> Array:
        for axis, weights in reversed(self.axes):
            dy = weights.transposed.apply(backend, dy, axis)
        return dy


class ResampleNearest(Resample):
    """Copies pixels, of any dtype."""

    any_dtype = ("input",)


@operation
def interpolate(
    input: Any,
    size: Size = None,
    scale_factor: Factor = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize signals, images or volumes, one axis at a time.

    With ``scale = H / oH``, or 1 / ``scale_factor`` if it is passed, row ``o`` of the result
    samples the input at row

    - ``floor(o * scale)`` with ``mode="nearest"``, rounded in float32 as in PyTorch,
    - ``floor((o + 1/2) * scale)`` with ``"nearest-exact"``, as in Pillow and scikit-image,
    - ``(o + 1/2) * scale - 1/2``, at least 0, with the linear modes, and without that limit with
      ``"bicubic"``: pixels are squares,
    - ``o * (H - 1) / (oH - 1)`` with these and ``align_corners=True``: pixels are points, and the
      corners stay where they are.

    Between two rows, linear interpolation weights both by their distance. Bicubic interpolation
    weights the four nearest by a cubic kernel (Keys 1981, "Cubic convolution interpolation for
    digital image processing", with a = -3/4), and repeats the outermost row outside the image.
    ``"area"`` averages the rows from ``floor(o * H / oH)`` up to ``ceil((o + 1) * H / oH)``.

    Parameters
    ----------
    input : (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        Of any dtype with the nearest modes, else of floats.
    size
        Length of the result's spatial axes: an int for all or one for each.
    scale_factor
        Size of the result / size of the input: a number for all axes or one for each. Rounded down
        to whole pixels. Pass either this or ``size``.
    mode
        ``"nearest"``, ``"nearest-exact"`` or ``"area"``; ``"linear"`` for signals, ``"bilinear"``
        or ``"bicubic"`` for images, ``"trilinear"`` for volumes.
    align_corners
        For the linear modes and ``"bicubic"`` only; None is False.
    recompute_scale_factor
        Whether ``scale`` follows from the rounded size of the result rather than from
        ``scale_factor``.
    antialias
        Whether ``"bilinear"`` and ``"bicubic"`` (then with a = -1/2) widen their kernel by
        ``scale`` where they shrink the image, as Pillow does.

    Returns
    -------
    Tensor
        (N, C, oL), (N, C, oH, oW) or (N, C, oD, oH, oW)

    Raises
    ------
    ShapeError
        Other axes than the mode takes, or an input or a result without pixels.
    ArgumentError
        A setting is out of range, or settings conflict.
    """
    input = Tensor.of(input)
    check_interpolation(size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    pixels, axes = input.shape[2:], INTERPOLATION_AXES[mode]
    if len(pixels) not in axes:
        raise ShapeError(
            f"input has shape {input.shape}: mode={mode!r} takes N, C and "
            f"{' or '.join(map(str, axes))} spatial axes"
            + ("; one image needs a batch axis, for example x[None]" if input.ndim == 3 else "")
        )
    name, given = ("scale_factor", scale_factor) if size is None else ("size", size)
    numbers: Any = tuple(given) if isinstance(given, list | tuple) else (given,) * len(pixels)
    if len(numbers) != len(pixels):
        raise ArgumentError(f"{name}={show(given)}: expected a number, or {len(pixels)} of them")
    output = numbers if size else tuple(int(n * f) for n, f in zip(pixels, numbers, strict=True))
    if min(*pixels, *output) < 1:
        raise ShapeError(
            f"input has shape {input.shape}, the result would have {output} pixels: both need at "
            "least one along each axis; use a larger image or scale_factor"
        )
    check_size(name, given, output, visited=True)
    factors = (None,) * len(pixels) if size or recompute_scale_factor else numbers
    kind = "linear" if mode.endswith("linear") else mode
    kind = "nearest of images" if mode == "nearest" and len(pixels) == 2 else kind
    settings = kind, bool(align_corners), bool(antialias)
    sizes = zip(pixels, output, factors, strict=True)
    weights: list[Any] = [axis_weights(*settings, int(n), int(m), f) for n, m, f in sizes]
    depth, rows, columns = [None] * (3 - len(weights)) + weights
    function = ResampleNearest if mode in _NEAREST else Resample
    return function(rows, columns, ("NCL", "NCHW", "NCDHW")[len(weights) - 1], depth)(input)


@operation
def upsample_nearest(input: Any, size: Size = None, scale_factor: Factor = None) -> Tensor:
    """:func:`interpolate` with ``mode="nearest"``."""
    return interpolate(input, size, scale_factor)


@operation
def upsample_bilinear(input: Any, size: Size = None, scale_factor: Factor = None) -> Tensor:
    """:func:`interpolate` of images with ``mode="bilinear"`` and ``align_corners=True``."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


# -- the weights of each mode ---------------------------------------------------------------

_NEAREST = {"nearest": 0.0, "nearest of images": 0.0, "nearest-exact": 0.5}


@lru_cache(maxsize=256)
def axis_weights(
    kind: str, align_corners: bool, antialias: bool, size: int, output: int, factor: float | None
) -> AxisWeights:
    """The weights from an axis of ``size`` pixels to one of ``output`` pixels.

    ``kind`` is a mode of :func:`interpolate`, "linear" for all linear ones. As in PyTorch, some
    keep an axis of the same size whatever the factor.
    """
    if output == size and (antialias or kind in ("linear", "nearest of images")):
        return AxisWeights(size, [[(o, 1.0)] for o in range(output)])
    scale = size / output if factor is None else 1 / factor
    if align_corners:
        scale = (size - 1) / (output - 1) if output > 1 else 0.0
    if kind == "area":
        spans = adaptive_spans(size, output)
        return AxisWeights(size, [[(i, 1 / (b - a)) for i in range(a, b)] for a, b in spans])
    if kind in _NEAREST:
        return AxisWeights(size, [[(i, 1.0)] for i in _nearest(kind, size, output, scale)])
    if antialias:
        return AxisWeights(
            size, [_averaged(kind, (o + 0.5) * scale, scale, size) for o in range(output)]
        )
    positions = [(o + 0.5) * scale - 0.5 for o in range(output)]
    if align_corners:  # a quotient of integers: the corners are exact
        positions = [o * (size - 1) / max(1, output - 1) for o in range(output)]
    return AxisWeights(size, [_between(kind, position, size) for position in positions])


def _nearest(kind: str, size: int, output: int, scale: float) -> list[int]:
    """The nearest pixels, rounded as in PyTorch, which doubles images separately."""
    if output == 2 * size and kind == "nearest of images":
        return [o // 2 for o in range(output)]
    scale, offset = _float32(scale), _NEAREST[kind]
    return [min(math.floor(_float32((o + offset) * scale)), size - 1) for o in range(output)]


def _float32(value: float) -> float:
    """``value`` rounded to float32, which decides ties between pixels."""
    return struct.unpack("f", struct.pack("f", value))[0]


def _between(kind: str, position: float, size: int) -> list[tuple[int, float]]:
    """The pixels around ``position``, weighted by their distance."""
    if kind == "linear":
        position = min(max(position, 0.0), size - 1.0)
    before = math.floor(position)
    fraction, reach = position - before, _REACH[kind]
    pixels = range(1 - reach, reach + 1)
    weights = [(before + i, _kernel(kind, fraction - i, -0.75)) for i in pixels]
    return _inside(weights, size)


def _averaged(kind: str, centre: float, scale: float, size: int) -> list[tuple[int, float]]:
    """The pixels around ``centre``, in a kernel that is widened where it shrinks the image."""
    widening = max(1.0, scale)
    reach = _REACH[kind] * widening
    first, stop = max(0, int(centre - reach + 0.5)), min(size, int(centre + reach + 0.5))
    pixels = range(first, stop)
    weights = [_kernel(kind, (i + 0.5 - centre) / widening, -0.5) for i in pixels]
    return _inside([(i, w / sum(weights)) for i, w in zip(pixels, weights, strict=True)], size)


_REACH = {"linear": 1, "bicubic": 2}


def _kernel(kind: str, distance: float, a: float) -> float:
    t = abs(distance)
    if kind == "linear":
        return max(0.0, 1 - t)
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return a * (((t - 5) * t + 8) * t - 4) if t < 2 else 0.0


def _inside(weights: list[tuple[int, float]], size: int) -> list[tuple[int, float]]:
    """The weights that are not 0, each pixel once; the outermost stand for those beyond."""
    sums: dict[int, float] = {}
    for pixel, weight in weights:
        if weight:
            pixel = min(max(pixel, 0), size - 1)
            sums[pixel] = sums.get(pixel, 0.0) + weight
    return list(sums.items())


# -- pixels and channels --------------------------------------------------------------------


@operation
def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """Rearrange r² channels into images r times as high and wide.

    ``y[..., c, h*r + i, w*r + j] = x[..., c*r² + i*r + j, h, w]`` with r = ``upscale_factor``.
    Source: Shi et al. 2016, "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network".

    Parameters
    ----------
    input : (..., C·r², H, W)
    upscale_factor
        An int >= 1.

    Returns
    -------
    Tensor
        (..., C, H·r, W·r)

    Raises
    ------
    ShapeError
        Fewer than three axes, or the channels are not a multiple of r².
    ArgumentError
        The factor is out of range.
    """
    input, r = Tensor.of(input), check_int("upscale_factor", upscale_factor)
    leading, (channels, height, width) = _images(input)
    if channels % r**2:
        raise ShapeError(
            f"input has shape {input.shape}: {channels} channels are not a multiple of "
            f"upscale_factor² = {r**2}"
        )
    pixels = reshape(input, (*leading, channels // r**2, r, r, height, width))
    k = len(leading)
    pixels = permute(pixels, (*range(k + 1), k + 3, k + 1, k + 4, k + 2))  # (..., C, H, r, W, r)
    return reshape(pixels, (*leading, channels // r**2, height * r, width * r))


@operation
def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """The inverse of :func:`pixel_shuffle`: pixels become channels.

    Parameters
    ----------
    input : (..., C, H·r, W·r)
    downscale_factor
        r, an int >= 1.

    Returns
    -------
    Tensor
        (..., C·r², H, W)

    Raises
    ------
    ShapeError
        Fewer than three axes, or the height or width is not a multiple of r.
    ArgumentError
        The factor is out of range.
    """
    input, r = Tensor.of(input), check_int("downscale_factor", downscale_factor)
    leading, (channels, height, width) = _images(input)
    if height % r or width % r:
        raise ShapeError(
            f"input has shape {input.shape}: height {height} and width {width} must be multiples "
            f"of downscale_factor={r}; pad or crop the images"
        )
    pixels = reshape(input, (*leading, channels, height // r, r, width // r, r))
    k = len(leading)
    pixels = permute(pixels, (*range(k + 1), k + 2, k + 4, k + 1, k + 3))  # (..., C, r, r, H, W)
    return reshape(pixels, (*leading, channels * r**2, height // r, width // r))


def _images(input: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The leading axes, and (C, H, W)."""
    if input.ndim < 3:
        raise ShapeError(f"input has shape {input.shape}: expected (..., C, H, W)")
    return input.shape[:-3], input.shape[-3:]


@operation
def channel_shuffle(input: Any, groups: int) -> Tensor:
    """Deal the channels of each group out to all groups: (g, C/g) channels become (C/g, g).

    Source: Zhang et al. 2018, "ShuffleNet: an extremely efficient convolutional neural network for
    mobile devices".

    Parameters
    ----------
    input : (N, C, ...)
        Three axes or more.
    groups
        An int >= 1 that divides C.

    Returns
    -------
    Tensor
        The shape of the input.

    Raises
    ------
    ShapeError
        Fewer than three axes, or the channels are not a multiple of ``groups``.
    ArgumentError
        ``groups`` is out of range.
    """
    input, groups = Tensor.of(input), check_int("groups", groups)
    if input.ndim < 3 or input.shape[1] % groups:
        raise ShapeError(
            f"input has shape {input.shape}: expected (N, C, ...) of three axes or more, with a "
            f"multiple of groups={groups} channels"
        )
    batch, channels, *rest = input.shape
    y = reshape(input, (batch, groups, channels // groups, *rest))
    return reshape(permute(y, (0, 2, 1, *range(3, y.ndim))), input.shape)
