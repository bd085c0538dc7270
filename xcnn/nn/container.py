"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from ..errors import ArgumentError
from ..functional.linear import BiasReLU
from ..tensor import current
from .activation import ReLU
from .conv import Conv2d
from .linear import Linear
from .module import Module
from .pool import MaxPool2d


class Sequential(Module):
    """Modules called one after the other.

    Parameters
    ----------
    *modules
        Modules, whose names are "0", "1", ...; or one dict of names and modules.

    Raises
    ------
    ArgumentError
        Something that is not a module.
    """

    def __init__(self, *modules: Any) -> None:
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        for name, module in enumerate(modules) if named is None else named.items():
            self._add(str(name), module)

    def _add(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise ArgumentError(
                f"Sequential: {name} is {type(module).__name__}, expected a Module; a function "
                "goes into a Module's forward"
            )
        if hasattr(self, name) or not name or "." in name:
            raise ArgumentError(f"Sequential: {name!r} cannot name a module, choose another name")
        setattr(self, name, module)

    def append(self, module: Module) -> Sequential:
        """Add a module at the end, under the next free number; returns self."""
        names = [str(n) for n in range(len(self), 2 * len(self) + 1)]
        self._add(next(n for n in names if not hasattr(self, n)), module)
        return self

    def forward(self, x: Any) -> Any:
        modules = list(self.children())
        while modules:
            count = _fused(modules)
            if count == 3:
                x = _pool_before_bias(x, *modules[:3])
            elif count == 2:
                x = modules[0](x, relu=True)
            else:
                x = modules[0](x)
            modules = modules[count:]
        return x

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Any:
        """The module at ``index``; a slice gives a Sequential of the same modules."""
        if isinstance(index, slice):
            return Sequential(dict(list(self.named_children())[index]))
        return list(self.children())[index]


def _fused(modules: list[Module]) -> int:
    """How many of the first modules are computed together: one; two, a convolution or linear
    layer that makes the ReLU after it in one pass with its bias; or three, a convolution with ReLU
    and max-pool. Not where a hook or a tracer wants to see what lies between them, nor subclasses.
    """
    if current():
        return 1
    kinds = [None if module._hooks else type(module) for module in modules[:3]]
    if kinds == [Conv2d, ReLU, MaxPool2d]:
        conv, pool = cast(Conv2d, modules[0]), cast(MaxPool2d, modules[2])
        formats = {conv.data_format, pool.settings[-1]}
        if conv.bias is not None and formats == {"NCHW"}:
            return 3
    return 2 if kinds[:2] in ([Conv2d, ReLU], [Linear, ReLU]) else 1


def _pool_before_bias(x: Any, conv: Any, relu: Module, pool: Module) -> Any:
    """The pool first: bias and ReLU keep the order of pixels, and have fewer of them to do then."""
    return BiasReLU()(pool(conv(x, with_bias=False)), conv.bias)
