"""The training loop: fit, evaluate, predict."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from .. import backends
from .. import functional as F
from ..amp import GradScaler, autocast
from ..arrays import Array
from ..backends import PRECISIONS
from ..checks import check_not_negative, is_int
from ..data import DataLoader, Dataset
from ..errors import ArgumentError, DataError, DTypeError, ShapeError
from ..nn import LOSSES, Loss, Module, evaluating
from ..optim import Optimizer, clip_grad_norm_
from ..schedules import LRScheduler, ReduceLROnPlateau
from ..tensor import Tensor
from .prefetch import on_device
from .progress import Bar


class Answers(NamedTuple):
    """Numbers of correct predictions (on the device) and of all predictions in a batch."""

    right: Array
    total: int


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch of training; the columns of ``history.csv``.

    Losses are means over examples, accuracies fractions from 0 to 1 (None if the loss has no
    classes, or without validation). ``seconds`` is training and validation together.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float

    def row(self) -> dict[str, Any]:
        """Return the columns as a dict."""
        return asdict(self)


class Trainer:
    """Trains a model.

    Parameters
    ----------
    model
        A Module; training runs on its device.
    optimizer
        From ``xcnn.optim``, with the model's parameters; None: only evaluate and predict.
    loss
        A name in ``nn.LOSSES``, such as "cross_entropy" or "mse"; a loss module such as
        ``nn.CrossEntropyLoss()``; or a function of (output, target) that returns a Tensor of one
        element.
    precision
        How matrix products are computed: "float32"; on a GPU also "tf32" (float32 arrays, 10-bit
        mantissas in the products) or "float16" (activations too; float32 master weights and
        losses, dynamic loss scaling). The weights stay float32.
    schedule
        From ``xcnn.schedules``; steps after each epoch, or each batch if ``per_batch`` is True.
        ``ReduceLROnPlateau`` gets the validation loss, or the training loss without validation;
        with ``mode="max"`` the accuracy.
    clip_norm
        Maximum norm of all gradients, see :func:`xcnn.optim.clip_grad_norm_`; None: no limit.

    Attributes
    ----------
    history : list of Epoch
        All epochs trained so far.
    scaler : xcnn.amp.GradScaler or None
        With "float16", set by the first step; counts the skipped steps.

    Raises
    ------
    ArgumentError
        An unknown loss or precision, a schedule of another optimiser, a negative ``clip_norm``;
        later, a precision that the device does not support, or training without an optimiser.

    Examples
    --------
    >>> trainer = xcnn.Trainer(model, optim.Adam(model.parameters()), loss="cross_entropy")
    >>> trainer.fit(x_train, y_train, epochs=5, validation=(x_val, y_val))
    >>> probabilities = trainer.predict(x_test)
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | None = None,
        loss: str | Loss | Callable[..., Tensor] = "cross_entropy",
        precision: str = "float32",
        schedule: LRScheduler | None = None,
        clip_norm: float | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ArgumentError(f"precision={precision!r}: expected one of {', '.join(PRECISIONS)}")
        if schedule is not None:
            _check_schedule(schedule, optimizer)
        if clip_norm is not None:
            check_not_negative({"clip_norm": clip_norm}, "clip_norm")
        self.model = model
        self.optimizer = optimizer
        self.loss = _find_loss(loss)
        self.precision = precision
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.scaler: GradScaler | None = None
        self.history: list[Epoch] = []

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation: Any = None,
        shuffle: bool = True,
        seed: int = 0,
        callbacks: Sequence[Callable[[Trainer, Epoch], Any]] = (),
        progress: bool = True,
    ) -> list[Epoch]:
        """Train for ``epochs`` more epochs.

        Parameters
        ----------
        x
            Examples (N, ...), an array or anything array-like; or a Dataset of (x, y); or a
            DataLoader of them, which then sets batch size and order.
        y
            Targets (N, ...): class indices, or whatever the loss takes; only if ``x`` is an array.
        epochs
            Number of epochs.
        batch_size, shuffle, seed
            For data that are not a DataLoader; the order depends on ``seed`` and the epoch only.
        validation
            (x, y), a Dataset or a DataLoader, evaluated after each epoch.
        callbacks
            Called as ``callback(trainer, epoch)`` after each epoch. One that returns True stops
            the training.
        progress
            Show a bar for each epoch (only on a terminal).

        Returns
        -------
        list of Epoch
            The epochs of this call.

        Raises
        ------
        DataError, ShapeError, DTypeError, ArgumentError
            Data that do not fit the model or the loss.
        """
        if not is_int(epochs) or epochs < 0:
            raise ArgumentError(f"epochs={epochs!r}: expected an int >= 0")
        loader = _loader(x, y, batch_size, shuffle, seed)
        if len(loader) == 0:
            raise DataError("fit: no batch to train on; x has no examples, or too few")
        loader.epoch = len(self.history)
        last = len(self.history) + epochs
        first = len(self.history)
        for number in range(first + 1, last + 1):
            epoch = self._epoch(loader, validation, number, last, batch_size, progress)
            self.history.append(epoch)
            self._after_epoch(epoch)
            results = [callback(self, epoch) for callback in callbacks]
            if True in results:
                break
        return self.history[first:]

    def train_step(
        self, x: Array, y: Array, labels: Array | None = None
    ) -> tuple[Tensor, Answers | None]:
        """Train on one batch of host or device arrays, without waiting for a GPU.

        Parameters
        ----------
        x, y
            Examples (N, ...) and targets (N, ...).
        labels
            ``y`` on the host, to check class indices if ``y`` is on a GPU.

        Returns
        -------
        loss : Tensor
            Of one element.
        answers : Answers or None
            Counts of correct and all predictions; None if the loss has no classes.
        """
        optimizer = self._require_optimizer()
        with self._compute_context():
            optimizer.zero_grad()
            loss, answers = self._forward(x, y, labels)
            if self.precision == "float16":
                self.scaler = self.scaler or GradScaler(self.model.backend)
                self.scaler.backward(loss)
                self.scaler.unscale_(optimizer)
                self._clip(optimizer)
                self.scaler.step(optimizer)
            else:
                loss.backward()
                self._clip(optimizer)
                optimizer.step()
        if self.schedule is not None and self.schedule.per_batch:
            self.schedule.step()
        return loss, answers

    def _require_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ArgumentError(
                "this Trainer has no optimizer, so it can only evaluate and predict; to train, "
                "pass one, such as optim.Adam(model.parameters())"
            )
        return self.optimizer

    def _clip(self, optimizer: Optimizer) -> None:
        if self.clip_norm is not None:
            clip_grad_norm_(optimizer.params, self.clip_norm)

    def _after_epoch(self, epoch: Epoch) -> None:
        """Step the schedule if it counts epochs."""
        schedule = self.schedule
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(_metric(schedule.mode, epoch))
        elif schedule is not None and not schedule.per_batch:
            schedule.step()

    def evaluate(self, x: Any, y: Any = None, batch_size: int = 256) -> dict[str, float | None]:
        """Mean loss and accuracy, without training.

        Parameters
        ----------
        x, y
            Arrays; or a Dataset or DataLoader as ``x`` alone.
        batch_size
            Examples at a time.

        Returns
        -------
        dict
            "loss" and "accuracy" (a fraction; None if the loss has no classes). Both are NaN
            if there are no examples.
        """
        totals = _Totals()
        loader = _loader(x, y, batch_size)
        with self._compute_context(), evaluating(self.model):
            for (_, labels), (x, y) in self._on_device(loader):
                totals.add(len(x), *self._forward(x, y, labels))
        return {"loss": totals.loss(), "accuracy": totals.accuracy()}

    def predict(self, x: Any, batch_size: int = 256) -> Array:
        """Return the model's predictions as a NumPy array, (N, ...).

        Probabilities for classification: softmax of the output for "cross_entropy", exp for
        "nll", sigmoid for "binary_cross_entropy_with_logits"; else the output itself.

        Parameters
        ----------
        x
            Examples (N, ...), or a DataLoader, of which the first array of each batch is used.
        batch_size
            Examples at a time.

        Raises
        ------
        ShapeError
            No examples, or they do not fit the model.
        """
        loader = x if isinstance(x, DataLoader) else _loader(x, None, batch_size)
        with self._compute_context(), evaluating(self.model):
            batches = [self._prediction(batch[0]) for batch in loader]
        if not batches:
            raise ShapeError("predict: x has no examples; pass at least one")
        return backends.get("cpu").xp.concatenate(batches)

    def _prediction(self, x: Array) -> Array:
        y = self.loss.prediction(self._output(x)).numpy()
        if y.shape[:1] != (len(x),):
            raise ShapeError(
                f"predict: the model returns {y.shape} for a batch of {len(x)}: expected (N, ...)"
            )
        return y

    def _epoch(
        self,
        loader: DataLoader,
        validation: Any,
        number: int,
        last: int,
        batch_size: int,
        progress: bool,
    ) -> Epoch:
        start = time.perf_counter()
        totals = _Totals()
        self.model.train()
        title = f"epoch {number}/{last}"
        bar = Bar(len(loader.dataset), title) if progress else None
        with self._compute_context(), bar or nullcontext():
            for (_, labels), (x, y) in self._on_device(loader):
                totals.add(len(x), *self.train_step(x, y, labels))
                if bar is not None and bar.update(len(x)):
                    bar.show(loss=totals.loss(), accuracy=totals.accuracy())
            metrics: dict[str, float | None] = {"loss": None, "accuracy": None}
            if validation is not None:
                metrics = self.evaluate(_loader(*_as_tuple(validation), max(batch_size, 256)))
            epoch = Epoch(
                epoch=number,
                train_loss=totals.loss(),
                train_accuracy=totals.accuracy(),
                val_loss=metrics["loss"],
                val_accuracy=metrics["accuracy"],
                seconds=time.perf_counter() - start,
            )
            if bar is not None:
                bar.finish(
                    loss=epoch.train_loss,
                    accuracy=epoch.train_accuracy,
                    val_loss=epoch.val_loss,
                    val_accuracy=epoch.val_accuracy,
                )
        return epoch

    def _forward(self, x: Array, y: Array, labels: Array = None) -> tuple[Tensor, Answers | None]:
        """Compute loss and answers of a batch, on the device; ``labels`` is ``y`` on the host."""
        output = self._output(x)
        target = self._target(y, output, y if labels is None else labels)
        loss = self.loss(output, target)
        if not isinstance(loss, Tensor):
            raise DTypeError(f"the loss function returned {type(loss).__name__}, expected a Tensor")
        return loss, self._answers(output.data, target)

    @contextmanager
    def _compute_context(self) -> Iterator[None]:
        """Create arrays on the model's device and compute products in ``precision``."""
        backend = self.model.backend
        with backend.active(), backend.precision(self.precision):
            yield

    def _output(self, x: Array) -> Tensor:
        """Compute the model's output, in the dtype of its parameters."""
        x = self.model.backend.asarray(x, self.model.dtype)
        if self.precision != "float16":
            return self.model(x)
        with autocast():
            return F.astype(self.model(x.astype("float16")), "float32")

    def _on_device(self, loader: DataLoader) -> Iterator[tuple[tuple, tuple]]:
        """Yield each batch (x, y) on the host and on the device."""
        backend, batches = self.model.backend, _pairs(loader)
        slots = backend.slots()
        if slots:
            return on_device(batches, backend, self.model.dtype, slots)
        return ((batch, batch) for batch in batches)

    def _target(self, y: Array, output: Tensor, labels: Array) -> Array:
        """Convert ``y`` to what the loss takes, on the output's device.

        Values take the output's dtype and, (N,) for (N, 1), its shape; probabilities of classes
        take its dtype. Class indices for a GPU are checked in ``labels``, on the host: checking
        them on the GPU would make the host wait.
        """
        kind, backend = self.loss.target, output.backend
        if kind == "classes" and not isinstance(labels, Tensor) and labels.dtype.kind in "iu":
            host = backends.of(labels)
            if host is not backend:
                ignored = getattr(self.loss, "ignore_index", -100)
                host.check_class_indices(labels, output.shape[1] if output.ndim > 1 else 1, ignored)
        if kind not in ("values", "binary"):
            probabilities = kind == "classes" and y.shape == output.shape
            return backend.asarray(y, output.dtype if probabilities else None)
        target = backend.asarray(y, output.dtype)
        same_shape = [n for n in target.shape if n != 1] == [n for n in output.shape if n != 1]
        return target.reshape(output.shape) if same_shape else target

    def _answers(self, output: Array, target: Array) -> Answers | None:
        if self.loss.target == "classes":
            classes = target if target.ndim < output.ndim else target.argmax(axis=1)
            right = output.argmax(axis=1) == classes
        elif self.loss.target == "binary":
            right = (output > self.loss.threshold) == (target > 0.5)
        else:
            return None
        return Answers(right.sum(), right.size)


class _Totals:
    """Sums over an epoch, kept on the device until they are needed."""

    def __init__(self) -> None:
        self.examples = 0
        self.total = 0
        self.loss_sum: Array = None
        self.right: Array = None

    def add(self, examples: int, loss: Tensor, answers: Answers | None) -> None:
        self.examples += examples
        term = loss.data * examples
        self.loss_sum = term if self.loss_sum is None else self.loss_sum + term
        if answers is not None:
            self.total += answers.total
            self.right = answers.right if self.right is None else self.right + answers.right

    def loss(self) -> float:
        return float(self.loss_sum) / self.examples if self.examples else math.nan

    def accuracy(self) -> float | None:
        if self.examples == 0:
            return math.nan
        return None if self.right is None else int(self.right) / self.total


def _check_schedule(schedule: LRScheduler, optimizer: Optimizer | None) -> None:
    if not isinstance(schedule, LRScheduler):
        raise ArgumentError(
            f"schedule is {type(schedule).__name__}: expected a schedule from xcnn.schedules"
        )
    if schedule.optimizer is not optimizer:
        raise ArgumentError(
            "schedule belongs to another optimizer: create it with the Trainer's optimizer"
        )
    if schedule.per_batch and isinstance(schedule, ReduceLROnPlateau):
        raise ArgumentError("ReduceLROnPlateau needs a metric of each epoch: per_batch=False")


def _metric(mode: str, epoch: Epoch) -> float:
    """The metric for ReduceLROnPlateau: the loss, or the accuracy if larger is better."""
    if mode == "min":
        return epoch.train_loss if epoch.val_loss is None else epoch.val_loss
    accuracy = epoch.train_accuracy if epoch.val_accuracy is None else epoch.val_accuracy
    if accuracy is None:
        raise ArgumentError('ReduceLROnPlateau: mode="max" needs a loss with an accuracy')
    return accuracy


class CustomLoss(Loss):
    """Wraps a function of (output, target), which gets the targets unchanged."""

    target = "custom"

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.custom = function

    def forward(self, input: Any, target: Any) -> Tensor:
        return self.custom(input, target)


def _find_loss(loss: str | Loss | Callable[..., Tensor]) -> Loss:
    if isinstance(loss, Loss):
        return loss
    for name, cls in LOSSES.items():
        if loss is cls.function or (isinstance(loss, str) and loss == name):
            return cls()
    if callable(loss):
        return CustomLoss(loss)
    raise ArgumentError(
        f"loss={loss!r}: expected one of {', '.join(LOSSES)}, a loss module or a function"
    )


def _loader(x: Any, y: Any, batch_size: int, shuffle: bool = False, seed: int = 0) -> DataLoader:
    """Return ``x`` if it is a DataLoader, else create one."""
    if isinstance(x, DataLoader | Dataset) and y is not None:
        raise ArgumentError(
            f"y={type(y).__name__}: a {type(x).__name__} already yields (x, y); omit y"
        )
    if isinstance(x, DataLoader):
        return x
    arrays: Any = x if isinstance(x, Dataset) else (x,) if y is None else (x, y)
    return DataLoader(arrays, batch_size=batch_size, shuffle=shuffle, seed=seed)


def _as_tuple(validation: Any) -> tuple[Any, Any]:
    if isinstance(validation, DataLoader | Dataset):
        return validation, None
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise ArgumentError(
            f"validation is {type(validation).__name__}: expected (x, y), a Dataset or a DataLoader"
        )
    return validation[0], validation[1]


def _pairs(loader: Iterable[tuple]) -> Iterator[tuple[Any, Any]]:
    for batch in loader:
        if len(batch) != 2:
            raise DataError(
                f"the loader yields {len(batch)} arrays per batch, expected (x, y); pass y, or a "
                "dataset of pairs"
            )
        yield batch[0], batch[1]
