"""Class activation maps."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..arrays import Array
from ..checks import check_flag
from ..errors import ArgumentError, ShapeError
from ..nn import Module, hooked
from ..tensor import Tensor, enable_grad
from .scores import (
    check_layout,
    classes_of,
    examples,
    find_layer,
    listed,
    on_device,
    parts,
    prepared,
    pull,
    scores,
    spatial_layers,
    xp,
)


def grad_cam(
    model: Module, x: Any, layer: Any = None, target: Any = None, *, resize: bool = True
) -> Array:
    """Grad-CAM: where a layer finds evidence for a class.

    The channels of the layer's output, weighted by the mean gradient of the class's score in each,
    are added, and negative sums set to 0.

    Parameters
    ----------
    model
        A classifier: scores (N, classes), or (N, 1) or (N,).
    x
        Images (N, C, H, W), normalised as for training.
    layer
        Dotted path of the layer, or the Module itself; its output must be (N, C, h, w). None: the
        last layer or block whose output is larger than one pixel. A layer that is called several
        times counts with its last call.
    target
        The class to explain: an int, or (N,) ints, one per image. None: the predicted class. For a
        model with one output, None or 0.
    resize
        Resize the maps to H×W, by bilinear interpolation; False: as large as the layer's output.

    Returns
    -------
    numpy.ndarray (N, H, W)
        At least 0, in units of the score. To show a map, divide it by its maximum.

    Raises
    ------
    ArgumentError
        The model has no such layer, or none with a spatial output, or a layer of it has
        ``data_format="NHWC"``.
    ShapeError
        ``x`` or the output of the layer is not (N, C, H, W).
    OutOfRangeError
        ``target`` is not a class.

    Notes
    -----
    Source: Selvaraju et al. 2017, "Grad-CAM", arXiv:1610.02391.

    Examples
    --------
    >>> maps = xcnn.explain.grad_cam(model, x)
    >>> maps = xcnn.explain.grad_cam(model, x, "conv2", target=3)
    """
    x = examples(model, x, pictures=True)
    check_flag("resize", resize)
    check_layout(model)
    with prepared(model):
        found = spatial_layers(model, x) if layer is None else [layer]
        if not found:
            raise ArgumentError(
                "no layer of the model has a spatial output (N, C, H, W); use explain.saliency, "
                "which needs none"
            )
        path, module = find_layer(model, [*found][-1])
        classes = classes_of(model, x, target)
        maps = []
        for part in parts(x):
            cam = _map(model, on_device(model, x[part]), path, module, classes[part])
            if resize:
                cam = F.interpolate(cam, size=x.shape[2:], mode="bilinear", align_corners=False)
            maps.append(cam.numpy()[:, 0])
    return xp.concatenate(maps).astype(x.dtype, copy=False)


def _map(model: Module, x: Tensor, path: str, module: Module, classes: Array) -> Tensor:
    """The maps (N, 1, h, w) of a batch."""
    calls: list[Any] = []

    def cut(module: Module, inputs: tuple, output: Any) -> Any:
        """Start the graph at this layer's output."""
        if not isinstance(output, Tensor) or output.ndim != 4:
            calls.append(output)
            return None
        calls.append(Tensor(output.data, requires_grad=True))
        return calls[-1].clone()  # not the leaf itself, for a model that does x += y

    with enable_grad(), hooked([(module, cut)]):
        y = scores(model, x)
    leaf = calls[-1] if calls else None
    if not isinstance(leaf, Tensor) or leaf.ndim != 4:
        shape = getattr(leaf, "shape", type(leaf).__name__)
        found = f"has an output of {shape}" if calls else "was not called"
        raise ShapeError(
            f"layer {path!r} {found}: expected an output (N, C, H, W); "
            + listed(spatial_layers(model, x.numpy()))
        )
    weights = pull(y, classes, leaf, f"the output of layer {path!r}").mean((2, 3), keepdims=True)
    return F.relu((leaf.detach() * y.backend.asarray(weights)).sum(1, keepdim=True))
