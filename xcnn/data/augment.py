"""Random changes to batches of images, so that a network sees each picture in many forms.

Here are the base class, mirror images and crops; rotations are in ``affine.py``, colours in
``colour.py``, holes in ``erase.py``, mixtures of two images in ``mixing.py``.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from .. import backends, random
from ..arrays import Array
from ..backends import Backend
from ..checks import is_int
from ..errors import ArgumentError, ShapeError


class Augmentation:
    """Base of what changes the images of a batch (N, C, H, W) at random, each on its own.

    The random numbers come from a NumPy generator on the host, so that a CPU and a GPU draw the
    same. A :class:`~xcnn.data.DataLoader` passes one made from its seed, the epoch and the number
    of the batch alone. Without one, ``xcnn.manual_seed`` makes the numbers repeat.

    A subclass defines ``augment(backend, x, rng)``, which returns a new array: of the dtype of
    ``x``, in the memory order of ``x``.

    Examples
    --------
    >>> class Darker(Augmentation):
    ...     def augment(self, backend, x, rng):
    ...         shares = rng.uniform(0.5, 1, (len(x), 1, 1, 1)).astype("float32")
    ...         return (x * backend.asarray(shares)).astype(x.dtype)
    """

    def __call__(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        """Change the images ``x`` (N, C, H, W), an array of the host or of a GPU.

        Raises
        ------
        ShapeError
            ``x`` has not four axes, or images of a size that does not fit.
        """
        backend = backends.of(x)
        check_images(x, type(self).__name__)
        with backend.active():
            return self.augment(backend, x, rng or random.generator())

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        """What the augmentation does; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} defines no augment method")

    def __repr__(self) -> str:
        return describe(self)


class _Flip(Augmentation):
    """Mirrors along one axis, with probability ``p``."""

    _axis: int

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_probability("p", p)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        chosen = backend.asarray(rng.random((len(x), 1, 1, 1)) < self.p)
        y = x.copy(order="K")
        backend.xp.copyto(y, backend.xp.flip(x, self._axis), where=chosen)
        return y


class RandomHorizontalFlip(_Flip):
    """Swaps left and right of each image with probability ``p``.

    Parameters
    ----------
    p : float, default 0.5

    Raises
    ------
    ArgumentError
        ``p`` is not from 0 to 1.

    Examples
    --------
    >>> RandomHorizontalFlip(p=1)(np.float32([[[[1, 2, 3]]]]))
    array([[[[3., 2., 1.]]]], dtype=float32)
    """

    _axis = 3


class RandomVerticalFlip(_Flip):
    """Swaps top and bottom of each image with probability ``p``.

    Parameters
    ----------
    p : float, default 0.5

    Raises
    ------
    ArgumentError
        ``p`` is not from 0 to 1.
    """

    _axis = 2


class RandomCrop(Augmentation):
    """Cuts a window out of each image, at a random place, after padding it on all sides.

    Parameters
    ----------
    size : int or (height, width)
        Of the window, in pixels.
    padding : int or (pH, pW), default 0
        Pixels added at the top and at the bottom, on the left and on the right.
    padding_mode : str, default "zeros"
        What is added: "zeros", or "reflect": the image mirrored at its border pixels, which are not
        repeated.

    Raises
    ------
    ArgumentError
        Not such numbers, or another mode.
    ShapeError
        When called: images that are smaller than the window, or too small to be mirrored.

    Examples
    --------
    >>> RandomCrop(32, padding=4)(np.zeros((5, 3, 32, 32), np.uint8)).shape
    (5, 3, 32, 32)
    """

    def __init__(self, size: Any, padding: Any = 0, padding_mode: str = "zeros") -> None:
        if padding_mode not in ("zeros", "reflect"):
            raise ArgumentError(f'padding_mode={padding_mode!r}: expected "zeros" or "reflect"')
        self.size = pair_of_ints("size", size, 1)
        self.padding = pair_of_ints("padding", padding, 0)
        self.padding_mode = padding_mode

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        padded = self._padded(backend.xp, x)
        (height, width), image = self.size, padded.shape[2:]
        if height > image[0] or width > image[1]:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: padded by {self.padding} it is smaller than "
                f"size={self.size}; choose a smaller size or more padding"
            )
        tops = rng.integers(0, image[0] - height + 1, len(x)).tolist()
        lefts = rng.integers(0, image[1] - width + 1, len(x)).tolist()
        y = empty_as(backend.xp, x, (x.shape[1], height, width))
        for n, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            y[n] = padded[n, :, top : top + height, left : left + width]
        return y

    def _padded(self, xp: Any, x: Array) -> Array:
        if self.padding == (0, 0):
            return x
        too_small = any(p >= s for p, s in zip(self.padding, x.shape[2:], strict=True))
        if self.padding_mode == "reflect" and too_small:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: reflecting needs images larger than "
                f"padding={self.padding}; use less padding, or zeros"
            )
        mode = "constant" if self.padding_mode == "zeros" else "reflect"
        return xp.pad(x, ((0, 0), (0, 0), *((p, p) for p in self.padding)), mode=mode)


# -- what the other files share ----------------------------------------------------------------


def check_images(x: Array, user: str) -> None:
    """Refuse what is not a batch of images."""
    if x.ndim != 4:
        raise ShapeError(
            f"{user}: x has shape {tuple(x.shape)}, expected images (N, C, H, W); one image needs "
            "a batch axis, for example x[None]"
        )


def empty_as(xp: Any, x: Array, image: tuple[int, ...]) -> Array:
    """A new array for images of the shape (C, H, W), batch-last in memory where ``x`` is."""
    if x.transpose(1, 2, 3, 0).flags.c_contiguous and not x.flags.c_contiguous:
        return xp.moveaxis(xp.empty((*image, len(x)), x.dtype), -1, 0)
    return xp.empty((len(x), *image), x.dtype)


def check_probability(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    if not (isinstance(value, Real) and 0 <= float(value) <= 1):
        raise ArgumentError(f"{name}={value!r}: expected a number from 0 to 1")
    return float(value)


def pair_of_ints(name: str, value: Any, lowest: int) -> tuple[int, int]:
    """An int or a pair as (height, width)."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(is_int(v) and v >= lowest for v in pair):
        raise ArgumentError(
            f"{name}={value!r}: expected an int >= {lowest}, or two for height and width"
        )
    return int(pair[0]), int(pair[1])


def limits(
    name: str, value: Any, centre: float = 0, lowest: float = -np.inf
) -> tuple[float, float]:
    """(low, high) of a pair, or ``centre`` minus and plus a number; none is below ``lowest``."""
    given = tuple(value) if isinstance(value, tuple | list) else (value,)
    if all(isinstance(v, Real) and np.isfinite(float(v)) for v in given):
        numbers = [float(v) for v in given]
        if len(numbers) == 1 and numbers[0] >= 0:
            return max(lowest, centre - numbers[0]), centre + numbers[0]
        if len(numbers) == 2 and lowest <= numbers[0] <= numbers[1]:
            return numbers[0], numbers[1]
    above = "" if lowest == -np.inf else f", none below {lowest:g}"
    raise ArgumentError(
        f"{name}={value!r}: expected a number >= 0, or the lowest and the highest value{above}"
    )


def describe(thing: Any) -> str:
    """The class and the settings, which are its public attributes."""
    settings = [f"{k}={v!r}" for k, v in vars(thing).items() if not k.startswith("_")]
    return f"{type(thing).__name__}({', '.join(settings)})"
