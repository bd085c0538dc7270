"""The training loop: fit, evaluate, predict, save and load."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from .. import backends, optim, random
from .. import functional as F
from ..amp import GradScaler, autocast
from ..backends import PRECISIONS
from ..checks import check_choice, check_flag, check_int, check_list, check_number, loads_state
from ..communicator import Communicator
from ..data import DataLoader, arrays_of, map_arrays
from ..errors import (
    ArgumentError,
    DTypeError,
    FileFormatError,
    ShapeError,
    StateDictError,
    did_you_mean,
    show,
)
from ..files import write_atomically
from ..nn import Loss, Module, evaluating
from ..optim import Optimizer, clip_grad_norm_
from ..schedules import LRScheduler, ReduceLROnPlateau
from ..tensor import Buffer, Tensor
from . import batches, state
from .arguments import check_schedule, find_loss, find_metrics, find_optimizer, metric_for
from .callbacks import Callback, ProgressBar, TerminateOnNaN, as_callback, newest
from .epoch import Epoch, History
from .lr_finder import LRFinder, find_lr
from .prefetch import on_device
from .ranks import Ranks
from .totals import WITH_ACCURACY, Step, Totals


class Trainer:
    """Trains a model.

    Parameters
    ----------
    model
        A Module; training runs on its device.
    optimizer
        From ``xcnn.optim``, with the model's parameters; or a name in ``optim.BY_NAME``, such as
        "adam", for one with its default settings; None: only evaluate and predict.
    loss
        A name in ``nn.LOSSES``, such as "cross_entropy" or "mse"; a loss module such as
        ``nn.CrossEntropyLoss()``; or a function of (output, target) that returns a Tensor of one
        element.
    precision
        How matrix products are computed: "float32"; on a GPU also "tf32" (float32 arrays, 10-bit
        mantissas in the products) or "float16" (activations too; float32 master weights and
        losses, dynamic loss scaling). The weights stay float32.
    schedule
        From ``xcnn.schedules``; steps after each epoch, or after each step of the optimiser if
        ``per_batch`` is True. ``ReduceLROnPlateau`` gets the validation loss, or the training loss
        without validation; with ``mode="max"`` the accuracy.
    clip_norm
        Maximum norm of all gradients, see :func:`xcnn.optim.clip_grad_norm_`; None: no limit.
    metrics
        Names in ``xcnn.metrics.names()`` or objects of ``xcnn.metrics``, computed in addition to
        loss and accuracy over the training and the validation examples of each epoch.
    accumulate
        Batches per step of the optimiser, whose gradient is that of one batch of all their
        examples; an epoch's last step may have fewer.
    distributed
        Train with all the processes that ``xcnn.distributed.init()`` joined, each with a part of
        every batch, as if one process had all of it. True, or a communicator. All processes must
        then make the same calls; the first writes and prints.
    compression
        "float16": send gradients to the other processes in half precision.

    Attributes
    ----------
    history : History
        All epochs trained so far.
    scaler : xcnn.amp.GradScaler or None
        With "float16", set by the first step; counts the skipped steps.
    epochs : int
        The epoch that the current or last fit ends with.
    batch : int
        Batches of the current epoch so far.
    steps : int
        Steps of the optimiser so far, in all epochs.
    seconds : float
        How long the current epoch has taken so far.
    gradient_norm : array () or None
        With ``clip_norm``, the norm of all gradients before clipping in the last step, on the
        device.
    is_stopping : bool
        Whether :meth:`stop` was called in the current or last fit.
    validation : DataLoader or None
        The validation data of the current or last fit.
    callbacks : list of Callback
        Those of the current or last fit.
    ranks : Ranks
        The processes that train together.
    is_resuming : bool
        Whether the current or last fit was called with ``resume``.
    resumed_from : pathlib.Path or None
        The checkpoint that it started from.

    Raises
    ------
    ArgumentError, DTypeError
        ``model`` is not a Module; an unknown optimiser, loss, metric or precision, an optimiser of
        another model, a schedule of another optimiser, a negative ``clip_norm``. When training
        starts: a precision that the device does not support, or no optimiser.

    Examples
    --------
    >>> trainer = xcnn.Trainer(model, optim.Adam(model.parameters()), loss="cross_entropy")
    >>> history = trainer.fit(x_train, y_train, epochs=5, validation=(x_val, y_val))
    >>> probabilities = trainer.predict(x_test)
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | str | None = None,
        loss: str | Loss | Callable[..., Tensor] = "cross_entropy",
        precision: str = "float32",
        schedule: LRScheduler | None = None,
        clip_norm: float | None = None,
        *,
        metrics: Sequence[Any] = (),
        accumulate: int = 1,
        distributed: bool | Communicator = False,
        compression: str | None = None,
    ) -> None:
        if not isinstance(model, Module):
            raise DTypeError(f"Trainer: model is {type(model).__name__}: expected a Module")
        check_choice("precision", precision, PRECISIONS)
        self.model = model
        self.optimizer = find_optimizer(optimizer, model)
        if schedule is not None:
            check_schedule(schedule, self.optimizer)
        if clip_norm is not None:
            check_number("clip_norm", clip_norm, 0)
        self.loss = find_loss(loss)
        self.metrics = find_metrics(metrics, self.loss)
        self.precision = precision
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.accumulate = check_int("accumulate", accumulate)
        self.ranks = Ranks(distributed, compression)
        for metric in self.metrics.values() if self.ranks.size > 1 else ():
            metric.merge([])  # refuses one that cannot be merged
        self.scaler: GradScaler | None = None
        self.history = History()
        self.epochs = self.batch = self.steps = 0
        self.callbacks: list[Callback] = []
        self.resumed_from: Any = None
        self.is_resuming = False
        self.loader: DataLoader | None = None
        self.validation: DataLoader | None = None
        self._first = 0  # epochs before the current or last fit
        self.is_stopping = self._finished = False
        self._totals: Totals | None = None  # while an epoch is unfinished
        self.seconds = 0.0  # of that epoch
        self._accumulated: list[tuple[Any, float]] = []  # divisor and size, if without a step
        self._loaded: Mapping[str, Any] = {}  # states of the loader and the callbacks of a fit
        self._warned = False
        self.gradient_norm: Any = None
        self._class_weights: Any = None  # until the number of classes is known

    # -- training ---------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation: Any = None,
        shuffle: bool = True,
        seed: int = 0,
        callbacks: Sequence[Callback | Callable[[Trainer, Epoch], Any]] = (),
        progress: bool = True,
        *,
        validation_split: float = 0.0,
        class_weight: Any = None,
        resume: str | os.PathLike[str] | None = None,
        terminate_on_nan: bool = True,
    ) -> History:
        """Train for ``epochs`` more epochs.

        Parameters
        ----------
        x
            Examples (N, ...), an array or anything array-like; or a Dataset of (x, y); or a
            DataLoader of them, which then sets batch size and order. A tuple of inputs is passed
            to the model as several arguments, a dict by name.
        y
            Targets (N, ...): class indices, or whatever the loss takes; only if ``x`` is an array.
        epochs
            Number of epochs.
        batch_size, shuffle, seed
            For data that are not a DataLoader; the order depends on ``seed`` and the epoch only.
            Distributed processes share each batch.
        validation
            (x, y), or a dataset or loader as ``x``; evaluated after each epoch.
        callbacks
            Objects of ``xcnn.callbacks``, or functions called as ``f(trainer, epoch)`` after each
            epoch; one that returns True stops the training.
        progress
            Show a table of the epochs and a bar for the current one, on a terminal or in a
            notebook; see :class:`xcnn.callbacks.ProgressBar`.
        validation_split
            Fraction of the examples to hold out for validation, from each class alike (if an
            example has one class), chosen by ``seed``; instead of ``validation``.
        class_weight
            Weights of the classes in the loss: "balanced", inversely proportional to their
            frequencies as in scikit-learn; {class: weight}, 1 for those not named; or (C,).
        resume
            A checkpoint of :meth:`save`, or the folder of a ``ModelCheckpoint``, from which the
            training continues, bit for bit as if it had never stopped: pass the arguments that it
            was started with, or more ``epochs``. If the folder has no checkpoint, a new training
            starts.
        terminate_on_nan
            End a training that diverges, see :class:`xcnn.callbacks.TerminateOnNaN`.

        Returns
        -------
        History
            The epochs of this call.

        Raises
        ------
        DataError, ShapeError, DTypeError, ArgumentError
            Data that do not fit the model or the loss.
        DivergenceError
            The loss or a weight became infinite or NaN.
        StateDictError, FileFormatError, FileNotFoundError
            ``resume`` does not fit, is damaged or missing.
        """
        epochs = check_int("epochs", epochs, 0)
        if check_number("validation_split", validation_split, 0, 1) > 0:
            if validation is not None:
                raise ArgumentError("validation_split needs validation=None: pass one of the two")
            by_class = self.loss.target == "classes"
            x, validation = batches.split(x, y, validation_split, seed, by_class)
            y = None
        loader = batches.to_train("fit", x, y, batch_size, shuffle, seed)
        if validation is not None:
            validation = batches.as_loader(*batches.as_pair(validation), max(batch_size, 256))
        if class_weight is not None:
            self._count_classes(class_weight, loader)
        self._require_optimizer()
        self._use(callbacks, progress, terminate_on_nan)
        self.loader = loader = self.ranks.shard(loader)
        self.validation = validation
        self.ranks.start(self.model, loader, self._settings(epochs), validation)
        self.is_resuming = resume is not None
        found = resume is not None and self.ranks.from_main(lambda: str(newest(resume) or ""))
        self.resumed_from = Path(found) if found else None
        if self.resumed_from is not None:
            try:
                self.load(self.resumed_from)
            except FileFormatError as error:
                if os.path.isdir(str(resume)):
                    advice = "to go on from the checkpoint before it, delete this file"
                    error.args = (f"{error}; {advice}",)
                raise
            self._finished = self._finished and self._first + epochs <= self.epochs
        else:
            self._first, self._finished = len(self.history), False
        if self._loaded and (self.resumed_from is not None or self.is_interrupted):
            loader.load_state_dict(self._loaded["loader"])
        self.epochs = self._first + epochs
        self.is_stopping = False
        first = len(self.history)
        try:
            self._train(loader, validation)
            self._call("on_fit_end")
        except BaseException as error:
            for callback in self.callbacks:
                try:
                    callback.on_exception(self, error)
                except Exception as other:  # the other callbacks must hear of the first error
                    error.add_note(f"{type(callback).__name__}.on_exception raised {other!r}")
            raise
        finally:
            self.ranks.close()
        return History(self.history[first:])

    def _train(self, loader: DataLoader, validation: DataLoader | None) -> None:
        """Train until the last epoch, or until stopped."""
        try:
            self._call("on_fit_start")
            self._load_callbacks()
            while len(self.history) < self.epochs and not (self.must_stop() or self._finished):
                self._run_epoch(loader, validation)
        except BaseException:
            self._totals, self.batch, self.seconds = None, 0, 0.0  # the next fit repeats it
            self._accumulated.clear()
            raise

    def stop(self, finished: bool = True) -> None:
        """End the current fit after this step; called by callbacks.

        Parameters
        ----------
        finished
            Whether a training that is resumed from here has nothing left to do.
        """
        self.is_stopping, self._finished = True, finished

    def must_stop(self) -> bool:
        """Whether :meth:`stop` was called, on any rank; all ranks must call it."""
        stopping, finished = self.ranks.sums(self.is_stopping, self.is_stopping and self._finished)
        if stopping and self.ranks.size > 1:
            self.is_stopping, self._finished = True, finished > 0
        return stopping > 0

    def train_step(self, x: Any, y: Any, labels: Any = None) -> Step:
        """Train on one batch of host or device arrays, without waiting for a GPU.

        The optimiser steps in every call, or every ``accumulate`` calls.

        Parameters
        ----------
        x, y
            Examples (N, ...) and targets (N, ...).
        labels
            ``y`` on the host, to check class indices if ``y`` is on a GPU.

        Returns
        -------
        Step
            The loss, a Tensor of one element; output, target and number of examples.
        """
        optimizer = self._require_optimizer()
        with self._compute_context():
            if not self._accumulated:
                optimizer.zero_grad()
            with self.ranks.part(x, y) as elements:
                step = self._forward(x, y, labels)
                self._backward(step, elements)
            if len(self._accumulated) >= self.accumulate:
                self._step()
        return step

    def _backward(self, step: Step, elements: int) -> None:
        """Add the gradient of the batch, weighted by its share if it is one of several.

        ``elements`` are those of the targets on all ranks.
        """
        loss = step.loss
        divisor: Any = step.examples
        size = 1.0
        if self._is_in_parts:
            if self.loss.target != "custom":
                divisor = self.loss.divisor(step.output, step.target)
            # a power of two, which changes no digit, of the order of the sum of the divisors
            size = self._accumulated[0][1] if self._accumulated else 2.0 ** elements.bit_length()
            if self.loss.reduction != "sum":
                on_host = isinstance(divisor, int | float)
                loss = loss * ((divisor if on_host else divisor.astype(loss.dtype)) / size)
        self._accumulated.append((divisor, size))
        if len(self._accumulated) >= self.accumulate:
            self.ranks.start_reduce(self.model, self._require_optimizer())
        if self.precision == "float16":
            self.scaler = self.scaler or GradScaler(self.model.backend)
            self.scaler.backward(loss)
        else:
            loss.backward()

    @property
    def _is_in_parts(self) -> bool:
        """Whether the examples of a step are in several batches or on several ranks."""
        return self.accumulate > 1 or self.ranks.size > 1

    def _step(self) -> None:
        """Step the optimiser with the accumulated gradients."""
        optimizer = self._require_optimizer()
        self.ranks.reduce(self.model, optimizer)
        scaler = self.scaler if self.precision == "float16" else None
        if scaler is not None:
            scaler.unscale_(optimizer)
        if self._is_in_parts and self.loss.reduction != "sum":
            self._divide_gradients(optimizer)
        if self.clip_norm is not None:
            self.gradient_norm = clip_grad_norm_(optimizer.params, self.clip_norm).data
        if scaler is not None:
            scaler.step(optimizer)
        else:
            optimizer.step()
        self._accumulated.clear()
        self.steps += 1
        if self.schedule is not None and self.schedule.per_batch:
            self.schedule.step()
        self._call("on_step_end")

    def _divide_gradients(self, optimizer: Optimizer) -> None:
        """Divide the weighted sums of gradients by the sum of the weights."""
        size = self._accumulated[0][1]
        backend = self.model.backend
        total = self.ranks.total(sum(divisor for divisor, _ in self._accumulated), backend)
        if isinstance(total, int | float):
            total = total or 1
        else:  # on the device; without labels the gradients are 0
            total = backend.xp.where(total == 0, 1, total).astype(self.model.dtype)
        factor = size / total
        for parameter in optimizer.params:
            if parameter.grad is not None:
                gradient = parameter.grad.data
                gradient *= factor

    def _require_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ArgumentError(
                "this Trainer has no optimizer, so it can only evaluate and predict; to train, "
                "pass one, such as optim.Adam(model.parameters())"
            )
        return self.optimizer

    def _run_epoch(self, loader: DataLoader, validation: DataLoader | None) -> None:
        """Train the rest of an epoch and validate; if stopped, leave it unfinished."""
        start = time.perf_counter() - self.seconds
        if self._totals is None:
            self._call("on_epoch_start")
            self._totals = Totals(self.loss, self.metrics)
            self.batch = 0
            self.model.train()
        totals = self._totals
        loader.epoch, loader.start = len(self.history), self.batch
        last = batches.length(loader)
        with self._compute_context(), self._on_device(loader) as loaded:
            for (host_x, labels), (x, y) in loaded:
                if self.batch == 0:
                    self._look_at(host_x)
                self._call("on_batch_start")
                step = self.train_step(x, y, labels)
                totals.add(step)
                self.batch += 1
                if self.batch == last and self._accumulated:  # fewer batches than usual
                    self._step()
                self.seconds = time.perf_counter() - start
                self._call("on_batch_end", step)
                if self.must_stop() and self.is_between_steps:
                    return
            self.ranks.end()
            if self._accumulated:  # of a loader without a length
                self._step()
            measured = self._validate(validation)
        if measured is not None:
            seconds = self.ranks.gathered(time.perf_counter() - start)[0]
            self._end_epoch(self.ranks.merged(totals), measured, seconds)

    def _validate(self, validation: DataLoader | None) -> dict[str, Any] | None:
        """Evaluate the validation data; None if stopped before the end."""
        if validation is None:
            return {"loss": None, "accuracy": None}
        validation.epoch = len(self.history)  # decides the order of a shuffled one, also if resumed
        with self.evaluation_weights():
            return self._evaluate(validation, stoppable=True)

    def _end_epoch(self, totals: Totals, measured: dict[str, Any], seconds: float) -> None:
        self.ranks.check_weights(self.model)
        found = {f"val_{k}": v for k, v in measured.items()}
        epoch = Epoch(
            epoch=self.epoch,
            train_loss=totals.loss(),
            train_accuracy=totals.accuracy(),
            val_loss=found.pop("val_loss"),
            val_accuracy=found.pop("val_accuracy"),
            seconds=seconds,
            metrics={**totals.values("train_"), **found},
        )
        self.history.append(epoch)
        self._totals, self.batch, self.seconds = None, 0, 0.0
        schedule = self.schedule
        if isinstance(schedule, ReduceLROnPlateau):
            if math.isfinite(metric := metric_for(schedule.mode, epoch)):
                schedule.step(metric)
        elif schedule is not None and not schedule.per_batch:
            schedule.step()
        self._call("on_epoch_end", epoch)

    # -- where the training is ----------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 1."""
        return len(self.history) + 1

    @property
    def position(self) -> tuple[int, int, int]:
        """Finished epochs, batches of the next one, and steps of the optimiser."""
        return len(self.history), self.batch, self.steps

    @property
    def examples(self) -> int | None:
        """The number of examples of an epoch; None if the data does not say."""
        return None if self.loader is None else batches.length(self.loader.dataset)

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints: rank 0 of a distributed training."""
        return self.ranks.is_main

    @property
    def is_finished(self) -> bool:
        """Whether :meth:`stop` ended the training for good, also the one that is resumed."""
        return self._finished

    @property
    def is_between_steps(self) -> bool:
        """Whether the optimiser has used all gradients."""
        return not self._accumulated

    @property
    def is_interrupted(self) -> bool:
        """Whether the fit was stopped in the middle of an epoch."""
        return self._totals is not None

    def running(self) -> dict[str, float | None]:
        """Loss and accuracy of the current epoch so far; reading them waits for a GPU."""
        totals = self._totals
        return {} if totals is None else {"loss": totals.loss(), "accuracy": totals.accuracy()}

    def mode_of(self, column: str) -> str:
        """Whether a column of the history is better if smaller, "min", or larger, "max".

        Raises
        ------
        ArgumentError
            It is not a loss, an accuracy or a metric.
        """
        known = {"loss": "min", "accuracy": "max"}
        known |= {k: "max" if m.higher_is_better else "min" for k, m in self.metrics.items()}
        columns = {f"{part}_{k}": v for part in ("train", "val") for k, v in known.items()}
        columns["seconds"] = "min"
        if column not in columns:
            raise ArgumentError(
                f"monitor={show(column)}: expected one of {', '.join(columns)}"
                f"{did_you_mean(column, columns)}; or, for a column that a callback adds, pass "
                'mode="min" or mode="max"'
            )
        return columns[column]

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """A context in which the model has the weights to evaluate and keep, such as averages."""
        with ExitStack() as stack:
            for callback in self.callbacks:
                stack.enter_context(callback.evaluation_weights(self))
            yield

    def update_batch_norm(self) -> None:
        """Compute the statistics of batch norms anew from the training data of the last fit."""
        if self.loader is None:
            raise ArgumentError("update_batch_norm: there is no training data; call fit first")
        with self._compute_context(), self._on_device(self.loader) as loaded:
            optim.update_batch_norm(self.model, (self._input(x) for _, (x, _) in loaded))
            self.ranks.average(self.model)

    # -- checkpoints ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state of the training to a safetensors file, all or nothing.

        It has everything that a fit needs to continue bit for bit: weights, optimiser, schedule,
        loss scaler, random state, position in the data, history, and the states of the callbacks.
        :func:`xcnn.save` writes only the model.

        Parameters
        ----------
        path
            Usually ends in ``.safetensors``.

        Raises
        ------
        OSError
            The file cannot be written; an existing file is left unchanged.
        ArgumentError
            Called on one rank only, by a callback, in the middle of an epoch.
        """
        if self.ranks.is_alone and self.ranks.size > 1 and self.is_interrupted:
            raise ArgumentError(
                "save: in the middle of an epoch all ranks have sums to save: call it in a "
                "callback without main_only"
            )
        parts = state.parts(self.state_dict())
        self.ranks.from_main(lambda: write_atomically(path, parts))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Restore the state that :meth:`save` wrote, on this or another device.

        The Trainer must have been created like the one that was saved. If anything does not fit,
        nothing is changed. The next fit continues the epoch and restores the callbacks.

        Raises
        ------
        FileNotFoundError, FileFormatError
            The file is missing, damaged, or not a checkpoint.
        StateDictError
            It belongs to another model, optimiser, schedule or loss.
        """
        saved = self.ranks.from_main(lambda: state.read(path))
        before = self.state_dict()
        try:
            self.load_state_dict(saved)
        except (KeyError, TypeError, ValueError) as error:
            self.load_state_dict(before)
            raise StateDictError(f"{path}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Everything that :meth:`save` stores; all ranks must call it."""
        modules = self.model.named_modules()
        optimizer, schedule, scaler = self.optimizer, self.schedule, self.scaler
        loader = {} if self.loader is None else self.loader.state_dict()
        return {
            "loss": type(self.loss).__name__,
            "model": self.model.state_dict(),
            "frozen": [k for k, p in self.model.named_parameters() if not p.requires_grad],
            "evaluating": [path for path, module in modules if not module.training],
            "optimizer": None if optimizer is None else _named(optimizer),
            "schedule": None if schedule is None else schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": random.get_state(),
            "loader": {**loader, "epoch": len(self.history), "start": self.batch},
            "history": self.history.state_dict(),
            "first": self._first,
            "epochs": self.epochs,
            "finished": self._finished and self._totals is None,
            "steps": self.steps,
            "seconds": self.seconds,
            "totals": None if self._totals is None else self.ranks.states(self._totals),
            "clip_norm": self.clip_norm,
            "accumulate": self.accumulate,
            "callbacks": [_named(callback) for callback in self.callbacks],
        }

    @loads_state
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`.

        Raises
        ------
        StateDictError
            It belongs to another model, optimiser, schedule or loss.
        """
        backend = self.model.backend
        _check_kind("loss", saved["loss"], type(self.loss).__name__)
        for name, own in (("optimizer", self.optimizer), ("schedule", self.schedule)):
            if own is not None and saved[name] is None:
                raise StateDictError(f"the state has no {name}: it is of another training")
        self.model.load_state_dict(saved["model"])
        frozen, evaluating_ = set(saved["frozen"]), set(saved["evaluating"])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = name not in frozen
        for path, module in self.model.named_modules():
            module.training = path not in evaluating_
        if self.schedule is not None:
            self.schedule.load_state_dict(saved["schedule"])  # a callback may have set other rates
        if self.optimizer is not None:
            _check_kind("optimizer", saved["optimizer"]["class"], type(self.optimizer).__name__)
            self.optimizer.load_state_dict(saved["optimizer"]["state"])
        self.scaler = None
        if saved["scaler"] is not None and self.precision == "float16":
            self.scaler = GradScaler(backend)
            self.scaler.load_state_dict(saved["scaler"])
        random.set_state(saved["random"])
        self.history.load_state_dict(saved["history"])
        self._first, self._finished = saved["first"], saved["finished"]
        self.epochs = saved["epochs"]
        self.steps, self.batch = saved["steps"], saved["loader"]["start"]
        self.seconds, self._totals = saved["seconds"], None
        if saved["totals"] is not None:
            self._totals = Totals(self.loss, self.metrics)
            self.ranks.load(self._totals, saved["totals"], backend.asarray)
        self.clip_norm, self.accumulate = saved["clip_norm"], saved["accumulate"]
        self._accumulated.clear()
        self._loaded = {key: saved[key] for key in ("loader", "callbacks")}

    # -- learning rate ----------------------------------------------------------------------

    def find_lr(
        self,
        x: Any,
        y: Any = None,
        start: float = 1e-6,
        end: float = 1.0,
        steps: int = 100,
        batch_size: int = 32,
        seed: int = 0,
    ) -> LRFinder:
        """Try increasing learning rates on the training data, without changing the training.

        Smith 2017, "Cyclical Learning Rates for Training Neural Networks", the range test.

        Parameters
        ----------
        x, y, batch_size, seed
            As in :meth:`fit`.
        start, end
            The first and the last learning rate; it grows by the same factor in each step.
        steps
            Maximum number of steps; fewer if the loss explodes.

        Returns
        -------
        LRFinder
            ``rates``, ``losses``, ``suggestion`` and ``plot()``.
        """
        self._require_optimizer()
        loader = self.ranks.shard(batches.to_train("find_lr", x, y, batch_size, True, seed))
        self.ranks.start(self.model, loader)
        return find_lr(self, loader, start, end, steps)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """A context without schedule and callbacks that leaves the training as it was."""
        before, loaded = self.state_dict(), self._loaded
        callbacks, schedule = self.callbacks, self.schedule
        self.callbacks, self.schedule = [], None
        try:
            yield
        finally:
            self.callbacks, self.schedule = callbacks, schedule
            self.load_state_dict(before)
            self._loaded = loaded

    # -- evaluation and prediction --------------------------------------------------------------

    def evaluate(self, x: Any, y: Any = None, batch_size: int = 256) -> dict[str, Any]:
        """Mean loss, accuracy and metrics, without training.

        Distributed processes evaluate a part each, and all get the results for all examples.

        Parameters
        ----------
        x, y
            Arrays; or a Dataset or DataLoader as ``x`` alone.
        batch_size
            Examples at a time.

        Returns
        -------
        dict
            "loss", "accuracy" (a fraction; None if the loss has no classes) and the metrics by
            name. NaN if there are no examples.
        """
        loader = batches.as_loader(x, y, batch_size)
        self.ranks.start(self.model, loader)
        with self._compute_context():
            return self._evaluate(loader) or {}

    def _evaluate(self, loader: DataLoader, stoppable: bool = False) -> dict[str, Any] | None:
        totals = Totals(self.loss, copy.deepcopy(self.metrics))
        with evaluating(self.model), self._on_device(self.ranks.shard(loader)) as loaded:
            for number, ((host_x, labels), (x, y)) in enumerate(loaded):
                if number == 0:
                    self._look_at(host_x)
                with self.ranks.part(x, y):
                    totals.add(self._forward(x, y, labels))
                if stoppable and self.must_stop():
                    return None
            self.ranks.end()
        totals = self.ranks.merged(totals)
        return {"loss": totals.loss(), "accuracy": totals.accuracy(), **totals.values("")}

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """Return the model's predictions as a NumPy array, (N, ...), or several of them.

        For a model that returns a tuple or a dict of Tensors, a tuple or a dict of arrays. Else
        probabilities for classification: softmax of the output for "cross_entropy", exp for
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
        loader = batches.as_loader(x, None, batch_size)
        with self._compute_context(), evaluating(self.model):
            predicted: list[Any] = []
            for batch in loader:
                inputs = batch[0] if isinstance(batch, tuple) else batch
                if not predicted:
                    self._look_at(inputs)
                predicted.append(self._prediction(inputs))
        if not predicted:
            raise ShapeError("predict: x has no examples; pass at least one")
        return batches.concatenate(predicted)

    def _look_at(self, x: Any) -> None:
        """Warn once about pictures that are not scaled; given the first batch only."""
        if self.is_main and not self._warned:
            self._warned = batches.warn_if_unscaled(x)

    def _prediction(self, x: Any) -> Any:
        output = self._output(x)
        if isinstance(output, Tensor) or self.loss.target not in WITH_ACCURACY:
            output = self.loss.prediction(output)
        predicted = map_arrays(lambda tensor: tensor.numpy(), output)
        for y in arrays_of(predicted):
            if y.shape[:1] != (batches.count(x),):
                raise ShapeError(
                    f"predict: the model returns {y.shape} for a batch of {batches.count(x)}: "
                    "expected (N, ...)"
                )
        return predicted

    # -- one batch ----------------------------------------------------------------------------

    def _forward(self, x: Any, y: Any, labels: Any = None) -> Step:
        """Compute the loss of a batch on the device; ``labels`` is ``y`` on the host."""
        output = self._output(x)
        if self._class_weights is not None:
            self._weigh_classes(output.shape[1])
        target = self._target(y, output, y if labels is None else labels)
        loss = self.loss(output, target)
        if not isinstance(loss, Tensor):
            raise DTypeError(f"the loss function returned {type(loss).__name__}, expected a Tensor")
        return Step(loss, output, target, batches.count(x))

    @contextmanager
    def _compute_context(self) -> Iterator[None]:
        """Create arrays on the model's device and compute products in ``precision``."""
        backend = self.model.backend
        with backend.active(), backend.precision(self.precision):
            yield

    def _input(self, x: Any) -> Any:
        """Put a batch on the device, in the dtype of the model's parameters."""
        backend, dtype = self.model.backend, self.model.dtype
        return map_arrays(lambda array: backend.asarray(array, dtype), x)

    def _output(self, x: Any) -> Any:
        """Compute the model's output, in the dtype of its parameters."""
        x = self._input(x)
        if self.precision != "float16":
            return _call_model(self.model, x)
        with autocast():
            y = _call_model(self.model, map_arrays(lambda array: array.astype("float16"), x))
            return map_arrays(lambda tensor: F.astype(tensor, "float32"), y)

    @contextmanager
    def _on_device(self, loader: DataLoader) -> Iterator[Iterator[tuple[tuple, tuple]]]:
        """An iterator over the batches (x, y), each on the host and on the device."""
        backend, loaded = self.model.backend, batches.pairs(loader)
        if slots := backend.slots():
            with closing(on_device(loaded, backend, self.model.dtype, slots)) as copied:
                yield copied
        else:
            yield ((batch, batch) for batch in loaded)

    def _target(self, y: Any, output: Any, labels: Any) -> Any:
        """Convert ``y`` to what the loss takes, on the output's device.

        Values take the output's dtype and, (N,) for (N, 1), its shape; probabilities of classes
        take its dtype. Class indices for a GPU are checked in ``labels``, on the host: checking
        them on the GPU would make the host wait.
        """
        kind = self.loss.target
        if kind not in ("values", "binary", "classes"):
            return map_arrays(self.model.backend.asarray, y)
        if not isinstance(output, Tensor):
            raise DTypeError(
                f"the model returned {type(output).__name__}, but {type(self.loss).__name__} takes "
                "one Tensor: pass a function of (output, target) as the loss"
            )
        if not hasattr(y, "dtype"):
            raise DTypeError(
                f"the target is {type(y).__name__}, but {type(self.loss).__name__} takes one "
                "array: pass a function of (output, target) as the loss"
            )
        backend = output.backend
        if kind == "classes" and not isinstance(labels, Tensor) and labels.dtype.kind in "iu":
            host = backends.of(labels)
            if host is not backend:
                ignored = getattr(self.loss, "ignore_index", -100)
                host.check_class_indices(labels, output.shape[1] if output.ndim > 1 else 1, ignored)
        if kind == "classes":
            return backend.asarray(y, output.dtype if y.shape == output.shape else None)
        target = backend.asarray(y, output.dtype)
        same_shape = [n for n in target.shape if n != 1] == [n for n in output.shape if n != 1]
        return target.reshape(output.shape) if same_shape else target

    # -- callbacks and class weights --------------------------------------------------------------

    def _use(self, callbacks: Sequence[Any], progress: bool, terminate_on_nan: bool) -> None:
        """Register the callbacks of a fit, in their order."""
        used = [as_callback(value) for value in check_list("callbacks", callbacks, "callbacks")]
        if check_flag("progress", progress) and not any(isinstance(c, ProgressBar) for c in used):
            used.append(ProgressBar(log=self.ranks.size > 1))  # mpiexec's output is a pipe
        if check_flag("terminate_on_nan", terminate_on_nan) and not any(
            isinstance(c, TerminateOnNaN) for c in used
        ):
            used.append(TerminateOnNaN())
        used = [callback for callback in used if self.is_main or not callback.main_only]
        self.callbacks = sorted(used, key=lambda callback: callback.order)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            on_main = callback.main_only and self.ranks.size > 1
            with self.ranks.alone() if on_main else nullcontext():
                getattr(callback, hook)(self, *arguments)

    def _settings(self, epochs: int) -> dict[str, Any]:
        """What all ranks must have alike, by name."""
        optimizer = self._require_optimizer()
        groups = [
            {k: v for k, v in group.items() if k not in ("params", "param_names")}
            for group in optimizer.param_groups
        ]
        parameters = [
            f"{name} {p.dtype} {p.shape}{'' if p.requires_grad else ' frozen'}"
            for name, p in self.model.named_parameters()
        ]
        callbacks = [type(c).__name__ for c in self.callbacks if not c.main_only]
        return {
            "model": f"{type(self.model).__name__}: {', '.join(parameters)}",
            "optimizer": f"{type(optimizer).__name__}: {groups}",
            "loss": f"{self.loss}",
            "schedule": type(self.schedule).__name__,
            "precision": f"{self.precision}, compression {self.ranks.compression}",
            "clip_norm and accumulate": f"{self.clip_norm}, {self.accumulate}",
            "metrics": ", ".join(self.metrics),
            "callbacks": ", ".join(callbacks),
            "epochs": f"{len(self.history)} + {epochs}",
        }

    def _load_callbacks(self) -> None:
        """Give the callbacks their states from a checkpoint, by class and order."""
        free = list(self.callbacks)
        for saved in self._loaded.get("callbacks", ()):
            same = [callback for callback in free if type(callback).__name__ == saved["class"]]
            if same:
                free.remove(same[0])
                same[0].load_state_dict(saved["state"])
            elif self.is_main and self.resumed_from is not None and any(saved["state"].values()):
                raise StateDictError(
                    f"{self.resumed_from} has the state of a {saved['class']}, which this fit does "
                    "not have: add it to callbacks"
                )
        self._loaded = {}

    def _count_classes(self, class_weight: Any, loader: DataLoader) -> None:
        """Find the weights of the classes; the first output says how many classes there are."""
        if self.loss.target != "classes" or not hasattr(self.loss, "weight"):
            raise ArgumentError(
                f"class_weight needs a loss of class indices, cross_entropy or nll, got "
                f"{type(self.loss).__name__}"
            )
        ignored = getattr(self.loss, "ignore_index", -100)
        self._class_weights = batches.class_weights(class_weight, loader.dataset, ignored)

    def _weigh_classes(self, classes: int) -> None:
        """Set the weights of the classes in the loss; a class without labels gets 1."""
        weights = list(self._class_weights)
        weights += [1.0] * (classes - len(weights))
        vars(self.loss)["weight"] = Buffer(self.model.backend.asarray(weights, self.model.dtype))
        self._class_weights = None


def _named(value: Any) -> dict[str, Any]:
    return {"class": type(value).__name__, "state": value.state_dict()}


def _check_kind(name: str, saved: str, own: str) -> None:
    if saved != own:
        raise StateDictError(f"the state is of {name} {saved}, this Trainer has {own}")


def _call_model(model: Module, x: Any) -> Any:
    """Pass a tuple of inputs as arguments, a dict by name."""
    if isinstance(x, tuple):
        return model(*x)
    return model(**x) if isinstance(x, dict) else model(x)
