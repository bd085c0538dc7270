"""Callbacks that average the weights during training."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ... import optim
from ...checks import check_int, check_number, is_int
from ...errors import ArgumentError, DivergenceError
from ..epoch import Epoch
from .base import Callback


class Averaging(Callback):
    """Base class: at the end of a fit the model has the averages; the next fit undoes that."""

    order = -1  # before EarlyStopping gives the model its best weights

    def __init__(self) -> None:
        self.average: Any = None
        self._weights: dict[str, Any] | None = None  # of the model, while it has the averages

    def create(self, trainer: Any) -> Any:
        """Return an average from ``xcnn.optim`` for the model."""
        raise NotImplementedError

    def on_fit_start(self, trainer: Any) -> None:
        names = [type(c).__name__ for c in trainer.callbacks if isinstance(c, Averaging)]
        if len(names) > 1:
            raise ArgumentError(f"callbacks has {' and '.join(names)}: average in one way only")
        if self.average is None or self.average.model is not trainer.model:
            self.average, self._weights = self.create(trainer), None
        self._restore()

    def on_fit_end(self, trainer: Any) -> None:
        if self.average.updates and not trainer.is_interrupted:
            self._weights = trainer.model.state_dict()
            self.average.copy_to()

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        if isinstance(error, DivergenceError):
            self.average = self._weights = None  # the average is not finite either

    def _restore(self) -> None:
        if self._weights is not None:
            self.average.model.load_state_dict(self._weights)
            self._weights = None

    def state_dict(self) -> dict[str, Any]:
        average = None if self.average is None else self.average.state_dict()
        return {"average": average, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["average"] is not None:
            self.average.load_state_dict(state["average"])
        self._weights = state["weights"]
        self._restore()


class EMA(Averaging):
    """Validates, saves and ends with an exponential moving average of the weights.

    The average is updated after each step of the optimiser, see :class:`xcnn.optim.EMA`.

    Parameters
    ----------
    decay
        From 0 to 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay: float = check_number("decay", decay, 0, 1)

    def create(self, trainer: Any) -> Any:
        return optim.EMA(trainer.model, self.decay)

    def on_step_end(self, trainer: Any) -> None:
        self.average.update()

    def evaluation_weights(self, trainer: Any) -> AbstractContextManager[Any]:
        return self.average.applied() if self.average.updates else nullcontext()


class StochasticWeightAveraging(Averaging):
    """Ends with the mean of the weights after each of the last epochs.

    From the epoch ``start`` on, the learning rate is constant and the weights are averaged; at the
    end, batch-norm statistics are computed anew in one pass over the training data. Izmailov et
    al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".

    Parameters
    ----------
    start
        The first epoch to average, from 1; or a fraction of all epochs.
    lr
        The learning rate from then on; None: the one of that moment.
    """

    def __init__(self, start: int | float = 0.75, lr: float | None = None) -> None:
        super().__init__()
        self.start: int | float = (
            check_int("start", start)
            if is_int(start)
            else check_number("start", start, 0, 1, above=True)
        )
        self.lr: float | None = None if lr is None else check_number("lr", lr, 0)

    def create(self, trainer: Any) -> Any:
        return optim.SWA(trainer.model)

    def on_fit_start(self, trainer: Any) -> None:
        super().on_fit_start(trainer)
        if trainer.schedule is not None and trainer.schedule.per_batch:
            raise ArgumentError(
                "StochasticWeightAveraging needs a constant learning rate in its epochs: use a "
                "schedule that steps after each epoch, not each batch"
            )

    def _averages(self, trainer: Any, epoch: int) -> bool:
        if isinstance(self.start, int):
            return epoch >= self.start
        return epoch >= min(int(self.start * trainer.epochs) + 1, trainer.epochs)

    def on_epoch_start(self, trainer: Any) -> None:
        if self.lr is not None and self._averages(trainer, trainer.epoch):
            trainer.optimizer.lr = self.lr

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        if self._averages(trainer, epoch.epoch):
            self.average.update()

    def on_fit_end(self, trainer: Any) -> None:
        super().on_fit_end(trainer)
        if self._weights is not None:
            trainer.update_batch_norm()
