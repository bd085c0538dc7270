"""Registry of networks, and of blocks that saved files may contain."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .. import init
from ..checks import are_ints
from ..errors import ArgumentError, did_you_mean
from ..extend import register_layer
from ..files import AnyPath
from ..nn import Module
from .weights import load_weights

ImageShape = tuple[int, int, int]
_Model = TypeVar("_Model", bound=Module)
_Block = TypeVar("_Block", bound=Module)
_NETWORKS: dict[str, Callable[..., Module]] = {}
_CLASSIFIERS: list[str] = []
#: registered blocks by class name; a saved file refers to one as "models.BasicBlock"
PARTS: dict[str, type[Module]] = {}


def register_network(function: Callable[..., _Model]) -> Callable[..., _Model]:
    """Decorator: register a function that builds a network, for :func:`create`.

    Every network takes ``weights``, a file or a URL; see :func:`create`.
    """
    signature = inspect.signature(function)
    option = inspect.Parameter("weights", inspect.Parameter.KEYWORD_ONLY, default=None)

    @functools.wraps(function)
    def build(*args: Any, weights: AnyPath | None = None, **settings: Any) -> _Model:
        if weights is None:
            return function(*args, **settings)
        with init.skipped():
            model = function(*args, **settings)
        load_weights(model, weights)
        return model

    shown = signature.replace(parameters=[*signature.parameters.values(), option])
    build.__signature__ = shown  # type: ignore[attr-defined]
    _NETWORKS[function.__name__] = build
    return build


def register_classifier(function: Callable[..., _Model]) -> Callable[..., _Model]:
    """Decorator: :func:`register_network` for a network that returns logits (N, num_classes)."""
    _CLASSIFIERS.append(function.__name__)
    return register_network(function)


def family(
    base: Callable[..., _Model], register: Callable[..., Any] = register_classifier
) -> Callable[..., Callable[..., _Model]]:
    """Decorator: let a function that builds any network of a family define those by name.

    ``densenet121 = _densenet("densenet121", 7_978_856, counts=(6, 12, 24, 16))`` registers a
    function of that name, with a docstring that begins with the number of parameters. Its arguments
    are the positional ones of ``base``, some with other defaults; the keyword-only ones are fixed,
    and ``name`` is passed on to ``base``.
    """
    signature = inspect.signature(base)
    positional = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    title, _, text = str(base.__doc__).partition(".\n")

    def define(name: str, parameters: int, **settings: Any) -> Callable[..., _Model]:
        public = [p.replace(default=settings.get(p.name, p.default)) for p in positional]
        shown = signature.replace(parameters=public)

        def function(*args: Any, **changed: Any) -> _Model:
            try:
                bound = shown.bind(*args, **changed)
            except TypeError as error:
                raise TypeError(f"{name}: {error}") from None
            return base(**{**settings, **bound.arguments, "name": name})

        function.__name__ = function.__qualname__ = name
        function.__module__ = base.__module__
        function.__doc__ = f"{title}: {parameters:,} parameters.\n{text}"
        function.__signature__ = shown  # type: ignore[attr-defined]
        registered: Callable[..., _Model] = register(function)
        return registered

    return define


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
    """Build a network, with random weights or those of a file.

    Parameters
    ----------
    name
        One of :func:`names`.
    **settings
        Arguments of that network's function, such as ``num_classes`` and ``input_shape``.
        All take ``weights``: the path of a file that :func:`xcnn.load_state` reads, or a URL of
        one with its SHA-256 digest, ``"https://...#sha256=..."``. The URLs of torchvision's
        weights need no digest: the names of the files contain its first digits. A download is
        kept in the folder ``weights`` of the cache (``$XCNN_CACHE``, or ``~/.cache/xcnn``).

    Raises
    ------
    ArgumentError
        Unknown name, or a URL without a digest.
    FileNotFoundError, FileFormatError
        The file of ``weights`` does not exist, or is damaged.
    DataError
        It cannot be downloaded.
    StateDictError
        The weights do not fit the network.
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
        hint = did_you_mean(name, names()) or f": expected one of {', '.join(names())}"
        raise ArgumentError(f"unknown model {name!r}{hint}")
    return _NETWORKS[name]
