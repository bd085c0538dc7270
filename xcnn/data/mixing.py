"""Mixtures of two images, with labels mixed alike: probabilities for ``cross_entropy``."""

from __future__ import annotations

from numbers import Real

import numpy as np

from .. import backends, random
from ..arrays import Array
from ..backends import Backend
from ..checks import is_int
from ..errors import ArgumentError, ShapeError
from ..layout import batch_first, batch_last
from .augment import check_images, describe
from .erase import around


class Mixing:
    """Base of mixtures: ``mix(x, y)`` gives images and probabilities of classes.

    Each image gets another one of the batch as its partner, and a share of its own, drawn from
    Beta(alpha, alpha). A subclass defines ``mix``.
    """

    num_classes: int
    alpha: float

    def __init__(self, num_classes: int, alpha: float) -> None:
        if not is_int(num_classes) or num_classes < 1:
            raise ArgumentError(f"num_classes={num_classes!r}: expected an int >= 1")
        if not (isinstance(alpha, Real) and 0 < float(alpha) < np.inf):
            raise ArgumentError(f"alpha={alpha!r}: expected a number above 0")
        self.num_classes, self.alpha = int(num_classes), float(alpha)

    def __call__(
        self, x: Array, y: Array, rng: np.random.Generator | None = None
    ) -> tuple[Array, Array]:
        """Mix images ``x`` (N, C, H, W) and labels ``y``.

        Parameters
        ----------
        x : (N, C, H, W)
        y : (N,) class indices, or (N, num_classes) probabilities
        rng
            Of the host; by default that of ``xcnn.manual_seed``.

        Returns
        -------
        x : (N, C, H, W)
        y : (N, num_classes)
            float32, each row's sum is 1.

        Raises
        ------
        ShapeError, ArgumentError
            Shapes that do not fit, or a class that does not exist.
        """
        check_images(x, type(self).__name__)
        rng, backend = rng or random.generator(), backends.of(x)
        with backend.active():
            probabilities = self._probabilities(backends.of(y), x, y)
            partners = rng.permutation(len(x))
            shares = rng.beta(self.alpha, self.alpha, len(x))
            mixed, shares = self.mix(backend, x, partners, shares, rng)
            return mixed, _mixture(backends.of(y), probabilities, partners, shares)

    def mix(
        self,
        backend: Backend,
        x: Array,
        partners: np.ndarray,
        shares: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[Array, np.ndarray]:
        """Mixed images, and the share (N,) that each has of its own label."""
        raise NotImplementedError(f"{type(self).__name__} defines no mix method")

    def _probabilities(self, backend: Backend, x: Array, y: Array) -> Array:
        """(num_classes, N), float32."""
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

    def __repr__(self) -> str:
        return describe(self)


class MixUp(Mixing):
    """share · image + (1 - share) · partner, and the labels alike.

    Zhang et al. 2017, "mixup: Beyond Empirical Risk Minimization". Every image has a share of its
    own. Bytes are rounded to the nearest.

    Parameters
    ----------
    num_classes : int
    alpha : float, default 0.2
        Shares come from Beta(alpha, alpha): below 1 most are near 0 or 1, at 1 all are alike.

    Raises
    ------
    ArgumentError
        Not such numbers.

    Examples
    --------
    >>> x, y = MixUp(num_classes=3)(np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 2, 0]))
    >>> x.shape, y.shape, y.sum(axis=1)
    ((4, 1, 2, 2), (4, 3), array([1., 1., 1., 1.], dtype=float32))
    """

    def __init__(self, num_classes: int, alpha: float = 0.2) -> None:
        super().__init__(num_classes, alpha)

    def mix(
        self,
        backend: Backend,
        x: Array,
        partners: np.ndarray,
        shares: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[Array, np.ndarray]:
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype("float32")
        pixels = batch_last(backend.xp, x).astype(dtype, copy=False)
        mixed = batch_first(_weighted(backend, pixels, partners, shares))
        y = backend.xp.empty_like(x)
        y[...] = mixed if x.dtype.kind == "f" else backend.xp.rint(mixed)
        return y, shares


class CutMix(Mixing):
    """A random rectangle of each image comes from its partner, and its part of the label.

    Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features". The rectangle has the image's proportions and the area 1 - share; what of it lies
    outside the image is left out of the share too.

    Parameters
    ----------
    num_classes : int
    alpha : float, default 1
        Shares come from Beta(alpha, alpha); at 1 all are alike.

    Raises
    ------
    ArgumentError
        Not such numbers.
    """

    def __init__(self, num_classes: int, alpha: float = 1.0) -> None:
        super().__init__(num_classes, alpha)

    def mix(
        self,
        backend: Backend,
        x: Array,
        partners: np.ndarray,
        shares: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[Array, np.ndarray]:
        size = x.shape[2:]
        centres = rng.integers(0, size, (len(x), 2)).tolist()
        lengths = np.rint(np.sqrt(1 - shares)[:, None] * size).astype(int).tolist()
        y, kept = x.copy(order="K"), np.ones(len(x))
        for n, partner in enumerate(partners.tolist()):
            box = tuple(map(around, centres[n], lengths[n]))
            y[(n, slice(None), *box)] = x[(partner, slice(None), *box)]
            rows, columns = (len(range(*b.indices(s))) for b, s in zip(box, size, strict=True))
            kept[n] = 1 - rows * columns / (size[0] * size[1])
        return y, kept


def _mixture(
    backend: Backend, probabilities: Array, partners: np.ndarray, shares: np.ndarray
) -> Array:
    """(num_classes, N) mixed; returned as (N, num_classes)."""
    return _weighted(backend, probabilities, partners, shares).T


def _weighted(backend: Backend, a: Array, partners: np.ndarray, shares: np.ndarray) -> Array:
    """The sum share · a + (1 - share) · partner along the last axis, that of the batch."""
    own = backend.asarray(shares.astype(a.dtype))
    return a * own + a[..., backend.asarray(partners)] * (1 - own)
