"""Print the completion for a shell: of commands, options, values and files.

xcnn completion bash > ~/.local/share/bash-completion/completions/xcnn
xcnn completion zsh > ~/.zfunc/_xcnn          (before compinit: fpath+=~/.zfunc)
xcnn completion fish > ~/.config/fish/completions/xcnn.fish
"""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import missing_package
from .options import Parser

_SHELLS = ("bash", "zsh", "fish")
_FOLDERS = ("DIR", "FOLDER")
_FILES = ("FILE", "IMAGE", "MODEL", "NAME_OR_FOLDER", "RUN")  # or folders


def add_options(parser: Parser) -> None:
    parser.add("shell SHELL", f"{', '.join(_SHELLS)}; start a new one afterwards", choices=_SHELLS)


def run(arguments: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError as error:
        raise missing_package("xcnn completion", "shtab", error) from error
    program = arguments.program
    for command in program.parsers().values():
        for action in command._actions:
            _suggest(action, shtab)
    print(shtab.complete(program, arguments.shell))


def _suggest(action: Any, shtab: Any) -> None:
    """Tell shtab what values an argument may have."""
    action.choices = action.choices or getattr(action, "suggested", ()) or None
    if action.metavar in _FOLDERS:
        action.complete = shtab.DIRECTORY
    elif action.metavar in _FILES and not action.choices:
        action.complete = shtab.FILE
