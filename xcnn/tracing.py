"""Recording the public operations that a model calls: what an exporter reads.

While a :class:`Tracer` is active in a thread, every outermost call of a function marked with
:func:`operation` is kept with its arguments and its result; what such a function calls itself is
not.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
#: modules that lie between an operation and the code that calls it
_BETWEEN = ("xcnn.functional", "xcnn.tracing", "xcnn.autograd", "xcnn.tensor")


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
