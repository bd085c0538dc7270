"""Feature maps and filters."""

from __future__ import annotations

import itertools
from typing import Any

from ..arrays import Array
from ..checks import check_list
from ..errors import ArgumentError, ShapeError, show
from ..nn import Conv2d, Module
from .scores import (
    check_layout,
    check_model,
    examples,
    find_layer,
    kind,
    leaves,
    listed,
    on_device,
    parts,
    prepared,
    recording,
    spatial_layers,
    xp,
)


def feature_maps(model: Module, x: Any, layers: Any = None) -> dict[str, Array]:
    """The outputs of layers that are images.

    Parameters
    ----------
    model
        Any Module.
    x
        Images (N, C, H, W), normalised as for training.
    layers
        None: every layer that contains no others. "stages": of each run of layers and blocks whose
        outputs have the same height and width, the last. Or a list of layers: dotted paths or
        Modules.

    Returns
    -------
    dict of numpy.ndarray (N, C, H, W)
        By dotted path, in the order of the calls. With None and "stages", only outputs larger than
        one pixel, and nothing if there are none; a layer that is called several times counts with
        its last call.

    Raises
    ------
    ArgumentError
        The model has no such layer, or a layer of it has ``data_format="NHWC"``.
    ShapeError
        The output of a layer that was asked for is not (N, C, H, W).

    Examples
    --------
    >>> for path, maps in xcnn.explain.feature_maps(model, x, "stages").items():
    ...     print(path, maps.shape)
    act1 (16, 6, 28, 28)
    pool1 (16, 6, 14, 14)
    act2 (16, 16, 10, 10)
    pool2 (16, 16, 5, 5)
    """
    x = examples(model, x)
    check_layout(model)
    with prepared(model):
        if layers is None or layers == "stages":
            sizes = spatial_layers(model, x, leaves(model) if layers is None else None)
            paths = list(sizes) if layers is None else _stages(sizes)
            chosen = [find_layer(model, path) for path in paths]
        else:
            given = [layers] if isinstance(layers, str | Module) else layers
            chosen = [
                find_layer(model, layer)
                for layer in (check_list("layers", given, "paths or Modules"))
            ]
        found: dict[str, list[Array]] = {}
        for part in parts(x):
            with recording(chosen) as outputs:
                model(on_device(model, x[part]))
            for path, output in outputs.items():
                found.setdefault(path, []).append(output.numpy())
        for path, _ in chosen:
            shape = found[path][0].shape if path in found else None
            if shape is None or len(shape) != 4:
                what = f"has an output of {shape}" if shape else "returned no Tensor"
                raise ShapeError(
                    f"layer {path!r} {what}: expected an output (N, C, H, W); "
                    + listed(spatial_layers(model, x))
                )
    return {path: xp.concatenate(maps).astype(x.dtype, copy=False) for path, maps in found.items()}


def _stages(sizes: dict[str, tuple[int, int]]) -> list[str]:
    """The last layer of each run of equal sizes."""
    return [list(run)[-1] for _, run in itertools.groupby(sizes, key=sizes.__getitem__)]


def filters(model: Module, layer: Any = None) -> Array:
    """The filters of a convolution.

    Parameters
    ----------
    model
        Any Module.
    layer
        Dotted path of the layer, or the Module itself. None: the first Conv2d, or for a graph
        from an ONNX file, the first weight of four axes.

    Returns
    -------
    numpy.ndarray (F, C, kH, kW)
        A copy of the weight.

    Raises
    ------
    ArgumentError
        The model has no such layer, or it has no filters.
    """
    modules = list(check_model(model).named_modules())
    convolutions = {path: m for path, m in modules if isinstance(m, Conv2d)}
    if layer is not None:
        path, module = find_layer(model, layer)
        weight: Any = getattr(module, "weight", None)
        if getattr(weight, "ndim", 0) != 4:
            names = f": {listed(convolutions)}" if convolutions else ""
            raise ArgumentError(
                f"layer={show(path)} is {kind(module)}, which has no filters (F, C, kH, kW){names}"
            )
    else:
        first = [m.weight for m in convolutions.values()]
        first += [p for p in model.parameters() if p.ndim == 4]
        if not first:
            raise ArgumentError("the model has no convolution of images: it has no filters")
        weight = first[0]
    return xp.array(weight.numpy(), "float64" if weight.dtype == "float64" else "float32")
