"""The learning-rate range test."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..checks import check_int, check_number
from ..data import DataLoader
from ..errors import ArgumentError, DataError, missing_package, show
from . import batches

_SMOOTHING = 0.9  # weight of the earlier losses
_ROUNDING = 1e-6  # a smaller fall does not count
_SETTLING = 10  # steps until the smoothed loss is more than the noise of a few batches
_EXPLODED = 4.0  # times the smallest smoothed loss, at which the test ends


@dataclass(frozen=True, repr=False)
class LRFinder:
    """The result of :meth:`Trainer.find_lr`.

    Attributes
    ----------
    rates : list of float
        The learning rate of each step.
    losses : list of float
        The loss before that step.
    """

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __repr__(self) -> str:
        if not self.rates:
            return "LRFinder()"
        found = self._steepest()
        ends = f"{len(self.rates)} rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        return f"LRFinder({ends}, suggestion {'none' if found is None else f'{found:.2g}'})"

    @property
    def smoothed(self) -> list[float]:
        """The losses, averaged over about ten steps."""
        mean, values = 0.0, []
        for number, loss in enumerate(self.losses, 1):
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            values.append(mean / (1 - _SMOOTHING**number))
        return values

    @property
    def suggestion(self) -> float:
        """The rate at which the smoothed loss falls fastest per factor of the rate.

        The slope is that over a tenth of the steps. The first tenth is left out, where the average
        is of too few losses, so that the noise of single batches would look like a steep fall.

        Raises
        ------
        ArgumentError
            It never falls.
        """
        if (found := self._steepest()) is None:
            raise ArgumentError(
                "find_lr: the loss did not fall at any rate: start lower, take more steps, or call "
                "it before the training"
            )
        return found

    def _steepest(self) -> float | None:
        """The suggestion, or None."""
        first = len(self.losses) // 10
        rates, values = self.rates[first:], self.smoothed[first:]
        lowest = values.index(min(values)) if values else 0
        reach = max(1, len(values) // 20)
        slopes = [values[i + reach] - values[i - reach] for i in range(reach, lowest - reach + 1)]
        if not slopes or values[0] - values[lowest] <= _ROUNDING * abs(values[0]):
            return None
        return rates[reach + slopes.index(min(slopes))]

    def plot(self, axes: Any = None) -> Any:
        """Draw losses over rates with matplotlib.

        Parameters
        ----------
        axes
            Where to draw; None: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        if axes is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise missing_package("plot()", "matplotlib", error) from error
            axes = pyplot.subplots()[1]
        axes.plot(self.rates, self.losses, color="0.8", label="loss")
        axes.plot(self.rates, self.smoothed, color="C0", label="smoothed")
        if (found := self._steepest()) is not None:
            axes.axvline(found, color="C1", label=f"suggestion {found:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend()
        return axes


def find_lr(trainer: Any, loader: DataLoader, start: float, end: float, steps: int) -> LRFinder:
    """See :meth:`Trainer.find_lr`."""
    check_number("start", start, 0, above=True)
    steps = check_int("steps", steps, 2)
    if check_number("end", end, 0) <= start:
        raise ArgumentError(f"end={show(end)}: expected a rate above start={show(start)}")
    result = LRFinder()
    with trainer.undone():
        trainer.model.train()
        for number, (x, y) in zip(range(steps), _endless(loader), strict=False):
            rate = start * (end / start) ** (number / (steps - 1))
            for group in trainer.optimizer.param_groups:
                group["lr"] = rate
            step = trainer.train_step(x, y)
            sums = map(float, trainer.loss.total(*step[:3])) if step.examples else (0.0, 0.0)
            total, divisor = trainer.ranks.sums(*sums)
            if divisor == 0:  # all labels are ignored
                continue
            loss = total / divisor
            if not math.isfinite(loss):
                break
            result.rates.append(rate)
            result.losses.append(loss)
            values = result.smoothed[_SETTLING:]
            if values and values[-1] > _EXPLODED * min(values):
                break
    return result


def _endless(loader: DataLoader) -> Any:
    found = True
    while found:
        found = False
        for pair in batches.pairs(loader):
            found = True
            yield pair
    raise DataError("find_lr: no batch to train on; x has no examples, or too few")
