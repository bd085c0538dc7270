"""Tables and progress bars for notebooks and terminals: widths, colours, encodings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

_NOTEBOOK_WIDTH = 80  # of a table as text


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
    settings["ascii"] = not _shows(stream, "█")
    return tqdm(total=total, desc=title, file=stream, disable=hidden, **settings)


def terminal_width(stream: TextIO | None) -> int | None:
    """Columns of the terminal that ``stream`` writes to; None if it is none, or does not say."""
    if stream is None or not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:  # not a file, but an object that calls itself a terminal
        return None


def table_width(stream: TextIO) -> int | None:
    """Columns for a table on :func:`progress_stream`; None for a terminal of unknown width."""
    return terminal_width(stream) if stream.isatty() else _NOTEBOOK_WIDTH


def columns_that_fit(columns: Sequence[tuple[int, int]], width: int | None) -> list[int]:
    """The numbers of the columns of a table that fit into a line.

    Parameters
    ----------
    columns
        Width and rank of each; the highest rank is dropped first, rank 0 never.
    width
        Characters in a line, with two between columns; None: all fit.
    """
    kept = list(range(len(columns)))
    while width is not None and sum(columns[i][0] + 2 for i in kept) - 2 > width:
        last = max(kept, key=lambda i: columns[i][1])
        if not columns[last][1]:
            break
        kept.remove(last)
    return kept


def rule(width: int, stream: TextIO) -> str:
    """A horizontal line, in what the stream's encoding has."""
    return ("─" if _shows(stream, "─") else "-") * width


def _shows(stream: TextIO | None, text: str) -> bool:
    """Whether the encoding of ``stream`` has the characters of ``text``."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def duration(seconds: float) -> str:
    """A time such as 4.2s, 1:05 or 2:00:07."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def paint(text: str, code: str, stream: TextIO) -> str:
    """``text`` in a colour, with the number of ECMA-48 (ANSI), if ``stream`` has colours."""
    return f"\x1b[{code}m{text}\x1b[0m" if has_colours(stream) else text


def has_colours(stream: TextIO) -> bool:
    """Whether to write colours: on terminals that have them, unless the user decides.

    The environment variables NO_COLOR (https://no-color.org) and FORCE_COLOR decide, in this order,
    if they are not empty.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    is_able = stream.isatty() and os.environ.get("TERM") != "dumb"
    return is_able and (sys.platform != "win32" or _turn_on_colours(stream))


def _turn_on_colours(stream: TextIO) -> bool:
    """Let Windows' console interpret escape sequences; one before Windows 10 cannot."""
    if sys.platform != "win32":
        return True
    import ctypes
    import msvcrt

    try:
        console = msvcrt.get_osfhandle(stream.fileno())
    except OSError:
        return False
    mode = ctypes.c_ulong()
    kernel = ctypes.windll.kernel32
    is_console = kernel.GetConsoleMode(ctypes.c_void_p(console), ctypes.byref(mode))
    return bool(is_console and kernel.SetConsoleMode(ctypes.c_void_p(console), mode.value | 4))
