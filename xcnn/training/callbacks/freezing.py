"""Training some parameters later than others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...checks import check_int
from ...errors import ArgumentError
from ...nn import matching_parameters
from .base import Callback


class Unfreeze(Callback):
    """Trains frozen parameters too, from an epoch on.

    For transfer learning: freeze the pretrained layers, train the new ones on them for some epochs,
    then train all together. Several of these unfreeze one group of layers after another, as in
    Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification". The
    optimiser must have all parameters, as with ``model.parameters()``: it leaves alone those that
    are frozen.

    Parameters
    ----------
    epoch
        The first epoch that trains them, from 1.
    patterns
        Which parameters, as for :func:`xcnn.nn.matching_parameters`.

    Raises
    ------
    ArgumentError
        ``epoch`` is not an int above 0. When training starts: a pattern that matches no parameter,
        or a frozen parameter that the optimiser does not have.

    Examples
    --------
    >>> model = xcnn.models.create("small_cnn", num_classes=10, input_shape=x.shape[1:])
    >>> for parameter in nn.matching_parameters(model, "0.*").values():
    ...     parameter.requires_grad = False
    >>> trainer = xcnn.Trainer(model, "adam")
    >>> history = trainer.fit(x, y, epochs=2, callbacks=[xcnn.callbacks.Unfreeze(2)])
    >>> all(parameter.requires_grad for parameter in model.parameters())
    True
    """

    def __init__(self, epoch: int, patterns: str | Sequence[str] = "*") -> None:
        self.epoch: int = check_int("epoch", epoch)
        self.patterns = patterns

    def on_fit_start(self, trainer: Any) -> None:
        trained = {id(p) for p in trainer.optimizer.params}
        for name, parameter in matching_parameters(trainer.model, self.patterns).items():
            if id(parameter) not in trained:
                raise ArgumentError(
                    f"Unfreeze: the optimiser does not have {name}: create it with all parameters, "
                    "model.parameters()"
                )

    def on_epoch_start(self, trainer: Any) -> None:
        if trainer.epoch >= self.epoch:
            for parameter in matching_parameters(trainer.model, self.patterns).values():
                parameter.requires_grad = True
