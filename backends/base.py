"""Backend: everything that differs between devices; each primitive once in generic ``xp`` code.

A subclass sets ``xp`` and overrides, unconditionally, the primitives it has a kernel for. Image
arrays here are batch-last: (channels, height, width, batch), C-contiguous, so that windows
read long runs of memory.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

from ..arrays import Array, sum_dtype
from ..checks import check_choice
from ..errors import ArgumentError, DTypeError, OutOfRangeError
from ..geometry import Geometry
from ..layout import as_matrix, tile_columns
from ..tiling import Tile, split_range
from . import norm
from .norm import Running, Statistics

Columns: TypeAlias = tuple[int, int, int]  # of :meth:`Backend.random_bits`

# Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_MASK32, MASK64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF

#: arithmetic of matrix products: see :meth:`Backend.precision`
PRECISIONS = ("float32", "tf32", "float16")
#: the fused steps of optimisers, and the settings that they take, in order
OPTIMIZER_KERNELS = {
    "sgd_step": ("lr", "momentum", "nesterov", "weight_decay"),
    "adam_step": ("lr", "beta1", "beta2", "eps", "weight_decay", "step", "decoupled"),
    "rmsprop_step": ("lr", "alpha", "eps", "momentum", "weight_decay"),
    "adagrad_step": ("lr", "lr_decay", "eps", "weight_decay", "step"),
}
# indices into a scaler array
SCALE, OVERFLOW, GOOD, SKIPPED = range(4)


def check_numbers(array: Any) -> None:
    """Require an array, if it is one, to hold real numbers or bools.

    Raises
    ------
    DTypeError
        It holds anything else.
    """
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "kind", "f") not in "fiub":
        raise DTypeError(f"expected an array of numbers, got one of {dtype}")


class Mirror:
    """An array as libraries for host memory see it: on a CPU, the array itself.

    Attributes
    ----------
    array
        The memory to read once :meth:`is_ready`, and to write before :meth:`restore`.
    """

    def __init__(self, array: Array) -> None:
        self.array = array

    def is_ready(self) -> bool:
        """Whether the values have arrived; does not wait."""
        return True

    def restore(self) -> None:
        """Copy the values back."""


class Backend:
    """One device: its array namespace and its primitives.

    Parameters
    ----------
    xp
        The array namespace: numpy, cupy or a compatible one.
    device
        The name that users write, such as ``"cpu"`` or ``"cuda:0"``.

    Attributes
    ----------
    column_budget : int
        Maximum bytes of one tile of an unfolded convolution input. Settable.
    thin_product : int
        Terms that a product of two thin matrices sums per piece.
    optimizer_piece : int
        Elements of a parameter that an optimiser updates at a time.
    norm_piece : int
        Elements that a normalisation processes at a time.
    convolutions : tuple of str
        The methods of :mod:`xcnn.convolution` to choose from besides im2col.
    """

    column_budget = 3 * 1024**2
    thin_product = 4096
    optimizer_piece = 2**16
    norm_piece = 2**17
    convolutions: tuple[str, ...] = ("pointwise", "winograd", "mec")

    def __init__(self, xp: Any, device: str) -> None:
        self.xp = xp
        self.device = device

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.device}>"

    # -- arrays -----------------------------------------------------------------------------

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """``array`` (a host or device array, or nested lists) as an array on this device.

        Raises
        ------
        DTypeError
            It does not hold numbers.
        """
        check_numbers(array)
        return self.xp.asarray(array, dtype)

    def ascontiguousarray(self, x: Array) -> Array:
        """``x``, copied if it is not C-contiguous, such as to batch-last memory."""
        return self.xp.ascontiguousarray(x)

    def one(self, dtype: Any) -> Array:
        """The number 1 as an array (), perhaps the same one each time: do not change it."""
        return self.xp.ones((), dtype)

    def to_host(self, array: Array) -> Any:
        """A NumPy array with the same values; waits for the device."""
        return array

    def slots(self) -> list[Any]:
        """Two :class:`~xcnn.backends.transfer.Slot` objects to copy batches to alternately.

        Empty where the device uses host memory.
        """
        return []

    def mirror(self, array: Array, direct: bool = False) -> Mirror:
        """``array`` (C-contiguous) in memory of the host, for libraries that need it there.

        ``direct``: they can read the memory of the device.
        """
        return Mirror(array)

    def synchronize(self) -> None:
        """Wait until the device has finished all work."""

    def use(self) -> None:
        """Put new arrays of this thread on this device, also outside :meth:`active`."""

    def active(self) -> AbstractContextManager:
        """A context for computing: new arrays are on this device; overflow causes no warning."""
        return nullcontext()

    def quiet_overflow(self) -> AbstractContextManager:
        """A context in which overflow, division by 0 and invalid values cause no warning."""
        return nullcontext()

    @property
    def special(self) -> Any:
        """``scipy.special``, or its equivalent for this device."""
        from scipy import special  # slow to import, and few models need it

        return special

    def memory(self) -> dict[str, int]:
        """Bytes ``used`` by arrays and ``total`` on the device, where known."""
        return {}

    def limit_threads(self, count: int) -> None:
        """Use at most ``count`` threads of the host, also in BLAS; a GPU needs none."""

    def limit_memory(self, size: int) -> None:
        """Limit arrays to ``size`` bytes on the device, and im2col columns to an eighth of that.

        Raises
        ------
        ArgumentError
            The device has no dedicated memory, or less than ``size``.
        """
        raise ArgumentError(
            f"a memory limit applies to GPU memory, {self.device} has none; leave it out, or use "
            "--device cuda"
        )

    def warmup(self) -> Iterator[str]:
        """Compile all kernels now rather than on first use; yields the name of each."""
        return iter(())

    def run(self, function: Callable[..., Array], *arrays: Any) -> Array:
        """``function(self, *arrays)``, creating new arrays on this device."""
        return function(self, *arrays)

    def precision(self, name: str) -> AbstractContextManager:
        """A context in which matrix products are computed in ``"float32"``, ``"tf32"`` or
        ``"float16"``; the latter also needs arrays of that type.

        Raises
        ------
        ArgumentError
            An unknown name, or one that this device cannot do.
        """
        check_choice("precision", name, PRECISIONS)
        if name != "float32":
            raise ArgumentError(
                f"precision={name!r} needs a CUDA GPU: {self.device} has no hardware for it and "
                "would be slower than with float32; use float32"
            )
        return nullcontext()

    def check_class_indices(
        self, indices: Array, classes: int, ignore_index: int | None = None
    ) -> None:
        """Require class indices with ``0 <= index < classes`` or equal to ``ignore_index``.

        Raises
        ------
        ArgumentError
            An index is out of range.
        """
        if indices.size == 0 or (indices.min() >= 0 and indices.max() < classes):
            return
        wrong = indices[(indices < 0) | (indices >= classes)]
        wrong = [int(index) for index in (wrong.min(), wrong.max()) if index != ignore_index]
        if wrong:
            ignored = "" if ignore_index is None else f", or ignore_index={ignore_index}"
            raise ArgumentError(
                f"target holds class {wrong[0]}, but the input has {classes} classes: expected "
                f"indices 0 to {classes - 1}{ignored}"
            )

    def check_indices(self, name: str, indices: Array, length: int, negative: bool = False) -> None:
        """Require indices of an axis of ``length``; with ``negative``, also those from its end.

        Raises
        ------
        OutOfRangeError
            An index is out of range.
        """
        low = -length if negative else 0
        if indices.size and not (indices.min() >= low and indices.max() < length):
            wrong = indices[(indices < low) | (indices >= length)]
            raise OutOfRangeError(
                f"{name}: index {int(wrong[0])} is out of range for an axis of length {length}: "
                f"expected {low} to {length - 1}"
            )

    def check_divisor(self, name: str, divisor: Array) -> None:
        """Require integers other than 0.

        Raises
        ------
        ArgumentError
            One of them is 0.
        """
        if not divisor.all():
            raise ArgumentError(
                f"{name}: an integer is divided by 0; convert the operands, for example with "
                ".float(), for infinity or NaN"
            )

    # -- parallelism ------------------------------------------------------------------------

    def shares(self, work: int) -> int:
        """Number of parts to split ``work`` multiplications into for :meth:`each`."""
        return 1

    def each(self, function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """``[function(part) for part in parts]``, on several threads where that is faster.

        The parts must be independent: none may write what another reads or writes.
        """
        return [function(part) for part in parts]

    def channels(self, x: Array) -> tuple[slice, ...]:
        """Slices of the channels of x (C, ...), to compute a few cheap passes with :meth:`each`."""
        return split_range(len(x), self.shares(8 * x.size))

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """The product of (n, k) and (k, m), or of stacks of such matrices."""
        return self.xp.matmul(a, b, out=out)

    def all_finite(self, x: Array) -> bool:
        """Whether no element is infinite, NaN or huge: True where finding out delays the host."""
        return True

    def as_dtypes(self, arrays: Sequence[Array], dtypes: Sequence[Any]) -> list[Array]:
        """Each array in its dtype: itself, or a new array."""
        pairs = zip(arrays, dtypes, strict=True)
        return [a if a.dtype == dtype else a.astype(dtype) for a, dtype in pairs]

    def add_product(self, sums: Array, a: Array, b: Array, first: bool) -> None:
        """Add a (F, P) @ b (K, P)ᵀ to ``sums`` (F, K), or stacks of such; if ``first``, overwrite.

        In the order that is fastest in BLAS: the product is 1.3 to 2 times faster with the larger
        of F and K first; a thin one (K·F below 1,000) is 2 to 4 times faster in pieces.
        """
        positions, is_thin = a.shape[-1], sums.shape[-2] * sums.shape[-1] < 1000
        step = self.thin_product if is_thin else max(1, positions)
        for start in range(0, max(1, positions), step):
            piece = slice(start, start + step)
            product = (b[..., piece] @ a[..., piece].swapaxes(-1, -2)).swapaxes(-1, -2)
            if first and start == 0:
                sums[...] = product
            else:
                sums += product

    def row_sums(self, a: Array, b: Array | None = None) -> Array:
        """The sum of each row of ``a``, or of ``a * b``: (R, M) to (R,), at least float32."""
        terms = a if b is None else a * b
        return terms.sum(axis=1, dtype=sum_dtype(terms.dtype))

    def column_sums(self, a: Array) -> Array:
        """The sum over each column of each matrix: (R, M, I) to (R, I), at least float32."""
        return a.sum(axis=1, dtype=sum_dtype(a.dtype))

    def sum_rows(self, rows: Array, places: Array, count: int) -> Array:
        """The sum of the rows with the same place, for each place: the adjoint of an index.

        The rows are sorted by place and added in pairs, in the same order every time.

        Parameters
        ----------
        rows : (M, K)
        places : (M,), from 0 to ``count`` - 1

        Returns
        -------
        sums : (count, K), zeros at places without a row
        """
        xp = self.xp
        if not rows.size or not count:
            return xp.zeros((count, rows.shape[1]), rows.dtype)
        order = xp.argsort(places, kind="stable")
        places, sums, zero = places[order], rows[order], xp.zeros((), rows.dtype)
        step = 1
        while step < len(sums):  # each row adds the sum of the rows before it with its place
            same = (places[step:] == places[:-step])[:, None]
            sums[step:] += xp.where(same, sums[:-step], zero)
            step *= 2
        numbers = xp.arange(count)
        last = xp.maximum(xp.searchsorted(places, numbers, side="right") - 1, 0)
        return xp.where((places[last] == numbers)[:, None], sums[last], zero)

    # -- convolution ------------------------------------------------------------------------

    def compiles(self, dtype: Any) -> bool:
        """Whether there are compiled kernels of the methods of convolution, for arrays of a dtype.

        Only then may :meth:`winograd` and :meth:`winograd_weight_gradient` be called.
        """
        return False

    def winograd(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        relu: bool = False,
        flipped: bool = False,
    ) -> Array | None:
        """Convolution of x by Winograd's algorithm with a 3×3 or 5×5 kernel and stride 1.

        Parameters
        ----------
        x : (C, H, W, N)
        weight : (F, C, k, k), or (C, F, k, k) if ``flipped``
        bias : (F,), or None
        relu
            Return max(y, 0).
        flipped
            Convolve with the weight flipped along both axes of the kernel.

        Returns
        -------
        y : (F, oH, oW, N), or None
            None if it may not be finite.
        """
        raise NotImplementedError

    def winograd_weight_gradient(self, x: Array, dy: Array, geometry: Geometry) -> Array:
        """dweight (F, C, k, k), where :meth:`winograd` computes the convolution."""
        raise NotImplementedError

    def im2col(self, x: Array, geometry: Geometry, tile: Tile, out: Array) -> Array:
        """Copy the pixels that the windows of ``tile`` read, zeros for padding.

        Parameters
        ----------
        x : (C, H, W, N)
        out : (C, kH, kW, rows, columns, N) of the tile, contiguous, overwritten

        Returns
        -------
        out
        """
        columns = _by_element(out)
        for element in geometry.elements(tile):
            part, (_, rows, across) = columns[:, element.number], element.windows
            if not element.covers_tile:
                part[:, : rows.start] = part[:, rows.stop :] = 0
                part[:, rows, : across.start] = part[:, rows, across.stop :] = 0
            part[element.windows] = x[element.pixels]
        return out

    def col2im(
        self, columns: Array, geometry: Geometry, tile: Tile, dx: Array, first: bool = False
    ) -> None:
        """Add each column back onto the pixel it was read from: the adjoint of :meth:`im2col`.

        Parameters
        ----------
        columns : (C, kH, kW, rows, columns, N) of the tile
        dx : (C, H, W, N), added to in place
        first
            Overwrite ``dx`` instead, with zeros in the pixels that no column was read from.
        """
        parts = _by_element(columns)
        if first:
            dx.fill(0)
        for element in geometry.elements(tile):
            dx[element.pixels] += parts[:, element.number][element.windows]

    def convolution(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        groups: int,
        relu: bool,
    ) -> Array:
        """Convolution without unfolding: a product for each kernel element.

        Parameters
        ----------
        x : (C, H, W, N)
        weight : (F, C / groups, kH, kW), contiguous
        bias : (F,), or None
        relu
            Return max(y, 0).

        Returns
        -------
        y : (F, oH, oW, N)
        """
        padded = _padded(self.xp, x, geometry)
        y = self.xp.zeros((len(weight), *geometry.output, x.shape[-1]), x.dtype)
        for row, column, window in _padded_windows(geometry):
            taps = weight[:, :, row, column].reshape(groups, -1, weight.shape[1])
            y += self.matmul(taps, _as_groups(padded[window], groups)).reshape(y.shape)
        if bias is not None or relu:
            self.add_bias(as_matrix(y), bias, slice(None), relu)
        return y

    def convolution_input_gradient(
        self, dy: Array, weight: Array, geometry: Geometry, groups: int
    ) -> Array:
        """The gradient dx (C, H, W, N) of :meth:`convolution` from dy (F, oH, oW, N)."""
        (top, _), (left, _) = geometry.padding
        (height, width), channels = geometry.input, weight.shape[1] * groups
        zeros = self.xp.zeros((channels, height, width, dy.shape[-1]), dy.dtype)
        padded, gradients = _padded(self.xp, zeros, geometry), _as_groups(dy, groups)
        shape = channels, *geometry.output, dy.shape[-1]
        for row, column, window in _padded_windows(geometry):
            taps = weight[:, :, row, column].reshape(groups, -1, weight.shape[1]).swapaxes(1, 2)
            padded[window] += self.matmul(taps, gradients).reshape(shape)
        return self.xp.ascontiguousarray(padded[:, top : top + height, left : left + width])

    def convolution_weight_gradient(
        self, dy: Array, x: Array, geometry: Geometry, groups: int
    ) -> Array:
        """The gradient dweight (F, C / groups, kH, kW) of :meth:`convolution`."""
        padded, gradients = _padded(self.xp, x, geometry), _as_groups(dy, groups)
        shape = len(dy), len(x) // groups, *geometry.kernel
        dweight = self.xp.empty(shape, sum_dtype(x.dtype))
        for row, column, window in _padded_windows(geometry):
            pixels = _as_groups(padded[window], groups).swapaxes(1, 2)
            dweight[:, :, row, column] = self.matmul(gradients, pixels).reshape(shape[:2])
        return dweight

    def add_bias(self, y: Array, bias: Array | None, columns: slice, relu: bool) -> None:
        """Add a bias to each row of ``y[:, columns]`` in place, then max(y, 0) if ``relu``.

        Parameters
        ----------
        y : (F, P), contiguous
        bias : (F,), or None
        """
        part = y[:, columns]
        if bias is not None:
            part += bias[:, None]
        if relu:
            self.xp.maximum(part, 0, out=part)

    def add_bias_to_tile(self, y: Array, bias: Array | None, tile: Tile, relu: bool) -> None:
        """:meth:`add_bias` to a tile of y (F, H, W, N): in one call if its rows are contiguous."""
        full_rows = (tile.left, tile.right) == (0, y.shape[2])
        step = tile.bottom - tile.top if full_rows else 1
        for top in range(tile.top, tile.bottom, step):
            run = tile_columns(tile._replace(top=top, bottom=top + step), *y.shape[2:])
            self.add_bias(as_matrix(y), bias, run, relu)

    def bias_backward(
        self, dy: Array, y: Array | None, needs_bias: bool
    ) -> tuple[Array, Array | None]:
        """The gradients of the input and the bias of :meth:`add_bias`; arrays are (F, ...).

        ``y`` is the output where a ReLU followed, else None.
        """
        rows = as_matrix(self.xp.ascontiguousarray(dy))
        if y is not None:
            dz, dbias = self.relu_backward(rows, as_matrix(y))
            return dz.reshape(dy.shape), dbias if needs_bias else None
        return dy, self.row_sums(rows) if needs_bias else None

    def relu_backward(self, dy: Array, y: Array) -> tuple[Array, Array]:
        """The gradient of a ReLU's input, and its sum over each row: the bias gradient.

        Parameters
        ----------
        dy, y : (F, P), contiguous

        Returns
        -------
        dz : (F, P)
        dbias : (F,)
        """
        xp = self.xp
        dz, dbias = xp.empty_like(dy), xp.empty(len(dy), dy.dtype)

        def compute(rows: slice) -> None:
            xp.multiply(dy[rows], y[rows] > 0, out=dz[rows])
            xp.sum(dz[rows], axis=1, out=dbias[rows])

        self.each(compute, self.channels(dy))
        return dz, dbias

    # -- normalisation ----------------------------------------------------------------------

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
        running: Running | None = None,
        fixed: bool = False,
        residual: Array | None = None,
        relu: bool = False,
        ceiling: float = math.inf,
    ) -> tuple[Array, Statistics]:
        """y = (x - mean) / sqrt(var + eps) * weight + bias + residual.

        With ``relu``, min(max(y, 0), ceiling).

        Mean and variance are those of each lane of each group, or ``running`` if ``fixed``; else
        ``running`` is updated in place, unless x is empty.

        Parameters
        ----------
        x : (A, K, P, N), contiguous
            A groups of K rows of P pixels in N lanes.
        weight, bias : (A or 1, K or 1), or None
        running : (A,)
        residual : of x's shape and dtype, contiguous, or None

        Returns
        -------
        y : of x's shape
        statistics
            For :meth:`normalize_backward`.
        """
        return norm.normalize(self, x, weight, bias, eps, running, fixed, residual, relu, ceiling)

    def moments(self, x: Array) -> Array:
        """What several processes add to find the mean and variance of all their numbers.

        Parameters
        ----------
        x : (A, K, P, 1), contiguous
            A groups.

        Returns
        -------
        (3, A), float64
            How many numbers each group has, their sum, and the sum of their squares.
        """
        return norm.moments(self, x)

    def normalize_backward(
        self,
        dy: Array,
        x: Array,
        y: Array | None,
        statistics: Statistics,
        weight: Array | None,
        fixed: bool = False,
        with_residual: bool = False,
        with_dx: bool = True,
        ceiling: float = math.inf,
    ) -> tuple[Array | None, Array, Array, Array | None]:
        """The gradients of :meth:`normalize`.

        With x̂ = (x - mean) * scale and g = dy * weight,
        dx = scale * (g - mean(g) - x̂ * mean(g * x̂)); scale * g with fixed statistics.

        Parameters
        ----------
        dy, x : (A, K, P, N), contiguous
        y
            The output where a ReLU followed, else None. The gradient at 0 and ``ceiling`` is 0.

        Returns
        -------
        dx : of x's shape, or None
        dweight, dbias : (A, K), at least float32
        dresidual : of x's shape, may be dy; or None
        """
        settings = fixed, with_residual, with_dx, ceiling
        return norm.normalize_backward(self, dy, x, y, statistics, weight, *settings)

    # -- pooling ----------------------------------------------------------------------------

    def max_pool2d(
        self, x: Array, geometry: Geometry, with_argmax: bool = True
    ) -> tuple[Array, Array | None]:
        """The largest pixel of each window and, with ``with_argmax``, its position in the window.

        Padding is never chosen, NaN always is, and the first of equal maxima wins.

        Parameters
        ----------
        x : (C, H, W, N)

        Returns
        -------
        y : (C, oH, oW, N)
        argmax : same shape, i * kW + j, as uint8 where that fits, else int32; or None
        """
        xp = self.xp
        y = xp.empty((len(x), *geometry.output, x.shape[-1]), x.dtype)
        small = math.prod(geometry.kernel) <= 256
        argmax = xp.empty(y.shape, "uint8" if small else "int32") if with_argmax else None

        def compute(part: slice) -> None:
            self._window_maxima(x[part], geometry, y[part])
            if argmax is not None:
                self._window_argmax(x[part], y[part], geometry, argmax[part])

        self.each(compute, self.channels(x))
        return y, argmax

    def _window_maxima(self, x: Array, geometry: Geometry, y: Array) -> None:
        xp = self.xp
        first, *rest = geometry.elements()
        if first.covers_tile:
            y[...] = x[first.pixels]
        else:
            y.fill(-xp.inf)
            rest = [first, *rest]
        for element in rest:
            part = y[element.windows]
            xp.maximum(part, x[element.pixels], out=part)

    def _may_hold_nan(self, y: Array) -> bool:
        """Whether y may contain NaN: True where checking costs more than handling it."""
        return True

    def _window_argmax(self, x: Array, y: Array, geometry: Geometry, argmax: Array) -> None:
        """Count the elements before the first that equals the maximum."""
        xp, nan = self.xp, self._may_hold_nan(y)
        argmax.fill(0)
        searching = xp.ones(y.shape, bool)
        for element in geometry.elements()[:-1]:
            pixels, part = x[element.pixels], searching[element.windows]
            part &= pixels != y[element.windows]
            if nan:
                part &= pixels == pixels  # NaN differs from itself and ends the search
            argmax += searching.view("uint8")

    def max_pool2d_backward(self, dy: Array, argmax: Array, geometry: Geometry) -> Array:
        """Route each window's gradient to the pixel that :meth:`max_pool2d` chose.

        Parameters
        ----------
        dy, argmax : (C, oH, oW, N)

        Returns
        -------
        dx : (C, H, W, N)
        """
        xp = self.xp
        shape = (len(dy), *geometry.input, dy.shape[-1])
        dx = xp.empty(shape, dy.dtype)

        def compute(part: slice) -> None:
            self._scatter_gradient(dy[part], argmax[part], geometry, dx[part])

        self.each(compute, self.channels(dx))
        return dx

    def _scatter_gradient(self, dy: Array, argmax: Array, geometry: Geometry, dx: Array) -> None:
        bits, chosen_bits = as_bits(dy), as_bits(dx)
        if geometry.covers_exactly:
            for e in geometry.elements():
                chosen = argmax[e.windows] == e.number
                self.xp.multiply(bits[e.windows], chosen, out=chosen_bits[e.pixels])
            return
        dx.fill(0)
        for e in geometry.elements():
            chosen = argmax[e.windows] == e.number
            dx[e.pixels] += (bits[e.windows] * chosen).view(dx.dtype)

    def avg_pool2d(self, x: Array, geometry: Geometry, include_pad: bool) -> Array:
        """The mean of each window: (C, H, W, N) to (C, oH, oW, N)."""
        y = self.xp.empty((len(x), *geometry.output, x.shape[-1]), x.dtype)
        dtype = sum_dtype(x.dtype)
        weights = self._window_weights(geometry, include_pad, dtype)

        def compute(part: slice) -> None:
            sums = y[part] if y.dtype == dtype else self.xp.empty(y[part].shape, dtype)
            sums.fill(0)
            for element in geometry.elements():
                sums[element.windows] += x[part][element.pixels]
            self.xp.multiply(sums, weights, out=y[part])

        self.each(compute, self.channels(x))
        return y

    def avg_pool2d_backward(self, dy: Array, geometry: Geometry, include_pad: bool) -> Array:
        """Spread each window's gradient evenly: (C, oH, oW, N) to (C, H, W, N)."""
        dx = self.xp.empty((len(dy), *geometry.input, dy.shape[-1]), dy.dtype)
        weights = self._window_weights(geometry, include_pad, dy.dtype)

        def compute(part: slice) -> None:
            scaled = dy[part] * weights
            dx[part].fill(0)
            for element in geometry.elements():
                dx[part][element.pixels] += scaled[element.windows]

        self.each(compute, self.channels(dx))
        return dx

    def _window_weights(self, geometry: Geometry, include_pad: bool, dtype: Any) -> Any:
        """1 / pixels per window: a number where all windows agree, else (oH, oW, 1)."""
        heights, widths = (geometry.counts(axis, include_pad) for axis in (0, 1))
        if len(set(heights)) == 1 and len(set(widths)) == 1:
            return 1 / (heights[0] * widths[0])
        return self.asarray([[[1 / (h * w)] for w in widths] for h in heights], dtype)

    # -- random -----------------------------------------------------------------------------

    def random_bits(self, count: int, key: int, part: Columns | None = None) -> Array:
        """``count`` random uint32; a key gives the same numbers on every device.

        Philox4x64-10 with the key (``key``, 0) and the counters 1, 2, ...; the low half of each
        64-bit word comes first. Source: Salmon et al. 2011 (Random123).

        Parameters
        ----------
        part : (start, width, total), or None
            The numbers are columns of a matrix with rows of ``total``: ``width`` of each row, from
            ``start`` on; ``count`` is a multiple of ``width``.
        """
        xp = self.xp
        if part is not None:
            start, width, total = part
            whole = self.random_bits(count // width * total, key).reshape(-1, total)
            return xp.ascontiguousarray(whole[:, start : start + width]).reshape(count)
        blocks = -(-count // 8)
        state = [xp.zeros(blocks, "uint64") for _ in range(4)]
        state[0] += xp.arange(1, blocks + 1, dtype="uint64")
        keys = [key & MASK64, 0]
        for _ in range(10):
            high0, low0 = _multiply_64(xp, state[0], _MULTIPLIERS[0])
            high1, low1 = _multiply_64(xp, state[2], _MULTIPLIERS[1])
            key0, key1 = map(xp.uint64, keys)
            state = [high1 ^ state[1] ^ key0, low1, high0 ^ state[3] ^ key1, low0]
            keys = [(k + w) & MASK64 for k, w in zip(keys, _WEYL, strict=True)]
        return xp.stack(state, axis=1).reshape(-1).view("uint32")[:count]

    def dropout_mask(
        self, count: int, key: int, p: float, dtype: Any, part: Columns | None = None
    ) -> Array:
        """A mask (count,): 0 with probability ``p``, else 1 / (1 - p); the same on every device.

        ``part`` is as in :meth:`random_bits`.
        """
        keep = self.random_bits(count, key, part) >= self.xp.uint32(dropout_threshold(p))
        mask = keep.astype(dtype)
        mask *= dropout_scale(p)
        return mask

    # -- losses -----------------------------------------------------------------------------

    def cross_entropy(
        self, x: Array, target: Array, with_slope: bool = True, ignore_index: int = -100
    ) -> tuple[Array, Array | None]:
        """-log softmax(x)[target] of each column and, with ``with_slope``, its gradient.

        Both are 0 in the columns whose target is ``ignore_index``.

        Parameters
        ----------
        x : (C, M), contiguous
        target : (M,), class indices

        Returns
        -------
        terms : (M,), NaN where a class does not exist
        slope : (C, M), softmax(x) - onehot(target); or None
        """
        xp, (classes, size) = self.xp, x.shape
        ignored = target == ignore_index
        some_ignored = self._may_hold_true(ignored)
        exists = (target >= 0) & (target < classes)
        chosen = xp.where(exists, target, 0), xp.arange(size)  # one index per column
        slope = x - x.max(axis=0)
        target_logits = xp.where(exists, slope[chosen], xp.nan)
        xp.exp(slope, out=slope)
        total = slope.sum(axis=0)
        terms = (xp.log(total) - target_logits).astype(x.dtype, copy=False)
        if some_ignored:
            xp.copyto(terms, 0, where=ignored)
        if not with_slope:
            return terms, None
        slope /= total
        slope[chosen] -= exists
        if some_ignored:
            xp.copyto(slope, 0, where=ignored)
        return terms, slope

    def mean_of_terms(self, terms: Array, target: Array, ignore_index: int) -> tuple[Array, Array]:
        """The mean of the terms (M,) of :meth:`cross_entropy` that are not ignored.

        Returns
        -------
        mean : array ()
            NaN without any terms.
        inverse : array ()
            1 / their number; 1 without any.
        """
        xp = self.xp
        count = (target != ignore_index).sum(dtype=terms.dtype)
        return xp.asarray(terms.sum() / count), 1 / xp.where(count == 0, 1, count)

    def add_class_totals(
        self,
        totals: Sequence[Array],
        x: Array,
        target: Array,
        loss: Array,
        ignore_index: int,
    ) -> None:
        """Add a batch to the sums of an epoch, in place.

        Parameters
        ----------
        totals
            Arrays (): the sum of the loss, of its dtype, and the numbers of examples that are not
            ignored and of correct answers among them, int64.
        x : (C, M)
            Logits.
        target : (M,), class indices
        loss : ()
            The mean over the examples that are not ignored.
        """
        xp, (total, divisor, right) = self.xp, totals
        counted = target != ignore_index
        count = counted.sum()
        total += xp.where(count == 0, 0, loss * count.astype(loss.dtype))
        divisor += count
        right += ((x.argmax(axis=0) == target) & counted).sum()

    def _may_hold_true(self, mask: Array) -> bool:
        """Whether any element may be true: True where checking costs more than handling it."""
        return True

    # -- optimisers -------------------------------------------------------------------------

    def optimizer_step(
        self,
        kernel: str,
        rule: Callable[[], Callable[..., None]],
        lists: Sequence[Sequence[Array]],
        settings: Mapping[str, Any],
        scaler: Array | None = None,
        whole: bool = False,
    ) -> None:
        """Update parameters and the state of their optimiser in place.

        Nothing changes if ``scaler`` (see :meth:`unscale`) holds an overflow.

        Parameters
        ----------
        kernel
            Name of an equivalent fused kernel, which a device may have; or "".
        rule
            Returns a function (p, g, *state) that updates a piece of each array in place.
        lists
            Parameters, gradients, then each kind of state, at least float32; unused kinds are
            empty. The rule sees parameters and gradients in the dtype of the state.
        settings
            The hyperparameters of the rule by name, for the kernel.
        scaler
            See :meth:`unscale`; or None.
        whole
            Whether the rule needs whole arrays; those of a kind of state may be of any shape.
        """
        compute = rule()
        if any(p.dtype.itemsize < 4 for p in lists[0]):
            compute = _in_float32(compute)
        with self._unless_overflow(scaler, [a for kind in (lists[0], *lists[2:]) for a in kind]):
            size = sys.maxsize if whole else self.optimizer_piece
            self._by_piece(compute, size, *filter(None, lists))

    def _by_piece(self, compute: Callable[..., None], size: int, *lists: Sequence[Array]) -> None:
        """Call ``compute`` with matching pieces of ``size`` elements, for the cache."""
        pieces: list[tuple[Array, ...]] = []
        for arrays in zip(*lists, strict=True):
            is_whole = arrays[0].ndim > 0 and arrays[0].size <= size
            if is_whole or not all(a.flags.c_contiguous for a in arrays):
                pieces.append(arrays)
                continue
            flat = [a.reshape(-1) for a in arrays]  # 0-d arrays too: they are updated in place
            for start in range(0, arrays[0].size, size):
                pieces.append(tuple(a[start : start + size] for a in flat))

        def update(part: slice) -> None:
            for piece in pieces[part]:
                compute(*piece)

        count = self.shares(8 * sum(p.size for p in lists[0]))
        self.each(update, split_range(len(pieces), count))

    @contextmanager
    def _unless_overflow(self, scaler: Any, changed: list[Array]) -> Iterator[None]:
        """Restore ``changed`` after the block if ``scaler`` holds an overflow."""
        before = [] if scaler is None else [array.copy() for array in changed]
        yield
        for array, old in zip(changed, before, strict=False):
            self.xp.copyto(array, old, where=scaler[OVERFLOW] != 0)

    def norm(self, arrays: Sequence[Array], norm_type: float = 2.0) -> Array:
        """The norm () of arrays, none of them empty, as one vector; at least float32."""
        xp = self.xp
        if norm_type == 2:
            wide = [x.astype(sum_dtype(x.dtype)) if x.itemsize < 4 else x for x in arrays]
            return xp.asarray(xp.sqrt(sum(xp.vdot(x, x) for x in wide)))
        return _norm(xp, xp.stack([_norm(xp, x, norm_type) for x in arrays]), norm_type)

    def clip_norm(self, grads: Sequence[Array], max_norm: float, norm_type: float) -> Array:
        """Scale gradients, none of them empty, in place by min(1, max_norm / (norm + 1e-6)).

        Returns
        -------
        norm : array ()
            Of all gradients as one vector, before; at least float32.
        """
        xp = self.xp
        total = self.norm(grads, norm_type)
        scale = xp.minimum(float(max_norm) / (total + 1e-6), 1.0)
        for g in grads:
            g *= scale.astype(g.dtype)
        return total

    def average(self, averages: Sequence[Array], arrays: Sequence[Array], rate: float) -> None:
        """Update running averages, at least float32, in place: a += rate * (x - a)."""
        for a, x in zip(averages, arrays, strict=True):
            if rate == 1:
                a[...] = x
            else:
                a += rate * (x - a)

    # -- loss scaling -----------------------------------------------------------------------

    def unscale(self, grads: Sequence[Array], scaler: Array) -> None:
        """Divide gradients by the loss scale in place; record in ``scaler`` if any is not finite.

        Parameters
        ----------
        scaler : (4,), float32
            Indexed by ``SCALE``, ``OVERFLOW`` (0 or 1), ``GOOD`` (steps in a row), ``SKIPPED``.
        """
        xp = self.xp
        for g in grads:
            g[...] = g * (1 / scaler[SCALE]).astype(sum_dtype(g.dtype))
            scaler[OVERFLOW] = xp.maximum(scaler[OVERFLOW], xp.any(~xp.isfinite(g)))

    def update_scale(self, scaler: Array, growth: float, backoff: float, interval: int) -> None:
        """Update the loss scale after a step.

        Multiply it by ``backoff`` after an overflow, by ``growth`` after ``interval`` good steps in
        a row.
        """
        xp, overflow = self.xp, scaler[OVERFLOW] != 0
        good = xp.where(overflow, 0, scaler[GOOD] + 1)
        grown = good >= interval
        scale, larger = scaler[SCALE], scaler[SCALE] * growth
        larger = xp.where(grown & xp.isfinite(larger), larger, scale)
        scaler[SCALE] = xp.where(overflow, scale * backoff, larger)
        scaler[GOOD] = xp.where(grown, 0, good)
        scaler[SKIPPED] += overflow
        scaler[OVERFLOW] = 0


def _norm(xp: Any, x: Array, norm_type: float) -> Array:
    """The norm of an array other than the 2-norm, computed in at least float32."""
    magnitude = xp.abs(x.astype(sum_dtype(x.dtype), copy=False))
    if norm_type == math.inf:
        return magnitude.max()
    return (magnitude**norm_type).sum() ** (1 / norm_type)


def _in_float32(compute: Callable[..., None]) -> Callable[..., None]:
    """The update of a parameter ``compute``, at least in float32: half types are for storage."""

    def update(p: Array, g: Array, *state: Array) -> None:
        dtype = sum_dtype(p.dtype)
        wide = p.astype(dtype, copy=False)
        compute(wide, g.astype(dtype, copy=False), *state)
        p[...] = wide

    return update


def dropout_threshold(p: float) -> int:
    """The smallest 32-bit random number that keeps an element."""
    return min(round(p * 2**32), 2**32 - 1)


def dropout_scale(p: float) -> float:
    """The scale factor of the remaining elements."""
    return 1 / (1 - p) if p < 1 else 0.0


def as_bits(values: Array) -> Array:
    """A view as integers: times a mask, it selects, where infinity or NaN times 0 would be NaN."""
    return values.view(f"int{8 * values.itemsize}")


def _padded(xp: Any, x: Array, geometry: Geometry) -> Array:
    """x (C, H, W, N) with its padding."""
    (top, bottom), (left, right) = geometry.padding
    channels, height, width, batch = x.shape
    padded = xp.zeros((channels, top + height + bottom, left + width + right, batch), x.dtype)
    padded[:, top : top + height, left : left + width] = x
    return padded


def _padded_windows(geometry: Geometry) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """The row and column of each kernel element, and the index of the padded pixels it reads."""
    height, width = geometry.kernel
    for row, column in itertools.product(range(height), range(width)):
        start = row * geometry.dilation[0], column * geometry.dilation[1]
        rows, columns = (
            slice(first, first + (count - 1) * step + 1, step)
            for first, count, step in zip(start, geometry.output, geometry.stride, strict=True)
        )
        yield row, column, (slice(None), rows, columns)


def _as_groups(image: Array, groups: int) -> Array:
    """(C, H, W, N) as (groups, C / groups, H·W·N)."""
    return image.reshape(groups, image.shape[0] // groups, math.prod(image.shape[1:]))


def _by_element(columns: Array) -> Array:
    """Columns (C, kH, kW, rows, columns, N) as (C, kH·kW, rows, columns, N)."""
    channels, *kernel, rows, across, count = columns.shape
    return columns.reshape(channels, math.prod(kernel), rows, across, count)


def _multiply_64(xp: Any, x: Array, factor: int) -> tuple[Array, Array]:
    """High and low 64 bits of the 128-bit product of uint64 ``x`` and a constant."""
    low32, shift = xp.uint64(_MASK32), xp.uint64(32)
    a, b = x >> shift, x & low32
    c, d = xp.uint64(factor >> 32), xp.uint64(factor & _MASK32)
    middle = a * d + ((b * d) >> shift)  # fits: (2^32-1)^2 + 2^32-1 < 2^64
    carry = (middle & low32) + b * c
    return a * c + (middle >> shift) + (carry >> shift), x * xp.uint64(factor)


# -- the backend of an array ---------------------------------------------------------------------

#: the backend of each array type, or a function from an array to its backend
by_type: dict[type, Backend | Callable[[Any], Backend]] = {}
#: the same for the ``ndarray`` of a library, by name, as it may be imported later
by_library: dict[str, Callable[[Any], Backend]] = {}


def register(array_type: type, owner: Backend | Callable[[Any], Backend]) -> None:
    """Register ``owner`` as the backend of ``array_type`` and its subclasses.

    Parameters
    ----------
    array_type
        A class.
    owner
        A backend, or a function from an array to its backend. ``backends.add_device``
        registers a name for ``backends.get`` and ``Module.to``.
    """
    by_type[array_type] = owner


def find(array: Any) -> Backend | None:
    """The backend of an array, or None if it is not an array of a known library."""
    owner = by_type.get(type(array)) or _discover(type(array))
    if owner is None or isinstance(owner, Backend):
        return owner
    return owner(array)


def of(array: Any) -> Backend:
    """The backend of an array.

    Raises
    ------
    DTypeError
        Not an array of a known library.
    """
    backend = find(array)
    if backend is None:
        raise DTypeError(
            f"expected a NumPy or CuPy array, got {type(array).__name__}; convert it with "
            "numpy.asarray(...) first"
        )
    return backend


def copy(array: Array) -> Array:
    """A copy on the same device, whichever is current."""
    with of(array).active():
        return array.copy()


def of_each(arrays: Sequence[Any]) -> list[Backend | None]:
    """:func:`of` for each array, None for None."""
    return [None if array is None else of(array) for array in arrays]


def _discover(array_type: type) -> Backend | Callable[[Any], Backend] | None:
    """Find the owner of an unregistered type, and register the type.

    Nothing is imported: a library that is not imported cannot have created the array.
    """
    for name, library_owner in by_library.items():
        if name in sys.modules:
            by_type.setdefault(sys.modules[name].ndarray, library_owner)
    for known, owner in list(by_type.items()):
        if issubclass(array_type, known):
            by_type[array_type] = owner
            return owner
    return None
