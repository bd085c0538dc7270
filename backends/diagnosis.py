"""Diagnosis of CUDA: why no device is available, or what the devices can do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from contextlib import suppress

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
    packages = []
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            packages.append(f"{name} {importlib.metadata.version(name)}")
    return packages


def problem() -> str:
    """Why no CUDA device can be used and how to fix it; empty if one can."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; install it with: {INSTALL}"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is installed but cannot be imported ({error}); reinstall it with: {INSTALL}"
    if cupy.is_available():
        return ""
    runtime = cupy.cuda.runtime
    try:
        runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError, or an error of CuPy's loader
        driver, required = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if 0 < driver // 1000 < required // 1000:  # 0 where there is no driver at all
            return (
                f"the driver is for CUDA {_version(driver)}, too old for CuPy {cupy.__version__}, "
                f"which is for CUDA {_version(required)}; update the driver, or install a "
                f'matching CuPy: pip install "cupy-cuda{driver // 1000}x[ctk]"'
            )
        return (
            f"CuPy {cupy.__version__} is installed, but the CUDA driver does not answer ({error}); "
            f"{_DRIVER}"
        )
    return "CuPy is installed, but no CUDA device is visible; check with: nvidia-smi"


def warnings() -> list[str]:
    """Problems with the installation that do not prevent a device from being used."""
    packages = installed()
    if len(packages) < 2:
        return []
    names = " ".join(text.split()[0] for text in packages)
    return [
        f"{len(packages)} CuPy packages are installed ({', '.join(packages)}) and overwrite each "
        f"other's files: pip uninstall {names}, then {INSTALL}"
    ]


def describe(backend: Backend) -> str:
    """Name, compute capability and memory of a CUDA device, and CUDA versions."""
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
    """Compile and run a kernel and compare with the CPU: "ok ...", or the problem."""
    try:
        bits = backend.to_host(backend.random_bits(1000, key=7))
        half = backend.to_host(backend.dropout_mask(8, 7, 0.5, "float16"))
    except Exception as error:  # from the compiler, the driver or CuPy's loader
        text = str(error).strip() or type(error).__name__
        if any(word in text for word in (".h", "nvrtc", "include", "CUDA_PATH")):
            return (
                f"cannot compile ({_first_line(text)}): CUDA's compiler or headers are missing; "
                f"install them with: {INSTALL}"
            )
        return f"failed: {_first_line(text)}"
    expected = CpuBackend().random_bits(1000, key=7)
    matches = bool((bits == expected).all()) and len(half) == 8
    return "ok: compiled, run, and equal to the CPU's numbers" if matches else "wrong numbers"


def _first_line(text: str) -> str:
    return text.splitlines()[0]


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
