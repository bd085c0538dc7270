"""How xcnn computes the operators of ONNX, a file per family; importing them fills the table."""

from . import (
    activation,
    arithmetic,
    comparison,
    constants,
    convolution,
    indexing,
    loss,
    normalization,
    pooling,
    resize,
    shape,
    training,
)

__all__ = [
    "activation",
    "arithmetic",
    "comparison",
    "constants",
    "convolution",
    "indexing",
    "loss",
    "normalization",
    "pooling",
    "resize",
    "shape",
    "training",
]
