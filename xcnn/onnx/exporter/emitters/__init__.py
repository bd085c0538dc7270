"""How calls of xcnn.functional become nodes, a file per family; importing them fills the table."""

from ..writer import EMITTERS, CannotExportError, Value, Writer
from . import activation, arithmetic, conv, graph_node, indexing, linear, norm, pool, resize, shape

__all__ = [
    "EMITTERS",
    "CannotExportError",
    "Value",
    "Writer",
    "activation",
    "arithmetic",
    "conv",
    "graph_node",
    "indexing",
    "linear",
    "norm",
    "pool",
    "resize",
    "shape",
]
