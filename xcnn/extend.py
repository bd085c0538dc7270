"""Extension points: user-defined operations, layers, backends and ONNX emitters.

- An operation: subclass :class:`Function`, or :class:`ImageFunction`; mark the public function
  with :func:`operation`.
- A layer: subclass :class:`Module`; :func:`register_layer` for saved files.
- A backend: subclass :class:`Backend`; :func:`register_backend`.
- An ONNX emitter: :func:`onnx_emitter`, for a user-defined operation.
- A task: subclass :class:`xcnn.tasks.Task`; :func:`register_task`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from . import backends
from .backends import Backend
from .errors import ArgumentError, show
from .nn import Module
from .tensor import Buffer, Function, ImageFunction, Parameter, operation

__all__ = [
    "Backend",
    "Buffer",
    "Function",
    "ImageFunction",
    "Module",
    "Parameter",
    "onnx_emitter",
    "operation",
    "register_backend",
    "register_layer",
    "register_task",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_M = TypeVar("_M", bound=Module)
_T = TypeVar("_T", bound=type)
#: subpackages imported when a saved file needs them
_OPTIONAL = ("models", "onnx")
_builders: dict[str, Callable[..., Module]] = {}
_names: dict[type[Module], str] = {}
#: functions that write operations to ONNX, by the operation's name
EMITTERS: dict[str, Callable[..., Any]] = {}
#: subclasses of xcnn.tasks.Task by name
TASKS: dict[str, Any] = {}


def register_backend(backend: Backend, array_type: type) -> Backend:
    """Register a backend under its ``device`` name and for an array type.

    Parameters
    ----------
    backend
        An instance of a Backend subclass; ``model.to(backend.device)`` then works.
    array_type
        ``backend`` handles arrays of this class and its subclasses.
    """
    backends.register(array_type, lambda array: backend)
    return backends.add_device(backend)


def register_layer(
    kind: type[_M], name: str | None = None, build: Callable[..., Module] | None = None
) -> type[_M]:
    """Register a user-defined layer, so that ``xcnn.load`` can rebuild it. A decorator.

    Parameters
    ----------
    kind
        A subclass of Module. The file stores the arguments of its constructor: numbers, strings,
        None, other modules, or lists of these.
    name
        The name in files; default: the class name.
    build
        Builds the module from those arguments; default: ``kind`` itself.

    Raises
    ------
    ArgumentError
        Not a subclass of Module, or the name belongs to another class.
    """
    if not (isinstance(kind, type) and issubclass(kind, Module)):
        raise ArgumentError(f"register_layer: {kind!r}: expected a subclass of Module")
    name = kind.__name__ if name is None else name
    if any(other == name and known is not kind for known, other in _names.items()):
        raise ArgumentError(f"register_layer: name={show(name)} is taken; choose another name")
    _builders[name] = kind if build is None else build
    _names[kind] = name
    return kind


def layer_name(kind: type[Module]) -> str | None:
    """The registered name of a class, or None."""
    return _names.get(kind)


def layer_builder(name: str) -> Callable[..., Module] | None:
    """The builder registered under a name, or None.

    Imports the optional subpackage that the name starts with, if any.
    """
    package = name.partition(".")[0]
    if name not in _builders and package in _OPTIONAL:
        import_module(f"{__package__}.{package}")
    return _builders.get(name)


def register_task(kind: _T) -> _T:
    """Register a task under its ``name``, for ``xcnn train --task`` and saved runs. A decorator.

    Parameters
    ----------
    kind
        A subclass of :class:`xcnn.tasks.Task`.

    Raises
    ------
    ArgumentError
        It has no name, or the name belongs to another class; or it lacks what a task needs.
    """
    name = getattr(kind, "name", None)
    check = getattr(kind, "check_definition", None)
    if check is None or not isinstance(kind, type) or not isinstance(name, str) or not name:
        raise ArgumentError(f"register_task: {kind!r}: expected a subclass of Task with a name")
    if TASKS.get(name, kind) is not kind:
        raise ArgumentError(f"register_task: name={show(name)} is taken; choose another name")
    check()
    TASKS[name] = kind
    return kind


def onnx_emitter(*names: str) -> Callable[[_F], _F]:
    """Register a function that writes operations to ONNX. A decorator.

    Parameters
    ----------
    *names
        Names of the operations: ``__qualname__`` of the functions marked with :func:`operation`.

    Returns
    -------
    callable
        Decorates ``emit(writer, **arguments)``, which gets the arguments of the operation by name
        and returns the name of the output or a list of names (see ``xcnn.onnx.exporter.Writer``);
        None to have the operations that this one calls written instead.
    """

    def register(emit: _F) -> _F:
        EMITTERS.update(dict.fromkeys(names, emit))
        return emit

    return register
