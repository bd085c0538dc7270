"""Averages of weights over the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

from ..arrays import Array
from ..errors import ArgumentError, StateDictError
from ..nn import Module
from ..tensor import Parameter, Tensor
from .optimizer import moved_to


class EMA:
    """Exponential moving average of a model's weights, often better than the last ones.

    average = decay * average + (1 - decay) * weight, in each update but the first, which copies.
    Buffers, such as the statistics of a batch-norm, are copied in each. As PyTorch's
    ``AveragedModel`` with ``get_ema_multi_avg_fn``; Polyak & Juditsky 1992 is the idea.

    Parameters
    ----------
    model
        The model in training. It stays as it is.
    decay
        From 0 to 1; near 1 the average is over about 1 / (1 - decay) steps.

    Attributes
    ----------
    updates : int
        Updates made.

    Raises
    ------
    ArgumentError
        ``decay`` out of range, or no Module.

    Examples
    --------
    >>> average = optim.EMA(model)
    >>> for x, y in loader:
    ...     trainer.train_step(x, y)
    ...     average.update()
    >>> with average.applied():
    ...     trainer.evaluate(x_val, y_val)
    >>> average.copy_to(model)
    """

    def __init__(self, model: Module, decay: float = 0.999) -> None:
        if not isinstance(model, Module):
            raise ArgumentError(f"model is {type(model).__name__}: expected a Module")
        if not isinstance(decay, Real) or not 0 <= float(decay) <= 1:
            raise ArgumentError(f"decay={decay!r}: expected a number from 0 to 1")
        self.model: Module = model
        self.decay: float = decay
        self.updates: int = 0
        self._averages: dict[str, Array] = model.state_dict()

    def update(self) -> None:
        """Take the model's weights of now into the average; after each step of the optimiser."""
        for name, tensor in _tensors(self.model):
            (average,) = moved_to([tensor], [self._averages[name]])
            self._averages[name] = average
            with tensor.backend.active():
                if self.updates and isinstance(tensor, Parameter):
                    average += (1 - self.decay) * (tensor.data - average)
                else:
                    average[...] = tensor.data
        self.updates += 1

    def copy_to(self, model: Module | None = None) -> None:
        """Set the weights of ``model``, of the same kind, to the average; by default of the model
        that is averaged.

        Raises
        ------
        StateDictError
            They do not fit ``model``.
        """
        (self.model if model is None else model).load_state_dict(self._averages)

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """The model with the average as its weights in a ``with`` block, as it was afterwards."""
        before = self.model.state_dict()
        self.copy_to()
        try:
            yield self.model
        finally:
            self.model.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from: ``updates`` and a copy of each average."""
        arrays = {name: array.copy() for name, array in self._averages.items()}
        return {"updates": self.updates, "arrays": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises
        ------
        StateDictError
            Something else, or the averages of another model.
        """
        absent = {"updates", "arrays"} - set(state)
        if absent:
            raise StateDictError("this is no state of an EMA: pass what state_dict() gave")
        arrays = state["arrays"]
        own = {name: tuple(array.shape) for name, array in self._averages.items()}
        found = {name: tuple(array.shape) for name, array in arrays.items()}
        wrong = sorted(k for k in {*own, *found} if own.get(k) != found.get(k))
        if wrong:
            raise StateDictError(
                f"the averages are of another model: {', '.join(wrong)} missing, unexpected or of "
                "another shape"
            )
        self.updates = int(state["updates"])
        for name, tensor in _tensors(self.model):
            self._averages[name] = tensor.backend.asarray(arrays[name], tensor.dtype).copy()


def _tensors(model: Module) -> Iterator[tuple[str, Tensor]]:
    return model._state()
