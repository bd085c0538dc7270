"""How a 2-D convolution is computed: one method per file, and the choice among them.

Every method has ``applies(geometry, groups, channels)``, whether it can compute such a convolution,
``pays(geometry, channels, filters, batch)``, whether it is then faster than im2col (of channels and
filters, those of one group),
``forward(backend, x, weight, geometry, groups, bias, relu)`` and
``backward(backend, dy, x, weight, geometry, groups, needs)`` on batch-last arrays:

x : (C, H, W, N);  weight : (F, C / groups, kH, kW);  bias : (F,) or None;  dy : (F, oH, oW, N).
``relu`` says whether max(y, 0) is wanted, whose backward is the caller's. ``needs`` says whether
(dx, dweight) are wanted; what is not wanted is None. Without dweight, only the shape and dtype of x
may be read.
"""

from __future__ import annotations

from types import ModuleType

from .. import config
from ..backends import Backend
from ..errors import ArgumentError
from ..geometry import Geometry
from . import depthwise, grouped, im2col, mec, pointwise, winograd

METHODS: dict[str, ModuleType] = {
    "depthwise": depthwise,
    "grouped": grouped,
    "im2col": im2col,
    "mec": mec,
    "pointwise": pointwise,
    "winograd": winograd,
}


def choose(
    backend: Backend, geometry: Geometry, groups: int, channels: int, filters: int, batch: int
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
    if wanted != "auto":
        return METHODS[wanted] if METHODS[wanted].applies(geometry, groups, channels) else im2col
    for name in backend.convolutions:
        method = METHODS[name]
        applies = method.applies(geometry, groups, channels)
        if applies and method.pays(geometry, channels // groups, filters // groups, batch):
            return method
    return im2col
