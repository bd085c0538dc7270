"""3-D convolution by 2-D operations: volumes (N, C, D, H, W) as batches of images."""

from __future__ import annotations

from ....arrays import Array
from ....backends import Backend
from ....geometry import Geometry, windows
from ....tensor import Function

_TO_BATCH_LAST, _FROM_BATCH_LAST = (1, 2, 3, 4, 0), (4, 0, 1, 2, 3)


class Unfold(Function):
    """Windows along the depth as batches of images: (N, C, D, H, W) to (oD·N, C·kD, H, W).

    Channel ``c * kD + k`` of image ``o * N + n`` is slice ``o * stride + k * dilation - begin`` of
    channel ``c`` of volume ``n``, or zeros in the padding: a 2-D convolution of these images with
    kernels of C·kD channels is a 3-D convolution.

    Parameters
    ----------
    depth
        The windows, as those of an image one pixel wide.
    """

    arguments = ("input",)

    def __init__(self, depth: Geometry) -> None:
        self.depth = depth

    def forward(self, backend: Backend, x: Array) -> Array:
        x = x.transpose(_TO_BATCH_LAST)
        channels, _, height, width, batch = x.shape
        taps, count = self.depth.kernel[0], self.depth.output[0]
        y = backend.xp.empty((channels, taps, height, width, count, batch), x.dtype)

        def compute(part: slice) -> None:
            for k in range(taps):
                inside, pixels = self.depth.span(0, k)
                y[part, k, :, :, : inside.start] = 0
                y[part, k, :, :, inside.stop :] = 0
                y[part, k, :, :, inside] = x[part, pixels].transpose(0, 2, 3, 1, 4)

        backend.each(compute, backend.channels(y))
        return y.reshape(channels * taps, height, width, count * batch).transpose(3, 0, 1, 2)

    def backward(self, backend: Backend, dy: Array) -> Array:
        xp, depth = backend.xp, self.depth
        taps, count = depth.kernel[0], depth.output[0]
        channels, batch, (height, width) = dy.shape[1] // taps, len(dy) // count, dy.shape[2:]
        dy = xp.ascontiguousarray(dy.transpose(1, 2, 3, 0))
        dy = dy.reshape(channels, taps, height, width, count, batch)
        # if the windows tile the depth, each slice is written once
        make = xp.empty if depth.covers_exactly else xp.zeros
        dx = make((channels, depth.input[0], height, width, batch), dy.dtype)

        def compute(part: slice) -> None:
            for k in range(taps):
                inside, pixels = depth.span(0, k)
                images = dy[part, k, :, :, inside].transpose(0, 3, 1, 2, 4)
                if depth.covers_exactly:
                    dx[part, pixels] = images
                else:
                    dx[part, pixels] += images

        backend.each(compute, backend.channels(dx))
        return dx.transpose(_FROM_BATCH_LAST)


class Fold(Unfold):
    """The transpose of :class:`Unfold`: (oD·N, C·kD, H, W) to (N, C, D, H, W).

    Each slice of a volume is the sum of the images that Unfold copies it to.
    """

    def forward(self, backend: Backend, x: Array) -> Array:
        return super().backward(backend, x)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return super().forward(backend, dy)


def slices(depth: int) -> Geometry:
    """Windows of one slice each."""
    return windows((depth, 1), 1)
