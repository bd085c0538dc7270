"""Operations without a node of their own in ONNX: each is written as several others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import functional as F
from ...checks import check_dim, pair
from ...tensor import Tensor

_RANDOM = "it draws random numbers"

#: operations without a form in ONNX, and why
NO_FORM: dict[str, str] = {
    **dict.fromkeys(("fractional_max_pool2d", "fractional_max_pool3d", "gumbel_softmax"), _RANDOM),
    **dict.fromkeys(("allclose", "equal"), "its result is a bool of Python"),
    **dict.fromkeys(("copysign", "signbit"), "ONNX does not tell -0 from 0; use sign"),
    "isin": "compare with each value by ==",
}

# -- elementwise --------------------------------------------------------------------------------


def _atan2(input: Any, other: Any) -> Tensor:
    angle = F.atan(F.div(input, F.where(F.eq(other, 0), 1.0, other)))
    turn = F.where(F.lt(input, 0), F.sub(angle, math.pi), F.add(angle, math.pi))
    straight = F.mul(F.sign(input), math.pi / 2)
    return F.where(F.eq(other, 0), straight, F.where(F.lt(other, 0), turn, angle))


def _clamp(input: Any, min: Any, max: Any) -> Tensor:
    low = input if min is None else F.maximum(input, min)
    return low if max is None else F.minimum(low, max)


def _logaddexp(input: Any, other: Any) -> Tensor:
    difference = F.abs(F.sub(input, other))
    return F.add(F.maximum(input, other), F.log(F.add(F.exp(F.mul(difference, -1)), 1)))


def _div(input: Any, other: Any, rounding_mode: str) -> Tensor:
    if rounding_mode == "floor":
        return F.floor_divide(input, other)
    rest = F.fmod(input, other)
    return F.astype(F.div(F.sub(input, rest), other), rest.dtype)


def _isclose(input: Any, other: Any, rtol: float, atol: float, equal_nan: bool) -> Tensor:
    limit = F.add(F.mul(F.abs(other), rtol), atol)
    near = F.logical_and(F.le(F.abs(F.sub(input, other)), limit), F.isfinite(other))
    near = F.logical_or(near, F.eq(input, other))
    return F.logical_or(near, F.logical_and(F.isnan(input), F.isnan(other))) if equal_nan else near


def _logit(input: Any, eps: float | None) -> Tensor:
    x = input if eps is None else F.clamp(input, eps, 1 - eps)
    return F.log(F.div(x, F.sub(1, x)))


def _remainder(input: Any, other: Any) -> Tensor:
    """The sign of fmod is that of the input."""
    rest = F.fmod(input, other)
    differs = F.logical_and(F.ne(rest, 0), F.ne(F.lt(rest, 0), F.lt(other, 0)))
    return F.where(differs, F.add(rest, other), rest)


def _softplus(input: Any, beta: float, threshold: float) -> Tensor:
    scaled = F.mul(input, beta)
    curve = F.div(F.softplus(F.clamp(scaled, max=threshold)), beta)
    return F.where(F.gt(scaled, threshold), input, curve)


# -- reductions, sorting ------------------------------------------------------------------------


def _of_nonzero(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A reduction of whether each element is nonzero."""

    def of_nonzero(input: Any, dim: Any, keepdim: bool) -> Tensor:
        y = reduce(F.astype(F.ne(input, 0), "int64"), dim, keepdim)
        return y if reduce is F.sum else F.ne(y, 0)

    return of_nonzero


def _moment(root: bool, with_mean: bool) -> Callable[..., Any]:
    def moment(input: Any, dim: Any, unbiased: bool, keepdim: bool, correction: Any) -> Any:
        axes, flag = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
        centred = F.sub(input, F.mean(input, axes, keepdim=True))
        y = F.mean(F.square(centred), axes, keepdim)
        count = Tensor.of(input).numel() // max(1, y.numel())
        rest = count - (int(flag) if correction is None else correction)
        y = y if rest == count else F.mul(y, count / rest if rest > 0 else math.inf)
        y = F.sqrt(y) if root else y
        return (y, F.mean(input, axes, keepdim)) if with_mean else y

    return moment


def _nanmean(input: Any, dim: Any, keepdim: bool, dtype: Any) -> Tensor:
    numbers = F.sum(F.logical_not(F.isnan(input)), dim, keepdim)
    return F.div(F.nansum(input, dim, keepdim, dtype=dtype), numbers)


def _norm(input: Any, p: Any, dim: Any, keepdim: bool, dtype: Any) -> Tensor:
    x = Tensor.of(input if dtype is None else F.astype(input, dtype))
    p = 2 if p in (None, "fro") else p
    if p in (1, 2):
        return F.norm(x, p, dim, keepdim)
    if p == 0:
        return F.astype(F.count_nonzero(x, dim, keepdim), x.dtype)
    if math.isinf(p):
        return (F.amax if p > 0 else F.amin)(F.abs(x), dim, keepdim)
    return F.pow(F.sum(F.pow(F.abs(x), p), dim, keepdim), 1 / p)


def _kthvalue(input: Any, k: int, dim: int, keepdim: bool) -> Any:
    values, indices = F.topk(input, k, dim, largest=False)
    axis = check_dim("dim", dim, values.ndim)
    last = [F.narrow(t, axis, k - 1, 1) for t in (values, indices)]
    return tuple(last if keepdim else (F.squeeze(t, axis) for t in last))


def _median(input: Any, dim: Any, keepdim: bool) -> Any:
    x = Tensor.of(input)
    if dim is None:
        y = _kthvalue(F.reshape(x, -1), (x.numel() + 1) // 2, 0, False)[0]
        return F.reshape(y, (1,) * x.ndim) if keepdim else y
    return _kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def _extreme(reduce: Any, position: Any, pairwise: Any) -> Callable[..., Any]:
    def extreme(input: Any, dim: Any, keepdim: bool, other: Any) -> Any:
        if other is not None or hasattr(dim, "shape"):
            return pairwise(input, dim if other is None else other)
        y = reduce(input, dim, keepdim)
        return y if dim is None else (y, position(input, dim, keepdim))

    return extreme


def _position(position: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def of_all(input: Any, dim: None, keepdim: bool) -> Tensor:
        y = position(F.reshape(input, -1), 0)
        return F.reshape(y, (1,) * Tensor.of(input).ndim) if keepdim else y

    return of_all


# -- shapes and indices ---------------------------------------------------------------------------


def _diag(input: Any, diagonal: int) -> Tensor:
    x = Tensor.of(input)
    if x.ndim == 2:
        return F.diagonal(x, diagonal)
    x = F.pad(x, (max(diagonal, 0), max(-diagonal, 0)))
    return F.where(np.eye(len(x), k=diagonal, dtype=bool), F.unsqueeze(x, 0), 0.0)


def _sliding_windows(input: Any, dimension: int, size: int, step: int) -> Tensor:
    x = Tensor.of(input)
    axis = check_dim("dimension", dimension, x.ndim)
    starts = np.arange(0, x.shape[axis] - size + 1, step)
    y = x[(*(slice(None),) * axis, starts[:, None] + np.arange(size))]
    return F.movedim(y, axis + 1, -1)


# -- images -------------------------------------------------------------------------------------


def _elements(channels: int, kernel: Any, dtype: Any) -> tuple[Any, int]:
    """Filters (C·K, 1, kH, kW) that pick one element of the kernel each, and their number K."""
    count = math.prod(kernel)
    one = np.eye(count, dtype=str(dtype)).reshape(count, 1, *kernel)
    return np.tile(one, (channels, 1, 1, 1)), count


def _unfold(input: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Tensor:
    x, kernel = Tensor.of(input), pair(kernel_size, "kernel_size")
    filters, _ = _elements(x.shape[1], kernel, x.dtype)
    y = F.conv2d(x, filters, None, stride, padding, dilation, x.shape[1])
    return F.flatten(y, 2)


def _fold(
    input: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Tensor:
    x, kernel = Tensor.of(input), pair(kernel_size, "kernel_size")
    rest = zip(
        pair(output_size, "output_size"),
        kernel,
        pair(dilation, "dilation"),
        pair(padding, "padding", 0),
        pair(stride, "stride"),
        strict=True,
    )
    rooms = [(n + 2 * p - d * (k - 1) - 1, s) for n, k, d, p, s in rest]
    channels = x.shape[1] // math.prod(kernel)
    filters, _ = _elements(channels, kernel, x.dtype)
    columns = F.reshape(x, (*x.shape[:2], *(room // s + 1 for room, s in rooms)))
    extra: Any = tuple(room % s for room, s in rooms)
    return F.conv_transpose2d(columns, filters, None, stride, padding, extra, channels, dilation)


def _lp_pool(average: Callable[..., Tensor], ndim: int) -> Callable[..., Tensor]:
    def pool(
        input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool, *format: Any
    ) -> Tensor:
        sizes = kernel_size if isinstance(kernel_size, Sequence) else (kernel_size,) * ndim
        means = average(
            F.pow(input, norm_type), kernel_size, stride, 0, ceil_mode, True, None, *format
        )
        return F.pow(F.mul(means, math.prod(sizes)), 1 / norm_type)

    return pool


def _max_unpool(ndim: int) -> Callable[..., Tensor]:
    def unpool(
        input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
    ) -> Tensor:
        x = Tensor.of(input)
        unpooled = getattr(F, f"max_unpool{ndim}d")
        size = unpooled(x.data, indices, kernel_size, stride, padding, output_size).shape[2:]
        values, places = F.flatten(x, 2), F.flatten(indices, 2)
        zero = F.where(np.array(True), 0.0, values[:, :, :1])
        zeros = F.expand(zero, (*x.shape[:2], math.prod(size)))
        return F.reshape(F.scatter(zeros, 2, places, values), (*x.shape[:2], *size))

    return unpool


def _rms_norm(input: Any, normalized_shape: Any, weight: Any, eps: float | None) -> Tensor:
    x = Tensor.of(input)
    count = len(normalized_shape) if isinstance(normalized_shape, Sequence) else 1
    eps = float(np.finfo(str(x.dtype)).eps) if eps is None else eps
    mean = F.mean(F.square(x), tuple(range(-count, 0)), keepdim=True)
    y = F.div(x, F.sqrt(F.add(mean, eps)))
    return y if weight is None else F.mul(y, weight)


#: operations that are written as those that they call
_COMPOSED = (
    "addcdiv", "addcmul", "affine_grid", "argsort", "bilinear", "bmm", "cdist", "channel_shuffle",
    "clamp_max", "clamp_min", "cosine_similarity", "deg2rad", "diagonal", "dot", "fmax",
    "fmin", "frac", "glu", "lerp", "masked_select", "mm", "mv", "nan_to_num", "nansum", "normalize",
    "one_hot", "outer", "pairwise_distance", "pdist", "pixel_unshuffle", "rad2deg",
    "repeat_interleave", "round", "rrelu", "rsqrt", "scaled_dot_product_attention", "softmin",
    "threshold", "upsample_bilinear", "upsample_nearest",
)  # fmt: skip
#: by operation: its form in other operations; None: those that it calls
PARTS: dict[str, Callable[..., Any] | None] = {
    **dict.fromkeys(_COMPOSED),
    "all": _of_nonzero(F.amin),
    "any": _of_nonzero(F.amax),
    "argmax": _position(F.argmax),
    "argmin": _position(F.argmin),
    "atan2": _atan2,
    "clamp": _clamp,
    "count_nonzero": _of_nonzero(F.sum),
    "diag": _diag,
    "erfc": lambda x: F.sub(1, F.erf(x)),
    "exp2": lambda x: F.pow(2.0, x),
    "expm1": lambda x: F.sub(F.exp(x), 1),
    "div": _div,
    "floor_divide": lambda x, other: F.round(F.div(F.sub(x, F.remainder(x, other)), other)),
    "fold": _fold,
    "hypot": lambda a, b: F.sqrt(F.add(F.mul(a, a), F.mul(b, b))),
    "isclose": _isclose,
    "isneginf": lambda x: F.eq(x, -math.inf),
    "isposinf": lambda x: F.eq(x, math.inf),
    "logaddexp": _logaddexp,
    "isfinite": lambda x: F.logical_not(F.logical_or(F.isnan(x), F.isinf(x))),
    "log10": lambda x: F.mul(F.log(x), 1 / math.log(10)),
    "log1p": lambda x: F.log(F.add(x, 1)),
    "log2": lambda x: F.mul(F.log(x), 1 / math.log(2)),
    "logit": _logit,
    "logsigmoid": lambda x: F.neg(F.softplus(F.neg(x))),
    "max": _extreme(F.amax, F.argmax, F.maximum),
    "median": _median,
    "min": _extreme(F.amin, F.argmin, F.minimum),
    "nanmean": _nanmean,
    "ne": lambda x, other: F.logical_not(F.eq(x, other)),
    "norm": _norm,
    "remainder": _remainder,
    "rms_norm": _rms_norm,
    "silu": lambda x, *_: F.mul(x, F.sigmoid(x)),
    "sliding_windows": _sliding_windows,
    "softplus": _softplus,
    "square": lambda x: F.mul(x, x),
    "std": _moment(True, False),
    "std_mean": _moment(True, True),
    "tanhshrink": lambda x: F.sub(x, F.tanh(x)),
    "trunc": lambda x: F.mul(F.sign(x), F.floor(F.abs(x))),
    "unfold": _unfold,
    "var": _moment(False, False),
    "var_mean": _moment(False, True),
    **{f"lp_pool{n}d": _lp_pool(getattr(F, f"avg_pool{n}d"), n) for n in (1, 2, 3)},
    **{f"max_unpool{n}d": _max_unpool(n) for n in (1, 2, 3)},
}
