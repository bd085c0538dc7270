"""Run the pages of docs/tutorials and compare what they print with what they show.

``python -m tests.pages docs/tutorials/01-*.md`` runs pages; ``--write`` puts what they print, and
the pictures they save, into docs.

The ``python`` blocks of a page run in order in one namespace. A ``text`` block that follows one
directly is its output. It agrees if the words are equal, and the integers; a number with a decimal
point may differ by 1 % or by one in its last digit, so that it holds on every CPU. A comment before
the ``python`` block, which no reader sees, states something else:

``<!-- compare: within 1.5 -->``
    Numbers with a decimal point may differ by 1.5.
``<!-- compare: form only -->``
    Numbers are not compared: times, and rounding errors.
``<!-- compare: form only, and ratio > 10 -->``
    And this expression must be true, with the names of the page.

A picture that the page shows, ``../pictures/tutorial-...``, must be saved by its code.
"""

import argparse
import contextlib
import glob
import io
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
BLOCK = re.compile(
    r"(?:<!-- compare: (?P<rule>within (?P<within>[\d.]+)|form only)"
    r"(?:, and (?P<claim>.+?))? -->\s+)?"
    r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
GREY, COLOURS = "#808080", ["#3b82d6", "#e0772c", "#35a070", "#c0559b", "#8a6fd1"]
#: figures for light and dark pages, the same bytes each time
STYLE = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "legend.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), GREY),
    **dict.fromkeys(("xtick.color", "ytick.color", "grid.color", "legend.edgecolor"), GREY),
    **{"savefig.facecolor": "none", "grid.alpha": 0.3, "font.size": 10},
    **{"image.interpolation": "none", "image.composite_image": False, "svg.hashsalt": "xcnn"},
}


class Difference(NamedTuple):
    """An output that is not as shown, with the line of its code."""

    line: int
    shown: str
    printed: str
    why: str

    def __str__(self):
        return f"line {self.line}: {self.why}\n--- shown\n{self.shown}+++ printed\n{self.printed}"


def run(page, write=False, names=None):
    """Run a page in a new folder, with its variables in ``names``; return its differences."""
    names = {} if names is None else names
    names["__name__"] = "page"
    text, differences, parts, end = page.read_text(encoding="utf-8"), [], [], 0
    with prepared() as folder:
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start("code"))
            code = compile("\n" * line + block["code"], str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, names)
            shown, printed = block["output"] or "", trimmed(out.getvalue())
            why = compare(shown, printed, block["rule"], block["within"])
            if block["claim"] and not eval(block["claim"], names):
                differences.append(Difference(line, shown, printed, f"not {block['claim']}"))
            elif why and not write:
                differences.append(Difference(line, shown, printed, why))
            parts.append(text[end : block.end("code")] + "```")
            parts += [f"\n\n```text\n{printed}```"] if printed else []
            end = block.end()
        for picture in sorted(set(re.findall(r"\.\./pictures/(tutorial-[\w.-]+)", text))):
            if not (folder / picture).is_file():
                differences.append(Difference(0, "", "", f"no code saves {picture}"))
            elif write:
                shutil.copy(folder / picture, PICTURES / picture)
            elif not (PICTURES / picture).is_file():
                differences.append(Difference(0, "", "", f"docs has no {picture}: use --write"))
    if write:
        page.write_text("".join(parts) + text[end:], encoding="utf-8")
    return differences


def trimmed(output):
    """The output without spaces at the ends of lines, and with one newline at its end."""
    lines = [line.rstrip() for line in output.rstrip().splitlines()]
    return "".join(f"{line}\n" for line in lines)


def compare(shown, printed, rule=None, within=None):
    """Why two outputs do not agree, or None."""
    words, expected = split(shown)
    printed_words, actual = split(printed)
    if words != printed_words:
        return "other words"
    for a, b in zip(expected, actual, strict=True):
        if rule != "form only" and not agree(a, b, within):
            return f"{b} instead of {a}"
    return None


def split(text):
    """The text without its numbers, and the numbers.

    How many spaces stand next to a number depends on its width, and does not count.
    """
    return re.sub(r" *# *", "#", NUMBER.sub("#", text)), NUMBER.findall(text)


def agree(a, b, within=None):
    """Whether two numbers, as printed, agree."""
    if "." not in a:
        return a == b
    digits = len(re.sub("e.*", "", a).split(".")[1])
    exponent = int(a.split("e")[1]) if "e" in a else 0
    x, y = (float(s.replace(",", "")) for s in (a, b))
    allowed = float(within) if within else max(0.01 * abs(x), 10.0 ** (exponent - digits))
    return abs(x - y) <= 1.0001 * allowed


@contextlib.contextmanager
def prepared():
    """A new working folder, with NumPy's settings and matplotlib's as the pages need them."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib import pyplot as plt

    before = Path.cwd()
    date = mock.patch.dict(os.environ, SOURCE_DATE_EPOCH="0")  # that in an SVG file
    folder = tempfile.TemporaryDirectory()
    with folder as name, date, np.printoptions(), mpl.rc_context(STYLE):
        plt.switch_backend("agg")
        mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=COLOURS)
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)
            plt.close("all")


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.pages", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("pages", nargs="+", help="Markdown files, or patterns such as 'docs/*.md'")
    parser.add_argument("--write", action="store_true", help="write outputs and pictures")
    args = parser.parse_args(argv)
    failed = 0
    for name in (name for pattern in args.pages for name in sorted(glob.glob(pattern))):
        start = time.perf_counter()
        differences = run(Path(name).resolve(), args.write)
        print(f"{name}: {time.perf_counter() - start:.1f} s, {len(differences)} differences")
        print(*differences, sep="\n", end="\n" if differences else "")
        failed += len(differences)
    return failed > 0


if __name__ == "__main__":
    raise SystemExit(main())
