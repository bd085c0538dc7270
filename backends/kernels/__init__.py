"""The CUDA sources and their variants.

A kernel file is CUDA C with ``extern "C"`` entry points. Types are macros rather than templates, so
that names are not mangled and CuPy can cache compiled files on disk.
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
#: files with vectorised loads and stores
PACKED = ("im2col", "depthwise", "pool", "bias")
_ARGMAX = {False: "uint8", True: "int"}

FILES = tuple(sorted(path.stem for path in _FOLDER.glob("*.cu")))
DTYPES = tuple(_SCALARS)


class Variant(NamedTuple):
    """Compile-time options of a kernel file.

    ``wide`` uses 64-bit indices, ``packed`` loads and stores 16 bytes at once, ``large`` saves
    positions in a pooling window as 32 bits.
    """

    file: str
    dtype: str = "float32"
    wide: bool = False
    packed: bool = False
    large: bool = False

    @property
    def lanes(self) -> int:
        """Adjacent elements that one thread loads or stores at once."""
        return lanes(self.dtype) if self.packed else 1

    @property
    def index(self) -> Any:
        """The NumPy type of the kernels' ``index_t``."""
        return np.int64 if self.wide else np.int32

    @property
    def options(self) -> tuple[str, ...]:
        """Compiler options."""
        return (
            "-std=c++17",
            *_SCALARS[self.dtype],
            f"-DINDEX={'int64' if self.wide else 'int'}",
            f"-DLANES={self.lanes}",
            f"-DARGMAX={_ARGMAX[self.large]}",
        )


def lanes(dtype: str) -> int:
    """Number of elements in 16 bytes."""
    return 16 // _ITEMSIZES[dtype]


def itemsize(dtype: str) -> int:
    """Size of an element in bytes."""
    return _ITEMSIZES[dtype]


@functools.cache
def source(file: str) -> str:
    """The source of a kernel file, preceded by ``common.cuh``."""
    return "".join((_FOLDER / name).read_text() for name in ("common.cuh", f"{file}.cu"))


@functools.cache
def entry_points(file: str) -> tuple[str, ...]:
    """Names of the kernels in a file."""
    pattern = r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\('
    return tuple(re.findall(pattern, source(file)))


def variants(dtypes: tuple[str, ...] = DTYPES) -> Iterator[Variant]:
    """All variants of all files."""
    for file in FILES:
        for dtype in dtypes:
            for wide in (False, True):
                for packed in (False, True) if file in PACKED else (False,):
                    for large in (False, True) if file == "pool" else (False,):
                        yield Variant(file, dtype, wide, packed, large)
