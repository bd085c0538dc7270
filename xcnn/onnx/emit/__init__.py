"""How calls of xcnn.functional become nodes, a file per family; importing them fills the table."""

from . import activation, arithmetic, conv, indexing, linear, node, norm, pool, resize, shape
from .writer import EMITTERS, CannotExportError, Value, Writer

__all__ = [
    "EMITTERS",
    "CannotExportError",
    "Value",
    "Writer",
    "activation",
    "arithmetic",
    "conv",
    "indexing",
    "linear",
    "node",
    "norm",
    "pool",
    "resize",
    "shape",
]
