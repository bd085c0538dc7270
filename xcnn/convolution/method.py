"""What a convolution is, what a method of computing one offers, and the choice among methods."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from ..arrays import Array
from ..backends import Backend
from ..errors import ArgumentError
from ..geometry import Geometry


class Problem(NamedTuple):
    """A 2-D convolution without its numbers.

    Attributes
    ----------
    geometry : Geometry
    groups : int
        Groups of channels that are convolved separately.
    in_channels, out_channels : int
        Of all groups together.
    batch : int
        Number of images.
    relu : bool
        Whether the result is max(y, 0), in one pass with the bias; its backward is the caller's.
    """

    geometry: Geometry
    groups: int
    in_channels: int
    out_channels: int
    batch: int
    relu: bool = False

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
        """Of x, (C, H, W, N)."""
        return self.in_channels, *self.geometry.input, self.batch

    @property
    @lru_cache(maxsize=1024)
    def weight_shape(self) -> tuple[int, ...]:
        """(F, C / groups, kH, kW)."""
        return self.out_channels, self.in_channels // self.groups, *self.geometry.kernel

    @property
    @lru_cache(maxsize=1024)
    def output_shape(self) -> tuple[int, ...]:
        """Of y, (F, oH, oW, N)."""
        return self.out_channels, *self.geometry.output, self.batch

    @property
    @lru_cache(maxsize=1024)
    def multiplications(self) -> int:
        """Of a direct computation."""
        return math.prod(self.weight_shape) * math.prod(self.output_shape[1:])


class Method:
    """A way to compute a convolution of batch-last arrays.

    x : (C, H, W, N);  weight : (F, C / groups, kH, kW);  bias : (F,) or None;
    y, dy : (F, oH, oW, N).
    """

    def applies(self, problem: Problem) -> bool:
        """Whether this method can compute the convolution."""
        raise NotImplementedError

    def pays(self, problem: Problem) -> bool:
        """Whether it is then faster than im2col."""
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


#: by the name that ``xcnn.config.convolution`` takes, in order of preference
METHODS: dict[str, Method] = {}


@lru_cache(maxsize=1024)
def choose(problem: Problem, candidates: tuple[str, ...] | None, wanted: str = "auto") -> Method:
    """The fastest method by measured rules.

    Parameters
    ----------
    problem
        The convolution.
    candidates
        ``backend.convolutions``: the names to choose from besides im2col; None: all.
    wanted
        ``xcnn.config.convolution``: "auto"; or the name of a method to use wherever it applies.

    Raises
    ------
    ArgumentError
        ``wanted`` names no method.
    """
    if wanted != "auto":
        if wanted not in METHODS:
            names = ", ".join(METHODS)
            raise ArgumentError(f"xcnn.config.convolution={wanted!r}: expected auto, {names}")
        return METHODS[wanted if METHODS[wanted].applies(problem) else "im2col"]
    for name, method in METHODS.items():
        allowed = candidates is None or name in candidates
        if allowed and method.applies(problem) and method.pays(problem):
            return method
    return METHODS["im2col"]
