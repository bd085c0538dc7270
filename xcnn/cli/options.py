"""Shared by the commands: the parser, the types of option values, and ``--device``."""

from __future__ import annotations

import argparse
import codecs
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from ..errors import LINES, XcnnError, did_you_mean, printable
from ..notebook import terminal_width

_UNITS = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "k": 2**10, "m": 2**20, "g": 2**30},
}
_SPELLED = {"×": "x", "─": "-", "·": "*", "°": " degrees", "±": "+-"}


class Parser(argparse.ArgumentParser):
    """A parser for the program or one of its commands."""

    def add(
        self, option: str, help: str, refused: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        """Add an argument such as "--epochs N", where N is the placeholder shown in the help.

        ``refused`` maps values that users may expect, but are not in ``choices``, to the reason.
        """
        name, *metavar = option.split()
        if metavar:
            settings["metavar"] = metavar[0]
        action: Any = self.add_argument(name, help=help, **settings)
        action.refused = refused or {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Report unknown options here, where their command is known."""
        args = sys.argv[1:] if args is None else list(args)
        for text in args:
            name, options = text.partition("=")[0], self._option_string_actions
            if name == "--" or (self._subparsers and not name.startswith("-")):
                break
            if name.startswith("--") and not any(option.startswith(name) for option in options):
                self.error(f"unknown option {name}{did_you_mean(name, options)}")
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unexpected arguments: {' '.join(rest)}")
        if not self._subparsers:
            namespace.given = self._given(args)
        return namespace, rest

    def _given(self, args: list[str]) -> list[str]:
        """The options that a command was called with, under their names in the namespace."""
        names = {text.partition("=")[0] for text in args if text.startswith("--") and text != "--"}
        return [
            action.dest
            for option, action in self._option_string_actions.items()
            if option in names or any(option.startswith(name) for name in names)
        ]

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert a value; an error of xcnn keeps its text."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            if isinstance(error.__context__, XcnnError):
                raise argparse.ArgumentError(action, str(error.__context__)) from error
            raise

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = list(action.choices)
            hint = did_you_mean(value, names) or f" (choose from {', '.join(map(str, names))})"
            reason = getattr(action, "refused", {}).get(value, f"invalid choice: {value!r}{hint}")
            raise argparse.ArgumentError(action, reason)

    def error(self, message: str) -> NoReturn:
        """Report an error in one line, without the usage."""
        self.exit(2, f"{self.prog}: error: {printable(message)}; see {self.prog} --help\n")


class Formatter(argparse.HelpFormatter):
    """Appends an option's default to its help."""

    def _get_help_string(self, action: argparse.Action) -> str:
        shown = action.default not in (None, []) and action.option_strings and action.nargs != 0
        return (action.help or "") + (f"; default: {action.default}" if shown else "")


def print_error(error: BaseException) -> None:
    """Report an error on standard error; one of the operating system with the file it concerns."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        action, _, reason = error.strerror.rpartition(": ")
        action = action or ("cannot open" if error.filename else "cannot read or write")
        text = f"{action}{f' {error.filename}' if error.filename else ''}: {reason}"
    elif isinstance(error, MemoryError) and not isinstance(error, XcnnError):
        text = f"out of memory: {error}"
    complain(f"xcnn: error: {printable(text, keep=LINES)}\n")


def complain(text: str) -> None:
    """Write to standard error, unless nobody reads it."""
    with suppress(OSError):
        print(text, end="", file=sys.stderr)


def print_rows(rows: Iterable[tuple[str, Any]]) -> None:
    """Print names and texts in two columns, wrapped to the width of a terminal."""
    width = terminal_width(sys.stdout)
    wrap: Any = {"break_long_words": False, "break_on_hyphens": False}
    for name, text in rows:
        lines = textwrap.wrap(str(text), max(width - 15, 20), **wrap) if width else [str(text)]
        print(f"{name:<14} " + f"\n{'':<15}".join(lines))


def replace_symbols(error: Any) -> tuple[str, int]:
    """Spell characters that a terminal's encoding lacks: the error handler "xcnn" of codecs."""
    text = error.object[error.start : error.end]
    escaped = (_SPELLED.get(c, c.encode("ascii", "backslashreplace").decode()) for c in text)
    return "".join(escaped), error.end


codecs.register_error("xcnn", replace_symbols)


def add_device(parser: Parser) -> None:
    """Add ``--device``."""
    parser.add("--device NAME", "cpu, cuda, cuda:N or auto (a GPU if there is one)", default="auto")


def count(text: str, minimum: int = 1) -> int:
    """A whole number of at least ``minimum``."""
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"expected a whole number >= {minimum}, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number of at least 0."""
    return count(text, 0)


def path(text: str) -> str:
    """The path of a file or folder; refuses an empty text, as from an unset variable."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return text


def size(text: str) -> int:
    """A size such as 4GiB, in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", text.lower())
    size = int(float(match[1]) * _UNITS.get(match[2], 0)) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 4GiB or 800MiB, got {text!r}")
    return size


def numbers(text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        message = f"expected numbers separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def shape(text: str) -> tuple[int, ...]:
    """Positive whole numbers separated by commas."""
    return tuple(count(part.strip()) for part in text.split(","))
