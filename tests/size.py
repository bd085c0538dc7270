"""Lines of code per folder, without blank lines, comments and docstrings.

``python -m tests.size`` counts the checkout; ``--against COMMIT`` also shows the change since then.
The total of xcnn and backends excludes the CUDA kernels, which are listed separately.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import subprocess
import tokenize
from collections import Counter
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
KERNELS = "backends/kernels (CUDA)"
FOLDERS = ("xcnn", "backends", "tests", "benchmarks", "examples")
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@functools.cache  # most files are the same in both commits
def code_lines(source: str) -> int:
    """Number of lines of a Python file that contain code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            text = first.value if isinstance(first, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                lines.difference_update(range(text.lineno, (text.end_lineno or 0) + 1))
    return len(lines)


def kernel_lines(source: str) -> int:
    """Number of lines of a C or CUDA file that are neither blank nor a ``//`` comment."""
    lines = (line.strip() for line in source.splitlines())
    return sum(bool(line) and not line.startswith("//") for line in lines)


def folder_of(path: str) -> str:
    """The folder that a file is counted in: its parent, except for CUDA kernels."""
    return KERNELS if path.endswith((".cu", ".cuh")) else str(PurePosixPath(path).parent)


def lines_of(path: str, source: str) -> int:
    """Lines of code in a file; 0 if it is not a source file."""
    if path.endswith(".py"):
        return code_lines(source)
    return kernel_lines(source) if path.endswith((".cu", ".cuh", ".h", ".cpp")) else 0


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def count(commit: str | None = None) -> Counter[str]:
    """Lines of code by folder, in the working tree or a commit."""
    lines: Counter[str] = Counter()
    if commit is None:
        listing = _git("ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS)
        paths = [path for path in listing.splitlines() if (ROOT / path).is_file()]
    else:
        paths = _git("ls-tree", "-r", "--name-only", commit, "--", *FOLDERS).splitlines()
    for path in paths:
        if not path.endswith((".py", ".cu", ".cuh", ".h", ".cpp")):
            continue
        source = _git("show", f"{commit}:{path}") if commit else (ROOT / path).read_text("utf-8")
        lines[folder_of(path)] += lines_of(path, source)
    return lines


def table(now: Counter[str], before: Counter[str] | None = None) -> str:
    """The lines of each folder, totals by top-level folder, and the change."""
    totals = {
        "xcnn + backends": ("xcnn", "backends"),
        "tests": ("tests",),
        "benchmarks": ("benchmarks",),
        "examples": ("examples",),
    }
    rows = [(folder, (folder,)) for folder in sorted({*now, *(before or ())})]
    text = []
    for name, folders in [*rows, *totals.items()]:
        is_total = name in totals

        def total(lines: Counter[str], folders: tuple = folders, nested: bool = is_total) -> int:
            return sum(
                n
                for folder, n in lines.items()
                if (folder.split("/")[0] if nested else folder) in folders
                and not (nested and folder == KERNELS)
            )

        change = "" if before is None else f"  {total(now) - total(before):+7,}"
        text.append(f"{name:32}{total(now):8,}{change}")
    text.insert(len(rows), "-" * 40)
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Lines of code per folder.")
    parser.add_argument("--against", metavar="COMMIT", help="show the change since this commit")
    commit = parser.parse_args().against
    print(table(count(), count(commit) if commit else None))


if __name__ == "__main__":
    main()
