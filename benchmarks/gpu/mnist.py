"""LeNet-5 on MNIST by the program, where the data are at hand; nothing is downloaded."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xcnn
from benchmarks import harness
from benchmarks.gpu.outcome import Deadline, Failed, Skipped

EPOCHS = 5


def run(deadline: Deadline, save: Callable[[dict], None]) -> None:
    status = xcnn.data.status("mnist")
    if status.state != "found":
        raise Skipped("MNIST is not here: name its folder by --data-dir or XCNN_DATA")
    save(train("mnist", EPOCHS, "cuda"))


def train(data: str, epochs: int, device: str) -> dict[str, Any]:
    """What ``xcnn train lenet5`` reaches, and in how many seconds."""
    settings = ["--epochs", str(epochs), "--batch-size", "64", "--seed", "0"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = ["train", "lenet5", "--data", data, *settings, "--device", device]
        done = subprocess.run(
            [sys.executable, "-m", "xcnn", *command, "--out", str(out)],
            cwd=harness.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"xcnn train ended with status {done.returncode}: {done.stderr[-2000:]}")
        with (out / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
    return {"command": f"xcnn {' '.join(command)}", **outcome(done.stdout, rows)}


def outcome(text: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Accuracy and seconds from the program's last lines and its history."""
    told = re.search(r"test accuracy ([\d.]+)% .* epochs? in ([\d.]+) s;", text)
    if told is None:
        raise Failed(f"no accuracy in what xcnn train printed: {text[-500:]}")
    return {
        "accuracy": float(told[1]) / 100,
        "seconds": float(told[2]),
        "epochs": len(rows),
        "epoch_seconds": [float(row["seconds"]) for row in rows],
    }
