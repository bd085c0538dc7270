"""Reports of trainings, as one HTML file that needs no other file and no network.

:func:`write` writes one of trainings that have ended, and the callback :class:`Report` while a
training runs.
"""

from __future__ import annotations

from .contents import LIMIT as LIMIT
from .run import Run
from .writing import Report, write

__all__ = ["Report", "Run", "write"]
