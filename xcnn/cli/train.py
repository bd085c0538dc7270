"""Train a network; without arguments, LeNet-5 on handwritten digits."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

from .. import __version__, backends, data, models, nn, random
from ..data.augment import MIXTURES, RECIPES, recipe_names, training_transform
from ..errors import ArgumentError
from ..training import Epoch, Trainer
from . import optimizer, sources, weights
from .options import Parser, add_device, count, seed, size
from .runs import CONFIG, HISTORY, LOSSES, MODEL, RunFolder, is_binary

_SMALL = 10_000  # images; smaller datasets get more epochs by default
#: options copied to the config unchanged
_COPIED = ("limit", "batch_size", "loss", "init", "new_head", "seed", "precision")


def add_options(parser: Parser) -> None:
    names = f"{', '.join(models.classifiers())}; default: lenet5 for images, mlp for features"
    parser.add("model MODEL", names, nargs="?", choices=models.names())
    sources.add_data(
        parser,
        f"dataset: {', '.join(data.names())}; or a folder of images, with one folder per class in "
        "train/ and test/ (or val/), or directly in it, where a fifth is held out for testing",
        default="digits",
    )
    sources.add_folder(parser)
    recipes = ", ".join(f"{name} ({recipe.text})" for name, recipe in RECIPES.items())
    augment = (
        f"augmentations of training images, separated by commas: {recipes.replace('%', '%%')}; or "
        "standard: the default for the dataset, such as flip,crop for photographs"
    )
    parser.add("--augment NAMES", augment, default="none")
    epochs = f"passes over the data; default: 20 for fewer than {_SMALL:,} training images, else 5"
    parser.add("--epochs N", epochs, type=count)
    parser.add("--batch-size N", "images per step", type=count, default=64)
    optimizer.add_options(parser)
    losses = f"{', '.join(LOSSES)}; the binary ones need two classes"
    parser.add("--loss NAME", losses, choices=LOSSES, default="cross_entropy")
    weights.add_options(parser)
    seed_help = "seed of weights, order and augmentation; the same seed gives the same run"
    parser.add("--seed N", seed_help, type=seed, default=0)
    add_device(parser)
    precision = "precision of matrix products; tf32 and float16 (with float32 weights) need a GPU"
    parser.add("--precision", precision, choices=backends.PRECISIONS, default="float32")
    memory = "maximum GPU memory to use, such as 4GiB or 800MiB; default: all"
    parser.add("--memory-limit SIZE", memory, type=size)
    parser.add("--out DIR", "run folder; default: the first free runs/MODEL-DATA-N")
    limit = "use only N images of each split: the first N, or for a folder N chosen by --seed"
    parser.add("--limit N", limit, type=count)
    parser.add("--quiet", "print only the last line", action="store_true")


def run(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    backend = _open_device(arguments)
    _check_options(arguments)
    dataset = sources.training_data(arguments)
    config = _config(arguments, dataset)
    random.manual_seed(config["seed"])
    model = create_model(config)
    init = config["init"]
    reset = weights.load_init(model, init, config["new_head"]) if init else []
    weights.freeze(model, config["freeze"])
    model = with_output_layer(model, config["loss"]).to(backend)
    loader = _loader(dataset, config, training=True)
    loader.drop_last = _last_batch_is_one(model, len(dataset.train), config["batch_size"])
    trainer = _trainer(model, config, len(loader))
    test = _loader(dataset, config, training=False)
    folder = RunFolder.create(arguments.out, f"{config['model']}-{Path(config['data']).name}")
    if not arguments.quiet:
        _print_start(config, model, dataset, reset)
    with backend.quiet_overflow():  # a non-finite loss is reported below
        _fit(trainer, (loader, test), folder, config, arguments.quiet)
    last = trainer.history[-1]
    if not math.isfinite(last.train_loss):
        raise ArgumentError(
            f"the training diverged: the loss is {last.train_loss} after {_epochs(last.epoch)}; "
            f"choose an --lr below {config['lr']}"
        )
    _print_end(trainer, len(dataset.test), folder, time.perf_counter() - started)


def _open_device(arguments: argparse.Namespace) -> backends.Backend:
    """Open the device and check its options before loading data."""
    backend = backends.get(arguments.device)
    with backend.precision(arguments.precision):
        pass
    if arguments.memory_limit is not None:
        backend.limit_memory(arguments.memory_limit)
    return backend


def _trainer(model: nn.Module, config: dict[str, Any], batches: int) -> Trainer:
    algorithm = optimizer.create_optimizer(config, model)
    schedule = optimizer.create_schedule(config, algorithm, batches)
    settings = config["loss"], config["precision"], schedule, config["clip_norm"]
    return Trainer(model, algorithm, *settings)


def _fit(
    trainer: Trainer, loaders: tuple, folder: RunFolder, config: dict[str, Any], quiet: bool
) -> None:
    """Train until the last epoch, a non-finite loss or Ctrl-C, saving after each epoch."""

    def after_epoch(trainer: Trainer, epoch: Epoch) -> bool:
        folder.save(trainer.model, trainer.history, config)
        shows_bar = sys.stderr.isatty() and sys.stdout.isatty()
        if not quiet and not shows_bar:
            print(_epoch_line(epoch, config["epochs"]), flush=True)
        return not math.isfinite(epoch.train_loss)  # True stops

    train, test = loaders
    settings: dict[str, Any] = {"epochs": config["epochs"], "progress": not quiet}
    try:
        trainer.fit(train, validation=test, callbacks=[after_epoch], **settings)
    except KeyboardInterrupt:
        if len(trainer.history) > folder.epochs:  # interrupted while saving
            folder.save(trainer.model, trainer.history, config)
        print(f"\nstopped: {_saved(folder)}")
        raise
    except OSError:
        print(f"\nthe files cannot be written: {_saved(folder)}")
        raise
    finally:
        folder.remove_if_empty()


def create_model(config: dict[str, Any]) -> Any:
    """A new network whose outputs are logits."""
    return models.create(
        config["model"],
        num_classes=1 if is_binary(config["loss"]) else len(config["classes"]),
        input_shape=tuple(config["input_shape"]),
    )


def with_output_layer(model: nn.Module, loss: str) -> nn.Module:
    """The network, followed by the output layer that the loss needs, if any."""
    layer = LOSSES[loss].layer
    if layer is None:
        return model
    network = model if isinstance(model, nn.Sequential) else nn.Sequential({"network": model})
    return network.append(layer())


def _check_options(arguments: argparse.Namespace) -> None:
    """Check the options that do not depend on the data before loading it."""
    model, loss = arguments.model, arguments.loss
    if model and model not in models.classifiers():
        raise ArgumentError(
            f"{model} outputs images, but xcnn train needs a classifier: one of "
            f"{', '.join(models.classifiers())}; train {model} with xcnn.Trainer"
        )
    if arguments.new_head and not arguments.init:
        raise ArgumentError("--new-head needs --init: pass both, or leave it out")
    for name in recipe_names(arguments.augment, arguments.data):
        if name in MIXTURES and loss != "cross_entropy":
            raise ArgumentError(
                f"--augment {name} mixes labels, which --loss {loss} does not support: use "
                "cross_entropy"
            )


def _config(arguments: argparse.Namespace, dataset: data.DataSplits) -> dict[str, Any]:
    """All settings, with defaults filled in."""
    model, loss, is_image = arguments.model, arguments.loss, len(dataset.image_shape) == 3
    if not is_image and model not in (None, "mlp"):
        raise ArgumentError(f"{model} takes images, but {dataset.name} holds features: use mlp")
    if is_binary(loss) and len(dataset.classes) != 2:
        raise ArgumentError(
            f"--loss {loss} needs two classes, but {dataset.name} has {len(dataset.classes)}: use "
            "cross_entropy or nll"
        )
    epochs = arguments.epochs or (20 if len(dataset.train) < _SMALL else 5)
    return {
        "xcnn": __version__,
        "model": model or ("lenet5" if is_image else "mlp"),
        "data": dataset.name,
        "classes": dataset.classes,
        "input_shape": list(dataset.image_shape),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "scale": dataset.normalize().scale,
        "augment": ",".join(recipe_names(arguments.augment, arguments.data)) or "none",
        **sources.settings(arguments),
        "epochs": epochs,
        **optimizer.settings(arguments, epochs),
        "freeze": arguments.freeze or [],
        "device": backends.get(arguments.device).device,
        **{key: getattr(arguments, key) for key in _COPIED},
    }


def _loader(dataset: data.DataSplits, config: dict[str, Any], training: bool) -> data.DataLoader:
    return data.DataLoader(
        dataset.train if training else dataset.test,
        batch_size=config["batch_size"] if training else 256,
        shuffle=training,
        seed=config["seed"],
        transform=training_transform(config["augment"] if training else "none", dataset),
    )


def _last_batch_is_one(model: nn.Module, images: int, batch_size: int) -> bool:
    """Whether the last batch is a single image, for which batch norm has no variance."""
    kinds = nn.BatchNorm1d, nn.BatchNorm2d
    return images % batch_size == 1 < images and any(isinstance(m, kinds) for m in model.modules())


def _print_start(
    config: dict[str, Any], model: nn.Module, dataset: data.DataSplits, reset: list[str]
) -> None:
    parameters = f"{sum(p.size for p in model.parameters()):,} parameters"
    frozen = sum(p.size for p in model.parameters() if not p.requires_grad)
    if frozen:
        parameters += f", {frozen:,} of them frozen"
    print(
        f"{config['model']} ({parameters}) on {dataset.name}: "
        f"{len(dataset.train):,} to train, {len(dataset.test):,} to test, on {config['device']}",
        flush=True,
    )
    if reset:
        print(f"randomly initialised: {', '.join(reset)}", flush=True)


def _epoch_line(epoch: Epoch, epochs: int) -> str:
    return (
        f"epoch {epoch.epoch}/{epochs}: loss {epoch.train_loss:.4f}, accuracy "
        f"{epoch.train_accuracy:.4f}, val_loss {epoch.val_loss:.4f}, val_accuracy "
        f"{epoch.val_accuracy:.4f}, {epoch.seconds:.1f} s"
    )


def _print_end(trainer: Trainer, total: int, folder: RunFolder, seconds: float) -> None:
    if trainer.scaler is not None:
        skipped = trainer.scaler.skipped
        print(
            f"float16: {skipped:,} step{'s' * (skipped != 1)} skipped because gradients "
            f"overflowed; the loss scale is {trainer.scaler.scale:g}"
        )
    last = trainer.history[-1]
    accuracy = last.val_accuracy or 0.0
    print(
        f"test accuracy {accuracy:.2%} ({round(accuracy * total):,} of {total:,}) after "
        f"{_epochs(last.epoch)} in {seconds:.1f} s; "
        f"{folder.path} holds {MODEL}, {HISTORY}, {CONFIG}"
    )


def _saved(folder: RunFolder) -> str:
    if not folder.epochs:
        return "no epoch was finished, nothing was saved"
    return f"{folder.path} holds the network after {_epochs(folder.epochs)}"


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
