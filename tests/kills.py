"""Kill trainings at random moments and resume them: ``python -m tests.kills --kills 200``.

Each training is a process of its own that ``kill -9`` (or, with ``--term``, SIGTERM) ends at a
random moment, again and again until it gets to its end. After each kill the run folder must hold
one complete generation, and the finished run must equal, bit for bit, one that was never killed.
"mixed" counts the kills that fell between two files of a generation, which the next command on that
folder completes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from xcnn import callbacks, serialize
from xcnn.cli import main
from xcnn.training import folder, state
from xcnn.training.callbacks.checkpoint import checkpoints

EPOCHS = 5
TRAIN = (
    f"train small_cnn --limit 200 --epochs {EPOCHS} --batch-size 20 --augment affine,mixup "
    "--ema 0.9 --schedule onecycle --accumulate 3 --checkpoint-every 2steps --device cpu "
    "--best val_accuracy --log json"
)


def start(arguments: list[str], log: Path) -> int:
    """Run the program in a child process; returns its process number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            with open(1, "w", closefd=False) as sys.stdout:
                status = main(arguments)
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            os._exit(status)
    return child


def wait(child: int) -> int:
    """The exit status of a child, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(run: Path) -> list[str]:
    """The arguments that start a run, or go on with it."""
    return ["train", "--resume", str(run)] if run.exists() else [*TRAIN.split(), "--out", str(run)]


def rows(run: Path) -> list[dict[str, str]]:
    """The history without the seconds."""
    if not (run / "history.csv").exists():
        return []
    with open(run / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def log(run: Path) -> list[dict[str, Any]]:
    """The lines of the log without the seconds."""
    lines = (run / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights(path: Path) -> dict[str, bytes]:
    """The arrays of a file as bytes, without the history, which has the seconds."""
    arrays, _ = serialize.read(path)
    return {k: a.tobytes() for k, a in arrays.items() if not k.startswith("history/")}


class Reference:
    """A run that was never killed: what the files of each epoch must hold."""

    def __init__(self, where: Path) -> None:
        self.models: list[dict[str, bytes]] = []
        self.run = where / "reference"
        begun = time.perf_counter()
        assert wait(start(command(self.run), where / "log")) == 0, (where / "log").read_text()
        self.seconds = time.perf_counter() - begun
        for epochs in range(1, EPOCHS):  # one run for each epoch, stopped after it
            stopped = where / f"epoch-{epochs}"
            saved = callbacks.ModelCheckpoint.on_epoch_end

            def stop(self, trainer, epoch, epochs=epochs, saved=saved):
                saved(self, trainer, epoch)
                if epoch.epoch == epochs:
                    os._exit(0)

            callbacks.ModelCheckpoint.on_epoch_end = stop  # type: ignore[method-assign]
            assert wait(start(command(stopped), where / "log")) == 0
            callbacks.ModelCheckpoint.on_epoch_end = saved  # type: ignore[method-assign]
            self.models.append(weights(stopped / "model.safetensors"))
        self.models.append(weights(self.run / "model.safetensors"))
        self.rows = rows(self.run)

    def inconsistent(self, run: Path) -> str:
        """What is wrong with the files of a run that was killed; empty if nothing is."""
        if not run.exists():
            return ""
        if not (run / "config.json").exists():
            return "no config.json"
        found = rows(run)
        if found != self.rows[: len(found)]:
            return f"the history of {len(found)} epochs differs"
        model = run / "model.safetensors"
        if model.exists() != bool(found):
            return f"model.safetensors: {model.exists()}, epochs in the history: {len(found)}"
        if found and weights(model) != self.models[len(found) - 1]:
            return f"model.safetensors is not that of epoch {len(found)}"
        for path in checkpoints(run):
            state.read(path)  # raises an error if it is incomplete
        return ""

    def differs(self, run: Path) -> str:
        """How a finished run differs from this one; empty if it does not."""
        # after SIGTERM, a checkpoint that is out of step may be among those that are kept
        names = [sorted(p.name for p in f.iterdir()) for f in (run, self.run)]
        if names[0] != names[1]:
            return f"files {names[0]} instead of {names[1]}"
        if log(run) != log(self.run):
            return "log.jsonl differs"
        if self.inconsistent(run) or len(rows(run)) != EPOCHS:
            return self.inconsistent(run) or f"{len(rows(run))} epochs"
        for name in ("best.safetensors", str(callbacks.newest(run).relative_to(run))):
            one, two = weights(run / name), weights(self.run / name)
            if one != two:
                return f"{name} has other bits"
        return ""


def try_kills(count: int, number: int, seed: int, where: Path) -> dict[str, int]:
    """Kill ``count`` times; returns the counts of what was found."""
    generator = random.Random(seed)
    reference = Reference(where)
    names = ("kills", "mixed", "inconsistent", "lost", "finished", "different", "left")
    counts = dict.fromkeys(names, 0)
    attempt = 0
    while counts["kills"] < count or attempt:
        run = where / f"run-{counts['finished']}"
        before = len(rows(run))
        child = start(command(run), where / "log")
        if counts["kills"] < count:
            time.sleep(generator.uniform(0, reference.seconds))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        status = wait(child)
        if status == 0:
            counts["finished"] += 1
            attempt = 0
            problem = reference.differs(run)
            counts["different"] += bool(problem)
            counts["left"] += len(list(run.glob(".*")))
        else:
            counts["kills"] += 1
            attempt += 1
            expected = (-number, 128 + number) if number == signal.SIGTERM else (-number,)
            assert status in expected, (status, (where / "log").read_text()[-2000:])
            counts["mixed"] += bool(reference.inconsistent(run))
            folder.complete_if_free(run)  # as every command that reads it does
            problem = reference.inconsistent(run)
            counts["inconsistent"] += bool(problem)
            if len(rows(run)) < before:
                counts["lost"] += 1
        if problem:
            print(f"{run}: {problem}", flush=True)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--term", action="store_true", help="SIGTERM instead of kill -9")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}, numpy {np.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as path:
        number = signal.SIGTERM if options.term else signal.SIGKILL
        found = try_kills(options.kills, number, options.seed, Path(path))
    print(", ".join(f"{value} {name}" for name, value in found.items()))
    sys.exit(any(found[name] for name in ("inconsistent", "lost", "different", "left")))
