"""Argument checks shared by several modules.

Each returns the normalised value, or raises an error that names the argument, the value it got and
the values it accepts: an ArgumentError unless the docstring says otherwise.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, wraps
from numbers import Integral, Real
from typing import Any, TypeVar, cast

from .errors import ArgumentError, ShapeError, StateDictError, XcnnError, did_you_mean, show

Pair = tuple[int, int]
Padding = int | Sequence[int] | Sequence[Sequence[int]] | str

REDUCTIONS = ("mean", "sum", "none")
OLD_REDUCTIONS = ("size_average", "reduce")
KL_REDUCTIONS = ("mean", "batchmean", "sum", "none")
INTERPOLATIONS = ("nearest", "bilinear")  # of augmentations
#: by mode of F.interpolate: the numbers of spatial axes
INTERPOLATION_AXES = {
    **dict.fromkeys(("nearest", "nearest-exact", "area"), (1, 2, 3)),
    **{"linear": (1,), "bilinear": (2,), "bicubic": (2,), "trilinear": (3,)},
}
COLOURS = {1: "grey", 3: "colour"}  # by number of channels

_HUGE = 2**1023  # floats hold all integers below it

_F = TypeVar("_F", bound=Callable[..., Any])


def memoize(function: _F) -> _F:
    """Cache results like ``functools.lru_cache``, but also accept unhashable arguments.

    Tuples of anything but ints are not cached: (1.0, True) is equal to (1, 1).
    """
    cached = lru_cache(maxsize=1024, typed=True)(function)

    @wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        for value in (*arguments, *settings.values()):
            if type(value) is tuple and not _holds_ints(value):
                return function(*arguments, **settings)
        try:
            return cached(*arguments, **settings)
        except TypeError:  # an unhashable list, or the function's own error, which recurs
            return function(*arguments, **settings)

    return cast(_F, call)


def _holds_ints(values: tuple[Any, ...]) -> bool:
    for v in values:  # each layer of each step: all() of a generator takes three times as long
        if type(v) is not int and not (type(v) is tuple and _holds_ints(v)):
            return False
    return True


# -- pairs and padding ---------------------------------------------------------------------


def is_int(value: Any) -> bool:
    """Whether ``value`` is an integer that a float can hold, not a bool or an array."""
    if type(value) is int:  # the usual case, 10 times as fast as the ABC check
        return -_HUGE < value < _HUGE
    return isinstance(value, Integral) and not isinstance(value, bool)


def are_ints(value: Any, count: int) -> bool:
    """Whether ``value`` is a list or tuple of ``count`` integers."""
    return isinstance(value, list | tuple) and len(value) == count and all(map(is_int, value))


def pair(value: Any, name: str, minimum: int = 1) -> Pair:
    """``value`` as (height, width), ints >= ``minimum``; an int, or one in a list, is both."""
    height, width = per_axis(value, name, 2, minimum)
    return height, width


_AXES = {
    1: ("", "(left, right)"),
    2: (" or a pair of them (height, width)", "(pH, pW), ((top, bottom), (left, right))"),
    3: (" or three of them (depth, height, width)", "(pD, pH, pW), ((front, back), ...)"),
}


def per_axis(value: Any, name: str, ndim: int, minimum: int = 1) -> tuple[int, ...]:
    """``value`` as ``ndim`` ints >= ``minimum``; an int, or one in a list, is for all axes."""
    single = value[0] if are_ints(value, 1) else value
    each = (single,) * ndim if is_int(single) else value
    if not are_ints(each, ndim) or min(each) < minimum:
        raise ArgumentError(f"{name}={show(value)}: expected an int >= {minimum}{_AXES[ndim][0]}")
    return tuple(map(int, each))


def check_padding(padding: Padding, ndim: int = 2) -> Any:
    """``padding`` as ``"same"`` or as ``ndim`` pairs: ((top, bottom), (left, right)), for example.

    Takes an int, one int for each axis, such pairs, (left, right) of signals, ``"valid"`` or
    ``"same"``.
    """
    sides: Any = padding
    if isinstance(sides, str) and sides in ("same", "valid"):  # == compares arrays elementwise
        return "same" if sides == "same" else ((0, 0),) * ndim
    if are_ints(sides, 1):
        sides = sides[0]
    if is_int(sides):
        sides = (sides,) * ndim
    if are_ints(sides, ndim):
        sides = tuple((n, n) for n in sides)
    elif ndim == 1 and are_ints(sides, 2):
        sides = (sides,)
    is_list = isinstance(sides, list | tuple) and len(sides) == ndim
    if is_list and all(are_ints(p, 2) and min(p) >= 0 for p in sides):
        return tuple((int(begin), int(end)) for begin, end in sides)
    raise ArgumentError(
        f'padding={show(padding)}: expected an int >= 0, {_AXES[ndim][1]}, "valid" or "same"'
    )


def check_crop(padding: Padding, ndim: int = 2) -> Any:
    """The padding of a transposed convolution, as ((top, bottom), (left, right))."""
    sides = check_padding(padding, ndim)
    if isinstance(sides, str):
        raise ArgumentError(
            f"padding={show(padding)} is ambiguous for a transposed convolution: several output "
            "sizes fit; pass numbers of pixels, and output_padding"
        )
    return sides


def check_output_padding(value: Any, stride: Any, dilation: Any) -> Any:
    """``value`` as (height, width), each less than the stride or the dilation of its axis."""
    extra = per_axis(value, "output_padding", len(stride), 0)
    if any(m >= max(s, d) for m, s, d in zip(extra, stride, dilation, strict=True)):
        raise ArgumentError(
            f"output_padding={show(value)}: expected less than the stride {stride} or the dilation "
            f"{dilation} along each axis"
        )
    return extra


def check_output_size(output_size: Any, ndim: int = 2) -> tuple[int | None, ...]:
    """``output_size`` as (height, width), each an int >= 1 or None."""
    each = output_size if isinstance(output_size, list | tuple) else (output_size,) * ndim
    if len(each) == 1:
        each *= ndim
    if len(each) != ndim or not all(n is None or (is_int(n) and n >= 1) for n in each):
        raise ArgumentError(
            f"output_size={show(output_size)}: expected an int >= 1, None (same as the input)"
            f"{_AXES[ndim][0]}"
        )
    return tuple(each)


# -- sizes and flags -----------------------------------------------------------------------

_LARGEST = 2**38  # elements: a TiB of float32
_LONGEST = 2**24  # pixels along an axis, or in a window, that Python visits one by one


def check_size(name: str, value: Any, shape: Sequence[int], visited: bool = False) -> None:
    """Refuse an array, an image or a window of ``shape`` that is too large to compute.

    With ``visited``, Python visits the elements of each axis one by one.
    """
    is_visible = not visited or max(shape) <= _LONGEST
    if math.prod(shape) > _LARGEST or len(shape) > 64 or not is_visible:
        raise ArgumentError(
            f"{name}={show(value)} asks for {' × '.join(map(str, shape))} elements: expected at "
            f"most {_LARGEST:,} along at most 64 axes" + (f" of {_LONGEST:,}" if visited else "")
        )


def check_flag(name: str, value: Any) -> bool:
    """A bool, or an int as one; not an array."""
    if value is True or value is False:  # the usual case
        return value
    if not isinstance(value, Integral) and type(value).__name__ not in ("bool", "bool_"):
        raise ArgumentError(f"{name}={show(value)}: expected True or False")
    return bool(value)


def check_callable(name: str, value: Any) -> Any:
    """A function, or anything else that can be called."""
    if not callable(value):
        raise ArgumentError(f"{name} is {type(value).__name__}: expected a function")
    return value


def check_path(name: str, value: Any) -> str:
    """The path of a file or a folder as text; not a file descriptor."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or "\0" in path:
        raise ArgumentError(f"{name}={show(value)}: expected a path, a str or os.PathLike")
    return path


def check_text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ArgumentError(f"{name}={show(value)}: expected a str")
    return value


def check_texts(name: str, value: Any) -> list[str]:
    """A sequence of strings, or an array (N,) of them, as a list; not one string."""
    is_list = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1
    if not is_list or isinstance(value, str) or not all(isinstance(v, str) for v in value):
        raise ArgumentError(f"{name}={show(value)}: expected a list of strings")
    return list(value)


def check_list(name: str, value: Any, what: str) -> list[Any]:
    """A list of several values, from an iterable that is neither a text nor an array."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes) or hasattr(value, "dtype"):
        raise ArgumentError(f"{name} is {type(value).__name__}: expected a list of {what}")
    return list(value)


def check_code(name: str, value: Any, meanings: Mapping[int, str]) -> int:
    """One of the ints of ``meanings``, which tells what each stands for."""
    if not is_int(value) or value not in meanings:
        expected = " or ".join(f"{code} ({meaning})" for code, meaning in meanings.items())
        raise ArgumentError(f"{name}={show(value)}: expected {expected}")
    return int(value)


# -- numbers -------------------------------------------------------------------------------


def check_int(name: str, value: Any, minimum: int = 1, expected: str = "an int") -> int:
    """An int >= ``minimum``, or what ``operator.index`` takes for one; not a bool."""
    number = None
    if type(value) is not bool and getattr(value, "dtype", None) != "bool":
        with suppress(TypeError):  # a float, a string, an array of several numbers
            number = operator.index(value)
    if number is None or not minimum <= number < _HUGE:
        raise ArgumentError(f"{name}={show(value)}: expected {expected} >= {minimum}")
    return number


def check_steps(name: str, value: Any, minimum: int = 1) -> int:
    """A number of steps >= ``minimum``."""
    return check_int(name, value, minimum, "a number of steps")


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, above: bool = False
) -> float:
    """``value`` as a float from ``low`` to ``high``, not NaN.

    With ``above``, ``low`` itself is excluded. A Python float does not promote an array's dtype.
    """
    number = as_float(value)
    # written so that NaN fails
    if not low <= number <= high or (above and number == low):
        limits = f" {'>' if above else '>='} {low}" if low > -math.inf else ""
        if high < math.inf:
            limits = f"{limits} and <= {high}" if above else f" from {low} to {high}"
        raise ArgumentError(f"{name}={show(value)}: expected a number{limits}")
    return number


def as_float(value: Any) -> float:
    """A number as a float; NaN for anything else, and for an int that no float holds."""
    is_number = is_int(value) if type(value) is int else isinstance(value, Real)
    return float(value) if is_number and not isinstance(value, bool) else math.nan


def check_ignore_index(ignore_index: Any) -> int:
    """A value that can be a class index: a 64-bit int."""
    if not is_int(ignore_index) or not -(2**63) <= ignore_index < 2**63:
        raise ArgumentError(f"ignore_index={show(ignore_index)}: expected a 64-bit int")
    return int(ignore_index)


def check_interpolation(
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: Any = False,
) -> None:
    """The settings of an interpolation, of any number of axes."""
    check_choice("mode", mode, tuple(INTERPOLATION_AXES))
    if align_corners is not None:
        check_flag("align_corners", align_corners)
        if not mode.endswith(("linear", "cubic")):
            raise ArgumentError(
                f"align_corners={show(align_corners)} is for the linear modes and bicubic: omit "
                'it, or use mode="bilinear"'
            )
    if check_flag("antialias", antialias) and mode not in ("bilinear", "bicubic"):
        raise ArgumentError(f"antialias=True with mode={mode!r}: expected bilinear or bicubic")
    check_exactly_one(size=size, scale_factor=scale_factor)
    if recompute_scale_factor is not None:
        check_flag("recompute_scale_factor", recompute_scale_factor)
        if recompute_scale_factor and size is not None:
            raise ArgumentError("recompute_scale_factor=True: expected scale_factor, not size")
    if size is not None:
        check_shape("size", size)
        return
    factors = scale_factor if isinstance(scale_factor, list | tuple) else (scale_factor,)
    if not factors or not all(0 < as_float(factor) < math.inf for factor in factors):
        raise ArgumentError(
            f"scale_factor={show(scale_factor)}: expected a number > 0, or one for each axis"
        )


# -- axes and shapes -----------------------------------------------------------------------


def check_dim(name: str, dim: Any, ndim: int) -> int:
    """The index of an axis, >= 0; a negative ``dim`` counts from the end.

    Raises
    ------
    ArgumentError
        Not an int.
    ShapeError
        No such axis.
    """
    if not is_int(dim):
        raise ArgumentError(f"{name}={show(dim)}: expected an int")
    if not -ndim <= dim < ndim:
        raise ShapeError(
            f"{name}={dim}: there are {ndim} axes, expected "
            + (f"{-ndim} to {ndim - 1}" if ndim else "none")
        )
    return int(dim) % ndim


def check_dims(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """The indices of one axis or several, each >= 0; None: of all axes.

    Raises
    ------
    ArgumentError
        Neither an int nor a sequence of ints.
    ShapeError
        No such axis, or a repeated one.
    """
    dims = range(ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    axes = tuple(check_dim(name, d, ndim) for d in dims)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{name}={dim}: expected each axis once")
    return axes


def check_shape(name: str, shape: Any, minimum: int = 1) -> tuple[int, ...]:
    """``shape`` as a tuple of ints >= ``minimum``; an int means one axis."""
    axes = (shape,) if is_int(shape) else shape
    is_list = isinstance(axes, tuple | list) and are_ints(axes, len(axes) or 1)
    if not is_list or min(axes) < minimum:
        raise ArgumentError(f"{name}={show(shape)}: expected ints >= {minimum}")
    return tuple(int(n) for n in axes)


def check_input(x: Any, axis: int, expected: int, what: str) -> None:
    """Require ``expected`` elements along ``axis`` of a layer's input.

    Raises
    ------
    ShapeError
        The length differs, or there is no such axis.
    """
    if x.ndim <= abs(axis) - (axis < 0) or x.shape[axis] != expected:
        shape = tuple(x.shape)
        hint = channels_last_hint(shape, expected) if axis == 1 else ""
        raise ShapeError(
            f"input has shape {shape}: expected {expected} {what}" + (f"; {hint}" if hint else "")
        )


def channels_last_hint(shape: tuple[int, ...], channels: int, otherwise: str = "") -> str:
    """What to do about an input (N, ..., channels); ``otherwise`` for one of another shape."""
    if len(shape) < 3 or shape[-1] != channels:
        return otherwise
    axes = 0, len(shape) - 1, *range(1, len(shape) - 1)
    one = tuple(axis - 1 for axis in axes[1:])
    single = f", or x.transpose{one} for one example" if shape[0] == 1 else ""
    return f"{shape} looks channels-last: use x.transpose{axes}{single}"


def loads_state(method: _F) -> _F:
    """Let a ``load_state_dict`` raise StateDictError for whatever is not the state of its class."""

    @wraps(method)
    def load(self: Any, state: Any, *arguments: Any, **settings: Any) -> Any:
        name = type(self).__name__
        if not isinstance(state, Mapping):
            raise StateDictError(
                f"{name}: the state is {type(state).__name__}: expected the result of state_dict()"
            )
        try:
            return method(self, state, *arguments, **settings)
        except XcnnError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise StateDictError(f"not the state of {name}: {error!r}") from error

    return cast(_F, load)


# -- names of modes ------------------------------------------------------------------------


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Require one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(
            f"{name}={show(value)}: expected one of {', '.join(choices)}"
            + did_you_mean(value, choices)
        )
    return value


def check_exactly_one(**values: Any) -> None:
    """Require one of several arguments, and no other."""
    if sum(value is not None for value in values.values()) != 1:
        given = " and ".join(f"{name}={show(value)}" for name, value in values.items())
        raise ArgumentError(f"{given}: give exactly one of them")


def check_reduction(name: str, value: Any) -> str:
    """The reduction of a loss."""
    return check_choice(name, value, REDUCTIONS)


def refuse_old_reduction(settings: dict[str, Any]) -> None:
    """Refuse ``size_average`` and ``reduce``, PyTorch's old names of the reduction, unless None."""
    for name in settings.keys() & {*OLD_REDUCTIONS}:
        if (value := settings.pop(name)) is not None:
            new = "mean" if value is not False else "sum" if name == "size_average" else "none"
            new = value if isinstance(value, str) else new
            raise ArgumentError(
                f"{name}={value!r}: PyTorch's old name of the reduction: use reduction={new!r} "
                "instead"
            )


def check_embedding_settings(max_norm: Any, scale_grad_by_freq: Any, sparse: Any) -> None:
    """Refuse the settings of PyTorch's embedding that change its weight or its gradient."""
    if max_norm is not None:
        raise ArgumentError(
            f"max_norm={max_norm!r} is not supported, as it changes weight in the forward pass: "
            "leave it out, and rescale the weight after a step of the optimiser"
        )
    if check_flag("scale_grad_by_freq", scale_grad_by_freq):
        raise ArgumentError(
            "scale_grad_by_freq=True is not supported: leave it out; an optimiser such as Adam "
            "evens out how often a row is used"
        )
    if check_flag("sparse", sparse):
        raise ArgumentError("sparse=True is not supported: gradients are dense; leave it out")


def check_padding_mode(padding_mode: Any) -> str:
    """Require the name of a padding mode."""
    return check_choice("padding_mode", padding_mode, ("zeros", "reflect", "replicate", "circular"))
