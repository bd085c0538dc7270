"""Operations on arrays and Tensors; ``import xcnn.functional as F``.

Each takes arrays or Tensors and returns a Tensor. Images are (N, C, H, W).
"""

from .activation import log_softmax, relu, sigmoid, softmax, tanh
from .arithmetic import add, astype, div, mean, mul, sub, sum
from .conv import conv2d
from .dropout import dropout
from .linear import linear, matmul
from .loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
    nll_loss,
)
from .pool import avg_pool2d, max_pool2d
from .shape import concat, flatten, pad, reshape

__all__ = [
    "add",
    "astype",
    "avg_pool2d",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "concat",
    "conv2d",
    "cross_entropy",
    "div",
    "dropout",
    "flatten",
    "linear",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "mean",
    "mse_loss",
    "mul",
    "nll_loss",
    "pad",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "sub",
    "sum",
    "tanh",
]
