"""Import of ONNX models: the operators, and the Graph, a Module that runs them."""

from .graph import Graph
from .load import build, load
from .node import OPERATORS, Node, Operator, operator
from .sampling import Axis, Sampling, resampling

__all__ = [
    "OPERATORS", "Axis", "Graph", "Node", "Operator", "Sampling", "build", "load", "operator",
    "resampling",
]  # fmt: skip
