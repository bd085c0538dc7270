"""Train a network; without arguments, LeNet-5 on handwritten digits.

xcnn train --data mnist --epochs 5
xcnn train small_cnn --data photos/ --image-size 64
xcnn train --task segmentation
xcnn train --resume runs/lenet5-digits-1 --epochs 40
"""

from __future__ import annotations

import argparse
import math
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import (
    backends,
    callbacks,
    data,
    interrupt,
    metrics,
    models,
    nn,
    optim,
    random,
    report,
    tasks,
)
from ..communicator import SINGLE, Communicator, current
from ..data.augment import RECIPES
from ..errors import ArgumentError, CommunicationError, DivergenceError
from ..training import COMPRESSIONS, Trainer
from . import config_file, optimizer, sources, weights
from .config import (
    SMALL,
    check_best,
    check_options,
    check_same_data,
    choose_task,
    count_epochs,
    may_change,
    of_options,
    of_run,
    without_folders,
)
from .options import Parser, add_device, complain, count, path, say, seed, size
from .run_folder import LOGS, RunFolder

#: options that --help shows
_COMMON = (
    *("model", "task", "data", "augment", "epochs", "batch_size", "optimizer", "lr", "schedule"),
    *("device", "out", "resume", "config"),
)


def add_options(parser: Parser) -> None:
    kinds = {name: tasks.get(name) for name in tasks.names()}
    names = "network, by default lenet5 for images and mlp for features: "
    trained = {network for kind in kinds.values() for network in kind.networks}
    names += ", ".join(sorted(trained))
    other = {
        name: f"no task trains {name}: train it with xcnn.Trainer"
        for name in models.names()
        if name not in trained
    }
    parser.add("model MODEL", names, other, nargs="?", choices=sorted(trained))
    parser.section(sources.TASK)
    what = "; ".join(f"{name}: {kind.text}" for name, kind in kinds.items())
    what = f"what the network is trained for; default: what it or the data are for; tasks: {what}; "
    what += "tasks have other defaults for --epochs, --batch-size, --lr, --schedule or --augment "
    what += "where these are better: --print-config shows them"
    parser.add("--task NAME", what.replace("%", "%%"), type=_task, suggested=list(kinds))
    parser.section("data")
    sources.add_data(
        parser,
        f"name of a dataset, or a folder of images: {', '.join(data.names())}; default: digits, or "
        "the first of the task; a folder for classification has one folder per class in train/ and "
        "test/ (or val/), or directly in it, where a fifth is held out for testing",
    )
    sources.add_folder(parser)
    recipes = ", ".join(f"{name} ({recipe.text})" for name, recipe in RECIPES.items())
    augment = (
        f"augmentations of training images, separated by commas: {recipes.replace('%', '%%')}; or "
        "standard: the default for the dataset, such as flip,crop for photographs"
    )
    parser.add("--augment NAMES", augment, default="none", values=list, suggested=RECIPES)
    limit = "use only N images of each split: the first N, or for a folder N chosen by --seed"
    parser.add("--limit N", limit, type=count)
    parser.section("training")
    epochs = f"passes over the data; default: 20 for fewer than {SMALL:,} training images, else 5"
    parser.add("--epochs N", epochs, type=count)
    parser.add("--batch-size N", "images per step", type=count, default=64)
    accumulate = "batches per step of the optimiser, to train with N times the batch size"
    parser.add("--accumulate N", accumulate, type=count, default=1)
    by_task = "; ".join(f"{name}: {', '.join(kind.losses)}" for name, kind in kinds.items())
    losses_help = (
        f"loss, by default the first of the task: {by_task}; those for classification that "
    )
    losses_help += "are binary need two classes"
    known = list(dict.fromkeys(loss for kind in kinds.values() for loss in kind.losses))
    parser.add("--loss NAME", losses_help, suggested=known)
    weight = "balanced: classes weigh in the loss as if they were equally frequent"
    parser.add("--class-weight NAME", weight, choices=["balanced"])
    average = "test and save an exponential moving average of the weights, such as 0.999"
    parser.add("--ema DECAY", average, type=lambda x: callbacks.EMA(float(x)).decay, values=float)
    patience = "stop after N epochs in which --best, or the test loss, has not improved"
    parser.add("--patience N", patience, type=count)
    seed_help = "seed of weights, order and augmentation; the same seed gives the same run"
    parser.add("--seed N", seed_help, type=seed, default=0)
    optimizer.add_options(parser)
    weights.add_options(parser)
    parser.section("device")
    add_device(parser)
    precision = f"precision of matrix products: {', '.join(backends.PRECISIONS)}; tf32 and "
    precision += "float16 (with float32 weights) need a GPU"
    parser.add("--precision NAME", precision, choices=backends.PRECISIONS, default="float32")
    memory = "maximum GPU memory to use, such as 4GiB or 800MiB; default: all"
    parser.add("--memory-limit SIZE", memory, type=size)
    parser.section("several processes, such as one for each GPU")
    distributed = "train with all processes that mpiexec, srun or torchrun started"
    parser.add("--distributed", distributed, action="store_true")
    synchronised = "batch norm over the batches of all processes"
    parser.add("--sync-batch-norm", synchronised, action="store_true")
    compression = "send gradients to the other processes in half precision"
    parser.add("--compression NAME", compression, choices=COMPRESSIONS)
    parser.section("measuring and logging")
    several: dict[str, Any] = {"values": list, "default": []}
    measured = f"also measure, separated by commas: {', '.join(_metric_names())}"
    parser.add("--metrics NAMES", measured, type=_metrics, suggested=_metric_names(), **several)
    best = "also keep the best network by a column of history.csv, such as val_accuracy"
    parser.add("--best NAME", best)
    logs = "logs, separated by commas: " + ", ".join(f"{k} ({v})" for k, v in LOGS.items())
    logs = f"{logs}; history.csv is always written"
    parser.add("--log NAMES", logs, type=_logs, suggested=LOGS, **several)
    report_help = "write report.html to the run folder, and anew while training; see xcnn report"
    parser.add("--report", report_help, action="store_true")
    parser.add("--quiet", "print only the last line", action="store_true")
    parser.section("run folder, interrupting and repeating")
    parser.add("--out DIR", "run folder; default: the first free runs/MODEL-DATA-N", type=path)
    resume = "go on with the run in this folder, with its settings; --epochs N trains longer"
    parser.add("--resume RUN", resume, type=path)
    every = "how often to write a checkpoint, such as 100steps, 5min or 1epoch"
    parser.add("--checkpoint-every TIME", every, type=_interval, default="1epoch")
    parser.add("--keep N", "number of checkpoints to keep", type=count, default=3)
    time_limit = "stop after a time, such as 30min or 2h, to be resumed"
    parser.add("--time-limit TIME", time_limit, type=_time)
    config_file.add_options(parser)
    sources.add_task_options(parser)
    parser.common = _COMMON


def run(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    communicator = _join(arguments)
    if arguments.config is not None and not arguments.resume:
        config_file.apply(arguments)
    config = of_run(arguments) if arguments.resume else None
    choose_task(arguments)
    check_options(arguments)
    if arguments.print_config and config is None:
        print(config_file.to_toml(arguments), end="")
        return
    backend = _open_device(arguments)
    dataset = sources.training_data(arguments)
    if config is None:
        config = of_options(arguments, dataset)
    else:
        check_same_data(config, dataset)
    random.manual_seed(config["seed"])
    task = tasks.from_settings(config)
    model = task.create_network(config["model"])
    init = config["init"] if not arguments.resume else None
    reset = weights.load_init(model, init, config["new_head"]) if init else []
    weights.freeze(model, config["freeze"])
    rates = optimizer.rates(config, model)
    model = task.with_output(model).to(backend)
    if config["sync_batch_norm"]:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    loader = _loader(task, dataset, config, training=True)
    rest = len(dataset.train) % config["batch_size"]
    loader.drop_last = _is_too_small(model, len(dataset.train), rest, communicator.size)
    algorithm = optimizer.create_optimizer(config, model, rates)
    trainer = _trainer(task, model, algorithm, config, len(loader), communicator)
    check_best(config["best"], trainer)
    used = _callbacks(arguments, config)
    test = _loader(task, dataset, config, training=False)
    folder = _open_folder(arguments, config, trainer)
    done = len(folder.load_history())
    if not arguments.quiet:
        _print_start(config, model, dataset, reset)
    # a training that diverges is reported
    with backend.quiet_overflow(), _reporting(trainer, folder):
        trainer.fit(
            loader,
            epochs=config["epochs"],
            validation=test,
            callbacks=used + _writers(task, config, folder, test),
            progress=False,
            class_weight=config["class_weight"],
            resume=folder.path,
        )
    seconds = time.perf_counter() - started if len(trainer.history) > done else None
    _print_end(trainer, task, config["best"], len(dataset.test), folder, seconds)


def _join(arguments: argparse.Namespace) -> Communicator:
    """Join the processes that were started together; only the first prints."""
    from .. import distributed

    if not arguments.distributed:
        count = 1
        with suppress(CommunicationError):  # variables that a container has set by accident
            count = distributed.launched()
        if count > 1:
            raise ArgumentError(
                f"{count} processes were started, each of which would train on its own: pass "
                "--distributed"
            )
        return SINGLE
    return distributed.init()


def _open_folder(
    arguments: argparse.Namespace, config: dict[str, Any], trainer: Trainer
) -> RunFolder:
    """Create the run folder, or open the one to resume; the first process does, for all."""
    folder: RunFolder | None = None

    def open_it() -> str:
        nonlocal folder
        if arguments.resume:
            folder = RunFolder(Path(arguments.resume))
            folder.resume(config)
        else:
            name = f"{config['model']}-{Path(config['data']).name}"
            folder = RunFolder.create(arguments.out, name, config)
        return str(folder.path)

    path = trainer.ranks.from_main(open_it)
    return folder or RunFolder(Path(path))


def _open_device(arguments: argparse.Namespace) -> backends.Backend:
    """Open the device and check its options before loading data."""
    backend = backends.get(arguments.device)
    with backend.precision(arguments.precision):
        pass
    if arguments.memory_limit is not None:
        backend.limit_memory(arguments.memory_limit)
    return backend


def _trainer(
    task: tasks.Task,
    model: nn.Module,
    algorithm: optim.Optimizer,
    config: dict[str, Any],
    batches: int,
    communicator: Communicator,
) -> Trainer:
    steps = -(-batches // config["accumulate"])
    schedule = optimizer.create_schedule(config, algorithm, steps)
    settings = {k: config[k] for k in ("precision", "clip_norm", "accumulate", "compression")}
    settings["distributed"] = communicator
    measured = list(dict.fromkeys([*task.measured, *config["metrics"]]))
    loss = task.create_loss()
    return Trainer(model, algorithm, loss, schedule=schedule, metrics=measured, **settings)


def _callbacks(arguments: argparse.Namespace, config: dict[str, Any]) -> list[Any]:
    """What the options add to the training, except what writes to the run folder."""
    used: list[Any] = [callbacks.LearningRateLog(), callbacks.GradientNorm()]
    if config["ema"] is not None:
        used.append(callbacks.EMA(config["ema"]))
    if config["unfreeze_at"] is not None:
        used.append(callbacks.Unfreeze(config["unfreeze_at"]))
    if config["patience"] is not None:
        used.append(callbacks.EarlyStopping(config["best"] or "val_loss", config["patience"]))
    if arguments.time_limit is not None:
        used.append(callbacks.TimeLimit(arguments.time_limit))
    if not arguments.quiet:
        used.append(_Progress(config["best"], log=True))
    return used


def _writers(
    task: tasks.Task, config: dict[str, Any], folder: RunFolder, test: data.DataLoader
) -> list[Any]:
    """What writes to the run folder: the checkpoint, with history.csv, and the other logs."""
    every, keep, best = config["checkpoint_every"], config["keep"], config["best"]
    checkpoint = callbacks.ModelCheckpoint(folder.path, every, keep, best)
    checkpoint.lock = folder.lock
    fixed = config.keys() - {*may_change(), "xcnn", "init", "checkpoint_every", "keep"}
    checkpoint.settings = {name: config[name] for name in sorted(fixed)}
    used: list[Any] = [checkpoint]
    if "json" in config["log"]:
        used.append(callbacks.JSONLogger(folder.path / LOGS["json"], every="100steps"))
    if "tensorboard" in config["log"]:
        is_picture = config["input_shape"][1:] and config["input_shape"][0] in (1, 3)
        images = next(iter(test))[0][:16] if is_picture else None
        used.append(callbacks.TensorBoardLogger(folder.path / LOGS["tensorboard"], images=images))
    if config["report"]:
        shown: dict[str, Any] = {"task": task, "settings": without_folders(config)}
        name = folder.path.name
        used.append(report.Report(folder.path / "report.html", test, name=name, **shown))
    return used


class _Progress(callbacks.ProgressBar):
    """Also says where a training goes on."""

    def on_fit_start(self, trainer: Trainer) -> None:
        super().on_fit_start(trainer)
        if trainer.resumed_from is not None:
            place = f" after batch {trainer.batch}" if trainer.batch else ""
            what = f"going on with epoch {trainer.epoch}/{trainer.epochs}{place}"
            if trainer.is_finished:
                what = f"nothing is left to do: it stopped early, after epoch {trainer.epoch - 1}"
            _say(what if trainer.epoch <= trainer.epochs else "nothing is left to do")


def _say(text: str) -> None:
    """Print a line; a training continues even if nobody reads it, as after ``| head``."""
    with suppress(OSError):
        say(text)


@contextmanager
def _reporting(trainer: Trainer, folder: RunFolder) -> Iterator[None]:
    """Say what the folder holds when the training ends early."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (_saved(folder),)  # for the program's last message
        raise
    except SystemExit:
        complain(interrupt.stopped(_saved(folder)))
        raise
    except OSError:
        _say(f"\nthe files cannot be written: {_saved(folder)}")
        raise
    except DivergenceError:
        if trainer.history:
            say(f"{folder.path} holds the network after {count_epochs(len(trainer.history))}")
        raise
    finally:
        folder.remove_if_empty()
        if folder.lock is not None:
            folder.lock.release()
    if trainer.is_interrupted:
        say(f"\ntime limit reached: {_saved(folder)}")


def _loader(
    task: tasks.Task, dataset: data.DataSplits, config: dict[str, Any], training: bool
) -> data.DataLoader:
    return data.DataLoader(
        dataset.train if training else dataset.test,
        batch_size=config["batch_size"] if training else 256,
        shuffle=training,
        seed=config["seed"],
        transform=task.transform(config["augment"] if training else None),
    )


def _is_too_small(model: nn.Module, images: int, rest: int, ranks: int) -> bool:
    """Whether a process gets a single image of the last batch, whose batch norm has no variance."""
    kinds = nn.BatchNorm1d, nn.BatchNorm2d
    norms = [m for m in model.modules() if isinstance(m, kinds)]
    together = all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    return bool(norms) and 0 < rest < images and rest // (1 if together else ranks) <= 1


def _print_start(
    config: dict[str, Any], model: nn.Module, dataset: data.DataSplits, reset: list[str]
) -> None:
    parameters = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    if frozen:
        parameters += f", {frozen:,} of them frozen"
    say(
        f"{config['model']} ({parameters}) on {dataset.name}: "
        f"{len(dataset.train):,} to train, {len(dataset.test):,} to test, on {config['device']}",
    )
    if reset:
        say(f"randomly initialised: {', '.join(reset)}")


def _print_end(
    trainer: Trainer,
    task: tasks.Task,
    best: str | None,
    total: int,
    folder: RunFolder,
    seconds: float | None,
) -> None:
    if trainer.scaler is not None:
        skipped = trainer.scaler.skipped
        say(
            f"float16: {skipped:,} step{'s' * (skipped != 1)} skipped because gradients "
            f"overflowed; the loss scale is {trainer.scaler.scale:g}"
        )
    if not trainer.history:
        return
    last = trainer.history[-1]
    values = {"loss": last.val_loss, "accuracy": last.val_accuracy}
    values |= {name: last.metrics.get(f"val_{name}") for name in trainer.metrics}
    time_taken = "" if seconds is None else f" in {seconds:.1f} s"
    say(
        f"test {task.result(values, total)} after "
        f"{count_epochs(last.epoch)}{time_taken}{_best(trainer, best)}: {folder.path}"
    )


def _best(trainer: Trainer, column: str | None) -> str:
    """The best epoch, by this column or the test loss, unless it is the last or none is known."""
    if column is None and not trainer.loss.lower_is_better:
        return ""
    column = column or "val_loss"
    sign = 1 if trainer.mode_of(column) == "max" else -1
    known = [epoch for epoch in trainer.history if math.isfinite(epoch.value(column))]
    best = max(known, key=lambda epoch: sign * epoch.value(column), default=trainer.history[-1])
    if best is trainer.history[-1]:
        return ""
    return f", best {column} {best.value(column):.4f} in epoch {best.epoch}"


def _saved(folder: RunFolder) -> str:
    if not folder.path.is_dir():
        return f"{folder.path} is gone"
    if callbacks.newest(folder.path) is None:
        return "nothing was saved"
    command = f"xcnn train --resume {shlex.quote(str(folder.path))}"
    if (ranks := current().size) > 1:
        command = f"mpiexec -n {ranks} {command} --distributed"
    return f"{folder.path} holds a checkpoint; go on with: {command}"


def _interval(text: str) -> str:
    """How often to write a checkpoint."""
    callbacks.ModelCheckpoint("", text)
    return text


def _time(text: str) -> str:
    """After what time to stop."""
    callbacks.TimeLimit(text)
    return text


def _task(text: str) -> str:
    """The name of a task, also of one that an installed package adds."""
    return tasks.get(text).name


def _metric_names() -> list[str]:
    """The metrics that are one number, except those that are always measured."""
    others = [name for name in metrics.names() if name not in ("loss", "accuracy")]
    return [name for name in others if metrics.create(name).is_scalar]


def _metrics(text: str) -> list[str]:
    """Names of metrics separated by commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _metric_names():
            raise argparse.ArgumentTypeError(
                f"{name!r} is no metric: expected some of {', '.join(_metric_names())}"
            )
    return names


def _logs(text: str) -> list[str]:
    """Names of logs separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if not LOGS.keys() >= set(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected some of {', '.join(LOGS)}")
    return names
