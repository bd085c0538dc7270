"""Convolution of volumes as the convolution of their frames.

Frame o of the output reads the frames o·stride + k·dilation - front of the input, k = 0 ... kD - 1.
Gathered as channels, (C·kD, H, W, oD·N), they make one 2-D convolution with the weight
(F, C·kD, kH, kW), by the fastest method for it. They are kD times as large as the input, so they
are gathered for a few output frames at a time and again in backward, not saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..geometry import Geometry
from . import method
from .method import Method, Problem

_BUDGET = 24 * 2**20  # bytes of gathered frames, or column_budget if that is more


@lru_cache(maxsize=1024)
def choose(problem: Problem, candidates: tuple[str, ...], setting: str = "auto") -> Method:
    """:func:`xcnn.convolution.method.choose`; for volumes, the method for their frames."""
    if problem.depth is None:
        return method.choose(problem, candidates, setting)
    images = _of_frames(problem, problem.depth, problem.depth.output[0])
    return Frames(method.choose(images, candidates, setting), problem.depth)


class Frames(Method):
    """Applies ``method`` to frames; arrays are x (C, H, W, D, N) and y (F, oH, oW, oD, N)."""

    def __init__(self, method: Method, depth: Geometry) -> None:
        self.method = method
        self.depth = depth

    def applies(self, problem: Problem) -> bool:
        return problem.depth is not None

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        y, matrix = None, _as_images(weight)
        for part, images in self._parts(backend, problem):
            frames = self._gathered(backend, x, part)
            piece = self.method.forward(backend, images, frames, matrix, bias)
            if images.batch == problem.output_shape[3] * problem.batch:
                return piece.reshape(problem.output_shape)
            y = backend.xp.empty(problem.output_shape, x.dtype) if y is None else y
            y[:, :, :, part] = piece.reshape(y[:, :, :, part].shape)
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        dx, matrix = backend.xp.zeros(problem.input_shape, dy.dtype), _as_images(weight)
        for part, images in self._parts(backend, problem):
            piece = _frames_of(backend, dy, part)
            frames = self.method.input_gradient(backend, images, piece, matrix)
            self._scatter(backend, frames, part, dx)
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        dweight = backend.xp.zeros(problem.weight_shape, sum_dtype(x.dtype))
        for part, images in self._parts(backend, problem):
            arrays = _frames_of(backend, dy, part), self._gathered(backend, x, part)
            dweight += self.method.weight_gradient(backend, images, *arrays).reshape(dweight.shape)
        return dweight

    def _parts(self, backend: Backend, problem: Problem) -> Iterator[tuple[slice, Problem]]:
        """Yield slices of the output frames, and the 2-D convolution that computes them."""
        count = self.depth.output[0]
        images = _of_frames(problem, self.depth, 1)
        size = 4 * images.in_channels * images.geometry.input[0] * images.geometry.input[1]
        budget = max(_BUDGET, backend.column_budget)
        limit = max(1, budget // max(1, size * problem.batch))
        step = -(-count // -(-count // limit))
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            yield part, _of_frames(problem, self.depth, part.stop - part.start)

    def _gathered(self, backend: Backend, x: Array, part: slice) -> Array:
        """The frames that the output frames ``part`` read: (C·kD, H, W, frames·N)."""
        if self._is_identity():
            return _frames_of(backend, x, part)
        (channels, height, width, _, batch), taps = x.shape, self.depth.kernel[0]
        count = part.stop - part.start
        frames = backend.xp.empty((channels, taps, height, width, count, batch), x.dtype)

        def compute(some: slice) -> None:
            for k, (windows, read) in enumerate(self.depth.spans(0, part.start, part.stop)):
                frames[some, k, :, :, : windows.start] = 0
                frames[some, k, :, :, windows.stop :] = 0
                frames[some, k, :, :, windows] = x[some, :, :, read]

        backend.each(compute, backend.channels(frames))
        return frames.reshape(channels * taps, height, width, count * batch)

    def _scatter(self, backend: Backend, frames: Array, part: slice, dx: Array) -> None:
        """Add the gradients of gathered frames to dx: the adjoint of :meth:`_gathered`."""
        (channels, height, width, _, batch), taps = dx.shape, self.depth.kernel[0]
        frames = frames.reshape(channels, taps, height, width, part.stop - part.start, batch)

        def compute(some: slice) -> None:
            for k, (windows, read) in enumerate(self.depth.spans(0, part.start, part.stop)):
                dx[some, :, :, read] += frames[some, k, :, :, windows]

        backend.each(compute, backend.channels(dx))

    def _is_identity(self) -> bool:
        return self.depth.covers_exactly and self.depth.kernel[0] == 1


def _of_frames(problem: Problem, depth: Geometry, count: int) -> Problem:
    """The 2-D convolution that computes ``count`` output frames."""
    channels = problem.in_channels * depth.kernel[0]
    return problem._replace(in_channels=channels, batch=count * problem.batch, depth=None)


def _as_images(weight: Array) -> Array:
    """A weight (F, C / groups, kD, kH, kW) as (F, C / groups·kD, kH, kW)."""
    filters, _, _, *kernel = weight.shape
    return weight.reshape(filters, weight.shape[1] * weight.shape[2], *kernel)


def _frames_of(backend: Backend, x: Array, part: slice) -> Array:
    """Frames ``part`` of (C, H, W, D, N) as images (C, H, W, frames·N)."""
    frames = backend.xp.ascontiguousarray(x[:, :, :, part])
    return frames.reshape(*frames.shape[:3], frames.shape[3] * frames.shape[4])
