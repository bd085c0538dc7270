"""Compile all CUDA kernels now: those of xcnn, and CuPy's for a training step.

xcnn warmup
xcnn warmup --device cuda:1
"""

from __future__ import annotations

import argparse
import os
import time

from .. import backends, models, optim
from ..errors import ArgumentError
from ..training import Trainer
from .options import Parser, add_device, say


def add_options(parser: Parser) -> None:
    add_device(parser)


def run(arguments: argparse.Namespace) -> None:
    backend = backends.get(arguments.device)
    if backend.device == "cpu":
        raise ArgumentError("there is nothing to compile for the CPU; choose --device cuda")
    started = time.perf_counter()
    compiled = sum(1 for _ in backend.warmup())
    for precision in ("float32", "float16"):
        _train_step(backend, precision)
    say(
        f"{compiled} kernel modules of xcnn and those of CuPy that a training step needs: ready in "
        f"{time.perf_counter() - started:.1f} s, on {backend.device}; CuPy caches them in "
        f"{os.environ.get('CUPY_CACHE_DIR', '~/.cupy/kernel_cache')}"
    )


def _train_step(backend: backends.Backend, precision: str) -> None:
    xp = backends.get("cpu").xp
    model = models.create("lenet5").to(backend)
    trainer = Trainer(model, optim.Adam(model.parameters()), precision=precision)
    trainer.train_step(xp.zeros((2, 1, 28, 28), "float32"), xp.zeros(2, "int64"))
    backend.synchronize()
