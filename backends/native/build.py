"""Compile the kernels when xcnn is installed: one shared library with all instruction sets.

setuptools runs this file by itself, so it imports nothing from xcnn. Without a compiler, or if it
fails, xcnn is installed without the kernels. In a checkout: ``pip install -e .``, or
``python -c "import setuptools; setuptools.setup()" build_ext --inplace``. ``XCNN_NATIVE=0`` skips
the compilation; the compiler is ``$CXX``, its further flags ``$CXXFLAGS``.
"""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

HERE = Path(__file__).parent
#: the flags of each instruction set, by the processor's name
VARIANTS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"],
        "avx2": ["-mavx2", "-mfma"],
    }
}
FLAGS = ["-O3", "-std=gnu++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-pthread"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wno-psabi"]


class BuildKernels(build_ext):
    """Compiles each source once per instruction set."""

    def build_extension(self, ext: Any) -> None:
        if os.environ.get("XCNN_NATIVE") == "0":
            raise CompileError("XCNN_NATIVE=0: the kernels are left out")
        if os.name == "nt":
            raise CompileError("the kernels need GCC or Clang")
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            compile_library(target, Path(folder), self.spawn)

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"  # for ctypes, not for one Python


def compile_library(target: Path, folder: Path, spawn: Any) -> None:
    """Compile the sources, with objects in ``folder``, and link them to ``target``."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    more = shlex.split(os.environ.get("CXXFLAGS", ""))
    variants = {"baseline": [], **VARIANTS.get(platform.machine(), {})}
    signatures = zlib.crc32((HERE / "library.py").read_bytes()) & 0x7FFFFFFF
    more = [*more, f"-DXCNN_SIGNATURES={signatures}"]
    commands, objects = [], []
    for source in sorted(HERE.glob("*.cpp")):
        names = ["baseline"] if source.stem == "threads" else list(variants)
        for name in names:
            objects.append(str(folder / f"{source.stem}-{name}.o"))
            flags = [*FLAGS, *variants[name], f"-DXCNN_VARIANT={name}", *more]
            commands.append([*compiler, *flags, "-c", str(source), "-o", objects[-1]])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(spawn, commands))
    spawn([*compiler, "-shared", "-pthread", *more, *objects, "-o", str(target)])
