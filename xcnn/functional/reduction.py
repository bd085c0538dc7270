"""Sums, moments, norms and other reductions over axes, and cumulative sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import as_float, check_dim, check_dims, check_flag
from ..errors import ArgumentError, ShapeError
from ..tensor import Function, Tensor, operation
from .arithmetic import eq, ne, where
from .elementwise import astype

__all__ = [
    "all", "amax", "amin", "any", "count_nonzero", "cumsum", "logsumexp", "mean", "nanmean",
    "nansum", "norm", "prod", "std", "std_mean", "sum", "var", "var_mean",
]  # fmt: skip

Axes = int | Sequence[int] | None


def reduced_axes(dim: Axes, ndim: int) -> tuple[int, ...]:
    """The axes that ``dim`` names: all for None and (); a number counts as one axis."""
    is_empty = isinstance(dim, Sequence) and not dim
    axes = check_dims("dim", None if is_empty else dim, max(ndim, 1))
    return axes if ndim else ()


def check_not_empty(name: str, shape: Sequence[int], axes: Sequence[int]) -> None:
    """Require each of the ``axes`` to have elements.

    Raises
    ------
    ShapeError
        One has none.
    """
    if not math.prod(shape[a] for a in axes):
        raise ShapeError(
            f"{name}: input has shape {tuple(shape)}, no elements along dim={tuple(axes)}, and no "
            "value to return for them; leave out the call where the batch is empty"
        )


def named(function: Callable[..., Any], name: str, **words: str) -> Callable[..., Any]:
    """``function`` as the operation ``name``, with ``words`` in its docstring."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (function.__doc__ or "").format(**words)
    return operation(function)


class Reduction(Function):
    """y = f(x) over axes, which ``value`` and ``gradient`` see with length 1.

    Both get arrays of at least float32. Settings are stored as attributes; ``no_value`` says that
    there is no y without elements, ``keeps_values`` that backward needs x and y.
    """

    arguments = ("input",)
    keeps_values = True
    no_value = False

    def __init__(self, dim: Axes, keepdim: bool = False, **settings: Any) -> None:
        self.dim = dim
        self.keepdim = check_flag("keepdim", keepdim)
        vars(self).update(settings)

    def forward(self, backend: Backend, x: Array) -> Array:
        axes = reduced_axes(self.dim, x.ndim)
        if self.no_value:
            check_not_empty(type(self).__name__.lower(), x.shape, axes)
        y = self.compute(backend, x, axes)
        self.save(axes=axes, shape=x.shape, y=y, x=x if self.keeps_values else None)
        y = y.astype(x.dtype, copy=False) if y.dtype.kind == "f" else y
        if self.keepdim:
            return y
        return y.reshape(tuple([n for i, n in enumerate(x.shape) if i not in axes]))

    def compute(self, backend: Backend, x: Array, axes: tuple[int, ...]) -> Array:
        return self.value(backend.xp, _wide(x), axes)

    def backward(self, backend: Backend, dy: Array) -> Array:
        x, y = self.saved.x, self.saved.y
        return self.gradient(backend.xp, _wide(dy.reshape(y.shape)), _wide(x), y)

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        raise NotImplementedError

    def gradient(self, xp: Any, dy: Array, x: Array, y: Array) -> Array:
        raise NotImplementedError


def _wide(x: Array) -> Array:
    return x.astype("float32") if x.dtype == "float16" else x


class Sum(Reduction):
    """See :func:`sum`. float16 adds up in float32 without a copy."""

    any_dtype: tuple[str, ...] = ("input",)
    keeps_values = False
    averages = False
    scale = 1.0

    def compute(self, backend: Backend, x: Array, axes: tuple[int, ...]) -> Array:
        dtype = sum_dtype(x.dtype) if x.dtype.kind == "f" else "int64"
        y = x.sum(axis=axes, dtype=dtype, keepdims=True)
        if self.averages:
            self.scale = y.size / x.size if x.size else math.nan
            y = y * self.scale
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        dy = dy.reshape(self.saved.y.shape)
        if self.averages:
            dy = (_wide(dy) * self.scale).astype(dy.dtype)
        return backend.xp.broadcast_to(dy, self.saved.shape)


class Mean(Sum):
    """See :func:`mean`."""

    any_dtype: tuple[str, ...] = ()
    averages = True


def _typed(function: Function, input: Any, dtype: Any) -> Tensor:
    """``function(input)``; both have ``dtype`` if it is given."""
    return function(input) if dtype is None else astype(function(astype(input, dtype)), dtype)


@operation
def sum(input: Any, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over the axes ``dim`` (default: all). Integers and bools add up to int64.

    Parameters
    ----------
    dim
        One axis or several; None or (): all.
    keepdim
        Keep the axes, with length 1.
    dtype
        Convert ``input`` to it first; the result has it.

    Raises
    ------
    ArgumentError
        ``dim`` is neither an int nor a sequence of ints.
    ShapeError
        No such axis, or a repeated one.
    """
    return _typed(Sum(dim, keepdim), input, dtype)


@operation
def mean(input: Any, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Mean over the axes ``dim``; NaN without elements. Parameters as of :func:`sum`.

    Raises
    ------
    DTypeError
        ``input`` holds integers or bools: pass ``dtype="float32"``.
    ShapeError
        No such axis, or a repeated one.
    """
    return _typed(Mean(dim, keepdim), input, dtype)


@operation
def nansum(input: Any, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """:func:`sum` with NaN as 0, which gets no gradient."""
    return sum(where(eq(input, input), input, 0), dim, keepdim, dtype=dtype)


class NanMean(Reduction):
    """See :func:`nanmean`."""

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        over: Any = {"axis": axes, "dtype": x.dtype, "keepdims": True}
        return xp.where(x == x, x, 0).sum(**over) / (x == x).sum(**over)

    def gradient(self, xp: Any, dy: Array, x: Array, y: Array) -> Array:
        return _shared(x == x, dy, self.saved.axes)


@operation
def nanmean(input: Any, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """:func:`mean` of the elements that are not NaN; NaN where there are none."""
    return _typed(NanMean(dim, keepdim), input, dtype)


def _shared(chosen: Array, dy: Array, axes: tuple[int, ...]) -> Array:
    """dy in equal parts to the ``chosen`` elements; NaN where there are none."""
    return chosen * dy / chosen.sum(axis=axes, dtype=dy.dtype, keepdims=True)


class Prod(Reduction):
    """See :func:`prod`."""

    any_dtype = ("input",)

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        return x.prod(axis=axes, dtype=None if x.dtype.kind == "f" else "int64", keepdims=True)

    def gradient(self, xp: Any, dy: Array, x: Array, y: Array) -> Array:
        """dy · y / x, where one factor is 0 its product of the others, where several are, 0."""
        is_zero, axes = x == 0, self.saved.axes
        others = xp.where(is_zero, 1, x)
        zeros = is_zero.sum(axis=axes, keepdims=True)
        lone = is_zero & (zeros == 1)
        return dy * xp.where(lone, others.prod(axis=axes, keepdims=True), y / others)


@operation
def prod(input: Any, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Product over the axes ``dim``; 1 without elements. Parameters as of :func:`sum`."""
    return _typed(Prod(dim, keepdim), input, dtype)


class Amax(Reduction):
    """See :func:`amax`; with ``to_nan``, NaN has the gradient of a maximum that is NaN."""

    any_dtype = ("input",)
    no_value = True
    method = "max"
    to_nan = False

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        return getattr(x, self.method)(axis=axes, keepdims=True)

    def gradient(self, xp: Any, dy: Array, x: Array, y: Array) -> Array:
        chosen = x == y
        if self.to_nan:
            chosen |= (x != x) & (y != y)
        return _shared(chosen, dy, self.saved.axes)


class Amin(Amax):
    """See :func:`amin`."""

    method = "min"


@operation
def amax(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Largest element over the axes ``dim``; NaN propagates, equal elements share the gradient.

    Parameters
    ----------
    dim
        One axis or several; None or (): all.
    keepdim
        Keep the axes, with length 1.

    Raises
    ------
    ShapeError
        No such axis, or an axis without elements.
    """
    return Amax(dim, keepdim)(input)


@operation
def amin(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Smallest element over the axes ``dim``; see :func:`amax`."""
    return Amin(dim, keepdim)(input)


class NonzeroReduction(Reduction):
    """``method`` of the mask of nonzero elements; has no gradient."""

    any_dtype = ("input",)
    keeps_values = differentiable = False
    method: str

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        return getattr(x != 0, self.method)(axis=axes, keepdims=True)


def _of_nonzero(name: str, method: str, what: str) -> Callable[..., Tensor]:
    def reduce(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
        """{what} over the axes ``dim``: None: all, (): none. Has no gradient."""
        if method != "sum" and isinstance(dim, Sequence) and not dim:
            return ne(input, 0)
        return NonzeroReduction(dim, keepdim, method=method)(input)

    return named(reduce, name, what=what)


all = _of_nonzero("all", "all", "Whether every element is nonzero")
any = _of_nonzero("any", "any", "Whether an element is nonzero")
count_nonzero = _of_nonzero("count_nonzero", "sum", "Number of nonzero elements (int64)")


class Var(Reduction):
    """See :func:`var`; with ``root``, :func:`std`."""

    root: bool
    correction: float

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        centred = self._centred(x, axes)
        centred *= centred
        count = math.prod(x.shape[a] for a in axes) - self.correction
        self.scale = 1 / count if count > 0 else math.inf
        y = centred.sum(axis=axes, keepdims=True) * self.scale
        return xp.sqrt(y) if self.root else y

    def gradient(self, xp: Any, dy: Array, x: Array, y: Array) -> Array:
        if self.root:
            dy = xp.where(y == 0, 0, dy / xp.where(y == 0, 1, 2 * y))
        return self._centred(x, self.saved.axes) * (dy * (2 * self.scale))

    @staticmethod
    def _centred(x: Array, axes: tuple[int, ...]) -> Array:
        return x - x.sum(axis=axes, keepdims=True) / max(math.prod(x.shape[a] for a in axes), 1)


def _moment(name: str, what: str, root: bool, with_mean: bool = False) -> Callable[..., Any]:
    def moment(
        input: Any,
        dim: Axes = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Any:
        """{what}

        Parameters
        ----------
        dim
            One axis or several; None or (): all. A bool stands for ``unbiased``, as in PyTorch.
        unbiased
            Divide by n - 1, else by n.
        keepdim
            Keep the axes, with length 1.
        correction
            What is subtracted from n; takes the place of ``unbiased``.

        Raises
        ------
        ArgumentError
            ``correction`` is not a number.
        DTypeError
            ``input`` is not floating-point.
        ShapeError
            No such axis, or a repeated one.
        """
        axes, flag = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
        default = int(check_flag("unbiased", flag))
        subtracted = as_float(default if correction is None else correction)
        if math.isnan(subtracted):
            raise ArgumentError(f"correction={correction!r}: expected a number")
        y = Var(axes, keepdim, correction=subtracted, root=root)(input)
        return (y, mean(input, axes, keepdim)) if with_mean else y

    return named(moment, name, what=what)


var = _moment("var", "Variance over the axes ``dim``: Σ (x - mean)² / (n - correction).", False)
std = _moment("std", "Standard deviation, √ of :func:`var`; its gradient at 0 is 0.", True)
var_mean = _moment("var_mean", ":func:`var` and :func:`mean`.", False, with_mean=True)
std_mean = _moment("std_mean", ":func:`std` and :func:`mean`.", True, with_mean=True)


class Norm(Reduction):
    """See :func:`norm`."""

    p: float

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        p, over = self.p, {"axis": axes, "keepdims": True}
        if p == 2:
            return xp.sqrt((x * x).sum(**over))
        x = xp.absolute(x)
        if math.isinf(p) or p < 0:
            check_not_empty(f"norm of order {p}", x.shape, axes)
        if math.isinf(p):
            return x.max(**over) if p > 0 else x.min(**over)
        if p == 0:
            return (x != 0).sum(dtype=x.dtype, **over)
        return x.sum(**over) if p == 1 else _power(xp, _power(xp, x, p).sum(**over), 1 / p)

    def gradient(self, xp: Any, dy: Array, x: Array, y: Array) -> Array:
        """dy · sign(x) · (|x| / y)^(p - 1), and 0 where x or y is 0."""
        p = self.p
        if p == 0:
            return xp.zeros_like(x)
        if math.isinf(p):
            chosen = (xp.absolute(x) == y) | ((x != x) & (y != y))
            return xp.sign(x) * _shared(chosen, dy, self.saved.axes)
        slope = x if p == 2 else xp.sign(x)
        if p not in (1, 2):
            slope = slope * xp.power(xp.where(x == 0, 1, xp.absolute(x)), p - 1)
        return slope * (dy * (y != 0) * xp.power(xp.where(y == 0, 1, y), 1 - p))


def _power(xp: Any, base: Array, exponent: float) -> Array:
    """``base`` ≥ 0 to a power, infinite for 0 to a negative one."""
    if exponent >= 0:
        return xp.power(base, exponent)
    return xp.where(base == 0, xp.inf, xp.power(xp.where(base == 0, 1, base), exponent))


@operation
def norm(
    input: Any, p: Any = "fro", dim: Axes = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    """(Σ |x|^p)^(1 / p) over the axes ``dim``, all together.

    Parameters
    ----------
    p
        A number. 0: how many elements are nonzero; inf and -inf: the largest and smallest |x|;
        "fro": 2.
    dim
        One axis or several; None or (): all.
    keepdim
        Keep the axes, with length 1.
    dtype
        Convert ``input`` to it first; the result has it.

    Raises
    ------
    ArgumentError
        ``p`` is "nuc", which needs singular values, or not a number.
    ShapeError
        No such axis, or one without elements and ``p`` < 0 or infinite.
    """
    order = 2.0 if p is None or (isinstance(p, str) and p == "fro") else as_float(p)
    if math.isnan(order):
        raise ArgumentError(f'p={p!r}: expected a number, such as 2 or float("inf"), or "fro"')
    return _typed(Norm(dim, keepdim, p=order), input, dtype)


class LogSumExp(Reduction):
    """See :func:`logsumexp`."""

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        largest: Any = 0
        if math.prod(x.shape[a] for a in axes):
            largest = x.max(axis=axes, keepdims=True)
            largest = xp.where(xp.isfinite(largest), largest, 0)
        total = xp.exp(x - largest).sum(axis=axes, keepdims=True)
        return xp.where(total == 0, -xp.inf, xp.log(xp.where(total == 0, 1, total)) + largest)

    def gradient(self, xp: Any, dy: Array, x: Array, y: Array) -> Array:
        return dy * xp.exp(x - y)


@operation
def logsumexp(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """log Σ exp(x) over the axes ``dim``, without overflow; minus infinity without elements."""
    return LogSumExp(dim, keepdim)(input)


class CumSum(Function):
    """See :func:`cumsum`; of float16 in float32, of integers in int64."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, backend: Backend, x: Array) -> Array:
        is_float, dim = x.dtype.kind == "f", check_dim("dim", self.dim, x.ndim or 1)
        dtype = sum_dtype(x.dtype) if is_float else "int64"
        y = backend.xp.cumsum(x.reshape(x.shape or 1), axis=dim, dtype=dtype).reshape(x.shape)
        return y.astype(x.dtype, copy=False) if is_float else y

    def backward(self, backend: Backend, dy: Array) -> Array:
        if not dy.ndim:
            return dy
        return backend.xp.flip(self.forward(backend, backend.xp.flip(dy, self.dim)), self.dim)


@operation
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """Sum of the elements up to and including each, along ``dim``.

    Parameters
    ----------
    dim
        One axis.
    dtype
        Convert ``input`` to it first. Integers and bools add up to int64.

    Raises
    ------
    ShapeError
        No such axis.
    """
    return _typed(CumSum(dim), input, dtype)
