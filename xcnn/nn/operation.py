"""Base class of layers that call one function of :mod:`xcnn.functional`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from ..checks import OLD_REDUCTIONS
from ..tensor import Tensor
from .module import Module


class OperationLayer(Module):
    """Calls ``function`` with the layer's settings.

    Subclasses set ``function``. Its settings are the arguments of the subclass's constructor, which
    checks them and stores them as attributes; ``inplace``, which makes no difference, and the old
    names of ``reduction`` are not passed on.
    """

    function: ClassVar[Callable[..., Tensor]]
    _setting_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "function" in vars(cls):  # a user's subclass may take other arguments
            names = tuple(inspect.signature(cls.__init__).parameters)[1:]
            cls._setting_names = tuple(n for n in names if n not in ("inplace", *OLD_REDUCTIONS))

    def forward(self, *inputs: Any) -> Tensor:
        settings = {name: getattr(self, name) for name in self._setting_names}
        return type(self).function(*inputs, **settings)


class SpatialLayer(Module):
    """Base class of layers that exist for signals, images and volumes: ``ndim`` is 1, 2 or 3.

    ``class MaxPool2d(..., function=F.max_pool2d)`` sets ``function`` and ``ndim``.
    """

    function: ClassVar[Callable[..., Any]]
    ndim: ClassVar[int]

    def __init_subclass__(cls, function: Callable[..., Any] | None = None) -> None:
        if function is not None:
            cls.function, cls.ndim = staticmethod(function), int(function.__name__[-2])
        super().__init_subclass__()
