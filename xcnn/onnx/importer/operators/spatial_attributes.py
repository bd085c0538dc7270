"""The attributes of convolution and pooling, as a Geometry for each spatial axis.

The Geometry of an axis describes an image one pixel wide with the axis as its height.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....checks import Pair
from ....geometry import Geometry, transposed_geometry, window_geometry
from ....tensor import Tensor
from ..node import Node

_AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "")


def spatial_sizes(node: Node, x: Tensor) -> tuple[int, ...]:
    """The one to three spatial lengths of (N, C, ...)."""
    if not 3 <= x.ndim <= 5:
        raise node.error(f"input {x.shape}: expected N, C and one to three spatial axes")
    return x.shape[2:]


def per_axis(node: Node, name: str, count: int, default: int = 1, minimum: int = 1) -> list[int]:
    """An attribute with one number per axis, ``count`` in all."""
    values = node.integers(name, [default] * count)
    if len(values) != count or min(values) < minimum:
        raise node.error(f"{name}={values}: expected {count} numbers, each at least {minimum}")
    return values


def _padding(node: Node, count: int) -> tuple[list[Pair], str]:
    """(begin, end) of each axis, and ``auto_pad``."""
    pads = per_axis(node, "pads", 2 * count, 0, 0)
    auto_pad = node.text("auto_pad", "NOTSET", _AUTO_PADS) or "NOTSET"
    if auto_pad != "NOTSET" and any(pads):
        raise node.error(f"pads={pads} with auto_pad={auto_pad!r}: expected only one of them")
    return list(zip(pads[:count], pads[count:], strict=True)), auto_pad


def _split(total: int, auto_pad: str) -> Pair:
    """Split ``total`` into (begin, end); an odd pixel goes to the end for SAME_UPPER only."""
    half = total // 2
    return (half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half)


def window_axes(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], ceil_mode: bool = False
) -> list[Geometry]:
    """The windows along each axis.

    Raises
    ------
    FileFormatError, ShapeError, ArgumentError
        The attributes do not fit the axes, or no window fits into the input.
    """
    count = len(sizes)
    strides, dilations = per_axis(node, "strides", count), per_axis(node, "dilations", count)
    padding, auto_pad = _padding(node, count)
    ceil_mode = ceil_mode and auto_pad == "NOTSET"  # the other modes ignore it
    axes = []
    for n, k, s, d, sides in zip(sizes, kernel, strides, dilations, padding, strict=True):
        shape = (n, 1), (k, 1), (s, 1)
        if auto_pad.startswith("SAME"):
            sides = _split(sum(window_geometry(*shape, "same", (d, 1)).padding[0]), auto_pad)
        axes.append(window_geometry(*shape, (sides, (0, 0)), (d, 1), ceil_mode, "kernel_shape"))
    return axes


def transposed_axes(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[Geometry]:
    """The windows along each axis of the convolution that ConvTranspose transposes."""
    count = len(sizes)
    strides, dilations = per_axis(node, "strides", count), per_axis(node, "dilations", count)
    extra = per_axis(node, "output_padding", count, 0, 0)
    padding, auto_pad = _padding(node, count)
    output = None
    if node.integers("output_shape"):
        output = per_axis(node, "output_shape", count)
    elif auto_pad.startswith("SAME"):
        output = [n * s for n, s in zip(sizes, strides, strict=True)]
    axes = []
    for i, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        if output is not None:
            total = (n - 1) * s + d * (k - 1) + 1 + extra[i] - output[i]
            # output pixels that no window reaches are appended
            padding[i], extra[i] = _split(max(0, total), auto_pad), extra[i] + max(0, -total)
        sides = padding[i], (0, 0)
        axes.append(transposed_geometry((n, 1), (k, 1), (s, 1), sides, (extra[i], 0), (d, 1)))
    return axes


def as_image(rows: Geometry, columns: Geometry) -> Geometry:
    """The Geometry of an image from those of its two axes."""
    names = ("input", "output", "kernel", "stride", "padding", "dilation")
    return Geometry(**{n: (getattr(rows, n)[0], getattr(columns, n)[0]) for n in names})
