"""Pooling.

``ceil_mode`` is written as padding at the end, because its meaning differs between versions of ONNX
and between runtimes.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from .... import functional as F
from ....checks import Pair, check_output_size
from ....extend import onnx_emitter
from ....geometry import Geometry, adaptive_geometry, adaptive_spans, window_geometry
from ..writer import CannotExportError, Value, Writer
from .spatial import channels_first, geometry, in_format, pads, spatial_size, window_attributes


@onnx_emitter("max_pool2d", "max_pool1d", "avg_pool2d", "avg_pool1d")
def pool(w: Writer, input: Value, data_format: str = "NCHW", **settings: Any) -> str:
    _check_exportable(settings)
    include_pad = settings.pop("count_include_pad", None)
    kernel, stride = settings.pop("kernel_size"), settings.pop("stride")
    settings |= {"kernel": kernel, "stride": kernel if stride is None else stride}
    g = geometry(window_geometry, input, data_format, **{"dilation": 1, **settings})
    x = channels_first(w, input, data_format)
    if include_pad is None:
        return in_format(w, _max_pool(w, x, input, g), data_format)
    return in_format(w, _avg_pool(w, x, input, g, include_pad), data_format)


def _check_exportable(settings: dict[str, Any]) -> None:
    """Refuse what ONNX has no attribute for."""
    for name in ("return_indices", "divisor_override"):
        if value := settings.pop(name, None):
            raise CannotExportError(f"{name}={value!r}")


def _max_pool(w: Writer, x: Any, input: Value, g: Geometry) -> str:
    ndim = input.ndim - 2
    padding = _padding_at_end(g)
    if any(max(p) >= k for p, k in zip(padding, g.kernel, strict=True)):  # runtimes reject it
        x = _pad(w, x, input, padding[-ndim:], -math.inf)
        padding = ((0, 0), (0, 0))
    return w.node("MaxPool", x, **window_attributes(g, ndim, padding))


def _avg_pool(w: Writer, x: Any, input: Value, g: Geometry, include_pad: bool) -> str:
    """Padding that counts in the mean becomes a Pad node if there is also padding that does not."""
    ndim, padding, counted = input.ndim - 2, _padding_at_end(g), g.padding
    if include_pad and padding != counted and any(map(any, counted)):
        x = _pad(w, x, input, counted[-ndim:], 0)
        padding = tuple((0, p[1] - c[1]) for p, c in zip(padding, counted, strict=True))
    attributes = window_attributes(g, ndim, padding)
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
    w: Writer, input: Value, output_size: Any, data_format: str, *, type: str, **settings: Any
) -> str:
    _check_exportable(settings)
    size = spatial_size(input, data_format)
    output = tuple(n or size[i] for i, n in enumerate(check_output_size(output_size)))
    spans = [adaptive_spans(n, count) for n, count in zip(size, output, strict=True)]
    x, regular = channels_first(w, input, data_format), adaptive_geometry(size, output)
    if output == (1, 1):
        y = w.node(f"Global{type}", x)
    elif regular is not None:
        pool = _max_pool if type == "MaxPool" else partial(_avg_pool, include_pad=True)
        y = pool(w, x, input, regular)
    elif type == "MaxPool":
        y = _window_maxima(w, _window_maxima(w, x, 2, size[0], spans[0]), 3, size[1], spans[1])
    else:
        rows, columns = map(_means, size, output)
        y = w.node("MatMul", w.like(input, rows), w.node("MatMul", x, w.like(input, columns.T)))
    return in_format(w, y, data_format)


onnx_emitter("adaptive_avg_pool2d")(partial(_adaptive_pool, type="AveragePool"))
onnx_emitter("adaptive_max_pool2d")(partial(_adaptive_pool, type="MaxPool"))


def _means(size: int, output: int) -> Any:
    """The matrix (output, size) that averages each window: adaptive pooling of the identity."""
    return F.adaptive_avg_pool2d(np.eye(size)[None, None], (output, None)).numpy()[0, 0]


def _window_maxima(w: Writer, x: Any, axis: int, size: int, spans: list[Pair]) -> Any:
    """The maximum of each window along an axis, by one MaxPool per window."""
    if size == len(spans):
        return x
    maxima = []
    for start, stop in spans:
        window = w.node("Slice", x, w.ints([start]), w.ints([stop]), w.ints([axis]))
        kernel = [stop - start, 1] if axis == 2 else [1, stop - start]
        maxima.append(w.node("MaxPool", window, kernel_shape=kernel))
    return w.node("Concat", *maxima, axis=axis)
