"""Between the two orders of axes of images: the operators of ONNX take (N, C, H, W) only."""

from __future__ import annotations

from typing import Any

from ....checks import Pair
from ..writer import Value, Writer


def channels_first(w: Writer, input: Value, data_format: str) -> Any:
    """Images as (N, C, H, W)."""
    return input if data_format == "NCHW" else w.node("Transpose", input, perm=[0, 3, 1, 2])


def as_given(w: Writer, y: str, data_format: str) -> str:
    """Images (N, C, H, W) as ``data_format`` says."""
    return y if data_format == "NCHW" else w.node("Transpose", y, perm=[0, 2, 3, 1])


def image(input: Value, data_format: str) -> Pair:
    """Height and width."""
    _, *axes = input.shape
    return (axes[1], axes[2]) if data_format == "NCHW" else (axes[0], axes[1])


def pads(padding: tuple[Pair, ...]) -> list[int]:
    """All beginnings, then all ends, as ONNX has it."""
    return [p[0] for p in padding] + [p[1] for p in padding]
