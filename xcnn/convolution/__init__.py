"""How a 2-D convolution is computed: one method per file, and the choice among them.

A :class:`Problem` describes a convolution, :func:`choose` finds the :class:`Method` for it. Methods
stand in the order of preference.
"""

from __future__ import annotations

from .depthwise import Depthwise
from .grouped import Grouped
from .im2col import Im2col
from .mec import MEC
from .method import METHODS, Method, Problem, choose
from .pointwise import Pointwise
from .winograd import Winograd

__all__ = ["METHODS", "Method", "Problem", "choose"]

METHODS.update(
    pointwise=Pointwise(),
    depthwise=Depthwise(),
    grouped=Grouped(),
    winograd=Winograd(),
    mec=MEC(),
    im2col=Im2col(),
)
