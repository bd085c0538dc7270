"""MixUp and CutMix: combine pairs of images and their labels.

Mixed labels are class probabilities, as ``cross_entropy`` accepts them.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from ... import backends, random
from ...arrays import Array
from ...backends import Backend
from ...checks import check_int, check_size
from ...errors import DataError, ShapeError
from ...layout import spatial_size
from ..dataset import Batch
from ..transforms import BatchTransform
from .base import centred_slice, check_alpha, in_floats

Mixed: TypeAlias = tuple[Array, Array]


class Mixing(BatchTransform):
    """Base class of MixUp and CutMix.

    Each image gets a random partner in the batch and a separate weight λ, drawn from
    Beta(alpha, alpha). A subclass defines ``mix``. In a training on several processes, partners are
    from the same process's part of the batch.
    """

    def __init__(self, num_classes: int, alpha: float) -> None:
        self.num_classes: int = check_int("num_classes", num_classes)
        check_size("num_classes", num_classes, (num_classes,), visited=True)
        self.alpha: float = check_alpha(alpha)

    def __call__(self, x: Array, y: Array, rng: Generator | None = None) -> Mixed:
        """Mix images ``x`` (N, C, H, W) and labels ``y``.

        Parameters
        ----------
        x : (N, C, H, W)
        y : (N,) class indices, or (N, num_classes) probabilities
        rng : numpy.random.Generator, optional
            By default the generator that ``xcnn.manual_seed`` seeds.

        Returns
        -------
        x : (N, C, H, W)
        y : (N, num_classes)
            float32, each row sums to 1.

        Raises
        ------
        ShapeError
            If the shapes do not match.
        ArgumentError
            If a class index is out of range.
        """
        spatial_size(x, "NCHW", f"{type(self).__name__}: x")
        rng, backend = rng or random.generator(), backends.of(x)
        with backend.active():
            probabilities = self._probabilities(backends.of(y), x, y)
            partners = rng.permutation(len(x))
            lam = rng.beta(self.alpha, self.alpha, len(x))
            mixed, lam = self.mix(backend, x, partners, lam, rng)
            return mixed, _blend(backends.of(y), probabilities, partners, lam).T

    def mix(self, backend: Backend, x: Array, partners: Array, lam: Array, rng: Generator) -> Mixed:
        """Return the mixed images and the weight (N,) of each image's own label."""
        raise NotImplementedError(f"{type(self).__name__} must define mix")

    def apply(self, batch: Batch, rng: Generator | None) -> Batch:
        if len(batch) != 2:
            raise DataError(
                f"{type(self).__name__} mixes images and labels, got batches of {len(batch)} "
                "arrays; pass pairs (x, y)"
            )
        return self(*batch, rng)

    def _probabilities(self, backend: Backend, x: Array, y: Array) -> Array:
        """Return the labels as float32 probabilities (num_classes, N)."""
        if y.shape == (len(x), self.num_classes) and y.dtype.kind == "f":
            return y.T.astype("float32")
        if y.shape != (len(x),) or y.dtype.kind not in "iu":
            raise ShapeError(
                f"y is {y.dtype} {tuple(y.shape)}, x has shape {tuple(x.shape)}: expected class "
                f"indices ({len(x)},) or probabilities ({len(x)}, {self.num_classes})"
            )
        backend.check_class_indices(y, self.num_classes)
        classes = backend.xp.arange(self.num_classes, dtype=y.dtype)
        return (y == classes[:, None]).astype("float32")


class MixUp(Mixing):
    """Blend each image with its partner, λ · image + (1 - λ) · partner; same for labels.

    Zhang et al. 2017, "mixup: Beyond Empirical Risk Minimization", but with a separate λ for every
    image. uint8 images are rounded to the nearest value.

    Parameters
    ----------
    num_classes : int
    alpha : float, default 0.2
        λ is drawn from Beta(alpha, alpha): mostly near 0 or 1 below 1, uniform at 1.

    Raises
    ------
    ArgumentError
        If an argument is invalid.

    Examples
    --------
    >>> x, y = MixUp(num_classes=3)(np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 2, 0]))
    >>> x.shape, y.shape, y.sum(axis=1)
    ((4, 1, 2, 2), (4, 3), array([1., 1., 1., 1.], dtype=float32))
    """

    def __init__(self, num_classes: int, alpha: float = 0.2) -> None:
        super().__init__(num_classes, alpha)

    def mix(self, backend: Backend, x: Array, partners: Array, lam: Array, rng: Generator) -> Mixed:
        return in_floats(backend.xp, x, lambda p: _blend(backend, p, partners, lam)), lam


class CutMix(Mixing):
    """Paste a random rectangle of its partner into each image; labels are mixed by area.

    Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features". The rectangle has the image's aspect ratio and the relative area 1 - λ; where the
    image border cuts it off, the label weights follow the visible area.

    Parameters
    ----------
    num_classes : int
    alpha : float, default 1
        λ is drawn from Beta(alpha, alpha): uniform at 1.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    """

    def __init__(self, num_classes: int, alpha: float = 1.0) -> None:
        super().__init__(num_classes, alpha)

    def mix(self, backend: Backend, x: Array, partners: Array, lam: Array, rng: Generator) -> Mixed:
        size = x.shape[2:]
        centres = rng.integers(0, size, (len(x), 2)).tolist()
        lengths = np.rint(np.sqrt(1 - lam)[:, None] * size).astype(int).tolist()
        y, weights = x.copy(order="K"), np.ones(len(x))
        for n, partner in enumerate(partners.tolist()):
            box = tuple(map(centred_slice, centres[n], lengths[n]))
            y[(n, slice(None), *box)] = x[(partner, slice(None), *box)]
            height, width = (len(range(*b.indices(s))) for b, s in zip(box, size, strict=True))
            weights[n] = 1 - height * width / (size[0] * size[1])
        return y, weights


def _blend(backend: Backend, a: Array, partners: Array, lam: Array) -> Array:
    """Compute λ · a + (1 - λ) · partner along the last axis, the batch."""
    lam = backend.asarray(lam.astype(a.dtype))
    return a * lam + a[..., backend.asarray(partners)] * (1 - lam)
