"""Somebody else's text, such as names in a model's file, on a terminal."""

from __future__ import annotations

LINES = "\n"


def printable(text: str, keep: str = "") -> str:
    """``text`` with a question mark for what a terminal would obey and not show.

    Parameters
    ----------
    text
        Anything.
    keep
        Characters to leave as they are.
    """
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)
