"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ArgumentError
from .activation import ReLU
from .conv import Conv2d
from .linear import Linear
from .module import Module


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
            module = modules.pop(0)
            if modules and _makes_relu_too(module, modules[0]):
                modules.pop(0)
                x = module(x, relu=True)
            else:
                x = module(x)
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


def _makes_relu_too(module: Module, following: Module) -> bool:
    """Whether ``module`` can apply the ReLU that follows in one pass with its bias.

    Not where a hook wants to see what lies between them, nor for subclasses.
    """
    known = type(module) in (Conv2d, Linear) and type(following) is ReLU
    return known and not module._hooks and not following._hooks
