"""Sampling images and volumes at given positions: spatial transformers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from ..arrays import Array
from ..backends import Backend
from ..checks import check_choice, check_flag, check_shape, check_size
from ..errors import ArgumentError, DTypeError, ShapeError, show
from ..layout import to_batch_last
from ..tensor import Function, Tensor, operation
from .linear import matmul
from .shape import permute, reshape

__all__ = ["affine_grid", "grid_sample"]

_MODES = ("bilinear", "nearest", "bicubic")
_PADDING_MODES = ("zeros", "border", "reflection")
_CUBIC = -0.75  # slope of the cubic kernel at distance 1


class _Tap(NamedTuple):
    """A pixel along an axis for each position, its weight and the weight's derivative."""

    pixel: Array
    weight: Any
    slope: Any


class GridSample(Function):
    """See :func:`grid_sample`. In memory, x is (C, ..., N) and a coordinate is (..., N)."""

    arguments = ("input", "grid")

    def __init__(self, mode: str, padding_mode: str, align_corners: bool) -> None:
        self.mode = mode
        self.padding_mode = padding_mode
        self.align_corners = align_corners

    def forward(self, backend: Backend, x: Array, grid: Array) -> Array:
        self.save(x=x, grid=grid)
        xp, y = backend.xp, None
        pixels = self._pixels(xp, x)
        for places, taps in self._corners(xp, grid, x.shape):
            term = xp.take(pixels, places, axis=1) * math.prod(tap.weight for tap in taps)
            y = term if y is None else y + term
        return xp.moveaxis(y, -1, 0)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        xp, x, grid = backend.xp, self.saved.x, self.saved.grid
        dy, pixels = to_batch_last(xp, dy), self._pixels(xp, x)
        dx, dgrid = None, xp.zeros(grid.shape, grid.dtype)
        for places, taps in self._corners(xp, grid, x.shape):
            weights = [tap.weight for tap in taps]
            if self.needs_grad[0]:
                rows = (dy * math.prod(weights)).reshape(len(dy), -1).T
                sums = backend.sum_rows(rows, places.reshape(-1), pixels.shape[1])
                dx = sums if dx is None else dx + sums
            if self.needs_grad[1] and self.mode != "nearest":
                along = (dy * xp.take(pixels, places, axis=1)).sum(axis=0)
                for axis, tap in enumerate(taps):
                    others = math.prod(weights[:axis] + weights[axis + 1 :])
                    part = along * tap.slope * others
                    dgrid[..., -1 - axis] += xp.moveaxis(part, -1, 0)
        if dx is not None:
            images = dx[:-1].T.reshape(len(dy), *x.shape[2:], len(x))
            dx = xp.moveaxis(images, -1, 0)
        return dx, dgrid

    @staticmethod
    def _pixels(xp: Any, x: Array) -> Array:
        """x as (C, places), with one more place, of zeros, for positions outside."""
        flat = to_batch_last(xp, x).reshape(x.shape[1], x.size // max(1, x.shape[1]))
        return xp.concatenate([flat, xp.zeros((len(flat), 1), x.dtype)], axis=1)

    def _corners(
        self, xp: Any, grid: Array, shape: Sequence[int]
    ) -> Iterator[tuple[Array, tuple[_Tap, ...]]]:
        """Yield the places of each pixel around the positions, and its taps along the axes."""
        batch, _, *sizes = shape
        coordinates = [to_batch_last(xp, grid[..., -1 - axis]) for axis in range(len(sizes))]
        outside = math.prod(sizes) * batch
        axes = zip(coordinates, sizes, strict=True)
        for taps in product(*(list(self._taps(xp, g, size)) for g, size in axes)):
            places, inside = 0, True
            for tap, size in zip(taps, sizes, strict=True):
                is_inside = (tap.pixel >= 0) & (tap.pixel <= size - 1)
                places = places * size + xp.where(is_inside, tap.pixel, 0).astype("int64")
                inside = inside & is_inside
            yield xp.where(inside, places * batch + xp.arange(batch), outside), taps

    def _taps(self, xp: Any, g: Array, size: int) -> Iterator[_Tap]:
        """The pixels that the positions ``g``, from -1 to 1, read along an axis."""
        scale = (size - 1) / 2 if self.align_corners else size / 2
        position, slope = g * scale + (size - 1) / 2, scale
        if self.mode != "bicubic":
            position, sign = self._padded(xp, position, size)
            slope = sign * scale
        if self.mode == "nearest":
            yield _Tap(xp.rint(position), 1.0, 0.0)
            return
        before = xp.floor(position)
        t = position - before
        if self.mode == "bilinear":
            yield _Tap(before, 1 - t, -slope)
            yield _Tap(before + 1, t, slope)
            return
        for i, sign in (-1, 1), (0, 1), (1, -1), (2, -1):
            weight, derivative = _cubic(sign * (t - i), i in (0, 1))
            pixel, _ = self._padded(xp, before + i, size)
            yield _Tap(pixel, weight, sign * slope * derivative)

    def _padded(self, xp: Any, position: Array, size: int) -> tuple[Array, Any]:
        """Move positions outside the image as ``padding_mode`` says; also the derivative."""
        sign = 1.0
        if self.padding_mode == "reflection":
            low = 0.0 if self.align_corners else -0.5  # the mirrors are pixels or borders of them
            span = size - 1 - 2 * low
            distance = xp.absolute(position - low)
            turns = xp.floor(distance / span) if span else 0 * distance
            rest, is_odd = distance - turns * span, turns % 2 == 1
            sign = xp.where((position < low) ^ is_odd, -1, 1).astype(position.dtype)
            position = xp.where(is_odd, span - rest, rest) + low
        if self.padding_mode != "zeros":
            is_between = (position > 0) & (position < size - 1)
            return xp.clip(position, 0, size - 1), sign * is_between.astype(position.dtype)
        return position, sign


def _cubic(distance: Array, is_near: bool) -> tuple[Array, Array]:
    """Keys' kernel and its derivative, at distances up to 1 if ``is_near``, else from 1 to 2."""
    d, a = distance, _CUBIC
    if is_near:
        return ((a + 2) * d - (a + 3)) * d * d + 1, (3 * (a + 2) * d - 2 * (a + 3)) * d
    return a * (((d - 5) * d + 8) * d - 4), a * ((3 * d - 10) * d + 8)


@operation
def grid_sample(
    input: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Sample images or volumes at the positions of a grid.

    ``y[n, :, i, j]`` is the pixel of ``input[n]`` at ``grid[n, i, j] = (x, y)``, interpolated. The
    gradients go to both. Source: Jaderberg et al. 2015, "Spatial transformer networks".

    Parameters
    ----------
    input : (N, C, H, W) or (N, C, D, H, W)
    grid : (N, oH, oW, 2) or (N, oD, oH, oW, 3)
        Positions (x, y) or (x, y, z), from -1 (left, top, front) to 1 (right, bottom, back).
    mode
        ``"bilinear"`` (trilinear for volumes), ``"nearest"``, or ``"bicubic"`` for images, by the
        kernel of Keys 1981 with a = -3/4.
    padding_mode
        What is outside the image: ``"zeros"``; ``"border"``, the outermost pixels; or
        ``"reflection"``, the image mirrored at its border.
    align_corners
        Whether -1 and 1 are the centres of the outermost pixels rather than their borders; None is
        False.

    Returns
    -------
    Tensor
        (N, C, oH, oW) or (N, C, oD, oH, oW)

    Raises
    ------
    ShapeError
        Other axes, batches that differ, or an image without pixels.
    ArgumentError
        An unknown mode, or bicubic for volumes.
    """
    input, grid = Tensor.of(input), Tensor.of(grid)
    check_choice("mode", mode, _MODES)
    check_choice("padding_mode", padding_mode, _PADDING_MODES)
    axes = input.ndim - 2
    fits = axes in (2, 3) and grid.ndim == input.ndim and grid.shape[-1] == axes
    if not fits or len(grid) != len(input) or not math.prod(input.shape[2:]):
        raise ShapeError(
            f"grid_sample: input {input.shape}, grid {grid.shape}: expected (N, C, H, W) and "
            "(N, oH, oW, 2), or (N, C, D, H, W) and (N, oD, oH, oW, 3), with at least one pixel"
        )
    if mode == "bicubic" and axes == 3:
        raise ArgumentError("mode='bicubic': volumes take bilinear or nearest")
    corners = align_corners is not None and check_flag("align_corners", align_corners)
    return GridSample(mode, padding_mode, corners)(input, grid)


@operation
def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The positions of an affinely transformed grid, for :func:`grid_sample`.

    ``grid[n, i, j] = theta[n] @ (x, y, 1)``, with (x, y) the position of pixel (i, j), from -1 to
    1.

    Parameters
    ----------
    theta : (N, 2, 3) or (N, 3, 4)
    size
        Shape of the images to be sampled: (N, C, H, W) or (N, C, D, H, W).
    align_corners
        As in :func:`grid_sample`, which must get the same.

    Returns
    -------
    Tensor
        (N, H, W, 2) or (N, D, H, W, 3)

    Raises
    ------
    ShapeError
        ``theta`` and ``size`` do not fit together.
    ArgumentError
        ``size`` is not a shape, or ``align_corners`` is not a bool.
    DTypeError
        ``theta`` does not hold floats.
    """
    theta, shape = Tensor.of(theta), check_shape("size", size, 0)
    sizes, axes = shape[2:], len(shape) - 2
    corners = align_corners is not None and check_flag("align_corners", align_corners)
    if axes not in (2, 3) or theta.shape != (shape[0], axes, axes + 1):
        raise ShapeError(
            f"theta has shape {theta.shape}, size={show(size)}: expected (N, 2, 3) and "
            "(N, C, H, W), or (N, 3, 4) and (N, C, D, H, W)"
        )
    if theta.dtype.kind != "f":
        raise DTypeError(f"theta is {theta.dtype}: expected floats")
    check_size("size", size, shape)
    xp = theta.backend.xp
    with theta.backend.active():
        points = xp.ones((*sizes, axes + 1), theta.dtype)
        for k, n in enumerate(reversed(sizes)):
            reach = 0.0 if n == 1 else 1.0 if corners else (n - 1) / n
            line = xp.linspace(-reach, reach, n, dtype=theta.dtype)
            points[..., k] = line.reshape(-1, *(1,) * k)
    grid = matmul(points.reshape(-1, axes + 1), permute(theta, (0, 2, 1)))
    return reshape(grid, (shape[0], *sizes, axes))
