"""The command line, ``xcnn``. Each command is a module with ``add_options`` and ``run``."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__, interrupt
from ..errors import LINES, XcnnError, printable
from . import datasets, doctor, evaluate, export, predict, report, summary, train, warmup
from .options import Formatter, Parser, complain, print_error

COMMANDS = (train, evaluate, predict, report, export, summary, doctor, warmup, datasets)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments; default: ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 for success, 1 if some of the files of a command failed, 2 for an error
        (reported on standard error), 130 for Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="xcnn")
    try:
        interrupt.raise_error()
        status = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk is an error
        return status
    except KeyboardInterrupt:
        interrupt.quit_at_once()
        complain(interrupt.STOPPED)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has exited
        return 0
    except (XcnnError, OSError, MemoryError) as error:
        print_error(error)
        return 2
    finally:
        _discard_output()
        interrupt.quit_at_once()


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        return 1 if arguments.run(arguments) else 0


def _discard_output() -> None:
    """Discard what cannot be written, so that Python can flush the standard streams at exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _show_warning(message: Warning | str, *location: Any) -> None:
    """Print a warning without its source location."""
    complain(f"xcnn: warning: {printable(str(message), keep=LINES)}\n")


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
