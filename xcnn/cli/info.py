"""``xcnn summary``, ``doctor``, ``warmup`` and ``datasets``: what there is."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

from .. import __version__, backends, data, models, optim
from ..backends import diagnosis
from ..errors import ArgumentError
from ..summary import summary as table
from ..training.trainer import Trainer
from . import deploy
from .runs import RunFolder

_PACKAGES = ("numpy", "scipy", "tqdm", "safetensors", "onnx", "onnxruntime", "pillow", "matplotlib")


def summary(arguments: argparse.Namespace) -> int:
    """A table of the layers of a known network or of a run."""
    if arguments.model in models.names():
        shape = arguments.input_shape or models.default(arguments.model, "input_shape")
        classes = arguments.classes or models.default(arguments.model, "num_classes")
        model = models.create(arguments.model, num_classes=classes, input_shape=shape)
    elif Path(arguments.model).is_dir():
        if arguments.classes:
            raise ArgumentError("--classes is for the name of a model; a run has its own classes")
        folder = RunFolder(Path(arguments.model))
        model = folder.load_model()
        shape = arguments.input_shape or tuple(folder.load_config()["input_shape"])
    elif deploy.is_onnx(Path(arguments.model)):
        model, shape = _read_onnx(arguments)
    else:
        raise ArgumentError(
            f"{arguments.model!r} is neither a model ({', '.join(models.names())}) nor a run "
            "folder, nor a file that ends in .onnx"
        )
    print(table(model, shape))
    return 0


def _read_onnx(arguments: argparse.Namespace) -> tuple[Any, tuple[int, ...]]:
    """The network of an ONNX file, and the shape of an example."""
    if arguments.classes:
        raise ArgumentError("--classes is for the name of a model; a file has its own classes")
    model = deploy.read_onnx(arguments.model)
    if len(model.inputs) != 1:
        raise ArgumentError(
            f"{arguments.model} takes {deploy.describe_inputs(model)}: a summary needs a network "
            "of one input"
        )
    (declared,) = model.inputs.values()
    shape = arguments.input_shape or tuple(declared[1:] if declared else ())
    is_known = shape and all(isinstance(n, int) for n in shape)
    if not is_known or math.prod(shape) > deploy.LARGEST:
        raise ArgumentError(
            f"{arguments.model} takes {deploy.describe_inputs(model)}: say how large an example "
            "is, with --input-shape"
        )
    return model, shape


def datasets(arguments: argparse.Namespace) -> int:
    """Each data set, what it holds and where it is."""
    for name in data.names():
        record = data.info(name)
        train, test = record.counts
        print(f"{name:<14} {record.title}; {train:,} to train, {test:,} to test")
        print(f"{'':<14} {data.status(name, arguments.data_dir)}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Versions, devices and BLAS."""
    rows = [
        ("xcnn", f"{__version__} in {Path(__file__).parents[1]}"),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        *((name, _version(name)) for name in _PACKAGES),
        ("CuPy", ", ".join(diagnosis.installed()) or "not installed"),
        *(("", text) for text in diagnosis.warnings()),
        *((f"device {name}", state) for name, state in backends.available().items()),
        *_gpus(),
        ("BLAS", _blas()),
        ("BLAS threads", _threads()),
    ]
    for name, value in rows:
        print(f"{name:<14} {value}")
    return 0


def warmup(arguments: argparse.Namespace) -> int:
    """Compile every CUDA kernel, CuPy's own of a training step too."""
    backend = backends.get(arguments.device)
    if backend.device == "cpu":
        raise ArgumentError("there is nothing to compile for the CPU; choose --device cuda")
    started = time.perf_counter()
    compiled = sum(1 for _ in backend.warmup())
    for precision in ("float32", "float16"):
        _one_step(backend, precision)
    print(
        f"{compiled} kernel modules of xcnn and those of CuPy that a training step needs: ready in "
        f"{time.perf_counter() - started:.1f} s, on {backend.device}; CuPy keeps them in "
        f"{os.environ.get('CUPY_CACHE_DIR', '~/.cupy/kernel_cache')}"
    )
    return 0


def _one_step(backend: backends.Backend, precision: str) -> None:
    xp = backends.get("cpu").xp
    model = models.create("lenet5").to(backend)
    trainer = Trainer(model, optim.Adam(model.parameters()), precision=precision)
    trainer.train_step(xp.zeros((2, 1, 28, 28), "float32"), xp.zeros(2, "int64"))
    backend.synchronize()


def _gpus() -> list[tuple[str, str]]:
    """What each CUDA device is, and whether a kernel runs on it."""
    rows = []
    for name in backends.cuda_devices():
        backend = backends.get(name)
        rows.append((name, diagnosis.describe(backend)))
        rows.append(("", f"a kernel of xcnn's: {diagnosis.try_kernel(backend)}"))
    return rows


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _version(package: str) -> str:
    return importlib.metadata.version(package) if _installed(package) else "not installed"


def _blas() -> str:
    config = backends.get("cpu").xp.show_config(mode="dicts")
    blas: dict[str, Any] = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _threads() -> str:
    """As threadpoolctl tells; without it, as the variables that BLAS reads tell."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if importlib.util.find_spec("threadpoolctl"):
        from threadpoolctl import threadpool_info

        pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
        if pools:
            kinds = {f"{p['num_threads']} ({p.get('architecture', 'unknown core')})" for p in pools}
            return f"{', '.join(sorted(kinds))}, {cores} cores"
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    told = [f"{n}={os.environ[n]}" for n in names if n in os.environ]
    return f"{', '.join(told) or 'no limit set, so one per core'}, {cores} cores"
