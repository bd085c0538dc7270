"""Scores of classes, their gradients, and the layers of a model: shared by the methods."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import backends
from .. import functional as F
from ..arrays import Array
from ..errors import ArgumentError, GradientError, OutOfRangeError, ShapeError, did_you_mean, show
from ..nn import Conv2d, Module, ModuleDict, ModuleList, Sequential, evaluating, hooked
from ..tensor import Function, Tensor, enable_grad, walk

xp = backends.get("cpu").xp  # NumPy
BATCH = 64  # at most this many examples are evaluated at a time,
_NUMBERS = 2**20  # and at most this many pixels: activations take a hundred times as much
#: kinds of layers whose input is explained if the model ends in them
_FINAL = {"Softmax", "LogSoftmax", "Sigmoid"}
CONTAINERS = (Sequential, ModuleList, ModuleDict)
_LISTED = 12  # layers in an error message
#: of all models, for one may be a part of another
_LOCK = threading.RLock()


def check_model(model: Any) -> Module:
    """A Module."""
    if not isinstance(model, Module):
        raise ArgumentError(f"model is {type(model).__name__}: expected a Module")
    return model


def examples(model: Any, x: Any, pictures: bool = False) -> Array:
    """``x`` as a new NumPy array (N, ...), or (N, C, H, W) for ``pictures``, float32 or float64."""
    array = Tensor.of(x).numpy()
    one = "; pass x[None] for one picture" if array.ndim == 3 else ""
    pictures = pictures or (array.ndim == 3 and isinstance(_first(model), Conv2d))
    if (array.ndim != 4) if pictures else (array.ndim < 2):
        shape = "(N, C, H, W)" if pictures else "(N, ...), examples along the first axis,"
        raise ShapeError(f"x has shape {array.shape}: expected {shape}{one}")
    if 0 in array.shape[1:]:
        raise ShapeError(f"x has shape {array.shape}: expected examples that are not empty")
    return array.astype("float64" if check_model(model).dtype == "float64" else "float32")


def _first(model: Any) -> Any:
    """The layer that gets the input, of a Sequential."""
    while isinstance(model, Sequential) and len(model):
        model = model[0]
    return model


def check_layout(model: Module) -> None:
    """Require images (N, C, H, W) throughout."""
    for path, module in model.named_modules():
        if getattr(module, "data_format", None) == "NHWC":
            raise ArgumentError(
                f"model: layer {path!r} has data_format='NHWC': maps need images (N, C, H, W); "
                "build the model with 'NCHW'"
            )


def parts(x: Array, times: int = 1, size: int | None = None) -> list[slice]:
    """Cut ``times`` examples for each of ``x`` into batches; an empty one if there are none."""
    count = len(x) * times
    size = size or min(BATCH, max(1, _NUMBERS // max(1, math.prod(x.shape[1:]))))
    return [slice(first, first + size) for first in range(0, max(count, 1), size)]


@contextmanager
def prepared(model: Module) -> Iterator[None]:
    """Evaluation mode on the model's device, with all parameters frozen; restores them.

    One thread at a time, as another would restore what this one has changed.
    """
    with _LOCK, model.backend.active(), evaluating(model):
        required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            model.requires_grad_(False)
            yield
        finally:
            for parameter, requires_grad in required:
                parameter.requires_grad = requires_grad


def on_device(model: Module, x: Array, requires_grad: bool = False) -> Tensor:
    """A batch as a Tensor on the device and in the dtype of the model."""
    return Tensor(model.backend.asarray(x, model.dtype), requires_grad)


def kind(module: Module) -> str:
    """The name of a module's class, or the operator of an ONNX node."""
    return getattr(module, "type", type(module).__name__)


def scores(model: Module, x: Tensor) -> Tensor:
    """The score of each class, (N, classes); see the package."""
    last: list[Any] = [None, None]

    def hook(module: Module, inputs: tuple, output: Any) -> None:
        last[:] = output, inputs[0]

    with hooked((m, hook) for m in model.modules() if kind(m) in _FINAL):
        output = model(x)
    output = Tensor.of(last[1]) if output is last[0] and output is not None else output
    is_tensor = isinstance(output, Tensor)
    if not is_tensor or output.shape[:1] != x.shape[:1] or set(output.shape[2:]) - {1}:
        found = f"shape {output.shape}" if is_tensor else type(output).__name__
        raise ShapeError(
            f"the model returns {found} for {len(x)} examples: expected scores (N, classes) or "
            "(N,); wrap another model in a Module that returns the numbers to explain"
        )
    return output if output.ndim == 2 else F.reshape(output, (len(x), -1 if len(x) else 1))


def classes_of(model: Module, x: Array, target: Any) -> Array:
    """The class to explain of each example, (N,): ``target``, or the predicted ones."""
    if target is None:
        found = [scores(model, on_device(model, x[part])).numpy() for part in parts(x)]
        return xp.concatenate(found).argmax(1)
    array = Tensor.of(target).numpy()
    array = xp.full(len(x), array) if array.ndim == 0 else array
    if array.shape != (len(x),) or array.dtype.kind not in "iu":
        raise ArgumentError(
            f"target={show(target)}: expected None, an int, or {len(x)} ints, one per example"
        )
    return array.astype("int64")


def check_classes(classes: Array, count: int) -> None:
    """Require classes from 0 to ``count`` - 1."""
    outside = classes[(classes < 0) | (classes >= count)]
    if len(outside):
        expected = f"from 0 to {count - 1}" if count > 1 else "0, as the model has one output"
        raise OutOfRangeError(f"target={outside[0]}: expected {expected}")


def pull(y: Tensor, classes: Array, leaf: Tensor, what: str) -> Array:
    """The gradient of each example's score in ``y`` with respect to ``leaf``, a NumPy array."""
    check_classes(classes, y.shape[1])
    chosen = xp.zeros(y.shape, y.dtype.name)
    chosen[xp.arange(len(classes)), classes] = 1
    dy = y.backend.asarray(chosen)
    found = {id(t): gradient for t, gradient, _ in walk(y, dy)} if y.requires_grad else {}
    if id(leaf) not in found:
        raise GradientError(f"the scores of the classes do not depend on {what}")
    return y.backend.to_host(found[id(leaf)])


def gradient(model: Module, x: Array, classes: Array, guided: bool = False) -> Array:
    """The gradient of the classes' scores with respect to a batch ``x``."""
    leaf = on_device(model, x, requires_grad=True)
    # a pooling fused with the ReLU before it would see the gradient first
    observed = [(module, _observe) for module in model.modules()] if guided else []
    with enable_grad(), hooked(observed):
        y = scores(model, leaf)
    if guided:
        _let_positive_through(y)
    return pull(y, classes, leaf, "x")


def _observe(module: Module, inputs: tuple, output: Any) -> None:
    """A hook without effect, so that a module is called for itself."""


def _let_positive_through(y: Tensor) -> None:
    """Let each ReLU that ``y`` was computed with pass positive gradients only."""

    def positive(gradient: Tensor) -> Tensor:
        return F.relu(gradient)

    waiting, seen = [y.creator], set()
    while waiting:
        function = waiting.pop()
        if function is None or isinstance(function, Tensor) or function.number in seen:
            continue
        seen.add(function.number)
        if _is_relu(function):
            function.hooks = [*(function.hooks or ()), positive]
        waiting += function.inputs


def _is_relu(function: Function) -> bool:
    """Whether a call is a ReLU, or another operation with a ReLU after it in the same pass."""
    if isinstance(function, F.Hardtanh):
        return function.min == 0
    return isinstance(function, F.ReLU) or getattr(function, "relu", False)


# -- layers ----------------------------------------------------------------------------------


def leaves(model: Module) -> list[tuple[str, Module]]:
    """(path, module) of the modules that contain no others."""
    return [(path, module) for path, module in model.named_modules() if not [*module.children()]]


def find_layer(model: Module, layer: Any) -> tuple[str, Module]:
    """(path, module) of a layer, given its path or the module itself."""
    modules = dict(model.named_modules())
    if isinstance(layer, str) and layer in modules:
        return layer, modules[layer]
    for path, module in modules.items():
        if module is layer:
            return path, module
    if isinstance(layer, Module):
        raise ArgumentError(f"layer={kind(layer)}: this module is not part of the model")
    hint = did_you_mean(layer, modules) if isinstance(layer, str) else ""
    raise ArgumentError(
        f"layer={show(layer)}: the model has no such layer{hint}; {listed(modules)}"
    )


def listed(paths: Any) -> str:
    """The layers there are, for an error message."""
    names = [path for path in paths if path]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"its layers are {', '.join(names[:_LISTED])}{more}"


@contextmanager
def recording(modules: Any) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of (path, module), of the last call of each, in the order of the calls."""
    outputs: dict[str, Tensor] = {}

    def recorder(path: str) -> Any:
        def hook(module: Module, inputs: tuple, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.pop(path, None)
                # under no_grad, x += y changes x in place
                outputs[path] = Tensor(output.data.copy())

        return hook

    with hooked([(module, recorder(path)) for path, module in modules]):
        yield outputs


def units(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """(path, module) of the layers and blocks of a model, without what is inside a block."""
    for name, child in module.named_children():
        if isinstance(child, CONTAINERS):
            yield from units(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def spatial_layers(
    model: Module, x: Array, layers: list[tuple[str, Module]] | None = None
) -> dict[str, tuple[int, int]]:
    """Height and width of outputs that are images of several pixels, in the order of the calls.

    Of the given (path, module), or else of the layers and blocks of the model; if none of them has
    such an output, of all modules inside the model.
    """
    inside = [(path, module) for path, module in model.named_modules() if path]
    with recording(inside) as outputs:
        model(on_device(model, x[:1]))
    shapes = {path: y.shape for path, y in outputs.items() if y.ndim == 4}
    sizes = {path: (shape[2], shape[3]) for path, shape in shapes.items() if shape[2:] != (1, 1)}
    wanted = dict(units(model) if layers is None else layers)
    return {path: size for path, size in sizes.items() if path in wanted} or sizes
