"""Normalisation layers."""

from __future__ import annotations

from typing import Any

from .. import backends
from .. import functional as F
from ..checks import check_eps, check_features, check_input, check_momentum, check_shape, is_int
from ..errors import ArgumentError, ShapeError
from ..tensor import Buffer, Parameter, Tensor
from .module import Module


class _Scaled(Module):
    """A layer with an eps and, where asked for, weights that start at 1 and a bias at 0."""

    weight: Parameter | None
    bias: Parameter | None

    def _make(self, shape: Any, eps: float, affine: bool, bias: bool) -> None:
        xp = backends.get("cpu").xp
        self.eps = check_eps(eps)
        self.weight = Parameter(xp.ones(shape, "float32")) if affine else None
        self.bias = Parameter(xp.zeros(shape, "float32")) if affine and bias else None


class _Tracking(_Scaled):
    """What keeps running statistics: batch-norm and instance-norm.

    ``axes`` are the numbers of axes that the input may have.
    """

    axes: tuple[int, ...]
    num_features: int
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def _make_statistics(self, num_features: int, momentum: Any, track: bool) -> None:
        if momentum is not None:
            check_momentum(momentum)
        self.momentum, self.track_running_stats = momentum, track
        xp = backends.get("cpu").xp
        self.running_mean = Buffer(xp.zeros(num_features, "float32")) if track else None
        self.running_var = Buffer(xp.ones(num_features, "float32")) if track else None
        self.num_batches_tracked = Buffer(xp.zeros((), "int64")) if track else None

    def _check(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if x.ndim not in self.axes:
            shapes = " or ".join(["(N, C)", "(N, C, L)", "(N, C, H, W)"][n - 2] for n in self.axes)
            raise ShapeError(f"input has shape {x.shape}: expected {shapes}")
        check_input(x, 1, self.num_features, "channels in axis 1")
        return x


class _BatchNorm(_Tracking):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        self.num_features = check_features("num_features", num_features)
        self._make(self.num_features, eps, affine, bias)
        self._make_statistics(self.num_features, momentum, track_running_stats)

    def forward(self, x: Any) -> Tensor:
        x = self._check(x)
        training = self.training or self.running_mean is None
        momentum = self._count() if self.training and self.track_running_stats else 0.0
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training,
            momentum,
            self.eps,
        )

    def _count(self) -> Any:
        """Count a batch; the momentum for it, 1 / count on the device if it is to be a mean."""
        count = self.num_batches_tracked
        if count is None or self.running_mean is None:
            return 0.0
        with count.backend.active():
            count.data += 1
            if self.momentum is None:
                return 1 / count.data.astype(self.running_mean.dtype)
        return self.momentum


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); see :func:`xcnn.functional.batch_norm`.

    Parameters
    ----------
    num_features
        C, the channels.
    eps
        Added to the variance.
    momentum
        How much of a batch's statistics enters the running ones; None: they are the mean over all
        batches so far.
    affine
        Whether to learn a weight and a bias per channel.
    track_running_stats
        Whether to keep running statistics for evaluation; without them, evaluation uses those of
        the batch.
    bias
        False: a weight only.

    Attributes
    ----------
    weight, bias : Parameter (C,) or None
    running_mean, running_var : Buffer (C,) or None
    num_batches_tracked : Buffer (), int64, or None
        Batches seen in training, empty ones too.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W); see :class:`BatchNorm1d`."""

    axes = (4,)


class InstanceNorm2d(_Tracking):
    """Normalisation of each channel of each image; see :func:`xcnn.functional.instance_norm`.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, bias
        As in :class:`BatchNorm1d`. With ``momentum=None`` the running statistics stay as they are.

    Attributes
    ----------
    weight, bias : Parameter (C,) or None
    running_mean, running_var : Buffer (C,) or None
    num_batches_tracked : Buffer (), int64, or None
        Stays 0, as in PyTorch.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    axes = (4,)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
    ) -> None:
        self.num_features = check_features("num_features", num_features)
        self._make(self.num_features, eps, affine, bias)
        self._make_statistics(self.num_features, momentum, track_running_stats)

    def forward(self, x: Any) -> Tensor:
        return F.instance_norm(
            self._check(x),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class LayerNorm(_Scaled):
    """Normalisation over the last axes; see :func:`xcnn.functional.layer_norm`.

    Parameters
    ----------
    normalized_shape
        Lengths of those axes, or an int for one.
    eps
        Added to the variance.
    elementwise_affine
        Whether to learn a weight and a bias per element.
    bias
        False: a weight only.

    Attributes
    ----------
    weight, bias : Parameter (normalized_shape) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...] | list[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        self.normalized_shape = check_shape(normalized_shape)
        self._make(self.normalized_shape, eps, elementwise_affine, bias)

    def forward(self, x: Any) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(_Scaled):
    """Normalisation of groups of channels; see :func:`xcnn.functional.group_norm`.

    Parameters
    ----------
    num_groups
        Groups; divides ``num_channels``.
    num_channels
        Channels of the input.
    eps
        Added to the variance.
    affine
        Whether to learn a weight and a bias per channel.
    bias
        False: a weight only.

    Attributes
    ----------
    weight, bias : Parameter (num_channels,) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        self.num_groups = check_features("num_groups", num_groups)
        self.num_channels = check_features("num_channels", num_channels)
        if num_channels % num_groups:
            raise ArgumentError(f"num_groups={num_groups} must divide num_channels={num_channels}")
        self._make(self.num_channels, eps, affine, bias)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        check_input(x, 1, self.num_channels, "channels in axis 1")
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LocalResponseNorm(Module):
    """Division by the neighbours in other channels; see
    :func:`xcnn.functional.local_response_norm`.

    Raises
    ------
    ArgumentError
        ``size`` is not an int >= 1.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        if not is_int(size) or size < 1:
            raise ArgumentError(f"size={size!r}: expected an int >= 1")
        self.settings = (size, alpha, beta, k)

    def forward(self, x: Any) -> Tensor:
        return F.local_response_norm(x, *self.settings)
