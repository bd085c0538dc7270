"""The progress bar as a callback."""

from __future__ import annotations

import time
from typing import Any

from ...notebook import progress_bar, progress_stream
from ..epoch import Epoch
from ..totals import Step
from .base import Callback

_REFRESH = 0.2  # seconds between readings of the loss, which wait for the GPU


class ProgressBar(Callback):
    """Shows a bar for each epoch, on a terminal; ``fit(progress=True)`` adds one.

    At the end of the epoch a line of text, of at most 80 characters for losses below 10, replaces
    the bar. In a notebook the bar is text as well, and a terminal that does not say how wide it is
    gets the line only. Nothing is shown if the output is neither.
    """

    order = 1

    def __init__(self) -> None:
        self._bar: Any = None

    def on_batch_start(self, trainer: Any) -> None:
        if self._bar is None:  # also in the middle of an epoch, when a training is resumed
            self._title = f"epoch {trainer.epoch}/{trainer.epochs}"
            self._bar = progress_bar(
                trainer.examples,
                self._title,
                leave=False,
                unit=" img",
                unit_scale=True,
                bar_format="{desc}: {percentage:3.0f}%|{bar:10}| {rate_noinv_fmt}{postfix}",
            )
            self._started = self._shown = time.monotonic()
            self._examples = 0

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        self._examples += step.examples
        self._bar.update(step.examples)
        if not self._bar.disable and time.monotonic() - self._shown > _REFRESH:
            numbers = _short(trainer.running())
            self._shown = time.monotonic()
            self._bar.set_postfix_str(numbers)

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        if self._bar is None:  # an epoch without batches
            return
        bar, self._bar = self._bar, None
        bar.close()
        if (stream := progress_stream()) is not None:
            seconds = max(time.monotonic() - self._started, 1e-9)
            rate = bar.format_sizeof(self._examples / seconds)
            numbers = {
                "loss": epoch.train_loss,
                "accuracy": epoch.train_accuracy,
                "val_loss": epoch.val_loss,
                "val_accuracy": epoch.val_accuracy,
                **{k: v for k, v in epoch.metrics.items() if k.startswith("val_")},
            }
            print(f"{self._title}: {rate} img/s, {_short(numbers)}", file=stream, flush=True)

    def on_fit_end(self, trainer: Any) -> None:
        if self._bar is not None:
            self._bar.leave = True  # an interrupted epoch's bar stays
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        self.on_fit_end(trainer)


def _short(numbers: dict[str, float | None]) -> str:
    shown = {k.replace("accuracy", "acc"): v for k, v in numbers.items() if v is not None}
    return " ".join(f"{name} {value:.4f}" for name, value in shown.items())
