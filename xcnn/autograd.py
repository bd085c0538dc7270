"""The tape: operations remember their inputs, and the backward walk visits them in reverse.

An operation is a :class:`Function` with ``forward`` and ``backward`` side by side on raw arrays.
Gradients are first order only.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from . import backends
from .backends import Backend
from .errors import DeviceError, DTypeError, GradientError, ShapeError
from .tracing import current, tracers

Array = Any


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
        tensors = [None if x is None else tensor.Tensor.of(x) for x in inputs]
        arrays = [None if t is None else t.data for t in tensors]
        self.backend = self._common_backend(arrays)
        if _mode.autocast:
            arrays = _halved(arrays)
        recording = _mode.recording
        self.needs_grad = tuple([recording and t is not None and t.requires_grad for t in tensors])
        self.recorded = any(self.needs_grad)
        with self.backend.active():
            output = tensor.Tensor(self.forward(self.backend, *arrays), requires_grad=self.recorded)
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
        dy = tensor.Tensor.of(dy).data
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
    return tensor.Tensor(array, requires_grad=array.dtype.kind == "f")


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


from . import tensor  # noqa: E402  (it needs Function and walk from above)
