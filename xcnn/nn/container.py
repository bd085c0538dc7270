"""Containers of modules and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from ..checks import check_list, check_text, is_int
from ..errors import ArgumentError, DTypeError, OutOfRangeError, show
from ..tensor import Parameter
from .activation import ReLU, ReLU6
from .conv import Conv2d
from .linear import Linear
from .module import Module
from .norm import BatchNorm2d, SyncBatchNorm
from .pool import MaxPool2d

__all__ = ["ModuleDict", "ModuleList", "ParameterList", "Sequential"]


class _Items(Module):
    """What the containers share: members named "0", "1", ... or by the keys of a dict."""

    def _checked(self, name: str, item: Any) -> Any:
        if not isinstance(item, Module):
            raise ArgumentError(
                f"{type(self).__name__}: {name} is {type(item).__name__}, expected a Module; call "
                "a function in a Module's forward"
            )
        return item

    def _add(self, name: str, item: Any) -> None:
        if hasattr(self, name) or not name or "." in name:
            raise ArgumentError(
                f"{type(self).__name__}: {name!r} is not a valid module name; choose another"
            )
        setattr(self, name, self._checked(name, item))

    def _named(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if isinstance(v, Module | Parameter)}

    def __len__(self) -> int:
        return len(self._named())

    def __contains__(self, item: Any) -> bool:
        return any(item is member for member in self._named().values())


class _List(_Items):
    """A container that is used as a list."""

    def _set(self, items: Iterable[Any]) -> None:
        """Replace all items, named by their positions."""
        items = [self._checked(str(i), item) for i, item in enumerate(items)]
        for name in self._named():
            delattr(self, name)
        for i, item in enumerate(items):
            setattr(self, str(i), item)

    def append(self, item: Any) -> Self:
        """Add an item at the end, under the next free number; returns self."""
        names = [str(n) for n in range(len(self), 2 * len(self) + 1)]
        self._add(next(n for n in names if not hasattr(self, n)), item)
        return self

    def extend(self, items: Iterable[Any]) -> Self:
        """Add items at the end; returns self."""
        for item in _as_list(items):
            self.append(item)
        return self

    def insert(self, index: int, item: Any) -> None:
        """Insert an item before position ``index``; all are numbered again."""
        items = list(self)
        if not is_int(index) or abs(index) > len(items):
            raise OutOfRangeError(f"index={show(index)}: expected an int from 0 to {len(items)}")
        items.insert(int(index), item)
        self._set(items)

    def pop(self, index: int = -1) -> Any:
        """Remove the item at ``index``, and return it; the rest are numbered again."""
        items = list(self)
        item = items.pop(self._position(index))
        self._set(items)
        return item

    def _position(self, index: Any) -> int:
        if not is_int(index):
            raise DTypeError(f"index is {type(index).__name__}: expected an int or a slice")
        if not -len(self) <= index < len(self):
            raise OutOfRangeError(
                f"index {index}: this {type(self).__name__} has {len(self)} modules"
            )
        return int(index) % len(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._named().values())

    def __getitem__(self, index: int | slice) -> Any:
        """The item at ``index``; a slice gives a container of the same items."""
        named = self._named()
        if not isinstance(index, slice):
            return list(named.values())[self._position(index)]
        return self._part(dict(list(named.items())[index]))

    def _part(self, named: dict[str, Any]) -> Self:
        return type(self)(named.values())  # type: ignore[call-arg]

    def __setitem__(self, index: int, item: Any) -> None:
        name = list(self._named())[self._position(index)]
        setattr(self, name, self._checked(name, item))

    def __delitem__(self, index: int | slice) -> None:
        items = list(self)
        del items[index if isinstance(index, slice) else self._position(index)]
        self._set(items)

    def __add__(self, items: Iterable[Any]) -> Self:
        return self[:].extend(items)

    __iadd__ = extend


class ModuleList(_List):
    """A list of modules that belong to the module it is an attribute of.

    A plain list as an attribute does the same. Keys of the state are "NAME.0.weight" and so on.

    Parameters
    ----------
    modules
        Modules; a dict gives their names.

    Raises
    ------
    ArgumentError
        An item is not a Module.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for name, module in _named(modules):
            self._add(name, module)


class ParameterList(_List):
    """A list of parameters; arrays in it become parameters.

    Raises
    ------
    DTypeError
        An item is not an array of floating-point numbers.
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        for name, value in _named(values):
            self._add(name, value)

    def _checked(self, name: str, item: Any) -> Any:
        return item if isinstance(item, Parameter) else Parameter(item)


class ModuleDict(_Items):
    """A dict of modules that belong to the module it is an attribute of.

    A plain dict as an attribute does the same.

    Parameters
    ----------
    modules
        Modules by name.

    Raises
    ------
    ArgumentError
        An item is not a Module, or its name is not valid.
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[Any] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[Any]) -> None:
        """Add modules, or replace those of the same names."""
        if not isinstance(modules, Mapping):
            modules = dict(_pairs("modules", modules))
        for name, module in modules.items():
            self[name] = module

    def __iter__(self) -> Iterator[str]:
        return iter(self._named())

    def __getitem__(self, name: str) -> Any:
        return self._named()[name]

    def __setitem__(self, name: str, module: Any) -> None:
        if name in self._named():
            setattr(self, name, self._checked(name, module))
        else:
            self._add(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __contains__(self, name: Any) -> bool:
        return name in self._named()

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._named().keys()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._named().values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, module) of each."""
        return self._named().items()

    def pop(self, name: str) -> Any:
        """Remove a module, and return it."""
        module = self[name]
        del self[name]
        return module


def _as_list(items: Any) -> list[Any]:
    is_container = isinstance(items, _List)  # it has a dtype, as an array has
    return list(items) if is_container else check_list("items", items, "modules or parameters")


def _pairs(name: str, value: Any) -> list[tuple[str, Any]]:
    """A list of (name, module)."""
    pairs = check_list(name, value, "(name, module)")
    if not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise ArgumentError(f"{name}={show(value)}: expected a dict, or a list of (name, module)")
    return [(check_text("name", key), item) for key, item in pairs]


def _named(items: Any) -> Iterable[tuple[str, Any]]:
    """(name, item) of each, by position or by the keys of a dict."""
    if not isinstance(items, Mapping):
        items = dict(enumerate(_as_list(items)))
    return [(str(name), item) for name, item in items.items()]


class Sequential(_List):
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
        is_dict = len(modules) == 1 and isinstance(modules[0], Mapping)
        for name, module in _named(modules[0] if is_dict else modules):
            self._add(name, module)

    def _part(self, named: dict[str, Any]) -> Self:
        return type(self)(named)

    def forward(self, x: Any) -> Any:
        modules: list[Any] = [m for m in vars(self).values() if isinstance(m, Module)]
        while modules:
            count = _fusible(modules, x)
            if count == 3:
                x = modules[0](x, pool=modules[2])
            elif count == 2:
                x = modules[0](x, **_WITH_RELU[type(modules[0]), type(modules[1])])
            else:
                x = modules[0](x)
            modules = modules[count:]
        return x


#: layers that apply the activation after them, and their argument for it
_WITH_RELU: dict[tuple[type, type], dict[str, Any]] = {
    (Conv2d, ReLU): {"relu": True},
    (Linear, ReLU): {"relu": True},
    **{(norm, ReLU): {"relu": True} for norm in (BatchNorm2d, SyncBatchNorm)},
    **{(norm, ReLU6): {"relu": True, "ceiling": 6.0} for norm in (BatchNorm2d, SyncBatchNorm)},
}
_WITH_POOL = (Conv2d, ReLU, MaxPool2d)


def _fusible(modules: list[Any], x: Any) -> int:
    """Count the leading modules that can be fused.

    Two: a convolution, linear layer or batch-norm applies the ReLU after it in its own pass. Three:
    a convolution, a ReLU and a max-pool of a batch. One: anything else, including subclasses and
    layers that are observed or patched.
    """
    kinds = tuple(map(type, modules[:3]))
    if kinds[:2] not in _WITH_RELU or modules[0].is_observed or modules[1].is_observed:
        return 1
    if kinds == _WITH_POOL and not modules[2].is_observed:
        conv, _, pool = modules[:3]
        is_plain = conv.data_format == pool.data_format == "NCHW" and not pool.return_indices
        bias_shape = getattr(conv.bias, "shape", None)
        if is_plain and getattr(x, "ndim", 0) == 4 and bias_shape == conv.weight.shape[:1]:
            return 3
    return 2
