"""Argument checks shared by several layers.

Each returns the value in its final form, or raises an error that names the argument, what came and
what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from .errors import ArgumentError, ShapeError

Pair = tuple[int, int]


Padding = int | Sequence[int] | Sequence[Sequence[int]] | str


def pair(value: Any, name: str, minimum: int = 1) -> Pair:
    """``value`` as (height, width): an int stands for both.

    Raises
    ------
    ArgumentError
        Not an int or two ints, or below ``minimum``.
    """
    both = (value, value) if is_int(value) else value
    if not _are_ints(both, 2) or min(both) < minimum:
        raise ArgumentError(
            f"{name}={value!r}: expected an int >= {minimum} or a pair of them (height, width)"
        )
    return int(both[0]), int(both[1])


def check_padding(padding: Padding) -> str | tuple[Pair, Pair]:
    """``padding`` as ``"same"`` or as ((top, bottom), (left, right)).

    Takes an int, (pH, pW), ((top, bottom), (left, right)), ``"valid"`` or ``"same"``.
    """
    sides: Any = padding
    if isinstance(sides, str) and sides in ("same", "valid"):  # an array would compare elements
        return "same" if sides == "same" else ((0, 0), (0, 0))
    if is_int(sides):
        sides = (sides, sides)
    if _are_ints(sides, 2):
        sides = ((sides[0], sides[0]), (sides[1], sides[1]))
    if isinstance(sides, list | tuple) and len(sides) == 2:
        (height, width) = sides
        if all(_are_ints(p, 2) and min(p) >= 0 for p in sides):
            return (int(height[0]), int(height[1])), (int(width[0]), int(width[1]))
    raise ArgumentError(
        f"padding={padding!r}: expected an int >= 0, (pH, pW), ((top, bottom), (left, right)), "
        '"valid" or "same"'
    )


def check_crop(padding: Padding) -> tuple[Pair, Pair]:
    """The padding of a transposed convolution, ((top, bottom), (left, right)) of its output.

    Raises
    ------
    ArgumentError
        ``"same"``, or what :func:`check_padding` refuses.
    """
    sides = check_padding(padding)
    if isinstance(sides, str):
        raise ArgumentError(
            f"padding={padding!r}: a transposed convolution has no such padding, several output "
            "sizes would fit; give numbers of pixels, and output_padding"
        )
    return sides


def check_output_padding(value: Any, stride: Pair, dilation: Pair) -> Pair:
    """``value`` as (height, width), along each axis less than the stride or the dilation.

    Raises
    ------
    ArgumentError
        Anything else.
    """
    more = pair(value, "output_padding", 0)
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise ArgumentError(
            f"output_padding={value!r}: expected less than the stride {stride} or the dilation "
            f"{dilation} along each axis"
        )
    return more


def single(value: Any, name: str, minimum: int = 1) -> int:
    """A setting of a 1-D operation: an int, alone or in a sequence of one.

    Raises
    ------
    ArgumentError
        Anything else, or below ``minimum``.
    """
    found = value[0] if _are_ints(value, 1) else value
    if not is_int(found) or found < minimum:
        raise ArgumentError(f"{name}={value!r}: expected an int >= {minimum}")
    return int(found)


def check_padding1d(padding: Any) -> str | Pair:
    """The padding of a 1-D operation as ``"same"`` or as (left, right).

    Takes an int, (left, right), either of them in a sequence of one, ``"valid"`` or ``"same"``.
    """
    sides = padding
    if isinstance(sides, str) and sides in ("same", "valid"):
        return "same" if sides == "same" else (0, 0)
    if isinstance(sides, list | tuple) and len(sides) == 1:
        (sides,) = sides
    if is_int(sides):
        sides = (sides, sides)
    if _are_ints(sides, 2) and min(sides) >= 0:
        return int(sides[0]), int(sides[1])
    raise ArgumentError(
        f'padding={padding!r}: expected an int >= 0, (left, right), "valid" or "same"'
    )


def is_int(value: Any) -> bool:
    """Whether ``value`` is an integer, of Python or NumPy, and neither a bool nor an array."""
    if type(value) is int:  # nearly always, and 10 times as fast as asking an abstract class
        return True
    return isinstance(value, Integral) and not isinstance(value, bool)


def _are_ints(value: Any, count: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == count and all(map(is_int, value))


def number(name: str, value: Any) -> float:
    """A setting as a float, whose type leaves that of arrays as it is.

    Raises
    ------
    ArgumentError
        Not a number, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or value != value:
        raise ArgumentError(f"{name}={value!r}: expected a number")
    return float(value)


REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str, known: tuple[str, ...] = REDUCTIONS) -> str:
    """Refuse an unknown reduction.

    Raises
    ------
    ArgumentError
        Not one of those ``known``.
    """
    if reduction not in known:
        names = [f'"{name}"' for name in known]
        raise ArgumentError(
            f"reduction={reduction!r}: expected {', '.join(names[:-1])} or {names[-1]}"
        )
    return reduction


def check_ignore_index(ignore_index: Any) -> int:
    """Refuse what cannot be a class index.

    Raises
    ------
    ArgumentError
        Not an int of 64 bits.
    """
    if not is_int(ignore_index) or not -(2**63) <= ignore_index < 2**63:
        raise ArgumentError(f"ignore_index={ignore_index!r}: expected an int of 64 bits")
    return int(ignore_index)


def check_smoothing(label_smoothing: Any) -> float:
    """Refuse what is not from 0 to 1.

    Raises
    ------
    ArgumentError
        Anything else.
    """
    smoothing = number("label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ArgumentError(f"label_smoothing={label_smoothing!r}: expected a number from 0 to 1")
    return smoothing


def check_shape(normalized_shape: Any) -> tuple[int, ...]:
    """Lengths of the last axes as a tuple.

    Raises
    ------
    ArgumentError
        Neither an int >= 1 nor several.
    """
    axes = (normalized_shape,) if is_int(normalized_shape) else normalized_shape
    if (
        not isinstance(axes, tuple | list)
        or not axes
        or not all(map(is_int, axes))
        or min(axes) < 1
    ):
        raise ArgumentError(f"normalized_shape={normalized_shape!r}: expected ints >= 1")
    return tuple(int(n) for n in axes)


def check_eps(eps: float) -> float:
    """Refuse what cannot be added to a variance.

    Raises
    ------
    ArgumentError
        Not a number >= 0.
    """
    if not isinstance(eps, Real) or not eps >= 0:
        raise ArgumentError(f"eps={eps!r}: expected a number >= 0, such as 1e-5")
    return float(eps)


def check_momentum(momentum: float) -> None:
    """Refuse a momentum outside 0 to 1.

    Raises
    ------
    ArgumentError
        Not a number from 0 to 1.
    """
    if not isinstance(momentum, Real) or not 0 <= momentum <= 1:
        raise ArgumentError(f"momentum={momentum!r}: expected a number from 0 to 1")


def check_approximate(approximate: str) -> str:
    """Refuse anything but "none" and "tanh".

    Raises
    ------
    ArgumentError
        Anything else.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f'approximate={approximate!r}: expected "none" or "tanh"')
    return approximate


OutputSize = int | tuple[int | None, int | None] | None


def check_output_size(output_size: Any) -> tuple[int | None, int | None]:
    """``output_size`` as (height, width), each an int or None.

    Raises
    ------
    ArgumentError
        Anything but an int >= 1, None or a pair of these.
    """
    both = output_size if isinstance(output_size, list | tuple) else (output_size, output_size)
    if len(both) != 2 or not all(n is None or (is_int(n) and n >= 1) for n in both):
        raise ArgumentError(
            f"output_size={output_size!r}: expected an int >= 1, None (as the input) or a pair of "
            "them (height, width)"
        )
    return both[0], both[1]


Factor = float | tuple[float, float]


MODES = ("nearest", "bilinear")


def check_factor(name: str, value: Any) -> int:
    """The factor of a pixel shuffle.

    Raises
    ------
    ArgumentError
        Not an int >= 1.
    """
    if not is_int(value) or value < 1:
        raise ArgumentError(f"{name}={value!r}: expected an int >= 1")
    return int(value)


def check_interpolation(
    size: Any, scale_factor: Any, mode: str, align_corners: bool | None
) -> tuple[float, float] | None:
    """The factors (height, width) of an interpolation, or None if a size was given.

    Raises
    ------
    ArgumentError
        A setting out of range, or some that exclude each other.
    """
    if mode not in MODES:
        raise ArgumentError(f"mode={mode!r}: expected one of {', '.join(map(repr, MODES))}")
    if mode == "nearest" and align_corners is not None:
        raise ArgumentError(
            f'align_corners={align_corners!r} is for mode="bilinear": leave it out, or choose that'
        )
    if (size is None) == (scale_factor is None):
        raise ArgumentError(
            f"size={size!r} and scale_factor={scale_factor!r}: give exactly one of them"
        )
    if size is not None:
        pair(size, "size")
        return None
    both = scale_factor if isinstance(scale_factor, list | tuple) else (scale_factor,) * 2
    if len(both) != 2 or not all(map(_is_factor, both)):
        raise ArgumentError(
            f"scale_factor={scale_factor!r}: expected a number > 0 or a pair of them (height, "
            "width)"
        )
    return float(both[0]), float(both[1])


def _is_factor(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def check_dim(name: str, dim: Any, ndim: int) -> int:
    """An axis counted from the front; negative ones count from the back.

    Raises
    ------
    ArgumentError
        Not an int.
    ShapeError
        No such axis.
    """
    if not is_int(dim):
        raise ArgumentError(f"{name}={dim!r}: expected an int")
    if not -ndim <= dim < ndim:
        raise ShapeError(
            f"{name}={dim}: there are {ndim} axes, expected "
            + (f"{-ndim} to {ndim - 1}" if ndim else "none")
        )
    return int(dim) % ndim


def check_probability(p: float) -> None:
    """Refuse what is not a probability.

    Raises
    ------
    ArgumentError
        Not a number from 0 to 1.
    """
    if not isinstance(p, Real) or not 0 <= p <= 1:
        raise ArgumentError(f"p={p!r}: expected a probability from 0 to 1")


def check_features(name: str, value: Any) -> int:
    """A number of channels or features.

    Raises
    ------
    ArgumentError
        Not an int >= 1.
    """
    if not is_int(value) or value < 1:
        raise ArgumentError(f"{name}={value!r}: expected an int >= 1")
    return int(value)


def check_input(x: Any, axis: int, expected: int, what: str) -> None:
    """Refuse an input whose ``axis`` is not of the length the layer was made for."""
    if x.ndim <= abs(axis) - (axis < 0) or x.shape[axis] != expected:
        raise ShapeError(f"input has shape {tuple(x.shape)}: expected {expected} {what}")


_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def check_padding_mode(padding_mode: Any) -> str:
    """Refuse what is no padding mode.

    Raises
    ------
    ArgumentError
        Neither zeros, reflect, replicate nor circular.
    """
    if padding_mode not in _PADDING_MODES:
        raise ArgumentError(
            f"padding_mode={padding_mode!r}: expected one of {', '.join(_PADDING_MODES)}"
        )
    return str(padding_mode)


def check_not_negative(settings: Mapping[str, Any], *names: str) -> None:
    """Refuse those of ``settings`` that are no numbers from 0 on.

    Raises
    ------
    ArgumentError
        One is not.
    """
    for name in names:
        value = settings[name]
        if not isinstance(value, Real) or not float(value) >= 0:  # also refuses NaN
            raise ArgumentError(f"{name}={value!r}: expected a number >= 0")


def check_steps(name: str, value: Any, least: int = 1) -> int:
    """A number of steps.

    Raises
    ------
    ArgumentError
        No int from ``least`` on.
    """
    if not is_int(value) or value < least:
        raise ArgumentError(f"{name}={value!r}: expected a number of steps >= {least}")
    return int(value)


def check_between(name: str, value: Any, low: float, high: float = float("inf")) -> float:
    """A number from ``low`` to ``high``.

    Raises
    ------
    ArgumentError
        Not such a number.
    """
    if not isinstance(value, Real) or not low <= float(value) <= high:
        expected = f">= {low}" if high == float("inf") else f"from {low} to {high}"
        raise ArgumentError(f"{name}={value!r}: expected a number {expected}")
    return float(value)
