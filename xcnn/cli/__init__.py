"""The command line, ``xcnn``. Each command is a module with ``add_options`` and ``run``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..errors import LINES, XcnnError, printable
from . import datasets, doctor, evaluate, export, predict, summary, train, warmup
from .options import Formatter, Parser

COMMANDS = (train, evaluate, predict, export, summary, doctor, warmup, datasets)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments; default: ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 for success, 2 for an error (reported on standard error), 130 for Ctrl-C.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("\nxcnn: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (XcnnError, OSError, MemoryError) as error:
        reason = "" if isinstance(error, XcnnError | OSError) else "out of memory: "
        print(f"xcnn: error: {reason}{printable(str(error), keep=LINES)}", file=sys.stderr)
        return 2


def _show_warning(message: Warning | str, *location: Any) -> None:
    """Print a warning without its source location."""
    print(f"xcnn: warning: {printable(str(message), keep=LINES)}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="xcnn", description="Train, inspect and use convolutional networks.")
    parser.add_argument("--version", action="version", version=f"xcnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for module in COMMANDS:
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.__doc__,
            description=module.__doc__,
            formatter_class=Formatter,
        )
        module.add_options(command)
        command.set_defaults(run=module.run)
    return parser
