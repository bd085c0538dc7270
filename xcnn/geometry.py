"""Output sizes, padding and window positions; no other module computes them.

Along one axis, window ``o`` and kernel element ``k`` read the input at

    o * stride + k * dilation - padding_begin

Everything below follows from this formula. Lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .checks import (
    Padding,
    Pair,
    check_crop,
    check_output_padding,
    check_padding,
    check_size,
    memoize,
    pair,
    per_axis,
)
from .errors import ShapeError
from .tiling import Tile, tile_grid

Span = tuple[slice, slice]


class Element(NamedTuple):
    """One kernel element: its row-major number, and index tuples into (C, H, W, N) arrays.

    ``windows`` selects the windows of a tile that read a real pixel here, ``pixels`` those pixels;
    ``covers_tile`` says whether that is all windows of the tile.
    """

    number: int
    windows: tuple[slice, slice, slice]
    pixels: tuple[slice, slice, slice]
    covers_tile: bool


class Geometry(NamedTuple):
    """The windows of a 2-D convolution or pooling; every pair is (height, width).

    Attributes
    ----------
    input, output : size of the image and of the result
    kernel, stride, dilation : as in PyTorch
    padding : ((top, bottom), (left, right))
    """

    input: Pair
    output: Pair
    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair

    @property
    def taken(self) -> Geometry:
        """The same windows, where a stride or dilation that is never taken, perhaps huge, is 1."""
        stride = [s if n > 1 else 1 for s, n in zip(self.stride, self.output, strict=True)]
        dilation = [d if n > 1 else 1 for d, n in zip(self.dilation, self.kernel, strict=True)]
        return self._replace(stride=(stride[0], stride[1]), dilation=(dilation[0], dilation[1]))

    def span(self, axis: int, k: int, start: int = 0, stop: int | None = None) -> Span:
        """The windows that read a real pixel at kernel element ``k``, and those pixels.

        Slices of equal length: windows within ``start:stop``, relative to ``start``, and pixels.
        The remaining windows read padding.
        """
        stride, size = self.stride[axis], self.input[axis]
        shift = k * self.dilation[axis] - self.padding[axis][0]
        stop = self.output[axis] if stop is None else stop
        first = max(start, -(shift // stride))  # ceil(-shift / stride)
        last = max(first, min(stop, (size - 1 - shift) // stride + 1))
        begin = max(0, first * stride + shift)
        end = begin + (last - first - 1) * stride + 1 if last > first else begin
        return slice(first - start, last - start), slice(begin, end, stride)

    def tiles(self, positions: int) -> Iterator[Tile]:
        """Cut the output into tiles of at most ``positions`` windows (at least one), in order.

        A tile is a band of full rows or, if a row is too long, part of one row: contiguous memory
        per channel of a batch-last array.
        """
        return tile_grid(self.output, positions // self.output[1], positions)

    @lru_cache(maxsize=1024)
    def spans(self, axis: int, start: int, stop: int) -> tuple[Span, ...]:
        """:meth:`span` of every kernel element along ``axis``."""
        return tuple(self.span(axis, k, start, stop) for k in range(self.kernel[axis]))

    @lru_cache(maxsize=1024)
    def elements(self, tile: Tile | None = None) -> tuple[Element, ...]:
        """All kernel elements in row-major order, for the windows of ``tile`` (default: all)."""
        tile = tile or Tile(0, self.output[0], 0, self.output[1])
        channels = slice(None)
        all_windows = tuple(slice(0, length) for length in tile.shape)
        elements = []
        for i, (rows, y) in enumerate(self.spans(0, tile.top, tile.bottom)):
            for j, (columns, x) in enumerate(self.spans(1, tile.left, tile.right)):
                windows, pixels = (channels, rows, columns), (channels, y, x)
                covers_tile = windows[1:] == all_windows
                elements.append(Element(i * self.kernel[1] + j, windows, pixels, covers_tile))
        return tuple(elements)

    def counts(self, axis: int, include_pad: bool) -> list[int]:
        """Pixels per window along ``axis``: the divisors of an average pool.

        Padding counts if ``include_pad``; pixels that ceil_mode reads beyond it never do.
        """
        size, (begin, end) = self.input[axis], self.padding[axis]
        low, high = (-begin, size + end) if include_pad else (0, size)
        starts = [o * self.stride[axis] - begin for o in range(self.output[axis])]
        return [min(s + self.kernel[axis], high) - max(s, low) for s in starts]

    @property
    @lru_cache(maxsize=1024)
    def covers_exactly(self) -> bool:
        """Whether each pixel lies in exactly one window (no overlap, no gap, no padding)."""
        tiled = tuple(o * s for o, s in zip(self.output, self.stride, strict=True))
        is_plain = self.dilation == (1, 1) and self.padding == ((0, 0), (0, 0))
        return is_plain and self.stride == self.kernel and tiled == self.input


@memoize
def window_geometry(
    input_size: Pair,
    kernel: Any,
    stride: Any = 1,
    padding: Padding = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    kernel_name: str = "kernel_size",
    axes: tuple[str, str] = ("height", "width"),
) -> Geometry:
    """The :class:`Geometry` of a 2-D window operation on an image of ``input_size``.

    Output size per axis: ``floor((size + begin + end - dilation*(kernel-1) - 1) / stride) + 1``.
    With ``"same"`` it is ``ceil(size / stride)``, with an odd pixel of padding at the end. With
    ``ceil_mode`` the division rounds up, but a window must start inside the input or its leading
    padding (PyTorch's rule).

    Raises
    ------
    ArgumentError
        A value is out of range.
    ShapeError
        The dilated kernel is larger than the padded input.
    """
    resolved = check_padding(padding)
    kernel, stride = pair(kernel, kernel_name), pair(stride, "stride")
    dilation = pair(dilation, "dilation")
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if isinstance(resolved, str):
        height, width = (_same(n, e, s) for n, e, s in zip(input_size, extent, stride, strict=True))
        resolved = height, width
    sides = zip(input_size, extent, stride, resolved, strict=True)
    output = tuple(_output_size(*side, ceil_mode) for side in sides)
    for axis, name in enumerate(axes):
        if input_size[axis] < 1 or output[axis] < 1:
            raise ShapeError(
                f"input of {name} {input_size[axis]} with padding {resolved[axis]} is smaller than "
                f"the kernel, which covers {extent[axis]} (kernel {kernel}, dilation {dilation}); "
                "use a larger image, a smaller kernel or more padding"
            )
    # with ceil_mode, a kernel may be larger than the padded image, where it reads nothing
    lengths = zip(kernel, input_size, resolved, dilation, strict=True)
    height, width = (min(k, -(-(n + sum(p)) // d)) for k, n, p, d in lengths)
    check_size(kernel_name, kernel, (height * width,), visited=True)
    return Geometry(input_size, (output[0], output[1]), (height, width), stride, resolved, dilation)


def _same(size: int, extent: int, stride: int) -> Pair:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def _output_size(size: int, extent: int, stride: int, padding: Pair, ceil_mode: bool) -> int:
    room = size + sum(padding) - extent
    if not ceil_mode:
        return room // stride + 1
    output = -(-room // stride) + 1
    # the last window must start inside the input or its leading padding
    return output - 1 if (output - 1) * stride >= size + padding[0] else output


def transposed_geometry(
    input_size: Pair,
    kernel: Any,
    stride: Any = 1,
    padding: Padding = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    kernel_name: str = "kernel_size",
) -> Geometry:
    """The :class:`Geometry` of the convolution that is transposed.

    Its ``output`` is the transposed convolution's input, of ``input_size``; its ``input`` is the
    result, ``(size - 1)*stride - begin - end + dilation*(kernel-1) + output_padding + 1`` per axis.

    Raises
    ------
    ArgumentError
        A value is out of range.
    ShapeError
        The result would be empty.
    """
    kernel, stride = pair(kernel, kernel_name), pair(stride, "stride")
    sides, dilation = check_crop(padding), pair(dilation, "dilation")
    extra = check_output_padding(output_padding, stride, dilation)
    axes = zip(input_size, kernel, stride, sides, extra, dilation, strict=True)
    height, width = (
        (n - 1) * s - sum(p) + d * (k - 1) + m + 1 if n else 0 for n, k, s, p, m, d in axes
    )
    if min(height, width) < 1:
        raise ShapeError(
            f"an input of size {input_size} would give an image of size {(height, width)} (kernel "
            f"{kernel}, stride {stride}, padding {sides}); use a larger image or less padding"
        )
    return Geometry((height, width), input_size, kernel, stride, sides, dilation)


def spatial_geometry(
    make: Callable[..., Geometry],
    input_size: Sequence[int],
    padding: Any,
    kernel_name: str = "kernel_size",
    ceil_mode: bool | None = None,
    **settings: Any,
) -> tuple[Geometry, ...]:
    """The windows of signals, images or volumes, whose sizes have one to three axes.

    A signal is an image one pixel high. Volumes have two: the windows along the depth, as of an
    image one pixel wide, and those of each frame. :func:`along_axes` joins them.

    Parameters
    ----------
    make
        :func:`window_geometry` or :func:`transposed_geometry`, whose errors it raises.
    **settings
        kernel, stride, dilation, and output_padding for the latter.
    """
    ndim = len(input_size)
    sides: Any = check_padding(padding, ndim)
    fillers = {name: int(name != "output_padding") for name in settings}
    for name, least in fillers.items():
        title = kernel_name if name == "kernel" else name
        settings[name] = per_axis(settings[name], title, ndim, least)
    more: dict[str, Any] = {} if ceil_mode is None else {"ceil_mode": ceil_mode}

    def of(select: Callable[[Any, Any], Any], **names: Any) -> Geometry:
        values = {name: select(settings[name], filler) for name, filler in fillers.items()}
        values["padding"] = sides if isinstance(sides, str) else select(sides, (0, 0))
        return make(
            select(tuple(input_size), 1), kernel_name=kernel_name, **values, **more, **names
        )

    if ndim == 1:
        return (of(lambda values, filler: (filler, *values)),)
    if ndim == 2:
        return (of(lambda values, _: values),)
    names = {} if make is transposed_geometry else {"axes": ("depth", "width")}
    deep = of(lambda values, filler: (values[0], filler), **names)
    return deep, of(lambda values, _: values[1:])


def along_axes(windows: Sequence[Geometry], name: str, ndim: int) -> tuple:
    """What :func:`spatial_geometry` returned, as the values of an attribute for each axis."""
    values = getattr(windows[-1], name)
    return (getattr(windows[0], name)[0], *values) if len(windows) == 2 else values[-ndim:]


def output_padding_for(
    output_size: Any, input_size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Any:
    """The ``output_padding`` for which :func:`transposed_geometry` gives ``output_size``.

    Raises
    ------
    ShapeError
        No ``output_padding`` below the stride gives that size.
    """
    settings = {"kernel": kernel, "stride": stride, "dilation": dilation}
    windows = spatial_geometry(transposed_geometry, input_size, padding, **settings)
    smallest = along_axes(windows, "input", len(input_size))
    extra = tuple(size - least for size, least in zip(output_size, smallest, strict=True))
    if not all(0 <= m < s for m, s in zip(extra, stride, strict=True)):
        largest = tuple(least + s - 1 for least, s in zip(smallest, stride, strict=True))
        raise ShapeError(
            f"output_size={output_size}: an input of size {tuple(input_size)} gives sizes from "
            f"{smallest} to {largest}"
        )
    return extra


@lru_cache(maxsize=1024)
def adaptive_spans(size: int, output: int) -> list[Pair]:
    """Start and stop of each of ``output`` windows that cover ``size`` pixels of an axis."""
    return [(o * size // output, -(-(o + 1) * size // output)) for o in range(output)]


@lru_cache(maxsize=1024)
def adaptive_geometry(size: tuple[int, ...], output: tuple[int, ...]) -> Geometry | None:
    """The equivalent fixed windows along each axis, if all have the same size and spacing."""
    axes = []
    for pixels, count in zip(size, output, strict=True):
        spans = adaptive_spans(pixels, count)
        length, step = spans[0][1], spans[1][0] if count > 1 else pixels
        if step < 1 or spans != [(o * step, o * step + length) for o in range(count)]:
            return None
        axes.append((pixels, count, length, step, (0, 0), 1))
    return Geometry(*zip(*axes, strict=True))


def borders(mode: str, size: int, sides: Pair) -> list[tuple[slice, slice]]:
    """How to fill the padding of an axis of ``size`` pixels: indices into the padded axis.

    ``"reflect"`` mirrors at the outermost pixel, which is not repeated; ``"replicate"`` repeats it;
    ``"circular"`` wraps around.

    Returns
    -------
    list of (border, source)
        Slices of equal length; with ``"replicate"``, ``source`` is a single pixel.

    Raises
    ------
    ShapeError
        There are too few pixels to copy.
    """
    begin, end = sides
    stop, width = begin + size, max(sides)
    limit = {"reflect": max(0, size - 1), "circular": size}.get(mode, width if size else 0)
    if width > limit:
        raise ShapeError(
            f"padding={sides} along an axis of {size} pixels: mode={mode!r} allows at most {limit} "
            "on each side; pad less"
        )
    before, after = slice(0, begin), slice(stop, stop + end)
    if mode == "reflect":
        after = slice(stop + end - 1, stop - 1, -1)
        return [(before, slice(2 * begin, begin, -1)), (after, slice(stop - 1 - end, stop - 1))]
    if mode == "replicate":
        return [(before, slice(begin, begin + 1)), (after, slice(stop - 1, stop))]
    return [(before, slice(size, stop)), (after, slice(begin, begin + end))]
