"""Code lines of each room: without blank lines, comments and docstrings.

The sum of xcnn and backends is of Python; the CUDA kernels stand beside it.

``python -m tests.size`` counts the checkout; ``--against COMMIT`` also shows what changed since.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tokenize
from collections import Counter
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
KERNELS = "backends/kernels (CUDA)"
ROOMS = ("xcnn", "backends", "tests", "benchmarks", "examples")
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Number of lines of a Python file that hold code."""
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            text = first.value if isinstance(first, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                held.difference_update(range(text.lineno, (text.end_lineno or 0) + 1))
    return len(held)


def kernel_lines(source: str) -> int:
    """Number of lines of a C or CUDA file that are neither blank nor a ``//`` comment."""
    lines = (line.strip() for line in source.splitlines())
    return sum(bool(line) and not line.startswith("//") for line in lines)


def room_of(path: str) -> str:
    """The room a file lies in: ``xcnn/nn`` for a package, ``xcnn`` for its own modules."""
    return KERNELS if path.endswith((".cu", ".cuh")) else str(PurePosixPath(path).parent)


def lines_of(path: str, source: str) -> int:
    """Code lines of one file, 0 for what is not code."""
    if path.endswith(".py"):
        return code_lines(source)
    return kernel_lines(source) if path.endswith((".cu", ".cuh", ".h", ".cpp")) else 0


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def count(commit: str | None = None) -> Counter[str]:
    """Code lines by room, of the working tree or of a commit."""
    lines: Counter[str] = Counter()
    if commit is None:
        paths = _git("ls-files", "--cached", "--others", "--exclude-standard", *ROOMS).splitlines()
        paths = [path for path in paths if (ROOT / path).is_file()]
    else:
        paths = _git("ls-tree", "-r", "--name-only", commit, "--", *ROOMS).splitlines()
    for path in paths:
        if not path.endswith((".py", ".cu", ".cuh", ".h", ".cpp")):
            continue
        source = _git("show", f"{commit}:{path}") if commit else (ROOT / path).read_text("utf-8")
        lines[room_of(path)] += lines_of(path, source)
    return lines


def table(now: Counter[str], before: Counter[str] | None = None) -> str:
    """The rooms with their lines, sums of what starts alike, and the change."""
    sums = {
        "xcnn + backends": ("xcnn", "backends"),
        "tests": ("tests",),
        "benchmarks": ("benchmarks",),
        "examples": ("examples",),
    }
    rows = [(room, (room,)) for room in sorted({*now, *(before or ())})]
    text = []
    for name, parts in [*rows, *sums.items()]:
        whole = name in sums

        def total(lines: Counter[str], parts: tuple = parts, whole: bool = whole) -> int:
            return sum(
                n
                for room, n in lines.items()
                if (room.split("/")[0] if whole else room) in parts
                and not (whole and room == KERNELS)
            )

        change = "" if before is None else f"  {total(now) - total(before):+7,}"
        text.append(f"{name:32}{total(now):8,}{change}")
    text.insert(len(rows), "-" * 40)
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Code lines by room.")
    parser.add_argument("--against", metavar="COMMIT", help="show the change since this commit")
    commit = parser.parse_args().against
    print(table(count(), count(commit) if commit else None))


if __name__ == "__main__":
    main()
