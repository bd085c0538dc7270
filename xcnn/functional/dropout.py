"""Dropout."""

from __future__ import annotations

from typing import Any

from .. import random
from ..arrays import Array
from ..backends import Backend
from ..checks import check_flag, check_int, check_number
from ..errors import ShapeError
from ..tensor import Function, Tensor, operation

__all__ = ["dropout", "dropout2d"]


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
        """0 or 1 / (1 - p) per element, drawn in batch-last order for any memory order."""
        shape = x.shape[1:] + x.shape[:1]
        mask = backend.dropout_mask(x.size, self.key, self.p, x.dtype).reshape(shape)
        return backend.xp.moveaxis(mask, -1, 0) if x.ndim else mask


def _drop(kind: type[Dropout], input: Any, p: float, training: bool, key: int | None) -> Tensor:
    p, input = check_number("p", p, 0, 1), Tensor.of(input)
    if not check_flag("training", training) or p == 0:
        return input
    return kind(p, random.next_key() if key is None else check_int("key", key, 0))(input)


@operation
def dropout(input: Any, p: float = 0.5, training: bool = True, key: int | None = None) -> Tensor:
    """Zero each element with probability ``p`` and scale the rest by 1 / (1 - p).

    Parameters
    ----------
    input : (N, ...)
    p
        Probability of zeroing an element, 0 to 1.
    training
        False: return the input unchanged.
    key
        Seeds the mask: the same key gives the same mask on every device. Default: the next key
        of the library's generator (see :func:`xcnn.manual_seed`).

    Raises
    ------
    ArgumentError
        ``p`` outside 0 to 1.

    References
    ----------
    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    return _drop(Dropout, input, p, training, key)


class Dropout2d(Dropout):
    """See :func:`dropout2d`."""

    def _mask(self, backend: Backend, x: Array) -> Array:
        """One mask value per channel of each image, (N, C, 1, 1)."""
        images, channels = x.shape[:2]
        mask = backend.dropout_mask(images * channels, self.key, self.p, x.dtype)
        return mask.reshape(channels, images).T[:, :, None, None]


@operation
def dropout2d(input: Any, p: float = 0.5, training: bool = True, key: int | None = None) -> Tensor:
    """Zero each channel of each image with probability ``p``, scale the rest by 1 / (1 - p).

    Neighbouring pixels are correlated, so dropping single ones removes little information.

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
    input = Tensor.of(input)
    if input.ndim != 4:
        raise ShapeError(
            f"input has shape {input.shape}: expected (N, C, H, W); one image needs a batch axis, "
            "for example x[None]"
        )
    return _drop(Dropout2d, input, p, training, key)
