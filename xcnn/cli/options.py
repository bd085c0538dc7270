"""Shared by the commands: the parser, the types of option values, and ``--device``."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

_UNITS = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "k": 2**10, "m": 2**20, "g": 2**30},
}


class Parser(argparse.ArgumentParser):
    """A parser for the program or one of its commands."""

    def add(self, option: str, help: str, **settings: Any) -> None:
        """Add an argument such as "--epochs N", where N is the placeholder shown in the help."""
        name, *metavar = option.split()
        if metavar:
            settings["metavar"] = metavar[0]
        self.add_argument(name, help=help, **settings)

    def error(self, message: str) -> NoReturn:
        """Report an error in one line, without the usage."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


class Formatter(argparse.HelpFormatter):
    """Appends an option's default to its help."""

    def _get_help_string(self, action: argparse.Action) -> str:
        shown = action.default is not None and action.option_strings and action.nargs != 0
        return (action.help or "") + (f"; default: {action.default}" if shown else "")


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


def size(text: str) -> int:
    """A size such as 4GiB, in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", text.lower())
    size = int(float(match[1]) * _UNITS.get(match[2], 0)) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 4GiB or 800MiB, got {text!r}")
    return size


def numbers(text: str) -> list[float]:
    """Numbers separated by commas."""
    return [float(part) for part in text.split(",")]  # argparse reports a ValueError


def shape(text: str) -> tuple[int, ...]:
    """Positive whole numbers separated by commas."""
    return tuple(count(part.strip()) for part in text.split(","))
