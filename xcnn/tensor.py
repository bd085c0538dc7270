"""Tensor, Function and the tape.

An operation is a :class:`Function` with ``forward`` and ``backward`` side by side on raw arrays.
It remembers its inputs; ``Tensor.backward`` visits the operations in reverse. Gradients are first
order only.
"""

from __future__ import annotations

import copy
import functools
import heapq
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import backends
from .arrays import Array
from .backends import Backend
from .errors import DeviceError, DTypeError, GradientError, ShapeError

_P = ParamSpec("_P")


_R = TypeVar("_R")


#: modules that lie between an operation and the code that calls it
_BETWEEN = ("xcnn.functional", "xcnn.tensor")


#: the active ones by thread: empty, and so quickly asked, nearly always
tracers: dict[int, Tracer] = {}


@dataclass(frozen=True)
class Call:
    """A call of an operation.

    Attributes
    ----------
    name
        Of the operation, or of the class of a Function that was called by itself.
    arguments
        By name, with the defaults of those left out; by number for a Function.
    result
        What came back.
    where
        File and line of the code that called.
    is_public
        False for a Function that no operation called.
    """

    name: str
    arguments: dict[Any, Any]
    result: Any
    where: str
    is_public: bool = True


class Tracer:
    """Keeps the operations that are called, and so all their arrays, in ``calls``."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Record what this thread calls."""
        with _in_this_thread(self):
            yield

    def call(self, function: Callable, arguments: tuple, settings: dict) -> Any:
        """Call an operation, unseen by itself, and keep it."""
        with _in_this_thread(None):
            result = function(*arguments, **settings)
        bound = inspect.signature(function).bind(*arguments, **settings)
        bound.apply_defaults()
        self.calls.append(Call(function.__qualname__, bound.arguments, result, _caller()))
        return result

    def function(self, function: Any, inputs: tuple, result: Any) -> None:
        """Keep a Function that no operation called."""
        arguments = dict(enumerate(inputs))
        name = type(function).__name__
        self.calls.append(Call(name, arguments, result, _caller(), is_public=False))


def operation(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a public function, or a method, as one that a :class:`Tracer` records."""

    @functools.wraps(function)
    def call(*arguments: _P.args, **settings: _P.kwargs) -> _R:
        if not tracers:
            return function(*arguments, **settings)
        tracer = current()
        if tracer is None:
            return function(*arguments, **settings)
        return tracer.call(function, arguments, settings)

    return call


def current() -> Tracer | None:
    """What records the calls of this thread."""
    return tracers.get(threading.get_ident())


@contextmanager
def _in_this_thread(tracer: Tracer | None) -> Iterator[None]:
    thread, before = threading.get_ident(), current()
    try:
        _set(thread, tracer)
        yield
    finally:
        _set(thread, before)


def _set(thread: int, tracer: Tracer | None) -> None:
    if tracer is None:
        tracers.pop(thread, None)
    else:
        tracers[thread] = tracer


def _caller() -> str:
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Mode(threading.local):
    recording = True
    autocast = False


_mode = _Mode()


_numbers = itertools.count()


@contextmanager
def no_grad() -> Iterator[None]:
    """Do not record operations: nothing is saved for backward. Per thread; also a decorator."""
    before, _mode.recording = _mode.recording, False
    try:
        yield
    finally:
        _mode.recording = before


@contextmanager
def enable_grad() -> Iterator[None]:
    """Record operations, also inside :func:`no_grad`."""
    before, _mode.recording = _mode.recording, True
    try:
        yield
    finally:
        _mode.recording = before


@contextmanager
def autocast() -> Iterator[None]:
    """Let operations on a float16 input take float32 weights, as float16. Per thread.

    The weights' gradients are float32 again: they stay the master copy that an optimiser changes
    (Micikevicius et al. 2018, "Mixed precision training", arXiv:1710.03740).
    """
    before, _mode.autocast = _mode.autocast, True
    try:
        yield
    finally:
        _mode.autocast = before


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.recording


class Function:
    """One call of a differentiable operation; subclass it to add one.

    Settings (stride, axis, ...) go into ``__init__``, arrays into the call:
    ``MyFunction(stride=2)(x, weight)``. Define

    ``forward(backend, *arrays) -> array``
        Compute with ``backend.xp`` and the backend's primitives; keep what backward needs by
        name, ``self.save(x=x)``. An input that was given as None arrives as None.
    ``backward(backend, dy) -> array`` or a tuple with one array (or None) per input
        ``dy`` has the output's shape. ``self.saved`` has what was saved, and
        ``self.needs_grad[i]`` says whether input ``i`` wants a gradient.

    Neither may change its arguments in place, and nobody what was saved: arrays are not copied, so
    weights change after backward, not between forward and backward.
    """

    saved: Any = None
    inputs: Any = None
    #: names of the arguments, for error texts
    arguments: tuple[str, ...] = ()
    #: inputs that may have another dtype than the first one, such as class indices
    any_dtype: tuple[str, ...] = ()

    def forward(self, backend: Backend, *arrays: Any) -> Array:
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, backend: Backend, dy: Array) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def save(self, **arrays: Any) -> None:
        """Keep ``arrays`` for backward under their names, if there will be a backward."""
        if self.recorded:
            self.saved = SimpleNamespace(**arrays)

    def __call__(self, *inputs: Any) -> Any:
        if self.inputs is not None:  # this object already is a node of a graph
            return copy.copy(self)._call(inputs)
        return self._call(inputs)

    def _call(self, inputs: tuple) -> Any:
        tensors = [None if x is None else Tensor.of(x) for x in inputs]
        arrays = [None if t is None else t.data for t in tensors]
        self.backend = self._common_backend(arrays)
        if _mode.autocast:
            arrays = _halved(arrays)
        recording = _mode.recording
        self.needs_grad = tuple([recording and t is not None and t.requires_grad for t in tensors])
        self.recorded = any(self.needs_grad)
        with self.backend.active():
            output = Tensor(self.forward(self.backend, *arrays), requires_grad=self.recorded)
        if self.recorded:
            self.number = next(_numbers)
            self.inputs = tensors
            output.creator = self
        self.backend.made(type(self).__name__, output.data)
        if tracers and (tracer := current()):  # and no public operation called this
            tracer.function(self, inputs, output)
        return output

    def _common_backend(self, arrays: list) -> Backend:
        first: Backend | None = None
        for index, array in enumerate(arrays):
            if array is None:
                continue
            backend = backends.of(array)
            if first is None:
                first, number, dtype = backend, index, array.dtype
                if dtype.kind != "f":
                    self._check_float(self._argument(index), dtype)
            elif backend is not first:
                raise self._device_error(number, first, index, backend)
            elif array.dtype != dtype:
                self._check_same_type(number, dtype, index, array.dtype)
        if first is None:
            raise DTypeError(f"{type(self).__name__}: no array was given")
        return first

    def _device_error(self, index: int, backend: Backend, other: int, others: Backend) -> Exception:
        first, name = self._argument(index), self._argument(other)
        return DeviceError(
            f"{type(self).__name__}: {first} is on {backend.device}, {name} on {others.device}; "
            f'move {first} with .to("{others.device}"), or {name} and the module that owns it with '
            f'.to("{backend.device}")'
        )

    def _check_same_type(self, index: int, dtype: Any, other: int, others: Any) -> None:
        first, name = self._argument(index), self._argument(other)
        is_cast = _mode.autocast and (dtype, others) == ("float16", "float32")
        if name not in self.any_dtype and not is_cast:
            raise DTypeError(
                f"{type(self).__name__}: {first} is {dtype}, {name} is {others}; "
                f"both must have one dtype: use .astype({str(dtype)!r}) on the array or "
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


def _halved(arrays: list) -> list:
    """The arrays, float32 ones as float16 where the first is float16."""
    if arrays[0] is None or arrays[0].dtype != "float16":
        return arrays
    return [a.astype("float16") if a is not None and a.dtype == "float32" else a for a in arrays]


def walk(output: Any, dy: Array, retain_graph: bool = False) -> list[tuple[Any, Array]]:
    """Carry ``dy``, the gradient of ``output``, back to the leaves.

    Every Function is visited after all that used its output, newest first: a heap of creation
    numbers, no recursion.

    Returns
    -------
    list of (leaf tensor, gradient)
        Each leaf once. A gradient may share memory with another or with ``dy``.
    """
    pending: dict[int, tuple[Function, Array]] = {}
    leaves: dict[int, tuple[Any, Array]] = {}
    heap: list[int] = []

    def arrive(target: Any, gradient: Array) -> None:
        creator = target.creator
        key, table = (id(target), leaves) if creator is None else (-creator.number, pending)
        if key in table:
            gradient = table[key][1] + gradient
        elif creator is not None:
            heapq.heappush(heap, key)
        table[key] = (creator or target, gradient)

    arrive(output, dy)
    with output.backend.active():
        while heap:
            function, gradient = pending.pop(heapq.heappop(heap))
            inputs = function.inputs
            for source, dx in zip(inputs, _backward(function, gradient), strict=True):
                if source is not None and source.requires_grad and dx is not None:
                    arrive(source, dx if dx.dtype == source.dtype else dx.astype(source.dtype))
            if not retain_graph:
                function.saved, function.inputs = None, None
    return list(leaves.values())


def _backward(function: Function, dy: Array) -> tuple:
    if function.inputs is None:
        raise GradientError(
            f"{type(function).__name__}: backward was already called on this graph and its saved "
            "arrays are gone; run forward again, or pass retain_graph=True the first time"
        )
    gradients = function.backward(function.backend, dy)
    if not isinstance(gradients, tuple):
        gradients = (gradients,)
    if len(gradients) != len(function.inputs):
        raise GradientError(
            f"{type(function).__name__}.backward returned {len(gradients)} gradients for "
            f"{len(function.inputs)} inputs; return one per input, None where there is none"
        )
    return gradients


def vjp(function: Any, *arrays: Any, **settings: Any) -> tuple[Array, Any]:
    """Value and vector-Jacobian product of a functional, on plain arrays, without a tape.

    Parameters
    ----------
    function
        Anything that takes arrays and returns a Tensor, such as ``F.conv2d``.
    *arrays
        Its array arguments, or None where one is left out.
    **settings
        Passed on, such as ``stride=2``.

    Returns
    -------
    y : array
    pullback : callable
        ``pullback(dy)``, for ``dy`` of ``y``'s shape, gives a tuple with one gradient per array
        (None for None and for integer arrays). ``dy`` may be left out where y has one element. It
        may be called repeatedly.

    Examples
    --------
    >>> y, pullback = xcnn.vjp(F.conv2d, x, w, b, stride=2, padding="same")
    >>> dx, dw, db = pullback(dy)
    """
    inputs = [None if a is None else _input(a) for a in arrays]
    with enable_grad():
        output = function(*inputs, **settings)

    def pullback(dy: Array | None = None) -> tuple:
        if dy is None:
            dy = output.ones_for_backward()
        dy = Tensor.of(dy).data
        if dy.shape != output.shape:
            raise ShapeError(f"pullback: dy has shape {dy.shape}, the output {output.shape}")
        found = {id(t): g for t, g in walk(output, dy, retain_graph=True)}
        gradients = [
            None if t is None or not t.requires_grad else _or_zeros(found.get(id(t)), t)
            for t in inputs
        ]
        return tuple(_own(g, [dy, *gradients[:i]]) for i, g in enumerate(gradients))

    return output.data, pullback


def _input(array: Array) -> Any:
    backends.of(array)  # refuses what is not an array
    return Tensor(array, requires_grad=array.dtype.kind == "f")


def _own(gradient: Array | None, others: list) -> Array | None:
    """A copy of a gradient that is also another's, or a view that repeats one number."""
    if gradient is None:
        return None
    repeats = any(s == 0 and n > 1 for s, n in zip(gradient.strides, gradient.shape, strict=True))
    is_shared = any(gradient is other for other in others)
    return gradient.copy() if repeats or is_shared else gradient


def _or_zeros(gradient: Array | None, leaf: Any) -> Array:
    if gradient is not None:
        return gradient
    with leaf.backend.active():
        return leaf.backend.xp.zeros_like(leaf.data)


_DLPACK_CPU, _DLPACK_CUDA = 1, (2, 13)  # device kinds; 13 is managed memory


class Tensor:
    """An array that remembers how it was made.

    Parameters
    ----------
    data
        A NumPy or CuPy array (kept as it is, not copied); an array of another library on a GPU,
        such as a PyTorch CUDA tensor, whose memory is used through DLPack; a number, or nested
        lists (which become a float32 NumPy array).
    requires_grad
        Whether ``backward`` shall leave a gradient in ``grad``. Floating-point arrays only.

    Attributes
    ----------
    data : array
    grad : array or None
        Same shape and dtype as ``data``; ``backward`` adds to it.
    creator : Function or None
        None for a leaf.
    """

    __slots__ = ("__weakref__", "creator", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # so that array + tensor asks the tensor

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            data = data.data
        elif backends.find(data) is None:
            data = _to_array(data)
        if requires_grad and data.dtype.kind != "f":
            raise DTypeError(
                f"requires_grad=True needs a floating-point array, got {data.dtype}; convert it "
                "with .astype('float32')"
            )
        self.data: Array = data
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.creator: Function | None = None

    @classmethod
    def of(cls, value: Any) -> Tensor:
        """``value`` itself if it is a Tensor, else a new Tensor around it."""
        return value if isinstance(value, Tensor) else cls(value)

    # -- what it is -------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def backend(self) -> Backend:
        return backends.of(self.data)

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:N"``."""
        return self.backend.device

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        made_by = f", creator={type(self.creator).__name__}" if self.creator else ""
        grad = ", requires_grad=True" if self.requires_grad and not self.creator else ""
        return f"{type(self).__name__}({self.data!r}, device={self.device!r}{grad}{made_by})"

    def numpy(self) -> Any:
        """The values as a NumPy array (shared memory on the CPU); waits for a GPU."""
        return self.backend.to_host(self.data)

    def item(self) -> float:
        """The one value as a Python number; waits for a GPU.

        Raises
        ------
        ShapeError
            Not exactly one element.
        """
        if self.size != 1:
            raise ShapeError(f"item() needs one element, this tensor has shape {self.shape}")
        return self.numpy().item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """For NumPy, on the CPU only: from a GPU, say ``numpy()``."""
        if self.device != "cpu":
            raise DTypeError(
                f"this tensor is on {self.device}: NumPy takes no arrays from there by itself; "
                "call .numpy()"
            )
        return self.backend.xp.array(self.data, dtype, copy=copy)

    def to(self, device: str | Backend) -> Tensor:
        """A new leaf with the same values on ``device``; itself if it is there already.

        Raises
        ------
        DeviceError
            No such device here.
        """
        target = backends.get(device)
        if target is self.backend:
            return self
        return type(self)(target.asarray(self.numpy()), self.requires_grad)

    def detach(self) -> Tensor:
        """The same array outside the graph."""
        return Tensor(self.data)

    # -- gradients --------------------------------------------------------------------------

    def backward(self, grad: Array | None = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to ``grad`` of every leaf that requires one.

        Parameters
        ----------
        grad
            Gradient of this tensor, same shape. May be left out for a single element.
        retain_graph
            Keep what was saved, so that backward can be called again.
        """
        if not self.requires_grad:
            raise GradientError(
                "backward(): this tensor does not depend on anything with requires_grad=True "
                "(or was computed under no_grad)"
            )
        if grad is None:
            grad = self.ones_for_backward()
        grad = Tensor.of(grad).data
        if grad.shape != self.shape:
            raise ShapeError(f"backward(): grad has shape {grad.shape}, the tensor {self.shape}")
        found = walk(self, grad, retain_graph)
        with self.backend.active():
            for leaf, gradient in found:
                leaf.accumulate(gradient)

    def ones_for_backward(self) -> Array:
        """The gradient of this tensor with respect to itself, if it has one element.

        Raises
        ------
        GradientError
            More elements, or none.
        """
        if self.size != 1:
            raise GradientError(
                f"without a gradient to start from, backward needs one element, this tensor has "
                f"shape {self.shape}; pass a gradient, or reduce it, for example with .mean()"
            )
        with self.backend.active():
            return self.backend.xp.ones_like(self.data)

    def accumulate(self, gradient: Array) -> None:
        """Add ``gradient`` to ``grad``."""
        if self.grad is None:
            self.grad = self.backend.xp.zeros_like(self.data)
        self.grad += gradient

    def zero_grad(self) -> None:
        """Set ``grad`` to zero in place, so that its memory stays where it is."""
        if self.grad is not None:
            self.grad.fill(0)

    if TYPE_CHECKING:  # defined by functional/, which lies above this module

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __pow__(self, exponent: Any) -> Tensor: ...
        def __rpow__(self, base: Any) -> Tensor: ...
        def abs(self) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def pow(self, exponent: Any) -> Tensor: ...
        def reciprocal(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __iter__(self) -> Iterator[Tensor]: ...

        T: Tensor

        def reshape(self, *shape: Any) -> Tensor: ...
        def flatten(self, start_dim: int = 0) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def permute(self, *dims: Any) -> Tensor: ...
        def transpose(self, dim0: int, dim1: int) -> Tensor: ...
        def squeeze(self, dim: Any = None) -> Tensor: ...
        def unsqueeze(self, dim: int) -> Tensor: ...
        def split(self, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]: ...
        def clamp(self, min: Any = None, max: Any = None) -> Tensor: ...


class Parameter(Tensor):
    """A Tensor that a Module trains: it requires a gradient unless told otherwise."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


def _from_gpu(data: Any, kind: int, index: int) -> Array:
    """An array of another library on a GPU, without a copy."""
    if kind not in _DLPACK_CUDA:
        raise DTypeError(
            f"{type(data).__name__} is on a device of DLPack's kind {kind}: expected the CPU or a "
            "CUDA GPU; move it to one of them first"
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


class Buffer(Tensor):
    """An array that belongs to a module's state but is not trained, such as a running mean."""

    __slots__ = ()
