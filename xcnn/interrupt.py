"""Ctrl-C and errors while ``xcnn`` starts and ends: one line, without Python's traceback."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

# whether this is xcnn or python -m xcnn, not a program that imports xcnn; while Python looks for
# the module of -m, the first argument is "-m"
_IS_PROGRAM = os.path.basename(sys.argv[0]).removesuffix(".exe") == "xcnn" or (
    sys.argv[0] == "-m" and "-mxcnn" in " ".join(sys.orig_argv).replace("-m ", "-m").split()
)


def stopped(what: str = "") -> str:
    """The last message after Ctrl-C or another signal; ``what`` is left."""
    return f"\nxcnn: stopped{what and ': '}{what}\n"


def quit_at_once() -> None:
    """From now on Ctrl-C ends the process, if it is the program and nobody handles Ctrl-C."""
    if _IS_PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _quit)


def raise_error() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _quit(*signal: Any) -> None:
    os.write(2, stopped().encode())
    os._exit(130)


def _report(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Print an error in a setting, found while the program is imported, in one line."""
    from .errors import XcnnError

    if isinstance(error, XcnnError):
        os.write(2, f"xcnn: error: {error}\n".encode(errors="backslashreplace"))
        os._exit(2)
    sys.__excepthook__(kind, error, traceback)


quit_at_once()
if _IS_PROGRAM:
    sys.excepthook = _report
