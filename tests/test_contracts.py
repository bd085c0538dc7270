"""What every backend promises, one section per row of the table of contracts."""

import ast
import functools
import math

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import Tensor, convolution, nn, optim
from xcnn.convolution import im2col
from xcnn.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    ShapeError,
    StateDictError,
    XcnnError,
)
from xcnn.geometry import window_geometry
from xcnn.testing import gradcheck

from . import oracles
from .conftest import SOURCES, assert_matches, is_batch_last, layouts, normal
from .strict import count_syncs, forbid_float64

# Every functional operation: the call, and its arguments for a batch of n.
IMAGES = (3, 6, 5)
VOLUMES = (3, 3, 4, 2)


def between(*shape, seed=0):
    """Numbers from 0.1 to 0.9: also probabilities and divisors."""
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape)


def classes(n, *rest):
    return np.random.default_rng(1).integers(0, 3, (n, *rest))


def distinct(*shape):
    """Like ``between``, no two alike."""
    return (between(*shape).ravel().argsort().reshape(shape) + 1) / (math.prod(shape) + 2)


def like(x, numbers):
    """A constant on x's device, in its dtype."""
    return xcnn.Tensor.of(x).backend.asarray(numbers, x.dtype)


def running_statistics(x):
    """A mean and a variance per channel, where x is and of its type."""
    x = xcnn.Tensor.of(x)
    xp = x.backend.xp
    return xp.full(x.shape[1], 0.3, x.dtype), xp.full(x.shape[1], 2.0, x.dtype)


def samples(x):
    """The samples of a fractional pooling, the same for each example."""
    shape = *x.shape[:2], x.ndim - 2
    return like(x, np.broadcast_to(between(1, *shape[1:]), shape))


def places(x):
    """Indices of an unpooling, every second pixel."""
    pixels = np.arange(math.prod(x.shape[2:])) * 2
    places = np.broadcast_to(pixels.reshape(x.shape[2:]), x.shape)
    return xcnn.Tensor.of(x).backend.asarray(np.array(places))


def corners(*boxes):
    """Boxes (N, 4) with sides of at least 1, from any numbers."""
    return [F.concat([b[:, :2], b[:, :2] + F.square(b[:, 2:]) + 1], 1) for b in boxes]


OPERATIONS = {
    "conv2d": (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=((1, 0), (0, 1))),
        lambda n: (between(n, *IMAGES), normal(4, 3, 3, 2), normal(4)),
    ),
    "conv2d groups": (
        lambda x, w: F.conv2d(x, w, groups=3, dilation=2),
        lambda n: (between(n, *IMAGES), normal(3, 1, 2, 2)),
    ),
    "conv2d 1x1": (F.conv2d, lambda n: (between(n, *IMAGES), normal(4, 3, 1, 1), normal(4))),
    "conv2d NHWC": (
        lambda x, w: F.conv2d(x, w, padding="same", data_format="NHWC"),
        lambda n: (between(n, 6, 5, 3), normal(4, 3, 3, 3)),
    ),
    "conv1d": (
        lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=(2, 0)),
        lambda n: (between(n, 3, 7), normal(4, 3, 3), normal(4)),
    ),
    "conv_transpose1d": (
        lambda x, w, b: F.conv_transpose1d(x, w, b, stride=2, padding=1, output_padding=1),
        lambda n: (between(n, 3, 4), normal(3, 4, 3), normal(4)),
    ),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, ((1, 0), (0, 1)), (1, 0)),
        lambda n: (between(n, *IMAGES), normal(3, 4, 3, 2), normal(4)),
    ),
    "conv_transpose2d groups": (
        lambda x, w: F.conv_transpose2d(x, w, groups=3, dilation=2),
        lambda n: (between(n, *IMAGES), normal(3, 2, 2, 2)),
    ),
    "conv_transpose2d NHWC": (
        lambda x, w: F.conv_transpose2d(x, w, padding=1, data_format="NHWC"),
        lambda n: (between(n, 6, 5, 3), normal(3, 4, 3, 3)),
    ),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), lambda n: (distinct(n, 3, 7),)),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, 2, 1), lambda n: (between(n, 3, 7),)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), lambda n: (distinct(n, *IMAGES),)),
    "max_pool2d overlapping": (
        lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda n: (distinct(n, *IMAGES),),
    ),
    "adaptive_avg_pool2d": (
        lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
        lambda n: (between(n, *IMAGES),),
    ),
    "adaptive_avg_pool2d global": (
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda n: (between(n, *IMAGES),),
    ),
    "adaptive_max_pool2d": (
        lambda x: F.adaptive_max_pool2d(x, (4, 3)),
        lambda n: (distinct(n, *IMAGES),),
    ),
    "adaptive_max_pool2d global": (
        lambda x: F.adaptive_max_pool2d(x, 1),
        lambda n: (distinct(n, *IMAGES),),
    ),
    "conv3d": (
        lambda x, w, b: F.conv3d(x, w, b, stride=(1, 2, 1), padding=((1, 0), (0, 1), (1, 1))),
        lambda n: (between(n, *VOLUMES), normal(4, 3, 2, 3, 2), normal(4)),
    ),
    "conv3d 1x1": (F.conv3d, lambda n: (between(n, *VOLUMES), normal(4, 3, 1, 1, 1))),
    "conv_transpose3d": (
        lambda x, w, b: F.conv_transpose3d(x, w, b, (1, 2, 1), padding=(1, 0, 0), groups=3),
        lambda n: (between(n, *VOLUMES), normal(3, 2, 2, 2, 2), normal(6)),
    ),
    "max_pool3d": (
        lambda x: F.max_pool3d(x, (2, 3, 2), 2, 1),
        lambda n: (distinct(n, *VOLUMES),),
    ),
    "avg_pool3d": (
        lambda x: F.avg_pool3d(x, 2, 1, 1, divisor_override=3),
        lambda n: (between(n, *VOLUMES),),
    ),
    "lp_pool1d": (lambda x: F.lp_pool1d(x, 2, 3), lambda n: (between(n, 3, 7),)),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 2, 3, 2), lambda n: (between(n, *IMAGES),)),
    "lp_pool3d": (lambda x: F.lp_pool3d(x, 3, 2), lambda n: (between(n, *VOLUMES),)),
    "adaptive_avg_pool1d": (
        lambda x: F.adaptive_avg_pool1d(x, 4),
        lambda n: (between(n, 3, 7),),
    ),
    "adaptive_avg_pool3d": (
        lambda x: F.adaptive_avg_pool3d(x, (2, 4, 1)),
        lambda n: (between(n, *VOLUMES),),
    ),
    "adaptive_max_pool1d": (
        lambda x: F.adaptive_max_pool1d(x, 4),
        lambda n: (distinct(n, 3, 7),),
    ),
    "adaptive_max_pool3d": (
        lambda x: F.adaptive_max_pool3d(x, (2, 4, 1)),
        lambda n: (distinct(n, *VOLUMES),),
    ),
    "fractional_max_pool2d": (
        lambda x: F.fractional_max_pool2d(x, 2, (4, 3), _random_samples=samples(x)),
        lambda n: (distinct(n, *IMAGES),),
    ),
    "fractional_max_pool3d": (
        lambda x: F.fractional_max_pool3d(x, 2, (2, 2, 1), _random_samples=samples(x)),
        lambda n: (distinct(n, *VOLUMES),),
    ),
    "max_unpool1d": (
        lambda x: F.max_unpool1d(x, places(x), 2),
        lambda n: (between(n, 3, 7),),
    ),
    "max_unpool2d": (
        lambda x: F.max_unpool2d(x, places(x), 2),
        lambda n: (between(n, *IMAGES),),
    ),
    "max_unpool3d": (
        lambda x: F.max_unpool3d(x, places(x), 2),
        lambda n: (between(n, *VOLUMES),),
    ),
    "interpolate": (
        lambda x: F.interpolate(x, scale_factor=(2, 1.7)),
        lambda n: (between(n, *IMAGES),),
    ),
    "interpolate bilinear": (
        lambda x: F.interpolate(x, (9, 4), mode="bilinear"),
        lambda n: (between(n, *IMAGES),),
    ),
    "interpolate corners": (
        lambda x: F.interpolate(x, 7, mode="bilinear", align_corners=True),
        lambda n: (between(n, *IMAGES),),
    ),
    "interpolate bicubic": (
        lambda x: F.interpolate(x, scale_factor=1.7, mode="bicubic"),
        lambda n: (between(n, *IMAGES),),
    ),
    "interpolate volumes": (
        lambda x: F.interpolate(x, (3, 4, 1), mode="trilinear"),
        lambda n: (between(n, 2, 2, 3, 3),),
    ),
    "upsample_nearest": (
        lambda x: F.upsample_nearest(x, scale_factor=1.7),
        lambda n: (between(n, 3, 5),),
    ),
    "upsample_bilinear": (lambda x: F.upsample_bilinear(x, 7), lambda n: (between(n, *IMAGES),)),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 2), lambda n: (between(n, 4, 3),)),
    "grid_sample": (F.grid_sample, lambda n: (between(n, *IMAGES), between(n, 4, 3, 2))),
    "grid_sample bicubic": (
        lambda x, grid: F.grid_sample(x, grid, "bicubic", "reflection"),
        lambda n: (between(n, *IMAGES), between(n, 4, 3, 2)),
    ),
    "grid_sample volumes": (
        lambda x, grid: F.grid_sample(x, grid, padding_mode="border"),
        lambda n: (between(n, 2, 3, 2, 3), between(n, 1, 2, 3, 3)),
    ),
    "affine_grid": (lambda x: F.affine_grid(x, (len(x), 3, 4, 5)), lambda n: (normal(n, 2, 3),)),
    "unfold": (lambda x: F.unfold(x, 2, padding=1), lambda n: (between(n, *IMAGES),)),
    "fold": (lambda x: F.fold(x, (3, 4), 2), lambda n: (between(n, 8, 6),)),
    "unfold windows": (lambda x: Tensor.of(x).unfold(2, 3, 2), lambda n: (between(n, *IMAGES),)),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), lambda n: (between(n, 8, 3, 2),)),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), lambda n: (between(n, 2, 6, 4),)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2, padding=1), lambda n: (between(n, *IMAGES),)),
    "relu": (F.relu, lambda n: (normal(n, *IMAGES),)),
    "relu6": (F.relu6, lambda n: (4 * normal(n, *IMAGES),)),
    "leaky_relu": (F.leaky_relu, lambda n: (normal(n, *IMAGES),)),
    "prelu": (F.prelu, lambda n: (normal(n, *IMAGES), between(3))),
    "prelu one slope": (F.prelu, lambda n: (normal(n, *IMAGES), between(1))),
    "elu": (lambda x: F.elu(x, 1.5), lambda n: (normal(n, *IMAGES),)),
    "selu": (F.selu, lambda n: (normal(n, *IMAGES),)),
    "gelu": (F.gelu, lambda n: (normal(n, *IMAGES),)),
    "gelu tanh": (lambda x: F.gelu(x, "tanh"), lambda n: (normal(n, *IMAGES),)),
    "silu": (F.silu, lambda n: (normal(n, *IMAGES),)),
    "hardsigmoid": (F.hardsigmoid, lambda n: (4 * normal(n, *IMAGES),)),
    "hardswish": (F.hardswish, lambda n: (4 * normal(n, *IMAGES),)),
    "softplus": (lambda x: F.softplus(x, 2, 1), lambda n: (normal(n, *IMAGES),)),
    "sigmoid": (F.sigmoid, lambda n: (normal(n, *IMAGES),)),
    "tanh": (F.tanh, lambda n: (normal(n, *IMAGES),)),
    "softmax": (F.softmax, lambda n: (normal(n, 4),)),
    "log_softmax": (F.log_softmax, lambda n: (normal(n, 4, 2),)),
    "copysign": (F.copysign, lambda n: (between(n, 3), between(3, seed=1))),
    "hypot": (F.hypot, lambda n: (between(n, 3), between(3, seed=1))),
    "logaddexp": (F.logaddexp, lambda n: (between(n, 3), between(3, seed=1))),
    "fmax": (F.fmax, lambda n: (between(n, 3), between(3, seed=1))),
    "fmin": (F.fmin, lambda n: (between(n, 3), between(3, seed=1))),
    "add": (F.add, lambda n: (between(n, 3), between(n, 3, seed=1))),
    "add broadcast": (F.add, lambda n: (between(n, 3), between(3))),
    "sub": (F.sub, lambda n: (between(n, 3), between(n, 3, seed=1))),
    "mul": (F.mul, lambda n: (between(n, 3), between(n, 1))),
    "div": (F.div, lambda n: (between(n, 3), between(1, 3))),
    "abs": (F.abs, lambda n: (normal(n, *IMAGES),)),
    "erf": (F.erf, lambda n: (normal(n, *IMAGES),)),
    "exp": (F.exp, lambda n: (normal(n, *IMAGES),)),
    "log": (F.log, lambda n: (between(n, *IMAGES),)),
    "maximum": (F.maximum, lambda n: (between(n, 3), between(n, 3, seed=1))),
    "minimum broadcast": (F.minimum, lambda n: (between(n, 3), between(3, seed=1))),
    "pow": (F.pow, lambda n: (between(n, 3), normal(1, 3))),
    "pow number": (lambda x: F.pow(x, 3), lambda n: (between(n, *IMAGES),)),
    "reciprocal": (F.reciprocal, lambda n: (between(n, *IMAGES),)),
    "sqrt": (F.sqrt, lambda n: (between(n, *IMAGES),)),
    "threshold": (lambda x: F.threshold(x, 0.4, 0.3), lambda n: (normal(n, *IMAGES),)),
    "where": (
        F.where,
        lambda n: (classes(n, 3) > 0, between(n, 3), between(n, 3, seed=1)),
    ),
    "where broadcast": (
        lambda a, b: F.where(like(a, [1, 0, 1]) > 0, a, b),
        lambda n: (between(n, 3), between(n, 1)),
    ),
    "astype": (lambda x: F.astype(x, str(x.dtype)), lambda n: (between(n, 3),)),
    "sum": (lambda x: F.sum(x, dim=1), lambda n: (between(n, 3),)),
    "mean": (lambda x: F.mean(x, dim=(2, 3)), lambda n: (between(n, *IMAGES),)),
    "prod": (lambda x: F.prod(x, 1), lambda n: (between(n, 3),)),
    "nansum": (lambda x: F.nansum(x, 1), lambda n: (between(n, 3),)),
    "nanmean": (lambda x: F.nanmean(x, 1), lambda n: (between(n, 3),)),
    "amax": (lambda x: F.amax(x, (1, 3)), lambda n: (distinct(n, *IMAGES),)),
    "amin": (lambda x: F.amin(x, 2, True), lambda n: (distinct(n, *IMAGES),)),
    "max": (lambda x: F.max(x, 1).values, lambda n: (distinct(n, 3, 2),)),
    "min": (lambda x: F.min(x, 2, True).values, lambda n: (distinct(n, 3, 2),)),
    "median": (lambda x: F.median(x, 1).values, lambda n: (distinct(n, 4, 2),)),
    "sort": (lambda x: F.sort(x, 1, descending=True).values, lambda n: (distinct(n, 4, 2),)),
    "topk": (lambda x: F.topk(x, 2).values, lambda n: (distinct(n, 4),)),
    "var": (lambda x: F.var(x, (1, 2)), lambda n: (between(n, *IMAGES),)),
    "std": (lambda x: F.std(x, 1, correction=0), lambda n: (between(n, 4),)),
    "var_mean": (lambda x: F.add(*F.var_mean(x, 1)), lambda n: (between(n, 4),)),
    "std_mean": (lambda x: F.mul(*F.std_mean(x, 1)), lambda n: (between(n, 4),)),
    "norm": (lambda x: F.norm(x, dim=1), lambda n: (between(n, 4),)),
    "norm of order 3": (lambda x: F.norm(x, 3, 1), lambda n: (between(n, 4),)),
    "norm infinite": (lambda x: F.norm(x, math.inf, 1), lambda n: (distinct(n, 4),)),
    "logsumexp": (lambda x: F.logsumexp(x, 1), lambda n: (normal(n, 4),)),
    "cumsum": (lambda x: F.cumsum(x, 1), lambda n: (between(n, 4, 2),)),
    "scaled_dot_product_attention": (
        F.scaled_dot_product_attention,
        lambda n: (between(n, 4, 5), between(n, 3, 5), between(n, 3, 2)),
    ),
    "atan2": (F.atan2, lambda n: (between(n, 3, 4), between(n, 3, 4) + 2)),
    "floor_divide": (F.floor_divide, lambda n: (between(n, 3, 4), between(4) + 9)),
    "remainder": (F.remainder, lambda n: (between(n, 3, 4), between(4) + 9)),
    "fmod": (F.fmod, lambda n: (between(n, 3, 4), between(4) + 9)),
    "linear": (F.linear, lambda n: (between(n, 3), normal(4, 3), normal(4))),
    "linear rows": (F.linear, lambda n: (between(n, 2, 3), normal(4, 3))),
    "matmul": (F.matmul, lambda n: (between(n, 2, 3), normal(3, 4))),
    "matmul vector": (F.matmul, lambda n: (between(n, 2, 3), normal(3))),
    "mm": (F.mm, lambda n: (between(n, 3), normal(3, 4))),
    "mv": (F.mv, lambda n: (between(n, 3), normal(3))),
    "bmm": (F.bmm, lambda n: (between(n, 2, 3), normal(n, 3, 4))),
    "dot": (F.dot, lambda n: (between(n), normal(n))),
    "outer": (F.outer, lambda n: (between(n), normal(3))),
    "einsum": (
        lambda a, b: F.einsum("n...k, km -> mn...", a, b),
        lambda n: (between(n, 2, 3), normal(3, 4)),
    ),
    "einsum diagonal": (
        lambda a, b, c: F.einsum("nii,in,j->ni", a, b, c),
        lambda n: (between(n, 3, 3), between(3, n), between(2)),
    ),
    "bilinear": (
        F.bilinear,
        lambda n: (between(n, 3), between(n, 2), normal(4, 3, 2), normal(4)),
    ),
    "reshape": (lambda x: F.reshape(x, len(x), 6, 15), lambda n: (between(n, *IMAGES),)),
    "flatten": (lambda x: F.flatten(x, 1), lambda n: (between(n, *IMAGES),)),
    "expand": (lambda x: F.expand(x, 2, -1, 5, 3), lambda n: (between(n, 1, 3),)),
    "clone": (F.clone, lambda n: (between(n, *IMAGES),)),
    "contiguous": (F.contiguous, lambda n: (between(n, *IMAGES),)),
    "getitem arrays": (
        lambda x, i, j: xcnn.Tensor.of(x)[:, i, None, 1, j],
        lambda n: (between(n, *IMAGES), classes(4), classes(2, 1)),
    ),
    "gather": (lambda x, i: F.gather(x, 1, i), lambda n: (between(n, 3), classes(n, 5))),
    "scatter": (
        lambda x, i, v: F.scatter(x, 1, i, v),
        lambda n: (between(n, 3), distinct(n, 3).argsort(1)[:, :2], between(n, 2, seed=1)),
    ),
    "scatter_add": (
        lambda x, i, v: F.scatter_add(x, 1, i, v),
        lambda n: (between(n, 3), classes(n, 5), between(n, 5, seed=1)),
    ),
    "index_select": (
        lambda x, i: F.index_select(x, 1, i),
        lambda n: (between(n, 3, 2), classes(5)),
    ),
    "index_put": (
        lambda x, i, j, v: F.index_put(x, (i, j), v),
        lambda n: (between(n, 3, 2), np.arange(n), classes(n), between(n, 2, seed=1)),
    ),
    "index_put accumulate": (
        lambda x, i, j, v: F.index_put(x, (i, j), v, accumulate=True),
        lambda n: (between(n, 3), np.arange(n) // 2, classes(n), between(1, seed=1)),
    ),
    "repeat_interleave": (
        lambda x: F.repeat_interleave(x, [1, 0, 2], 1),
        lambda n: (between(n, 3, 2),),
    ),
    "diagonal": (lambda x: F.diagonal(x, 1, 1, -1), lambda n: (between(n, *IMAGES),)),
    "diag": (lambda x: F.diag(x, -1), lambda n: (between(n),)),
    "tril": (lambda x: F.tril(x, 1), lambda n: (between(n, *IMAGES),)),
    "triu": (F.triu, lambda n: (between(n, 4, 3),)),
    "clamp": (lambda x: F.clamp(x, -0.4, 0.7), lambda n: (normal(n, *IMAGES),)),
    "permute": (lambda x: F.permute(x, (0, 3, 1, 2)), lambda n: (between(n, *IMAGES),)),
    "split": (
        lambda x: F.concat(F.split(x, [2, 0, 4], 2)[::-1], 2),
        lambda n: (between(n, *IMAGES),),
    ),
    "squeeze": (lambda x: F.squeeze(x, (1, 3)), lambda n: (between(n, 1, 3, 1, 2),)),
    "unsqueeze": (lambda x: F.unsqueeze(x, 2), lambda n: (between(n, 3, 2),)),
    "concat": (lambda a, b: F.concat([a, b], 1), lambda n: (between(n, 3, 2), between(n, 1, 2))),
    "pad": (lambda x: F.pad(x, (2, -1, 1, 0, 0, 1), value=5.0), lambda n: (between(n, *IMAGES),)),
    "pad reflect": (
        lambda x: F.pad(x, (2, 3, 1, -2), mode="reflect"),
        lambda n: (between(n, *IMAGES),),
    ),
    "pad replicate": (
        lambda x: F.pad(x, (0, 0, 1, 1, 2, 2), mode="replicate"),
        lambda n: (between(n, 6, 5, 3),),
    ),
    "pad circular": (lambda x: F.pad(x, (1, 4), mode="circular"), lambda n: (between(n, 3, 5),)),
    "dropout": (lambda x: F.dropout(x, 0.3, key=9), lambda n: (between(n, *IMAGES),)),
    "dropout2d": (lambda x: F.dropout2d(x, 0.3, key=9), lambda n: (between(n, *IMAGES),)),
    # elementwise functions by name: where their inputs lie
    **{
        name: (
            getattr(F, name),
            lambda n, low=low, high=high: (low + (high - low) * between(n, 3),),
        )
        for name, (low, high) in {
            **dict.fromkeys(
                ["asin", "acos", "atanh", "logit", "erfc", "exp2", "expm1", "log1p", "sinh", "tan"],
                (0, 1),
            ),
            **dict.fromkeys(["log2", "log10", "rsqrt", "square", "rad2deg", "deg2rad"], (0.5, 3)),
            **dict.fromkeys(
                ["asinh", "atan", "cos", "cosh", "sin", "neg", "positive", "frac"], (0.1, 0.9)
            ),
            **dict.fromkeys(["ceil", "floor", "trunc", "sign", "nan_to_num"], (0, 1)),
            **dict.fromkeys(["celu", "logsigmoid", "mish", "softsign", "tanhshrink"], (-3, 2)),
            **dict.fromkeys(["hardshrink", "hardtanh", "softshrink"], (-0.9, 0.4)),
            **dict.fromkeys(["round"], (0, 0.4)),
            "acosh": (1.1, 3),
        }.items()
    },
    "clamp tensors": (
        F.clamp,
        lambda n: (distinct(n, 3), between(3, seed=1) / 2, between(1, 3, seed=2) / 2 + 0.5),
    ),
    "clamp_min": (lambda x: F.clamp_min(x, 0.4), lambda n: (between(n, 3),)),
    "clamp_max": (lambda x: F.clamp_max(x, 0.4), lambda n: (between(n, 3),)),
    "clip": (lambda x: F.clip(x, 0.2, 0.4), lambda n: (between(n, 3),)),
    "lerp": (F.lerp, lambda n: (between(n, 3), between(3, seed=1), between(n, 1, seed=2))),
    "addcmul": (F.addcmul, lambda n: (between(n, 3), between(3, seed=1), between(n, 1, seed=2))),
    "addcdiv": (F.addcdiv, lambda n: (between(n, 3), between(3, seed=1), between(n, 1, seed=2))),
    "glu": (lambda x: F.glu(x, 1), lambda n: (normal(n, 4, 3),)),
    "softmin": (F.softmin, lambda n: (normal(n, 4),)),
    "gumbel_softmax": (lambda x: F.gumbel_softmax(x, key=9), lambda n: (normal(n, 4),)),
    "rrelu": (lambda x: F.rrelu(x, training=True, key=9), lambda n: (normal(n, *IMAGES),)),
    "dropout1d": (lambda x: F.dropout1d(x, 0.3, key=9), lambda n: (between(n, 3, 5),)),
    "dropout3d": (lambda x: F.dropout3d(x, 0.3, key=9), lambda n: (between(n, 3, 2, 3, 2),)),
    "alpha_dropout": (
        lambda x: F.alpha_dropout(x, 0.3, True, key=9),
        lambda n: (between(n, *IMAGES),),
    ),
    "feature_alpha_dropout": (
        lambda x: F.feature_alpha_dropout(x, 0.3, True, key=9),
        lambda n: (between(n, *IMAGES),),
    ),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, weight=w, bias=b, training=True),
        lambda n: (between(n, *IMAGES), normal(3), normal(3)),
    ),
    "batch_norm fixed": (
        lambda x, w: F.batch_norm(x, *running_statistics(x), w),
        lambda n: (between(n, 3), normal(3)),
    ),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (6, 5), w, b),
        lambda n: (between(n, *IMAGES), normal(6, 5), normal(6, 5)),
    ),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda n: (between(n, 4, 3, 2), normal(4), normal(4)),
    ),
    "instance_norm": (
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        lambda n: (between(n, *IMAGES), normal(3), normal(3)),
    ),
    "batch_norm volumes": (
        lambda x, w, b: F.batch_norm(x, weight=w, bias=b, training=True),
        lambda n: (between(n, *VOLUMES), normal(3), normal(3)),
    ),
    "rms_norm": (
        lambda x, w: F.rms_norm(x, (6, 5), w),
        lambda n: (between(n, *IMAGES), normal(6, 5)),
    ),
    "local_response_norm": (
        lambda x: F.local_response_norm(x, 4, alpha=2.0),
        lambda n: (normal(n, 5, 2, 3),),
    ),
    "mse_loss": (F.mse_loss, lambda n: (between(n, 3), between(n, 3, seed=1))),
    "l1_loss": (F.l1_loss, lambda n: (between(n, 3), between(n, 3, seed=1))),
    "smooth_l1_loss": (
        lambda x, t: F.smooth_l1_loss(x, t, beta=0.3),
        lambda n: (between(n, 3), between(n, 3, seed=1)),
    ),
    "huber_loss": (
        lambda x, t: F.huber_loss(x, t, delta=0.3),
        lambda n: (between(n, 3), between(n, 3, seed=1)),
    ),
    "kl_div": (F.kl_div, lambda n: (normal(n, 3), between(n, 3))),
    "kl_div log_target": (
        lambda x, t: F.kl_div(x, t, reduction="batchmean", log_target=True),
        lambda n: (normal(n, 3), normal(n, 3, seed=1)),
    ),
    "cross_entropy": (F.cross_entropy, lambda n: (normal(n, 3), classes(n))),
    "cross_entropy ignored": (
        lambda x, t: F.cross_entropy(x, t, like(x, [0.2, 1, 3]), ignore_index=1),
        lambda n: (normal(n, 3, 2), classes(n, 2)),
    ),
    "cross_entropy smooth": (
        lambda x, t: F.cross_entropy(x, t, label_smoothing=0.2, ignore_index=1),
        lambda n: (normal(n, 3, 2), classes(n, 2)),
    ),
    "cross_entropy soft smooth": (
        lambda x, t: F.cross_entropy(x, t, like(x, [0.2, 1, 3]), label_smoothing=0.2),
        lambda n: (normal(n, 3), between(n, 3)),
    ),
    "cross_entropy images": (F.cross_entropy, lambda n: (normal(n, 3, 2), classes(n, 2))),
    "cross_entropy soft": (F.cross_entropy, lambda n: (normal(n, 3), between(n, 3))),
    "poisson_nll_loss": (
        lambda x, t: F.poisson_nll_loss(x, t * 3, full=True),
        lambda n: (normal(n, 3), between(n, 3)),
    ),
    "gaussian_nll_loss": (
        F.gaussian_nll_loss,
        lambda n: (normal(n, 3), normal(n, 3, seed=1), between(n, 3)),
    ),
    "margin_ranking_loss": (
        lambda a, b: F.margin_ranking_loss(a, b, like(a, [1, -1, 1]), 0.3),
        lambda n: (normal(n, 3), normal(n, 3, seed=1)),
    ),
    "hinge_embedding_loss": (
        lambda x, t: F.hinge_embedding_loss(x, t * 2 - 3, 0.5),
        lambda n: (normal(n, 3), classes(n, 3)),
    ),
    "soft_margin_loss": (F.soft_margin_loss, lambda n: (normal(n, 3), normal(n, 3, seed=1))),
    "multi_margin_loss": (
        lambda x, t: F.multi_margin_loss(x, t, 2, weight=like(x, [0.2, 1, 3])),
        lambda n: (normal(n, 3), classes(n)),
    ),
    "multilabel_margin_loss": (
        lambda x, t: F.multilabel_margin_loss(x, t - 1),
        lambda n: (normal(n, 3), classes(n, 3)),
    ),
    "multilabel_soft_margin_loss": (
        F.multilabel_soft_margin_loss,
        lambda n: (normal(n, 3), between(n, 3)),
    ),
    "cosine_embedding_loss": (
        lambda a, b, t: F.cosine_embedding_loss(a, b, t - 1),
        lambda n: (normal(n, 3), normal(n, 3, seed=1), classes(n)),
    ),
    "triplet_margin_loss": (
        lambda a, p, n: F.triplet_margin_loss(a, p, n, p=3, swap=True),
        lambda n: tuple(normal(n, 3, seed=seed) for seed in range(3)),
    ),
    "triplet_margin_with_distance_loss": (
        F.triplet_margin_with_distance_loss,
        lambda n: tuple(normal(n, 3, seed=seed) for seed in range(3)),
    ),
    "ctc_loss": (
        lambda x, t: F.ctc_loss(
            F.log_softmax(F.permute(x, (1, 0, 2)), 2), t, [4] * len(x), [2] * len(x)
        ),
        lambda n: (normal(n, 4, 5), classes(n, 3) + 1),
    ),
    "focal_loss": (F.focal_loss, lambda n: (normal(n, 3), between(n, 3))),
    "sigmoid_focal_loss": (F.sigmoid_focal_loss, lambda n: (normal(n, 3), between(n, 3))),
    "softmax_focal_loss": (
        lambda x, t: F.softmax_focal_loss(x, t, ignore_index=1),
        lambda n: (normal(n, 3, 2), classes(n, 2)),
    ),
    "dice_loss": (F.dice_loss, lambda n: (normal(n, 3, 2), classes(n, 2))),
    "tversky_loss": (
        lambda x, t: F.tversky_loss(x, t, "binary", 0.3, 0.7),
        lambda n: (normal(n, 3, 2), between(n, 3, 2)),
    ),
    "lovasz_loss": (
        lambda x, t: F.lovasz_loss(x, t, per_image=True, ignore_index=1),
        lambda n: (normal(n, 3, 4), classes(n, 4)),
    ),
    "embedding": (
        F.embedding,
        lambda n: (classes(n, 2), normal(3, 4)),
    ),
    "one_hot": (
        lambda x, i: F.mul(x, F.one_hot(i, 3)),
        lambda n: (normal(n, 3), classes(n)),
    ),
    "cosine_similarity": (F.cosine_similarity, lambda n: (normal(n, 3), normal(n, 3, seed=1))),
    "pairwise_distance": (F.pairwise_distance, lambda n: (normal(n, 3), normal(1, 3, seed=1))),
    "normalize": (lambda x: F.normalize(x, 3), lambda n: (normal(n, 3),)),
    "cdist": (F.cdist, lambda n: (normal(n, 2, 3), normal(2, 3, seed=1))),
    "pdist": (lambda x: F.pdist(x, 1.5), lambda n: (normal(n, 3),)),
    "nll_loss": (F.nll_loss, lambda n: (normal(n, 3), classes(n))),
    "nll_loss ignored": (
        lambda x, t: F.nll_loss(x, t, like(x, [0.2, 1, 3]), ignore_index=1),
        lambda n: (normal(n, 3, 2), classes(n, 2)),
    ),
    "binary_cross_entropy": (F.binary_cross_entropy, lambda n: (between(n, 3), between(n, 3))),
    "binary_cross_entropy_with_logits": (
        F.binary_cross_entropy_with_logits,
        lambda n: (normal(n, 3), between(n, 3)),
    ),
    "binary_cross_entropy_with_logits weights": (
        lambda x, t: F.binary_cross_entropy_with_logits(
            x, t, like(x, [0.2, 1, 3]), pos_weight=like(x, [2, 1, 0.5])
        ),
        lambda n: (normal(n, 3), between(n, 3)),
    ),
    **{
        f"{name}_box_iou_loss": (
            lambda x, y, name=name: getattr(F, f"{name}_box_iou_loss")(*corners(x, y)),
            lambda n: (normal(n, 4), between(n, 4)),
        )
        for name in ("generalized", "distance")
    },
}
#: operations on numbers whose result has no gradient: tests of their own compare the values
operations = pytest.mark.parametrize(
    ("function", "inputs"), OPERATIONS.values(), ids=[n.replace(" ", "-") for n in OPERATIONS]
)


# Those of an array (N, 4, 3) whose results have no gradient.
FACTS = {
    "all": lambda x: F.all(x, 1),
    "any": lambda x: F.any(x, (1, 2)),
    "argmax": lambda x: F.argmax(x, 1),
    "argmin": lambda x: F.argmin(x, -1, True),
    "argsort": lambda x: F.argsort(x, 1, descending=True),
    "bitwise_and": lambda x: F.bitwise_and(x.long(), 1),
    "bitwise_not": lambda x: F.bitwise_not(x.long()),
    "bitwise_or": lambda x: F.bitwise_or(x.long(), 1),
    "bitwise_xor": lambda x: F.bitwise_xor(x.long(), 1),
    "count_nonzero": lambda x: F.count_nonzero(x, 2),
    "eq": lambda x: F.eq(x, 1),
    "ge": lambda x: F.ge(x, 1),
    "gt": lambda x: F.gt(x, 1),
    "isclose": lambda x: F.isclose(x, 1),
    "isfinite": lambda x: F.isfinite(x * np.inf),
    "isin": lambda x: F.isin(x, x[:, 0, 0]),
    "isinf": lambda x: F.isinf(x * np.inf),
    "isnan": lambda x: F.isnan(x * np.inf),
    "isneginf": lambda x: F.isneginf(x * -np.inf),
    "isposinf": lambda x: F.isposinf(x * -np.inf),
    "le": lambda x: F.le(x, 1),
    "logical_and": lambda x: F.logical_and(x, x - 1),
    "logical_not": F.logical_not,
    "logical_or": lambda x: F.logical_or(x, x - 1),
    "logical_xor": lambda x: F.logical_xor(x, x - 1),
    "lt": lambda x: F.lt(x, 1),
    "ne": lambda x: F.ne(x, 1),
    "signbit": lambda x: F.signbit(x - 1),
    "unique": F.unique,
}
WAITING = {"unique"}  # the number of results depends on the values
facts = pytest.mark.parametrize("name", FACTS)


def as_float32(arrays):
    return tuple(a.astype("float32") if a.dtype.kind == "f" else a for a in arrays)


def test_the_table_of_operations_is_complete():
    """Add a new operation above: everything below then holds for it.

    And for functions that are only composed of operations, which are not marked as one.
    """
    functions = [getattr(F, name) for name in F.__all__]
    marked = {f.__name__ for f in functions if hasattr(f, "__wrapped__")}
    listed = {name.split()[0] for name in OPERATIONS} | {*FACTS}
    # the host waits for the values of these
    waits = {"allclose", "equal", "masked_select", "nonzero", "nms", "batched_nms"}
    # a factor of its gradient counts as constant
    assert marked <= listed | waits | {"complete_box_iou_loss"}
    assert listed <= {*F.__all__, "getitem"}


@facts
@pytest.mark.parametrize("layout", ["contiguous", "batch-last", "strided", "reversed"])
def test_results_without_a_gradient(backend, name, layout):
    x = np.random.default_rng(0).integers(0, 4, (3, 4, 3)).astype("float32")
    expected = FACTS[name](xcnn.Tensor(x)).numpy()
    for array, batch in ((x, 3), (x[:0], 0)):
        on_device = layouts(backend, array)[layout]
        with count_syncs() as syncs:
            y = FACTS[name](xcnn.Tensor(on_device, requires_grad=True))
        assert syncs == [] or name in WAITING
        assert not y.requires_grad
        assert len(y) == (batch if name not in WAITING or not batch else len(expected))
        assert (backend.to_host(on_device) == array).all()
        if batch:
            assert y.dtype == expected.dtype
            assert (y.numpy() == expected).all()


@operations
def test_gradient(backend, function, inputs):
    """Against central differences."""
    assert gradcheck(function, *(backend.asarray(a) for a in inputs(3))) < 1e-6


@operations
def test_the_value_is_the_same_when_nothing_is_recorded(backend, function, inputs):
    arrays = [backend.asarray(a) for a in inputs(3)]
    recorded = xcnn.vjp(function, *arrays)[0]
    with xcnn.no_grad():
        y = function(*arrays)
    assert y.creator is None
    assert (y.numpy() == backend.to_host(recorded)).all()


# -- padding -------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 1, (1, 0), ((0, 1), (1, 0)), "valid", "same"], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_means_the_same_everywhere(backend, padding, stride):
    x, weight = normal(1, 1, 5, 6), normal(1, 1, 3, 2)
    on_device = backend.asarray(x)
    sides = oracles.sides(padding, (5, 6), (3, 2), stride)
    conv = F.conv2d(on_device, backend.asarray(weight), None, stride, padding)
    assert_matches(conv, oracles.conv2d(x, weight, None, stride, sides))
    largest = F.max_pool2d(on_device, (3, 2), stride, padding)
    assert_matches(largest, oracles.max_pool2d(x, (3, 2), stride, sides)[0])
    mean = F.avg_pool2d(on_device, (3, 2), stride, padding)
    assert_matches(mean, oracles.avg_pool2d(x, (3, 2), stride, sides))
    if padding == "same":
        assert conv.shape[2:] == largest.shape[2:] == (-(-5 // stride), -(-6 // stride))


def test_same_puts_the_odd_pixel_at_the_bottom_right(backend):
    ones = backend.xp.ones((1, 1, 2, 2))
    weight = backend.xp.ones((1, 1, 2, 2))
    assert_matches(F.conv2d(ones, weight, padding="same").data[0, 0], [[4, 2], [2, 1]])


# -- pools ---------------------------------------------------------------------------------


def test_max_pool_tie(evaluate):
    found = evaluate(F.max_pool2d, np.ones((2, 1, 4, 4), "float32"), kernel_size=2)
    dx = np.zeros((2, 1, 4, 4))
    dx[:, :, ::2, ::2] = found.dy
    assert_matches(found.gradients[0], dx, "float32")


def test_max_pool_nan(evaluate):
    x = np.array([[[[1, np.nan], [3, 4]]]], "float32")
    found = evaluate(F.max_pool2d, x, kernel_size=2)
    assert np.isnan(found.y).all()
    assert_matches(found.gradients[0], found.dy * [[0, 1], [0, 0]])


def test_max_pool_padding(evaluate, backend):
    x = np.full((1, 1, 3, 3), -1e30, "float32")
    found = evaluate(F.max_pool2d, x, kernel_size=3, stride=2, padding=1)
    assert (found.y == np.float32(-1e30)).all()
    assert_matches(found.gradients[0].sum(), found.dy.sum())
    for kernel, most in ((2, 1), (3, 1), (4, 2), (1, 0)):
        F.max_pool2d(backend.xp.ones((1, 1, 8, 8)), kernel, padding=most)
        with pytest.raises(ArgumentError, match=f"at most {most} on each side"):
            F.max_pool2d(backend.xp.ones((1, 1, 8, 8)), kernel, padding=most + 1)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "floor", "ceil"),
    [
        (5, 2, 2, 0, 2, 3),
        (4, 2, 2, 0, 2, 2),
        (4, 2, 3, 1, 2, 2),  # a third window would start at 5, beyond the last pixel
        (6, 3, 2, 0, 2, 3),
        (7, 3, 3, 1, 3, 3),
        (3, 2, 4, 0, 1, 1),  # a second one would start at 4
        (5, 2, 4, 0, 1, 2),  # the second one starts at 4, on the last pixel
    ],
)
@pytest.mark.parametrize("pool", [F.max_pool2d, F.avg_pool2d], ids=["max", "avg"])
def test_ceil_mode(backend, pool, size, kernel, stride, padding, floor, ceil):
    x = backend.asarray(normal(1, 1, size, size))
    for ceil_mode, expected in ((False, floor), (True, ceil)):
        assert pool(x, kernel, stride, padding, ceil_mode=ceil_mode).shape[2:] == (expected,) * 2


def test_average_counts_the_padding_by_default(backend):
    ones = backend.xp.ones((1, 1, 2, 2), "float32")
    assert_matches(F.avg_pool2d(ones, 2, padding=1), np.full((1, 1, 2, 2), 0.25), "float32")
    without = F.avg_pool2d(ones, 2, padding=1, count_include_pad=False)
    assert_matches(without, np.ones((1, 1, 2, 2)), "float32")


# -- batch-last memory ---------------------------------------------------------------------


def test_memory_stays_batch_last_through_a_network(backend):
    """After the first layer nothing is copied into another order, forward or backward."""
    x = backend.asarray(normal(4, 3, 8, 8, dtype="float32"))
    seen = []

    def layer(y):
        seen.append(y.data)
        return y

    def block(x):
        y = layer(F.conv2d(x, backend.asarray(normal(3, 3, 3, 3, dtype="float32")), padding=1))
        y = layer(F.relu(layer(F.batch_norm(y, training=True))))
        y = layer(y + layer(F.dropout(y, 0.2, key=1)))
        y = layer(F.avg_pool2d(layer(F.max_pool2d(y, 2)), 2))
        return layer(F.tanh(layer(F.concat([y, layer(F.pad(y, (0, 0)))], 1))))

    y, pullback = xcnn.vjp(block, x)
    assert len(seen) == 10
    assert [is_batch_last(a) for a in seen] == [True] * 10
    flat, weight = F.flatten(y, 1), backend.asarray(normal(5, 24, dtype="float32"))
    assert is_batch_last(flat.data)
    assert is_batch_last(F.linear(flat, weight).data)
    assert is_batch_last(pullback(y)[0])


# -- dtype ---------------------------------------------------------------------------------


@operations
def test_dtype_stays(evaluate, function, inputs):
    for dtype, arrays in (("float64", inputs(2)), ("float32", as_float32(inputs(2)))):
        found = evaluate(function, *arrays)
        assert found.y.dtype == dtype
        assert {g.dtype.name for g in found.gradients if g is not None} == {dtype}


@operations
def test_no_operation_makes_a_float64_array(strict, function, inputs):
    arrays = [strict.asarray(a) for a in as_float32(inputs(2))]
    with forbid_float64():
        y, pullback = xcnn.vjp(function, *arrays)
        pullback(strict.xp.ones_like(y))


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 1),
        nn.Tanh(),
        nn.AvgPool2d(2, padding=1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * 3 * 3, 3),
    )


OPTIMISERS = {
    "sgd": lambda params: optim.SGD(params, 0.1),
    "nesterov": lambda params: optim.SGD(params, 0.1, 0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda params: optim.Adam(params, 0.01, weight_decay=1e-3),
    "adamw": lambda params: optim.AdamW(params, 0.01),
    "rmsprop": lambda params: optim.RMSprop(params, 0.01, momentum=0.9, centered=True),
    "adagrad": lambda params: optim.Adagrad(params, 0.01, lr_decay=0.1),
    "dampened": lambda params: optim.SGD(params, 0.1, 0.9, 0.1, maximize=True),
}
optimisers = pytest.mark.parametrize("optimiser", OPTIMISERS.values(), ids=OPTIMISERS)


def batch(backend, n=6):
    return backend.asarray(normal(n, 1, 8, 8, dtype="float32")), backend.asarray(classes(n))


def train_step(model, optimiser, images, labels):
    optimiser.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimiser.step()
    return loss


@optimisers
def test_a_training_step_is_float32_throughout(strict, optimiser):
    model = network().to(strict)
    optimiser = optimiser(model.parameters())
    images, labels = batch(strict)
    with forbid_float64():
        for _ in range(2):
            loss = train_step(model, optimiser, images, labels)
    assert loss.dtype == np.float32
    arrays = [*(p.data for p in model.parameters()), *(p.grad for p in model.parameters())]
    arrays += [a for kept in optimiser.state.values() for a in kept if a is not None]
    assert {a.dtype.name for a in arrays} == {"float32"}


# -- inputs --------------------------------------------------------------------------------


@operations
def test_inputs_are_never_changed(backend, function, inputs):
    arrays = [backend.asarray(a) for a in inputs(3)]
    before = [backend.to_host(a).copy() for a in arrays]
    y, pullback = xcnn.vjp(function, *arrays)
    result = backend.to_host(y).copy()
    dy = backend.asarray(normal(*y.shape, seed=2))
    for _ in range(2):
        pullback(dy)
    assert (backend.to_host(y) == result).all()
    assert (backend.to_host(dy) == normal(*y.shape, seed=2)).all()
    for array, kept in zip(arrays, before, strict=True):
        assert (backend.to_host(array) == kept).all()


@operations
def test_read_only_arrays_will_do(function, inputs):
    arrays = [a.copy() for a in inputs(3)]
    for array in arrays:
        array.flags.writeable = False
    y, pullback = xcnn.vjp(function, *arrays)
    dy = np.ones_like(y)
    dy.flags.writeable = False
    assert all(g is None or g.shape == a.shape for g, a in zip(pullback(dy), arrays, strict=True))


@operations
def test_memory_layout_does_not_change_the_numbers(backend, evaluate, function, inputs):
    """The numbers of contiguous arrays, which other files compare with oracles."""
    expected = evaluate(function, *inputs(3))
    for layout in ("batch-last", "strided", "reversed"):
        y, pullback = xcnn.vjp(function, *(layouts(backend, a)[layout] for a in inputs(3)))
        assert_matches(y, expected.y)
        dy = layouts(backend, expected.dy).get(layout, backend.asarray(expected.dy))
        for got, wanted in zip(pullback(dy), expected.gradients, strict=True):
            assert got is wanted is None or got.shape == wanted.shape
            if got is not None:
                assert_matches(got, wanted)


@operations
def test_a_batch_of_none(backend, function, inputs):
    """Forward and backward work, and the gradient of what the batch shares is zero."""
    arrays = [backend.asarray(a) for a in inputs(0)]
    y, pullback = xcnn.vjp(function, *arrays)
    assert y.size in (0, 1)
    for array, gradient in zip(arrays, pullback(backend.xp.ones_like(y)), strict=True):
        if gradient is not None:
            assert gradient.shape == array.shape
            assert (backend.to_host(gradient) == 0).all()


# -- index width ---------------------------------------------------------------------------


def test_sizes_beyond_32_bits():
    """Numbers only: nothing is allocated."""
    big = 3 * 2**32 + 1
    geometry = window_geometry((big, big), 3, 2, 1)
    assert geometry.output == (big // 2 + 1, big // 2 + 1)
    last = geometry.output[0] - 1  # its middle row is the image's last one
    for k, pixels in ((0, [big - 2]), (1, [big - 1]), (2, [])):
        windows_found, read = geometry.span(0, k, last)
        assert [*range(1)[windows_found]] == [0] * len(pixels)
        assert [*range(big)[read]] == pixels
    tile = next(geometry.tiles(5 * geometry.output[1] + 1))
    assert tile == (0, 5, 0, geometry.output[1])


def test_tiles_of_an_image_beyond_32_bits(backend, monkeypatch):
    """An image of 2³⁵ numbers, all the same one in memory: a tile keeps to the budget."""
    monkeypatch.setattr(backend, "column_budget", 2**20)
    shape = (2, 2**16, 2**16, 4)
    x = backend.xp.broadcast_to(backend.xp.ones((), "float32"), shape)
    assert math.prod(x.shape) > 2**31
    geometry = window_geometry(shape[1:3], 3, padding=1)
    problem = convolution.Problem(geometry, 1, 2, 1, 4)
    tiles = geometry.tiles(im2col._positions(backend, problem, x))
    tile, _, columns = next(im2col._with_columns(backend, problem, x, tiles))
    assert columns.size * 4 <= 2**20
    most = 2**20 // (2 * 9 * 4 * 4)
    assert tile == (0, 1, 0, -(-(2**16) // -(-(2**16) // most)))  # equal parts of a row
    if backend.device == "cpu":  # kernels read contiguous arrays only
        backend.im2col(x, geometry, tile, columns)
        assert_matches(columns[0, :, :, 0, 0, 0], [[0, 0, 0], [0, 1, 1], [0, 1, 1]])


# -- determinism ---------------------------------------------------------------------------


def trained(backend, steps=3):
    xcnn.manual_seed(11)
    model = network().to(backend)
    optimiser = optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        train_step(model, optimiser, *batch(backend))
    return {name: backend.to_host(a) for name, a in model.state_dict().items()}


def test_same_seed_same_bits(backend):
    first, second = trained(backend), trained(backend)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes()


def test_all_devices_start_equal(backend):
    here, there = trained(backend, steps=0), trained(xcnn.backends.get("cpu"), steps=0)
    for name, array in here.items():
        assert array.tobytes() == there[name].tobytes()


def test_devices_stay_close_in_training(backend):
    here, there = trained(backend), trained(xcnn.backends.get("cpu"))
    for name, array in here.items():
        assert_matches(array, there[name], "float32", factor=100)


# -- host synchronisation ------------------------------------------------------------------


@optimisers
def test_a_training_step_never_waits_for_the_device(strict, optimiser):
    model = network().to(strict)
    optimiser = optimiser(model.parameters())
    images, labels = batch(strict)
    with count_syncs() as syncs:
        for _ in range(2):
            loss = train_step(model, optimiser, images, labels)
    assert syncs == []
    with count_syncs() as syncs:
        loss.item()
    assert len(syncs) == 1


@operations
def test_no_operation_waits_for_the_device(strict, function, inputs):
    arrays = [strict.asarray(a) for a in inputs(2)]
    with count_syncs() as syncs:
        y, pullback = xcnn.vjp(function, *arrays)
        pullback(strict.xp.ones_like(y))
    assert syncs == []


# -- errors --------------------------------------------------------------------------------

ERRORS = {
    "few axes": (lambda a: F.conv2d(a(5, 5), a(4, 3, 3, 3)), ShapeError, "or three C, H, W"),
    "channels": (lambda a: F.conv2d(a(1, 2, 5, 5), a(4, 3, 3, 3)), ShapeError, "2 channels"),
    "features": (lambda a: F.linear(a(2, 3), a(5, 4)), ShapeError, "expected 4 features"),
    "small": (lambda a: F.max_pool2d(a(1, 1, 2, 2), 3), ShapeError, "larger image"),
    "stride": (
        lambda a: F.conv2d(a(1, 1, 5, 5), a(1, 1, 3, 3), stride=0),
        ArgumentError,
        "stride=0",
    ),
    "broadcast": (lambda a: F.add(a(2), a(3)), ShapeError, "do not broadcast"),
    "targets": (lambda a: F.mse_loss(a(2), a(3)), ShapeError, "must be equal"),
    "integers": (lambda a: F.relu(a(2).astype("int32")), DTypeError, "astype"),
    "dtypes": (lambda a: F.add(a(2), a(2).astype("float32")), DTypeError, "float64.*float32"),
    "no graph": (lambda a: xcnn.Tensor(a(1)).backward(), GradientError, "requires_grad"),
    "layer": (
        lambda a: nn.Sequential({"fc": nn.Linear(3, 2)})(a(1, 4)),
        ShapeError,
        r"layer 'fc' \(Linear\(3, 2\)\)",
    ),
    "state": (
        lambda a: nn.Linear(3, 2).load_state_dict({"weight": a(2, 3)}),
        StateDictError,
        r"missing: bias \(2,\)",
    ),
    "device": (lambda a: nn.Linear(3, 2).to("tpu"), DeviceError, 'device=.tpu.: expected "cpu"'),
}
BUILT_IN = {
    ArgumentError: ValueError,
    ShapeError: ValueError,
    DTypeError: TypeError,
    DeviceError: RuntimeError,
    GradientError: RuntimeError,
    StateDictError: KeyError,
}


@pytest.mark.parametrize(("call", "error", "text"), ERRORS.values(), ids=ERRORS)
def test_errors_are_the_same_class_everywhere(backend, call, error, text):
    with pytest.raises(XcnnError, match=text) as caught:
        call(lambda *shape: backend.xp.ones(shape))
    assert type(caught.value) is error
    assert isinstance(caught.value, BUILT_IN[error])


@functools.cache
def parsed():
    return [(path.name, ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES]


def nodes(kind):
    for name, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield f"{name}:{node.lineno}", node


def test_no_assert_meets_a_user():
    """``python -O`` would drop it."""
    assert [place for place, _ in nodes(ast.Assert)] == []


# -- files ---------------------------------------------------------------------------------


def test_never_pickle():
    imported = {
        name.name.split(".")[0]
        for _, node in nodes(ast.Import | ast.ImportFrom)
        for name in ([ast.alias(node.module or "")] if hasattr(node, "module") else node.names)
    }
    assert imported.isdisjoint({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"})
    loads = [
        (place, {k.arg: ast.unparse(k.value) for k in node.keywords})
        for place, node in nodes(ast.Call)
        if ast.unparse(node.func) in ("np.load", "numpy.load")
    ]
    assert loads
    assert [place for place, keywords in loads if keywords.get("allow_pickle") != "False"] == []


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize(
    "name", ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear"]
)
def test_only_the_bias_may_be_none(backend, name, missing):
    shape = {"linear": (2, 3)}.get(name, (2, 2, 3) if name.endswith("1d") else (2, 2, 3, 3))
    operands = [backend.xp.ones(shape, "float32"), backend.xp.ones(shape, "float32")]
    operands[missing] = None
    with pytest.raises(DTypeError, match="expected numbers, got NoneType"):
        getattr(F, name)(*operands)


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (True, True), (1 + 0j, 1 + 0j)])
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"])
@pytest.mark.parametrize("setting", ["stride", "padding"])
def test_settings_are_checked_after_an_equal_valid_call(name, setting, wrong):
    """(1.0, 1.0) is equal to (1, 1), so a cache of valid settings would find it."""
    axes = (3,) if name.endswith("1d") else (3, 3)
    x = w = np.ones((1, 1, *axes), "float32")
    valid = tuple(int(v.real) for v in wrong)[: len(axes) if setting == "stride" else 2]
    getattr(F, name)(x, w, **{setting: valid})
    with pytest.raises(ArgumentError, match=setting):
        getattr(F, name)(x, w, **{setting: wrong[: len(valid)]})


def test_flags_are_bools():
    x = w = -np.ones((1, 1, 1, 1), "float32")
    for true, false in ((True, False), (1, 0), (np.True_, np.False_)):
        assert F.conv2d(x, -w, relu=true).data.item() == 0
        assert F.conv2d(x, -w, relu=false).data.item() == -1
    for flag in ([1], "no", None, np.ones(2)):
        with pytest.raises(ArgumentError, match=r"relu=.*expected True or False"):
            F.conv2d(x, -w, relu=flag)
        with pytest.raises(ArgumentError, match=r"training=.*expected True or False"):
            F.dropout(x, training=flag)


@pytest.mark.parametrize("momentum", [float("nan"), "0.1", xcnn.nn.ReLU()])
def test_momentum_of_statistics(momentum):
    mean, var = np.zeros(2, "float32"), np.ones(2, "float32")
    with pytest.raises(ArgumentError, match="momentum="):
        F.batch_norm(np.ones((2, 2, 3), "float32"), mean, var, momentum=momentum)


@pytest.mark.parametrize("setting", ["beta", "threshold"])
def test_softplus_refuses_an_array(setting):
    with pytest.raises(ArgumentError, match=f"{setting}="):
        F.softplus(np.ones(3, "float32"), **{setting: np.ones(3)})


@pytest.mark.parametrize("shape", ["cpu", np.ones(3, int), (1, 2.0, 3), 5])
def test_input_shape_of_a_network(shape):
    with pytest.raises(ArgumentError, match="input_shape="):
        xcnn.models.espcn(input_shape=shape)
