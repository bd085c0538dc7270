"""Ctrl-C while the program ``xcnn`` starts and ends: one line, without Python's traceback."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

STOPPED = "\nxcnn: stopped\n"


def is_program() -> bool:
    """Whether this process is ``xcnn`` or ``python -m xcnn``, not a program that imports xcnn."""
    name = os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".exe")
    options = sys.orig_argv[1:]
    as_module = "-m" in options and options[options.index("-m") + 1 :][:1] == ["xcnn"]
    return as_module or name == "xcnn"


def quit_at_once() -> None:
    """From now on Ctrl-C ends the process, if it is the program and nobody handles Ctrl-C."""
    if is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _quit)


def raise_error() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _quit(*signal: Any) -> None:
    os.write(2, STOPPED.encode())
    os._exit(130)


quit_at_once()
