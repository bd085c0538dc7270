"""Moving averages of weights during training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import backends
from ..arrays import Array
from ..checks import check_number, loads_state
from ..errors import ArgumentError, StateDictError
from ..nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Module, SyncBatchNorm, evaluating
from ..tensor import Parameter, Tensor
from .optimizer import move_to, state_dtype


class WeightAverage:
    """Base class: a running average of a model's weights; subclasses define :meth:`rate`.

    average = average + rate * (weight - average) in each update; the first update copies the
    weights. Buffers, such as batch-norm statistics, are always copied.

    Parameters
    ----------
    model
        The model being trained; it is not changed.

    Attributes
    ----------
    updates : int
        Number of updates.

    Raises
    ------
    ArgumentError
        ``model`` is not a Module.
    """

    def __init__(self, model: Module) -> None:
        self.model: Module = _check_module(model)
        self.updates: int = 0
        self._averages: dict[str, Array] = model.state_dict()

    def rate(self) -> float:
        """The weight of the current weights in the next update."""
        raise NotImplementedError(f"{type(self).__name__} defines no rate method")

    def update(self) -> None:
        """Update the average with the current weights; call it after each optimiser step."""
        together: dict[tuple[Any, float], tuple[list[Array], list[Array]]] = {}
        for name, tensor in self.model._state():
            average = self._averages[name] = move_to(tensor.data, self._averages[name])
            rate = self.rate() if self.updates and isinstance(tensor, Parameter) else 1
            averages, arrays = together.setdefault((tensor.backend, rate), ([], []))
            averages.append(average)
            arrays.append(tensor.data)
        for (backend, rate), lists in together.items():
            with backend.active():
                backend.average(*lists, rate)
        self.updates += 1

    def copy_to(self, model: Module | None = None) -> None:
        """Copy the averages into ``model``; by default into the averaged model.

        Raises
        ------
        StateDictError
            The averages do not fit ``model``.
        """
        (self.model if model is None else model).load_state_dict(self._averages)

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Use the averages as the model's weights in a ``with`` block, then restore the weights."""
        weights = self.model.state_dict()
        self.copy_to()
        try:
            yield self.model
        finally:
            self.model.load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume: ``updates`` and a copy of each average."""
        arrays = {name: backends.copy(array) for name, array in self._averages.items()}
        return {"updates": self.updates, "arrays": arrays}

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from the result of :meth:`state_dict`.

        Raises
        ------
        StateDictError
            Not the state of an average, or the averages of another model.
        """
        arrays, updates = state["arrays"], int(state["updates"])
        expected = {name: tuple(array.shape) for name, array in self._averages.items()}
        shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        wrong = sorted(k for k in {*expected, *shapes} if expected.get(k) != shapes.get(k))
        if wrong:
            raise StateDictError(
                f"the averages belong to another model: {', '.join(wrong)} missing, unexpected or "
                "differently shaped"
            )
        self.updates = updates
        for name, tensor in self.model._state():
            array = tensor.backend.asarray(arrays[name], state_dtype(tensor))
            self._averages[name] = backends.copy(array)


class EMA(WeightAverage):
    """Exponential moving average of a model's weights, often more accurate than the last weights.

    average = decay * average + (1 - decay) * weight in each update; the first update copies the
    weights. Buffers, such as batch-norm statistics, are always copied. Like PyTorch's
    ``AveragedModel`` with ``get_ema_multi_avg_fn``; source: Polyak & Juditsky 1992.

    Parameters
    ----------
    model
        The model being trained; it is not changed.
    decay
        From 0 to 1; near 1, the average covers about 1 / (1 - decay) steps.

    Attributes
    ----------
    updates : int
        Number of updates.

    Raises
    ------
    ArgumentError
        ``decay`` is out of range, or ``model`` is not a Module.

    Examples
    --------
    >>> average = optim.EMA(model)
    >>> for x, y in loader:
    ...     loss = F.cross_entropy(model(x), y)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     average.update()
    >>> with average.applied():
    ...     result = trainer.evaluate(x_val, y_val)
    >>> average.copy_to(model)
    """

    def __init__(self, model: Module, decay: float = 0.999) -> None:
        super().__init__(model)
        self.decay: float = check_number("decay", decay, 0, 1)

    def rate(self) -> float:
        return 1 - self.decay


class SWA(WeightAverage):
    """Stochastic weight averaging: the mean of a model's weights at each update.

    Update it at the end of each of the last epochs, at a constant or cyclic learning rate, and then
    recompute the batch-norm statistics with :func:`update_batch_norm`. Like PyTorch's
    ``AveragedModel``; source: Izmailov et al. 2018, arXiv:1803.05407.

    Parameters
    ----------
    model
        The model being trained; it is not changed.

    Attributes
    ----------
    updates : int
        Number of updates.

    Raises
    ------
    ArgumentError
        ``model`` is not a Module.

    Examples
    --------
    >>> average = optim.SWA(model)
    >>> for epoch in range(10):
    ...     history = trainer.fit(x, y, epochs=1)
    ...     average.update()
    >>> average.copy_to(model)
    >>> optim.update_batch_norm(model, (batch for batch, _ in loader))
    """

    def rate(self) -> float:
        return 1 / (self.updates + 1)


def update_batch_norm(model: Module, batches: Iterable[Any]) -> None:
    """Set the running statistics of all batch norms to their mean over ``batches``.

    For weights that have not been trained as they are, such as averages. Like PyTorch's
    ``update_bn``.

    Parameters
    ----------
    model
        In training mode during the call; its weights do not change.
    batches
        Inputs of the model; a tuple or list stands for its first item, so a loader works.

    Raises
    ------
    ArgumentError
        ``model`` is not a Module.
    """
    kinds = BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
    norms = [module for module in _check_module(model).modules() if isinstance(module, kinds)]
    momenta = [norm.momentum for norm in norms]
    with evaluating(model):
        model.train()
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a mean over all batches
            for batch in batches if norms else ():
                x = batch[0] if isinstance(batch, tuple | list) else batch
                model(Tensor.of(x).to(model.backend))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _check_module(model: Any) -> Module:
    if not isinstance(model, Module):
        raise ArgumentError(f"model is {type(model).__name__}: expected a Module")
    return model
