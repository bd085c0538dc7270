"""What the attributes of convolution and pooling say: one Geometry for each spatial axis.

Each is that of an image which is one pixel wide and as high as the axis is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....checks import Pair
from ....geometry import Geometry, transposed, windows
from ....tensor import Tensor
from ..node import Node

_NONE: Pair = (0, 0)


def spatial(node: Node, x: Tensor) -> tuple[int, ...]:
    """The lengths of the one to three spatial axes of (N, C, ...)."""
    if not 3 <= x.ndim <= 5:
        raise node.error(
            f"the input has shape {x.shape}: expected N, C and one to three spatial axes"
        )
    return x.shape[2:]


def setting(node: Node, name: str, count: int, default: int, minimum: int) -> list[int]:
    """An attribute with one number per axis."""
    found = node.integers(name)
    if found is None:
        return [default] * count
    if len(found) != count or min(found) < minimum:
        raise node.error(f"{name}={found}: expected {count} numbers, each at least {minimum}")
    return found


def auto_pad(node: Node) -> str:
    """NOTSET, VALID, SAME_UPPER or SAME_LOWER."""
    found = node.text("auto_pad") or "NOTSET"
    if found not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.error(f"auto_pad={found!r}: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    return found


def pads(node: Node, count: int) -> list[Pair]:
    """(before, after) along each axis."""
    found = setting(node, "pads", 2 * count, 0, 0)
    if auto_pad(node) != "NOTSET" and any(found):
        raise node.error(
            f"pads={found} with auto_pad={auto_pad(node)!r}: expected only one of them"
        )
    return list(zip(found[:count], found[count:], strict=True))


def split(total: int, automatic: str) -> Pair:
    """``total`` pixels of padding as (before, after): an odd one is after with SAME_UPPER."""
    less, more = total // 2, total - total // 2
    return (less, more) if automatic == "SAME_UPPER" else (more, less)


def axes(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], ceil_mode: bool = False
) -> list[Geometry]:
    """The windows along each axis.

    Raises
    ------
    FileFormatError, ShapeError, ArgumentError
        The attributes do not fit the axes, or no window fits into the input.
    """
    count, automatic = len(sizes), auto_pad(node)
    strides = setting(node, "strides", count, 1, 1)
    dilations = setting(node, "dilations", count, 1, 1)
    ceil_mode = ceil_mode and automatic == "NOTSET"  # which the formulas of the others leave out
    found = []
    for n, k, s, d, sides in zip(sizes, kernel, strides, dilations, pads(node, count), strict=True):
        shape = (n, 1), (k, 1), (s, 1)
        if automatic.startswith("SAME"):
            same = windows(*shape, "same", (d, 1)).padding[0]
            sides = split(sum(same), automatic)
        found.append(windows(*shape, (sides, _NONE), (d, 1), ceil_mode, "kernel_shape"))
    return found


def transposed_axes(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[Geometry]:
    """The windows, along each axis, of the convolution that ConvTranspose turns round."""
    count = len(sizes)
    strides = setting(node, "strides", count, 1, 1)
    dilations = setting(node, "dilations", count, 1, 1)
    extra = setting(node, "output_padding", count, 0, 0)
    wanted = _wanted(node, sizes, strides)
    found = []
    for i, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        sides, more = pads(node, count)[i], extra[i]
        if wanted is not None:
            total = (n - 1) * s + d * (k - 1) + 1 + more - wanted[i]
            # a larger output than there are pixels for: the bias alone follows at the end
            sides, more = split(max(0, total), auto_pad(node)), more + max(0, -total)
        found.append(transposed((n, 1), (k, 1), (s, 1), (sides, _NONE), (more, 0), (d, 1)))
    return found


def _wanted(node: Node, sizes: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """The output's lengths if they, and not the pads, are given."""
    count, given = len(sizes), node.integers("output_shape")
    if given:
        if len(given) != count or min(given) < 1:
            raise node.error(f"output_shape={given}: expected {count} numbers, each at least 1")
        return given
    if auto_pad(node).startswith("SAME"):
        return [n * s for n, s in zip(sizes, strides, strict=True)]
    return None


def image(rows: Geometry, columns: Geometry) -> Geometry:
    """Two axes as those of an image."""

    def both(name: str) -> Any:
        return getattr(rows, name)[0], getattr(columns, name)[0]

    names = ("input", "output", "kernel", "stride", "padding", "dilation")
    return Geometry(**{name: both(name) for name in names})


def is_plain(axis: Geometry) -> bool:
    """Whether each window is one pixel, and each pixel one window."""
    return axis.covers_exactly and axis.kernel[0] == 1
