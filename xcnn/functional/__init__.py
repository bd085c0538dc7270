"""Operations on arrays and Tensors; ``import xcnn.functional as F``.

Each takes arrays or Tensors and returns a Tensor. Images are (N, C, H, W), signals
(N, C, L).
"""

from ..tensor import Tensor
from . import methods
from .activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log_softmax,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
    threshold,
)
from .arithmetic import add, div, maximum, minimum, mul, pow, sub, where
from .conv import conv1d, conv2d
from .conv_transpose import conv_transpose1d, conv_transpose2d
from .dropout import dropout, dropout2d
from .elementwise import abs, astype, clamp, erf, exp, log, reciprocal, sqrt
from .linear import linear, matmul
from .loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from .norm import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm
from .pad import pad
from .pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from .reduction import mean, sum
from .resample import interpolate, pixel_shuffle, pixel_unshuffle
from .shape import concat, flatten, permute, reshape, split, squeeze, unsqueeze

__all__ = [
    "abs",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "astype",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "clamp",
    "concat",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "div",
    "dropout",
    "dropout2d",
    "elu",
    "erf",
    "exp",
    "flatten",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log",
    "log_softmax",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "maximum",
    "mean",
    "minimum",
    "mse_loss",
    "mul",
    "nll_loss",
    "pad",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "pow",
    "prelu",
    "reciprocal",
    "relu",
    "relu6",
    "reshape",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "squeeze",
    "sub",
    "sum",
    "tanh",
    "threshold",
    "unsqueeze",
    "where",
]

methods.install(Tensor)
