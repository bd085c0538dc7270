"""Callbacks that log a training to files: CSV, JSON lines, TensorBoard."""

from __future__ import annotations

import json
import math
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

from ... import backends
from ...checks import check_flag, check_path
from ...errors import (
    ArgumentError,
    MissingPackageError,
    ShapeError,
    XcnnError,
    missing_package,
    show,
)
from ...files import naming, reading, write_atomically
from ...tensor import Tensor
from ..epoch import Epoch
from ..totals import Step
from .base import Callback
from .checkpoint import Interval
from .schedule import learning_rates

_BINS = 50  # of a histogram
_WAIT = 20  # steps at least between readings of losses, which wait for the GPU
_host = backends.get("cpu").xp


class Logger(Callback):
    """Base class: a log that a resumed training continues without gaps or duplicates.

    Nothing is opened before the first entry, so that a folder which another callback refuses stays
    as it is. A checkpoint is never ahead of the log: what the log holds beyond the checkpoint is
    removed when the training is resumed from it.
    """

    main_only = True
    order = 1  # after the callbacks that add columns, before ModelCheckpoint

    def __init__(self, path: Any, every: str | None = None) -> None:
        self.path = Path(check_path("path", path))
        self.every: int | None = None if every is None else Interval.parse("every", every).steps
        if every is not None and self.every is None:
            raise ArgumentError(
                f'every={show(every)}: expected a number of steps, such as "100steps"'
            )
        self._reset((0, 0, 0))

    def _reset(self, position: tuple[int, int, int]) -> None:
        self._start = position
        self._steps = self._read_at = position[2]
        self._rates: dict[str, float] = {}
        self._waiting: list[dict[str, Any]] = []  # rows with losses on the device

    def on_fit_start(self, trainer: Any) -> None:
        with naming("create", self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._reset(trainer.position)

    def on_batch_start(self, trainer: Any) -> None:
        self._rates = learning_rates(trainer)

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        before, self._steps = self._steps, trainer.steps
        if self.every is not None and self._steps // self.every > before // self.every:
            row = {"epoch": trainer.epoch, "batch": trainer.batch, "step": trainer.steps}
            row["loss"] = step.loss.data.reshape(())
            self._waiting.append({**row, **self._rates, "seconds": trainer.seconds})
        if self._steps >= self._read_at + _WAIT:
            self._read()

    def _read(self) -> None:
        """Log the steps that wait for it; reading their losses waits for a GPU, once."""
        self._read_at = self._steps
        rows, self._waiting = self._waiting, []
        if rows:
            backend = backends.of(rows[0]["loss"])
            with backend.active():
                losses = backend.to_host(backend.xp.stack([row["loss"] for row in rows]))
            for row, loss in zip(rows, losses.tolist(), strict=True):
                self.log_step({**row, "loss": loss})
            self.flush()

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        self._read()
        self._steps = trainer.steps
        self.log_epoch(trainer, epoch)
        self.flush()

    def on_fit_end(self, trainer: Any) -> None:
        self._read()
        self.close()

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        self.on_fit_end(trainer)  # the last steps are of interest

    def state_dict(self) -> dict[str, Any]:
        self._read()  # a checkpoint is being written
        return {}

    def log_step(self, row: dict[str, Any]) -> None:
        """Log one step: "epoch", "batch", "step", "loss", "lr", "seconds" of the epoch."""

    def log_epoch(self, trainer: Any, epoch: Epoch) -> None:
        """Log an epoch."""

    def flush(self) -> None:
        """Write to the disk."""

    def close(self) -> None:
        """Close the files."""


class CSVLogger(Logger):
    """Writes the history as CSV, a row for each epoch, as ``history.csv`` of a run folder.

    The file is replaced as a whole after each epoch.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    OSError
        In ``fit``: the file cannot be written.
    """

    def __init__(self, path: Any) -> None:
        super().__init__(path)

    def log_epoch(self, trainer: Any, epoch: Epoch) -> None:
        write_atomically(self.path, trainer.history.to_csv().encode())


class JSONLogger(Logger):
    """Writes JSON lines: an object for each epoch, and for every so many steps.

    The object of an epoch has the columns of the history; that of a step "epoch", "batch", "step",
    "loss" (of its last batch), "lr" and "seconds" (of the epoch so far). Numbers that are infinite
    or NaN are null. Each line is on the disk when the next step starts; the losses of steps are
    read at most every 20 steps, as reading them waits for a GPU. A new training replaces the file.

    Parameters
    ----------
    path
        The file.
    every
        How often to log a step, such as "100steps"; None: only epochs.

    Raises
    ------
    ArgumentError
        ``every`` is not a number of steps.
    FileFormatError
        In ``fit``, when resuming: the file is not such a log.
    """

    _file: BinaryIO | None = None

    def log_step(self, row: dict[str, Any]) -> None:
        finite = {k: None if v is None or not math.isfinite(v) else v for k, v in row.items()}
        with naming("write", self.path):
            if self._file is None:
                self._file = self.path.open("ab+")
                self._file.truncate(self._length(self._file))
            self._file.write(json.dumps(finite, default=float).encode() + b"\n")
            self._file.flush()

    def log_epoch(self, trainer: Any, epoch: Epoch) -> None:
        self.log_step(epoch.row())

    def _length(self, file: BinaryIO) -> int:
        """The length of the lines up to where the training starts."""
        length, start = 0, self._start[:2]
        if start > (0, 0):
            file.seek(0)
            with reading(self.path, "is no log of a training", "Choose another file"):
                for line in file:
                    row = json.loads(line) if line.endswith(b"\n") else {"epoch": math.inf}
                    at = (row["epoch"] - 1, row["batch"]) if "batch" in row else (row["epoch"], 0)
                    if at > start:
                        break
                    length += len(line)
        return length

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardLogger(Logger):
    """Writes event files for TensorBoard; needs ``pip install xcnn[tensorboard]``.

    TensorBoard shows three runs: "train" and "val", which share a chart for each loss, accuracy and
    metric over the epochs, and "steps" with the loss (of the last batch) and the learning rate. A
    new training in the same folder replaces the charts.

    Parameters
    ----------
    folder
        What ``tensorboard --logdir`` gets.
    every
        How often to log loss and learning rate, such as "100steps"; None: only epochs.
    histograms
        After each epoch, also log histograms of the weights and of the last step's gradients.
    images
        Pictures (N, C, H, W), C 1 or 3, to show after each epoch, with the classes predicted for
        them. Also draws the graph of the model, if the package onnx is installed.

    Raises
    ------
    MissingPackageError
        The package tensorboardX is not installed.
    ArgumentError, ShapeError
        ``every`` is not a number of steps; ``images`` are not pictures.

    Warns
    -----
    UserWarning
        The graph cannot be drawn.

    Examples
    --------
    >>> log = TensorBoardLogger("logs", histograms=True, images=x_val[:16])
    >>> history = trainer.fit(x, y, epochs=20, callbacks=[log])
    """

    def __init__(
        self,
        folder: Any,
        every: str | None = "100steps",
        histograms: bool = False,
        images: Any = None,
    ) -> None:
        try:
            from tensorboardX import summary
        except ImportError as error:
            raise missing_package("TensorBoardLogger", "tensorboardX", error) from error
        super().__init__(folder, every)
        self.histograms = check_flag("histograms", histograms)
        self.images: Any = None
        if images is not None:
            self.images = array = Tensor(images).numpy()
            if array.ndim != 4 or array.shape[1] not in (1, 3):
                raise ShapeError(f"images has shape {array.shape}: expected (N, C, H, W), C 1 or 3")
        self._summary = summary
        self._files: dict[str, Any] = {}  # by run

    def on_fit_start(self, trainer: Any) -> None:
        super().on_fit_start(trainer)
        if self.images is not None:
            trainer.predict(self.images)  # an error now, not after the first epoch

    def log_step(self, row: dict[str, Any]) -> None:
        for name in row.keys() - {"epoch", "batch", "step", "seconds"}:
            self._write("steps", row["step"], self._summary.scalar(name, row[name]))

    def log_epoch(self, trainer: Any, epoch: Epoch) -> None:
        is_first = "train" not in self._files
        for column, value in epoch.row().items():
            run = "val" if column.startswith("val_") else "train"
            if value is not None and column != "epoch":
                scalar = self._summary.scalar(column.removeprefix(f"{run}_"), value)
                self._write(run, epoch.epoch, scalar)
        if self.histograms:
            for name, parameter in trainer.model.named_parameters():
                self._histogram(f"weights/{name}", parameter.data, epoch.epoch)
                grad = parameter.grad
                self._histogram(
                    f"gradients/{name}", None if grad is None else grad.data, epoch.epoch
                )
        if self.images is not None:
            self._examples(trainer, epoch.epoch, is_first)

    def _histogram(self, tag: str, array: Any, number: int) -> None:
        values = [] if array is None else backends.of(array).to_host(array)
        finite = _host.extract(_host.isfinite(values), values)
        if finite.size:
            self._write("train", number, self._summary.histogram(tag, finite, _BINS))

    def _examples(self, trainer: Any, number: int, is_first: bool) -> None:
        """Log the predictions for the pictures; the first time, also the pictures and the graph."""
        if is_first:
            low, high = float(self.images.min()), float(self.images.max())
            scaled = (self.images.astype("float32") - low) / (high - low or 1.0)
            picture = self._summary.image("examples", scaled, dataformats="NCHW")
            self._write("train", number, picture)
            self._graph(trainer.model)
        with trainer.evaluation_weights():
            predicted = trainer.predict(self.images)
        if trainer.loss.target == "classes" and predicted.ndim == 2:
            classes = " ".join(map(str, predicted.argmax(axis=1)))
            self._write("train", number, self._summary.text("examples/predicted", classes))

    def _graph(self, model: Any) -> None:
        from tensorboardX.onnx_graph import load_onnx_graph

        from ... import onnx

        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # prints names
            path = f"{folder}/model.onnx"
            try:
                onnx.export(model, self.images[:1], path, check=False)
            except XcnnError as error:
                if not isinstance(error, MissingPackageError):
                    warnings.warn(f"TensorBoardLogger: no graph: {error}", stacklevel=2)
                return
            self._write("train", graph_def=load_onnx_graph(path).SerializeToString())

    def _write(self, run: str, number: int = 0, summary: Any = None, **other: Any) -> None:
        # not SummaryWriter: what is in its queue is lost when the process is killed
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        if run not in self._files:
            (self.path / run).mkdir(parents=True, exist_ok=True)
            # files are read in the order of their names
            self._files[run] = EventsWriter(str(self.path / run / "events"), f".{time.time_ns()}")
            purged = self._start[2 if run == "steps" else 0] + 1  # hides older events from there on
            self._write(run, purged, session_log=SessionLog(status=SessionLog.START))
        event = Event(wall_time=time.time(), step=number, summary=summary, **other)
        with naming("write", self.path):
            self._files[run].write_event(event)

    def flush(self) -> None:
        with naming("write", self.path):
            for file in self._files.values():
                file.flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
