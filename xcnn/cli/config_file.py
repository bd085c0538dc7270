"""Settings of ``xcnn train`` as a TOML file: ``--config`` and ``--print-config``."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, did_you_mean, show
from ..files import MAX_JSON, open_file, read_all, reading
from . import sources
from .config import DEFAULTS, fill_in
from .options import Parser, brief, path
from .run_folder import RunFolder

_NO_SETTINGS = ("help", "help_all", "config", "print_config", "resume")
_WANTED = {
    **{bool: "true or false", int: "a whole number", float: "a number", str: "a string"},
    list: "a list of strings",
}
_TYPES: dict[type, tuple[type, ...]] = {
    **{bool: (bool,), int: (int,), float: (float, int), str: (str,), list: (list, str)}
}
_ESCAPED = {
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
}


def add_options(parser: Parser) -> None:
    """Add ``--config`` and ``--print-config``."""
    config = "take settings from a TOML file, or those of a run; options given here come first"
    parser.add("--config FILE", config, type=path)
    shown = "print all settings as TOML, for --config, and train nothing"
    parser.add("--print-config", shown, action="store_true")


def apply(arguments: argparse.Namespace) -> None:
    """Take over the settings of ``--config``, unless the command line gives another value.

    Raises
    ------
    ArgumentError, FileFormatError, FileNotFoundError
        An unknown setting, or a value of another type or out of range; no TOML; no such file.
    """
    source = Path(arguments.config)
    actions = {action.dest: action for _, action in _settings(arguments.parser)}
    values: dict[str, Any] = _of_run(source, actions) if source.is_dir() else {}
    for key, value in ({} if source.is_dir() else _read(source)).items():
        name = key.replace("-", "_")
        if name not in actions:
            hint = did_you_mean(name, actions) or f": expected one of {', '.join(actions)}"
            raise ArgumentError(f"{source}: unknown setting {key}{hint}")
        if name in values:
            raise ArgumentError(f"{source}: {name} is set twice, with - and with _")
        values[name] = value
    for name, value in values.items():
        converted = _convert(source, name, value, actions[name], arguments.parser)
        is_given = name in arguments.given or (name == "model" and arguments.model is not None)
        if not is_given:
            setattr(arguments, name, converted)
            arguments.given.append(name)


def _settings(parser: Parser) -> Iterable[tuple[str, Any]]:
    """The arguments that are settings of a training, each with its section."""
    for section, actions in parser.sections():
        yield from ((section, a) for a in actions if a.dest not in _NO_SETTINGS)


def _read(file: Path) -> dict[str, Any]:
    advice = "See what xcnn train --print-config prints"
    with reading(file, "is no TOML file", advice), open_file(file) as opened:
        return tomllib.loads(read_all(opened, MAX_JSON).decode("utf-8-sig"))


def _of_run(folder: Path, known: Container[str]) -> dict[str, Any]:
    """The settings of a run, as options."""
    config = RunFolder(folder).load_config(DEFAULTS)
    config |= sources.folder_options(config)
    config["warmup"] = config["warmup"] or None
    return {k: v for k, v in config.items() if k in known and v not in (None, [])}


def _convert(source: Path, name: str, value: Any, action: Any, parser: Parser) -> Any:
    """The value of an option as the command line would give it."""
    texts = value if isinstance(value, list) else [value]
    is_right = isinstance(value, _TYPES[action.values])
    if isinstance(value, bool) and action.values is not bool:  # which Python calls a number
        is_right = False
    if not is_right or (action.values is list and not all(isinstance(t, str) for t in texts)):
        raise ArgumentError(f"{source}: {name} = {show(value)}: expected {_WANTED[action.values]}")
    if action.values is bool or value == []:
        return value
    is_repeated = isinstance(action, argparse._AppendAction)
    texts = texts if is_repeated else [",".join(map(str, texts))]
    try:
        converted = [parser.convert(action, text) for text in texts]
    except argparse.ArgumentError as error:
        raise ArgumentError(f"{source}: {name} = {show(value)}: {error.message}") from error
    return converted if is_repeated else converted[0]


def to_toml(arguments: argparse.Namespace) -> str:
    """All settings of a training as the text of a TOML file; those that are not set as comments."""
    fill_in(arguments)
    lines, last = ["# settings of xcnn train, for --config\n"], ""
    for section, action in _settings(arguments.parser):
        if section != last:
            lines.append(f"\n# {section.replace('positional arguments', 'network')}\n")
            last = section
        value = getattr(arguments, action.dest)
        value = str(value) if action.values is str and value is not None else value
        text = f"# {action.dest} =" if value is None else f"{action.dest} = {_toml(value)}"
        lines.append(f"{text:<28} # {brief(action, 68)}\n")
    return "".join(lines)


def _toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if not isinstance(value, str):
        return repr(value)
    return '"' + "".join(_escape(c) for c in value) + '"'


def _escape(c: str) -> str:
    return _ESCAPED.get(c, c if c.isprintable() else f"\\U{ord(c):08x}")
