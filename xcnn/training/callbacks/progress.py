"""The table and the bar that show how a training goes, as a callback."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

from ... import metrics
from ...checks import check_flag
from ...notebook import (
    columns_that_fit,
    duration,
    paint,
    progress_bar,
    progress_stream,
    rule,
    table_width,
)
from ..epoch import Epoch
from ..totals import WITH_ACCURACY, Step
from .base import Callback
from .schedule import learning_rates
from .stopping import Monitor

_REFRESH = 0.2  # seconds between readings of the loss, which wait for the GPU
_BEST = "*"
_SHORT = 8  # characters of any metric's name in the table


class Column(NamedTuple):
    """A column of the table."""

    name: str
    width: int
    text: Callable[[Epoch], str]
    rank: int  # a terminal that is too narrow drops the highest first


class ProgressBar(Callback):
    """Shows a table, a row for each epoch, and below it a bar for the current one.

    ``fit(progress=True)`` adds one unless ``callbacks`` has one. The star, and the colour, mark an
    epoch that is the best so far. A narrow terminal leaves out columns; one that does not say how
    wide it is gets a line of text for each epoch. A notebook gets text too. Nothing is shown if the
    output is neither, unless ``log``. The environment variables NO_COLOR and FORCE_COLOR turn
    colours off and on.

    Parameters
    ----------
    best
        The column of the history that decides which epoch is the best; None: "val_loss", or
        "train_loss" without validation, if that tells.
    mode
        "min", "max", or None: the usual direction of ``best``.
    log
        Print a line for each epoch on standard output if that is no terminal.

    Raises
    ------
    ArgumentError
        In ``fit``: there is no such column.

    Examples
    --------
    >>> table = ProgressBar("val_accuracy")
    >>> history = trainer.fit(x, y, epochs=20, validation=(x_val, y_val), callbacks=[table])
    """

    order = 1
    main_only = True

    def __init__(
        self, best: str | None = None, mode: str | None = None, *, log: bool = False
    ) -> None:
        self.best = best
        self.mode = mode
        self.log = check_flag("log", log)
        self._bar: Any = None
        self._seen = 0  # examples of this epoch
        self._started = self._ended = 0.0
        self._columns: list[Column] | None = None  # None before the header was shown

    def on_fit_start(self, trainer: Any) -> None:
        self._is_shown = self.log or progress_stream() is not None
        if not self._is_shown and self.best is None:
            return
        loss = "train_loss" if trainer.validation is None else "val_loss"
        self._monitor = Monitor(loss if self.best is None else self.best, self.mode)
        self._monitor.check(trainer)
        for epoch in trainer.history:  # of a training that is resumed
            self._is_best(trainer, epoch)
        self._finished: list[float] = []  # seconds of the epochs of this fit
        self._columns = None
        self._rate = learning_rates(trainer)["lr"]

    def _is_best(self, trainer: Any, epoch: Epoch) -> bool:
        if self.best is None and not trainer.loss.lower_is_better:
            return False
        is_known = epoch.row().get(self._monitor.monitor) is not None
        return is_known and self._monitor.improved(trainer, epoch)

    def on_batch_start(self, trainer: Any) -> None:
        if not self._is_shown:
            return
        self._rate = learning_rates(trainer)["lr"]
        if self._bar is None:  # also in the middle of an epoch, when a training is resumed
            self._show_header(trainer)
            self._bar = progress_bar(
                trainer.examples,
                f"{f'{trainer.epoch}/{trainer.epochs}':>{_width_of_epoch(trainer)}}",
                initial=trainer.batch * trainer.loader.batch_size,
                leave=False,
                unit=" img",
                unit_scale=True,
                dynamic_ncols=True,
                bar_format="{desc} {percentage:3.0f}% {bar:10} {rate_noinv_fmt}{postfix}",
            )
            self._started = self._ended = self._shown = time.monotonic()
            self._seen = 0

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        if not self._is_shown:
            return
        examples = step.examples * trainer.ranks.size  # all have as many, more or less
        self._seen += examples
        self._bar.update(examples)
        self._ended = time.monotonic()
        if not self._bar.disable and self._ended - self._shown > _REFRESH:
            loss, left = trainer.running()["loss"], self._left(trainer)
            self._shown = time.monotonic()
            shown = f"loss {_number(loss)}, lr {self._rate:.3g}"
            self._bar.set_postfix_str(shown + (f", {left} left" if left else ""))

    def _left(self, trainer: Any) -> str:
        """How long the rest of the training will take; nothing before that can be told."""
        part = self._bar.n / self._bar.total if self._bar.total else 0.0
        if self._finished:
            seconds = sum(self._finished) / len(self._finished)
        elif part:
            seconds = trainer.seconds / part
        else:
            return ""
        part = part or min(trainer.seconds / seconds, 1.0)
        return duration(seconds * max(trainer.epochs - len(trainer.history) - part, 0))

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        if not self._is_shown:
            return
        self._finished.append(epoch.seconds)
        is_best = self._is_best(trainer, epoch)
        if self._bar is None:  # resumed after the last batch
            self._show_header(trainer)
        else:
            self._close()
        stream = progress_stream()
        if stream is not None:
            text = self._row(epoch, is_best) if self._columns else self._line(trainer, epoch)
            _print(paint(text, "32", stream) if is_best else text, stream)
        if self.log and stream is not sys.stdout and not _are_terminals():
            text = self._line(trainer, epoch)
            _print(paint(text, "32", sys.stdout) if is_best else text, sys.stdout)

    # -- what is shown ------------------------------------------------------------------------

    def _show_header(self, trainer: Any) -> None:
        if self._columns is not None:
            return
        stream = progress_stream()
        width = None if stream is None else table_width(stream)
        self._columns = self._choose(trainer, width) if width else []
        if stream is not None and self._columns:
            names = "  ".join(f"{column.name:>{column.width}}" for column in self._columns)
            _print(paint(names, "1", stream), stream)
            _print(rule(len(names), stream), stream)

    def _choose(self, trainer: Any, width: int) -> list[Column]:
        """The columns that fit into ``width`` characters."""

        def column(key: str, rank: int) -> Column:
            split, _, metric = key.partition("_")
            name = f"{split} {_short(metric)}"
            room = " " * (not rank)  # for the star
            return Column(
                name + room,
                max(len(name), 6) + len(room),
                lambda epoch: _number(epoch.row().get(key)) + room,
                rank,
            )

        splits = ["train"] if trainer.validation is None else ["train", "val"]
        known = ["loss", "accuracy"] if trainer.loss.target in WITH_ACCURACY else ["loss"]
        ranks = {f"{splits[0]}_{name}": 50 + i for i, name in enumerate(known)}
        ranks |= {
            f"{splits[-1]}_{name}": 10 + i for i, name in enumerate([*known, *trainer.metrics])
        }
        ranks[self._monitor.monitor] = 0
        columns = [
            Column("epoch", _width_of_epoch(trainer), lambda e: f"{e.epoch}/{trainer.epochs}", 0),
            *(column(key, rank) for key, rank in ranks.items()),
            Column("lr", 8, lambda epoch: f"{self._rate:.3g}", 70),
            Column("img/s", 6, lambda epoch: self._speed(), 90),
            Column("time", 7, lambda epoch: duration(epoch.seconds), 60),
        ]
        fitting = columns_that_fit([(c.width, c.rank) for c in columns], width - 1)
        return [columns[i] for i in fitting]

    def _row(self, epoch: Epoch, is_best: bool) -> str:
        cells = []
        for name, width, text, _ in self._columns or ():
            cell = f"{text(epoch):>{width}}"
            is_marked = is_best and name.endswith(" ")  # the room for the star
            cells.append(cell[:-1] + _BEST if is_marked else cell)
        return "  ".join(cells)

    def _line(self, trainer: Any, epoch: Epoch) -> str:
        """The results as a line of text."""
        row = {k: v for k, v in epoch.row().items() if v is not None}
        shown = [k for k in row if k.startswith(("train_", "val_"))]
        numbers = ", ".join(f"{k.replace('train_', '')} {row[k]:.4f}" for k in shown)
        speed = f"{self._speed()} img/s, " * bool(self._seen)
        return (
            f"epoch {epoch.epoch}/{trainer.epochs}: {numbers}, lr {self._rate:.3g}, {speed}"
            f"{epoch.seconds:.1f} s"
        )

    def _speed(self) -> str:
        """Examples per second of training, without the validation; nothing if there were none."""
        from tqdm import tqdm

        seconds = max(self._ended - self._started, 1e-9)
        return str(tqdm.format_sizeof(self._seen / seconds)) if self._seen else ""

    def _close(self) -> None:
        bar, self._bar = self._bar, None
        bar.close()

    def on_fit_end(self, trainer: Any) -> None:
        if self._bar is not None:
            self._bar.leave = True  # an interrupted epoch's bar stays
            self._close()

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        self.on_fit_end(trainer)


def _width_of_epoch(trainer: Any) -> int:
    return max(5, 2 * len(str(trainer.epochs)) + 1)


def _short(name: str) -> str:
    """The name of a metric as people write it, unless that is long."""
    spoken, title = name.replace("_", " ").replace("accuracy", "acc"), metrics.title(name)
    is_short = len(title) <= max(_SHORT, len(spoken))
    return spoken if title[1:].islower() or not is_short else title


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _are_terminals() -> bool:
    return all(s is not None and s.isatty() for s in (sys.stdout, sys.stderr))


def _print(text: str, stream: TextIO) -> None:
    """Print a line; a training continues even if nobody reads it, as after ``| head``."""
    with suppress(OSError):
        print(text, file=stream, flush=True)
