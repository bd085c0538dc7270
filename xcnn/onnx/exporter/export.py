"""Exporting a Module to an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ... import nn
from ...checks import check_flag
from ...errors import ArgumentError, ExportError, UnsupportedOperatorError
from ...extend import EMITTERS
from ...tensor import Call, Tensor
from ..importer import Graph, Node
from ..reader import require_onnx
from . import emitters  # noqa: F401  (registers them)
from .check import compare
from .parts import NO_FORM, PARTS
from .record import arrays_in, changed, ids_in, needed, placed, roles, run, run_parts
from .upgrade import can_upgrade, is_current
from .write import write
from .writer import CannotExportError, Value, Writer

OPSET, IR_VERSION = 21, 10
_OPEN = {"NonMaxSuppression", "NonZero", "Unique"}  # the values decide how many results there are


def export(
    model: nn.Module,
    example: Any,
    path: Any,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    dynamic_size: bool = False,
    metadata: Mapping[str, str] | None = None,
    check: bool = True,
) -> None:
    """Export ``model`` in evaluation mode to an ONNX file.

    The model runs once on ``example``, and its calls to ``xcnn.functional`` are written as nodes,
    including those made by operators and methods of Tensors. Other Python code is not traced:
    branches on data, and values read from a Tensor, are fixed to those of the example. ``check``
    finds most of these, but not a branch that its inputs do not take.

    Parameters
    ----------
    model
        Any Module. Weights keep their names in the file.
    example
        An input: an array or a Tensor, or a tuple of them for several inputs.
    path
        Usually ends in ``.onnx``. Weights of more than 2 GiB are written to ``path`` + ``.data``.
    input_names, output_names
        Names in the file. Default: those of a loaded model, else "input" and "output", numbered if
        there are several.
    dynamic_batch
        Whether the batch size is variable. It is the first axis of the first input, and of all
        inputs whose first axis has the same length. Default: True, except for a loaded model with
        a fixed batch size.
    dynamic_size
        Whether the height and width of images are variable, the last two axes of inputs and outputs
        with four. For networks of convolutions and the like; ``check`` finds if one needs the size.
    metadata
        Strings to store in the file.
    check
        Before writing, load the result and compare it with the model on random samples of the
        example's values, with a different batch size if it is variable, and another size. Of a
        model with an attribute ``onnx_parts``, Modules of which each takes the outputs of the one
        before, each part is compared, with inputs of its own.

    Raises
    ------
    UnsupportedOperatorError
        The model calls functions that cannot be exported; the message lists all of them with their
        locations.
    ExportError
        The file would not compute the same as the model.
    MissingPackageError
        The package ``onnx`` is not installed.
    ArgumentError
        Invalid names or example, or the model returns something other than Tensors.
    OSError
        The file cannot be written; an existing one is not modified.

    Examples
    --------
    >>> model = xcnn.models.create("resnet20")
    >>> xcnn.onnx.export(model, np.zeros((1, 3, 32, 32), "float32"), "model.onnx")
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is {type(model).__name__}: expected a Module")
    require_onnx()
    _check_example(example)
    _check_metadata(metadata)
    inputs = placed(example, model.device)
    batch = _variable_batch(model, inputs, dynamic_batch)
    exported = _Export(model, inputs, input_names, output_names)
    proto = exported.proto(batch, check_flag("dynamic_size", dynamic_size), metadata)

    def verify(proto: Any, folder: Path | None) -> None:
        if parts := getattr(model, "onnx_parts", ()):
            values = inputs
            for part in parts:
                alone = _Export(part, values, None, None)
                compare(alone.proto(batch, False, None), None, part, values, batch)
                values = [_spread(y) for y in alone.outputs]
            return
        compare(proto, folder, model, inputs, batch)
        if dynamic_size:
            try:
                compare(proto, folder, model, _enlarged(inputs), None)
            except ExportError as error:
                advice = "dynamic_size=True is for networks that take images of any size"
                raise ExportError(f"with larger images: {error}. {advice}") from error

    write(proto, path, verify if check else None)


def _check_example(example: Any) -> None:
    if example is None or isinstance(example, str | PathLike):
        raise ArgumentError(
            f"example is {type(example).__name__}: expected an array, a Tensor, or a tuple of "
            "them; the arguments are export(model, example, path)"
        )


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    items = metadata.items() if isinstance(metadata, Mapping) else [(metadata, None)]
    if metadata is not None and not all(isinstance(s, str) for item in items for s in item):
        raise ArgumentError(f"metadata={metadata!r}: expected a dict of strings")


def _variable_batch(model: nn.Module, inputs: list[Tensor], dynamic: bool | None) -> int | None:
    """The example's batch size if it is variable in the file, else None."""
    if dynamic is None:
        shapes = list(model.inputs.values()) if isinstance(model, Graph) else []
        dynamic = not (shapes and shapes[0] and isinstance(shapes[0][0], int))
    if not dynamic:
        return None
    shape = inputs[0].shape if inputs else ()
    if not shape or not shape[0]:
        raise ArgumentError(
            f"example has shape {shape}: expected a batch of at least one; pass "
            "dynamic_batch=False if there is no batch axis"
        )
    return shape[0]


def _enlarged(inputs: list[Tensor]) -> list[Tensor]:
    """Zeros in the shapes of the inputs, with larger images."""
    shapes = [
        (*x.shape[:2], x.shape[2] + 4, x.shape[3] + 8) if x.ndim == 4 else x.shape for x in inputs
    ]
    return [Tensor(x.backend.xp.zeros(s, x.dtype)) for x, s in zip(inputs, shapes, strict=True)]


def _spread(x: Tensor) -> Tensor:
    """Different values in the shape of a Tensor: rounding decides the order of equal ones."""
    values = x.backend.xp.linspace(-3, 3, x.numel(), dtype=x.dtype)
    return Tensor(values.reshape(x.shape))


class _Export:
    """A single export, from the calls of a model to an ``onnx.ModelProto``."""

    def __init__(
        self, model: nn.Module, inputs: list[Tensor], input_names: Any, output_names: Any
    ) -> None:
        self.model, self.inputs = model, inputs
        self.outputs, calls = run(model, inputs)
        if isinstance(model, Graph):  # keep its names, unless an output is an input or a weight
            results = {n for node in _nodes(model) for n in node.outputs}
            input_names = input_names or model.input_names
            if results.issuperset(model.output_names):
                output_names = output_names or model.output_names
        self.state: dict[str, Tensor] = {**dict(model.named_parameters())}
        self.state.update(model.named_buffers())
        self.input_names = _checked_names("input", input_names, len(inputs), self.state)
        taken = {*self.state, *self.input_names}
        self.output_names = _checked_names("output", output_names, len(self.outputs), taken)
        self.writer = Writer({*taken, *self.output_names})
        #: names by id of the array
        self.names: dict[int, str] = {}
        for name, tensor in [*self.state.items(), *zip(self.input_names, inputs, strict=True)]:
            self.names.setdefault(id(tensor.data), name)
        self.calls = needed(calls, set(self.names), self.outputs)
        self.used = ids_in([call.arguments for call in self.calls]) | ids_in(self.outputs)
        self.opset = max([OPSET, *(n.version for n in _nodes(model) if n.domain == "")])
        self._alive: list[Any] = []  # keeps the ids in names valid

    def proto(
        self, batch: int | None, dynamic_size: bool, metadata: Mapping[str, str] | None
    ) -> Any:
        """The ``onnx.ModelProto``."""
        from onnx import helper

        from ... import __version__

        if batch is not None and batch > 1:
            self.writer.batch = self.input_names[0], batch
        self._emit()
        self._name_outputs()
        weights, constants = self._weights()
        inputs = zip(self.input_names, self.inputs, strict=True)
        outputs = zip(self.output_names, self.outputs, strict=True)
        sides = (("height", "width"), (None, None)) if dynamic_size else ((), ())
        is_open = bool(_OPEN & {node.op_type for node in self.writer.nodes})
        graph = helper.make_graph(
            [*constants, *self.writer.nodes],
            type(self.model).__name__,
            [_info(n, t, batch, sides[0]) for n, t in inputs],
            [_info(n, t, batch, sides[1], is_open) for n, t in outputs],
            weights,
        )
        sets = [helper.make_opsetid(d, v) for d, v in self._versions().items()]
        needed_ir = helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)])
        proto = helper.make_model(
            graph,
            opset_imports=sets,
            ir_version=max(IR_VERSION, needed_ir),
            producer_name="xcnn",
            producer_version=__version__,
        )
        loaded = self.model.metadata if isinstance(self.model, Graph) else {}
        helper.set_model_props(proto, {**loaded, **(metadata or {})})
        return proto

    def _emit(self) -> None:
        problems: Counter[str] = Counter()
        for call in self.calls:
            try:
                self._emit_call(call)
            except CannotExportError as error:
                problems[", ".join([_described(call), *map(str, error.args)])] += 1
        if problems:
            lines = [f"{text}: {count} time{'s' * (count > 1)}" for text, count in problems.items()]
            raise UnsupportedOperatorError(
                "these operations of the model cannot be exported to ONNX:\n  " + "\n  ".join(lines)
            )

    def _emit_call(self, call: Call) -> None:
        if not call.is_public:
            raise CannotExportError("a custom Function; use xcnn.functional, or mark an @operation")
        if call.name not in EMITTERS and call.name not in PARTS:
            raise CannotExportError(*([NO_FORM[call.name]] if call.name in NO_FORM else []))
        _check_axes(call)
        node, output = call.arguments.get("self"), None
        is_old = isinstance(node, Node) and not (can_upgrade(node) or is_current(node, self.opset))
        if call.name in EMITTERS and not is_old:
            self.writer.prefix = self._module_of(call)
            given = [(key, value) for key, value in call.arguments.items() if key != "inplace"]
            arguments = {key: self._as_value(value) for key, value in given}
            output = EMITTERS[call.name](self.writer, **arguments)
        if output is None:
            self._emit_inside(call)
            return
        names = output if isinstance(output, list) else [output]
        results = call.result if isinstance(call.result, tuple) else (call.result,)
        if (tensor := changed(call)) is not None:  # from here on its array has another name
            self.names[id(tensor.data)] = names[0]
        for value, name in zip(results, names, strict=False):  # a node may have unused outputs
            for array in arrays_in(value) if name else ():
                self.names.setdefault(id(array), name)

    def _emit_inside(self, call: Call) -> None:
        """Write a call as the calls that it makes, or that its row in PARTS makes instead."""
        result, calls = run_parts(call, PARTS.get(call.name))
        self._alive += [result, calls]
        for inner in needed(calls, set(self.names), result):
            try:
                self._emit_call(inner)
            except CannotExportError as error:
                text = ", ".join([f"because it calls {inner.name}", *map(str, error.args)])
                raise CannotExportError(text) from error
        for array, repeated in zip(arrays_in(call.result), arrays_in(result), strict=True):
            if id(repeated) in self.names:
                self.names[id(array)] = self.names[id(repeated)]
            elif id(array) in self.used:
                raise CannotExportError("an output that xcnn.functional does not compute")

    def _as_value(self, value: Any) -> Any:
        """An argument, with each array replaced by a Value."""
        if isinstance(value, list | tuple):
            return type(value)(self._as_value(v) for v in value)
        for array in arrays_in(value):
            name = self.names.get(id(array))
            constant = Tensor(array).numpy() if name is None else None
            return Value(name, tuple(array.shape), array.dtype, constant)
        return value

    def _module_of(self, call: Call) -> str:
        """The path of the module that owns a weight among the arguments, or an empty string."""
        names = [self.names.get(id(a)) for a in arrays_in(call.arguments)]
        weight = next((n for n in names if n in self.state), "")
        return (weight or "").rpartition(".")[0]

    def _name_outputs(self) -> None:
        """Rename results to the output names; copy inputs, weights and repeated outputs."""
        self.writer.prefix = ""
        computed = {y for n in self.writer.nodes if n.op_type != "Constant" for y in n.output}
        renamed: dict[str, str] = {}
        for name, tensor in zip(self.output_names, self.outputs, strict=True):
            value = self._as_value(tensor)
            if value.name in computed and value.name not in renamed:
                renamed[value.name] = name
            else:
                self.writer.node("Identity", renamed.get(value.name, value))
                self.writer.nodes[-1].output[:] = [name]
        for node in self.writer.nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(n, n) for n in names]

    def _weights(self) -> tuple[list[Any], list[Any]]:
        """Initializers for weights, and Constants for buffers, as far as nodes use them.

        Loading turns initializers into parameters, except in buffer positions such as a running
        mean, so buffers used anywhere else must be Constants.
        """
        from onnx import helper, numpy_helper

        uses = roles(self.writer.nodes, "buffers")
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
        """Operator set versions by domain."""
        others = {n.domain: n.version for n in _nodes(self.model) if n.domain}
        used = {node.domain for node in self.writer.nodes}
        return {"": self.opset, **{d: v for d, v in others.items() if d in used}}


def _check_axes(call: Call) -> None:
    """Refuse an axis of a number: xcnn and PyTorch treat a number as having one, ONNX does not."""
    is_number = getattr(call.arguments.get("input"), "ndim", None) == 0
    if is_number and isinstance(call.arguments.get("dim"), int) and "squeeze" not in call.name:
        raise CannotExportError("of a number without axes; reshape it to (1,)")


def _described(call: Call) -> str:
    """What was called and where, for an error message."""
    node = call.arguments.get("self")
    if isinstance(node, Node):
        return f"node {node.name!r} ({node.type} of operator set {node.version})"
    return f"{call.name}, called in {call.where}"


def _nodes(model: nn.Module) -> list[Node]:
    """The nodes of loaded graphs in a model."""
    return [module for module in model.modules() if isinstance(module, Node)]


def _checked_names(kind: str, names: Any, count: int, taken: Any) -> list[str]:
    """The names of the inputs or outputs; default: ``kind``, numbered if there are several.

    Raises
    ------
    ArgumentError
        Wrong number of names, or a name is not unique.
    """
    if names is None:
        unique = Writer(taken).unique
        return [unique(kind if count == 1 else f"{kind}_{n}") for n in range(count)]
    checked = [names] if isinstance(names, str) else list(names)
    if len(checked) != count or not all(isinstance(n, str) and n for n in checked):
        raise ArgumentError(f"{kind}_names={names!r}: expected {count} names, each a string")
    repeated = [n for n in checked if n in taken or checked.count(n) > 1]
    if repeated:
        raise ArgumentError(
            f"{kind}_names={names!r}: {repeated[0]!r} is also the name of another {kind} or of a "
            "weight; choose another"
        )
    return checked


def _info(
    name: str,
    tensor: Tensor,
    batch: int | None,
    sides: Sequence[str | None] = (),
    is_open: bool = False,
) -> Any:
    """The ``onnx.ValueInfoProto`` of an input or output.

    ``sides`` replace those of images; ``is_open`` leaves the first length open.
    """
    from onnx import helper

    shape: list[Any] = list(tensor.shape)
    if batch is not None and shape and shape[0] == batch:
        shape[0] = "batch"
    elif is_open and shape:
        shape[0] = None
    if len(shape) == 4 and sides:
        shape[2:] = sides
    dtype = np.dtype(str(tensor.dtype))
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
