"""Networks by name.

>>> model = xcnn.models.create("lenet5", num_classes=10)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..nn import Module
from .lenet import lenet5
from .simple import mlp, small_cnn

__all__ = ["create", "lenet5", "mlp", "names", "small_cnn"]

_MODELS: dict[str, Callable[..., Module]] = {
    "lenet5": lenet5,
    "mlp": mlp,
    "small_cnn": small_cnn,
}


def names() -> list[str]:
    """What :func:`create` knows."""
    return sorted(_MODELS)


def create(name: str, **settings: Any) -> Any:
    """A new network with random weights.

    Parameters
    ----------
    name
        One of :func:`names`.
    **settings
        Of that network's function: ``num_classes``, ``input_shape`` and its own.

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    if name not in _MODELS:
        raise ArgumentError(f"model {name!r} is not known: expected one of {', '.join(names())}")
    return _MODELS[name](**settings)
