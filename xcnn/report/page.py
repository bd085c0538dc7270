"""The page: the template, its style and scripts, and the contents as JSON, in one HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from importlib import resources
from typing import Any

from .. import __version__
from .contents import drawn
from .pictures import Picture

_SCRIPTS = ("elements.js", "chart.js", "examples.js", "network.js", "graph.js", "page.js")
#: a page that expects to be replaced is stale after so many times as long, and a minute
_PATIENCE = 4


def html(
    title: str,
    runs: Sequence[dict[str, Any]],
    comparison: dict[str, Any] | None = None,
    live: float | None = None,
    note: str = "",
) -> bytes:
    """The report as an HTML file that needs no other file and no network.

    Parameters
    ----------
    title
        Of the page.
    runs
        The contents of each run.
    comparison
        Of several runs.
    live
        While a training runs: in how many seconds the page should be replaced; else None.
    note
        A sentence at the top.
    """
    now = time.time()
    content = {
        "title": title,
        "version": __version__,
        "written": now,
        "live": None if live is None else {"period": live, "until": now + 60 + _PATIENCE * live},
        "note": note,
        "runs": [{**run, "history": drawn(run["history"])} for run in runs],
        "comparison": comparison,
    }
    style, script = _file("report.css"), "\n".join(map(_file, _SCRIPTS))
    parts = {
        "TITLE": _escaped(title),
        "POLICY": f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
        "STYLE": style,
        "SCRIPT": script,
        "CONTENT": encode(content),
    }
    pieces = _file("report.html").split("@@")  # what is put in is not searched for more
    return "".join(parts.get(p, p) for p in pieces).encode("utf-8", "replace")


def encode(content: Any) -> str:
    """JSON that may stand inside a script element: nothing in it looks like a tag."""
    text = json.dumps(content, default=_plain, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> str:
    if isinstance(value, Picture):
        return value.uri
    raise TypeError(f"{type(value).__name__} in the contents of a report")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """The hash by which a Content-Security-Policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
