"""Registry of networks, and of blocks that saved files may contain."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ..checks import are_ints
from ..errors import ArgumentError, did_you_mean
from ..extend import register_layer
from ..nn import Module

ImageShape = tuple[int, int, int]
_Network = TypeVar("_Network", bound=Callable[..., Module])
_Block = TypeVar("_Block", bound=Module)
_NETWORKS: dict[str, Callable[..., Module]] = {}
_CLASSIFIERS: list[str] = []
#: registered blocks by class name; a saved file refers to one as "models.BasicBlock"
PARTS: dict[str, type[Module]] = {}


def register_network(function: _Network) -> _Network:
    """Decorator: register a function that builds a network, for :func:`create`."""
    _NETWORKS[function.__name__] = function
    return function


def register_classifier(function: _Network) -> _Network:
    """Decorator: :func:`register_network` for a network that returns logits (N, num_classes)."""
    _CLASSIFIERS.append(function.__name__)
    return register_network(function)


def register_block(cls: type[_Block]) -> type[_Block]:
    """Decorator: let saved files contain a block, as "models." and the name of its class."""
    PARTS[cls.__name__] = cls
    return register_layer(cls, f"models.{cls.__name__}")


def image_shape(input_shape: tuple[int, ...], model: str, smallest: int = 0) -> ImageShape:
    """Check that ``input_shape`` is (channels, height, width) of at least ``smallest`` pixels.

    Raises
    ------
    ArgumentError
        Not three numbers, or images too small.
    """
    if not are_ints(input_shape, 3):
        raise ArgumentError(
            f"input_shape={input_shape}: {model} needs images, (channels, height, width)"
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        order = ", as (channels, height, width)" if channels > width else ""
        raise ArgumentError(
            f"input_shape={input_shape}: {model} needs images of at least {smallest}×{smallest} "
            f"pixels{order}"
        )
    return channels, height, width


def names() -> list[str]:
    """Return the names that :func:`create` takes, sorted."""
    return sorted(_NETWORKS)


def classifiers() -> list[str]:
    """Return the :func:`names` of networks that classify images; the rest return images."""
    return sorted(_CLASSIFIERS)


def create(name: str, **settings: Any) -> Any:
    """Build a network with random weights.

    Parameters
    ----------
    name
        One of :func:`names`.
    **settings
        Arguments of that network's function, such as ``num_classes`` and ``input_shape``.

    Raises
    ------
    ArgumentError
        Unknown name.
    """
    return _network(name)(**settings)


def default(name: str, setting: str) -> Any:
    """Return a network's default for ``setting``, such as "input_shape".

    Raises
    ------
    ArgumentError
        Unknown name.
    """
    return inspect.signature(_network(name)).parameters[setting].default


def _network(name: str) -> Callable[..., Module]:
    if name not in _NETWORKS:
        known = f"expected one of {', '.join(names())}"
        raise ArgumentError(f"unknown model {name!r}: {known}{did_you_mean(name, names())}")
    return _NETWORKS[name]
