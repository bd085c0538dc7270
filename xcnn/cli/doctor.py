"""Show the versions, devices and BLAS of this machine.

xcnn doctor
xcnn doctor > report.txt
mpiexec -n 4 xcnn doctor --distributed
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import __version__, backends
from ..backends import diagnosis
from ..errors import ArgumentError
from .options import Parser, print_rows, print_table

_PACKAGES = ("numpy", "scipy", "tqdm", "onnx", "onnxruntime", "pillow", "matplotlib")


_MINUTE = 60.0


def add_options(parser: Parser) -> None:
    several = "check and time the processes that mpiexec, srun or torchrun started"
    parser.add("--distributed", several, action="store_true")


def run(arguments: argparse.Namespace) -> bool:
    if arguments.distributed:
        return _run_distributed()
    rows = [
        ("xcnn", f"{__version__} in {Path(__file__).parents[1]}"),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        *((name, _version(name)) for name in _PACKAGES),
        ("CuPy", ", ".join(diagnosis.installed()) or "not installed"),
        *(("", text) for text in diagnosis.warnings()),
        *((f"device {name}", state) for name, state in backends.available().items()),
        *_gpus(),
        ("CPU kernels", backends.kernels_of_cpu),
        ("BLAS", _blas()),
        ("BLAS threads", _threads()),
    ]
    print_rows(rows)
    return False


def _run_distributed() -> bool:
    """The ranks, the time of sums, and what is wrong; returns whether anything is."""
    from .. import distributed

    count = distributed.launched()
    if count == 1:
        raise ArgumentError(
            "this is one process: start several, such as mpiexec -n 4 xcnn doctor --distributed "
            '(needs: pip install "xcnn[mpi]"), or with srun or torchrun'
        )
    ranks = distributed.init(timeout=_MINUTE)
    identities = ranks.gather(
        {
            **distributed.diagnosis.identity(),
            "text": f"{socket.gethostname()}, {distributed.device()}, BLAS threads {_threads()}",
        }
    )
    table = [*distributed.diagnosis.transfers(ranks)]
    problems = distributed.diagnosis.problems(ranks, identities)
    if ranks.is_main:
        print_rows(
            [
                ("processes", f"{ranks.size}, connected by {ranks.engine}"),
                *((f"rank {i}", one["text"]) for i, one in enumerate(identities)),
                *identities[0]["same"].items(),
            ]
        )
        print()
        print_table([("sum of", "time", "bandwidth"), *table])
        print()
        for text in problems:
            print(f"problem: {text}")
        print("problems were found" if problems else "all results are right, no problem was found")
    return bool(problems)


def _gpus() -> Iterator[tuple[str, str]]:
    """Each CUDA device, and whether a kernel runs on it."""
    for name in backends.cuda_devices():
        backend = backends.get(name)
        yield name, diagnosis.describe(backend)
        yield "", f"test kernel: {diagnosis.try_kernel(backend)}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    config = backends.get("cpu").xp.show_config(mode="dicts")
    blas: dict[str, Any] = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _threads() -> str:
    from threadpoolctl import threadpool_info

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    threads = {f"{p['num_threads']} ({p.get('architecture', 'unknown core')})" for p in pools}
    return f"{', '.join(sorted(threads)) or 'unknown'}, {cores} cores"
