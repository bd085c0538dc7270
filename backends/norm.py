"""Normalisation in plain ``xp``: :meth:`Backend.normalize` and its backward pass.

Arrays are (A, K, P, N): A groups of K rows of P pixels, whose elements share a weight, and N lanes.
Each lane of a group has a mean and a variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..arrays import Array, sum_dtype

_INNER_LOOP = 256  # length at which the overhead of NumPy's inner loops is small


class Running(NamedTuple):
    """Running statistics (A,), float arrays that a training step updates in place."""

    mean: Array
    var: Array
    momentum: Any = 0.0  # a number, or a 0-d array

    def update(self, mean: Array, var: Array, size: int) -> None:
        """Average with those of a batch, (A, ...), over its lanes; ``size`` elements each."""
        for old, new in ((self.mean, mean), (self.var, var * (size / (size - 1)))):
            old *= 1 - self.momentum
            old += self.momentum * new.reshape(len(new), -1).mean(axis=1)


class Statistics(NamedTuple):
    """Of each lane of each group, (A, 1, 1, lanes), at least float32.

    ``mean`` + ``rest`` is exact beyond the precision of the input; ``scale`` is 1 / standard
    deviation.
    """

    mean: Array
    rest: Array
    scale: Array


def normalize(
    backend: Any,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    running: Running | None,
    fixed: bool,
    residual: Array | None,
    relu: bool,
    ceiling: float,
) -> tuple[Array, Statistics]:
    """See :meth:`Backend.normalize`."""
    xp, rows, dtype = backend.xp, _in_long_rows(x), sum_dtype(x.dtype)
    weight, bias = _as_rows(weight, dtype), _as_rows(bias, dtype)
    residual = None if residual is None else residual.reshape(rows.shape)
    shape = len(x), 1, 1, rows.shape[3]
    if fixed and running is not None:  # copies: training updates them
        mean, var = (a.astype(dtype).reshape(len(x), 1, 1, 1) for a in running[:2])
        mean, var = (xp.broadcast_to(a, shape) for a in (mean, var))
    else:
        mean, var = xp.empty(shape, dtype), xp.empty(shape, dtype)
    rest, y = xp.zeros(shape, dtype), xp.empty(rows.shape, x.dtype)

    def compute(part: slice) -> None:
        for piece in _pieces(backend, rows, part):
            statistics = mean[piece], rest[piece], var[piece]
            if fixed:
                centred = rows[piece] - mean[piece]
            else:
                centred = _centred(backend, rows[piece], *statistics, x.shape[3])
            scale = 1 / xp.sqrt(var[piece] + eps)
            if weight is not None:
                scale = scale * _weights_of(weight, piece)
            centred *= scale
            offset = rest[piece] * scale
            if bias is not None:
                offset = offset - _weights_of(bias, piece)
            xp.subtract(centred, offset, out=y[piece])
            if residual is not None:
                y[piece] += residual[piece]
            if relu:
                xp.maximum(y[piece], 0, out=y[piece])
            if relu and ceiling < math.inf:
                xp.minimum(y[piece], ceiling, out=y[piece])

    backend.each(compute, backend.channels(rows))
    if running is not None and not fixed and x.size:
        running.update(mean + rest, var, math.prod(x.shape[1:3]))
    return y.reshape(x.shape), Statistics(mean, rest, 1 / xp.sqrt(var + eps))


def normalize_backward(
    backend: Any,
    dy: Array,
    x: Array,
    y: Array | None,
    statistics: Statistics,
    weight: Array | None,
    fixed: bool,
    with_residual: bool,
    with_dx: bool,
    ceiling: float,
) -> tuple[Array | None, Array, Array, Array | None]:
    """See :meth:`Backend.normalize_backward`."""
    xp, shape = backend.xp, x.shape
    inner = statistics.mean.shape[3]
    repeats = inner // shape[3] if shape[3] else 1
    x = x.reshape(*shape[:2], shape[2] // repeats, inner)
    dy = dy.reshape(x.shape)
    weight = _as_rows(weight, statistics.mean.dtype)
    dx = xp.empty_like(x) if with_dx else None
    dweight, dbias = (xp.empty(shape[:2], statistics.mean.dtype) for _ in range(2))
    dresidual = dy
    if y is not None:
        y = y.reshape(x.shape)
        dresidual = xp.empty_like(dy) if with_residual else None

    def compute(part: slice) -> None:
        for piece in _pieces(backend, x, part):
            d = dy[piece]
            if y is not None:
                out = None if dresidual is None else dresidual[piece]
                passes = y[piece] > 0
                if ceiling < math.inf:
                    passes &= y[piece] < ceiling
                d = xp.multiply(d, passes, out=out)
            mean, rest, scale = (a[piece] for a in statistics)
            centred = x[piece] - mean
            bias_sums = _sums(backend, 2, d, None, shape[3])
            weight_sums = (_sums(backend, 2, d, centred, shape[3]) - rest * bias_sums) * scale
            for sums, out in ((bias_sums, dbias), (weight_sums, dweight)):
                out[piece] = sums.sum(axis=(2, 3)) / repeats
            if dx is None:
                continue
            own = None if weight is None else _weights_of(weight, piece)
            if fixed:
                xp.multiply(d, scale if own is None else scale * own, out=dx[piece])
                continue
            factor = scale
            if own is not None and own.shape[1] > 1:  # each row of a group has a weight
                d, bias_sums, weight_sums = d * own, bias_sums * own, weight_sums * own
            elif own is not None:
                factor = scale * own
            size = max(1, math.prod(shape[1:3]))
            slope = weight_sums.sum(axis=1, keepdims=True) * scale / size
            centred *= slope
            centred += bias_sums.sum(axis=1, keepdims=True) / size - rest * slope
            xp.subtract(d, centred, out=centred)
            xp.multiply(centred, factor, out=dx[piece])

    backend.each(compute, backend.channels(x))
    return (
        None if dx is None else dx.reshape(shape),
        dweight,
        dbias,
        dresidual.reshape(shape) if with_residual else None,
    )


def moments(backend: Any, x: Array) -> Array:
    """See :meth:`Backend.moments`."""
    xp, dtype = backend.xp, sum_dtype(x.dtype)
    mean, rest, var = xp.zeros((3, len(x), 1, 1, 1), dtype)

    def compute(part: slice) -> None:
        for piece in _pieces(backend, x, part):
            _centred(backend, x[piece], mean[piece], rest[piece], var[piece], 1)

    backend.each(compute, backend.channels(x))
    return summed_moments(xp, math.prod(x.shape[1:]), mean.astype("float64") + rest, var)


def summed_moments(xp: Any, count: Any, mean: Array, var: Array) -> Array:
    """The numbers, their sum and the sum of their squares, (3, A, parts) added to (3, A)."""
    mean, var = (a.astype("float64").reshape(len(mean), -1) for a in (mean, var))
    counts = xp.zeros_like(mean) + count
    return xp.stack([counts, counts * mean, counts * (var + mean * mean)]).sum(axis=2)


def _in_long_rows(x: Array) -> Array:
    """(A, K, P, N) as (A, K, P / repeats, repeats * N), where N is short but not 1.

    NumPy's inner loops run over the last axis.
    """
    groups, rows, pixels, lanes = x.shape
    limit = min(_INNER_LOOP // lanes, pixels) if lanes > 1 else 1
    repeats = next(n for n in range(max(1, limit), 0, -1) if pixels % n == 0)
    return x.reshape(groups, rows, pixels // repeats, repeats * lanes)


def _as_rows(weight: Array | None, dtype: Any) -> Array | None:
    """``weight`` (A or 1, K or 1) with two more axes."""
    return None if weight is None else weight.astype(dtype, copy=False)[:, :, None, None]


def _centred(backend: Any, x: Array, mean: Array, rest: Array, var: Array, lanes: int) -> Array:
    """``x`` - ``mean``, a new array; fills mean, rest and var.

    ``mean`` is that of an eighth of the group, which is near: rest² < 8 var for any values.
    ``rest`` is the mean of the new array, so that mean + rest is exact beyond the precision of x,
    and var its mean square less rest², with no loss where the mean is large.
    """
    xp = backend.xp
    groups, rows, inner = len(x), x.shape[1] * x.shape[2], x.shape[3]
    repeats = inner // lanes if lanes else 1
    some = -(-rows // 8)
    part = x.reshape(groups, 1, rows, inner)[:, :, :some]
    xp.divide(_sums(backend, 1, part, None, lanes), max(1, some * repeats), out=mean)
    centred, size = x - mean, max(1, rows * repeats)
    xp.divide(_sums(backend, 1, centred, None, lanes), size, out=rest)
    xp.divide(_sums(backend, 1, centred, centred, lanes), size, out=var)
    var -= rest * rest
    xp.maximum(var, 0, out=var)  # rounding can make it negative
    return centred


def _sums(backend: Any, kept: int, a: Array, b: Array | None, lanes: int) -> Array:
    """Sums of a, or of a * b, (A, K, P, inner), over P and, if one axis is ``kept``, over K.

    Each lane's sum is repeated as often as the lane is in the inner axis.
    """
    shape, length = a.shape[:kept], math.prod(a.shape[kept:3])
    count, inner = math.prod(shape), a.shape[3]
    if inner == 1 and length > 1:
        other = None if b is None else b.reshape(count, length)
        sums = backend.row_sums(a.reshape(count, length), other)
    else:
        terms = a if b is None else a * b
        sums = backend.column_sums(terms.reshape(count, length, inner))
    sums = sums.reshape(*shape, *[1] * (3 - kept), inner)
    if inner == lanes:
        return sums
    parts = *sums.shape[:3], inner // lanes, lanes
    totals = sums.reshape(parts).sum(axis=3, keepdims=True)
    return backend.xp.broadcast_to(totals, parts).reshape(sums.shape)


def _pieces(backend: Any, x: Array, part: slice) -> Iterator[slice]:
    """Slices of ``part``, a few groups each, that stay in the cache between passes."""
    step = max(1, backend.norm_piece // max(1, math.prod(x.shape[1:])))
    for start in range(part.start, part.stop, step):
        yield slice(start, min(start + step, part.stop))


def _weights_of(weight: Array, piece: slice) -> Array:
    """The weights of a slice of the groups."""
    return weight[piece] if len(weight) > 1 else weight
