"""Options of ``xcnn train`` for the optimiser and the learning rate."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .. import nn, optim, schedules
from ..checks import check_number
from ..errors import ArgumentError
from .options import Parser, count

_DEFAULTS: dict[str, dict[str, float]] = {
    "adagrad": {"lr": 0.01},
    "adam": {"lr": 1e-3},
    "adamw": {"lr": 1e-3, "weight_decay": 0.01},
    "lars": {"lr": 5.0, "momentum": 0.9},
    "lion": {"lr": 5e-4, "weight_decay": 0.01},
    "nadam": {"lr": 1e-3},
    "radam": {"lr": 5e-3},
    "rmsprop": {"lr": 1e-3},
    "sgd": {"lr": 0.05, "momentum": 0.9},
}
_PATIENCE = 3
_NO_WARMUP = ("onecycle", "plateau")


def _one_cycle(optimizer: optim.Optimizer, epochs: int, batches: int) -> schedules.LRScheduler:
    settings, steps = optimizer.defaults, epochs * batches
    has_momentum = "betas" in settings or settings.get("momentum", 0) > 0
    rates = [group["lr"] for group in optimizer.param_groups]
    return schedules.OneCycleLR(optimizer, rates, steps, cycle_momentum=has_momentum)


#: help, and the schedule for (optimizer, epochs, batches per epoch)
SCHEDULES: dict[str, tuple[str, Callable[..., schedules.LRScheduler | None]]] = {
    "constant": ("stays at --lr", lambda *_: None),
    "cosine": ("falls to zero", lambda opt, n, _: schedules.CosineAnnealingLR(opt, n)),
    "exponential": (
        "falls to a hundredth, by the same factor each epoch",
        lambda opt, n, _: schedules.ExponentialLR(opt, 0.01 ** (1 / n)),
    ),
    "linear": (
        "falls to zero on a straight line",
        lambda opt, n, _: schedules.PolynomialLR(opt, n),
    ),
    "onecycle": ("rises to --lr and falls to almost zero, batch by batch", _one_cycle),
    "plateau": (
        f"falls to a tenth after {_PATIENCE + 1} epochs without a lower test loss",
        lambda opt, *_: schedules.ReduceLROnPlateau(opt, patience=_PATIENCE),
    ),
    "restarts": (
        "falls to zero three times, each time over twice as many epochs",
        lambda opt, n, _: schedules.CosineAnnealingWarmRestarts(opt, -(-n // 7), 2),
    ),
    "step": (
        "falls to a tenth after each third of the epochs",
        lambda opt, n, _: schedules.StepLR(opt, -(-n // 3)),
    ),
}


def add_options(parser: Parser) -> None:
    """Add ``--optimizer``, ``--schedule`` and their settings."""
    parser.section("optimiser")
    rates = ", ".join(f"{values['lr']:g} for {name}" for name, values in _DEFAULTS.items())
    names = f"optimiser: {', '.join(_DEFAULTS)}; lars and sgd have momentum 0.9"
    parser.add("--optimizer NAME", names, choices=_DEFAULTS, default="adam")
    parser.add("--lr X", f"learning rate; default: {rates}", type=float)
    factors = (
        "multiply the learning rate by FACTOR for parameters whose names match, such as "
        "'layer1.*=0.1'; can be repeated, the last one that matches counts"
    )
    parser.add("--lr-for PATTERN=FACTOR", factors, type=_rate, action="append", values=list)
    decay = "weight decay; default: 0.01 for adamw and lion, 0 for the others"
    parser.add("--weight-decay X", decay, type=float)
    curves = "; ".join(f"{name} {help}" for name, (help, _) in SCHEDULES.items())
    curves = f"learning rate over the epochs: {curves}"
    parser.add("--schedule NAME", curves, choices=SCHEDULES, default="cosine")
    warmup = "epochs over which the learning rate first rises linearly to --lr; default: none"
    parser.add("--warmup N", warmup, type=count)
    clip = "clip the norm of all gradients together to X; default: none"
    parser.add("--clip-norm X", clip, type=float)


def settings(arguments: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """The config entries of these options, with defaults filled in.

    Raises
    ------
    ArgumentError
        A warm-up that does not fit the schedule or the epochs.
    """
    warmup = arguments.warmup or 0
    if warmup and arguments.schedule in _NO_WARMUP:
        names = ", ".join(name for name in SCHEDULES if name not in _NO_WARMUP)
        raise ArgumentError(
            f"--warmup {warmup} does not fit --schedule {arguments.schedule}: use one of {names}"
        )
    if warmup and warmup >= epochs:
        raise ArgumentError(f"--warmup {warmup}: expected fewer than the {epochs} epochs")
    return {
        "optimizer": arguments.optimizer,
        **defaults(arguments),
        "betas": arguments.betas,
        "lr_for": arguments.lr_for or [],
        "schedule": arguments.schedule,
        "warmup": warmup,
        "clip_norm": arguments.clip_norm,
    }


def defaults(arguments: argparse.Namespace) -> dict[str, float]:
    """The learning rate and the weight decay: those given, else the optimiser's defaults."""
    default = {"weight_decay": 0.0, **_DEFAULTS[arguments.optimizer]}
    given = {name: getattr(arguments, name) for name in ("lr", "weight_decay")}
    return {name: default[name] if value is None else value for name, value in given.items()}


def _rate(text: str) -> str:
    """The text, if it is PATTERN=FACTOR."""
    pattern, _, factor = text.rpartition("=")
    try:
        check_number("factor", float(factor), 0)
    except ValueError:
        pattern = ""
    if not pattern:
        raise ArgumentError(f"{text!r}: expected PATTERN=FACTOR, such as 'layer1.*=0.1'")
    return text


def rates(config: dict[str, Any], model: nn.Module) -> dict[nn.Parameter, float]:
    """The learning rates of the parameters that do not have the one of all.

    Raises
    ------
    ArgumentError
        A pattern of ``--lr-for`` matches no parameter.
    """
    found: dict[nn.Parameter, float] = {}
    for text in config["lr_for"]:
        pattern, _, factor = text.rpartition("=")
        for parameter in nn.matching_parameters(model, pattern, "--lr-for").values():
            found[parameter] = config["lr"] * float(factor)
    return found


def create_optimizer(
    config: dict[str, Any], model: nn.Module, rates: Mapping[nn.Parameter, float]
) -> optim.Optimizer:
    """The optimiser of a config, with a group of parameters for each learning rate."""
    name = config["optimizer"]
    values = {**_DEFAULTS.get(name, {}), "lr": config["lr"], "weight_decay": config["weight_decay"]}
    kind: Any = optim.BY_NAME[name]
    if config["betas"] and "betas" in inspect.signature(kind).parameters:
        values["betas"] = tuple(config["betas"])
    groups: dict[float, list[nn.Parameter]] = {config["lr"]: []}  # the first is shown as "lr"
    for parameter in model.parameters():
        groups.setdefault(rates.get(parameter, config["lr"]), []).append(parameter)
    return kind([{"params": params, "lr": lr} for lr, params in groups.items() if params], **values)


def create_schedule(
    config: dict[str, Any], optimizer: optim.Optimizer, batches: int
) -> schedules.LRScheduler | None:
    """The schedule of a config, with ``batches`` per epoch; None for a constant learning rate."""
    warmup = config["warmup"]
    _, create = SCHEDULES[config["schedule"]]
    main = create(optimizer, config["epochs"] - warmup, batches)
    if not warmup:
        return main
    first = schedules.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
    return schedules.SequentialLR(optimizer, [first, main], [warmup]) if main else first
