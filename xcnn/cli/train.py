"""``xcnn train``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

from .. import __version__, backends, data, models, nn, optim, random
from ..errors import ArgumentError
from ..schedules import CosineAnnealingLR
from ..trainer import Epoch, Trainer
from .runs import CONFIG, HISTORY, MODEL, RunFolder

_SMALL = 10_000  # images; smaller data sets get more epochs by default
_LEARNING_RATES = {"adam": 1e-3, "sgd": 0.05}


def run(arguments: argparse.Namespace) -> int:
    """Train as the options say and write the run folder."""
    started = time.perf_counter()
    backend = backends.get(arguments.device)
    with backend.precision(arguments.precision):  # refused now rather than after the data
        pass
    if arguments.memory_limit is not None:
        backend.limit_memory(arguments.memory_limit)
    dataset = data.load(
        arguments.data, arguments.data_dir, progress=not arguments.quiet, limit=arguments.limit
    )
    config = _config(arguments, dataset, backend.device)
    random.manual_seed(config["seed"])
    model = build_model(config).to(backend)
    optimizer = _optimizer(config, model)
    trainer = Trainer(model, optimizer, config["loss"], config["precision"])
    folder = RunFolder.create(arguments.out, f"{config['model']}-{config['data']}")
    if not arguments.quiet:
        _print_head(config, model, dataset)

    schedule = CosineAnnealingLR(optimizer, config["epochs"])

    def after_epoch(trainer: Trainer, epoch: Epoch) -> bool:
        if config["schedule"] == "cosine":
            schedule.step()
        folder.save(trainer.model, trainer.history, config)
        bar_is_seen = sys.stderr.isatty() and sys.stdout.isatty()
        if not arguments.quiet and not bar_is_seen:
            print(_epoch_line(epoch, config["epochs"]), flush=True)
        return not math.isfinite(epoch.train_loss)  # True stops

    try:
        with backend.quiet_overflow():  # a loss that is no number is told below
            trainer.fit(
                _loader(dataset, dataset.train, config, shuffle=True),
                epochs=config["epochs"],
                validation=_loader(dataset, dataset.test, config),
                callbacks=[after_epoch],
                progress=not arguments.quiet,
            )
    except KeyboardInterrupt:
        if len(trainer.history) > folder.epochs:  # it came while the last one was being saved
            folder.save(model, trainer.history, config)
        print(f"\nstopped: {_kept(folder)}")
        raise
    except OSError:
        print(f"\nthe files cannot be written: {_kept(folder)}")
        raise
    finally:
        folder.remove_if_empty()
    if not math.isfinite(trainer.history[-1].train_loss):
        raise ArgumentError(
            f"the training diverged: the loss is {trainer.history[-1].train_loss} after "
            f"{_epochs(len(trainer.history))}; choose a smaller --lr than {config['lr']}"
        )
    _print_end(trainer, dataset, folder, time.perf_counter() - started)
    return 0


def build_model(config: dict[str, Any]) -> Any:
    """A new network with an end that fits the loss."""
    binary = config["loss"].startswith("binary")
    model = models.create(
        config["model"],
        num_classes=1 if binary else len(config["classes"]),
        input_shape=tuple(config["input_shape"]),
    )
    if config["loss"] == "nll":
        model.append(nn.LogSoftmax())
    elif config["loss"] == "binary_cross_entropy":
        model.append(nn.Sigmoid())
    return model


def _config(arguments: argparse.Namespace, dataset: data.DataSet, device: str) -> dict[str, Any]:
    """Every setting, defaults filled in."""
    is_image = len(dataset.image_shape) == 3
    model = arguments.model or ("lenet5" if is_image else "mlp")
    if not is_image and model != "mlp":
        raise ArgumentError(f"{model} takes images, {dataset.name} holds features: use mlp")
    if arguments.loss.startswith("binary") and len(dataset.classes) != 2:
        raise ArgumentError(
            f"--loss {arguments.loss} needs two classes, {dataset.name} has "
            f"{len(dataset.classes)}: use cross_entropy or nll"
        )
    epochs = arguments.epochs or (20 if len(dataset.train) < _SMALL else 5)
    lr = _LEARNING_RATES[arguments.optimizer] if arguments.lr is None else arguments.lr
    return {
        "xcnn": __version__,
        "model": model,
        "data": dataset.name,
        "classes": dataset.classes,
        "input_shape": list(dataset.image_shape),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "scale": dataset.normalize().scale,
        "limit": arguments.limit,
        "epochs": epochs,
        "batch_size": arguments.batch_size,
        "optimizer": arguments.optimizer,
        "lr": lr,
        "schedule": arguments.schedule,
        "loss": arguments.loss,
        "seed": arguments.seed,
        "device": device,
        "precision": arguments.precision,
    }


def _optimizer(config: dict[str, Any], model: nn.Module) -> optim.Optimizer:
    settings = {"momentum": 0.9} if config["optimizer"] == "sgd" else {}
    kind: Any = optim.BY_NAME[config["optimizer"]]
    return kind(model.parameters(), lr=config["lr"], **settings)


def _loader(
    dataset: data.DataSet, part: data.ArrayDataset, config: dict[str, Any], shuffle: bool = False
) -> data.DataLoader:
    return data.DataLoader(
        part,
        batch_size=config["batch_size"] if shuffle else 256,
        shuffle=shuffle,
        seed=config["seed"],
        transform=dataset.normalize(),
    )


def _print_head(config: dict[str, Any], model: nn.Module, dataset: data.DataSet) -> None:
    parameters = sum(p.size for p in model.parameters())
    print(
        f"{config['model']} ({parameters:,} parameters) on {dataset.name}: "
        f"{len(dataset.train):,} to train, {len(dataset.test):,} to test, on {config['device']}",
        flush=True,
    )


def _epoch_line(epoch: Epoch, epochs: int) -> str:
    return (
        f"epoch {epoch.epoch}/{epochs}: loss {epoch.train_loss:.4f}, accuracy "
        f"{epoch.train_accuracy:.4f}, val_loss {epoch.val_loss:.4f}, val_accuracy "
        f"{epoch.val_accuracy:.4f}, {epoch.seconds:.1f} s"
    )


def _print_end(trainer: Trainer, dataset: data.DataSet, folder: RunFolder, seconds: float) -> None:
    last = trainer.history[-1]
    accuracy = last.val_accuracy or 0.0
    right = round(accuracy * len(dataset.test))
    if trainer.scaler is not None:
        skipped = trainer.scaler.skipped
        print(
            f"float16: {skipped:,} step{'s' * (skipped != 1)} skipped, their gradients having "
            f"overflowed; the loss scale is {trainer.scaler.scale:g}"
        )
    print(
        f"test accuracy {accuracy:.2%} ({right:,} of {len(dataset.test):,}) after "
        f"{_epochs(last.epoch)} in {seconds:.1f} s; "
        f"{folder.path} holds {MODEL}, {HISTORY}, {CONFIG}"
    )


def _kept(folder: RunFolder) -> str:
    if not folder.epochs:
        return "no epoch was finished, nothing is saved"
    return f"{folder.path} holds the network after {_epochs(folder.epochs)}"


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
