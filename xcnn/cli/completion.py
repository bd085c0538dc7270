"""Print the completion for a shell: of commands, options, values and files.

xcnn completion bash > ~/.local/share/bash-completion/completions/xcnn
xcnn completion zsh > ~/.zfunc/_xcnn    (with fpath+=~/.zfunc before compinit)
xcnn completion fish > ~/.config/fish/completions/xcnn.fish
"""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import missing_package
from .options import Parser, brief

_SHELLS = ("bash", "zsh", "fish")
_FOLDERS = ("DIR", "FOLDER")
_FILES = ("FILE", "IMAGE", "RUN")  # RUN also is an ONNX file for most commands


def add_options(parser: Parser) -> None:
    parser.add("shell SHELL", f"{', '.join(_SHELLS)}; start a new one afterwards", choices=_SHELLS)


def run(arguments: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError as error:
        raise missing_package("xcnn completion", "shtab", error) from error
    program = arguments.program
    for command in program.parsers().values():
        command.description = command.description.partition("\n")[0]
        for action in command._actions:
            action.help = brief(action, 60).replace("%", "%%")
            action.default = None  # the help has it
            _suggest(action, shtab)
    print(shtab.complete(program, arguments.shell))


def _suggest(action: Any, shtab: Any) -> None:
    """Tell shtab what values an argument may have."""
    suggested = " ".join(getattr(action, "suggested", ()))
    if action.metavar in _FOLDERS:
        action.complete = shtab.DIRECTORY
    elif action.metavar in _FILES:
        action.complete = shtab.FILE
    elif suggested and action.dest not in ("data", "model"):
        action.choices = suggested.split()
    elif suggested:
        action.complete = _names_and_files(f"_xcnn_{action.dest}", suggested)


def _names_and_files(function: str, names: str) -> dict[str, Any]:
    """For shtab: names, or files and folders."""
    bash = f'compgen -W "{names}" -- "$1"; _shtab_compgen_files "$1"'
    zsh = f"_alternative 'names:name:({names})' 'files:file:_files'"
    return {
        **{"bash": function, "zsh": function, "fish": f"{names} (__fish_complete_path)"},
        "preamble": {"bash": f"{function}() {{ {bash}; }}", "zsh": f"{function}() {{ {zsh}; }}"},
    }
