"""The badges of the README, as SVG files without a network: each from the file that it tells of.

``python -m tests.badges --write`` writes them to docs/pictures; tests/test_badges.py compares.
"""

from __future__ import annotations

import re
import sys
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
_WIDTH = 6.6  # of a character, about


def texts() -> dict[str, tuple[str, str]]:
    """Label and value of each badge, by name."""
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    onnx = re.search(r"\*\*all\*\* \| [\d,]+ \| (\d+) \| (\d+) \|", _read("docs/conformance.md"))
    torch = re.search(r"\*\*all\*\* \| [\d,]+ \| ([\d.]+)%", _read("docs/pytorch.md"))
    return {
        "python": ("python", project["requires-python"].removeprefix(">=") + "+"),
        "licence": ("licence", project["license"]),
        "pytorch": ("agrees with PyTorch's samples", f"{torch[1]} %"),
        "onnx": ("passes ONNX's tests", f"{int(onnx[2]):,} of {int(onnx[1]):,}"),
    }


def svg(label: str, value: str) -> str:
    """A badge: the label on grey, the value on blue."""
    left, right = (round(len(text) * _WIDTH + 12) for text in (label, value))
    middle = left / 2, left + right / 2
    texts = "".join(
        f'<text x="{x:g}" y="14">{escape(text)}</text>'
        for x, text in zip(middle, (label, value), strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{escape(label)}: {escape(value)}">'
        f'<rect width="{left + right}" height="20" rx="3" fill="#0b5cad"/>'
        f'<path d="M3 0H{left}V20H3Q0 20 0 17V3Q0 0 3 0" fill="#555"/>'
        f'<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" '
        f'font-size="11">{texts}</g></svg>\n'
    )


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.badges --write")
    for name, pair in texts().items():
        (FOLDER / f"badge-{name}.svg").write_text(svg(*pair), encoding="utf-8")
