"""Padding layers: one class for each mode and number of padded axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .. import functional as F
from ..checks import are_ints, check_number, is_int
from ..errors import ArgumentError, ShapeError, show
from ..tensor import Tensor
from .module import Module

# fmt: off
__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d",
    "ConstantPad3d", "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d",
    "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d",
    "ZeroPad3d",
]
# fmt: on


class _Pad(Module):
    """Pads the last ``axes`` axes in ``mode``, as :func:`xcnn.functional.pad`.

    Parameters
    ----------
    padding
        An int for all sides, or (left, right, top, bottom, front, back), the last axis first.

    Raises
    ------
    ArgumentError
        Not an int, nor two for each axis.
    """

    mode: ClassVar[str] = "constant"
    axes: ClassVar[int]
    value: float = 0.0

    def __init_subclass__(cls, mode: str = "", axes: int = 0) -> None:
        super().__init_subclass__()
        cls.mode, cls.axes = mode or cls.mode, axes or getattr(cls, "axes", 0)

    def __init__(self, padding: int | Sequence[int]) -> None:
        count = 2 * self.axes
        widths: Any = (padding,) * count if is_int(padding) else padding
        if not are_ints(widths, count):
            raise ArgumentError(f"padding={show(padding)}: expected an int or {count} of them")
        self.padding = tuple(map(int, widths))

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if not self.axes < x.ndim < self.axes + 3:
            raise ShapeError(
                f"input has shape {x.shape}: expected {self.axes} spatial axes after (N, C) or (C,)"
            )
        return F.pad(x, self.padding, self.mode, self.value)


class _ConstantPad(_Pad):
    """Pads with a constant; see :class:`ConstantPad2d`."""

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = check_number("value", value)


class ConstantPad1d(_ConstantPad, axes=1):
    """Pad signals (N, C, L) or (C, L) with ``value``; see :func:`xcnn.functional.pad`."""


class ConstantPad2d(_ConstantPad, axes=2):
    """Pad images (N, C, H, W) or (C, H, W) with ``value``; see :func:`xcnn.functional.pad`."""


class ConstantPad3d(_ConstantPad, axes=3):
    """Pad volumes (N, C, D, H, W) or (C, D, H, W) with ``value``."""


class ZeroPad1d(_Pad, axes=1):
    """Pad signals (N, C, L) or (C, L) with zeros; see :func:`xcnn.functional.pad`."""


class ZeroPad2d(_Pad, axes=2):
    """Pad images (N, C, H, W) or (C, H, W) with zeros; see :func:`xcnn.functional.pad`."""


class ZeroPad3d(_Pad, axes=3):
    """Pad volumes (N, C, D, H, W) or (C, D, H, W) with zeros."""


class ReflectionPad1d(_Pad, mode="reflect", axes=1):
    """Pad signals (N, C, L) or (C, L) by mirroring at the outermost element."""


class ReflectionPad2d(_Pad, mode="reflect", axes=2):
    """Pad images (N, C, H, W) or (C, H, W) by mirroring at the outermost pixels."""


class ReflectionPad3d(_Pad, mode="reflect", axes=3):
    """Pad volumes (N, C, D, H, W) or (C, D, H, W) by mirroring at the outermost voxels."""


class ReplicationPad1d(_Pad, mode="replicate", axes=1):
    """Pad signals (N, C, L) or (C, L) with copies of the outermost element."""


class ReplicationPad2d(_Pad, mode="replicate", axes=2):
    """Pad images (N, C, H, W) or (C, H, W) with copies of the outermost pixels."""


class ReplicationPad3d(_Pad, mode="replicate", axes=3):
    """Pad volumes (N, C, D, H, W) or (C, D, H, W) with copies of the outermost voxels."""


class CircularPad1d(_Pad, mode="circular", axes=1):
    """Pad signals (N, C, L) or (C, L) by wrapping around to the other end."""


class CircularPad2d(_Pad, mode="circular", axes=2):
    """Pad images (N, C, H, W) or (C, H, W) by wrapping around to the other side."""


class CircularPad3d(_Pad, mode="circular", axes=3):
    """Pad volumes (N, C, D, H, W) or (C, D, H, W) by wrapping around to the other side."""
