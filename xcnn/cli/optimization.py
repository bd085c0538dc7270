"""Options of ``xcnn train`` for the optimiser and its learning rate."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .. import nn, optim, schedules
from ..errors import ArgumentError

_LEARNING_RATES = {"adagrad": 0.01, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "sgd": 0.05}
_SCHEDULES = ("constant", "cosine", "exponential", "onecycle", "plateau", "step")
_OWN_START = ("onecycle", "plateau")  # these take no warm-up
_PATIENCE = 3


def add_options(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """``--lr`` and what else there is; ``count`` reads a whole number from 1 on."""
    add = parser.add_argument
    rates = ", ".join(f"{lr:g} for {name}" for name, lr in _LEARNING_RATES.items())
    add("--lr", type=float, metavar="X", help=f"learning rate; default: {rates}")
    add("--optimizer", default="adam", choices=sorted(optim.BY_NAME), help="sgd has momentum 0.9")
    add(
        "--weight-decay",
        type=float,
        metavar="X",
        help="pull of the weights towards zero; default: 0.01 for adamw, 0 for the others",
    )
    add(
        "--schedule",
        default="cosine",
        choices=_SCHEDULES,
        help="of the learning rate. cosine: down to zero; exponential: to a hundredth, by the same "
        "factor each epoch; onecycle: up to --lr and down to almost nothing, batch by batch; "
        f"plateau: to a tenth after {_PATIENCE + 1} epochs without a lower test loss; step: to a "
        "tenth after each third of the epochs",
    )
    add(
        "--warmup",
        type=count,
        metavar="N",
        help="epochs in which the learning rate first grows to --lr; default: none",
    )
    add(
        "--clip-norm",
        type=float,
        metavar="X",
        help="largest norm of all gradients together; default: any",
    )


def settings(arguments: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """The entries of the config, defaults filled in.

    Raises
    ------
    ArgumentError
        A warm-up that the schedule has no room for.
    """
    name, warmup = arguments.optimizer, arguments.warmup or 0
    if warmup and arguments.schedule in _OWN_START:
        raise ArgumentError(
            f"--warmup {warmup} does not go with --schedule {arguments.schedule}: use constant, "
            "cosine, exponential or step"
        )
    if warmup and warmup >= epochs:
        raise ArgumentError(f"--warmup {warmup}: expected fewer than the {epochs} epochs")
    decay = 0.01 if name == "adamw" else 0.0
    return {
        "optimizer": name,
        "lr": _LEARNING_RATES[name] if arguments.lr is None else arguments.lr,
        "weight_decay": decay if arguments.weight_decay is None else arguments.weight_decay,
        "schedule": arguments.schedule,
        "warmup": warmup,
        "clip_norm": arguments.clip_norm,
    }


def make_optimizer(config: dict[str, Any], model: nn.Module) -> optim.Optimizer:
    """The optimiser of a config."""
    more = {"momentum": 0.9} if config["optimizer"] == "sgd" else {}
    kind: Any = optim.BY_NAME[config["optimizer"]]
    return kind(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"], **more)


def make_schedule(
    config: dict[str, Any], optimizer: optim.Optimizer, batches: int
) -> schedules.LRScheduler | None:
    """The schedule of a config; an epoch has so many ``batches``."""
    warmup = config["warmup"]
    main = _main_schedule(config, optimizer, config["epochs"] - warmup, batches)
    if not warmup:
        return main
    first = schedules.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
    return schedules.SequentialLR(optimizer, [first, main], [warmup]) if main else first


def _main_schedule(
    config: dict[str, Any], optimizer: optim.Optimizer, epochs: int, batches: int
) -> schedules.LRScheduler | None:
    name = config["schedule"]
    if name == "cosine":
        return schedules.CosineAnnealingLR(optimizer, epochs)
    if name == "exponential":
        return schedules.ExponentialLR(optimizer, 0.01 ** (1 / epochs))
    if name == "step":
        return schedules.StepLR(optimizer, -(-epochs // 3))
    if name == "plateau":
        return schedules.ReduceLROnPlateau(optimizer, patience=_PATIENCE)
    if name == "onecycle":
        cycles = config["optimizer"] in ("adam", "adamw", "sgd")  # those with a momentum
        return schedules.OneCycleLR(
            optimizer, config["lr"], epochs * batches, cycle_momentum=cycles
        )
    return None
