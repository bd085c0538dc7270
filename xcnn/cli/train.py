"""Train a network; without arguments, LeNet-5 on handwritten digits."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import __version__, backends, callbacks, data, metrics, models, nn, random, report
from ..checks import check_choice
from ..data.augment import MIXTURES, RECIPES, recipe_names, training_transform
from ..errors import ArgumentError, DivergenceError
from ..training import Epoch, Trainer
from . import optimizer, sources, weights
from .options import Parser, add_device, count, path, seed, size
from .runs import LOGS, LOSSES, RunFolder, is_binary

_SMALL = 10_000  # images; smaller datasets get more epochs by default
#: options copied to the config unchanged
_COPIED = (
    *("limit", "batch_size", "loss", "init", "new_head", "seed", "precision", "data_dir"),
    *("accumulate", "metrics", "class_weight", "ema", "patience"),
    *("checkpoint_every", "keep", "best", "log", "report"),
)
#: options that go with --resume; the others are those of the run
_RESUMED = (
    *("resume", "epochs", "device", "quiet", "memory_limit", "time_limit", "data_dir"),
    "data",  # where the folder is now
)


def add_options(parser: Parser) -> None:
    names = f"{', '.join(models.classifiers())}; default: lenet5 for images, mlp for features"
    other = {
        name: f"{name} outputs images: train it with xcnn.Trainer"
        for name in models.names()
        if name not in models.classifiers()
    }
    parser.add("model MODEL", names, other, nargs="?", choices=models.classifiers())
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
    accumulate = "batches per step of the optimiser, to train with N times the batch size"
    parser.add("--accumulate N", accumulate, type=count, default=1)
    optimizer.add_options(parser)
    losses = f"{', '.join(LOSSES)}; the binary ones need two classes"
    parser.add("--loss NAME", losses, choices=LOSSES, default="cross_entropy")
    weight = "balanced: classes weigh in the loss as if they were equally frequent"
    parser.add("--class-weight NAME", weight, choices=["balanced"])
    measured = f"also measure, separated by commas: {', '.join(_metric_names())}"
    parser.add("--metrics NAMES", measured, type=_metrics, default=[])
    average = "test and save an exponential moving average of the weights, such as 0.999"
    parser.add("--ema DECAY", average, type=lambda text: callbacks.EMA(float(text)).decay)
    patience = "stop after N epochs in which --best, or the test loss, has not improved"
    parser.add("--patience N", patience, type=count)
    weights.add_options(parser)
    seed_help = "seed of weights, order and augmentation; the same seed gives the same run"
    parser.add("--seed N", seed_help, type=seed, default=0)
    add_device(parser)
    precision = "precision of matrix products; tf32 and float16 (with float32 weights) need a GPU"
    parser.add("--precision", precision, choices=backends.PRECISIONS, default="float32")
    memory = "maximum GPU memory to use, such as 4GiB or 800MiB; default: all"
    parser.add("--memory-limit SIZE", memory, type=size)
    parser.add("--out DIR", "run folder; default: the first free runs/MODEL-DATA-N", type=path)
    resume = "go on with the run in this folder, with its settings; --epochs N trains longer"
    parser.add("--resume RUN", resume, type=path)
    every = "how often to write a checkpoint, such as 100steps, 5min or 1epoch"
    parser.add("--checkpoint-every TIME", every, type=_interval, default="1epoch")
    parser.add("--keep N", "number of checkpoints to keep", type=count, default=3)
    best = "also keep the best network by a column of history.csv, such as val_accuracy"
    parser.add("--best NAME", best)
    logs = "logs, separated by commas: " + ", ".join(f"{k} ({v})" for k, v in LOGS.items())
    parser.add("--log NAMES", f"{logs}; history.csv is always written", type=_logs, default=[])
    report_help = "write report.html to the run folder, and anew while training; see xcnn report"
    parser.add("--report", report_help, action="store_true")
    time_limit = "stop after a time, such as 30min or 2h, to be resumed"
    parser.add("--time-limit TIME", time_limit, type=lambda text: callbacks.TimeLimit(text).seconds)
    limit = "use only N images of each split: the first N, or for a folder N chosen by --seed"
    parser.add("--limit N", limit, type=count)
    parser.add("--quiet", "print only the last line", action="store_true")


def run(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    config = _resumed_config(arguments) if arguments.resume else None
    backend = _open_device(arguments)
    _check_options(arguments)
    dataset = sources.training_data(arguments)
    if config is None:
        config = _config(arguments, dataset)
    else:
        _check_same_data(config, dataset)
    random.manual_seed(config["seed"])
    model = create_model(config)
    init = config["init"] if not arguments.resume else None
    reset = weights.load_init(model, init, config["new_head"]) if init else []
    weights.freeze(model, config["freeze"])
    model = with_output_layer(model, config["loss"]).to(backend)
    loader = _loader(dataset, config, training=True)
    loader.drop_last = _last_batch_is_one(model, len(dataset.train), config["batch_size"])
    trainer = _trainer(model, config, len(loader))
    used = _callbacks(arguments, config)
    test = _loader(dataset, config, training=False)
    if arguments.resume:
        folder = RunFolder(Path(arguments.resume))
        folder.resume(config)
    else:
        name = f"{config['model']}-{Path(config['data']).name}"
        folder = RunFolder.create(arguments.out, name, config)
    if not arguments.quiet:
        _print_start(config, model, dataset, reset)
    # a training that diverges is reported
    with backend.quiet_overflow(), _reporting(trainer, folder):
        trainer.fit(
            loader,
            epochs=config["epochs"],
            validation=test,
            callbacks=used + _writers(config, folder, test),
            progress=not arguments.quiet,
            class_weight=config["class_weight"],
            resume=folder.path,
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
    steps = -(-batches // config["accumulate"])
    schedule = optimizer.create_schedule(config, algorithm, steps)
    settings = {k: config[k] for k in ("loss", "precision", "clip_norm", "metrics", "accumulate")}
    return Trainer(model, algorithm, schedule=schedule, **settings)


def _callbacks(arguments: argparse.Namespace, config: dict[str, Any]) -> list[Any]:
    """What the options add to the training, except what writes to the run folder."""
    used: list[Any] = []
    if config["ema"] is not None:
        used.append(callbacks.EMA(config["ema"]))
    if config["patience"] is not None:
        used.append(callbacks.EarlyStopping(config["best"] or "val_loss", config["patience"]))
    if arguments.time_limit is not None:
        used.append(callbacks.TimeLimit(arguments.time_limit))
    if not arguments.quiet:
        used.append(_Lines())
    return used


def _writers(config: dict[str, Any], folder: RunFolder, test: data.DataLoader) -> list[Any]:
    """What writes to the run folder: the checkpoint, with history.csv, and the other logs."""
    every, keep, best = config["checkpoint_every"], config["keep"], config["best"]
    checkpoint = callbacks.ModelCheckpoint(folder.path, every, keep, best)
    checkpoint.lock = folder.lock
    fixed = config.keys() - {*_RESUMED, "xcnn", "init", "checkpoint_every", "keep"}
    checkpoint.settings = {name: config[name] for name in sorted(fixed)}
    used: list[Any] = [checkpoint]
    if "json" in config["log"]:
        used.append(callbacks.JSONLogger(folder.path / LOGS["json"], every="100steps"))
    if "tensorboard" in config["log"]:
        is_picture = config["input_shape"][1:] and config["input_shape"][0] in (1, 3)
        images = next(iter(test))[0][:16] if is_picture else None
        used.append(callbacks.TensorBoardLogger(folder.path / LOGS["tensorboard"], images=images))
    if config["report"]:
        shown = {"classes": config["classes"], "settings": config, "name": folder.path.name}
        used.append(report.Report(folder.path / "report.html", test, **shown))
    return used


class _Lines(callbacks.Callback):
    """Prints where a training goes on and, without a progress bar, a line for each epoch."""

    def on_fit_start(self, trainer: Trainer) -> None:
        if trainer.resumed_from is not None:
            place = f" after batch {trainer.batch}" if trainer.batch else ""
            what = f"going on with epoch {trainer.epoch}/{trainer.epochs}{place}"
            _say(what if trainer.epoch <= trainer.epochs else "nothing is left to do")

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        if not (sys.stderr.isatty() and sys.stdout.isatty()):
            numbers = epoch.row()
            number, seconds = numbers.pop("epoch"), numbers.pop("seconds")
            shown = ", ".join(f"{k.replace('train_', '')} {v:.4f}" for k, v in numbers.items())
            _say(f"epoch {number}/{trainer.epochs}: {shown}, {seconds:.1f} s")


def _say(text: str) -> None:
    """Print a line; a training continues even if nobody reads it, as after ``| head``."""
    with suppress(OSError):
        print(text, flush=True)


@contextmanager
def _reporting(trainer: Trainer, folder: RunFolder) -> Iterator[None]:
    """Say what the folder holds when the training ends early."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        _say(f"\nstopped: {_saved(folder)}")
        raise
    except OSError:
        _say(f"\nthe files cannot be written: {_saved(folder)}")
        raise
    except DivergenceError:
        if trainer.history:
            print(f"{folder.path} holds the network after {_epochs(len(trainer.history))}")
        raise
    finally:
        folder.remove_if_empty()
        if folder.lock is not None:
            folder.lock.release()
    if trainer.is_interrupted:
        print(f"\ntime limit reached: {_saved(folder)}", flush=True)


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
    loss = arguments.loss
    if arguments.new_head and not arguments.init:
        raise ArgumentError("--new-head needs --init: pass both, or leave it out")
    if arguments.class_weight and is_binary(loss):
        raise ArgumentError(f"--class-weight with --loss {loss}: use cross_entropy or nll")
    if arguments.best is not None:
        measured = ["loss", "accuracy", *(metrics.create(name).name for name in arguments.metrics)]
        columns = [f"{split}_{name}" for split in ("train", "val") for name in measured]
        check_choice("--best", arguments.best, columns)
    for name in recipe_names(arguments.augment, arguments.data):
        if name in MIXTURES and loss != "cross_entropy":
            raise ArgumentError(
                f"--augment {name} mixes labels, which --loss {loss} does not support: use "
                "cross_entropy"
            )


def _resumed_config(arguments: argparse.Namespace) -> dict[str, Any]:
    """The config of the run to resume; the arguments take over what it says of the data.

    Raises
    ------
    ArgumentError
        Not a run, one that is finished, or an option that a run cannot change.
    """
    refused = [name for name in arguments.given if name not in _RESUMED]
    if arguments.model or refused:
        what = f"--{refused[0].replace('_', '-')}" if refused else arguments.model
        raise ArgumentError(
            f"--resume goes on with the run's own settings: leave out {what}, or start a new run"
        )
    folder = RunFolder(Path(arguments.resume))
    config = folder.load_config(_NEW)
    epochs, done = arguments.epochs or config["epochs"], folder.finished_epochs()
    if arguments.epochs and done > epochs:
        raise ArgumentError(
            f"--epochs {epochs}: {arguments.resume} has finished {_epochs(done)} already; pass more"
        )
    if "data" in arguments.given:
        if not (sources.is_folder(config["data"]) and sources.is_folder(arguments.data)):
            raise ArgumentError("--data with --resume is for a folder of images that was moved")
        config["data"] = os.path.abspath(arguments.data)
    if sources.is_folder(config["data"]) and not os.path.isdir(config["data"]):
        raise ArgumentError(f"{config['data']} is gone: if it was moved, pass --data FOLDER")
    for name in ("data", "seed", "limit", "loss", "augment", "init", "new_head", "precision"):
        setattr(arguments, name, config[name])
    if "device" not in arguments.given:
        arguments.device = config["device"]
    arguments.data_dir = arguments.data_dir or config["data_dir"]
    if sources.is_folder(config["data"]):
        arguments.image_size = config["input_shape"][1]
        arguments.grey = config["input_shape"][0] == 1
        arguments.skip_unreadable = config.get("on_error") == "skip"
    device = backends.get(arguments.device).device
    return {**config, "epochs": epochs, "device": device, "data_dir": arguments.data_dir}


def _check_same_data(config: dict[str, Any], dataset: data.DataSplits) -> None:
    """Refuse to resume on data that are not those of the run."""
    found = {"classes": list(dataset.classes), "input_shape": list(dataset.image_shape)}
    if sources.is_folder(config["data"]):
        found["files"] = sources.files(dataset)
    for name, value in found.items():
        if value != config.get(name):
            raise ArgumentError(
                f"{config['data']} has changed since the run began: {name}: {config.get(name)}, "
                f"now {value}; start a new run"
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
        **({"files": sources.files(dataset)} if sources.is_folder(arguments.data) else {}),
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
    parameters = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    if frozen:
        parameters += f", {frozen:,} of them frozen"
    print(
        f"{config['model']} ({parameters}) on {dataset.name}: "
        f"{len(dataset.train):,} to train, {len(dataset.test):,} to test, on {config['device']}",
        flush=True,
    )
    if reset:
        print(f"randomly initialised: {', '.join(reset)}", flush=True)


def _print_end(trainer: Trainer, total: int, folder: RunFolder, seconds: float) -> None:
    if trainer.scaler is not None:
        skipped = trainer.scaler.skipped
        print(
            f"float16: {skipped:,} step{'s' * (skipped != 1)} skipped because gradients "
            f"overflowed; the loss scale is {trainer.scaler.scale:g}"
        )
    if not trainer.history:
        return
    last = trainer.history[-1]
    accuracy = last.val_accuracy or 0.0
    print(
        f"test accuracy {accuracy:.2%} ({round(accuracy * total):,} of {total:,}) after "
        f"{_epochs(last.epoch)} in {seconds:.1f} s: {folder.path}"
    )


def _saved(folder: RunFolder) -> str:
    if not folder.path.is_dir():
        return f"{folder.path} is gone"
    if callbacks.newest(folder.path) is None:
        return "nothing was saved"
    command = f"xcnn train --resume {shlex.quote(str(folder.path))}"
    return f"{folder.path} holds a checkpoint; go on with: {command}"


def _interval(text: str) -> str:
    """How often to write a checkpoint."""
    callbacks.ModelCheckpoint("", text)
    return text


def _metric_names() -> list[str]:
    """The metrics of classes that are one number, except those that are always measured."""
    return [name for name in metrics.names() if name not in ("loss", "accuracy") and _suits(name)]


def _suits(name: str) -> bool:
    metric = metrics.create(name)
    return metric.is_scalar and "classes" in metric.targets


def _metrics(text: str) -> list[str]:
    """Names of metrics separated by commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in metrics.names() or not _suits(name):
            raise argparse.ArgumentTypeError(
                f"{name!r} is no metric for classes: expected some of {', '.join(_metric_names())}"
            )
    return names


def _logs(text: str) -> list[str]:
    """Names of logs separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if not LOGS.keys() >= set(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected some of {', '.join(LOGS)}")
    return names


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


#: settings that runs of older versions lack
_NEW: dict[str, Any] = {
    **{"accumulate": 1, "metrics": [], "class_weight": None, "ema": None, "patience": None},
    **{"checkpoint_every": "1epoch", "keep": 3, "best": None, "data_dir": None, "log": []},
    "report": False,
}
