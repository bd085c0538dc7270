"""The primitives of a Backend: their inputs, how they are called, the bytes they cannot avoid.

Bytes are the fewest: each input read once, each output written once; what no window touches does
not count. A float array counts in the type of the work, everything else in its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from benchmarks.gpu.ceilings import random
from xcnn.backends import Backend
from xcnn.geometry import Geometry, windows
from xcnn.tiling import Tile

Array = Any
Shape = tuple[int, ...]


class Maker:
    """Makes the inputs of a primitive on one backend, each array with numbers of its own."""

    def __init__(self, backend: Backend, dtype: str) -> None:
        self.backend = backend
        self.dtype = dtype
        self._seed = 0

    def normal(self, *shape: int) -> Array:
        self._seed += 1
        return random(self.backend.xp, shape, self.dtype, self._seed)

    def nan(self, *shape: int) -> Array:
        """What an output holds before: a value that is left there is seen."""
        return self.backend.xp.full(shape, np.nan, self.dtype)

    def classes(self, count: int, size: int) -> Array:
        self._seed += 1
        return self.backend.asarray(np.random.default_rng(self._seed).integers(0, count, size))


@dataclass(frozen=True)
class Primitive:
    """One primitive at one size."""

    method: ClassVar[str]

    shape: Shape
    dtype: str = "float32"

    @property
    def title(self) -> str:
        return f"{self.method} {self.shape} {self.dtype}"

    @property
    def item(self) -> int:
        """Bytes of one number."""
        return np.dtype(self.dtype).itemsize

    def small(self) -> Primitive:
        """The same work at a size that NumPy does at once."""
        raise NotImplementedError

    def fitting(self, limit: int) -> Primitive:
        """The part of the work that takes at most ``limit`` bytes, where it has parts."""
        return self

    def arrays(self, make: Maker) -> list[Array]:
        """Inputs, and the outputs that the caller provides."""
        raise NotImplementedError

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        """Call the primitive: the arrays that hold its results."""
        raise NotImplementedError

    def bytes(self) -> int:
        """Bytes read and written at least."""
        raise NotImplementedError


@dataclass(frozen=True)
class Windows(Primitive):
    """Windows over images (C, H, W, N)."""

    kernel: int = 3
    stride: int = 1
    padding: int = 0
    tile: Tile | None = None

    @property
    def title(self) -> str:
        size = f"{self.kernel}×{self.kernel} /{self.stride} +{self.padding}"
        part = "" if self.tile is None else f" rows {self.tile.top}:{self.tile.bottom}"
        return f"{self.method} {size} {self.shape}{part} {self.dtype}"

    @cached_property
    def geometry(self) -> Geometry:
        return windows(self.shape[1:3], self.kernel, self.stride, self.padding)

    @property
    def whole(self) -> Tile:
        return self.tile or Tile(0, self.geometry.output[0], 0, self.geometry.output[1])

    @property
    def output(self) -> Shape:
        return (self.shape[0], *self.geometry.output, self.shape[3])

    @property
    def columns(self) -> Shape:
        tile = self.whole
        rows, across = tile.bottom - tile.top, tile.right - tile.left
        return (self.shape[0], self.kernel, self.kernel, rows, across, self.shape[3])

    def touched(self) -> int:
        """Numbers of the image that a window of the tile reads."""
        elements = self.geometry.elements(self.whole)
        rows, across = (
            {i for e in elements for i in range(self.shape[axis])[e.pixels[axis]]}
            for axis in (1, 2)
        )
        return self.shape[0] * len(rows) * len(across) * self.shape[3]

    def small(self) -> Windows:
        channels, height, width, batch = self.shape
        side = 2 * self.kernel + 7
        shape = (min(channels, 3), min(height, side), min(width, side + 1), 5 if batch % 4 else 8)
        return replace(self, shape=shape, tile=None)


class Im2col(Windows):
    """Windows as columns."""

    method = "im2col"

    def fitting(self, limit: int) -> Windows:
        position = self.item * self.shape[0] * self.kernel**2 * self.shape[3]
        if math.prod(self.geometry.output) * position <= limit:
            return self
        return replace(self, tile=next(self.geometry.tiles(max(1, limit // position))))

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.shape), make.nan(*self.columns)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        x, out = arrays
        return (backend.im2col(x, self.geometry, self.whole, out),)

    def bytes(self) -> int:
        return self.item * (self.touched() + math.prod(self.columns))


class Col2im(Im2col):
    """Columns added back onto the pixels."""

    method = "col2im"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.columns), make.normal(*self.shape)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        columns, dx = arrays
        backend.col2im(columns, self.geometry, self.whole, dx)
        return (dx,)

    def bytes(self) -> int:
        return self.item * (math.prod(self.columns) + 2 * self.touched())


class MaxPool(Windows):
    """The largest pixels, and where they are."""

    method = "max_pool2d"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.shape)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        y, argmax = backend.max_pool2d(*arrays, self.geometry)
        return y, argmax

    def bytes(self) -> int:
        return self.item * self.touched() + (self.item + 1) * math.prod(self.output)


class MaxPoolBackward(Windows):
    """Gradients given to the chosen pixels."""

    method = "max_pool2d_backward"

    def arrays(self, make: Maker) -> list[Array]:
        _, argmax = make.backend.max_pool2d(make.normal(*self.shape), self.geometry)
        return [make.normal(*self.output), argmax]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        return (backend.max_pool2d_backward(*arrays, self.geometry),)

    def bytes(self) -> int:
        return (self.item + 1) * math.prod(self.output) + self.item * math.prod(self.shape)


class AvgPool(Windows):
    """Means, padding included."""

    method = "avg_pool2d"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.shape)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        return (backend.avg_pool2d(*arrays, self.geometry, include_pad=True),)

    def bytes(self) -> int:
        return self.item * (self.touched() + math.prod(self.output))


class AvgPoolBackward(Windows):
    """Gradients spread evenly."""

    method = "avg_pool2d_backward"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.output)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        return (backend.avg_pool2d_backward(*arrays, self.geometry, include_pad=True),)

    def bytes(self) -> int:
        return self.item * (math.prod(self.output) + math.prod(self.shape))


class Matrix(Primitive):
    """Rows and columns, or one row of numbers."""

    def small(self) -> Primitive:
        return replace(
            self, shape=tuple(min(n, 7 + 30 * axis) for axis, n in enumerate(self.shape))
        )


class AddBias(Matrix):
    """With ReLU, in place."""

    method = "add_bias"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.shape), make.normal(self.shape[0])]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        y, bias = arrays
        backend.add_bias(y, bias, slice(0, self.shape[1]), relu=True)
        return (y,)

    def bytes(self) -> int:
        return self.item * (2 * math.prod(self.shape) + self.shape[0])


class ReluBackward(Matrix):
    """With the bias gradient."""

    method = "relu_backward"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.shape), make.normal(*self.shape)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        return backend.relu_backward(*arrays)

    def bytes(self) -> int:
        return self.item * (3 * math.prod(self.shape) + self.shape[0])


class CrossEntropy(Matrix):
    """Of (classes, examples), with the derivative."""

    method = "cross_entropy"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.shape), make.classes(*self.shape)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        return backend.cross_entropy(*arrays)

    def bytes(self) -> int:
        examples = self.shape[1]
        return self.item * (2 * math.prod(self.shape) + examples) + 8 * examples


class RandomBits(Matrix):
    """Philox."""

    method = "random_bits"

    def arrays(self, make: Maker) -> list[Array]:
        return []

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        return (backend.random_bits(self.shape[0], 2**40 + 3),)

    def bytes(self) -> int:
        return 4 * self.shape[0]


class DropoutMask(RandomBits):
    """Of probability 0.3."""

    method = "dropout_mask"

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        return (backend.dropout_mask(self.shape[0], 2**40 + 3, 0.3, np.dtype(self.dtype)),)

    def bytes(self) -> int:
        return self.item * self.shape[0]


class Sgd(Matrix):
    """With momentum, of one parameter."""

    method = "sgd_step"

    def arrays(self, make: Maker) -> list[Array]:
        return [make.normal(*self.shape) for _ in range(3)]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        p, g, v = arrays
        settings = {"lr": 1e-3, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
        backend.sgd_step([p], [g], [v], **settings)
        return p, v

    def bytes(self) -> int:
        return 5 * self.item * math.prod(self.shape)


class Adam(Matrix):
    """Of one parameter."""

    method = "adam_step"

    def arrays(self, make: Maker) -> list[Array]:
        p, g, m, v = (make.normal(*self.shape) for _ in range(4))
        return [p, g, m, v * v]

    def call(self, backend: Backend, *arrays: Array) -> tuple[Array, ...]:
        settings = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
        backend.adam_step(*([array] for array in arrays), **settings, step=3)
        p, _, m, v = arrays
        return p, m, v

    def bytes(self) -> int:
        return 7 * self.item * math.prod(self.shape)
