"""Pooling.

``ceil_mode`` is written as padding at the end, because its meaning differs between versions of ONNX
and between runtimes.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ....checks import Pair, check_output_size
from ....extend import onnx_emitter
from ....geometry import Geometry, adaptive_geometry, adaptive_spans, window_geometry
from ..writer import CannotExportError, Value, Writer
from .spatial import (
    along,
    channels_first,
    geometry,
    in_format,
    pads,
    spatial_size,
    window_attributes,
)


@onnx_emitter(*(f"{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)))
def pool(w: Writer, input: Value, data_format: str = "NCHW", **settings: Any) -> Any:
    include_pad, divisor = (
        settings.pop(f"{n}", None) for n in ("count_include_pad", "divisor_override")
    )
    with_indices = settings.pop("return_indices", False)
    kernel, stride = settings.pop("kernel_size"), settings.pop("stride")
    settings |= {"kernel": kernel, "stride": stride or kernel}
    g = geometry(window_geometry, input, data_format, **{"dilation": 1, **settings})
    x = channels_first(w, input, data_format)
    if with_indices:
        found = _max_pool(w, x, input, g, with_indices)
        return [in_format(w, y, data_format) for y in found]
    if include_pad is None:
        return in_format(w, _max_pool(w, x, input, g), data_format)
    if divisor is not None:
        x, scale = _pad(w, x, input, _padding_at_end(g), 0), math.prod(g.kernel) / divisor
        attributes = window_attributes(g, ((0, 0),) * len(g.kernel))
        del attributes["dilations"]
        y = w.node("Mul", w.node("AveragePool", x, **attributes), w.like(input, scale))
        return in_format(w, y, data_format)
    return in_format(w, _avg_pool(w, x, input, g, include_pad), data_format)


def _max_pool(w: Writer, x: Any, input: Value, g: Geometry, with_indices: bool = False) -> Any:
    """With ``with_indices``, ONNX numbers the pixels of the whole batch, xcnn those of an image."""
    padding = _padding_at_end(g)
    if any(max(p) >= k for p, k in zip(padding, g.kernel, strict=True)):  # runtimes reject it
        if with_indices:
            raise CannotExportError(f"return_indices=True with padding {padding}")
        x = _pad(w, x, input, padding, -math.inf)
        padding = ((0, 0),) * len(padding)
    attributes = window_attributes(g, padding)
    if not with_indices:
        return w.node("MaxPool", x, **attributes)
    y, indices = w.node("MaxPool", x, outputs=2, **attributes)
    return [y, w.node("Mod", indices, w.number(math.prod(g.input), "int64"))]


def _avg_pool(w: Writer, x: Any, input: Value, g: Geometry, include_pad: bool) -> str:
    """Padding that counts in the mean becomes a Pad node if there is also padding that does not."""
    padding, counted = _padding_at_end(g), g.padding
    if include_pad and padding != counted and any(map(any, counted)):
        x = _pad(w, x, input, counted, 0)
        padding = tuple((0, p[1] - c[1]) for p, c in zip(padding, counted, strict=True))
    attributes = window_attributes(g, padding)
    del attributes["dilations"]
    include = int(include_pad and padding == counted)
    return w.node("AveragePool", x, count_include_pad=include, **attributes)


def _padding_at_end(g: Geometry) -> tuple[Pair, ...]:
    """The padding, extended at the end to cover the last window."""
    padding = []
    for axis, (begin, end) in enumerate(g.padding):
        extent = g.dilation[axis] * (g.kernel[axis] - 1) + 1
        covered = (g.output[axis] - 1) * g.stride[axis] + extent
        padding.append((begin, max(end, covered - g.input[axis] - begin)))
    return tuple(padding)


def _pad(w: Writer, x: Any, input: Value, padding: tuple[Pair, ...], value: float) -> str:
    widths = pads(((0, 0), (0, 0), *padding))
    return w.node("Pad", x, w.ints(widths), w.like(input, value))


# -- adaptive ---------------------------------------------------------------------------------


def _adaptive_pool(
    w: Writer, input: Value, output_size: Any, data_format: str = "NCHW", *, type: str, **given: Any
) -> str:
    if given.get("return_indices"):
        raise CannotExportError("return_indices=True; max_pool2d has indices")
    size = spatial_size(input, data_format)
    output = tuple(n or size[i] for i, n in enumerate(check_output_size(output_size, len(size))))
    spans = [adaptive_spans(n, count) for n, count in zip(size, output, strict=True)]
    x, regular = channels_first(w, input, data_format), adaptive_geometry(size, output)
    if max(output) == 1:
        y = w.node(f"Global{type}", x)
    elif regular is not None:
        pool = _max_pool if type == "MaxPool" else partial(_avg_pool, include_pad=True)
        y = pool(w, x, input, regular)
    else:
        y = x
        for axis, (pixels, windows) in enumerate(zip(size, spans, strict=True), 2):
            if len(windows) == pixels:
                continue
            if type == "MaxPool":
                y = _window_maxima(w, y, axis, windows)
            else:
                y = along(w, y, axis, input, _means(pixels, windows))
    return in_format(w, y, data_format)


for _n in (1, 2, 3):
    onnx_emitter(f"adaptive_avg_pool{_n}d")(partial(_adaptive_pool, type="AveragePool"))
    onnx_emitter(f"adaptive_max_pool{_n}d")(partial(_adaptive_pool, type="MaxPool"))


def _means(size: int, windows: list[Pair]) -> Any:
    """The matrix (output, size) that averages each window."""
    matrix = np.zeros((len(windows), size))
    for row, (start, stop) in zip(matrix, windows, strict=True):
        row[start:stop] = 1 / (stop - start)
    return matrix


def _window_maxima(w: Writer, x: Any, axis: int, windows: list[Pair]) -> str:
    """The maximum of each window along an axis."""
    maxima = []
    for start, stop in windows:
        window = w.node("Slice", x, w.ints([start]), w.ints([stop]), w.ints([axis]))
        maxima.append(w.node("ReduceMax", window, w.ints([axis]), keepdims=1))
    return w.node("Concat", *maxima, axis=axis)
