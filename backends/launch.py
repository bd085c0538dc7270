"""Compiles kernels when they are first used, and launches them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arrays import Array
from . import kernels
from .kernels import Variant

BLOCK = 256  # threads
CHUNK = 4096  # elements of a parameter that one block updates
_MOST_TABLES = 16
_MOST_BLOCKS = 2**20  # then threads take several elements each
_MOST_ROWS = 65535  # what CUDA allows in the second axis of a grid
#: counts from here on need 64 bits; a thread's next index may lie one grid beyond the count
NARROW = 2**31 - BLOCK * _MOST_BLOCKS


class Kernels:
    """The kernels of one device.

    Parameters
    ----------
    cupy
        The CuPy module; its current device must be that of the arrays.
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self._modules: dict[Variant, Any] = {}
        self._functions: dict[tuple[Variant, str], Any] = {}

    def variant(
        self, file: str, dtype: Any, arrays: Sequence[Array], run: int = 1, large: bool = False
    ) -> Variant:
        """How to compile ``file`` for these arrays, that are read in runs of ``run`` elements."""
        name = dtype.name
        wide = any(a.size >= NARROW for a in arrays)
        # a view may start anywhere, a fresh array is aligned to more than 16 bytes
        packed = (
            file in kernels.PACKED
            and run % kernels.lanes(name) == 0
            and all(a.data.ptr % 16 == 0 for a in arrays)
        )
        return Variant(file, name, wide, packed, large)

    def launch(
        self,
        variant: Variant,
        name: str,
        grid: tuple[int, ...],
        arguments: tuple,
        block: int = BLOCK,
    ) -> None:
        """Queue one launch, or none for an empty grid.

        ``arguments`` have exactly the types of the kernel's parameters: CuPy passes a Python int
        as 64 bits, whatever the kernel expects.
        """
        if 0 not in grid:
            self.function(variant, name)((*grid, 1, 1)[:3], (block, 1, 1), arguments)

    def function(self, variant: Variant, name: str) -> Any:
        """An entry point, compiled if it was not yet."""
        key = variant, name
        if key not in self._functions:
            self._functions[key] = self.compile(variant).get_function(name)
        return self._functions[key]

    def compile(self, variant: Variant) -> Any:
        """The module of a kernel file, from CuPy's disk cache if it was ever compiled before."""
        if variant not in self._modules:
            with telling(
                f"xcnn: compiling CUDA kernels ({variant.file}.cu for {variant.dtype}); CuPy keeps "
                "them on disk, and `xcnn warmup` compiles all at once"
            ):
                module = self.cupy.RawModule(
                    code=kernels.source(variant.file), options=variant.options
                )
                module.get_function(kernels.entry_points(variant.file)[0])  # compiles
            self._modules[variant] = module
        return self._modules[variant]


def grid(count: int, rows: int = 1) -> tuple[int, int]:
    """Blocks for ``count`` elements of each of ``rows`` rows."""
    return min(-(-count // BLOCK), _MOST_BLOCKS), min(rows, _MOST_ROWS)


class Chunks:
    """Cuts lists of arrays into chunks that a block works on, for one launch over all of them.

    The tables of addresses stay on the device, and serve as long as the arrays stay where they are.
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self._tables: dict[tuple, Array] = {}
        self._no_scaling: Array = None

    def no_scaling(self) -> Array:
        """A scaler array that changes nothing."""
        if self._no_scaling is None:
            self._no_scaling = self.cupy.asarray(np.array([1, 0, 0, 0], "float32"))
        return self._no_scaling

    def tables(self, lists: Sequence[Sequence[Array]]) -> Iterator[tuple[str, Array]]:
        """For each dtype, a table (chunks, 6): addresses from up to five lists, and a length.

        Lists may be empty. Arrays with the same place in their lists have the same size.
        """
        longest = max(lists, key=len)
        for dtype in dict.fromkeys(a.dtype.name for a in longest):
            chosen = [i for i, a in enumerate(longest) if a.dtype.name == dtype]
            columns = [[kept[i] if kept else None for i in chosen] for kept in lists]
            yield dtype, self._table(columns, [longest[i].size for i in chosen], dtype)

    def _table(self, columns: list[list[Array | None]], sizes: list[int], dtype: str) -> Array:
        addresses = tuple(
            tuple(0 if a is None else a.data.ptr for a in column) for column in columns
        )
        key = dtype, *addresses, *sizes
        if key not in self._tables:
            while len(self._tables) >= _MOST_TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = self.cupy.asarray(_chunk_table(addresses, sizes, dtype))
        return self._tables[key]


def _chunk_table(addresses: tuple[tuple[int, ...], ...], sizes: list[int], dtype: str) -> Any:
    """One row for each ``CHUNK`` elements of each array: five addresses and a length."""
    parts = [np.empty((0, 6), "int64")]
    for i, size in enumerate(sizes):
        starts = np.arange(0, size, CHUNK, dtype="int64")
        rows = np.zeros((len(starts), 6), "int64")
        for place, column in enumerate(addresses):
            if column[i]:
                rows[:, place] = column[i] + starts * kernels.itemsize(dtype)
        rows[:, 5] = np.minimum(CHUNK, size - starts)
        parts.append(rows)
    return np.concatenate(parts)


@contextmanager
def telling(text: str, after: float = 0.5) -> Iterator[None]:
    """Write ``text`` to standard error if the block takes longer than ``after`` seconds."""
    timer = threading.Timer(after, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
