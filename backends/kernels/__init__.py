"""The CUDA sources, and the ways in which each is compiled.

A kernel file is plain CUDA C with ``extern "C"`` entry points. Types are macros rather than
templates, so that an entry point keeps its name and a compiled file its place in CuPy's disk cache.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_FOLDER = Path(__file__).parent
_SCALARS = {
    "float32": ("-DSCALAR=float",),
    "float64": ("-DSCALAR=double",),
    "float16": ("-DSCALAR=__half", "-DFLOAT16"),
    "bfloat16": ("-DSCALAR=__nv_bfloat16", "-DBFLOAT16"),
}
_ITEMSIZES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
#: files whose threads can move several neighbours at once
PACKED = ("im2col", "pool", "bias")
_ARGMAX = {False: "uint8", True: "int"}

FILES = tuple(sorted(path.stem for path in _FOLDER.glob("*.cu")))
DTYPES = tuple(_SCALARS)


class Variant(NamedTuple):
    """One way to compile a kernel file.

    ``wide`` counts in 64 bits, ``packed`` moves 16 bytes at once, ``large`` saves the positions in
    a pooling window in 32 bits.
    """

    file: str
    dtype: str = "float32"
    wide: bool = False
    packed: bool = False
    large: bool = False

    @property
    def lanes(self) -> int:
        """Neighbouring elements that one thread moves at once."""
        return lanes(self.dtype) if self.packed else 1

    @property
    def index(self) -> Any:
        """The NumPy type of the kernels' ``index_t``."""
        return np.int64 if self.wide else np.int32

    @property
    def options(self) -> tuple[str, ...]:
        """What the compiler is told."""
        return (
            "-std=c++17",
            *_SCALARS[self.dtype],
            f"-DINDEX={'int64' if self.wide else 'int'}",
            f"-DLANES={self.lanes}",
            f"-DARGMAX={_ARGMAX[self.large]}",
        )


def lanes(dtype: str) -> int:
    """Elements in 16 bytes."""
    return 16 // _ITEMSIZES[dtype]


def itemsize(dtype: str) -> int:
    """Bytes of an element."""
    return _ITEMSIZES[dtype]


@functools.cache
def source(file: str) -> str:
    """The text of a kernel file, what all files share in front of it."""
    return "".join((_FOLDER / name).read_text() for name in ("common.cuh", f"{file}.cu"))


@functools.cache
def entry_points(file: str) -> tuple[str, ...]:
    """Names of the kernels in a file."""
    pattern = r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\('
    return tuple(re.findall(pattern, source(file)))


def variants(dtypes: tuple[str, ...] = DTYPES) -> Iterator[Variant]:
    """Every way in which any file is compiled."""
    for file in FILES:
        for dtype in dtypes:
            for wide in (False, True):
                for packed in (False, True) if file in PACKED else (False,):
                    for large in (False, True) if file == "pool" else (False,):
                        yield Variant(file, dtype, wide, packed, large)
