"""Tables for notebooks, and progress bars for notebooks and terminals."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO


def html_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """Format rows as an HTML table, for ``_repr_html_``.

    Parameters
    ----------
    rows
        Each maps the column's name to a value. The columns are those of the first row; an int gets
        thousands separators, a float six significant digits, None an empty cell.
    title
        Text above the table.
    """
    columns = list(rows[0]) if rows else []
    lines = [_html_row("td", [row.get(c) for c in columns]) for row in rows]
    caption = f"<caption>{_escape(title)}</caption>" if title else ""
    return "\n".join([f"<table>{caption}", _html_row("th", columns), *lines, "</table>"])


def _html_row(tag: str, cells: Sequence[Any]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_escape(_cell(cell))}</{tag}>' for cell in cells)}</tr>"


def _escape(text: str) -> str:
    from html import escape  # importing it takes a while

    return escape(text)


def _cell(value: Any) -> str:
    return "" if value is None else format(value, {int: ",", float: ".6g"}.get(type(value), ""))


def progress_stream() -> TextIO | None:
    """Where to show progress: the output of a notebook's cell, a terminal, or nowhere.

    A notebook gets text: tqdm's widget for notebooks requires ipywidgets, and hides itself because
    the output of a cell is not a terminal.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and "IPKernelApp" in shell.config:
        return sys.stdout
    return sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None


def progress_bar(total: int | None, title: str, show: bool = True, **settings: Any) -> Any:
    """Create a tqdm bar on :func:`progress_stream`; hidden in a terminal of unknown width."""
    from tqdm import tqdm  # not tqdm.auto, which warns in a notebook without ipywidgets

    stream = progress_stream() if show else None
    hidden = stream is None or (stream is sys.stderr and terminal_width(stream) is None)
    return tqdm(total=total, desc=title, file=stream, disable=hidden, **settings)


def terminal_width(stream: TextIO | None) -> int | None:
    """Columns of the terminal that ``stream`` writes to; None if it is none, or does not say."""
    if stream is None or not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:  # not a file, but an object that calls itself a terminal
        return None
