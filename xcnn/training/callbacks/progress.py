"""The progress bar as a callback."""

from __future__ import annotations

from typing import Any

from ..epoch import Epoch
from ..progress import Bar
from ..totals import Step
from .base import Callback


class ProgressBar(Callback):
    """Shows a bar for each epoch, on a terminal; ``fit(progress=True)`` adds one."""

    order = 1

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def on_batch_start(self, trainer: Any) -> None:
        if self._bar is None:  # also in the middle of an epoch, when a training is resumed
            self._bar = Bar(trainer.examples, f"epoch {trainer.epoch}/{trainer.epochs}")

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        if self._bar is not None and self._bar.update(step.examples):
            self._bar.show(**trainer.running())

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        if self._bar is not None:
            self._bar.finish(
                loss=epoch.train_loss,
                accuracy=epoch.train_accuracy,
                val_loss=epoch.val_loss,
                val_accuracy=epoch.val_accuracy,
                **{k: v for k, v in epoch.metrics.items() if k.startswith("val_")},
            )
            self._close()

    def on_fit_end(self, trainer: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__()
            self._bar = None
