"""Base class of the metrics."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..arrays import Array
from ..backends import Backend
from ..checks import loads_state
from ..errors import ArgumentError, DTypeError, ShapeError, StateDictError
from ..nn import Loss
from ..tensor import Tensor

#: metric classes by name
BY_NAME: dict[str, type[Metric]] = {}


class Metric:
    """A number that is computed from all batches of an epoch, whatever their sizes.

    Subclasses define ``measure``, which reduces a batch to arrays that can be added up, and
    ``result``, which takes their sums as keywords. The sums stay on the device until ``compute``.
    A subclass with a ``name`` of its own can be created by that name.

    Attributes
    ----------
    name : str
        As in :func:`create`, and in the header of ``history.csv``.
    higher_is_better : bool
    targets : tuple of str
        The kinds of target that it fits, as in :class:`xcnn.nn.Loss`: "classes", "binary",
        "values".
    target : str or None
        The kind that is in use; None: found out from the shapes, see :meth:`update`.
    is_scalar : bool
        Whether ``compute`` returns a float; otherwise an array.
    takes_output : bool
        Whether ``update`` takes the model's output instead of its predictions.
    ignore_index : int or None
        The class index that does not count; None: -100.
    """

    name: str = ""
    higher_is_better: bool = True
    targets: ClassVar[tuple[str, ...]] = ("values",)
    target: str | None = None
    is_scalar: bool = True
    takes_output: ClassVar[bool] = False
    ignore_index: int | None = None

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            BY_NAME[cls.name] = cls

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._state: dict[str, Any] = {}

    def match_loss(self, loss: Loss) -> None:
        """Take over what the loss says of its targets: the kind, and which labels to ignore.

        Raises
        ------
        ArgumentError
            The metric does not fit targets of this kind.
        """
        if check_loss(loss).target not in (*self.targets, "custom"):
            raise ArgumentError(
                f"metric {self.name!r} is for targets that are {' or '.join(self.targets)}, but "
                f"those of {type(loss).__name__} are {loss.target}: choose another metric"
            )
        if loss.target != "custom":
            self.target = loss.target
        if self.ignore_index is None:
            self.ignore_index = getattr(loss, "ignore_index", None)

    def update(self, prediction: Any, target: Any) -> None:
        """Add a batch, without waiting for a GPU.

        Parameters
        ----------
        prediction
            As returned by ``Trainer.predict``, a floating-point array or Tensor on any device:
            class probabilities (N, C, ...); probabilities of a 1, (N,) or (N, labels, ...); or
            values.
        target
            Class indices (N, ...) or probabilities of classes in the shape of the prediction;
            zeros and ones; or values. Where :attr:`target` is None, indices (N, ...) for a
            prediction of two classes or more mean classes, and an equal shape zeros and ones.

        Raises
        ------
        ShapeError, DTypeError
            The arrays do not fit each other or the metric.
        ArgumentError
            A class index out of range (on a GPU, the result is NaN instead).
        """
        prediction, target = Tensor.of(prediction), Tensor.of(target)
        if prediction.ndim == 0 or target.ndim == 0:
            raise ShapeError(
                f"metric {self.name!r}: prediction has shape {prediction.shape}, target "
                f"{target.shape}: expected (N, ...), a batch of examples"
            )
        if not {prediction.dtype.kind, target.dtype.kind} <= set("biuf"):
            raise DTypeError(
                f"metric {self.name!r}: prediction is {prediction.dtype}, target {target.dtype}: "
                "expected numbers"
            )
        backend = prediction.backend
        if prediction.numel() == 0:
            return
        with backend.active(), np.errstate(divide="ignore", invalid="ignore"):
            target = target.to(backend)
            for name, value in self.measure(backend, prediction.data, target.data).items():
                self._add(backend, name, value)

    def _add(self, backend: Backend, name: str, value: Any) -> None:
        if name in self._state:
            old = self._state[name]  # on the host if it was loaded; a host int stays there
            value = value + (old if isinstance(value, int) else Tensor.of(old).to(backend).data)
        self._state[name] = value

    def measure(self, backend: Backend, prediction: Array, target: Array) -> dict[str, Any]:
        """Reduce a batch to arrays whose sums over all batches :meth:`result` takes.

        The name "invalid" is reserved for the number of examples that make the result NaN.
        """
        raise NotImplementedError

    def same_shape(self, prediction: Array, target: Array) -> Array:
        """The target in the shape of the prediction: (N,) may stand for (N, 1)."""
        if [n for n in prediction.shape if n != 1] != [n for n in target.shape if n != 1]:
            raise ShapeError(
                f"metric {self.name!r}: prediction has shape {prediction.shape}, target "
                f"{target.shape}: they must be equal; reshape one of them"
            )
        return target.reshape(prediction.shape)

    def result(self, *args: Any, **sums: Any) -> Any:
        """The metric, from the sums over all batches as NumPy arrays; by default total / count."""
        return np.divide(sums["total"], sums["count"])

    def compute(self) -> Any:
        """The metric of all examples so far; waits for the device.

        Returns
        -------
        float, or NumPy array
            NaN if there are no examples, or if a prediction (of a label that is not ignored) is
            NaN.
        """
        state = self.state_dict()
        if not state:
            return math.nan
        invalid = state.pop("invalid", 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            result = self.result(**state) * (math.nan if np.any(invalid) else 1)
        return float(result) if self.is_scalar else result

    def state_dict(self) -> dict[str, np.ndarray]:
        """The sums so far as NumPy arrays, to continue within an epoch; waits for the device."""
        return {name: Tensor.of(value).numpy() for name, value in self._state.items()}

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned.

        Raises
        ------
        StateDictError
            A state of another metric.
        """
        own = inspect.signature(self.result).parameters
        wrong = set(state) - {"invalid", "total", "count", *own}
        if wrong:
            raise StateDictError(f"metric {self.name!r} has no state {', '.join(sorted(wrong))}")
        self._state = {name: np.array(value) for name, value in state.items()}

    def merge(self, states: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """The state after all batches of several copies of the metric, such as one per process.

        What ``measure`` returns is added up, or stored, as from batch to batch. The metric itself
        is not changed.

        Parameters
        ----------
        states
            What :meth:`state_dict` of each returned; empty without any batch.

        Returns
        -------
        dict
            For :meth:`load_state_dict`.

        Raises
        ------
        StateDictError
            States of different metrics; or the class keeps other states than its base class, and
            does not say how to merge them.
        """
        for name in ("reset", "state_dict", "load_state_dict"):
            cls = next(cls for cls in type(self).__mro__ if name in vars(cls))
            if cls not in (Metric, StoringMetric):
                raise StateDictError(
                    f"metric {self.name!r} cannot be merged: {cls.__name__} has its own {name}; "
                    "define merge(self, states), which returns the state of all examples"
                )
        merged = copy.copy(self)
        merged.reset()
        for state in states:
            for name, value in state.items():
                array, old = np.asarray(value), merged._state.get(name)
                if isinstance(old, np.ndarray | np.generic) and old.shape != array.shape:
                    raise StateDictError(
                        f"metric {self.name!r}: {name} has shape {array.shape} in one state, "
                        f"{old.shape} in another: merge takes states of equal metrics"
                    )
                merged._add(Tensor.of(array).backend, name, array)
        return merged.state_dict()


def check_loss(loss: Any) -> Loss:
    """A loss module.

    Raises
    ------
    DTypeError
        Anything else.
    """
    if not isinstance(loss, Loss):
        raise DTypeError(
            f"loss is {type(loss).__name__}: expected a loss module, such as nn.CrossEntropyLoss()"
        )
    return loss


class StoringMetric(Metric):
    """A metric whose arrays are stored for all batches, instead of being added up."""

    def _add(self, backend: Backend, name: str, value: Any) -> None:
        self._state.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {
            name: np.concatenate([Tensor.of(part).numpy() for part in parts])
            for name, parts in self._state.items()
        }

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._state = {name: [array] for name, array in self._state.items()}
