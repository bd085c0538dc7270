"""Random numbers of a part of a batch: those that the whole batch would get at these places."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import numpy as np


class Part(NamedTuple):
    """Which rows of a batch of ``total`` a process has: ``size`` of them, from ``start`` on."""

    start: int
    size: int
    total: int

    @classmethod
    def of(cls, total: int, rank: int, ranks: int) -> Part:
        """The part of rank ``rank`` of ``ranks``; parts differ by one row at most."""
        start, stop = rank * total // ranks, (rank + 1) * total // ranks
        return cls(start, stop - start, total)

    @property
    def rows(self) -> slice:
        """The rows of the whole batch."""
        return slice(self.start, self.start + self.size)


class ShardGenerator(np.random.Generator):
    """Draws numbers for a whole batch, and returns those of a part of it.

    What is drawn with a ``size`` whose first axis is the number of rows of the part belongs to
    them: the rows of the whole batch are drawn, and the part's are returned. ``permutation`` of
    this number gives their order in a permutation of the whole batch. Everything else is the same
    for all parts.
    """

    def __init__(self, bit_generator: Any, part: Part) -> None:
        super().__init__(bit_generator)
        self.part = part

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.bit_generator, self.part)

    def permutation(self, x: Any, axis: int = 0) -> Any:
        """Of an int: the order of the part's rows in a permutation of all."""
        if not isinstance(x, int | np.integer) or x != self.part.size:
            return super().permutation(x, axis)
        start, stop = self.part.rows.start, self.part.rows.stop
        order = super().permutation(self.part.total)
        return order[(order >= start) & (order < stop)] - start


def _for_the_part(draw: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    @wraps(draw)
    def method(self: ShardGenerator, *arguments: Any, **settings: Any) -> Any:
        given = signature.bind(self, *arguments, **settings)
        size = given.arguments.get("size")
        shape = size if isinstance(size, tuple | list) else (size,)
        if not shape or shape[0] is None or shape[0] != self.part.size:
            return draw(self, *arguments, **settings)
        given.arguments["size"] = (self.part.total, *shape[1:])
        return draw(*given.args, **given.kwargs)[self.part.rows]

    return method


for _name, _draw in inspect.getmembers(np.random.Generator, callable):
    if not _name.startswith("_") and "size" in (_signature := inspect.signature(_draw)).parameters:
        setattr(ShardGenerator, _name, _for_the_part(_draw, _signature))
