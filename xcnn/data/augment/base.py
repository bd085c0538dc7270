"""Base class and helpers of the augmentations."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.random import Generator

from ... import backends, random
from ...arrays import Array
from ...backends import Backend
from ...checks import Pair
from ...errors import ArgumentError, DTypeError, ShapeError
from ...layout import batch_first, batch_last, spatial_size
from ..dataset import Batch
from ..transforms import BatchTransform, as_floats

Ends: TypeAlias = tuple[float, float]
Range: TypeAlias = float | Ends  # a number d for ±d, or (lowest, highest)

_ATTEMPTS = 10  # to draw a rectangle that fits


class Move(NamedTuple):
    """Where each pixel of some images comes from.

    Attributes
    ----------
    matrices : numpy.ndarray
        (N, 2, 3): an output pixel (row, column, 1) to a position (row, column) in the input. Whole
        numbers are the centres of pixels.
    size : (int, int)
        Height and width of the output.
    reflect : bool, default False
        Whether positions outside the input show its mirror image; else there is nothing.
    """

    matrices: np.ndarray
    size: Pair
    reflect: bool = False


class Augmentation(BatchTransform):
    """Base class of random transforms of images (N, C, H, W), drawn separately per image.

    Random numbers come from a NumPy generator on the host, so they are the same on every device.
    A :class:`~xcnn.data.DataLoader` passes a generator that depends only on its seed, the epoch and
    the batch number. Otherwise the library's generator is used, seeded by ``xcnn.manual_seed``.

    A subclass defines ``augment(backend, x, rng)``, which returns a new array with the dtype and
    the memory order of ``x``. For :class:`WithTarget`, it also sets ``geometric = False`` if every
    pixel stays where it is, or else defines ``moves``.

    In a training on several processes, each augments its part of a batch, and draws what the whole
    batch would (:meth:`xcnn.data.DataLoader.shard`), if ``augment`` keeps to this: numbers of the
    images are drawn for all at once, with the batch as the first axis of ``size``, from one
    distribution; numbers without ``size`` are the same for all images; and a loop that draws for
    each image runs over the whole batch, see :func:`xcnn.random.whole`.

    Examples
    --------
    >>> class Darken(Augmentation):
    ...     def augment(self, backend, x, rng):
    ...         factors = rng.uniform(0.5, 1, (len(x), 1, 1, 1)).astype("float32")
    ...         return (x * backend.asarray(factors)).astype(x.dtype)
    """

    geometric: ClassVar[bool] = True

    def __call__(self, x: Array, rng: Generator | None = None) -> Array:
        """Augment the images ``x`` (N, C, H, W), an array on the host or on a GPU.

        Raises
        ------
        ShapeError
            If ``x`` does not have four axes, or its images have an unsuitable size.
        """
        backend = backends.of(x)
        spatial_size(x, "NCHW", f"{type(self).__name__}: x")
        return backend.run(self.augment, x, rng or random.generator())

    def augment(self, backend: Backend, x: Array, rng: Generator) -> Array:
        """Return the augmented images; subclasses define this."""
        raise NotImplementedError(f"{type(self).__name__} must define augment")

    def moves(self, size: Pair, count: int, rng: Generator) -> list[Move]:
        """How ``augment`` moves the pixels of ``count`` images (H, W), one step after the other.

        It draws from ``rng`` the same numbers in the same order.
        """
        return []

    def apply(self, batch: Batch, rng: Generator | None) -> Batch:
        return (self(batch[0], rng), *batch[1:])


class PixelAugmentation(Augmentation):
    """Base class: applies ``_change`` in floating point, then rounds integer images once.

    ``_change(backend, x, highest, rng)`` takes contiguous (C, H, W, N) and returns a new array, or
    ``x`` itself. If ``_uses_colour``, only images of 1 or 3 channels are accepted, with values from
    0 to ``highest``: uint8 to 255, floats to 1.
    """

    _uses_colour = False

    def augment(self, backend: Backend, x: Array, rng: Generator) -> Array:
        name, is_float = type(self).__name__, x.dtype.kind == "f"
        if self._uses_colour and x.shape[1] not in (1, 3):
            raise ShapeError(f"{name}: x has shape {tuple(x.shape)}, expected 1 or 3 channels")
        if self._uses_colour and not is_float and x.dtype != "uint8":
            raise DTypeError(f"{name}: x is {x.dtype}, expected uint8, or floats from 0 to 1")
        highest = 1 if is_float else 255
        return in_floats(backend.xp, x, lambda pixels: self._change(backend, pixels, highest, rng))

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        raise NotImplementedError


def in_floats(xp: Any, x: Array, change: Callable[[Array], Array]) -> Array:
    """``change`` the images x (N, C, H, W), as floats (C, H, W, N); integers are rounded."""
    is_float = x.dtype.kind == "f"
    pixels = change(batch_last(xp, x).astype(x.dtype if is_float else "float32", copy=False))
    y = empty_images(xp, x, pixels.shape[:3])
    y[...] = batch_first(pixels if is_float else xp.rint(pixels))
    return y


def empty_images(xp: Any, x: Array, image_shape: tuple[int, ...]) -> Array:
    """Allocate (N, *image_shape), batch-last in memory if ``x`` is."""
    if x.transpose(1, 2, 3, 0).flags.c_contiguous and not x.flags.c_contiguous:
        return xp.moveaxis(xp.empty((*image_shape, len(x)), x.dtype), -1, 0)
    return xp.empty((len(x), *image_shape), x.dtype)


def centred_slice(centre: int, length: int) -> slice:
    """Slice ``length`` pixels around ``centre``, clipped at 0; an even one extends further left."""
    start = centre - length // 2
    return slice(max(0, start), max(0, start + length))


def channel_values(name: str, value: Any, channels: int) -> np.ndarray:
    """``value``, one number or one per channel, as an array of shape () or (channels,).

    Raises
    ------
    ShapeError
        If it has another shape.
    """
    values = as_floats(value)
    if values.ndim > 1 or values.size not in (1, channels):
        raise ShapeError(
            f"x has {channels} channels, {name}={value!r}: expected one number, or one per channel"
        )
    return values


def check_channel_values(name: str, value: Any) -> Any:
    """Require one number, or a sequence of them; :func:`channel_values` checks how many.

    Raises
    ------
    ArgumentError
        If it is neither.
    """
    if not as_floats(value).size:
        raise ArgumentError(f"{name}={value!r}: expected a number, or one per channel")
    return value


def check_alpha(alpha: Any) -> float:
    """Check the parameter of a Beta or Dirichlet distribution.

    Raises
    ------
    ArgumentError
        If it is not a finite number above 0.
    """
    if not (isinstance(alpha, Real) and 0 < float(alpha) < np.inf):
        raise ArgumentError(f"alpha={alpha!r}: expected a number above 0")
    return float(alpha)


def draw_box(
    rng: Generator, image: Pair, largest: Pair, scale: Ends, ratio: Ends
) -> tuple[int, ...] | None:
    """Draw a rectangle in an image: (top, left, height, width); None if ten attempts fail.

    Parameters
    ----------
    rng : numpy.random.Generator
    image, largest : (int, int)
        Height and width of the image, and of the largest rectangle.
    scale : (low, high)
        Range of the area, uniform, as a fraction of the image.
    ratio : (low, high)
        Range of height / width, uniform on a logarithmic scale.
    """
    for _ in range(_ATTEMPTS):
        area = image[0] * image[1] * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*np.log(ratio)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < height <= largest[0] and 0 < width <= largest[1]:
            corner = rng.integers(0, [image[0] - height + 1, image[1] - width + 1])
            return *corner.tolist(), height, width
    return None


def check_range(
    name: str,
    value: Any,
    low: float = -np.inf,
    high: float = np.inf,
    centre: float | None = 0.0,
    strict: bool = False,
) -> tuple[float, float]:
    """Check the range from which a value is drawn.

    Parameters
    ----------
    name : str
        Name of the argument, for the error text.
    value : float or (lowest, highest)
        A number d stands for ``centre`` ± d, clipped at ``low``.
    low, high : float
        Limits of the range.
    centre : float or None, default 0
        None accepts a pair only.
    strict : bool, default False
        Whether ``low`` and ``high`` themselves are excluded.

    Raises
    ------
    ArgumentError
        If ``value`` is neither, or exceeds the limits.
    """
    less = operator.lt if strict else operator.le
    ends = tuple(value) if isinstance(value, tuple | list) else (value,)
    if all(isinstance(v, Real) and np.isfinite(float(v)) for v in ends):
        if len(ends) == 1 and centre is not None and ends[0] >= 0:
            ends = (max(low, centre - ends[0]), centre + ends[0])
        if len(ends) == 2 and less(low, ends[0]) and ends[0] <= ends[1] and less(ends[1], high):
            return float(ends[0]), float(ends[1])
    either = "" if centre is None else "a number >= 0, or "
    limits = f"({low:g}, {high:g})" if strict else f"[{low:g}, {high:g}]"
    raise ArgumentError(
        f"{name}={value!r}: expected {either}the lowest and the highest value, both in {limits}"
    )
