"""The entry point of all benchmarks: ``python -m benchmarks COMMAND``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "cpu": ("run", "compare with PyTorch on this CPU, and measure scaling: ten minutes"),
    "gpu": ("run", "run tests, bandwidth and training on this GPU, against PyTorch: ten minutes"),
    "show": ("table", "print or plot a report written by cpu or gpu"),
    "methods": ("methods", "time every convolution method, to check the rule that chooses one"),
    "distributed": ("distributed.measure", "time steps of several processes, and fit the model"),
    "scaling": ("distributed.plan", "ResNet-50 on 8 to 1,024 GPUs, by the model"),
    "choices": ("choices", "repeat the measurements behind the first decisions, in plain NumPy"),
    "accuracy": ("accuracy", "measure rounding errors, and train with each kind of convolution"),
    "curves": ("curves", "train ResNet-20 on CIFAR-10, against PyTorch from equal weights"),
    "shards": ("shards", "read 1.2 million tiny pictures from shards: three minutes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(module=module, fail=command.error)
        importlib.import_module(f"benchmarks.{module}").add_options(command)
    options = parser.parse_args(arguments)
    return importlib.import_module(f"benchmarks.{options.module}").main(options)


if __name__ == "__main__":
    # Before NumPy is loaded, and for all workers: a forced BLAS core type would slow down only
    # NumPy, and without cached bytecode each import would compile what pip has not compiled.
    for variable in ("OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE"):
        os.environ.pop(variable, None)
    sys.exit(main())
