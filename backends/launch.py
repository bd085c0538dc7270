"""Compilation of kernels on first use, and launches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import communicator
from ..arrays import Array
from . import kernels
from .kernels import Variant

BLOCK = 256  # threads
CHUNK = 4096  # elements of a parameter that one block updates
_ARRAYS = 72
_LISTS = np.dtype(
    [
        ("address", "int64", (5, _ARRAYS)),
        ("size", "int64", _ARRAYS),
        ("first_block", "int32", _ARRAYS + 1),
    ],
    align=True,
)
_MOST_BLOCKS = 2**20  # beyond this, threads process several elements each
_MOST_ROWS = 65535  # CUDA's limit for the second axis of a grid
#: counts from here on need 64-bit indices: a thread's index may exceed them by one grid
NARROW = 2**31 - BLOCK * _MOST_BLOCKS


class Kernels:
    """The kernels of one device.

    Parameters
    ----------
    cupy
        The CuPy module; its current device must be the device of the arrays.
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self._modules: dict[Variant, Any] = {}
        self._functions: dict[tuple[Variant, str], Any] = {}

    def variant(
        self, file: str, dtype: Any, arrays: Sequence[Array], run: int = 1, large: bool = False
    ) -> Variant:
        """The variant of ``file`` for arrays that are read in runs of ``run`` elements."""
        name = dtype.name
        wide = any(a.size >= NARROW for a in arrays)
        # new arrays are aligned to 16 bytes or more, views may not be
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
        """Queue a launch, unless the grid is empty.

        ``arguments`` must have exactly the types of the kernel's parameters: CuPy passes a Python
        int as 64 bits even if the kernel expects 32.
        """
        if 0 not in grid:
            self.function(variant, name)((*grid, 1, 1)[:3], (block, 1, 1), arguments)

    def function(self, variant: Variant, name: str) -> Any:
        """An entry point, compiled on first use."""
        key = variant, name
        if key not in self._functions:
            self._functions[key] = self.compile(variant).get_function(name)
        return self._functions[key]

    def compile(self, variant: Variant) -> Any:
        """The compiled module of a kernel file, from CuPy's disk cache if possible."""
        if variant not in self._modules:
            with announce_if_slow(
                f"xcnn: compiling CUDA kernels ({variant.file}.cu for {variant.dtype}); CuPy "
                "caches them on disk, and `xcnn warmup` compiles all at once"
            ):
                module = self.cupy.RawModule(
                    code=kernels.source(variant.file), options=variant.options
                )
                module.get_function(kernels.entry_points(variant.file)[0])  # compiles
            self._modules[variant] = module
        return self._modules[variant]


def grid(count: int, rows: int = 1) -> tuple[int, int]:
    """The grid for ``rows`` rows of ``count`` elements."""
    return min(-(-count // BLOCK), _MOST_BLOCKS), min(rows, _MOST_ROWS)


def lane_tiles(shape: tuple[int, ...]) -> tuple[Any, tuple[int, int]]:
    """Lanes of a tile of (A, K, P, N), and the grid: blocks share tiles where there are few."""
    groups, rows, pixels, lanes = shape
    width = min(32, 1 << (lanes - 1).bit_length())
    tiles, shares = groups * -(-lanes // width), BLOCK // width
    blocks = min(64, max(1, 2048 // tiles), -(-rows * pixels // (8 * shares)))
    return np.int32(width), (blocks, min(tiles, _MOST_ROWS))


def row_tiles(shape: tuple[int, ...]) -> tuple[Any, tuple[int, int]]:
    """Threads for a row of (A, K, P, N), and the grid."""
    groups, rows, pixels, lanes = shape
    width = min(BLOCK, 1 << (pixels * lanes - 1).bit_length())
    blocks = -(-groups * rows * width // BLOCK)
    parts = min(64, max(1, 1024 // blocks), -(-pixels * lanes // (8 * width)))
    parts = 1 if rows == lanes == 1 else parts
    return np.int32(width), (parts, min(blocks, _MOST_ROWS))


def launches(lists: Sequence[Sequence[Array]]) -> Iterator[tuple[str, Any, int]]:
    """Yield dtype, argument and number of blocks of each launch over all arrays of the lists.

    The argument is a ``Lists`` of kernels/optim.cu, passed by value. Lists may be empty. Arrays at
    the same position in their lists have the same size; the dtype is that of the first list that
    is not empty.
    """
    chosen = next(filter(None, lists), [])
    for dtype in dict.fromkeys(a.dtype.name for a in chosen):
        positions = [i for i, a in enumerate(chosen) if a.dtype.name == dtype and a.size]
        for start in range(0, len(positions), _ARRAYS):
            part = positions[start : start + _ARRAYS]
            argument = np.zeros((), _LISTS)
            for number, arrays in enumerate(lists):
                if arrays:
                    argument["address"][number, : len(part)] = [arrays[i].data.ptr for i in part]
            sizes = np.array([chosen[i].size for i in part])
            ends = np.cumsum(-(-sizes // CHUNK))
            argument["size"][: len(part)] = sizes
            argument["first_block"][1:] = 2**31 - 1
            argument["first_block"][1 : len(part)] = ends[:-1]
            yield dtype, argument[()], int(ends[-1])


@contextmanager
def announce_if_slow(text: str, after: float = 0.5) -> Iterator[None]:
    """Print ``text`` to standard error if the block takes longer than ``after`` seconds.

    Of several processes, rank 0 does.
    """
    timer = threading.Timer(after, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    if communicator.current().is_main:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
