"""The entry point of all benchmarks: ``python -m benchmarks COMMAND``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "cpu": ("run", "xcnn and PyTorch on this CPU, and how xcnn's cost grows: about ten minutes"),
    "gpu": ("run", "tests, bandwidth and training next to PyTorch on this GPU: ten minutes"),
    "show": ("table", "print or draw a report that cpu or gpu wrote"),
    "methods": ("methods", "time every convolution method, to check the rule that chooses one"),
    "choices": ("choices", "the measurements behind the first decisions, in plain NumPy"),
    "accuracy": ("accuracy", "rounding errors of the convolution methods"),
    "curves": ("curves", "train ResNet-20 on CIFAR-10 next to PyTorch, from equal weights"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(module=module, fail=command.error)
        importlib.import_module(f"benchmarks.{module}").add_options(command)
    options = parser.parse_args(arguments)
    return importlib.import_module(f"benchmarks.{options.module}").main(options)


if __name__ == "__main__":
    # Before anything loads NumPy, and for all workers: a forced BLAS core would slow down NumPy
    # alone, and without cached bytecode each import would compile what pip has not compiled.
    for variable in ("OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE"):
        os.environ.pop(variable, None)
    sys.exit(main())
