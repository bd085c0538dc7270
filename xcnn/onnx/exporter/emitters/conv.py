"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

from ....checks import check_output_padding, pair, single
from ....functional.conv import across
from ....geometry import Geometry, transposed, windows
from ..writer import Value, Writer, emits
from .spatial import as_given, channels_first, image, pads


@emits("conv2d")
def conv2d(
    w: Writer,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    data_format: str,
    relu: bool,
) -> str:
    size = image(input, data_format)
    geometry = windows(size, weight.shape[2:], stride, padding, dilation)
    x = channels_first(w, input, data_format)
    y = w.node("Conv", x, weight, bias, group=int(groups), **_settings(geometry, 2))
    return as_given(w, w.node("Relu", y) if relu else y, data_format)


@emits("conv1d")
def conv1d(
    w: Writer,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> str:
    steps, gaps = (1, single(stride, "stride")), (1, single(dilation, "dilation"))
    geometry = windows((1, input.shape[2]), (1, weight.shape[2]), steps, across(padding), gaps)
    return w.node("Conv", input, weight, bias, group=int(groups), **_settings(geometry, 1))


@emits("conv_transpose2d")
def conv_transpose2d(
    w: Writer,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    data_format: str,
) -> str:
    size, kernel = image(input, data_format), weight.shape[2:]
    geometry = transposed(size, kernel, stride, padding, output_padding, dilation)
    more = check_output_padding(output_padding, geometry.stride, geometry.dilation)
    x = channels_first(w, input, data_format)
    y = w.node(
        "ConvTranspose",
        x,
        weight,
        bias,
        group=int(groups),
        output_padding=list(more),
        **_settings(geometry, 2),
    )
    return as_given(w, y, data_format)


@emits("conv_transpose1d")
def conv_transpose1d(
    w: Writer,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> str:
    steps, gaps = (1, single(stride, "stride")), (1, single(dilation, "dilation"))
    more = single(output_padding, "output_padding", 0)
    kernel = (1, weight.shape[2])
    geometry = transposed((1, input.shape[2]), kernel, steps, across(padding), (0, more), gaps)
    settings = _settings(geometry, 1)
    return w.node(
        "ConvTranspose", input, weight, bias, group=int(groups), output_padding=[more], **settings
    )


def _settings(geometry: Geometry, axes: int) -> dict[str, Any]:
    """The attributes of the windows, along the last one or two axes."""
    return {
        "kernel_shape": list(pair(geometry.kernel, "kernel"))[-axes:],
        "strides": list(geometry.stride)[-axes:],
        "pads": pads(geometry.padding[-axes:]),
        "dilations": list(geometry.dilation)[-axes:],
    }
