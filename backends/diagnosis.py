"""Why there is no CUDA device, or what the devices that there are can do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

from .base import Backend
from .cpu import CpuBackend

PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy", "cupy-rocm-7-0")
INSTALL = 'pip install "cupy-cuda13x[ctk]"   (for a driver of CUDA 13; cupy-cuda12x for CUDA 12)'
_DRIVER = (
    "install NVIDIA's driver (Debian, Ubuntu: sudo apt install nvidia-driver) and check it with: "
    "nvidia-smi"
)


def installed() -> list[str]:
    """The CuPy packages of this environment, such as "cupy-cuda13x 14.2.0"."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def problem() -> str:
    """Why no CUDA device can be used here and what to do about it; empty if one can."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; install it with: {INSTALL}"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is installed but cannot be imported ({error}); reinstall it with: {INSTALL}"
    if cupy.is_available():
        return ""
    try:
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises CUDARuntimeError, or its loader's own errors
        driver, wanted = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
        if 0 < driver // 1000 < wanted // 1000:  # 0 where there is no driver at all
            return (
                f"the driver is for CUDA {_version(driver)}, too old for CuPy {cupy.__version__}, "
                f"which is for CUDA {_version(wanted)}; update the driver, or install the CuPy for "
                f'it: pip install "cupy-cuda{driver // 1000}x[ctk]"'
            )
        return (
            f"CuPy {cupy.__version__} is installed, but the CUDA driver does not answer ({error}); "
            f"{_DRIVER}"
        )
    return "CuPy is installed, but no CUDA device is visible; check with: nvidia-smi"


def warnings() -> list[str]:
    """What is wrong though a device may answer."""
    several = installed()
    if len(several) < 2:
        return []
    names = " ".join(text.split()[0] for text in several)
    return [
        f"{len(several)} CuPy packages are installed ({', '.join(several)}) and overwrite each "
        f"other's files: pip uninstall {names}, then {INSTALL}"
    ]


def describe(backend: Backend) -> str:
    """Name, compute capability and memory of a CUDA device, and the versions of CUDA."""
    cuda = backend.xp.cuda
    index = int(backend.device.partition(":")[2] or 0)
    properties = cuda.runtime.getDeviceProperties(index)
    major, minor = properties["major"], properties["minor"]
    with backend.active():
        free, total = cuda.runtime.memGetInfo()
    driver, runtime = cuda.runtime.driverGetVersion(), cuda.runtime.runtimeGetVersion()
    return (
        f"{properties['name'].decode()}, compute capability {major}.{minor}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free, driver for CUDA {_version(driver)}, "
        f"CuPy for {_version(runtime)}"
    )


def try_kernel(backend: Backend) -> str:
    """Compile a kernel, run it and compare with the CPU: "ok", or what went wrong."""
    try:
        found = backend.to_host(backend.random_bits(1000, key=7))
        half = backend.to_host(backend.dropout_mask(8, 7, 0.5, "float16"))
    except Exception as error:  # whatever the compiler, the driver or CuPy's loader raise
        text = str(error).strip() or type(error).__name__
        if any(word in text for word in (".h", "nvrtc", "include", "CUDA_PATH")):
            return (
                f"cannot compile ({_first_line(text)}): CUDA's compiler or headers are missing; "
                f"install them with: {INSTALL}"
            )
        return f"failed: {_first_line(text)}"
    expected = CpuBackend().random_bits(1000, key=7)
    same = bool((found == expected).all()) and len(half) == 8
    return "ok: compiled, run, and equal to the CPU's numbers" if same else "wrong numbers"


def _first_line(text: str) -> Any:
    return text.splitlines()[0]


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
