"""Tensor, Function and the tape.

An operation is a :class:`Function`: ``forward`` and ``backward`` on raw arrays. It refers to
the operations that computed its inputs, not to their arrays, unless it saves them for backward;
``Tensor.backward`` visits the operations in reverse. Gradients are first order only.
"""

from __future__ import annotations

import copy
import functools
import heapq
import inspect
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from . import backends
from .arrays import Array
from .backends import Backend
from .checks import check_callable, check_dim, check_flag
from .errors import ArgumentError, DeviceError, DTypeError, GradientError, ShapeError, show
from .layout import batch_first, batch_last
from .notebook import html_table

_P = ParamSpec("_P")
_R = TypeVar("_R")
_SHOWN = 8  # values of a tensor in a notebook, or of one with more than _PRINTED
_PRINTED = 256
#: the dtypes that :meth:`Tensor.to` and :meth:`Tensor.astype` convert to
DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
#: PyTorch's other names of some of them
DTYPE_ALIASES = {
    **{"double": "float64", "float": "float32", "half": "float16", "int": "int32"},
    **{"long": "int64", "short": "int16"},
}
_DLPACK_CPU, _DLPACK_CUDA = 1, (2, 13)  # device types; 13 is managed memory


Hook = Callable[..., Any]


class RemovableHandle:
    """Handle to a registered hook."""

    def __init__(self, hooks: list[Hook], hook: Hook) -> None:
        self._hooks = hooks
        self._hook = hook

    def remove(self) -> None:
        """Remove the hook; calling it again does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


class _Keep:
    """The hook of ``retain_grad``: the last one, and it does not keep the tensor alive."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = weakref.ref(tensor)

    def __call__(self, gradient: Tensor) -> None:
        tensor = self._tensor()
        if tensor is not None:
            tensor.accumulate(gradient)


# -- thread-local modes -------------------------------------------------------------------------


class _Mode(threading.local):
    recording = True
    autocast = False
    tracer: Tracer | None = None


_mode = _Mode()
_numbers = itertools.count()
_with_post_hooks = False  # whether any tensor ever had one


@contextmanager
def _set_mode(**values: Any) -> Iterator[None]:
    before = {name: getattr(_mode, name) for name in values}
    vars(_mode).update(values)
    try:
        yield
    finally:
        vars(_mode).update(before)


def set_grad_enabled(mode: bool) -> Any:
    """A context, or a decorator, in which operations are recorded (True) or not; per thread."""
    return _set_mode(recording=check_flag("mode", mode))


def no_grad(function: Callable | None = None) -> Any:
    """A context in which operations are not recorded and nothing is saved for backward.

    Per thread; also a decorator, ``@no_grad`` or ``@no_grad()``.
    """
    return set_grad_enabled(False) if function is None else set_grad_enabled(False)(function)


def enable_grad(function: Callable | None = None) -> Any:
    """A context, or a decorator, in which operations are recorded, also inside :func:`no_grad`."""
    return set_grad_enabled(True) if function is None else set_grad_enabled(True)(function)


def autocast() -> Any:
    """A context in which operations on a float16 input cast float32 weights to float16.

    Per thread. The weights' gradients are float32: the weights remain the master copy that an
    optimiser updates (Micikevicius et al. 2018, "Mixed precision training", arXiv:1710.03740).
    """
    return _set_mode(autocast=True)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.recording


# -- tracing the public operations, for an exporter ----------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call of a public operation.

    Attributes
    ----------
    name
        Name of the operation, or class name of a Function that was called directly.
    arguments
        By name, including defaults; by position for a Function.
    result
        The return value.
    where
        File and line of the caller.
    is_public
        False for a Function that was called directly.
    function
        The operation, which makes no record when it is called; None for such a Function.
    """

    name: str
    arguments: dict[Any, Any]
    result: Any
    where: str
    is_public: bool = True
    function: Callable[..., Any] | None = None


class Tracer:
    """Records the outermost calls of operations in ``calls``, which keeps their arrays alive."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def active(self) -> Any:
        """A context in which the calls of this thread are recorded."""
        return _set_mode(tracer=self)

    def call(self, function: Callable, arguments: tuple, settings: dict) -> Any:
        """Call an operation and record it, but not the operations it calls."""
        with _set_mode(tracer=None):
            result = function(*arguments, **settings)
        bound = inspect.signature(function).bind(*arguments, **settings)
        bound.apply_defaults()
        name, where = function.__qualname__, _caller()
        self.calls.append(Call(name, bound.arguments, result, where, function=function))
        return result

    def function(self, function: Function, inputs: tuple, result: Any) -> None:
        """Record a Function that was called directly."""
        name, arguments = type(function).__name__, dict(enumerate(inputs))
        self.calls.append(Call(name, arguments, result, _caller(), is_public=False))


def operation(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a public function or method as an operation that a :class:`Tracer` records."""

    @functools.wraps(function)
    def call(*arguments: _P.args, **settings: _P.kwargs) -> _R:
        if _mode.tracer is None:
            return function(*arguments, **settings)
        return _mode.tracer.call(function, arguments, settings)

    return call


def takes_one(ndim: int) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let an operation on batches, of ``ndim`` axes, also take one example without a batch axis."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        whole: Any = function

        @functools.wraps(function)
        def call(*arguments: Any, **settings: Any) -> Any:
            if not arguments:
                arguments = (settings.pop("input"),) if "input" in settings else ()
            shape = getattr(arguments[0], "shape", ()) if arguments else ()
            if len(shape) != ndim - 1:
                return whole(*arguments, **settings)
            result = whole(Tensor.of(arguments[0]).unsqueeze(0), *arguments[1:], **settings)
            is_tuple = isinstance(result, tuple)
            return tuple(y.squeeze(0) for y in result) if is_tuple else result.squeeze(0)

        return call

    return decorate


def current_tracer() -> Tracer | None:
    """The active tracer of this thread, or None."""
    return _mode.tracer


def _caller() -> str:
    """File and line of the code that called an operation."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(
        ("xcnn.functional", "xcnn.tensor")
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


# -- operations ----------------------------------------------------------------------------------


class Function:
    """One call of a differentiable operation; subclass it to add an operation.

    Settings (stride, axis, ...) go into ``__init__``, arrays into the call:
    ``MyFunction(stride=2)(x, weight)``. Define

    ``forward(backend, *arrays) -> array``
        Compute with ``backend.xp`` and the backend's primitives; save what backward needs by
        name: ``self.save(x=x)``. None inputs are passed as None.
    ``backward(backend, dy) -> array`` or a tuple with one array (or None) per input
        ``dy`` has the output's shape. ``self.saved`` holds the saved values, and
        ``self.needs_grad[i]`` says whether input ``i`` needs a gradient.

    Neither may change its arguments in place. Saved arrays are not copied: do not modify them
    between forward and backward. Weights may change after backward.
    """

    saved: Any = None
    inputs: Any = None  # of each input: the Function that computed it, or the leaf, or None
    hooks: Any = None  # of the output: see Tensor.register_hook
    number: Any = None  # among all recorded calls
    #: names of the inputs, for error messages
    arguments: tuple[str, ...] = ()
    #: inputs whose dtype may differ from the first one's, such as class indices
    any_dtype: tuple[str, ...] = ()
    #: False: the output has no gradient, and ``backward`` is not called
    differentiable = True
    #: inputs whose gradients are new arrays that nothing else refers to: a leaf keeps its gradient
    new_gradients: tuple[str, ...] = ()

    # for type checkers, *Any and **Any together admit any arguments in a subclass
    def forward(self, backend: Backend, *arrays: Any, **_: Any) -> Array:
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, backend: Backend, dy: Array) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def save(self, **arrays: Any) -> None:
        """Save ``arrays`` by name for backward, if this call is recorded."""
        if self.recorded:
            self.saved = SimpleNamespace(**arrays)

    def __call__(self, *inputs: Any) -> Tensor:
        if self.number is None:
            return self._call(inputs)
        other = copy.copy(self)  # this object is, or was, a node of a graph
        other.saved = other.inputs = other.hooks = None
        return other._call(inputs)

    def _call(self, inputs: tuple) -> Tensor:
        tensors = [v if isinstance(v, Tensor) or v is None else Tensor(v) for v in inputs]
        arrays = [None if t is None else t._data for t in tensors]
        self.backend = self._common_backend(arrays)
        if _mode.autocast:
            with self.backend.active():
                arrays = _cast_to_half(arrays)
        if _mode.recording:
            self.needs_grad = tuple([t is not None and t._requires for t in tensors])
            self.recorded = self.differentiable and True in self.needs_grad
        else:
            self.needs_grad, self.recorded = (False,) * len(tensors), False
        output = Tensor(self.backend.run(self.forward, *arrays))
        if self.recorded:
            output._requires = True
            self.number, self.output_dtype = next(_numbers), output.dtype
            self.inputs = [
                None if t is None or not t._requires else t.creator or t for t in tensors
            ]
            output.creator = self
        if _mode.tracer is not None:  # called directly, not by a public operation
            _mode.tracer.function(self, inputs, output)
        return output

    def _common_backend(self, arrays: list) -> Backend:
        first: Backend | None = None
        for index, array in enumerate(arrays):
            if array is None:
                continue
            backend: Any = backends.find(array)
            if first is None:
                first, number, dtype = backend, index, array.dtype
                if dtype.kind != "f":
                    self._check_float(self._argument(index), dtype)
            elif backend is not first:
                raise self._device_error(number, first, index, backend)
            elif array.dtype is not dtype and array.dtype != dtype:
                self._check_same_type(number, dtype, index, array.dtype)
        if first is None:
            raise DTypeError(f"{type(self).__name__}: all inputs are None; pass at least one array")
        return first

    def _device_error(self, i: int, backend: Backend, j: int, other: Backend) -> Exception:
        first, second = self._argument(i), self._argument(j)
        return DeviceError(
            f"{type(self).__name__}: {first} is on {backend.device}, {second} on {other.device}; "
            f'move {first} with Tensor({first}).to("{other.device}"), or {second} and the module '
            f'that owns it with .to("{backend.device}")'
        )

    def _check_same_type(self, i: int, dtype: Any, j: int, other: Any) -> None:
        first, second = self._argument(i), self._argument(j)
        is_cast = _mode.autocast and (dtype, other) == ("float16", "float32")
        if second not in self.any_dtype and not is_cast:
            raise DTypeError(
                f"{type(self).__name__}: {first} is {dtype}, {second} is {other}; "
                f"both must have the same dtype: use .astype({str(dtype)!r}) on the array or "
                f".to(dtype={str(dtype)!r}) on the module"
            )

    def _check_float(self, name: str, dtype: Any) -> None:
        if name not in self.any_dtype:
            raise DTypeError(
                f"{type(self).__name__}: {name} is {dtype}, expected a floating-point array; "
                "convert it, for example with .astype('float32')"
            )

    def _argument(self, index: int) -> str:
        return self.arguments[index] if index < len(self.arguments) else f"argument {index}"


def _cast_to_half(arrays: list) -> list:
    """Cast float32 arrays to float16 if the first array is float16."""
    if arrays[0] is None or arrays[0].dtype != "float16":
        return arrays
    return [a.astype("float16") if a is not None and a.dtype == "float32" else a for a in arrays]


def walk(
    output: Tensor,
    dy: Array,
    retain_graph: bool = False,
    finish: Callable[[Tensor, Array, bool], Any] | None = None,
) -> list[tuple[Tensor, Array, bool]]:
    """Propagate ``dy``, the gradient of ``output``, back to the leaves.

    Each Function is visited after every user of its output, newest first: a heap of creation
    numbers instead of recursion.

    Parameters
    ----------
    output, dy
        A Tensor, and an array of its shape.
    retain_graph
        Keep the saved arrays.
    finish
        Called as soon as a leaf with hooks of :meth:`Tensor.register_post_accumulate_grad_hook` has
        its whole gradient, while those of other leaves are still to be computed.

    Returns
    -------
    list of (leaf tensor, gradient, whether nothing else refers to its memory)
        Each leaf once, but those that were finished. Otherwise a gradient may share memory with
        another or with ``dy``.
    """
    uses = {} if finish is None else _uses(output)
    pending: dict[int, tuple[Function, Array, bool]] = {}
    leaves: dict[int, tuple[Tensor, Array, bool]] = {}
    heap: list[int] = []

    def add_gradient(source: Function | Tensor, gradient: Array, is_new: bool) -> None:
        table: dict[int, Any] = leaves if isinstance(source, Tensor) else pending
        if isinstance(source, Tensor):
            if not source._requires:  # any more
                return
            key, dtype = id(source), source.dtype
        else:
            key, dtype = -source.number, source.output_dtype
        if key in table or (table is pending and gradient.dtype != dtype):
            gradient, is_new = gradient.astype(dtype, copy=False), True
        if key in table:
            gradient = table[key][1].astype(dtype, copy=False) + gradient
        elif table is pending:
            heapq.heappush(heap, key)
        table[key] = (source, gradient, is_new)

    add_gradient(output.creator or output, dy, False)
    while heap:
        function, gradient, _ = pending.pop(heapq.heappop(heap))
        if function.hooks:
            gradient = _hooked(function.hooks, gradient)
        gradients = _backward(function, gradient)
        for i, (source, dx) in enumerate(zip(function.inputs, gradients, strict=True)):
            if source is not None and dx is not None:
                add_gradient(source, dx, function._argument(i) in function.new_gradients)
        for key in map(id, function.inputs) if uses else ():
            if key in uses:
                uses[key] -= 1
                if uses[key] == 0 and key in leaves and finish is not None:
                    finish(*_final([leaves.pop(key)])[0])
        if not retain_graph:
            function.saved, function.inputs = None, None
    return _final(list(leaves.values()))


def _uses(output: Tensor) -> dict[int, int]:
    """How many inputs in the graph of ``output`` are each leaf that has post-accumulate hooks."""
    counts: dict[int, int] = {}
    todo, seen = [output.creator], {None, output.creator}
    while todo:
        for source in getattr(todo.pop(), "inputs", None) or ():
            if isinstance(source, Tensor):
                if source._post_hooks:
                    counts[id(source)] = counts.get(id(source), 0) + 1
            elif source not in seen:
                seen.add(source)
                todo.append(source)
    return counts


def _final(leaves: list[tuple[Tensor, Array, bool]]) -> list[tuple[Tensor, Array, bool]]:
    """The gradients of leaves in the leaves' dtypes, after their hooks."""
    if not leaves:
        return []
    cast = leaves[0][0].backend.as_dtypes([g for _, g, _ in leaves], [t.dtype for t, *_ in leaves])
    return [
        (t, _hooked(t._hooks, g) if t._hooks else g, (is_new or g is not old) and not t._hooks)
        for (t, old, is_new), g in zip(leaves, cast, strict=True)
    ]


def _hooked(hooks: list[Hook], gradient: Array) -> Array:
    """The gradient that the hooks of a tensor make of ``gradient``."""
    for hook in list(hooks):
        replacement = hook(Tensor(gradient))
        if replacement is not None:
            found = Tensor.of(replacement)
            if found.shape != gradient.shape:
                raise ShapeError(
                    f"a hook returned a gradient of shape {found.shape} for one of "
                    f"{gradient.shape}; return one of the same shape, or None to keep it"
                )
            gradient = found.data
    return gradient


def _backward(function: Function, dy: Array) -> tuple:
    if function.inputs is None:
        raise GradientError(
            f"{type(function).__name__}: backward was already called on this graph and its saved "
            "arrays are gone; run forward again, or pass retain_graph=True the first time"
        )
    gradients: Any = function.backend.run(function.backward, dy)
    if not isinstance(gradients, tuple):
        gradients = (gradients,)
    if len(gradients) != len(function.inputs):
        raise GradientError(
            f"{type(function).__name__}.backward returned {len(gradients)} gradients for "
            f"{len(function.inputs)} inputs; return one per input, None where there is none"
        )
    return gradients


class ImageFunction(Function):
    """A Function of images that computes in batch-last memory.

    Subclasses define ``compute`` (x to y) and ``gradient`` (dy to dx) on arrays (C, H, W, N).
    """

    arguments = ("input",)
    data_format = "NCHW"

    def forward(self, backend: Backend, x: Array) -> Array:
        y = self.compute(backend, batch_last(backend, x, self.data_format))
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = self.gradient(backend, batch_last(backend, dy, self.data_format))
        return batch_first(dx, self.data_format)

    def compute(self, backend: Backend, x: Array) -> Array:
        raise NotImplementedError

    def gradient(self, backend: Backend, dy: Array) -> Array:
        raise NotImplementedError


# -- tensors -------------------------------------------------------------------------------------


def _set_data(tensor: Tensor, value: Any) -> None:  # p.data -= lr * p.grad assigns a Tensor
    tensor._data = Tensor.of(value)._data


def _set_grad(tensor: Tensor, value: Any) -> None:
    if value is not None and getattr(value, "shape", None) != tensor.shape:
        raise ShapeError(
            f"grad: {_shape_of(value)} for a tensor of shape {tensor.shape}: they must be equal"
        )
    tensor._grad = None if value is None else Tensor.of(value)


def _set_requires_grad(tensor: Tensor, value: Any) -> None:
    if check_flag("requires_grad", value) and tensor.dtype.kind != "f":
        raise DTypeError(
            f"requires_grad=True needs a floating-point array, got {tensor.dtype}; convert it "
            "with .astype('float32')"
        )
    if tensor.creator is not None and not value:
        raise GradientError(
            "requires_grad=False: this tensor is the result of a recorded operation; use .detach()"
        )
    tensor._requires = bool(value)


class Tensor:
    """An array that records the operation that produced it.

    Parameters
    ----------
    data
        A NumPy or CuPy array (not copied); a GPU array of another library, such as a PyTorch CUDA
        tensor, shared through DLPack; a number, or nested lists (which become a float32 NumPy
        array).
    requires_grad
        Whether ``backward`` accumulates a gradient in ``grad``. Floating-point arrays only.

    Attributes
    ----------
    data : array
    grad : Tensor or None
        Same shape and dtype; ``backward`` adds to it. None: no gradient since ``zero_grad``, and
        optimisers leave the tensor unchanged.
    creator : Function or None
        The operation that returned it; None for a leaf.
    shape : tuple of int
    ndim : int
    dtype : numpy.dtype
    T : Tensor
        A matrix transposed.
    mT : Tensor
        The last two axes swapped.

    Notes
    -----
    Operators, and methods with PyTorch's names, are the operations of :mod:`xcnn.functional`. A
    method with an underscore, such as ``x.sqrt_()``, writes its result into the tensor.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_hooks", "_post_hooks", "_requires", "creator")
    __array_ufunc__ = None  # array + tensor calls the tensor's __radd__
    __hash__ = object.__hash__  # by identity, though == compares elements

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            data = data.data
        elif type(data) not in backends.by_type and backends.find(data) is None:
            data = _to_array(data)
        if data.dtype.kind not in "fiub":
            use = " (classes by name: np.unique(names, return_inverse=True)[1])"
            raise DTypeError(
                f"expected an array of real numbers or bools, got one of {data.dtype}"
                + (use if data.dtype.kind in "OSU" else "")
            )
        if not data.dtype.isnative:  # of a file with the other byte order
            data = data.astype(data.dtype.newbyteorder("="))
        self._data: Array = data
        self._grad: Tensor | None = None
        self._hooks: list[Hook] | None = None
        self._post_hooks: list[Hook] | None = None
        self.creator: Function | None = None
        self._requires = False
        if type(requires_grad) is int:  # PyTorch's Tensor(2, 3), of that shape
            raise ArgumentError(f"requires_grad={requires_grad}: use xcnn.empty(sizes), or a bool")
        if requires_grad is not False:
            self.requires_grad = requires_grad

    @classmethod
    def of(cls, value: Any) -> Tensor:
        """``value`` itself if it is a Tensor, else a new Tensor that wraps it."""
        return value if isinstance(value, Tensor) else cls(value)

    # -- properties ------------------------------------------------------------------------

    # read constantly, and attrgetter is faster than a Python getter
    shape: tuple[int, ...] = property(attrgetter("_data.shape"))  # type: ignore[assignment]
    ndim: int = property(attrgetter("_data.ndim"))  # type: ignore[assignment]
    dtype: Any = property(attrgetter("_data.dtype"))
    data: Array = property(attrgetter("_data"), _set_data)
    grad: Any = property(attrgetter("_grad"), _set_grad)
    requires_grad: Any = property(attrgetter("_requires"), _set_requires_grad)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation returned this tensor."""
        return self.creator is None

    @property
    def backend(self) -> Backend:
        """The backend that the array belongs to."""
        return backends.of(self.data)

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:N"``."""
        return self.backend.device

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of axis ``dim``; see also :meth:`numel`."""
        return self.shape if dim is None else self.shape[check_dim("dim", dim, self.ndim)]

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        creator = f", creator={type(self.creator).__name__}" if self.creator else ""
        grad = ", requires_grad=True" if self.requires_grad and not self.creator else ""
        values = repr(self.data)
        if self._data.size > _PRINTED:
            shown = ", ".join(self._first_values())
            values = f"[{shown}], shape={self.shape}, dtype={self.data.dtype.name}"
        return f"{type(self).__name__}({values}, device={show(self.device)}{grad}{creator})"

    def _first_values(self) -> list[str]:
        """The first values as text, and an ellipsis if there are more."""
        corner = self.backend.to_host(self.data[(slice(_SHOWN),) * self.ndim]).reshape(-1)[:_SHOWN]
        values = [f"{v:.4g}" if type(v) is float else str(v) for v in corner.tolist()]
        return values if self._data.size == len(values) else [*values, "..."]

    def _repr_html_(self) -> str:
        """Show shape, type, device and the first values as a table in a notebook."""
        row = {
            "shape": "×".join(map(str, self.shape)) or "scalar",
            "dtype": self.data.dtype.name,
            "device": self.device,
            "values": ", ".join(self._first_values()),
        }
        return html_table([row], type(self).__name__)

    def numpy(self) -> Any:
        """The values as a NumPy array (shared memory on the CPU); waits for a GPU."""
        return self.backend.to_host(self.data)

    def item(self) -> float:
        """The single value as a Python number; waits for a GPU.

        Raises
        ------
        ShapeError
            Not exactly one element.
        """
        if self._data.size != 1:
            raise ShapeError(f"item() needs one element, but this tensor has shape {self.shape}")
        return self.numpy().item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind != "i" and self.dtype.kind != "u":
            raise DTypeError(f"an index must be a whole number, this tensor is {self.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Convert to NumPy, on the CPU only; for a GPU tensor, call ``numpy()``."""
        if self.device != "cpu":
            raise DTypeError(
                f"this tensor is on {self.device}, which NumPy cannot read; call .numpy()"
            )
        return self.backend.xp.array(self.data, dtype, copy=copy)

    def to(
        self,
        *args: Any,
        device: Any = None,
        dtype: Any = None,
        non_blocking: bool = False,
        copy: bool = False,
    ) -> Tensor:
        """Move to a device, convert to a dtype, or both; ``self`` if nothing changes.

        ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, or ``to(other)`` for those of another
        tensor; ``non_blocking`` and ``copy`` may follow. A move is not recorded: it returns a new
        leaf. A conversion between floating-point dtypes is, so that gradients flow through it.

        Parameters
        ----------
        device
            ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"auto"``, or a backend.
        dtype
            A name such as ``"float32"`` or ``"int64"``, or NumPy's dtype.
        non_blocking
            As in PyTorch, but without effect: a move waits for the device.
        copy
            Whether to copy where nothing changes.

        Raises
        ------
        DeviceError
            No such device.
        DTypeError
            No such dtype.
        """
        flags = [v for v in args if isinstance(v, bool)]  # non_blocking, copy
        check_flag("non_blocking", non_blocking)
        copy = flags[1] if len(flags) > 1 else check_flag("copy", copy)
        device, dtype = destination(args, device, dtype)
        target = self.backend if device is None else backends.get(device)
        moved = self
        if target is not self.backend:
            moved = type(self)(target.asarray(self.numpy()), self.requires_grad)
        moved = moved if dtype is None else moved.astype(dtype)
        return moved.clone() if copy and moved is self else moved

    def detach(self) -> Tensor:
        """A tensor of the same array, outside the graph."""
        return Tensor(self.data)

    # -- gradients --------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set ``requires_grad``; returns self.

        Raises
        ------
        DTypeError
            The tensor is not of floating-point numbers.
        GradientError
            A recorded operation returned it, and it cannot be set to False.
        """
        self.requires_grad = requires_grad
        return self

    def register_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(grad)`` with the gradient of this tensor in each ``backward``.

        Unless it returns None, its result replaces the gradient, which it must not change in
        place.

        Returns
        -------
        RemovableHandle
            Its ``remove()`` removes the hook.

        Raises
        ------
        GradientError
            The tensor does not require a gradient.
        """
        if not self.requires_grad:
            raise GradientError("register_hook: this tensor does not require a gradient")
        holder, name = (self, "_hooks") if self.creator is None else (self.creator, "hooks")
        hooks = getattr(holder, name) or []
        place = len(hooks) - any(isinstance(h, _Keep) for h in hooks)  # grad has what hooks return
        hooks.insert(place, check_callable("hook", hook))
        setattr(holder, name, hooks)
        return RemovableHandle(hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(leaf)`` in each ``backward``, as soon as the leaf's ``grad`` is complete.

        Gradients of other leaves may still have to be computed: those of the last layers come
        first.

        Returns
        -------
        RemovableHandle
            Its ``remove()`` removes the hook.

        Raises
        ------
        GradientError
            The tensor is not a leaf that requires a gradient.
        """
        global _with_post_hooks
        if self.creator is not None or not self.requires_grad:
            raise GradientError(
                "register_post_accumulate_grad_hook: expected a leaf that requires a gradient, a "
                "parameter for example"
            )
        self._post_hooks = self._post_hooks or []
        self._post_hooks.append(check_callable("hook", hook))
        _with_post_hooks = True
        return RemovableHandle(self._post_hooks, hook)

    def retain_grad(self) -> None:
        """Let ``backward`` store the gradient in ``grad``, as it does for a leaf.

        Raises
        ------
        GradientError
            The tensor does not require a gradient.
        """
        if not self.requires_grad:
            raise GradientError("retain_grad: this tensor does not require a gradient")
        if self.creator is not None and not any(
            isinstance(h, _Keep) for h in self.creator.hooks or ()
        ):
            self.register_hook(_Keep(self))

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add d(self)/d(leaf) to ``grad`` of every leaf that requires a gradient.

        Parameters
        ----------
        gradient
            Gradient of this tensor, same shape. Optional for a single element.
        retain_graph
            Keep the saved arrays, so that backward can be called again.
        create_graph
            Must be False: gradients are of first order only.

        Raises
        ------
        GradientError
            Nothing requires a gradient, or ``gradient`` is missing for more than one element.
        ShapeError
            ``gradient`` has a different shape.
        """
        if check_flag("create_graph", create_graph):
            raise GradientError(
                "backward(): create_graph=True: gradients are of first order only, so a gradient "
                "penalty cannot be trained"
            )
        if not self.requires_grad:
            raise GradientError(
                "backward(): this tensor does not depend on anything with requires_grad=True "
                "(or was computed under no_grad)"
            )
        with self.backend.active():
            retain = retain_graph is not None and check_flag("retain_graph", retain_graph)
            first = self.gradient_for_backward("backward(): gradient", gradient)
            finish = Tensor._finish if _with_post_hooks else None
            for leaf, dx, is_new in walk(self, first, retain, finish):
                (leaf._finish if leaf._post_hooks else leaf.accumulate)(dx, is_new)

    def _finish(self, gradient: Array, is_new: bool) -> None:
        self.accumulate(gradient, is_new)
        for hook in list(self._post_hooks or ()):
            hook(self)

    def gradient_for_backward(self, name: str, grad: Any) -> Array:
        """``grad`` as an array of the right shape; if it is None, 1 for a single element."""
        if grad is None:
            if self._data.size != 1:
                raise GradientError(
                    f"without an initial gradient, backward needs one element, but this tensor "
                    f"has shape {self.shape}; pass a gradient, or reduce it, for example with "
                    ".mean()"
                )
            return self.backend.one(self.dtype).reshape(self.shape)
        grad = Tensor.of(grad).data
        if grad.shape != self.shape:
            raise ShapeError(f"{name} has shape {grad.shape}, the output {self.shape}")
        return grad

    def accumulate(self, gradient: Array, is_new: bool = False) -> None:
        """Add ``gradient`` to ``grad``.

        A first gradient is copied, unless it ``is_new``: nothing else refers to its memory.
        """
        gradient = gradient.data if isinstance(gradient, Tensor) else gradient
        if getattr(gradient, "shape", None) != self.shape:
            found = _shape_of(gradient)
            raise ShapeError(f"gradient is {found}: expected an array of shape {self.shape}")
        check_flag("is_new", is_new)
        if self._grad is not None:
            self._grad._data += gradient
        elif is_new and gradient.flags.c_contiguous and gradient.dtype == self.dtype:
            self._grad = Tensor(gradient)
        else:
            self._grad = Tensor(self.backend.xp.empty_like(self.data))
            self._grad._data[...] = gradient

    def __getstate__(self) -> Any:
        """What copy and pickle keep; a graph cannot be copied.

        Raises
        ------
        GradientError
            The tensor is the recorded result of an operation.
        """
        if self.creator is not None:
            raise GradientError(
                "this tensor was computed with gradients recorded and cannot be copied or pickled "
                "with its graph: use .detach() or .clone(), or compute it under xcnn.no_grad()"
            )
        state: Any = object.__getstate__(self)
        state[1]["_post_hooks"] = None  # what waits for this gradient does not wait for a copy's
        return state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set ``grad`` to None or, with ``set_to_none=False``, to zero in place."""
        zero_grads([self], set_to_none)

    if TYPE_CHECKING:  # set by functional/methods.py, which imports this module

        def _unary(self) -> Tensor: ...
        def _binary(self, other: Any) -> Tensor: ...
        def _augmented(self, other: Any) -> Self: ...

        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __matmul__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rmatmul__ = __rpow__ = _binary
        __and__ = __or__ = __xor__ = __pow__ = __getitem__ = _binary
        __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _binary  # type: ignore[assignment]
        __iadd__ = __isub__ = __imul__ = __itruediv__ = _augmented
        __neg__ = __abs__ = __invert__ = _unary

        def __iter__(self) -> Iterator[Tensor]: ...

        # the functions of functional/, as methods of the same names, and x.sqrt_() and so on
        def __getattr__(self, name: str) -> Any: ...


class Parameter(Tensor):
    """A trainable Tensor of a Module: it requires a gradient by default."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Buffer(Tensor):
    """An array that belongs to a module's state but is not trained, such as a running mean.

    Parameters
    ----------
    persistent
        Whether ``state_dict`` contains it.
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Any, requires_grad: bool = False, persistent: bool = True) -> None:
        super().__init__(data, requires_grad)
        self.persistent = check_flag("persistent", persistent)


def zero_grads(leaves: Iterable[Tensor], set_to_none: bool) -> None:
    """:meth:`Tensor.zero_grad` of each."""
    for leaf in leaves:
        if leaf._grad is not None and set_to_none:
            leaf._grad = None
        elif leaf._grad is not None:
            leaf._grad._data.fill(0)


def _shape_of(value: Any) -> str:
    """What an error message says of a value that has no suitable shape."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"shape {tuple(shape)}"


def destination(args: Iterable[Any], device: Any, dtype: Any) -> tuple[Any, Any]:
    """The device and the dtype among the positional arguments of ``to``, or those by keyword."""
    for value in args:
        if isinstance(value, Tensor):
            device, dtype = value.backend, value.dtype
        elif isinstance(value, Backend) or (isinstance(value, str) and value not in DTYPES):
            device = value
        elif value is not None and not isinstance(value, bool):
            dtype = value
    return device, dtype


def dtype_name(dtype: Any) -> str:
    """The name of a dtype, given the name, NumPy's dtype or type, or Python's.

    Raises
    ------
    DTypeError
        Not one of :data:`DTYPES`.
    """
    try:
        name = {float: "float32", int: "int64"}.get(dtype) or backends.get("cpu").xp.dtype(
            dtype
        ).name
    except TypeError:
        name = ""
    if name not in DTYPES or dtype is None:
        raise DTypeError(f"dtype={show(dtype)}: expected one of {', '.join(DTYPES)}")
    return name


def operands(input: Any, weight: Any, bias: Any) -> Any:
    """A layer's operands as Tensors; only ``bias`` may be None."""
    return Tensor.of(input), Tensor.of(weight), bias if bias is None else Tensor.of(bias)


def _from_gpu(data: Any, device_type: int, index: int) -> Array:
    """A GPU array of another library as an array of this one, without a copy."""
    if device_type not in _DLPACK_CUDA:
        raise DTypeError(
            f"{type(data).__name__} is on a device of DLPack type {device_type}: expected the CPU "
            "or a CUDA GPU; move it to one of them first"
        )
    backend = backends.get(f"cuda:{index}")
    with backend.active():
        return backend.xp.from_dlpack(data)


def _to_array(data: Any) -> Array:
    """Numbers and nested lists of numbers as a NumPy array, floats as float32."""
    device = data.__dlpack_device__() if hasattr(data, "__dlpack_device__") else (_DLPACK_CPU, 0)
    if device[0] != _DLPACK_CPU:
        return _from_gpu(data, *device)
    cpu = backends.get("cpu")
    try:
        array = cpu.asarray(data)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"cannot make an array from {type(data).__name__}: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"expected numbers, got {type(data).__name__} of {array.dtype}")
    from_python = not hasattr(data, "dtype")  # a NumPy scalar keeps its dtype
    return array.astype("float32") if from_python and array.dtype.kind == "f" else array


def vjp(function: Any, *arrays: Any, **settings: Any) -> tuple[Array, Any]:
    """Value and vector-Jacobian product of a function, on plain arrays.

    Parameters
    ----------
    function
        Anything that takes arrays and returns a Tensor, such as ``F.conv2d``.
    *arrays
        Its array arguments; None for one that is left out.
    **settings
        Passed on, such as ``stride=2``.

    Returns
    -------
    y : array
    pullback : callable
        ``pullback(dy)``, for ``dy`` of ``y``'s shape, returns a tuple with one gradient per array
        (None for None and for integer arrays). ``dy`` is optional if y has one element. It may be
        called repeatedly.

    Examples
    --------
    >>> x, w, b = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.zeros(4)
    >>> y, pullback = xcnn.vjp(F.conv2d, x, w, b, stride=2, padding="same")
    >>> dx, dw, db = pullback(np.ones_like(y))
    >>> dx.shape, dw.shape, db
    ((2, 3, 8, 8), (4, 3, 3, 3), array([32., 32., 32., 32.]))
    """
    for array in arrays:
        if array is not None:
            backends.of(array)  # raises if it is not an array
    inputs = [None if a is None else Tensor(a, a.dtype.kind == "f") for a in arrays]
    with enable_grad():
        output = function(*inputs, **settings)

    def pullback(dy: Array | None = None) -> tuple:
        with output.backend.active():
            dy = output.gradient_for_backward("pullback: dy", dy)
            gradients = {id(t): g for t, g, _ in walk(output, dy, retain_graph=True)}
            results: list[Array | None] = []
            for leaf in inputs:
                if leaf is None or not leaf.requires_grad:
                    results.append(None)
                elif id(leaf) in gradients:
                    results.append(_unshared(gradients[id(leaf)], [dy, *results]))
                else:
                    results.append(leaf.backend.xp.zeros_like(leaf.data))
        return tuple(results)

    return output.data, pullback


def _unshared(gradient: Array, others: list[Array | None]) -> Array:
    """Copy ``gradient`` if it is one of ``others``, or a view with repeated elements."""
    repeats = any(s == 0 and n > 1 for s, n in zip(gradient.strides, gradient.shape, strict=True))
    is_shared = any(gradient is other for other in others)
    return gradient.copy() if repeats or is_shared else gradient
