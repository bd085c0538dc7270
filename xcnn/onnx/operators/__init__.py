"""How xcnn computes the operators of ONNX, a file per family; importing them fills the table."""

from . import (
    activation,
    arithmetic,
    comparison,
    convolution,
    loss,
    normalization,
    parts,
    pooling,
    resize,
    shape,
    training,
    values,
)

__all__ = [
    "activation",
    "arithmetic",
    "comparison",
    "convolution",
    "loss",
    "normalization",
    "parts",
    "pooling",
    "resize",
    "shape",
    "training",
    "values",
]
