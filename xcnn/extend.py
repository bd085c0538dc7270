"""The public door for extensions: your own operations, layers, backends and ONNX emitters.

=================  =====================================================================
to add             use
=================  =====================================================================
an operation       subclass :class:`Function`; mark the public function :func:`operation`
a layer            subclass :class:`Module`; :func:`register_layer` lets files name it
a backend          subclass :class:`Backend`; :func:`register_backend`
an ONNX emitter    :func:`onnx_emitter`, for an operation of yours
=================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from . import backends
from .backends import Backend
from .errors import ArgumentError
from .nn import Module
from .tensor import Buffer, Function, Parameter, operation

__all__ = [
    "Backend",
    "Buffer",
    "Function",
    "Module",
    "Parameter",
    "onnx_emitter",
    "operation",
    "register_backend",
    "register_layer",
]

_F = TypeVar("_F", bound=Callable[..., Any])
#: packages that are imported only when a file or a user asks for them
_OPTIONAL = ("onnx",)
_builders: dict[str, Callable[..., Module]] = {}
_names: dict[type[Module], str] = {}
#: how an operation is written to ONNX, by its name
EMITTERS: dict[str, Callable[..., Any]] = {}


def register_backend(backend: Backend, array_type: type) -> Backend:
    """Make a backend known by its ``device`` name and by the type of its arrays.

    Parameters
    ----------
    backend
        An instance of your subclass; ``model.to(backend.device)`` then works.
    array_type
        Arrays of this class, and of its subclasses, belong to ``backend``.
    """
    backends.register(array_type, lambda array: backend)
    return backends.add_device(backend)


def register_layer(
    kind: type[Module], name: str | None = None, build: Callable[..., Module] | None = None
) -> type[Module]:
    """Let saved files name a class of your own, so that ``xcnn.load`` can build it. A decorator.

    Parameters
    ----------
    kind
        A subclass of Module. The arguments of its constructor are what the file holds: numbers,
        strings, None, other modules, or lists of these.
    name
        What the file calls it; default: the name of the class.
    build
        What makes it from those arguments; default: ``kind`` itself.

    Raises
    ------
    ArgumentError
        Not a Module, or another class has that name.
    """
    if not (isinstance(kind, type) and issubclass(kind, Module)):
        raise ArgumentError(f"register_layer: {kind!r}: expected a subclass of Module")
    name = kind.__name__ if name is None else name
    if any(other == name and known is not kind for known, other in _names.items()):
        raise ArgumentError(f"register_layer: name={name!r} is taken; choose another name")
    _builders[name] = kind if build is None else build
    _names[kind] = name
    return kind


def layer_name(kind: type[Module]) -> str | None:
    """The name that a class was registered under, or None."""
    return _names.get(kind)


def layer_builder(name: str) -> Callable[..., Module] | None:
    """What makes a layer of a registered name, or None.

    The name of a class of an optional package starts with that package, which is imported here.
    """
    package = name.partition(".")[0]
    if name not in _builders and package in _OPTIONAL:
        import_module(f"{__package__}.{package}")
    return _builders.get(name)


def onnx_emitter(*names: str) -> Callable[[_F], _F]:
    """Mark a function that writes an operation to ONNX. A decorator.

    Parameters
    ----------
    *names
        Of the operations, ``function.__qualname__`` of what :func:`operation` marked.

    Returns
    -------
    callable
        Takes ``emit(writer, **arguments)``: the arguments of the operation by name. It returns the
        name of the output, or a list of them (see ``xcnn.onnx.exporter.Writer``).
    """

    def enter(emit: _F) -> _F:
        EMITTERS.update(dict.fromkeys(names, emit))
        return emit

    return enter
