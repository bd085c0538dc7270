"""New tensors: zeros, ones, ranges, random numbers; ``xcnn.zeros(2, 3)``.

Each takes PyTorch's ``dtype``, ``device`` (default: the CPU) and ``requires_grad``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

from . import backends, random
from .arrays import Array
from .checks import as_float, check_flag, check_int, check_number, check_size, is_int
from .errors import ArgumentError, show
from .tensor import Tensor, dtype_name

__all__ = [
    "arange", "as_tensor", "bernoulli", "device", "empty", "empty_like", "eye", "from_numpy",
    "full", "full_like", "linspace", "multinomial", "normal", "ones", "ones_like", "rand",
    "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "tensor",
    "zeros", "zeros_like",
]  # fmt: skip


def _made(
    make: Callable[[Any], Array], dtype: Any, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The array of ``make(xp)`` as a Tensor of this dtype on this device."""
    backend, name = backends.get("cpu" if device is None else device), dtype_name(dtype)
    array = backend.run(lambda backend: make(backend.xp).astype(name, copy=False))
    return Tensor(array, requires_grad)


def _or(dtype: Any, default: Any) -> Any:
    return default if dtype is None else dtype


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape that was passed as several ints or as one sequence."""
    shape = tuple(size[0]) if len(size) == 1 and isinstance(size[0], Sequence) else size
    if not all(is_int(n) and n >= 0 for n in shape):
        raise ArgumentError(f"size={show(shape)}: expected ints >= 0")
    check_size("size", shape, shape)
    return tuple(map(int, shape))


def _numbers(dtype: Any, **values: Any) -> list[Any]:
    """Numbers, or Tensors of one, as floats, or as ints if ``dtype`` is one of ints."""
    kind = float if "float" in dtype_name(dtype) else int
    numbers = {name: v.item() if isinstance(v, Tensor) else v for name, v in values.items()}
    for name, number in numbers.items():
        if not math.isfinite(as_float(number)):
            raise ArgumentError(f"{name}={show(number)}: expected a finite number")
    return [kind(number) for number in numbers.values()]


def device(type: Any, index: int | None = None) -> str:
    """The name of a device, "cpu" or "cuda:1", which every ``device`` argument takes.

    Parameters
    ----------
    type
        "cpu", "cuda", "cuda:1" or "auto".
    index
        Number of the GPU, for "cuda".

    Raises
    ------
    DeviceError
        No such device.
    """
    return backends.get(type if index is None else f"{type}:{index}").device


# -- from values ---------------------------------------------------------------------------


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of ``data``: numbers, nested lists, an array or a Tensor.

    Parameters
    ----------
    dtype
        Default: as ``data``; Python's floats become float32, its ints int64.
    """
    made = as_tensor(data, dtype, device).detach()
    return Tensor(backends.copy(made.data), requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a Tensor, which shares its memory where dtype and device stay the same."""
    return Tensor.of(data).to(device=device, dtype=dtype)


def from_numpy(array: Any) -> Tensor:
    """A Tensor that shares the memory of a NumPy array."""
    return Tensor(array)


# -- filled --------------------------------------------------------------------------------


def full(size: Any, fill_value: float, dtype: Any = None, **settings: Any) -> Tensor:
    """A tensor of shape ``size``, a sequence of ints, filled with ``fill_value``.

    Parameters
    ----------
    dtype
        Default: float32, int64 or bool, by the kind of ``fill_value``.
    **settings
        ``device`` and ``requires_grad``.
    """
    shape = _shape((size,))
    value: Any = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    if not isinstance(value, Real) or (isinstance(value, Integral) and abs(int(value)) >= 2**63):
        raise ArgumentError(f"fill_value={show(value)}: expected a float, or an int of 64 bits")
    kinds: tuple[tuple[type, str], ...] = ((bool, "bool"), (int, "int64"))
    default = next((name for kind, name in kinds if isinstance(value, kind)), "float32")
    name = dtype_name(_or(dtype, default))
    return _made(lambda xp: xp.full(shape, xp.full((), value).astype(name), name), name, **settings)


def zeros(*size: Any, dtype: Any = None, **settings: Any) -> Tensor:
    """Zeros of shape ``size``, ints or one sequence of them."""
    return full(_shape(size), 0, _or(dtype, "float32"), **settings)


def ones(*size: Any, dtype: Any = None, **settings: Any) -> Tensor:
    """Ones of shape ``size``, ints or one sequence of them."""
    return full(_shape(size), 1, _or(dtype, "float32"), **settings)


def empty(*size: Any, dtype: Any = None, **settings: Any) -> Tensor:
    """A tensor of shape ``size``, ints or one sequence of them, whose values are arbitrary."""
    return zeros(*size, dtype=dtype, **settings)


def eye(n: int, m: int | None = None, dtype: Any = None, **settings: Any) -> Tensor:
    """The matrix (n, m) with ones on the diagonal; m is n by default."""
    rows = check_int("n", n, 0)
    columns = rows if m is None else check_int("m", m, 0)
    check_size("n", n, (rows, columns))
    return _made(lambda xp: xp.eye(rows, columns), _or(dtype, "float32"), **settings)


# -- ranges --------------------------------------------------------------------------------


def arange(
    start: float, end: float | None = None, step: float = 1, dtype: Any = None, **settings: Any
) -> Tensor:
    """start, start + step, ... below ``end``; with one number, 0, 1, ... below it.

    Parameters
    ----------
    dtype
        Default: int64 if all are ints, else float32.
    """
    start, end = (0, start) if end is None else (start, end)
    dtype = _or(dtype, "int64" if all(map(is_int, (start, end, step))) else "float32")
    first, stop, by = _numbers(dtype, start=start, end=end, step=step)
    if by == 0 or (stop - first) / by < 0:
        raise ArgumentError(
            f"arange: start={start}, end={end}, step={step}: expected a step towards the end"
        )
    check_size("end", end, ((stop - first) / by,))
    count = math.ceil((stop - first) / by)
    return _made(lambda xp: xp.arange(count) * by + first, dtype, **settings)


def linspace(start: float, end: float, steps: int, dtype: Any = None, **settings: Any) -> Tensor:
    """``steps`` numbers at equal distances from ``start`` to ``end``, both included."""
    count = check_int("steps", steps, 0)
    check_size("steps", steps, (count,))
    dtype = _or(dtype, "float32")
    limits = _numbers(dtype, start=start, end=end)
    return _made(lambda xp: xp.linspace(*limits, count), dtype, **settings)


# -- random numbers, from the generator that xcnn.manual_seed seeds ------------------------
# drawn on the host, so that every device gets the same


def _drawn(values: Array, dtype: Any, **settings: Any) -> Tensor:
    values = values.astype(dtype_name(dtype), copy=False)  # on the host: a GPU gets no float64
    return _made(lambda xp: xp.asarray(values), dtype, **settings)


def rand(*size: Any, dtype: Any = None, **settings: Any) -> Tensor:
    """Uniform random numbers in [0, 1) of shape ``size``, ints or one sequence of them."""
    values = random.generator().random(_shape(size), "float32")
    return _drawn(values, _or(dtype, "float32"), **settings)


def randn(*size: Any, dtype: Any = None, **settings: Any) -> Tensor:
    """Standard normal random numbers of shape ``size``, ints or one sequence of them."""
    values = random.generator().standard_normal(_shape(size))
    return _drawn(values, _or(dtype, "float32"), **settings)


def randint(low: int, high: Any, size: Any = None, dtype: Any = None, **settings: Any) -> Tensor:
    """Random ints from ``low`` up to but excluding ``high``: ``randint(high, size)`` or
    ``randint(low, high, size)``.
    """
    low, high, size = (0, low, high) if size is None else (low, high, size)
    first, stop = check_int("low", low, -(2**63)), check_int("high", high, -(2**63))
    if first >= stop:
        raise ArgumentError(f"randint: low={low}, high={high}: expected low < high")
    values = random.generator().integers(first, stop, _shape((size,)))
    return _drawn(values, _or(dtype, "int64"), **settings)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, **settings: Any) -> Tensor:
    """Normal random numbers; of the shape of ``mean`` and ``std`` unless ``size`` is given."""
    if size is None:
        both = Tensor.of(mean + std)
        size, settings = both.shape, {"device": both.backend, **settings}
    return randn(size, **settings) * std + mean


def bernoulli(input: Any, p: float | None = None) -> Tensor:
    """1 with the probability in each element of ``input`` (or ``p`` for all), else 0."""
    input = Tensor.of(input)
    chance = input.detach() if p is None else check_number("p", p, 0, 1)
    return (rand_like(input) < chance).astype(input.dtype)


def multinomial(input: Any, num_samples: int, replacement: bool = False) -> Tensor:
    """Indices drawn in proportion to the weights in each row of ``input``; on the host.

    Parameters
    ----------
    input : (W,) or (N, W)
        Weights >= 0.
    num_samples
        Indices for each row.
    replacement
        Whether an index can be drawn again.

    Returns
    -------
    Tensor (num_samples,) or (N, num_samples), int64

    Raises
    ------
    ArgumentError
        Weights that are negative or all 0, or too few for the samples.
    """
    weights = Tensor.of(input)
    count = check_int("num_samples", num_samples)
    again, table = check_flag("replacement", replacement), weights.numpy().astype("float64")
    is_table = table.ndim in (1, 2) and table.shape[-1]
    rows = table.reshape(-1, table.shape[-1]) if is_table else table.reshape(1, -1)
    enough = not rows.size or ((rows > 0).sum(1) >= (1 if again else count)).all()
    if not is_table or not enough or not (rows >= 0).all():
        raise ArgumentError(
            f"multinomial: input has shape {weights.shape}, num_samples={count}: expected (W,) or "
            f"(N, W), weights >= 0, of which at least {1 if again else count} are > 0 in each row"
        )
    first = (random.part(len(rows)) or (0,))[0] if table.ndim == 2 else 0
    key, drawn = random.next_key(), []  # a generator for each row: its draws depend on the weights
    for number, row in enumerate(rows, first):
        choose = random.of_row(key, number).choice
        drawn.append(choose(len(row), count, again, row / row.sum()))
    shape = (*table.shape[:-1], count)
    return as_tensor(drawn, "int64", weights.backend).reshape(shape)


def randperm(n: int, dtype: Any = None, **settings: Any) -> Tensor:
    """The ints below ``n`` in random order."""
    count = check_int("n", n, 0)
    check_size("n", n, (count,))
    values = random.generator().permutation(count)
    return _drawn(values, _or(dtype, "int64"), **settings)


# -- like another tensor -------------------------------------------------------------------


def _like(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def function(
        input: Any, *arguments: Any, dtype: Any = None, device: Any = None, **settings: Any
    ) -> Tensor:
        like = Tensor.of(input)
        shape, where = like.shape, like.backend if device is None else device
        order = (*arguments, shape) if make is randint else (shape, *arguments)
        return make(*order, dtype=_or(dtype, like.dtype), device=where, **settings)

    function.__name__ = function.__qualname__ = f"{make.__name__}_like"
    function.__doc__ = f""":func:`{make.__name__}` with the shape, dtype and device of ``input``."""
    return function


empty_like, zeros_like, ones_like, full_like = map(_like, (empty, zeros, ones, full))
rand_like, randn_like, randint_like = map(_like, (rand, randn, randint))
