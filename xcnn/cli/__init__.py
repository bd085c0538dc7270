"""The command line, ``xcnn``.

Each command is a module with ``add_options`` and ``run``; the first paragraph of its docstring
describes it, the lines after it are examples.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from .. import __version__, interrupt, tasks
from ..errors import LINES, XcnnError, printable
from . import (
    compare,
    completion,
    datasets,
    demo,
    doctor,
    evaluate,
    export,
    pack,
    predict,
    report,
    runs,
    sample,
    show,
    style,
    summary,
    train,
    warmup,
)
from .options import Parser, complain, print_error

#: by what they are for
COMMANDS = {
    "train and use networks": (train, evaluate, predict, demo, sample, export, style),
    "look at networks and runs": (report, show, summary, runs, compare),
    "data and this machine": (datasets, pack, doctor, warmup, completion),
}


_ABOUT = """Train, inspect and use convolutional networks; xcnn COMMAND --help tells more.

xcnn train --data mnist --epochs 5
"""


#: options with which any task may be meant
_OF_TASKS = ("--task", "--config", "--help")


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
    except KeyboardInterrupt as error:
        interrupt.quit_at_once()
        complain(interrupt.stopped(*error.args))
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
    given = sys.argv[1:] if argv is None else argv
    if "--distributed" in given:  # first, so that one process prints what all of them find
        from .. import distributed

        distributed.init()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        # the parser needs their options
        is_meant = any(text.startswith(_OF_TASKS) for text in given)
        if is_meant or {"predict", "evaluate"} & {*given[:1]}:
            tasks.load_installed()
        parser = _parser()
        arguments = parser.parse_args(argv)
        if not hasattr(arguments, "run"):
            parser.print_help()
            return 2
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
    parser = Parser(prog="xcnn", description=_ABOUT)
    parser.add_argument("--version", action="version", version=f"xcnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    parser.commands = {title: [_name(m) for m in modules] for title, modules in COMMANDS.items()}
    for module in itertools.chain(*COMMANDS.values()):
        about = module.__doc__ or ""
        command = commands.add_parser(
            _name(module), help=about.partition("\n")[0], description=about
        )
        module.add_options(command)
        command.set_defaults(run=module.run, program=parser)
    return parser


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]
