"""Dropout."""

from __future__ import annotations

import math
from typing import Any

from .. import random
from ..arrays import Array
from ..backends import Backend
from ..checks import check_flag, check_int, check_number
from ..errors import ArgumentError, ShapeError
from ..tensor import Function, Tensor, operation

# fmt: off
__all__ = [
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
]
# fmt: on

_SELU_MINIMUM = -1.7580993408473766  # what selu approaches for small inputs


Key = int | None


def check_key(key: Key) -> int:
    """``key``, or the next one of the library's generator if it is None."""
    return random.next_key() if key is None else check_int("key", key, 0)


def batch_last_view(xp: Any, numbers: Array, shape: tuple[int, ...]) -> Array:
    """Numbers (count,) in ``shape`` (N, ...), the same for any memory order of the input."""
    numbers = numbers.reshape(shape[1:] + shape[:1])
    return xp.moveaxis(numbers, -1, 0) if shape else numbers


def uniform(backend: Backend, shape: tuple[int, ...], key: int) -> Array:
    """Random float32 numbers from 0 to 1, both excluded."""
    part = random.part(shape[0]) if shape else None
    bits = backend.random_bits(math.prod(shape), key, part) >> 9
    return batch_last_view(backend.xp, (bits.astype("float32") + 0.5) * 2.0**-23, shape)


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
        """0 or 1 / (1 - p) per element."""
        part = random.part(len(x)) if x.ndim else None
        mask = backend.dropout_mask(x.size, self.key, self.p, x.dtype, part)
        return batch_last_view(backend.xp, mask, x.shape)


class ChannelDropout(Dropout):
    """See :func:`dropout2d`; ``spatial`` axes follow the channels."""

    def __init__(self, p: float, key: int, spatial: int) -> None:
        super().__init__(p, key)
        self.spatial = spatial

    def _mask(self, backend: Backend, x: Array) -> Array:
        """One mask value per channel of each image, (N, C, 1, ...) or (C, 1, ...)."""
        shape = x.shape[: x.ndim - self.spatial]
        part = random.part(len(x)) if len(shape) > 1 else None  # else (C, 1, ...) without a batch
        mask = backend.dropout_mask(math.prod(shape), self.key, self.p, x.dtype, part)
        return mask.reshape(shape[::-1]).T[(..., *(None,) * self.spatial)]


class AlphaDropout(Dropout):
    """See :func:`alpha_dropout`."""

    def forward(self, backend: Backend, x: Array) -> Array:
        keep, low = 1 - self.p, _SELU_MINIMUM
        scale = 1 / math.sqrt((low * low * self.p + 1) * keep)
        mask = self._mask(backend, x) * (keep * scale)  # 0 or scale
        self.save(mask=mask)
        y = backend.xp.subtract(x, low, out=backend.xp.empty_like(x))
        y *= mask
        y += low * keep * scale
        return y


class FeatureAlphaDropout(AlphaDropout, ChannelDropout):
    """See :func:`feature_alpha_dropout`."""


def _drop(
    kind: Any, input: Any, p: float, training: bool, inplace: bool, key: Key, *settings: Any
) -> Tensor:
    p, input = check_number("p", p, 0, 1), Tensor.of(input)
    if not isinstance(inplace, bool):  # an int: a key, which once was in its place
        raise ArgumentError(f"inplace={inplace!r}: expected True or False; pass a key by name")
    if not check_flag("training", training) or p == 0:
        return input
    return kind(p, check_key(key), *settings)(input)


@operation
def dropout(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, key: Key = None
) -> Tensor:
    """Zero each element with probability ``p`` and scale the rest by 1 / (1 - p).

    Parameters
    ----------
    input : (N, ...)
    p
        Probability of zeroing an element, 0 to 1.
    training
        False: return the input unchanged.
    inplace
        Makes no difference; see :mod:`xcnn.functional.activation`.
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
    return _drop(Dropout, input, p, training, inplace, key)


def _drop_channels(input: Any, axes: tuple[int, ...], expected: str, *rest: Any) -> Tensor:
    input = Tensor.of(input)
    if input.ndim not in axes:
        raise ShapeError(f"input has shape {input.shape}: expected {expected}")
    return _drop(ChannelDropout, input, *rest, max(axes) - 2)


@operation
def dropout1d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, key: Key = None
) -> Tensor:
    """:func:`dropout2d` of signals, (N, C, L) or (C, L)."""
    return _drop_channels(input, (2, 3), "(N, C, L) or (C, L)", p, training, inplace, key)


@operation
def dropout2d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, key: Key = None
) -> Tensor:
    """Zero each channel of each image with probability ``p``, scale the rest by 1 / (1 - p).

    Neighbouring pixels are correlated, so dropping single ones removes little information.

    Parameters
    ----------
    input : (N, C, H, W)
    p, training, inplace, key
        As in :func:`dropout`.

    Raises
    ------
    ShapeError
        Not four axes. PyTorch takes three as (N, C, L), with a warning: use :func:`dropout1d`.
    ArgumentError
        ``p`` outside 0 to 1.

    References
    ----------
    Tompson et al. 2015, "Efficient object localization using convolutional networks",
    arXiv:1411.4280.
    """
    expected = "(N, C, H, W); use x[None] for one image, dropout1d for (N, C, L)"
    return _drop_channels(input, (4,), expected, p, training, inplace, key)


@operation
def dropout3d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, key: Key = None
) -> Tensor:
    """:func:`dropout2d` of volumes, (N, C, D, H, W) or (C, D, H, W)."""
    expected = "(N, C, D, H, W) or (C, D, H, W)"
    return _drop_channels(input, (4, 5), expected, p, training, inplace, key)


@operation
def alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, *, key: Key = None
) -> Tensor:
    """Dropout that keeps mean 0 and variance 1, for networks of :func:`selu`.

    It sets elements to the value that selu approaches for small inputs, -1.758, with probability
    ``p``, then scales and shifts all. Source: Klambauer et al. 2017, arXiv:1706.02515.

    Parameters
    ----------
    input : (N, ...)
    p, training, inplace, key
        As in :func:`dropout`, but as in PyTorch, ``training`` is False by default.

    Raises
    ------
    ArgumentError
        ``p`` outside 0 to 1.
    """
    kind = Dropout if check_number("p", p, 0, 1) == 1 else AlphaDropout
    return _drop(kind, input, p, training, inplace, key)


@operation
def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, *, key: Key = None
) -> Tensor:
    """:func:`alpha_dropout` of whole channels, (N, C, ...).

    Raises
    ------
    ShapeError
        Fewer than two axes.
    """
    input = Tensor.of(input)
    if input.ndim < 2 and check_flag("training", training):
        raise ShapeError(f"input has shape {input.shape}: expected (N, C, ...)")
    kind = ChannelDropout if check_number("p", p, 0, 1) == 1 else FeatureAlphaDropout
    return _drop(kind, input, p, training, inplace, key, input.ndim - 2)
