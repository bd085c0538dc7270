"""The arguments of a Trainer: optimisers, losses and metrics, as objects or by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from .. import metrics, optim
from ..checks import check_list
from ..errors import ArgumentError, did_you_mean, show
from ..nn import LOSSES, Loss, Module
from ..optim import Optimizer
from ..schedules import LRScheduler, ReduceLROnPlateau
from ..tensor import Tensor
from . import batches
from .epoch import Epoch

_ALIASES = {"mae": "l1", "bce": "binary_cross_entropy"}  # Keras' names


def check_schedule(schedule: LRScheduler, optimizer: Optimizer | None) -> None:
    """Refuse a schedule that does not go with the optimiser."""
    if not isinstance(schedule, LRScheduler):
        raise ArgumentError(
            f"schedule is {type(schedule).__name__}: expected a schedule from xcnn.schedules"
        )
    if schedule.optimizer is not optimizer:
        raise ArgumentError(
            "schedule belongs to another optimizer: create it with the Trainer's optimizer"
        )
    if schedule.per_batch and isinstance(schedule, ReduceLROnPlateau):
        raise ArgumentError("ReduceLROnPlateau needs a metric of each epoch: per_batch=False")


def metric_for(mode: str, epoch: Epoch) -> float:
    """The metric for ReduceLROnPlateau: the loss, or the accuracy if larger is better."""
    if mode == "min":
        return epoch.train_loss if epoch.val_loss is None else epoch.val_loss
    accuracy = epoch.train_accuracy if epoch.val_accuracy is None else epoch.val_accuracy
    if accuracy is None:
        raise ArgumentError('ReduceLROnPlateau: mode="max" needs a loss with an accuracy')
    return accuracy


class CustomLoss(Loss):
    """Wraps a function of (output, target), which gets the targets unchanged."""

    target = "custom"

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.custom = function

    def forward(self, input: Any, target: Any) -> Tensor:
        return self.custom(input, target)

    def divisor(self, output: Any, target: Any) -> int:
        return batches.count(output)


def find_optimizer(optimizer: Any, model: Module) -> Optimizer | None:
    """The optimiser itself, or a new one of this name for the model."""
    if optimizer is None:
        return None
    if isinstance(optimizer, Optimizer):
        own = {id(parameter) for parameter in model.parameters()}
        if own.isdisjoint(id(parameter) for parameter in optimizer.params) and own:
            raise ArgumentError(
                "optimizer has none of the parameters of model, perhaps those of an earlier one: "
                f"create it anew, optim.{type(optimizer).__name__}(model.parameters())"
            )
        return optimizer
    if isinstance(optimizer, str) and optimizer in optim.BY_NAME:
        create: Any = optim.BY_NAME[optimizer]
        return create(model.parameters())
    raise ArgumentError(
        f"optimizer={show(optimizer)}: expected one of {', '.join(optim.BY_NAME)}, or an optimiser "
        "such as optim.Adam(model.parameters())"
    )


def find_loss(loss: Any) -> Loss:
    """The loss itself, a new one of this name, or a function as one."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise ArgumentError(f"loss is the class {loss.__name__}: add (), pass an object")
    if isinstance(loss, str):
        loss = _ALIASES.get(loss, loss).removesuffix("_loss")
    for name, cls in LOSSES.items():
        if loss is cls.function or (isinstance(loss, str) and loss == name):
            return cls()
    if callable(loss):
        return CustomLoss(loss)
    raise ArgumentError(
        f"loss={show(loss)}: expected one of {', '.join(LOSSES)}, a loss module or a function"
        f"{did_you_mean(loss, LOSSES)}"
    )


def find_metrics(given: Sequence[Any], loss: Loss) -> dict[str, Any]:
    """The metrics by name, new objects for those given by name."""
    if isinstance(given, str):
        given = [given]
    found: dict[str, Any] = {}
    for value in check_list("metrics", given, "metrics or their names"):
        metric = metrics.create(copy.deepcopy(value), loss)
        if not metric.is_scalar:
            raise ArgumentError(
                f"metrics has {metric.name!r}, which is not one number: compute it after the "
                "training, from predict"
            )
        if metric.name in ("loss", "accuracy") or metric.name in found:
            reason = "twice" if metric.name in found else "which is always measured"
            raise ArgumentError(f"metrics has {metric.name!r}, {reason}: leave it out")
        found[metric.name] = metric
    return found
