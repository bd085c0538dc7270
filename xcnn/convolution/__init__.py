"""How a 2-D convolution is computed: one method per file, and the choice among them.

Every method has ``forward(backend, x, weight, geometry, groups, bias, relu)`` and
``backward(backend, dy, x, weight, geometry, groups, needs)`` on batch-last arrays:

x : (C, H, W, N);  weight : (F, C / groups, kH, kW);  bias : (F,) or None;  dy : (F, oH, oW, N).
``relu`` says whether max(y, 0) is wanted, whose backward is the caller's. ``needs`` says whether
(dx, dweight) are wanted; what is not wanted is None.
"""

from __future__ import annotations

from types import ModuleType

from ..geometry import Geometry
from . import im2col, pointwise

METHODS: dict[str, ModuleType] = {"im2col": im2col, "pointwise": pointwise}


def choose(geometry: Geometry, groups: int) -> ModuleType:
    """The fastest method for these shapes."""
    return pointwise if pointwise.applies(geometry, groups) else im2col
