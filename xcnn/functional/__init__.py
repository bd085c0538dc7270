"""Operations on arrays and Tensors; ``import xcnn.functional as F``.

Each takes arrays or Tensors and returns a Tensor. Images are (N, C, H, W), signals
(N, C, L).
"""

from .activation import log_softmax, relu, sigmoid, softmax, tanh
from .adaptive import adaptive_avg_pool2d, adaptive_max_pool2d
from .arithmetic import add, astype, div, mean, mul, sub, sum
from .axes import permute, squeeze, unsqueeze
from .clamp import clamp
from .class_loss import cross_entropy, nll_loss
from .conv import conv2d
from .conv_transpose import conv_transpose2d
from .dropout import dropout, dropout2d
from .indexing import split
from .linear import linear, matmul
from .loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from .norm import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm
from .one_dimensional import avg_pool1d, conv1d, conv_transpose1d, max_pool1d
from .piecewise import hardsigmoid, hardswish, leaky_relu, prelu, relu6
from .pointwise import (
    abs,
    erf,
    exp,
    log,
    maximum,
    minimum,
    pow,
    reciprocal,
    sqrt,
    threshold,
    where,
)
from .pool import avg_pool2d, max_pool2d
from .shape import concat, flatten, pad, reshape
from .smooth import elu, gelu, selu, silu, softplus
from .upsample import interpolate, pixel_shuffle, pixel_unshuffle

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
