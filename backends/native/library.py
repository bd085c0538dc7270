"""Finding the compiled kernels and calling them through ctypes, with the GIL released."""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import ArgumentError

#: instruction sets, the fastest first
VARIANTS = ("avx512", "avx2", "baseline")
PATH = Path(__file__).with_name("kernels.so")
_TYPES: dict[str, Any] = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "d": ctypes.c_double}
#: the arguments of each kernel, exported for two dtypes as NAME_float32 and NAME_float64: p a
#: pointer, i an int64, d a double; it returns 0, or 1 without memory for its intermediate values
KERNELS: dict[str, str] = {
    # convolution.cpp
    "convolution": "pppppiii",
    "convolution_weight_gradient": "ppppi",
    # winograd.cpp
    "winograd": "pppppiiiiiiiiiiiii",
    "winograd_weight_gradient": "pppiiiiiiiiiii",
    # norm.cpp
    "normalize": "iiiiipppiidppdipidpp",
    "normalize_backward": "iiiiipppppiiidpppp",
    # products.cpp
    "product": "ipiiipiipiipi",
    # pool.cpp
    "max_pool2d": "pppipiii",
    "max_pool2d_backward": "pppipiii",
    "avg_pool2d": "ppipiii",
    "avg_pool2d_backward": "ppipiii",
    # loss.cpp
    "cross_entropy": "ppppiiii",
    "mean_of_terms": "ppppii",
    "exponential": "ppi",
    # optim.cpp
    "sgd_step": "piiddid",
    "adam_step": "piiddddddi",
    "rmsprop_step": "piiddddd",
    "adagrad_step": "piiddddd",
    # elementwise.cpp
    "add_bias": "ppiiiiii",
    "relu_backward": "ppppiii",
    "transpose": "ppiii",
    "dropout_mask": "piiidiiii",
}


def _signatures() -> int:
    """A checksum of this file, which the library was compiled with (``build.py``)."""
    return zlib.crc32(Path(__file__).read_bytes()) & 0x7FFFFFFF


class Library:
    """The kernels of one instruction set.

    Parameters
    ----------
    variant
        One of :data:`VARIANTS`; default: the first that the processor has.

    Raises
    ------
    ArgumentError
        The processor does not have it.
    OSError
        The library cannot be loaded: it is of another system, or of another version of xcnn.
    """

    def __init__(self, variant: str = "") -> None:
        self._library = ctypes.CDLL(str(PATH))
        if getattr(self._library, "xcnn_signatures", int)() != _signatures():
            raise OSError("it is of another version of xcnn")
        usable = [name for name in VARIANTS if self._has(name)]
        if variant and variant not in usable:
            raise ArgumentError(
                f"XCNN_NATIVE={variant}: expected 0, 1 or what this processor has: "
                f"{', '.join(usable)}"
            )
        self.variant = variant or usable[0]
        #: the kernels by name and ``dtype.char``, as functions of addresses and numbers
        self.functions = dict(self._load())

    def _has(self, variant: str) -> bool:
        return bool(self._library[f"xcnn_has_{variant}"]())

    def _load(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for name, arguments in KERNELS.items():
            for char, suffix in (("f", "float32"), ("d", "float64")):
                function = getattr(self._library, f"xcnn_{self.variant}_{name}_{suffix}")
                function.argtypes = [_TYPES[kind] for kind in arguments]
                function.restype = ctypes.c_int
                yield (name, char), function


def load() -> tuple[Library | None, str]:
    """The kernels, or None, and in words which ones or why not."""
    setting = os.environ.get("XCNN_NATIVE", "1")
    if setting == "0":
        return None, "off: XCNN_NATIVE=0"
    if not PATH.exists():
        if setting != "1":
            raise ArgumentError(
                f"XCNN_NATIVE={setting}: expected 0, or 1: the kernels are not compiled"
            )
        return None, (
            "not compiled, plain NumPy is slower: install a C++ compiler (Debian, Ubuntu: sudo apt "
            "install g++), then xcnn again"
        )
    try:
        library = Library("" if setting == "1" else setting)
    except OSError as error:
        return None, f"cannot be loaded, install xcnn again: {error}"
    return library, library.variant
