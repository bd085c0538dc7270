"""Training on the GPU: determinism, and LeNet-5 on MNIST by ``xcnn train``."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import xcnn
from benchmarks.outcome import Failed, Skipped


def twice(save: Callable[[dict], None]) -> None:
    steps = 30
    save({"steps": steps, **compare(*(parameters("cuda", steps, batch=64) for _ in range(2)))})


def parameters(device: str, steps: int, batch: int) -> dict[str, np.ndarray]:
    """LeNet-5's parameters after a number of steps from a fixed seed."""
    xcnn.manual_seed(0)
    model = xcnn.models.create("lenet5").to(device)
    trainer = xcnn.Trainer(model, xcnn.optim.Adam(model.parameters(), lr=1e-3))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        images = rng.standard_normal((batch, 1, 28, 28), dtype=np.float32)
        trainer.train_step(images, rng.integers(0, 10, batch))
    return {name: p.numpy() for name, p in model.named_parameters()}


def compare(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, Any]:
    """The names of the parameters that are not bitwise equal."""
    differing = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    return {"parameters": len(first), "equal": not differing, "differing": differing}


def mnist(save: Callable[[dict], None]) -> None:
    if xcnn.data.status("mnist").state != "found":
        raise Skipped("MNIST is not available: set XCNN_DATA to a folder that holds it")
    save(program("mnist", 5, "cuda"))


def program(data: str, epochs: int, device: str) -> dict[str, Any]:
    """The test accuracy and time that ``xcnn train`` prints."""
    from xcnn import cli

    settings = ["--epochs", str(epochs), "--batch-size", "64", "--seed", "0", "--device", device]
    command = ["train", "lenet5", "--data", data, *settings]
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(output):
        status = cli.main([*command, "--out", f"{folder}/run"])
    printed = re.search(r"test accuracy ([\d.]+)% .* epochs? in ([\d.]+) s:", output.getvalue())
    if status or printed is None:
        raise Failed(f"xcnn train ended with status {status}: {output.getvalue()[-500:]}")
    accuracy, seconds = float(printed[1]) / 100, float(printed[2])
    about = {"command": f"xcnn {' '.join(command)}", "epochs": epochs}
    return {**about, "accuracy": accuracy, "seconds": seconds}
