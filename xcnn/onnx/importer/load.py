"""From an ONNX file to a Graph."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileFormatError, OutOfMemoryError, UnsupportedOperatorError, XcnnError
from ...extend import register_layer
from ..reader.functions import inlined
from ..reader.read import Source, array_of, attribute, package, parse, read_model, text, type_of
from ..reader.skeleton import outline_of
from . import operators  # noqa: F401  (fills the table)
from .graph import Graph
from .node import OPERATORS, Node

LIMIT = 2**32  # bytes of one value: four times what the activations of VGG-16 take, 64 images
OPSETS = 6, 28  # of ONNX's own operators: the oldest and the newest that xcnn knows
_LISTED = 200  # nodes in an error's text
#: what a malformed model can lead to where nothing else has refused it
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def load(path: Any, limit: int = LIMIT) -> Graph:
    """Read an ONNX model as a Module, on the CPU, in evaluation mode.

    The model can be trained further, moved to a GPU and exported again; its weights have the
    names that they have in the file. Trained is what a layer takes as its weight or bias, and
    what is added or multiplied and is more than one number; not running statistics, what the file
    calls a constant, or what is subtracted or divided by, such as the mean and deviation of
    pixels. ``named_parameters()`` has what is. A node that the file puts into training mode stays
    so in evaluation mode, too.

    A file may come from anybody: reading and running it executes
    nothing but the operators in it, and reads no files outside its folder. How many operators
    those are, each with arrays up to ``limit``, is the author's choice: a program that runs
    models of strangers sets a small limit, and bounds the time and the memory of the process.

    Parameters
    ----------
    path
        The file. Weights that lie in files of their own must be in its folder.
    limit
        The most bytes that one array of the graph may take, weights and results alike.

    Returns
    -------
    Graph

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Not an ONNX file, truncated, or malformed: the text names the node.
    MissingPackageError
        The package ``onnx`` is not installed.
    OutOfMemoryError
        The weights do not fit in the memory.
    UnsupportedOperatorError
        Lists every node that xcnn does not compute.
    """
    return build(read_model(path), Path(path).parent, limit)


def build(model: Any, folder: Path | None = None, limit: int = LIMIT) -> Graph:
    """The Graph of an ``onnx.ModelProto`` whose external weights, if any, lie in ``folder``.

    Raises
    ------
    FileFormatError, UnsupportedOperatorError
        As :func:`load`.
    """
    return _build(model, Source(folder, limit))


def rebuild(model: str) -> Graph:
    """The Graph that a saved file describes; the weights are zeros until a state dict comes.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` without what is in the state dict, in base64.

    Raises
    ------
    FileFormatError, UnsupportedOperatorError
        As :func:`load`.
    """
    try:
        content = base64.b64decode(model, validate=True)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"the description of a graph is not base64: {error}") from error
    return _build(parse(content, "the description of a graph"), Source(None, LIMIT, blank=True))


register_layer(Graph, "onnx.Graph", rebuild)


def _build(model: Any, source: Source) -> Graph:
    try:
        return _graph(model, source)
    except XcnnError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"the model does not fit in the memory: {error}") from error
    except _MALFORMED as error:
        raise FileFormatError(
            f"the model is malformed: {str(error) or type(error).__name__}"
        ) from error


def _graph(model: Any, source: Source) -> Graph:
    _check_model(model)
    protos, imports = _inlined(model)
    versions = _versions(imports)
    _check_operators(protos)
    weights = _weights(model.graph.initializer, source)
    inputs = _inputs(model.graph.input, weights)
    constants: dict[str, Any] = {}
    copies = _Copies(source)
    nodes = []
    for number, proto in enumerate(protos):
        if proto.op_type == "Constant":
            name, array = _constant(proto, number, source)
            if name in constants:
                raise FileFormatError(f"{_where(proto, number)}: {name!r} is made twice")
            constants[name] = array
        elif not copies.take(proto, weights):
            nodes.append(_node(proto, number, versions, source))
    outputs = [text(o.name, "output") for o in model.graph.output]
    _check_names(nodes, [*weights, *constants, *inputs], outputs)
    metadata = {text(p.key, "metadata"): text(p.value, "metadata") for p in model.metadata_props}
    graph = Graph(nodes, inputs, outputs, weights, constants, metadata)
    graph.remember(outline_of(model, protos, imports, graph.settings))
    return graph.eval()


# -- the model as a whole -----------------------------------------------------------------------


def _check_model(model: Any) -> None:
    if not model.HasField("graph") or not model.graph.output:
        raise FileFormatError("this model has no graph with outputs: it is truncated or no model")
    newest = package().IR_VERSION
    if not 1 <= model.ir_version <= newest:
        raise FileFormatError(
            f"the model has version {model.ir_version} of the format: the installed package onnx "
            f"reads 1 to {newest}; pip install --upgrade onnx"
        )
    if model.graph.sparse_initializer:
        raise FileFormatError("the model has sparse weights, which xcnn does not read")


def _inlined(model: Any) -> tuple[Sequence[Any], Iterable[Any]]:
    try:
        nodes, imports = inlined(model)
    except package().checker.ValidationError as error:
        raise FileFormatError(f"the model's functions are malformed: {_first(error)}") from error
    return list(nodes), imports


def _versions(imports: Iterable[Any]) -> dict[str, int]:
    """Version of the operator set by domain."""
    found: dict[str, int] = {}
    for entry in imports:
        domain = _domain(entry)
        if found.get(domain, entry.version) != entry.version:
            raise FileFormatError(f"the model imports two versions of the operators of {domain!r}")
        if not 1 <= entry.version < 2**31:
            raise FileFormatError(f"the model has version {entry.version} of the operators")
        found[domain] = entry.version
    _check_version(found.get(""))
    return found


def _check_version(version: int | None) -> None:
    """ONNX's own operators: as xcnn and the installed package know them."""
    oldest, newest = OPSETS
    if version is None:
        return
    if not oldest <= version <= newest:
        raise FileFormatError(
            f"the model has version {version} of the operators: xcnn reads {oldest} to {newest}; "
            "export it with one of these (opset_version=), or convert it with "
            "onnx.version_converter"
        )
    known = package().defs.onnx_opset_version()
    if version > known:
        raise FileFormatError(
            f"the model has version {version} of the operators, the installed package onnx knows "
            f"up to {known}: pip install --upgrade onnx"
        )


def _domain(proto: Any) -> str:
    return "" if proto.domain == "ai.onnx" else text(proto.domain, "domain")


def _check_operators(protos: Sequence[Any]) -> None:
    known = {*OPERATORS, ("", "Constant")}
    unknown = [
        f"{_kind(p)}: {_name(p, n)}"
        for n, p in enumerate(protos)
        if (_domain(p), p.op_type) not in known
    ]
    if unknown:
        more = len(unknown) - _LISTED
        lines = unknown[:_LISTED] + ([f"and {more} more"] if more > 0 else [])
        raise UnsupportedOperatorError(
            f"xcnn does not compute {len(unknown)} of this model's nodes:\n  "
            + "\n  ".join(lines)
            + f"\nit computes {', '.join(sorted(name for _, name in known))}"
        )


def _kind(proto: Any) -> str:
    domain = _domain(proto)
    return f"{domain}.{proto.op_type}" if domain else text(proto.op_type, "operator")


def _name(proto: Any, number: int) -> str:
    """What a node is called in an error: its name, else its number and first output."""
    if proto.name:
        return f"node {text(proto.name, 'node')!r}"
    return f"node {number} (output {proto.output[0] if proto.output else ''!r})"


def _where(proto: Any, number: int) -> str:
    return f"{_name(proto, number)} ({_kind(proto)})"


# -- its parts ----------------------------------------------------------------------------------


def _weights(tensors: Iterable[Any], source: Source) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tensor in tensors:
        name = text(tensor.name, "weight")
        if not name or name in found:
            raise FileFormatError(f"weight {name!r}: expected a name, and each name once")
        found[name] = array_of(tensor, source, f"weight {name!r}")
    return found


class _Copies:
    """Weights that are the Identity of another one.

    PyTorch writes weights of the same values, such as the scale and the running variance of a new
    batch-norm, only once; training moves them apart.
    """

    def __init__(self, source: Source) -> None:
        self.left = source.limit  # bytes of all of them
        self.blank = source.blank

    def take(self, proto: Any, weights: dict[str, Any]) -> bool:
        """Add the node's output to ``weights`` if it is a copy of one."""
        if proto.op_type != "Identity" or len(proto.input) != 1 or len(proto.output) != 1:
            return False
        original, name = weights.get(proto.input[0]), text(proto.output[0], "Identity")
        if original is None or not name or name in weights or original.nbytes > self.left:
            return False
        self.left -= original.nbytes
        blank = np.zeros(original.shape, original.dtype) if self.blank else None  # takes no memory
        weights[name] = original.copy() if blank is None else blank
        return True


def _node(proto: Any, number: int, versions: dict[str, int], source: Source) -> Node:
    where, domain = _where(proto, number), _domain(proto)
    if domain not in versions:
        raise FileFormatError(f"{where}: the model imports no operators of {domain!r}")
    attributes = _attributes(proto, where, Source(None, source.limit))
    _check_node(proto, versions, where)
    return Node(
        proto.op_type,
        domain,
        text(proto.name, "node") or f"{proto.op_type}_{number}",
        attributes,
        [text(n, where) for n in proto.input],
        [text(n, where) for n in proto.output],
        versions[domain],
        source.limit,
    )


def _attributes(proto: Any, where: str, source: Source) -> dict[str, Any]:
    found = {text(a.name, where): attribute(a, source, where) for a in proto.attribute}
    if len(found) != len(proto.attribute):
        raise FileFormatError(f"{where}: an attribute comes twice")
    return found


def _check_node(proto: Any, versions: dict[str, int], where: str) -> None:
    """Numbers of inputs and outputs, and names and types of attributes, as ONNX defines them."""
    checker = package().checker
    context = checker.C.CheckerContext()
    context.ir_version = package().IR_VERSION
    context.opset_imports = {**versions, "ai.onnx": versions.get("", 1)}
    try:
        checker.check_node(proto, context)
    except (checker.ValidationError, UnicodeDecodeError) as error:
        told = _first(error).replace(f"{proto.name} : ", "")
        told = told.replace(f"Node({proto.name})", "node").replace(f"Node ({proto.name})", "node")
        raise FileFormatError(f"{where}: {told}") from error


def _first(error: Exception) -> str:
    """The first line of the checker's text; the rest prints the node."""
    return str(error).strip().split("\n", 1)[0]


def _constant(proto: Any, number: int, source: Source) -> tuple[str, Any]:
    """Name and array of a Constant node."""
    where = _where(proto, number)
    if len(proto.attribute) != 1 or len(proto.output) != 1 or proto.input:
        raise FileFormatError(f"{where}: expected one attribute, one output and no input")
    name = text(proto.output[0], where)
    ((key, value),) = _attributes(proto, where, source).items()
    kinds = {
        "value": (np.ndarray, None),
        "value_float": (float, "float32"),
        "value_floats": (list, "float32"),
        "value_int": (int, "int64"),
        "value_ints": (list, "int64"),
    }
    kind, dtype = kinds.get(key, ((), None))
    if not name or not isinstance(value, kind):
        raise FileFormatError(f"{where}: attribute {key} is not supported, or of a wrong type")
    return name, np.asarray(value, dtype)


def _inputs(protos: Iterable[Any], weights: dict[str, Any]) -> dict[str, Any]:
    """Name and shape of each input that is not the default of a weight."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for proto in protos:
        name = text(proto.name, "input")
        if not name or name in seen:
            raise FileFormatError(f"input {name!r}: expected a name, and each name once")
        seen.add(name)
        if name not in weights:
            found[name] = _shape(name, proto.type)
    return found


def _shape(name: str, type: Any) -> tuple[Any, ...] | None:
    """The lengths of an input: int; or a name or None where any is allowed."""
    where = f"input {name!r}"
    kind = type.WhichOneof("value")
    if kind != "tensor_type":
        raise FileFormatError(f"{where} is of kind {kind}: xcnn takes tensors only")
    tensor = type.tensor_type
    type_of(tensor.elem_type, where)
    if not tensor.HasField("shape"):
        return None
    if any(d.dim_value < 0 for d in tensor.shape.dim):
        raise FileFormatError(f"{where} has dims {[d.dim_value for d in tensor.shape.dim][:64]}")
    return tuple(
        d.dim_value if d.HasField("dim_value") else text(d.dim_param, where) or None
        for d in tensor.shape.dim
    )


def _check_names(nodes: Sequence[Node], given: Sequence[str], outputs: Sequence[str]) -> None:
    """Every value is made once, before it is taken."""
    known: set[str] = set()
    for name in given:
        if name in known:
            raise FileFormatError(f"{name!r} is made twice: by a Constant and as input or weight")
        known.add(name)
    later = {n for node in nodes for n in node.outputs}
    for node in nodes:
        missing = next((n for n in node.inputs if n and n not in known), None)
        if missing is not None:
            why = "made only later, so the nodes are unsorted" if missing in later else "not made"
            raise node.error(f"input {missing!r} is {why}")
        made = [n for n in node.outputs if n]
        twice = next((n for n in made if n in known), made[0] if made else "")
        if known & set(made) or len(set(made)) < len(made):
            raise node.error(f"output {twice!r} is made twice")
        known |= set(made)
    unmade = next((n for n in outputs if n not in known), None)
    if unmade is not None:
        raise FileFormatError(f"output {unmade!r} of the graph is made by no node")
