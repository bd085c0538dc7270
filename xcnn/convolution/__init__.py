"""Methods of computing a convolution, one per file, and the choice among them.

A :class:`Problem` describes a convolution; :func:`choose` picks the :class:`Method` for it.
"""

from __future__ import annotations

from .direct import Depthwise, Direct
from .frames import choose
from .im2col import Im2col
from .mec import MEC
from .method import METHODS, Method, Problem
from .pointwise import Pointwise
from .winograd import Winograd

__all__ = ["METHODS", "Method", "Problem", "choose"]

METHODS.update(  # in order of preference
    pointwise=Pointwise(),
    winograd=Winograd(),
    direct=Direct(),
    depthwise=Depthwise(),
    mec=MEC(),
    im2col=Im2col(),
)
