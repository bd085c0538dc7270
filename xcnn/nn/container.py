"""Containers of modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..checks import is_int
from ..errors import ArgumentError, DTypeError, OutOfRangeError
from ..functional import BiasReLU
from .activation import ReLU
from .conv import Conv2d
from .linear import Linear
from .module import Module
from .pool import MaxPool2d


class Sequential(Module):
    """A sequential container: each module takes the output of the previous one.

    Parameters
    ----------
    *modules
        Modules, named "0", "1", ...; or one dict from names to modules.

    Raises
    ------
    ArgumentError
        An item is not a Module, or its name is not valid.
    """

    def __init__(self, *modules: Any) -> None:
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        for name, module in enumerate(modules) if named is None else named.items():
            self._add(str(name), module)

    def _add(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise ArgumentError(
                f"Sequential: {name} is {type(module).__name__}, expected a Module; call a "
                "function in a Module's forward"
            )
        if hasattr(self, name) or not name or "." in name:
            raise ArgumentError(f"Sequential: {name!r} is not a valid module name; choose another")
        setattr(self, name, module)

    def append(self, module: Module) -> Sequential:
        """Add a module at the end, under the next free number; returns self."""
        names = [str(n) for n in range(len(self), 2 * len(self) + 1)]
        self._add(next(n for n in names if not hasattr(self, n)), module)
        return self

    def forward(self, x: Any) -> Any:
        modules: list[Any] = [m for m in vars(self).values() if isinstance(m, Module)]
        while modules:
            count = _fusible(modules, x)
            if count == 3:
                conv, _, pool = modules[:3]
                x = BiasReLU()(pool(conv(x, with_bias=False)), conv.bias)
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
        modules = list(self.children())
        if not is_int(index):
            raise DTypeError(f"index is {type(index).__name__}: expected an int or a slice")
        if not -len(modules) <= index < len(modules):
            raise OutOfRangeError(f"index {index}: this Sequential has {len(modules)} modules")
        return modules[index]


def _fusible(modules: list[Any], x: Any) -> int:
    """Count the leading modules that can be fused.

    Two: a convolution or linear layer applies the ReLU after it together with its bias. Three: a
    convolution, a ReLU and a max-pool of a batch; bias and ReLU are monotonic, so pooling first
    leaves them fewer pixels. One: anything else, including subclasses and layers that are observed
    or patched.
    """
    kinds = [None if module.is_observed else type(module) for module in modules[:3]]
    if kinds == [Conv2d, ReLU, MaxPool2d]:
        formats = {modules[0].data_format, modules[2].data_format}
        weight, bias = modules[0].weight, modules[0].bias
        is_plain = formats == {"NCHW"} and not modules[2].return_indices
        if is_plain and x.ndim == 4 and getattr(bias, "shape", None) == weight.shape[:1]:
            return 3
    return 2 if kinds[:2] in ([Conv2d, ReLU], [Linear, ReLU]) else 1
