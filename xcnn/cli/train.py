"""``xcnn train``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

from .. import __version__, backends, data, models, nn, random
from ..data.recipes import MIXTURES, names_for
from ..errors import ArgumentError
from ..training.trainer import Epoch, Trainer
from . import optimization, sources
from .runs import CONFIG, HISTORY, MODEL, RunFolder
from .weights import freeze, load_init

_SMALL = 10_000  # images; smaller data sets get more epochs by default


def run(arguments: argparse.Namespace) -> int:
    """Train as the options say and write the run folder."""
    started = time.perf_counter()
    backend = backends.get(arguments.device)
    with backend.precision(arguments.precision):  # refused now rather than after the data
        pass
    if arguments.memory_limit is not None:
        backend.limit_memory(arguments.memory_limit)
    dataset = sources.for_training(arguments)
    config = _config(arguments, dataset, backend.device)
    random.manual_seed(config["seed"])
    model = build_model(config)
    left_out = load_init(model, config["init"], config["new_head"]) if config["init"] else []
    frozen = freeze(model, config["freeze"])
    model = with_end(model, config["loss"]).to(backend)
    loader = _loader(dataset, dataset.train, config, training=True)
    loader.drop_last = _leaves_one(model, len(dataset.train), config["batch_size"])
    optimizer = optimization.make_optimizer(config, model)
    schedule = optimization.make_schedule(config, optimizer, len(loader))
    limits = config["precision"], schedule, config["clip_norm"]
    trainer = Trainer(model, optimizer, config["loss"], *limits)
    folder = RunFolder.create(arguments.out, f"{config['model']}-{Path(config['data']).name}")
    if not arguments.quiet:
        _print_head(config, model, dataset, frozen)
        if left_out:
            print(f"starting anew: {', '.join(left_out)}", flush=True)

    def after_epoch(trainer: Trainer, epoch: Epoch) -> bool:
        folder.save(trainer.model, trainer.history, config)
        bar_is_seen = sys.stderr.isatty() and sys.stdout.isatty()
        if not arguments.quiet and not bar_is_seen:
            print(_epoch_line(epoch, config["epochs"]), flush=True)
        return not math.isfinite(epoch.train_loss)  # True stops

    try:
        with backend.quiet_overflow():  # a loss that is no number is told below
            trainer.fit(
                loader,
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
    """A new network, which returns logits."""
    binary = config["loss"].startswith("binary")
    return models.create(
        config["model"],
        num_classes=1 if binary else len(config["classes"]),
        input_shape=tuple(config["input_shape"]),
    )


def with_end(model: nn.Module, loss: str) -> nn.Module:
    """The network with the layer at its end that the loss needs, if any."""
    ends: dict[str, type[nn.Module]] = {
        "nll": nn.LogSoftmax,
        "binary_cross_entropy": nn.Sigmoid,
    }
    if loss not in ends:
        return model
    network = model if isinstance(model, nn.Sequential) else nn.Sequential({"network": model})
    return network.append(ends[loss]())


def _config(arguments: argparse.Namespace, dataset: data.DataSet, device: str) -> dict[str, Any]:
    """Every setting, defaults filled in."""
    is_image = len(dataset.image_shape) == 3
    model = arguments.model or ("lenet5" if is_image else "mlp")
    if model not in models.classifiers():
        raise ArgumentError(
            f"{model} returns images, xcnn train needs a network that tells classes apart: one of "
            f"{', '.join(models.classifiers())}; train {model} with xcnn.Trainer or a loop of your "
            "own"
        )
    if arguments.new_head and not arguments.init:
        raise ArgumentError("--new-head says what to do with the file of --init: pass that too")
    if not is_image and model != "mlp":
        raise ArgumentError(f"{model} takes images, {dataset.name} holds features: use mlp")
    if arguments.loss.startswith("binary") and len(dataset.classes) != 2:
        raise ArgumentError(
            f"--loss {arguments.loss} needs two classes, {dataset.name} has "
            f"{len(dataset.classes)}: use cross_entropy or nll"
        )
    epochs = arguments.epochs or (20 if len(dataset.train) < _SMALL else 5)
    return {
        "xcnn": __version__,
        "model": model,
        "data": dataset.name,
        "classes": dataset.classes,
        "input_shape": list(dataset.image_shape),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "scale": dataset.normalize().scale,
        "augment": _augment(arguments, dataset),
        **({"on_error": sources.on_error(arguments)} if sources.is_folder(arguments.data) else {}),
        "limit": arguments.limit,
        "epochs": epochs,
        "batch_size": arguments.batch_size,
        **optimization.settings(arguments, epochs),
        "loss": arguments.loss,
        "init": arguments.init,
        "new_head": arguments.new_head,
        "freeze": arguments.freeze or [],
        "seed": arguments.seed,
        "device": device,
        "precision": arguments.precision,
    }


def _loader(
    dataset: data.DataSet, part: data.Dataset, config: dict[str, Any], training: bool = False
) -> data.DataLoader:
    changes = config["augment"] if training else "none"
    return data.DataLoader(
        part,
        batch_size=config["batch_size"] if training else 256,
        shuffle=training,
        seed=config["seed"],
        transform=data.training_transform(changes, dataset),
    )


def _leaves_one(model: nn.Module, images: int, batch_size: int) -> bool:
    """Whether the last batch is one image, and a batch-norm has nothing to compare it with."""
    kinds = nn.BatchNorm1d, nn.BatchNorm2d
    return images % batch_size == 1 < images and any(
        isinstance(module, kinds) for module in model.modules()
    )


def _augment(arguments: argparse.Namespace, dataset: data.DataSet) -> str:
    """Names of augmentations, as the config keeps them."""
    names = names_for(arguments.augment, dataset.name)
    mixtures = [name for name in names if name in MIXTURES]
    if mixtures and arguments.loss != "cross_entropy":
        raise ArgumentError(
            f"--augment {mixtures[0]} mixes labels, which --loss {arguments.loss} does not take: "
            "use cross_entropy"
        )
    text = ",".join(names) or "none"
    data.training_transform(text, dataset)  # refused now rather than after the run folder is made
    return text


def _print_head(
    config: dict[str, Any], model: nn.Module, dataset: data.DataSet, frozen: int
) -> None:
    parameters = f"{sum(p.size for p in model.parameters()):,} parameters"
    if frozen:
        parameters += f", {frozen:,} of them frozen"
    print(
        f"{config['model']} ({parameters}) on {dataset.name}: "
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
