"""Normalisation: batch, layer, group, instance, root mean square and local response.

The first four subtract the mean and divide by the standard deviation of different groups of
numbers; one Function computes them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import backends
from ..arrays import Array, in_range, sum_dtype
from ..backends import Backend, Running, Statistics
from ..checks import check_flag, check_int, check_number, check_shape, is_int
from ..communicator import Communicator
from ..errors import ArgumentError, DeviceError, DTypeError, ShapeError
from ..layout import batch_first, batch_last, to_batch_last
from ..tensor import Function, Tensor, operation
from .arithmetic import sum_to
from .shape import reshape

# fmt: off
__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm",
    "rms_norm",
]
# fmt: on


@dataclass(frozen=True)
class Groups:
    """How a batch-last array is divided into groups, each with a mean and a variance.

    Attributes
    ----------
    shape : (A, K, P)
        The array without the batch: A groups of K rows; the P elements of a row share a weight.
    weights : (A or 1, K or 1)
        The shape of the weights; 1 where all groups or rows share one.
    across_batch
        Whether a group spans the whole batch instead of one example.
    """

    shape: tuple[int, int, int]
    weights: tuple[int, int]
    across_batch: bool = False

    def rows(self, batch: int) -> tuple[int, int, int, int]:
        """(A, K, P, N) with N the batch, or with the batch among the pixels."""
        groups, rows, pixels = self.shape
        return (groups, rows, pixels * batch, 1) if self.across_batch else (*self.shape, batch)


class Normalize(Function):
    """See :func:`batch_norm`, :func:`layer_norm`, :func:`group_norm`, :func:`instance_norm`.

    With ``fixed``, uses the running statistics instead of those of the input.
    """

    arguments = ("input", "weight", "bias", "residual")
    new_gradients = ("weight", "bias")

    def __init__(
        self,
        groups: Groups,
        eps: float,
        running: Running | None = None,
        fixed: bool = False,
        relu: bool = False,
        ceiling: float = math.inf,
    ) -> None:
        self.groups = groups
        self.eps = eps
        self.running = running
        self.fixed = fixed
        self.relu = relu
        self.ceiling = ceiling

    def forward(
        self,
        backend: Backend,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        residual: Array | None = None,
    ) -> Array:
        rows = self._batch_last(backend, x)
        self.memory = rows.shape
        self.shape = self.groups.rows(len(x))
        self.weight_shapes = [None if a is None else a.shape for a in (weight, bias)]
        rows, eps = rows.reshape(self.shape), self.eps
        if residual is not None:
            residual = self._batch_last(backend, residual).reshape(self.shape)
        weight, bias = self._as_rows(weight), self._as_rows(bias)
        if eps >= 0:  # 0 would divide 0 by 0
            eps = in_range(backend.xp, eps, sum_dtype(x.dtype))
        settings = residual, self.relu, self.ceiling
        y, statistics = self._normalize(backend, rows, weight, bias, eps, *settings)
        self.save(x=rows, y=y if self.relu else None, statistics=statistics, weight=weight)
        return self._batch_first(backend, y)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        needs = self.needs_grad
        dy = self._batch_last(backend, dy).reshape(self.shape)
        with_residual = len(needs) > 3 and needs[3]
        dx, dweight, dbias, dresidual = self._gradients(backend, dy, with_residual)
        return (
            None if dx is None else self._batch_first(backend, dx),
            self._shared(dweight, self.weight_shapes[0]) if needs[1] else None,
            self._shared(dbias, self.weight_shapes[1]) if needs[2] else None,
            *([self._batch_first(backend, dresidual)] if with_residual else []),
        )

    def _normalize(
        self, backend: Backend, x: Array, weight: Any, bias: Any, eps: float, *settings: Any
    ) -> tuple[Array, Statistics]:
        """:meth:`Backend.normalize` with the running statistics."""
        return backend.normalize(x, weight, bias, eps, self.running, self.fixed, *settings)

    def _gradients(self, backend: Backend, dy: Array, with_residual: bool) -> tuple[Any, ...]:
        """:meth:`Backend.normalize_backward` of what was saved."""
        saved, settings = self.saved, (with_residual, self.needs_grad[0], self.ceiling)
        arrays = saved.x, saved.y, saved.statistics, saved.weight
        return backend.normalize_backward(dy, *arrays, self.fixed, *settings)

    def _as_rows(self, weight: Array | None) -> Array | None:
        """``weight`` as (A or 1, K or 1)."""
        return None if weight is None else weight.reshape(self.groups.weights)

    def _shared(self, gradient: Array, shape: Any) -> Array:
        """The gradient (A, K) of a weight of ``shape``, summed over groups that share it."""
        return sum_to(gradient, self.groups.weights).reshape(shape)

    def _batch_last(self, backend: Backend, x: Array) -> Array:
        is_volume = x.ndim == 5 and self.groups.shape[2] > 1  # whose pixels may be in any order
        return (batch_last if is_volume else to_batch_last)(backend.xp, x, *["NCDHW"][:is_volume])

    def _batch_first(self, backend: Backend, rows: Array) -> Array:
        y = rows.reshape(self.memory)
        if y.ndim == 5 and self.groups.shape[2] > 1:
            return batch_first(y, "NCDHW")
        return backend.xp.moveaxis(y, -1, 0)


class SyncNormalize(Normalize):
    """:func:`batch_norm` with the statistics of the batches of all processes together.

    Each channel's count, sum and sum of squares are added up, in float64; in backward the sums of
    the gradient, and of its product with the normalised input.
    """

    def __init__(self, communicator: Communicator, *settings: Any) -> None:
        super().__init__(*settings)
        self.communicator = communicator

    def _normalize(
        self, backend: Backend, x: Array, weight: Any, bias: Any, eps: float, *settings: Any
    ) -> tuple[Array, Statistics]:
        xp, dtype = backend.xp, sum_dtype(x.dtype)
        moments = backend.moments(x)
        self.communicator.all_reduce(moments)
        self.count = xp.maximum(moments[0], 1)
        mean, square = moments[1:] / self.count
        var = xp.maximum(square - mean * mean, 0)
        if self.running is not None:
            rate = self.running.momentum * (moments[0] > 0)
            unbiased = var * (self.count / xp.maximum(self.count - 1, 1))
            for old, new in ((self.running.mean, mean), (self.running.var, unbiased)):
                old += (rate * (new - old)).astype(old.dtype)
        given = Running(mean.astype(dtype), var.astype(dtype))
        rest = (mean - given.mean)[:, None]  # lost by rounding, which the bias makes up for
        offset = -rest / xp.sqrt(var + eps)[:, None]
        offset = offset if weight is None else offset * weight
        bias = (offset if bias is None else offset + bias).astype(x.dtype)
        y, statistics = backend.normalize(x, weight, bias, eps, given, True, *settings)
        statistics.rest[...] = rest[..., None, None]
        return y, statistics

    def _gradients(self, backend: Backend, *arrays: Any) -> tuple[Any, ...]:
        """Those of the process's own statistics, corrected by what the others change."""
        dx, dweight, dbias, dresidual = super()._gradients(backend, *arrays)
        if dx is None:
            return dx, dweight, dbias, dresidual
        xp, x, weight = backend.xp, self.saved.x, self.saved.weight
        mean, rest, scale = self.saved.statistics
        own = xp.stack([dweight, dbias]).astype("float64")  # (2, C, 1)
        sums = own.copy()
        self.communicator.all_reduce(sums)
        factor = scale[..., 0, 0]
        excess = own / max(1, x[0].size) - sums / self.count[:, None]
        excess *= factor if weight is None else factor * weight
        slope = excess[0] * factor
        offset = excess[1] - rest[..., 0, 0] * slope
        slope, offset = (a.reshape(mean.shape).astype(mean.dtype) for a in (slope, offset))

        def correct(part: slice) -> None:
            change = x[part] - mean[part]
            change *= slope[part]
            change += offset[part]
            dx[part] += change.astype(dx.dtype, copy=False)

        backend.each(correct, backend.channels(x))
        return dx, dweight, dbias, dresidual


def _normalized(
    input: Tensor,
    weight: Any,
    bias: Any,
    shape: tuple[int, ...],
    groups: Groups,
    eps: float,
    running: Running | None = None,
    fixed: bool = False,
    residual: Any = None,
    relu: bool = False,
    ceiling: float = math.inf,
    kind: Callable[..., Normalize] = Normalize,
) -> Tensor:
    """Normalise, with weight and bias of ``shape``."""
    _of_shape("weight", weight, shape)
    _of_shape("bias", bias, shape)
    normalize = kind(groups, check_number("eps", eps), running, fixed, relu, ceiling)
    if residual is None:
        return normalize(input, weight, bias)
    return normalize(input, weight, bias, _of_shape("residual", residual, input.shape))


def _of_shape(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """A weight or bias, which must have ``shape`` if there is one."""
    if value is not None and tuple(Tensor.of(value).shape) != shape:
        raise ShapeError(f"{name} has shape {Tensor.of(value).shape}: expected {shape}")
    return value


def _last(input: Tensor, shape: Any) -> tuple[int, ...]:
    """``normalized_shape`` as a tuple, which the last axes of the input must have."""
    last = check_shape("normalized_shape", shape)
    if tuple(input.shape[-len(last) :]) != last:
        raise ShapeError(f"input has shape {input.shape}: expected its last axes to be {last}")
    return last


def _channels(input: Tensor, axes: Any, expected: str) -> int:
    """The number of channels of an input, after a check of its number of axes."""
    if input.ndim not in axes:
        raise ShapeError(f"input has shape {input.shape}: expected {expected}")
    return input.shape[1]


def _running(input: Tensor, mean: Any, var: Any, momentum: Any) -> Running | None:
    """Check the running statistics, and return their arrays."""
    if (mean is None) != (var is None):
        raise ArgumentError("running_mean and running_var: expected both or neither")
    if backends.find(momentum) is None:  # an array is 1 / the count of batches, from BatchNorm
        check_number("momentum", momentum)
    if mean is None:
        return None
    arrays = []
    for name, value in (("running_mean", mean), ("running_var", var)):
        array = Tensor.of(value).data
        if array.shape != input.shape[1:2]:
            raise ShapeError(f"{name} has shape {array.shape}: expected {input.shape[1:2]}")
        if array.dtype.kind != "f":
            raise DTypeError(f"{name} is {array.dtype}: expected floats, which are updated")
        if backends.of(array) is not input.backend:
            raise DeviceError(
                f"{name} is on {backends.of(array).device}, input on {input.device}; move the "
                f'module that owns it with .to("{input.device}")'
            )
        arrays.append(array)
    return Running(arrays[0], arrays[1], momentum)


@operation
def batch_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Any = None,
    relu: bool = False,
    ceiling: float = math.inf,
    communicator: Communicator | None = None,
) -> Tensor:
    """Normalise each channel to mean 0 and variance 1 over the batch and all pixels.

    y = (x - mean) / sqrt(var + eps) * weight + bias, with each channel's mean and var: those of
    the batch (biased variance) in training, else the running ones.

    In training the running statistics are updated in place, running = (1 - momentum) * running +
    momentum * batch, with the unbiased variance (divided by the count - 1), unless the batch is
    empty.

    Parameters
    ----------
    input : (N, C) or (N, C, ...)
    running_mean, running_var : (C,), or both None
        Arrays or Tensors. Needed unless ``training``.
    weight, bias : (C,), or None
    training
        Whether to use the statistics of the batch.
    momentum
        The weight of the batch in the running statistics, 0 to 1 as a rule.
    eps
        Added to the variance.
    residual
        Of the input's shape: added to y, in one pass; or None.
    relu
        Return max(y, 0), computed in the same pass.
    ceiling
        With ``relu``, the largest output: 6 for ReLU6. The gradient there is 0.
    communicator
        In training, the statistics are those of the batches of all its processes together, which
        must all call this and its backward pass; None: of this process's. See
        :class:`xcnn.nn.SyncBatchNorm`.

    Returns
    -------
    Tensor
        Of the input's shape.

    Raises
    ------
    ShapeError
        Axes, weights or statistics do not match; or a single value per channel in training.
    ArgumentError
        No running statistics to use, or a setting is out of range.
    DeviceError
        The running statistics are on another device.

    References
    ----------
    Ioffe & Szegedy 2015, "Batch normalization", arXiv:1502.03167.
    """
    input = Tensor.of(input)
    channels = _channels(input, range(2, 99), "(N, C) or (N, C, ...)")
    running = _running(input, running_mean, running_var, momentum)
    if not check_flag("training", training) and running is None:
        raise ArgumentError(
            "running_mean and running_var are None: they are needed unless training=True"
        )
    pixels = math.prod(input.shape[2:])
    kind: Callable[..., Normalize] = Normalize
    if training and communicator is not None and communicator.size > 1:
        kind = partial(SyncNormalize, communicator)
    elif training and len(input) * pixels == 1:
        raise ShapeError(
            f"input has shape {input.shape}: training needs more than one value per channel; "
            "use a larger batch, or eval()"
        )
    groups = Groups((channels, 1, pixels), (channels, 1), across_batch=True)
    limits = check_flag("relu", relu), check_number("ceiling", ceiling, 0, above=True)
    settings = eps, running, not training, residual, *limits
    return _normalized(input, weight, bias, (channels,), groups, *settings, kind=kind)


@operation
def layer_norm(
    input: Any,
    normalized_shape: int | tuple[int, ...] | list[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each example to mean 0 and variance 1 over its last axes.

    y = (x - mean) / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    input : (N, ..., *normalized_shape)
    normalized_shape
        Lengths of the axes to normalise over, the last ones; an int for one axis.
    weight, bias : normalized_shape, or None
    eps
        Added to the variance.

    Returns
    -------
    Tensor
        Of the input's shape.

    Raises
    ------
    ShapeError
        The last axes, weight or bias do not match.
    ArgumentError
        A setting is out of range.

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer normalization", arXiv:1607.06450.
    """
    input = Tensor.of(input)
    last = _last(input, normalized_shape)
    if input.ndim == len(last):  # the batch axis is normalised too: treat the input as one example
        one = layer_norm(reshape(input, 1, *last), last, weight, bias, eps)
        return reshape(one, *last)
    outer = math.prod(input.shape[1 : input.ndim - len(last)])
    groups = Groups((outer, math.prod(last), 1), (1, math.prod(last)))
    return _normalized(input, weight, bias, last, groups, eps)


class RMSNorm(Function):
    """See :func:`rms_norm`; ``axes`` are the last ones."""

    arguments = ("input", "weight")

    def __init__(self, ndim: int, eps: float | None) -> None:
        self.axes = tuple(range(-ndim, 0))
        self.eps = eps

    def forward(self, backend: Backend, x: Array, weight: Array | None) -> Array:
        xp, dtype = backend.xp, sum_dtype(x.dtype)
        wide = x.astype(dtype, copy=False)
        eps = float(xp.finfo(x.dtype).eps) if self.eps is None else self.eps
        scale = 1 / xp.sqrt(xp.mean(wide * wide, axis=self.axes, keepdims=True) + eps)
        self.save(x=wide, scale=scale, weight=weight)
        y = wide * scale
        return (y if weight is None else y * weight).astype(x.dtype, copy=False)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        """With g = dy * weight, dx = scale * (g - x * scale² * mean(g * x))."""
        xp, (x, scale, weight) = backend.xp, (self.saved.x, self.saved.scale, self.saved.weight)
        g = dy if weight is None else dy * weight
        mean = xp.mean(g * x, axis=self.axes, keepdims=True)
        dx = scale * (g - x * (scale * scale * mean))
        return dx, sum_to(dy * x * scale, weight.shape) if self.needs_grad[1] else None


@operation
def rms_norm(
    input: Any,
    normalized_shape: int | tuple[int, ...] | list[int],
    weight: Any = None,
    eps: float | None = None,
) -> Tensor:
    """Divide each example by its root mean square over its last axes.

    y = x / sqrt(mean(x²) + eps) * weight

    Parameters
    ----------
    input : (..., *normalized_shape)
    normalized_shape
        Lengths of the axes to average over, the last ones; an int for one axis.
    weight : normalized_shape, or None
    eps
        Added to the mean; default: the epsilon of the input's dtype.

    Returns
    -------
    Tensor
        Of the input's shape.

    Raises
    ------
    ShapeError
        The last axes or weight do not match.
    ArgumentError
        A setting is out of range.

    References
    ----------
    Zhang & Sennrich 2019, "Root mean square layer normalization", arXiv:1910.07467.
    """
    input = Tensor.of(input)
    last = _last(input, normalized_shape)
    eps = None if eps is None else check_number("eps", eps)
    return RMSNorm(len(last), eps)(input, _of_shape("weight", weight, last))


@operation
def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each group of channels of each example to mean 0 and variance 1.

    y = (x - mean) / sqrt(var + eps) * weight + bias, weight and bias per channel

    Parameters
    ----------
    input : (N, C, ...)
    num_groups
        Number of groups, of C / num_groups channels each.
    weight, bias : (C,), or None
    eps
        Added to the variance.

    Returns
    -------
    Tensor
        Of the input's shape.

    Raises
    ------
    ShapeError
        Weight or bias does not match; or a single example with one value per group.
    ArgumentError
        A setting is out of range, or ``num_groups`` does not divide the channels.

    References
    ----------
    Wu & He 2018, "Group normalization", arXiv:1803.08494.
    """
    input = Tensor.of(input)
    channels = _channels(input, range(2, 99), "(N, C, ...)")
    if not is_int(num_groups) or not 1 <= num_groups <= max(1, channels) or channels % num_groups:
        raise ArgumentError(
            f"num_groups={num_groups!r}: expected an int >= 1 that divides the {channels} channels"
        )
    group_channels, pixels = channels // num_groups, math.prod(input.shape[2:])
    if len(input) * group_channels * pixels == 1:
        raise ShapeError(
            f"input has shape {input.shape}: expected more than one value per group of channels"
        )
    groups = Groups((num_groups, group_channels, pixels), (num_groups, group_channels))
    return _normalized(input, weight, bias, (channels,), groups, eps)


@operation
def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each example to mean 0 and variance 1 over its pixels.

    y = (x - mean) / sqrt(var + eps) * weight + bias

    Running statistics, if given, are updated as in :func:`batch_norm`, with the means over the
    batch of mean and unbiased variance.

    Parameters
    ----------
    input : (N, C, ...), three axes or more
    running_mean, running_var : (C,), or both None
        Needed unless ``use_input_stats``.
    weight, bias : (C,), or None
    use_input_stats
        False: use the running statistics.
    momentum, eps
        As in :func:`batch_norm`.

    Returns
    -------
    Tensor
        Of the input's shape.

    Raises
    ------
    ShapeError
        Axes, weights or statistics do not match, or there is a single pixel.
    ArgumentError, DeviceError
        As :func:`batch_norm`.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky 2016, "Instance normalization", arXiv:1607.08022.
    """
    input = Tensor.of(input)
    channels = _channels(input, range(3, 99), "(N, C, ...) with three axes or more")
    if not check_flag("use_input_stats", use_input_stats):
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    running = _running(input, running_mean, running_var, momentum)
    pixels = math.prod(input.shape[2:])
    if pixels == 1:
        raise ShapeError(f"input has shape {input.shape}: expected more than one pixel")
    groups = Groups((channels, 1, pixels), (channels, 1))
    return _normalized(input, weight, bias, (channels,), groups, eps, running)


class LocalResponseNorm(Function):
    """See :func:`local_response_norm`."""

    arguments = ("input",)

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        self.before, self.after = size // 2, (size - 1) // 2
        self.rate = check_number("alpha", alpha) / size
        self.beta = check_number("beta", beta)
        self.k = check_number("k", k)

    def forward(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        rows = to_batch_last(xp, x)  # (C, ..., N)
        wide = rows.astype(sum_dtype(x.dtype), copy=False)
        base = _channel_sums(xp, wide * wide, self.before, self.after)
        base *= self.rate
        base += self.k
        power = xp.power(base, -self.beta)
        self.save(x=wide, base=base, power=power)
        y = xp.multiply(wide, power, out=xp.empty(rows.shape, x.dtype))
        return xp.moveaxis(y, -1, 0)

    def backward(self, backend: Backend, dy: Array) -> Array:
        """Each x contributes to its own y and to those of all neighbourhoods that contain it."""
        xp, x, power = backend.xp, self.saved.x, self.saved.power
        dy = to_batch_last(xp, dy)
        terms = dy * x
        terms *= power
        terms /= self.saved.base
        dx = _channel_sums(xp, terms, self.after, self.before)
        dx *= x
        dx *= -2 * self.rate * self.beta
        dx += dy * power
        return xp.moveaxis(dx, -1, 0)


def _channel_sums(xp: Any, x: Array, before: int, after: int) -> Array:
    """Sums of x (C, ...) over each channel and its neighbours before and after it."""
    channels, total = len(x), x.copy()
    for shift in range(1, min(before, channels - 1) + 1):
        total[shift:] += x[:-shift]
    for shift in range(1, min(after, channels - 1) + 1):
        total[:-shift] += x[shift:]
    return total


@operation
def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divide each value by a power of the mean square of its neighbours across channels.

    y[c] = x[c] / (k + alpha / size * sum over j of x[j]²)^beta, for channels j from
    c - size // 2 to c + (size - 1) // 2; missing channels count as zero.

    Parameters
    ----------
    input : (N, C, ...), three axes or more
    size
        Number of channels in a neighbourhood.
    alpha, beta, k
        As in the formula.

    Returns
    -------
    Tensor
        Of the input's shape.

    Raises
    ------
    ShapeError
        Fewer than three axes.
    ArgumentError
        ``size`` is not an int >= 1.

    References
    ----------
    Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural
    networks", section 3.3.
    """
    input = Tensor.of(input)
    _channels(input, range(3, 99), "(N, C, ...) with three axes or more")
    return LocalResponseNorm(check_int("size", size), alpha, beta, k)(input)
