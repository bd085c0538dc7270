"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

from ....checks import per_axis
from ....extend import onnx_emitter
from ....geometry import transposed_geometry, window_geometry
from ..writer import Value, Writer
from .spatial import channels_first, geometry, in_format, window_attributes


@onnx_emitter("conv1d", "conv2d", "conv3d")
def conv(
    w: Writer, input: Value, weight: Value, bias: Value | None, groups: int, **settings: Any
) -> str:
    relu, data_format = settings.pop("relu", False), settings.pop("data_format", "NCHW")
    g = geometry(window_geometry, input, data_format, kernel=weight.shape[2:], **settings)
    x, attributes = channels_first(w, input, data_format), window_attributes(g)
    y = w.node("Conv", x, weight, bias, group=int(groups), **attributes)
    return in_format(w, w.node("Relu", y) if relu else y, data_format)


@onnx_emitter("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(
    w: Writer, input: Value, weight: Value, bias: Value | None, groups: int, **settings: Any
) -> str:
    data_format, ndim = settings.pop("data_format", "NCHW"), input.ndim - 2
    g = geometry(transposed_geometry, input, data_format, kernel=weight.shape[2:], **settings)
    extra, name = settings["output_padding"], "output_padding"
    attributes = window_attributes(g)
    attributes[name] = list(per_axis(extra, name, ndim, 0))
    x = channels_first(w, input, data_format)
    y = w.node("ConvTranspose", x, weight, bias, group=int(groups), **attributes)
    return in_format(w, y, data_format)
