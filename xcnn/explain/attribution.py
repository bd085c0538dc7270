"""How much each pixel contributes to a class: gradients and occlusion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from ..arrays import Array
from ..checks import check_choice, check_int, check_number, pair
from ..errors import ArgumentError, ShapeError, show
from ..nn import Module
from ..tensor import Tensor
from .scores import (
    check_classes,
    check_layout,
    classes_of,
    examples,
    gradient,
    on_device,
    parts,
    prepared,
    scores,
    xp,
)

SALIENCY = ("gradient", "guided", "smooth")


def saliency(
    model: Module,
    x: Any,
    target: Any = None,
    *,
    method: str = "gradient",
    samples: int = 25,
    noise: float = 0.1,
    seed: int = 0,
) -> Array:
    """The gradient of a class's score with respect to the pixels.

    Parameters
    ----------
    model, target
        As for :func:`grad_cam`.
    x
        Images (N, C, H, W), or other examples (N, ...), normalised as for training.
    method
        "gradient" (Simonyan et al. 2013, "Deep inside convolutional networks", arXiv:1312.6034);
        "guided": each ReLU and ReLU6 passes positive gradients only (Springenberg et al. 2014,
        "Striving for simplicity", arXiv:1412.6806); "smooth": the mean gradient of noisy copies
        (Smilkov et al. 2017, "SmoothGrad", arXiv:1706.03825).
    samples, noise, seed
        For "smooth": the number of noisy copies; the standard deviation of the noise as a fraction
        of the range, max - min, of each image; the seed of the noise.

    Returns
    -------
    numpy.ndarray (N, C, H, W)
        Signed. A usual picture of it is ``abs(s).max(1)``.

    Raises
    ------
    ArgumentError
        A setting is out of range.
    OutOfRangeError
        ``target`` is not a class.
    ShapeError
        ``x`` has no axis of examples, or the model returns no scores.
    """
    x = examples(model, x)
    check_choice("method", method, SALIENCY)
    samples = check_int("samples", samples) if method == "smooth" else 1
    noise = check_number("noise", noise, 0)
    normal = xp.random.default_rng(check_int("seed", seed, 0)).standard_normal
    scale: Any = 0
    if method == "smooth":
        over = tuple(range(1, x.ndim))
        scale = noise * (x.max(over, keepdims=True) - x.min(over, keepdims=True))

    def at(examples: Array, copies: Array) -> Array:
        if method != "smooth":
            return x[examples]
        deviations = normal((len(examples), *x.shape[1:]), x.dtype)
        return x[examples] + scale[examples] * deviations

    weights = xp.full(samples, 1 / samples, x.dtype)
    with prepared(model):
        classes = classes_of(model, x, target)
        return _weighted_gradients(model, x, classes, weights, at, method == "guided")


def integrated_gradients(
    model: Module, x: Any, target: Any = None, *, baseline: Any = None, steps: int = 50
) -> Array:
    """Integrated gradients: how a class's score grows along the way from a baseline to the image.

    Parameters
    ----------
    model, target
        As for :func:`grad_cam`.
    x
        Images (N, C, H, W), or other examples (N, ...), normalised as for training.
    baseline
        Where the way begins: a number, or an array of the shape of ``x``, of one example, or one
        that broadcasts to it. None: 0, the mean of normalised images.
    steps
        Points of the integral (Gauss-Legendre quadrature).

    Returns
    -------
    numpy.ndarray (N, C, H, W)
        Signed. Their sum is score(x) - score(baseline), up to the error of the integral.

    Raises
    ------
    ArgumentError, OutOfRangeError
        A setting is out of range.
    ShapeError
        ``baseline`` does not broadcast to ``x``, or as for :func:`saliency`.

    Notes
    -----
    Source: Sundararajan et al. 2017, "Axiomatic attribution for deep networks", arXiv:1703.01365.
    """
    x = examples(model, x)
    start = xp.asarray(0 if baseline is None else Tensor.of(baseline).numpy(), x.dtype)
    try:
        start = xp.broadcast_to(start, x.shape)
    except ValueError:
        raise ShapeError(
            f"baseline has shape {start.shape}: expected one that broadcasts to x, {x.shape}"
        ) from None
    points, weights = xp.polynomial.legendre.leggauss(check_int("steps", steps))  # in [-1, 1]
    points, weights = ((points + 1) / 2).astype(x.dtype), (weights / 2).astype(x.dtype)
    way = x - start

    def at(examples: Array, numbers: Array) -> Array:
        along = points[numbers].reshape(-1, *(1,) * (x.ndim - 1))
        return start[examples] + along * way[examples]

    with prepared(model):
        classes = classes_of(model, x, target)
        return way * _weighted_gradients(model, x, classes, weights, at)


def _weighted_gradients(
    model: Module,
    x: Array,
    classes: Array,
    weights: Array,
    at: Callable[[Array, Array], Array],
    guided: bool = False,
) -> Array:
    """For each example, the sum of ``weights[k]`` times the gradient at its point ``k``.

    ``at(examples, numbers)`` gives the points with these numbers of these examples.
    """
    total = xp.zeros_like(x)
    for part in parts(x, len(weights)):
        count = xp.arange(len(x) * len(weights))[part]
        of, numbers = count // len(weights), count % len(weights)
        found = gradient(model, at(of, numbers), classes[of], guided)
        xp.add.at(total, of, found * weights[numbers].reshape(-1, *(1,) * (x.ndim - 1)))
    return total


def occlusion(
    model: Module,
    x: Any,
    target: Any = None,
    *,
    window: Any = None,
    stride: Any = None,
    value: float = 0.0,
    batch_size: int | None = None,
) -> Array:
    """Occlusion: how far a class's score falls when a part of the image is covered.

    A window slides over the image, and all channels in it are replaced by ``value``.

    Parameters
    ----------
    model, x, target
        As for :func:`grad_cam`.
    window
        Size of the window, an int or (height, width). None: a quarter of the image's.
    stride
        Step of the window, an int or (vertical, horizontal), at most its size. None: half its size.
        The last windows end at the edge of the image.
    value
        What covers the image. 0 is the mean of normalised images.
    batch_size
        Covered images that are evaluated at a time. None: at most 64, and fewer if they are large,
        as for the other methods.

    Returns
    -------
    numpy.ndarray (N, H, W)
        For each pixel the mean of score(x) - score(covered) over the windows that cover it, of the
        score before a final softmax or sigmoid, as everywhere in this package. Positive: the pixel
        speaks for the class.

    Raises
    ------
    ArgumentError, OutOfRangeError
        A setting is out of range.
    ShapeError
        ``x`` is not (N, C, H, W), or the model returns no scores.

    Notes
    -----
    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks",
    arXiv:1311.2901.
    """
    x = examples(model, x, pictures=True)
    check_layout(model)
    sizes = x.shape[2:]
    height, width = pair([max(1, n // 4) for n in sizes] if window is None else window, "window")
    step = [max(1, n // 2) for n in (height, width)] if stride is None else stride
    steps = pair(step, "stride")
    if height > sizes[0] or width > sizes[1]:
        raise ArgumentError(f"window={show(window)}: expected at most the image's size {sizes}")
    if steps[0] > height or steps[1] > width:
        raise ArgumentError(f"stride={show(stride)}: expected at most the window, {height}×{width}")
    value = check_number("value", value)
    windows = [
        (slice(top, top + height), slice(left, left + width))
        for top, left in itertools.product(
            *(
                range(0, step * (math.ceil((n - k) / step) + 1), step)
                for n, k, step in zip(sizes, (height, width), steps, strict=True)
            )
        )
    ]
    drops, covers = xp.zeros((len(x), *sizes), x.dtype), xp.zeros(sizes, x.dtype)
    for rows, columns in windows:
        covers[rows, columns] += 1
    size = None if batch_size is None else check_int("batch_size", batch_size)
    with prepared(model):
        classes = classes_of(model, x, target)
        whole = xp.concatenate([_score(model, x[p], classes[p]) for p in parts(x, size=size)])
        for part in parts(x, len(windows), size):
            count = xp.arange(len(x) * len(windows))[part]
            of, covered = count // len(windows), x[count // len(windows)]
            chosen = [windows[n] for n in count % len(windows)]
            for n, (rows, columns) in enumerate(chosen):
                covered[n, :, rows, columns] = value
            found = whole[of] - _score(model, covered, classes[of])
            for n, (rows, columns) in enumerate(chosen):
                drops[of[n], rows, columns] += found[n]
    return drops / covers


def _score(model: Module, x: Array, classes: Array) -> Array:
    """The scores (N,) of the classes of a batch."""
    found = scores(model, on_device(model, x)).numpy()
    check_classes(classes, found.shape[1])
    return found[xp.arange(len(classes)), classes]
