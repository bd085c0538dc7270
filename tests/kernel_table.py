"""Compiles every variant of every kernel with NVRTC, which needs no GPU, and reports its resources.

``python -m tests.kernel_table`` prints one line per kernel and dtype: registers per thread for each
architecture and bytes of static shared memory per block, the maximum over the variants. The exit
status is 1 if a variant does not compile, or compiles with a warning, a spill or a stack frame.

``__launch_bounds__(256, 4)`` limits every kernel to 64 registers.
"""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import NamedTuple

from xcnn.backends import kernels
from xcnn.backends.kernels import Variant

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
_HEADERS = ("cuda_fp16.h", "cuda_bf16.h")
_ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")


class Usage(NamedTuple):
    """The resources of one entry point, as reported by ptxas."""

    registers: int
    shared: int
    stack: int
    spilled: int


class KernelError(Exception):
    """A variant does not compile cleanly; includes the compiler's log."""


@functools.cache
def missing() -> str:
    """Why kernels cannot be compiled here; empty if they can."""
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except ImportError as error:
        return f"needs CuPy ({error})"
    except Exception as error:  # CuPy's loader raises its own errors
        return f"needs NVRTC, as in cupy-cuda13x[ctk] ({error})"
    if include_folder() is None:
        return f"needs CUDA's headers {' and '.join(_HEADERS)}, as in cupy-cuda13x[ctk]"
    return ""


@functools.cache
def include_folder() -> Path | None:
    """The folder of CUDA's headers: from wheels or a toolkit, in CuPy's order."""
    for find in (_from_wheels, _from_toolkit):
        folder = find()
        if folder is not None and all((folder / name).exists() for name in _HEADERS):
            return folder
    return None


def _from_wheels() -> Path | None:
    try:
        from cuda.pathfinder import find_nvidia_header_directory
    except ImportError:
        return None
    folder = find_nvidia_header_directory("cudart")
    return Path(folder) if folder else None


def _from_toolkit() -> Path | None:
    import cupy

    root = cupy.cuda.get_cuda_path()
    return Path(root, "include") if root else None


def compile_variant(variant: Variant, architecture: str) -> dict[str, Usage]:
    """The resources of each entry point of a variant.

    Raises
    ------
    KernelError
        It does not compile, or compiles with a warning, a spill or a stack frame.
    """
    usages, log = _compile(kernels.source(variant.file), variant, architecture)
    complaint = _complaint(variant, usages, log)
    if complaint:
        raise KernelError(f"{variant} for {architecture}: {complaint}\n{log}")
    return usages


def _compile(source: str, variant: Variant, architecture: str) -> tuple[dict[str, Usage], str]:
    """The resources of each entry point (empty if compilation fails), and the compiler's log."""
    from cupy_backends.cuda.libs import nvrtc

    options = (
        *variant.options,
        *_ADDED_BY_CUPY,
        f"-I{include_folder()}",
        f"-arch={architecture}",
        "--ptxas-options=-v",
    )
    program = nvrtc.createProgram(source, f"{variant.file}.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        log = nvrtc.getProgramLog(program)
        return _parse(log), log
    except nvrtc.NVRTCError as error:
        return {}, f"{error}\n{nvrtc.getProgramLog(program)}"
    finally:
        nvrtc.destroyProgram(program)


def _complaint(variant: Variant, usages: dict[str, Usage], log: str) -> str:
    if not usages:
        return "does not compile"
    if set(usages) != set(kernels.entry_points(variant.file)):
        return f"has the entry points {sorted(usages)}"
    if re.search(r"\bwarning\b", log, re.IGNORECASE):
        return "compiles with a warning"
    for name, usage in usages.items():
        if usage.stack or usage.spilled:
            return f"{name} has {usage.stack} bytes of stack, {usage.spilled} spilled"
    return ""


def _parse(log: str) -> dict[str, Usage]:
    """Parse the output of ptxas, one paragraph per entry point."""
    usages = {}
    for part in log.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        stack, stores, loads = (
            _number(rf"(\d+) bytes {what}", part, required=True)
            for what in ("stack frame", "spill stores", "spill loads")
        )
        registers = _number(r"Used (\d+) registers", part, required=True)
        usages[name] = Usage(registers, _number(r"(\d+) bytes smem", part), stack, stores + loads)
    return usages


def _number(pattern: str, text: str, required: bool = False) -> int:
    match = re.search(pattern, text)
    if required and not match:
        raise KernelError(f"the output of ptxas does not match {pattern!r}:\n{text}")
    return int(match[1]) if match else 0


def table() -> list[str]:
    """The lines of the table, header first."""
    maxima: dict[tuple[str, str, str], dict[str, Usage]] = {}
    for variant in kernels.variants():
        for architecture in ARCHITECTURES:
            for name, usage in compile_variant(variant, architecture).items():
                row = maxima.setdefault((variant.file, name, variant.dtype), {})
                old = row.get(architecture, Usage(0, 0, 0, 0))
                row[architecture] = Usage(*map(max, old, usage))
    header = "".join(f"{a:>8}" for a in ARCHITECTURES)
    lines = [f"{'file':8}{'kernel':22}{'dtype':10}{header}{'shared':>8}"]
    for (file, name, dtype), row in maxima.items():
        registers = "".join(f"{row[a].registers:8}" for a in ARCHITECTURES)
        shared = max(usage.shared for usage in row.values())
        lines.append(f"{file:8}{name:22}{dtype:10}{registers}{shared:8}")
    return lines


def main() -> int:
    """Print the table and return the exit status."""
    if missing():
        print(f"kernel_table: {missing()}", file=sys.stderr)
        return 2
    from cupy_backends.cuda.libs import nvrtc

    try:
        lines = table()
    except KernelError as error:
        print(error, file=sys.stderr)
        return 1
    version = ".".join(map(str, nvrtc.getVersion()))
    print(f"NVRTC {version}: maximum registers per thread and bytes of shared memory per block")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
