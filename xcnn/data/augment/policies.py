"""RandAugment, TrivialAugment and AugMix: random operations of random strength.

Apply these before normalisation: pixels are uint8 from 0 to 255 or floats from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from ...arrays import Array
from ...backends import Backend
from ...checks import INTERPOLATIONS, Pair, check_choice, check_flag, check_int, check_size
from ...errors import ArgumentError
from .affine import warp
from .base import Ends, Move, PixelAugmentation, channel_values, check_alpha, check_channel_values
from .operations import OPERATIONS, Operation

Ranges = dict[str, np.ndarray]

_ALL = tuple(OPERATIONS)
_SEVERITIES = 10  # magnitudes of AugMix


class _Policy(PixelAugmentation):
    """Base class: applies operations of ``OPERATIONS`` that are drawn for each image."""

    _uses_colour = True

    def __init__(self, interpolation: str, fill: float | Sequence[float] | None) -> None:
        self.interpolation = check_choice("interpolation", interpolation, INTERPOLATIONS)
        self.fill = None if fill is None else check_channel_values("fill", fill)

    def _step(
        self,
        backend: Backend,
        x: Array,
        highest: float,
        rng: Generator,
        indices: np.ndarray,
        ranges: Ranges,
        names: Sequence[str] = _ALL,
        copies: int = 1,
    ) -> Array:
        """Apply one random operation to each image of x (C, H, W, N), or of copies of a batch.

        Parameters
        ----------
        indices : (N,)
            Which of the magnitudes to use; an image with -1 is left unchanged.
        ranges : dict
            All magnitudes, by the name of ``Operation.range``.
        names : sequence of str
            The operations to choose from, equally likely.
        """
        fill = channel_values("fill", 0 if self.fill is None else self.fill, len(x))
        order, xp, y = INTERPOLATIONS.index(self.interpolation), backend.xp, x.copy()
        for operation, images, m in _draw(rng, indices, ranges, names, copies):
            part = backend.asarray(images)
            if operation.matrices:
                matrices = operation.matrices(x.shape[1:3], m)
                y[..., part] = warp(backend, x[..., part], matrices, order, fill)
            elif operation.change:
                magnitudes = backend.asarray(m.astype(x.dtype))
                y[..., part] = operation.change(xp, x[..., part], magnitudes, highest)
        return xp.rint(y) if highest == 255 else y


class _Chain(_Policy):
    """Base class: one operation after the other, with the magnitudes that ``_steps`` yields."""

    def _steps(
        self, size: Sequence[int], count: int, rng: Generator
    ) -> Iterator[tuple[np.ndarray, Ranges]]:
        """The indices and ranges of each step, as ``_step`` takes them."""
        raise NotImplementedError

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        for settings in self._steps(x.shape[1:3], x.shape[3], rng):
            x = self._step(backend, x, highest, rng, *settings)
        return x

    def moves(self, size: Pair, count: int, rng: Generator) -> list[Move]:
        moves = []
        for settings in self._steps(size, count, rng):
            matrices = np.tile(np.eye(2, 3), (count, 1, 1))
            for operation, images, magnitudes in _draw(rng, *settings):
                if operation.matrices:
                    matrices[images] = operation.matrices(size, magnitudes)
            moves.append(Move(matrices, size))
        return moves


class RandAugment(_Chain):
    """Apply ``num_ops`` random operations of the same strength to each image.

    Cubuk et al. 2020, "RandAugment: Practical Automated Data Augmentation with a Reduced Search
    Space". The operations are Identity, ShearX, ShearY, TranslateX, TranslateY, Rotate, Brightness,
    Color, Contrast, Sharpness, Posterize, Solarize, AutoContrast and Equalize.

    Parameters
    ----------
    num_ops : int, default 2
    magnitude : int, default 9
        Strength of all operations, from 0 to ``num_magnitude_bins`` - 1. The strongest is a shear
        by 0.3, a shift by 150/331 of the side, a turn by 30°, a factor 1 ± 0.9, 4 bits.
    num_magnitude_bins : int, default 31
        Number of strengths.
    interpolation : str, default "nearest"
        "nearest" or "bilinear".
    fill : float or sequence of float, optional
        Value of pixels from outside the image, one or one per channel; by default 0.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    ShapeError, DTypeError
        When called with images that do not have 1 or 3 channels, or are neither uint8 nor floats.

    Notes
    -----
    Grey images (C = 1) are not changed by Color. uint8 images are rounded after each operation,
    where torchvision rounds down after Brightness, Color, Contrast and Sharpness.

    Examples
    --------
    >>> RandAugment()(np.zeros((4, 3, 32, 32), np.uint8)).shape
    (4, 3, 32, 32)
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: str = "nearest",
        fill: float | Sequence[float] | None = None,
    ) -> None:
        self.num_ops = check_int("num_ops", num_ops, 0)
        self.magnitude = check_int("magnitude", magnitude, 0)
        self.num_magnitude_bins = _check_bins(num_magnitude_bins)
        super().__init__(interpolation, fill)
        if self.magnitude >= self.num_magnitude_bins:
            raise ArgumentError(
                f"magnitude={magnitude}: expected less than num_magnitude_bins={num_magnitude_bins}"
            )

    def _steps(
        self, size: Sequence[int], count: int, rng: Generator
    ) -> Iterator[tuple[np.ndarray, Ranges]]:
        largest = [150 / 331 * side for side in size]
        ranges = _ranges(self.num_magnitude_bins, 0.3, largest, 30, 0.9, (8, 4))
        for _ in range(self.num_ops):
            yield np.full(count, self.magnitude), ranges


class TrivialAugmentWide(_Chain):
    """Apply one random operation of random strength to each image.

    Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation",
    with the wide ranges: the strongest is a shear by 0.99, a shift by 32 pixels, a turn by 135°, a
    factor 1 ± 0.99, 2 bits. The operations are those of :class:`RandAugment`.

    Parameters
    ----------
    num_magnitude_bins : int, default 31
        Number of strengths.
    interpolation : str, default "nearest"
        "nearest" or "bilinear".
    fill : float or sequence of float, optional
        Value of pixels from outside the image, one or one per channel; by default 0.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    ShapeError, DTypeError
        When called with images that do not have 1 or 3 channels, or are neither uint8 nor floats.

    Examples
    --------
    >>> TrivialAugmentWide()(np.zeros((4, 1, 28, 28), np.float32)).shape
    (4, 1, 28, 28)
    """

    def __init__(
        self,
        num_magnitude_bins: int = 31,
        interpolation: str = "nearest",
        fill: float | Sequence[float] | None = None,
    ) -> None:
        self.num_magnitude_bins = _check_bins(num_magnitude_bins)
        super().__init__(interpolation, fill)

    def _steps(
        self, size: Sequence[int], count: int, rng: Generator
    ) -> Iterator[tuple[np.ndarray, Ranges]]:
        indices = rng.integers(self.num_magnitude_bins, size=count)
        yield indices, _ranges(self.num_magnitude_bins, 0.99, (32, 32), 135, 0.99, (8, 2))


class AugMix(_Policy):
    """Blend each image with several randomly augmented copies of it.

    Hendrycks et al. 2020, "AugMix: A Simple Data Processing Method to Improve Robustness and
    Uncertainty". Each of ``mixture_width`` copies goes through a chain of random operations. The
    copies are averaged with weights from Dirichlet(alpha, ..., alpha), and the average is blended
    with the image with a weight from Beta(alpha, alpha).

    Parameters
    ----------
    severity : int, default 3
        Largest strength, from 1 to 10. The strongest is a shear by 0.3, a shift by a third of the
        side, a turn by 30°, a factor 1 ± 0.9, 0 bits.
    mixture_width : int, default 3
        Number of copies.
    chain_depth : int, default -1
        Length of the chains; below 1, a random one from 1 to 3 for each.
    alpha : float, default 1
    all_ops : bool, default True
        Whether to use Brightness, Color, Contrast and Sharpness too, which the paper leaves out as
        they overlap with the corruptions of its test data. The other operations are those of
        :class:`RandAugment` but for Identity.
    interpolation : str, default "bilinear"
        "nearest" or "bilinear".
    fill : float or sequence of float, optional
        Value of pixels from outside the image, one or one per channel; by default 0.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    ShapeError, DTypeError
        When called with images that do not have 1 or 3 channels, or are neither uint8 nor floats.

    Notes
    -----
    The Jensen-Shannon loss of the paper is not part of it.

    Examples
    --------
    >>> AugMix()(np.zeros((4, 3, 32, 32), np.uint8)).shape
    (4, 3, 32, 32)
    """

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: str = "bilinear",
        fill: float | Sequence[float] | None = None,
    ) -> None:
        self.severity = check_int("severity", severity)
        if self.severity > _SEVERITIES:
            raise ArgumentError(f"severity={severity}: expected an int from 1 to {_SEVERITIES}")
        self.mixture_width = check_int("mixture_width", mixture_width)
        check_size("mixture_width", mixture_width, (self.mixture_width,), visited=True)
        self.chain_depth = check_int("chain_depth", chain_depth, -1)
        self.alpha = check_alpha(alpha)
        self.all_ops = check_flag("all_ops", all_ops)
        super().__init__(interpolation, fill)

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        rows = OPERATIONS.items()
        names = [n for n, row in rows if n != "Identity" and (self.all_ops or row.range != "blend")]
        xp, count, width = backend.xp, x.shape[3], self.mixture_width
        share = rng.beta(self.alpha, self.alpha, (count, 1))  # of the augmented copies
        weights = rng.dirichlet([self.alpha] * width, count) * share
        weights = np.concatenate([weights, 1 - share], axis=1).T.astype(x.dtype)
        largest = [side / 3 for side in x.shape[1:3]]
        ranges = _ranges(_SEVERITIES, 0.3, largest, 30, 0.9, (4, 0))
        depths = _of_copies(lambda n: rng.integers(1, 4, n), width * count, width)
        depths = np.full_like(depths, self.chain_depth) if self.chain_depth > 0 else depths
        copies = xp.concatenate([x] * width, axis=3)  # (C, H, W, width · N)
        for done in range(max(depths, default=0)):
            drawn = _of_copies(lambda n: rng.integers(self.severity, size=n), len(depths), width)
            indices = np.where(depths > done, drawn, -1)
            copies = self._step(backend, copies, highest, rng, indices, ranges, names, width)
        parts = [copies[..., i * count : (i + 1) * count] for i in range(width)]
        return sum(w * part for w, part in zip(backend.asarray(weights), [*parts, x], strict=True))


def _of_copies(draw: Callable[[int], np.ndarray], count: int, copies: int) -> np.ndarray:
    """Draw for ``count`` images, which are some copies of a batch: a batch after the other."""
    return np.concatenate([draw(count // copies) for _ in range(copies)])


def _draw(
    rng: Generator,
    indices: np.ndarray,
    ranges: Ranges,
    names: Sequence[str] = _ALL,
    copies: int = 1,
) -> list[tuple[Operation, np.ndarray, np.ndarray]]:
    """The operations of a step of :class:`_Policy`, for which images, and of which magnitudes."""
    numbers = _of_copies(lambda n: rng.integers(len(names), size=n), len(indices), copies)
    chosen, drawn = np.where(indices < 0, -1, numbers), []
    signs = _of_copies(lambda n: rng.choice((-1.0, 1.0), n), len(indices), copies)
    for number in np.unique(chosen[indices >= 0]):
        operation, images = OPERATIONS[names[number]], np.flatnonzero(chosen == number)
        magnitudes = ranges[operation.range][indices[images]]
        drawn.append((operation, images, magnitudes * (signs[images] if operation.signed else 1)))
    return drawn


def _check_bins(bins: Any) -> int:
    count = check_int("num_magnitude_bins", bins, 2)
    check_size("num_magnitude_bins", bins, (count,), visited=True)
    return count


def _ranges(
    bins: int, slope: float, shift: Sequence[float], angle: float, blend: float, bits: Ends
) -> Ranges:
    """``bins`` magnitudes by name, up to the given ones; ``shift`` down and across, in pixels."""
    strongest = {"": 0.0, "slope": slope, "y": shift[0], "x": shift[1], "angle": angle}
    ends = {name: (0.0, value) for name, value in {**strongest, "blend": blend}.items()}
    ends |= {"bits": bits, "threshold": (1, 0)}
    return {name: np.linspace(*pair, bins) for name, pair in ends.items()}
