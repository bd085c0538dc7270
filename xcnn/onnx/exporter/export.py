"""From a Module to an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from ... import nn
from ...errors import ArgumentError, UnsupportedOperatorError
from ...tensor import Call, Tensor
from ..importer.graph import Graph
from ..importer.node import OPERATORS, Node
from ..reader.read import package
from .check import compare
from .emitters import EMITTERS, CannotExportError, Value, Writer
from .emitters.graph_node import is_same
from .record import arrays_in, inside, needed, placed, run, state_of
from .upgrade import is_renewed
from .write import write

OPSET, IR_VERSION = 21, 10
_BATCH = "batch"


def export(
    model: nn.Module,
    example: Any,
    path: Any,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    metadata: Mapping[str, str] | None = None,
    check: bool = True,
) -> None:
    """Write what ``model`` computes in evaluation mode to an ONNX file.

    The model runs once on ``example``, and the functions of ``xcnn.functional`` that it calls are
    written down, those behind the operators and methods of Tensors too. What Python computes
    beside them is not seen: a branch on the data, or numbers taken out of a Tensor, go into the
    file as they were for the example. ``check`` finds most of that, but no branch that only other
    numbers than the example's take.

    Parameters
    ----------
    model
        Any Module. Weights keep their names; loading the file gives them back under these.
    example
        An input: an array or a Tensor, or a tuple of them where the model takes several.
    path
        Usually ends in ``.onnx``. A model of more than 2 GiB has its weights beside it, in
        ``path`` + ``.data``.
    input_names, output_names
        Names in the file. Default: those of a model that was loaded, else "input" and "output",
        numbered where there are several.
    dynamic_batch
        Whether the first axis of the inputs may be of any length. All inputs whose first axis is
        as long as the first one's share it. Default: yes, but for a loaded model whose file says
        how long it is.
    metadata
        Strings to keep in the file.
    check
        Load what was made and run it beside the model, on the example's numbers in random places
        and with another batch size where that is open, before anything is written.

    Raises
    ------
    UnsupportedOperatorError
        The model calls functions that cannot be written: the text lists all of them, and where.
    ExportError
        The file would not compute what the model does.
    MissingPackageError
        The package ``onnx`` is not installed.
    ArgumentError
        Names or an example that do not fit, or a model that returns something else than Tensors.
    OSError
        The file cannot be written; an older one is left as it was.

    Examples
    --------
    >>> xcnn.onnx.export(model, np.zeros((1, 3, 32, 32), "float32"), "model.onnx")
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is {type(model).__name__}: expected a Module")
    package()
    _check_example(example)
    _check_metadata(metadata)
    inputs = placed(example, model.device)
    if dynamic_batch is None:
        dynamic_batch = not _has_fixed_batch(model)
    if dynamic_batch:
        _check_batch(inputs)
    outputs, calls = run(model, inputs)
    made = _Export(model, inputs, outputs, calls, _names_of(model, input_names, output_names))
    batch = inputs[0].shape[0] if dynamic_batch else None
    proto = made.proto(batch, metadata)
    compared = partial(compare, model=model, example=inputs, batch=batch) if check else None
    write(proto, path, compared)


def _check_example(example: Any) -> None:
    if example is None or isinstance(example, str | PathLike):
        raise ArgumentError(
            f"example is {type(example).__name__}: expected an array, a Tensor, or a tuple of "
            "them; the arguments are export(model, example, path)"
        )


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    if not isinstance(metadata or {}, Mapping):
        raise ArgumentError(f"metadata is {type(metadata).__name__}: expected a dict of strings")
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ArgumentError(f"metadata[{key!r}]={value!r}: expected strings")


def _has_fixed_batch(model: nn.Module) -> bool:
    shapes = list(model.inputs.values()) if isinstance(model, Graph) else []
    return bool(shapes and shapes[0] and isinstance(shapes[0][0], int))


def _check_batch(inputs: list[Tensor]) -> None:
    shape = inputs[0].shape if inputs else ()
    if not shape or not shape[0]:
        raise ArgumentError(
            f"example has shape {shape}: expected a batch of at least one; say "
            "dynamic_batch=False if there is no batch axis"
        )


def _names_of(model: nn.Module, inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """The names that were given, or those in the file that the model comes from."""
    if not isinstance(model, Graph):
        return inputs, outputs
    results = {n for node in _nodes(model) for n in node.outputs}
    own = model.output_names if results.issuperset(model.output_names) else None
    return inputs or model.input_names, outputs or own


class _Export:
    """The making of one file."""

    def __init__(
        self,
        model: nn.Module,
        inputs: list[Tensor],
        outputs: list[Tensor],
        calls: list[Call],
        names: tuple[Any, Any],
    ) -> None:
        self.model = model
        self.inputs, self.outputs = inputs, outputs
        self.state = state_of(model)
        self.input_names = _given_names("input", names[0], len(inputs), self.state)
        taken = {*self.state, *self.input_names}
        self.output_names = _given_names("output", names[1], len(outputs), taken)
        self.writer = Writer({*taken, *self.output_names})
        #: name by array
        self.names: dict[int, str] = {}
        for name, tensor in [*self.state.items(), *zip(self.input_names, inputs, strict=True)]:
            self.names.setdefault(id(tensor.data), name)
        self.calls = needed(calls, set(self.names), outputs)
        self.taken = {id(a) for c in self.calls for a in arrays_in(c.arguments)}
        self.taken |= {id(a) for a in arrays_in(outputs)}
        self.opset = max([OPSET, *(n.version for n in _nodes(model) if n.domain == "")])
        self._kept: list[Any] = []  # whose ids are in names

    def proto(self, batch: int | None, metadata: Mapping[str, str] | None) -> Any:
        """The ``onnx.ModelProto``."""
        from onnx import helper

        from ... import __version__

        self._emit()
        self._name_outputs()
        weights, constants = self._weights()
        graph = helper.make_graph(
            [*constants, *self.writer.nodes],
            type(self.model).__name__,
            [_info(n, t, batch) for n, t in zip(self.input_names, self.inputs, strict=True)],
            [_info(n, t, batch) for n, t in zip(self.output_names, self.outputs, strict=True)],
            weights,
        )
        proto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(d, v) for d, v in self._versions().items()],
            ir_version=IR_VERSION if self.opset == OPSET else _ir_version(self.opset),
            producer_name="xcnn",
            producer_version=__version__,
        )
        own = self.model.metadata if isinstance(self.model, Graph) else {}
        helper.set_model_props(proto, {**own, **(metadata or {})})
        return proto

    def _emit(self) -> None:
        problems: Counter[str] = Counter()
        for call in self.calls:
            try:
                self._emit_call(call)
            except CannotExportError as error:
                what = f", {error}" if error.args else ""
                problems[f"{_described(call)}{what}"] += 1
        if problems:
            lines = [f"{text}: {count} time{'s' * (count > 1)}" for text, count in problems.items()]
            raise UnsupportedOperatorError(
                "these operations of the model cannot be written to ONNX:\n  " + "\n  ".join(lines)
            )

    def _emit_call(self, call: Call) -> None:
        if not call.is_public:
            raise CannotExportError("a Function of its own; compute it with xcnn.functional")
        if call.name not in EMITTERS:
            raise CannotExportError
        node = call.arguments.get("self")
        if isinstance(node, Node) and not (is_renewed(node) or is_same(node, self.opset)):
            self._emit_inside(call)
            return
        self.writer.stem = self._module_of(call)
        arguments = {key: self._as_value(value) for key, value in call.arguments.items()}
        found = EMITTERS[call.name](self.writer, **arguments)
        names = found if isinstance(found, list) else [found]
        results = call.result if isinstance(call.result, tuple) else (call.result,)
        for value, name in zip(results, names, strict=False):  # a node may give more than is taken
            for array in arrays_in(value) if name else ():
                self.names.setdefault(id(array), name)

    def _emit_inside(self, call: Call) -> None:
        """A node of an older set of operators, as what xcnn computes for it."""
        found, calls = inside(call)
        self._kept += [found, calls]
        for inner in needed(calls, set(self.names), found):
            try:
                self._emit_call(inner)
            except CannotExportError as error:
                raise CannotExportError(f"because of {inner.name} inside") from error
        for array, again in zip(arrays_in(call.result), arrays_in(found), strict=True):
            if id(again) in self.names:
                self.names[id(array)] = self.names[id(again)]
            elif id(array) in self.taken:
                raise CannotExportError("a result of it that xcnn.functional does not compute")

    def _as_value(self, value: Any) -> Any:
        """An argument with a Value in each array's place."""
        if isinstance(value, list | tuple):
            return type(value)(self._as_value(v) for v in value)
        for array in arrays_in(value):
            name = self.names.get(id(array))
            kept = Tensor(array).numpy() if name is None else None
            return Value(name, tuple(array.shape), array.dtype, kept)
        return value

    def _module_of(self, call: Call) -> str:
        """The path of the module whose weight is an argument, if one is."""
        names = [self.names.get(id(a)) for a in arrays_in(call.arguments)]
        weight = next((n for n in names if n in self.state), "")
        return (weight or "").rpartition(".")[0]

    def _name_outputs(self) -> None:
        """Give the outputs their names; one that is also something else is a copy of it."""
        self.writer.stem = ""
        made = {y: node for node in self.writer.nodes for y in node.output}
        renamed: dict[str, str] = {}
        for name, tensor in zip(self.output_names, self.outputs, strict=True):
            value = self._as_value(tensor)
            if value.name in made and value.name not in renamed and not _is_constant(made, value):
                renamed[value.name] = name
            else:
                self._copy(renamed.get(value.name, value), name)
        for node in self.writer.nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(n, n) for n in names]

    def _copy(self, value: Any, name: str) -> None:
        self.writer.node("Identity", value)
        self.writer.nodes[-1].output[:] = [name]

    def _weights(self) -> tuple[list[Any], list[Any]]:
        """The weights that nodes use, and nodes for those that are not trained, so that loading
        does not make parameters of them; a running mean is known as one by where it is used.
        """
        from onnx import helper, numpy_helper

        uses: dict[str, set[bool]] = {}
        for node in self.writer.nodes:
            operator = OPERATORS.get((node.domain, node.op_type))
            buffers = operator.buffers if operator else ()
            for number, name in enumerate(node.input):
                uses.setdefault(name, set()).add(number in buffers)
        weights, constants = [], []
        for name, tensor in self.state.items():
            if name not in uses:
                continue
            proto = numpy_helper.from_array(np.asarray(tensor.numpy(), order="C"), name)
            if isinstance(tensor, nn.Buffer) and False in uses[name]:
                constants.append(helper.make_node("Constant", [], [name], name=name, value=proto))
            else:
                weights.append(proto)
        return weights, constants

    def _versions(self) -> dict[str, int]:
        """Version of the operator set by domain."""
        others = {n.domain: n.version for n in _nodes(self.model) if n.domain}
        used = {node.domain for node in self.writer.nodes}
        return {"": self.opset, **{d: v for d, v in others.items() if d in used}}


def _described(call: Call) -> str:
    """What was called, for an error's text, and where."""
    node = call.arguments.get("self")
    if isinstance(node, Node):
        return f"node {node.name!r} ({node.type} of operator set {node.version})"
    return f"{call.name}, called in {call.where}"


def _nodes(model: nn.Module) -> list[Node]:
    """Of the loaded graphs in a model."""
    return [module for module in model.modules() if isinstance(module, Node)]


def _ir_version(opset: int) -> int:
    from onnx import helper

    return max(IR_VERSION, helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def _is_constant(made: Mapping[str, Any], value: Value) -> bool:
    return made[value.name or ""].op_type == "Constant"


def _given_names(kind: str, names: Any, count: int, taken: Any) -> list[str]:
    """The names of the inputs or outputs.

    Raises
    ------
    ArgumentError
        Not as many as there are, one twice, or that of something else.
    """
    if names is None:
        own = Writer(taken)
        return [own.unique(kind if count == 1 else f"{kind}_{n}") for n in range(count)]
    found = [names] if isinstance(names, str) else list(names)
    if len(found) != count or not all(isinstance(n, str) and n for n in found):
        raise ArgumentError(f"{kind}_names={names!r}: expected {count} names, each a string")
    twice = [n for n in found if n in taken or found.count(n) > 1]
    if twice:
        raise ArgumentError(
            f"{kind}_names={names!r}: {twice[0]!r} is also the name of another {kind} or of a "
            "weight; choose another"
        )
    return found


def _info(name: str, tensor: Tensor, batch: int | None) -> Any:
    """Name, type and shape of an input or output."""
    from onnx import helper

    shape: list[Any] = list(tensor.shape)
    if batch is not None and shape and shape[0] == batch:
        shape[0] = _BATCH
    dtype = np.dtype(str(tensor.dtype))
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
