"""The colours in which tasks draw classes."""

from __future__ import annotations

#: red, green and blue of each class in turn, told apart by colour-blind people (Okabe and Ito 2008,
#: without black)
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
