"""Dropout."""

from __future__ import annotations

from typing import Any

from .. import random
from ..arrays import Array
from ..backends import Backend
from ..checks import check_probability
from ..errors import ShapeError
from ..tensor import Function, Tensor, operation


class Dropout(Function):
    """See :func:`dropout`."""

    arguments = ("input",)

    def __init__(self, p: float, key: int) -> None:
        self.p = p
        self.key = key

    def forward(self, backend: Backend, x: Array) -> Array:
        mask = self._mask(backend, x)
        self.save(mask=mask)
        return backend.xp.multiply(x, mask, out=backend.xp.empty_like(x))

    def backward(self, backend: Backend, dy: Array) -> Array:
        return backend.xp.multiply(dy, self.saved.mask, out=backend.xp.empty_like(dy))

    def _mask(self, backend: Backend, x: Array) -> Array:
        """0 or 1 / (1 - p) per element, drawn in batch-last order whatever x's own order is."""
        shape = x.shape[1:] + x.shape[:1]
        mask = backend.dropout_mask(x.size, self.key, self.p, x.dtype).reshape(shape)
        return backend.xp.moveaxis(mask, -1, 0) if x.ndim else mask


class Dropout2d(Dropout):
    """See :func:`dropout2d`."""

    def _mask(self, backend: Backend, x: Array) -> Array:
        """One number per channel of each image, (N, C, 1, 1)."""
        images, channels = x.shape[:2]
        mask = backend.dropout_mask(images * channels, self.key, self.p, x.dtype)
        return mask.reshape(channels, images).T[:, :, None, None]


@operation
def dropout(input: Any, p: float = 0.5, training: bool = True, key: int | None = None) -> Tensor:
    """Zero each element with probability ``p`` and scale the others by 1 / (1 - p).

    Parameters
    ----------
    input : (N, ...)
    p
        Probability of zero, 0 to 1.
    training
        False: the input as it is.
    key
        Names the mask: the same key gives the same mask on every device. Default: a fresh one
        from the library's generator (see :func:`xcnn.manual_seed`).

    Raises
    ------
    ArgumentError
        ``p`` outside 0 to 1.

    References
    ----------
    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    check_probability(p)
    input = Tensor.of(input)
    if not training or p == 0:
        return input
    return Dropout(p, random.next_key() if key is None else key)(input)


@operation
def dropout2d(input: Any, p: float = 0.5, training: bool = True, key: int | None = None) -> Tensor:
    """Zero each channel of each image with probability ``p``, scale the others by 1 / (1 - p).

    Neighbouring pixels are alike, so that dropping single ones takes little away.

    Parameters
    ----------
    input : (N, C, H, W)
    p, training, key
        As in :func:`dropout`.

    Raises
    ------
    ShapeError
        Not four axes.
    ArgumentError
        ``p`` outside 0 to 1.

    References
    ----------
    Tompson et al. 2015, "Efficient object localization using convolutional networks",
    arXiv:1411.4280.
    """
    check_probability(p)
    input = Tensor.of(input)
    if input.ndim != 4:
        raise ShapeError(
            f"input has shape {input.shape}: expected (N, C, H, W); one image needs a batch axis, "
            "for example x[None]"
        )
    if not training or p == 0:
        return input
    return Dropout2d(p, random.next_key() if key is None else key)(input)
