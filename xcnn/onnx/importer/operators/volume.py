"""Between volumes (N, C, D, H, W) and the batches of images that 2-D operations work on."""

from __future__ import annotations

from ....arrays import Array
from ....backends import Backend
from ....geometry import Geometry, windows
from ....tensor import Function

_TO_BATCH_LAST, _FROM_BATCH_LAST = (1, 2, 3, 4, 0), (4, 0, 1, 2, 3)


class Unfold(Function):
    """Windows along the depth as batches of images: (N, C, D, H, W) to (oD·N, C·kD, H, W).

    Channel ``c * kD + k`` of image ``o * N + n`` is slice ``o * stride + k * dilation - begin`` of
    channel ``c`` of volume ``n``, or zeros beside it, so that a 2-D convolution of these images,
    whose channels are each kD of the volume's, is a 3-D convolution.

    Parameters
    ----------
    depth
        The windows: those of an image one pixel wide.
    """

    arguments = ("input",)

    def __init__(self, depth: Geometry) -> None:
        self.depth = depth

    def forward(self, backend: Backend, x: Array) -> Array:
        return unfold(backend, x, self.depth)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return fold(backend, dy, self.depth)


class Fold(Function):
    """The transpose of :class:`Unfold`: (oD·N, C·kD, H, W) to (N, C, D, H, W).

    Each slice of a volume is the sum of the images that Unfold would copy it to.
    """

    arguments = ("input",)

    def __init__(self, depth: Geometry) -> None:
        self.depth = depth

    def forward(self, backend: Backend, x: Array) -> Array:
        return fold(backend, x, self.depth)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return unfold(backend, dy, self.depth)


def slices(depth: int) -> Geometry:
    """The windows of one slice each."""
    return windows((depth, 1), 1)


def unfold(backend: Backend, x: Array, depth: Geometry) -> Array:
    """See :class:`Unfold`."""
    xp, x = backend.xp, x.transpose(_TO_BATCH_LAST)
    channels, _, height, width, batch = x.shape
    (taps, _), (count, _) = depth.kernel, depth.output
    y = xp.empty((channels, taps, height, width, count, batch), x.dtype)

    def compute(part: slice) -> None:
        for k in range(taps):
            rows, pixels = depth.span(0, k)
            y[part, k, :, :, : rows.start] = 0
            y[part, k, :, :, rows.stop :] = 0
            y[part, k, :, :, rows] = x[part, pixels].transpose(0, 2, 3, 1, 4)

    backend.each(compute, backend.channels(y))
    return y.reshape(channels * taps, height, width, count * batch).transpose(3, 0, 1, 2)


def fold(backend: Backend, y: Array, depth: Geometry) -> Array:
    """See :class:`Fold`."""
    xp, (taps, _), (count, _) = backend.xp, depth.kernel, depth.output
    channels, batch = y.shape[1] // taps, len(y) // count
    height, width = y.shape[2:]
    y = xp.ascontiguousarray(y.transpose(1, 2, 3, 0))
    y = y.reshape(channels, taps, height, width, count, batch)
    once = depth.covers_exactly  # each slice is one image: there is nothing to add up
    make = xp.empty if once else xp.zeros
    x = make((channels, depth.input[0], height, width, batch), y.dtype)

    def compute(part: slice) -> None:
        for k in range(taps):
            rows, pixels = depth.span(0, k)
            into, images = x[part, pixels], y[part, k, :, :, rows].transpose(0, 3, 1, 2, 4)
            if once:
                into[...] = images
            else:
                into += images

    backend.each(compute, backend.channels(x))
    return x.transpose(_FROM_BATCH_LAST)
