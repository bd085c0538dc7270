"""How a 2-D convolution is computed: one method per file, and the choice among them.

Every method has ``applies(geometry, groups)``,
``forward(backend, x, weight, geometry, groups, bias, relu)`` and
``backward(backend, dy, x, weight, geometry, groups, needs)`` on batch-last arrays:

x : (C, H, W, N);  weight : (F, C / groups, kH, kW);  bias : (F,) or None;  dy : (F, oH, oW, N).
``relu`` says whether max(y, 0) is wanted, whose backward is the caller's. ``needs`` says whether
(dx, dweight) are wanted; what is not wanted is None.
"""

from __future__ import annotations

from types import ModuleType

from .. import config
from ..backends import Backend
from ..errors import ArgumentError
from ..geometry import Geometry
from . import im2col, pointwise, winograd

METHODS: dict[str, ModuleType] = {
    "im2col": im2col,
    "pointwise": pointwise,
    "winograd": winograd,
}


def choose(
    backend: Backend, geometry: Geometry, groups: int, channels: int, filters: int
) -> ModuleType:
    """The method that ``xcnn.config.convolution`` names, else the fastest one for these shapes.

    Raises
    ------
    ArgumentError
        The setting names no method.
    """
    wanted = config.convolution
    if wanted != "auto" and wanted not in METHODS:
        raise ArgumentError(
            f"xcnn.config.convolution={wanted!r}: expected auto, {', '.join(METHODS)}"
        )
    if wanted in METHODS and METHODS[wanted].applies(geometry, groups):
        return METHODS[wanted]
    if pointwise.applies(geometry, groups):
        return pointwise
    if wanted == "auto" and backend.prefers_winograd and winograd.applies(geometry, groups):
        return winograd if winograd.pays(geometry, channels, filters) else im2col
    return im2col
