"""Import of ONNX models: the operators, and the Graph, a Module that runs them."""

from .graph import Graph
from .load import build, load
from .node import OPERATORS, Node, Operator, operator

__all__ = ["OPERATORS", "Graph", "Node", "Operator", "build", "load", "operator"]
