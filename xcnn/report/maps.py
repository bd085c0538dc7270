"""What is inside a network: filters, feature maps, what it looks at, distributions of layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import explain
from ..arrays import Array
from ..errors import XcnnError
from ..nn import Conv2d, Module
from . import pictures
from .architecture import Graph
from .pictures import PALETTES, Picture, levels, sheet, shrink

SIZE = 128  # pixels of an explained picture, at most
#: maps of a layer, filters, channels of filters
MAX_MAPS, MAX_FILTERS, MAX_CHANNELS = 16, 64, 16
MAX_LAYERS = 2  # whose filters are shown
_BINS = 30
#: multiply-adds of the passes for a section, about: large networks get fewer examples
_BUDGET = 40e9
#: passes through the network that explain one picture; a pass backward counts as two
PASSES = 200


def filters(model: Module) -> list[dict[str, Any]]:
    """The filters of the first convolutions, as sheets.

    Filters of three channels, of a first layer, are colours with 0 in the middle grey; others have
    a column for each filter and a row for each channel, blue below 0, white at 0, red above.
    """
    convolutions = [p for p, m in model.named_modules() if isinstance(m, Conv2d)][:MAX_LAYERS]
    result = []
    for path in convolutions:
        weights = explain.filters(model, path)
        _, channels, *size = weights.shape
        if size == [1, 1]:
            continue
        shown = weights[:MAX_FILTERS]
        largest = float(np.nan_to_num(np.abs(shown)).max()) or 1.0
        if channels == 3:
            colours = PALETTES["grey"][np.minimum(levels(shown, -largest, largest), 254), 0]
            tiles = list(np.moveaxis(colours, 1, -1))
            columns = min(8, len(tiles))
        else:
            shown = shown[: MAX_FILTERS if channels == 1 else MAX_MAPS, :MAX_CHANNELS]
            scaled = levels(shown, -largest, largest)
            tiles = list(np.moveaxis(scaled, 1, 0).reshape(-1, *size))
            columns = min(8, len(tiles)) if channels == 1 else len(shown)
        result.append(
            {
                "path": path,
                "shape": list(weights.shape),
                "filters": len(shown),
                "channels": min(channels, shown.shape[1]),
                "is_grid": channels not in (1, 3),
                "columns": columns,
                "largest": largest,
                "sheet": sheet(tiles, columns, "signed"),
            }
        )
    return result


def feature_maps(model: Module, x: Array) -> list[list[dict[str, Any]]]:
    """For each picture of ``x`` (N, C, H, W), sheets of the maps of each stage, if it has images.

    Of each stage the first maps; each is scaled from its own smallest to its largest value.
    """
    found = explain.feature_maps(model, x, "stages")
    result: list[list[dict[str, Any]]] = []
    for number in range(len(x)):
        of_picture = []
        for path, of_stage in found.items():
            maps = shrink(of_stage[number][:MAX_MAPS], 64)
            low, high = (f(maps, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
            columns = min(8, len(maps))
            tiles = list(levels(maps, low, high))
            of_picture.append(
                {
                    "path": path,
                    "shape": list(of_stage.shape[1:]),
                    "maps": len(maps),
                    "columns": columns,
                    "sheet": sheet(tiles, columns, "viridis"),
                }
            )
        result.append(of_picture)
    return result


def how_many(products: int, passes: int, least: int, most: int) -> int:
    """Number of examples, for so many passes each through a network of so many multiply-adds."""
    return int(np.clip(_BUDGET // max(products * passes, 1), least, most))


def attributions(
    model: Module,
    x: Array,
    raw: Array,
    bounds: tuple[float, float],
    graph: Graph,
    with_cam: bool = True,
) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """For each picture, maps of what the predicted class's score depends on; and what failed.

    Large networks get fewer passes.

    Parameters
    ----------
    model
        The network.
    x, raw
        Pictures (N, C, H, W) as the network takes them, and as they are shown.
    bounds
        Black and white of ``raw``.
    graph
        The traced network.
    with_cam
        Whether a layer has images, for Grad-CAM.
    """
    is_large = graph.multiply_adds * PASSES > _BUDGET
    side = max(1, max(x.shape[2:]) // (3 if is_large else 6))
    window = tuple(min(side, n) for n in x.shape[2:])
    stride, samples = tuple(max(1, n // 2) for n in window), 5 if is_large else 25
    methods: dict[str, Callable[[], Array]] = {
        "Grad-CAM": lambda: explain.grad_cam(model, x),
        "Occlusion": lambda: explain.occlusion(model, x, window=window, stride=stride),
        "Gradient": lambda: explain.saliency(model, x),
        "Guided gradient": lambda: explain.saliency(model, x, method="guided"),
        "Smooth gradient": lambda: explain.saliency(model, x, method="smooth", samples=samples),
    }
    if not with_cam:
        del methods["Grad-CAM"]
    found, failed = {}, []
    for name, method in methods.items():
        try:
            found[name] = method()
        except XcnnError as error:
            failed.append(f"{name} is missing: {error}")
    shown = [
        [
            {"name": name, "map": _picture(maps[number], raw[number], bounds)}
            for name, maps in found.items()
        ]
        for number in range(len(x))
    ]
    return shown, failed


def _picture(values: Array, raw: Array, bounds: tuple[float, float]) -> Picture:
    """A heat map over the picture, or the absolute gradient, largest of the channels."""
    if values.ndim == 2:
        heat = np.maximum(np.nan_to_num(values), 0)
        return pictures.overlay(raw, bounds, heat, SIZE)
    largest = shrink(np.abs(values).max(axis=0, keepdims=True), SIZE)[0]
    return Picture(levels(largest, 0, np.quantile(largest, 0.995)), "viridis")


def layers(model: Module, x: Array | None) -> dict[str, Any]:
    """Distributions of the outputs of each layer, and of each parameter, with dead units."""
    outputs = [] if x is None else explain.layer_statistics(model, x, bins=_BINS)
    return {
        "outputs": [_row(found) for found in outputs],
        "weights": [_row(found) for found in explain.weight_statistics(model, bins=_BINS)],
        "examples": 0 if x is None else len(x),
    }


def _row(found: Any) -> dict[str, Any]:
    numbers = ("mean", "std", "minimum", "maximum", "zeros")
    values = {name: float(getattr(found, name)) for name in numbers}
    return {
        "path": found.path,
        "kind": found.kind,
        "units": int(found.units),
        "dead": None if found.dead is None else int(found.dead),
        "counts": np.asarray(found.counts).tolist(),
        "edges": [float(found.edges[0]), float(found.edges[-1])],
        **{k: float(f"{v:.4g}") if math.isfinite(v) else None for k, v in values.items()},
    }


def explained(
    model: Module, x: Array, raw: Array, bounds: tuple[float, float], graph: Graph
) -> tuple[list[dict[str, Any]], list[str]]:
    """Feature maps and attributions of pictures, none if all fail; and what failed.

    Of pictures whose size the transform changes, the maps are shown over what the network takes.
    """
    if raw.shape[2:] != x.shape[2:]:
        raw, bounds = x, (float(np.nanmin(x)), float(np.nanmax(x)))
    try:
        of_features, failed = feature_maps(model, x), []
    except XcnnError as error:
        of_features, failed = [[] for _ in x], [f"The feature maps are missing: {error}"]
    of_pictures, more = attributions(model, x, raw, bounds, graph, bool(failed or any(of_features)))
    pairs = zip(of_features, of_pictures, strict=True)
    shown = [{"features": features, "maps": maps} for features, maps in pairs if features or maps]
    return shown, failed + more
