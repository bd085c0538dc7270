"""Shared by the commands: the parser, the types of option values, and ``--device``."""

from __future__ import annotations

import argparse
import codecs
import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from .. import communicator
from ..errors import LINES, XcnnError, did_you_mean, printable
from ..notebook import columns_that_fit, paint, rule, terminal_width

_UNITS = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "k": 2**10, "m": 2**20, "g": 2**30},
}
_COLUMNS = 79  # of --help
_SPELLED = {"×": "x", "─": "-", "·": "*", "°": " degrees", "±": "+-"}


class Parser(argparse.ArgumentParser):
    """A parser for the program or one of its commands.

    ``--help`` fits one screen; ``--help-all`` shows every option in full.
    """

    #: the arguments that --help shows; None: all
    common: Collection[str] | None = None
    #: of the program: names of its commands by what they are for
    commands: Mapping[str, Sequence[str]] = {}

    def __init__(self, **settings: Any) -> None:
        settings |= {"add_help": False, "allow_abbrev": False}
        super().__init__(formatter_class=Formatter, **settings)
        self._section: Any = self._optionals
        for name, help in (("-h --help", "show this help"), ("--help-all", "show all options")):
            options = name.split()
            self.add_argument(*options, action=_Help, nargs=0, default=argparse.SUPPRESS, help=help)

    def section(self, title: str) -> None:
        """Start a group of options in ``--help-all``, or go on with one."""
        groups = (group for group in self._action_groups if group.title == title)
        self._section = next(groups, None) or self.add_argument_group(title)

    def sections(self) -> Iterator[tuple[str, list[argparse.Action]]]:
        """The groups of arguments, with their titles."""
        for group in self._action_groups:
            yield group.title or "", group._group_actions

    def parsers(self) -> dict[str, Parser]:
        """The parsers of the commands, by their names."""
        groups: Any = self._subparsers._group_actions if self._subparsers else []
        return groups[0].choices if groups else {}

    def add(
        self,
        option: str,
        help: str,
        refused: Mapping[str, str] | None = None,
        *,
        values: type | None = None,
        suggested: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        """Add an argument.

        Parameters
        ----------
        option
            Such as "--epochs N", where N is the placeholder shown in the help.
        help
            The first words should say it all: ``--help`` shortens it to a line.
        refused
            The reasons against values that users may expect, but are not in ``choices``.
        values
            The type of its value in a file: bool, int, float, str or list (of str, separated by
            commas on the command line).
        suggested
            What a shell completes without ``choices``; for ``--data`` and MODEL, files too.
        """
        name, *metavar = option.split()
        if metavar:
            settings["metavar"] = metavar[0]
        place = self._section if name.startswith("-") else self
        action: Any = place.add_argument(name, help=help, **settings)
        known = {count: int, seed: int, float: float}
        action.values = values or known.get(settings.get("type"), str)
        if action.nargs == 0:
            action.values = bool
        action.refused, action.suggested = refused or {}, tuple(suggested)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Report unknown options here, where their command is known."""
        args = sys.argv[1:] if args is None else list(args)
        for text in args:
            name, options = text.partition("=")[0], self._option_string_actions
            if name == "--" or (self._subparsers and not name.startswith("-")):
                break
            if name.startswith("--") and name != "--" and name not in options:
                self.error(f"unknown option {name}{did_you_mean(name, options)}")
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unexpected arguments: {' '.join(rest)}")
        if not self._subparsers:
            namespace.parser, namespace.given = self, self._given(args)
        return namespace, rest

    def _given(self, args: list[str]) -> list[str]:
        """The options that a command was called with, under their names in the namespace."""
        names = {text.partition("=")[0] for text in args}
        return [
            action.dest for name, action in self._option_string_actions.items() if name in names
        ]

    def convert(self, action: argparse.Action, text: str) -> Any:
        """The value that the command line would give an option.

        Raises
        ------
        argparse.ArgumentError
            It is refused.
        """
        value = self._get_value(action, text)
        self._check_value(action, value)
        return value

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

    def format_help(self) -> str:
        """The help that fits one screen."""
        description, examples = self._texts()
        between = [] if self.commands else [""]  # the list of commands fills the screen
        lines = [self._usage(), *between, *textwrap.wrap(description, _COLUMNS)]
        body = list(self._list_commands() if self.commands else self._list_arguments())
        lines += ["", *body] if body else []
        if len(examples) == 1:
            lines += [*between, f"example: {examples[0]}"]
        return "\n".join(lines) + "\n" + _listed(examples)

    def format_everything(self) -> str:
        """The help with all options in full."""
        description, examples = self._texts()
        formatter = self._get_formatter()
        formatter.add_usage(self._usage().removeprefix("usage: "), self._actions, [])
        formatter.add_text(description)
        for title, actions in self.sections():
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        return formatter.format_help() + _listed(examples)

    def _texts(self) -> tuple[str, list[str]]:
        """The description, and the examples after its first paragraph."""
        description, _, examples = (self.description or "").partition("\n\n")
        return description, examples.strip().splitlines()

    def _usage(self) -> str:
        names = ["COMMAND"] if self.commands else []
        for action in self._actions if not self.commands else ():
            if not action.option_strings:
                forms = {"?": "[{}]", "+": "{} ...", "*": "[{} ...]"}
                names.append(forms.get(str(action.nargs), "{}").format(action.metavar))
        return " ".join(["usage:", self.prog, *names, "[OPTION ...]"])

    def _list_commands(self) -> Iterator[str]:
        """The commands with the first sentence of their descriptions, in groups."""
        parsers = self.parsers()
        for title, names in self.commands.items():
            yield f"{title}:"
            for name in names:
                text = re.split("[;:]", parsers[name]._texts()[0])[0].rstrip(".")
                yield f"  {name:<11} {textwrap.shorten(text, _COLUMNS - 14, placeholder=' ...')}"

    def _list_arguments(self) -> Iterator[str]:
        """The common arguments, each in a line."""
        common = self.common or [action.dest for action in self._actions]
        shown = [a for a in self._actions if a.dest in common and not isinstance(a, _Help)]
        shown.sort(key=lambda action: bool(action.option_strings))
        names = [" ".join([*a.option_strings, str(a.metavar or "")]).strip() for a in shown]
        width = max(map(len, names), default=0)
        for name, action in zip(names, shown, strict=True):
            yield f"  {name:<{width}}  {brief(action, _COLUMNS - 4 - width)}"
        if self.common is not None:
            yield f"  {'--help-all':<{width}}  show all {len(self._actions) - 2} arguments in full"

    def error(self, message: str) -> NoReturn:
        """Report an error in one line, without the usage."""
        text = f"{self.prog}: error: {printable(message)}; see {self.prog} --help\n"
        self.exit(2, text if communicator.current().is_main else None)


class _Help(argparse.Action):
    """``--help`` and ``--help-all``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        is_short = option != "--help-all"
        print(parser.format_help() if is_short else parser.format_everything(), end="")
        parser.exit()


def _listed(examples: list[str]) -> str:
    """The last part of the help of a command."""
    lines = ["", "examples:", *(f"  {line}" for line in examples)]
    return "\n".join([*lines, ""]) if len(examples) > 1 else ""


def brief(action: argparse.Action, width: int) -> str:
    """The help of an argument in one line: all of it, or its first words."""
    text = (action.help or "").replace("%%", "%")
    default = f"; default: {action.default}" if Formatter.has_default(action) else ""
    without = re.sub(r" \([^()]*\)", "", text)
    first = re.split(r"[;:] |\. |, such as ", without)[0]
    for form in (text, without, first):
        if len(form + default) <= width:
            return form + default
    return textwrap.shorten(first, width, placeholder=" ...")


class Formatter(argparse.HelpFormatter):
    """Appends an option's default to its help."""

    def _get_help_string(self, action: argparse.Action) -> str:
        shown = self.has_default(action)
        return (action.help or "") + (f"; default: {action.default}" if shown else "")

    @staticmethod
    def has_default(action: argparse.Action) -> bool:
        """Whether an option has a default to show."""
        is_value = action.default not in (None, []) and action.nargs != 0
        return bool(is_value and action.option_strings)


def print_error(error: BaseException) -> None:
    """Report an error on standard error; one of the operating system with the file it concerns.

    Of several processes, it ends all.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        action, _, reason = error.strerror.rpartition(": ")
        action = action or ("cannot open" if error.filename else "cannot read or write")
        text = f"{action}{f' {error.filename}' if error.filename else ''}: {reason}"
    elif isinstance(error, MemoryError) and not isinstance(error, XcnnError):
        text = f"out of memory: {error}"
    text = f"xcnn: error: {printable(text, keep=LINES)}\n"
    if communicator.current().size > 1:
        communicator.current().fail(text, 2)
    complain(text)


def say(text: str) -> None:
    """Print a line, in which names from outside cannot control the terminal; on rank 0 only."""
    if communicator.current().is_main:
        print(printable(text, keep=LINES), flush=True)


def complain(text: str) -> None:
    """Write to standard error, unless nobody reads it; on rank 0 only."""
    if not communicator.current().is_main:
        return
    with suppress(OSError):
        print(text, end="", file=sys.stderr)


def print_rows(rows: Iterable[tuple[str, Any]]) -> None:
    """Print names and texts in two columns, wrapped to the width of a terminal."""
    width = terminal_width(sys.stdout)
    wrap: Any = {"break_long_words": False, "break_on_hyphens": False}
    for name, text in rows:
        lines = textwrap.wrap(str(text), max(width - 15, 20), **wrap) if width else [str(text)]
        print(f"{name:<14} " + f"\n{'':<15}".join(lines))


def print_table(
    rows: Sequence[Sequence[str]], ranks: Sequence[int] | None = None, left: int = 1
) -> None:
    """Print a table, of which a narrow terminal gets fewer columns.

    Parameters
    ----------
    rows
        Cells; the first row has the titles of the columns. A cell that ends in a star gets a
        colour.
    ranks
        Of each column, see :func:`xcnn.notebook.columns_that_fit`; None: all are shown.
    left
        How many columns are aligned on the left.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    width = terminal_width(sys.stdout)
    if width is not None and sum(widths) + 2 * len(widths) - 2 > width:
        widths[0] = min(widths[0], max(width // 3, 16))
    kept = columns_that_fit(list(zip(widths, ranks or [0] * len(widths), strict=True)), width)
    total = sum(widths[i] + 2 for i in kept) - 2
    if width is not None and total > width:
        widths[0] = max(widths[0] - total + width, 8)
    for number, row in enumerate(rows):
        first = row[0] if len(row[0]) <= widths[0] else f"{row[0][: widths[0] - 3]}..."
        cells = [first, *row[1:]]
        padded = [f"{cells[i]:{'<' if i < left else '>'}{widths[i]}}" for i in kept]
        painted = [paint(c, "32", sys.stdout) if c.endswith("*") else c for c in padded]
        line = "  ".join(painted).rstrip()
        print(line if number else paint(line, "1", sys.stdout))
        if not number:
            print(rule(min(total, width or total), sys.stdout))


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
