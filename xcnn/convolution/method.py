"""A convolution problem, the interface of a method, and the choice among methods."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from ..arrays import Array
from ..backends import Backend
from ..errors import ArgumentError
from ..geometry import Geometry


class Problem(NamedTuple):
    """The shapes and settings of a 2-D or 3-D convolution.

    Attributes
    ----------
    geometry : Geometry
    groups : int
        Number of groups of channels, convolved separately.
    in_channels, out_channels : int
        Over all groups.
    batch : int
        Number of images.
    relu : bool
        Whether to return max(y, 0), in one pass with the bias; its backward is up to the caller.
    depth : Geometry or None
        Of volumes: the windows along the depth, as for an image one pixel wide.
    compiled : bool
        Whether the backend has compiled kernels for the arrays.
    """

    geometry: Geometry
    groups: int
    in_channels: int
    out_channels: int
    batch: int
    relu: bool = False
    depth: Geometry | None = None
    compiled: bool = False

    @lru_cache(maxsize=1024)
    def compiled_as(self, compiled: bool) -> Problem:
        """The same convolution with this value of ``compiled``."""
        return self._replace(compiled=compiled)

    @property
    @lru_cache(maxsize=1024)
    def one_group(self) -> Problem:
        """The convolution of a single group."""
        in_channels, out_channels = (
            self.in_channels // self.groups,
            self.out_channels // self.groups,
        )
        return self._replace(groups=1, in_channels=in_channels, out_channels=out_channels)

    @property
    @lru_cache(maxsize=1024)
    def input_shape(self) -> tuple[int, ...]:
        """The shape of x: (C, H, W, N), or (C, H, W, D, N)."""
        depth = () if self.depth is None else self.depth.input[:1]
        return self.in_channels, *self.geometry.input, *depth, self.batch

    @property
    @lru_cache(maxsize=1024)
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight: (F, C / groups, kH, kW), or (F, C / groups, kD, kH, kW)."""
        kernel = self.geometry.kernel
        taps = kernel if self.depth is None else (self.depth.kernel[0], *kernel)
        return self.out_channels, self.in_channels // self.groups, *taps

    @property
    @lru_cache(maxsize=1024)
    def output_shape(self) -> tuple[int, ...]:
        """The shape of y: (F, oH, oW, N), or (F, oH, oW, oD, N)."""
        depth = () if self.depth is None else self.depth.output[:1]
        return self.out_channels, *self.geometry.output, *depth, self.batch

    @property
    @lru_cache(maxsize=1024)
    def multiplications(self) -> int:
        """Number of multiplications of a direct convolution."""
        return math.prod(self.weight_shape) * math.prod(self.output_shape[1:])


class Method:
    """A way to compute a convolution of batch-last arrays.

    x : (C, H, W, N);  weight : (F, C / groups, kH, kW);  bias : (F,) or None;
    y, dy : (F, oH, oW, N).

    An infinite or NaN pixel must reach only the outputs whose windows read it, as infinity or NaN.
    A method that multiplies pixels by zeros would spread NaN; it looks for it in the result, with
    ``backend.all_finite``, and leaves the convolution to im2col. A GPU, where looking would make
    the host wait, does not choose such a method.
    """

    def applies(self, problem: Problem) -> bool:
        """Whether this method can compute the convolution."""
        raise NotImplementedError

    def pays(self, problem: Problem) -> bool:
        """Whether this method, where it applies, is faster than im2col."""
        return True

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        """Return y."""
        raise NotImplementedError

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        """Return dx."""
        raise NotImplementedError

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        """Return dweight."""
        raise NotImplementedError


#: methods by their name in ``xcnn.config.convolution``, in order of preference
METHODS: dict[str, Method] = {}


@lru_cache(maxsize=1024)
def choose(problem: Problem, candidates: tuple[str, ...], setting: str = "auto") -> Method:
    """Choose the fastest method by measured rules.

    Parameters
    ----------
    problem
        The convolution.
    candidates
        ``backend.convolutions``: the names to choose from besides im2col.
    setting
        ``xcnn.config.convolution``: "auto"; or the name of a method to use wherever it applies.

    Raises
    ------
    ArgumentError
        ``setting`` names no method.
    """
    if setting not in ("auto", *METHODS):
        names = ", ".join(METHODS)
        raise ArgumentError(f"xcnn.config.convolution={setting!r}: expected auto, {names}")
    if not problem.multiplications:  # only im2col has to handle empty arrays
        return METHODS["im2col"]
    if setting != "auto":
        return METHODS[setting if METHODS[setting].applies(problem) else "im2col"]
    for name, method in METHODS.items():
        if name in candidates and method.applies(problem) and method.pays(problem):
            return method
    return METHODS["im2col"]
