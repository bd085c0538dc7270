"""Normalisation layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from .. import communicator
from .. import functional as F
from ..checks import check_flag, check_input, check_int, check_number, check_shape
from ..errors import ArgumentError, ShapeError
from ..tensor import Buffer, Parameter, Tensor
from .module import Module, full
from .operation import OperationLayer

# fmt: off
__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d",
    "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "LocalResponseNorm", "RMSNorm",
    "SyncBatchNorm",
]
# fmt: on


class _Affine(Module):
    """Base class: eps and, if ``affine``, a weight of ones and a bias of zeros."""

    eps: Any

    def _set(self, shape: Any, eps: Any, affine: bool, bias: bool) -> None:
        self.eps = None if eps is None else check_number("eps", eps, 0)
        affine, bias = check_flag("affine", affine), check_flag("bias", bias)
        self.weight = Parameter(full(shape, 1)) if affine else None
        self.bias = Parameter(full(shape, 0)) if affine and bias else None


class _Tracking(_Affine):
    """Base class with running statistics; ``shapes`` are the input shapes by number of axes."""

    function: ClassVar[Callable[..., Tensor]]
    shapes: ClassVar[dict[int, str]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        self.num_features = features = check_int("num_features", num_features)
        self._set(features, eps, affine, bias)
        self.momentum = None if momentum is None else check_number("momentum", momentum, 0, 1)
        track = check_flag("track_running_stats", track_running_stats)
        self.track_running_stats = track
        self.running_mean = Buffer(full(features, 0)) if track else None
        self.running_var = Buffer(full(features, 1)) if track else None
        self.num_batches_tracked = Buffer(full((), 0, "int64")) if track else None
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        return self._normalized(x)

    def _normalized(self, x: Any, **fused: Any) -> Tensor:
        x = Tensor.of(x)
        if x.ndim not in self.shapes:
            expected = " or ".join(self.shapes.values())
            raise ShapeError(f"input has shape {x.shape}: expected {expected}")
        check_input(x, 1, self.num_features, "channels in axis 1")
        uses_batch = self.training or self.running_mean is None
        arrays = self.running_mean, self.running_var, self.weight, self.bias
        return type(self).function(x, *arrays, uses_batch, self._momentum(), self.eps, **fused)

    def reset_running_stats(self) -> None:
        """Set the running statistics and their count of batches back to the start."""
        for name, value in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
            if self.track_running_stats:
                tensor = getattr(self, name)
                with tensor.backend.active():
                    tensor.data[...] = value

    def _momentum(self) -> Any:
        return 0.0 if self.momentum is None else self.momentum


class _BatchNorm(_Tracking):
    function = staticmethod(F.batch_norm)

    def forward(
        self, x: Any, residual: Any = None, relu: bool = False, ceiling: float = math.inf
    ) -> Tensor:
        """Apply the layer, add ``residual``, and take min(max(y, 0), ceiling) in the same pass."""
        y = self._normalized(x, residual=residual, relu=relu, ceiling=ceiling)
        count = self.num_batches_tracked
        if self.training and count is not None:  # only now: the input may have been refused
            with count.backend.active():
                count.data += 1
        return y

    def _momentum(self) -> Any:
        """For a cumulative mean, 1 / the number of batches with this one, on the device."""
        count, mean = self.num_batches_tracked, self.running_mean
        if not self.training or count is None or mean is None:
            return 0.0
        if self.momentum is None:
            with count.backend.active():
                return 1 / (count.data + 1).astype(mean.dtype)
        return self.momentum


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); see :func:`xcnn.functional.batch_norm`.

    Parameters
    ----------
    num_features
        Number of channels, C.
    eps
        Added to the variance.
    momentum
        Weight of each batch in the running statistics; None: their mean over all batches.
    affine
        Whether to learn a weight and a bias per channel.
    track_running_stats
        Whether to keep running statistics for evaluation; without them, evaluation uses the
        statistics of the batch.
    device, dtype
        Of parameters and buffers; default: the CPU and float32.
    bias
        Whether to learn a bias too.

    Attributes
    ----------
    weight, bias : Parameter (C,) or None
    running_mean, running_var : Buffer (C,) or None
    num_batches_tracked : Buffer (), int64, or None
        Training batches seen, including empty ones.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    shapes = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W); see :class:`BatchNorm1d`."""

    shapes = {4: "(N, C, H, W)"}


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W); see :class:`BatchNorm1d`."""

    shapes = {5: "(N, C, D, H, W)"}


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over the batches of all processes of a training together.

    In training, mean and variance are those of all processes' parts of a batch, so that they do not
    depend on how many there are; all must run the layer. Parts may differ in size, and be empty.
    With one process, and in evaluation, it is the other layers' batch normalisation.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats
        As in :class:`BatchNorm1d`; the input has two to five axes, (N, C, ...).
    process_group
        None: all processes; there are no others.
    device, dtype, bias
        As in :class:`BatchNorm1d`.

    Attributes
    ----------
    weight, bias, running_mean, running_var, num_batches_tracked
        As in :class:`BatchNorm1d`.

    Raises
    ------
    ArgumentError
        A value out of range.

    Notes
    -----
    Each step adds two numbers and a count per channel among the processes, and in its backward pass
    two numbers, in float64.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> nn.SyncBatchNorm.convert_sync_batchnorm(model)[1]
    SyncBatchNorm(8)
    """

    shapes = {**BatchNorm1d.shapes, **BatchNorm2d.shapes, **BatchNorm3d.shapes}

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        _check_group(process_group)
        settings = eps, momentum, affine, track_running_stats, device, dtype
        super().__init__(num_features, *settings, bias=bias)

    def _normalized(self, x: Any, **fused: Any) -> Tensor:
        shared = communicator.current() if self.training else None
        return super()._normalized(x, communicator=shared, **fused)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: None = None) -> Module:
        """Make every BatchNorm1d, 2d and 3d in ``module``, or itself, a SyncBatchNorm.

        Parameters, buffers, modes, devices and hooks stay the same objects; an optimiser made
        before goes on.

        Returns
        -------
        Module
            ``module``, which is changed.

        Raises
        ------
        ArgumentError
            It is not a Module, or ``process_group`` is not None.
        """
        _check_group(process_group)
        if not isinstance(module, Module):
            raise ArgumentError(f"module is {type(module).__name__}: expected a Module")
        for layer in module.modules():
            if isinstance(layer, BatchNorm1d | BatchNorm2d | BatchNorm3d):
                layer.__class__ = cls  # type: ignore[assignment]
        return module


def _check_group(process_group: Any) -> None:
    if process_group is not None:
        raise ArgumentError(
            f"process_group={process_group!r}: expected None, all processes; groups are not part "
            "of xcnn"
        )


class _InstanceNorm(_Tracking):
    function = staticmethod(F.instance_norm)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        settings = eps, momentum, affine, track_running_stats, device, dtype
        super().__init__(num_features, *settings, bias=bias)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if x.ndim == min(self.shapes):  # one example
            return super().forward(x.unsqueeze(0)).squeeze(0)
        return super().forward(x)


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of each channel of (N, C, L) or (C, L); see :class:`InstanceNorm2d`."""

    shapes = {2: "(C, L)", 3: "(N, C, L)"}


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of each channel of each image; see :func:`xcnn.functional.instance_norm`.

    The images are (N, C, H, W), or one (C, H, W).

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        As in :class:`BatchNorm1d`. With ``momentum=None`` the running statistics do not change.

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

    shapes = {3: "(C, H, W)", 4: "(N, C, H, W)"}


class InstanceNorm3d(_InstanceNorm):
    """Normalisation of each channel of volumes; see :class:`InstanceNorm2d`."""

    shapes = {4: "(C, D, H, W)", 5: "(N, C, D, H, W)"}


class LayerNorm(_Affine):
    """Normalisation over the last axes; see :func:`xcnn.functional.layer_norm`.

    Parameters
    ----------
    normalized_shape
        Lengths of those axes; an int for one axis.
    eps
        Added to the variance.
    elementwise_affine
        Whether to learn a weight and a bias per element.
    bias
        Whether to learn a bias too.
    device, dtype
        As in :class:`BatchNorm1d`.

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
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = check_shape("normalized_shape", normalized_shape)
        self._set(self.normalized_shape, eps, elementwise_affine, bias)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(_Affine):
    """Division by the root mean square over the last axes; see :func:`xcnn.functional.rms_norm`.

    Parameters
    ----------
    normalized_shape
        Lengths of those axes; an int for one axis.
    eps
        Added to the mean square; default: the epsilon of the input's dtype.
    elementwise_affine
        Whether to learn a weight per element.
    device, dtype
        As in :class:`BatchNorm1d`.

    Attributes
    ----------
    weight : Parameter (normalized_shape) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...] | list[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = check_shape("normalized_shape", normalized_shape)
        self._set(self.normalized_shape, eps, elementwise_affine, bias=False)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class GroupNorm(_Affine):
    """Normalisation of groups of channels; see :func:`xcnn.functional.group_norm`.

    Parameters
    ----------
    num_groups
        Number of groups; divides ``num_channels``.
    num_channels
        Channels of the input.
    eps
        Added to the variance.
    affine
        Whether to learn a weight and a bias per channel.
    bias
        Whether to learn a bias too.
    device, dtype
        As in :class:`BatchNorm1d`.

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
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        self.num_groups = check_int("num_groups", num_groups)
        self.num_channels = check_int("num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ArgumentError(f"num_groups={num_groups} must divide num_channels={num_channels}")
        self._set(self.num_channels, eps, affine, bias)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        check_input(x, 1, self.num_channels, "channels in axis 1")
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LocalResponseNorm(OperationLayer, function=F.local_response_norm):
    """Normalisation across neighbouring channels; see
    :func:`xcnn.functional.local_response_norm`.

    Raises
    ------
    ArgumentError
        ``size`` is not an int >= 1.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = check_int("size", size)
        self.alpha, self.beta, self.k = alpha, beta, k
