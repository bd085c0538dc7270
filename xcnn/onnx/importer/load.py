"""Building a Graph from an ONNX file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileFormatError, OutOfMemoryError, UnsupportedOperatorError, XcnnError
from ...extend import register_layer
from ...files import reading
from .. import reader
from ..reader import Source, decode, require_onnx
from . import operators  # noqa: F401  (registers them)
from .branches import Branches
from .graph import Graph
from .node import MALFORMED, OPERATORS, Guards, Node

LIMIT = 2**32  # bytes of one value: four times the largest activation of VGG-16 for 64 images
OPSETS = 6, 28  # oldest and newest supported version of ONNX's own operator set
_MAX_LISTED = 200  # nodes in an error message
#: by attribute of a Constant: the type of its value, and the dtype of the array
_CONSTANTS: dict[str, tuple[type, str | None]] = {
    "value": (np.ndarray, None),
    "value_float": (float, "float32"),
    "value_floats": (list, "float32"),
    "value_int": (int, "int64"),
    "value_ints": (list, "int64"),
}


def load(path: Any, limit: int = LIMIT) -> Graph:
    """Load an ONNX model as a Module, on the CPU and in evaluation mode.

    The model can be trained further, moved to a GPU and exported again; weights keep their names
    in the file. The weights and biases of layers are trainable, and so are operands of addition and
    multiplication with more than one element. Running statistics, constants of the file,
    subtrahends and divisors, such as the mean and standard deviation of pixels, are not. See
    ``named_parameters()``. A node that the file sets to training mode stays in training mode.

    Untrusted files are safe to load and run: they execute nothing but the operators in the graph
    and read no files outside their folder. But the file decides the number of operators, and the
    size of each array up to ``limit``: for untrusted models, set a small limit and bound the time
    and memory of the process.

    Parameters
    ----------
    path
        The file. External data must be in the same folder.
    limit
        Maximum size in bytes of any array of the graph, weight or result.

    Returns
    -------
    Graph

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Not an ONNX file, truncated or malformed; the message names the node.
    MissingPackageError
        The package ``onnx`` is not installed.
    OutOfMemoryError
        The weights do not fit in memory.
    UnsupportedOperatorError
        The model uses unsupported operators; the message lists their nodes.
    """
    with reading(path, "is not a model"):
        return build(reader.read_model(Path(path)), Path(path).parent, limit)


def build(model: Any, folder: Path | None = None, limit: int = LIMIT) -> Graph:
    """Build a Graph from an ``onnx.ModelProto`` whose external data, if any, is in ``folder``.

    Raises
    ------
    FileFormatError, UnsupportedOperatorError
        As :func:`load`.
    """
    return _build(model, Source(folder, limit))


def rebuild(model: str) -> Graph:
    """Build the Graph that a saved file describes; weights are zeros until a state dict is loaded.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` without the arrays of the state dict, in base64.

    Raises
    ------
    FileFormatError, UnsupportedOperatorError
        As :func:`load`.
    """
    try:
        content = base64.b64decode(model, validate=True)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"the description of a graph is not base64: {error}") from error
    return _build(
        reader.parse(content, "the description of a graph"), Source(None, LIMIT, blank=True)
    )


register_layer(Graph, "onnx.Graph", rebuild)


def _build(model: Any, source: Source) -> Graph:
    try:
        return _graph(model, source)
    except XcnnError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"the model does not fit in memory: {error}") from error
    except (*MALFORMED, RecursionError) as error:
        text = str(error) or type(error).__name__
        raise FileFormatError(f"the model is malformed: {text}") from error


def _graph(model: Any, source: Source) -> Graph:
    _check_model(model)
    inlined, imports = reader.inline_functions(model)
    versions = _versions(imports)
    weights = _weights(model.graph.initializer, source)
    original = protos = list(inlined)
    guards: dict[int, Guards] = {}
    if any(proto.op_type == "If" for proto in protos):
        flat = Branches(dict(weights), lambda proto: _constant(proto, 0, source))
        pairs = list(flat.nodes(protos))
        protos = [proto for proto, _ in pairs]
        guards = {id(proto): guard for proto, guard in pairs}
    _check_operators(protos)
    inputs = _inputs(model.graph.input, weights)
    constants: dict[str, Any] = {}
    nodes = []
    for number, proto in _without_copies(protos, weights, source):
        if proto.op_type == "Constant":
            name, array = _constant(proto, number, source)
            if name in constants:
                raise FileFormatError(f"{_where(proto, number)}: {name!r} is defined twice")
            constants[name] = array
        else:
            nodes.append(_node(proto, number, versions, source))
            nodes[-1].guards = guards.get(id(proto), ())
    outputs = [decode(o.name, "output") for o in model.graph.output]
    _check_names(nodes, [*weights, *constants, *inputs], outputs)
    metadata = {
        decode(p.key, "metadata"): decode(p.value, "metadata") for p in model.metadata_props
    }
    graph = Graph(nodes, inputs, outputs, weights, constants, metadata)
    graph.set_skeleton(reader.without_weights(model, original, imports, graph.settings))
    return graph.eval()


# -- the model as a whole -----------------------------------------------------------------------


def _check_model(model: Any) -> None:
    if not model.HasField("graph") or not model.graph.output:
        raise FileFormatError("the file has no graph with outputs: it is truncated or not a model")
    newest = require_onnx().IR_VERSION
    if not 1 <= model.ir_version <= newest:
        raise FileFormatError(
            f"the model has version {model.ir_version} of the format, but the installed package "
            f"onnx reads 1 to {newest}: pip install --upgrade onnx"
        )
    if model.graph.sparse_initializer:
        raise FileFormatError("the model has sparse weights, which are not supported")


def _versions(imports: Iterable[Any]) -> dict[str, int]:
    """Operator set versions by domain."""
    versions: dict[str, int] = {}
    for entry in imports:
        domain = _domain(entry)
        if versions.setdefault(domain, entry.version) != entry.version:
            raise FileFormatError(f"the model imports two versions of operator set {domain!r}")
        if not 1 <= entry.version < 2**31:
            raise FileFormatError(f"the model imports version {entry.version} of an operator set")
    _check_version(versions.get("", OPSETS[0]))
    return versions


def _check_version(version: int) -> None:
    """Reject versions of ONNX's own operator set that xcnn or the installed onnx do not know."""
    oldest, newest = OPSETS
    text = f"the model imports operator set version {version}"
    if not oldest <= version <= newest:
        raise FileFormatError(
            f"{text}: {oldest} to {newest} are supported; export it with opset_version= in this "
            "range, or convert it with onnx.version_converter"
        )
    known = require_onnx().defs.onnx_opset_version()
    if version > known:
        raise FileFormatError(
            f"{text}, but the installed package onnx knows only versions up to {known}: "
            "pip install --upgrade onnx"
        )


def _domain(proto: Any) -> str:
    return "" if proto.domain == "ai.onnx" else decode(proto.domain, "domain")


def _check_operators(protos: Sequence[Any]) -> None:
    known = {*OPERATORS, ("", "Constant")}
    unknown = [
        f"{_operator_name(p)}: {_name(p, n)}"
        for n, p in enumerate(protos)
        if (_domain(p), p.op_type) not in known
    ]
    if unknown:
        more = len(unknown) - _MAX_LISTED
        lines = unknown[:_MAX_LISTED] + ([f"and {more} more"] if more > 0 else [])
        raise UnsupportedOperatorError(
            f"{len(unknown)} nodes of the model have unsupported operators:\n  "
            + "\n  ".join(lines)
            + f"\nsupported are {', '.join(sorted(name for _, name in known))}"
        )


def _operator_name(proto: Any) -> str:
    domain = _domain(proto)
    return f"{domain}.{proto.op_type}" if domain else decode(proto.op_type, "operator")


def _name(proto: Any, number: int) -> str:
    """The name of a node, or its number and first output."""
    if proto.name:
        return f"node {decode(proto.name, 'node')!r}"
    return f"node {number} (output {proto.output[0] if proto.output else ''!r})"


def _where(proto: Any, number: int) -> str:
    return f"{_name(proto, number)} ({_operator_name(proto)})"


# -- weights, nodes, constants, inputs ----------------------------------------------------------


def _new_name(value: Any, kind: str, known: Iterable[str]) -> str:
    name = decode(value, kind)
    if not name or name in known:
        raise FileFormatError(f"{kind} {name!r}: expected a unique, non-empty name")
    return name


def _weights(tensors: Iterable[Any], source: Source) -> dict[str, Any]:
    weights: dict[str, Any] = {}
    for tensor in tensors:
        name = _new_name(tensor.name, "weight", weights)
        weights[name] = reader.array_of(tensor, source, f"weight {name!r}")
    return weights


def _without_copies(
    protos: Sequence[Any], weights: dict[str, Any], source: Source
) -> Iterable[tuple[int, Any]]:
    """Number and proto of each node, except an Identity of a weight: its output becomes a weight.

    PyTorch stores equal weights once, such as the scale and the running variance of a new
    batch-norm, but training makes them differ. All copies together take at most the limit.
    """
    budget = source.limit
    for number, proto in enumerate(protos):
        if proto.op_type == "Identity" and len(proto.input) == len(proto.output) == 1:
            original, name = weights.get(proto.input[0]), decode(proto.output[0], "Identity")
            if original is not None and name and name not in weights and original.nbytes <= budget:
                budget -= original.nbytes
                zeros = np.zeros(original.shape, original.dtype)  # takes no memory until written
                weights[name] = zeros if source.blank else original.copy()
                continue
        yield number, proto


def _node(proto: Any, number: int, versions: dict[str, int], source: Source) -> Node:
    where, domain = _where(proto, number), _domain(proto)
    if domain not in versions:
        raise FileFormatError(f"{where}: the model does not import operator set {domain!r}")
    attributes = _attributes(proto, where, Source(None, source.limit))
    if proto.op_type != "If":  # its branches are nodes of their own by now
        _check_node(proto, versions, where)
    return Node(
        proto.op_type,
        domain,
        decode(proto.name, "node") or f"{proto.op_type}_{number}",
        attributes,
        [decode(n, where) for n in proto.input],
        [decode(n, where) for n in proto.output],
        versions[domain],
        source.limit,
    )


def _attributes(proto: Any, where: str, source: Source) -> dict[str, Any]:
    attributes = {
        decode(a.name, where): reader.attribute(a, source, where) for a in proto.attribute
    }
    if len(attributes) != len(proto.attribute):
        raise FileFormatError(f"{where}: an attribute is repeated")
    return attributes


def _check_node(proto: Any, versions: dict[str, int], where: str) -> None:
    """Check the number of inputs and outputs, and the names and types of attributes."""
    checker = require_onnx().checker
    context = checker.C.CheckerContext()
    context.ir_version = require_onnx().IR_VERSION
    context.opset_imports = {**versions, "ai.onnx": versions.get("", 1)}
    try:
        checker.check_node(proto, context)
    except (checker.ValidationError, UnicodeDecodeError) as error:
        text = str(error).strip().split("\n", 1)[0]  # the rest prints the node
        text = text.replace(f"{proto.name} : ", "")
        text = text.replace(f"Node({proto.name})", "node").replace(f"Node ({proto.name})", "node")
        raise FileFormatError(f"{where}: {text}") from error


def _constant(proto: Any, number: int, source: Source) -> tuple[str, Any]:
    """Name and array of a Constant node."""
    where = _where(proto, number)
    if len(proto.attribute) != 1 or len(proto.output) != 1 or proto.input:
        raise FileFormatError(f"{where}: expected one attribute, one output and no input")
    name = decode(proto.output[0], where)
    ((key, value),) = _attributes(proto, where, source).items()
    kind, dtype = _CONSTANTS.get(key, ((), None))
    if not name or not isinstance(value, kind):
        raise FileFormatError(f"{where}: attribute {key} is unsupported or has the wrong type")
    return name, np.asarray(value, dtype)


def _inputs(protos: Iterable[Any], weights: dict[str, Any]) -> dict[str, Any]:
    """Name and shape of each input that is not a weight."""
    types: dict[str, Any] = {}
    for proto in protos:
        types[_new_name(proto.name, "input", types)] = proto.type
    return {name: _shape(name, type) for name, type in types.items() if name not in weights}


def _shape(name: str, type: Any) -> tuple[Any, ...] | None:
    """The declared lengths of an input, each an int, or a name or None if variable."""
    where = f"input {name!r}"
    kind = type.WhichOneof("value")
    if kind != "tensor_type":
        raise FileFormatError(f"{where} is of kind {kind}: only tensors are supported")
    tensor = type.tensor_type
    reader.dtype_name(tensor.elem_type, where)
    if not tensor.HasField("shape"):
        return None
    if any(d.dim_value < 0 for d in tensor.shape.dim):
        raise FileFormatError(f"{where} has dims {[d.dim_value for d in tensor.shape.dim][:64]}")
    return tuple(
        d.dim_value if d.HasField("dim_value") else decode(d.dim_param, where) or None
        for d in tensor.shape.dim
    )


def _check_names(nodes: Sequence[Node], initial: Sequence[str], outputs: Sequence[str]) -> None:
    """Check that every value is defined once, and before it is used."""
    known: set[str] = set()
    for name in initial:
        if name in known:
            raise FileFormatError(
                f"{name!r} is defined twice: by a Constant and as an input or weight"
            )
        known.add(name)
    later = {n for node in nodes for n in node.outputs}
    for node in nodes:
        used = (*node.inputs, *(name for name, _ in node.guards))
        missing = next((n for n in used if n and n not in known), None)
        if missing is not None:
            why = "defined by a later node: sort the nodes" if missing in later else "undefined"
            raise node.error(f"input {missing!r} is {why}")
        for name in filter(None, node.outputs):
            if name in known:
                raise node.error(f"output {name!r} is defined twice")
            known.add(name)
    undefined = next((n for n in outputs if n not in known), None)
    if undefined is not None:
        raise FileFormatError(f"output {undefined!r} of the graph is undefined")
