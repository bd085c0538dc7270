"""ModelCheckpoint: the run folder, from which a training can go on."""

from __future__ import annotations

import errno
import re
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from ... import serialize
from ...checks import check_flag, check_int, check_path
from ...errors import ArgumentError, show
from ...files import naming
from .. import folder as files
from .. import state
from ..epoch import Epoch
from ..folder import BEST, CHECKPOINTS, HISTORY, MODEL
from ..totals import Step
from .base import Callback
from .stopping import Monitor, parse_time

_SUFFIX = ".safetensors"
_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP"):  # not on Windows
    _SIGNALS.append(signal.SIGHUP)


class Interval(NamedTuple):
    """How often to write a checkpoint: one of the three is not None."""

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, name: str, text: Any) -> Interval:
        """Read "100steps", "1epoch" or a time such as "5min".

        Raises
        ------
        ArgumentError
            Anything else.
        """
        match = re.fullmatch(r"(\d+) ?(step|epoch)s?", text) if isinstance(text, str) else None
        if match and int(match[1]):
            return cls(**{f"{match[2]}s": int(match[1])})
        try:
            return cls(seconds=parse_time(name, text))
        except ArgumentError as error:
            raise ArgumentError(
                f"{name}={show(text)}: expected a number of steps or epochs, or a time, such as "
                '"100steps", "1epoch" or "5min"'
            ) from error


class ModelCheckpoint(Callback):
    """Keeps a folder from which :meth:`Trainer.fit` continues a training, bit for bit.

    ``model.safetensors`` and ``history.csv`` are those of the last finished epoch, ``checkpoints/``
    has the state of the whole training (:meth:`Trainer.save`), and with ``best``,
    ``best.safetensors`` is the model of the best epoch. The files of one moment are replaced
    together: whenever the process is killed, the folder holds one complete generation.

    On Ctrl-C, SIGTERM and SIGHUP (the terminal is closed) the training finishes the step, writes a
    checkpoint and ends: with KeyboardInterrupt, SystemExit(143) or SystemExit(129). A second Ctrl-C
    ends it at once. Signals that the program ignores, as with nohup, stay ignored.

    Parameters
    ----------
    path
        The folder. It must not hold another run, unless ``fit`` resumes it.
    every
        How often to write a checkpoint: "1epoch", "100steps", "5min".
    keep
        Number of checkpoints to keep.
    best
        Name of the column of the history that decides which epoch is the best, such as "val_loss"
        or "val_accuracy"; None: no ``best.safetensors``.
    mode
        "min", "max", or None: the usual direction of ``best``.
    signals
        Whether to handle Ctrl-C and SIGTERM; only possible in the main thread.

    Raises
    ------
    ArgumentError
        An invalid setting; in ``fit``, a folder that is in use or holds another run.

    Examples
    --------
    >>> saving = ModelCheckpoint("run", every="5min", best="val_accuracy")
    >>> settings = {"validation": (x_val, y_val), "callbacks": [saving], "resume": "run"}
    >>> history = trainer.fit(x, y, epochs=20, **settings)
    """

    order = 2

    def __init__(
        self,
        path: Any,
        every: str = "1epoch",
        keep: int = 3,
        best: str | None = None,
        mode: str | None = None,
        signals: bool = True,
    ) -> None:
        self.path = Path(check_path("path", path))
        self.every = Interval.parse("every", every)
        self.keep: int = check_int("keep", keep)
        self._best = None if best is None else Monitor(best, mode)
        self.signals = check_flag("signals", signals)
        self.received: int | None = None  # a signal
        self.lock: files.Lock | None = None
        self.settings: dict[str, Any] = {}  # which must not change when it goes on
        self._handlers: dict[int, Any] = {}
        self._written = (0, 0, 0)  # the position of the last checkpoint
        self._time = time.monotonic()

    def on_fit_start(self, trainer: Any) -> None:
        if self._best is not None:
            self._best.check(trainer)
        trainer.ranks.from_main(lambda: self._open(trainer.is_resuming or bool(trainer.history)))
        self._written, self._time = trainer.position, time.monotonic()
        self.received = None
        if self.signals and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                    self._handlers[number] = signal.signal(
                        number, lambda number, frame: self._handle(trainer, number, frame)
                    )

    def _open(self, may_hold_run: bool) -> None:
        """Create and lock the folder."""
        if self.lock is None:
            with naming("create", self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            self.lock = files.Lock(self.path)
            files.complete(self.path)
        held = [f.name for f in (self.path / MODEL, *checkpoints(self.path)) if f.exists()]
        if held and not may_hold_run:
            raise ArgumentError(
                f"{self.path} already holds a run ({', '.join(held)}): to go on with it, pass "
                f"fit(..., resume={str(self.path)!r}); else choose another folder"
            )

    def _handle(self, trainer: Any, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # the second time: stop at once
            self._restore_handlers()
            signal.raise_signal(number)
        self.received = number
        trainer.stop(finished=False)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        if trainer.is_between_steps and self._is_due(trainer):
            self.write(trainer)

    def _is_due(self, trainer: Any) -> bool:
        """Whether it is time for another checkpoint."""
        steps, epochs, seconds = self.every
        if epochs is not None:
            return trainer.batch == 0 and len(trainer.history) % epochs == 0
        if steps is not None:
            return trainer.steps // steps > self._written[2] // steps
        return bool(trainer.ranks.any(time.monotonic() >= self._time + (seconds or 0)))

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        written: dict[str, list[Any]] = {HISTORY: [trainer.history.to_csv().encode()]}
        with trainer.evaluation_weights():
            written[MODEL] = serialize.model_parts(trainer.model)
            if self._best is not None and self._best.improved(trainer, epoch):
                value = {"epoch": str(epoch.epoch), self._best.monitor: repr(self._best.best)}
                written[BEST] = serialize.model_parts(trainer.model, value)
        is_last = trainer.must_stop() or epoch.epoch >= trainer.epochs
        self.write(trainer, written, is_last or self._is_due(trainer))
        if trainer.must_stop():  # since then
            self.write(trainer)

    def write(
        self, trainer: Any, written: Mapping[str, list[Any]] = {}, checkpoint: bool = True
    ) -> None:
        """Write a generation: files of the folder, and a checkpoint; all ranks call it."""
        written, remove = dict(written), []
        checkpoint = checkpoint and trainer.position != self._written
        saved: Any = trainer.state_dict() if checkpoint else None
        if checkpoint:
            self._written, self._time = trainer.position, time.monotonic()
        if not trainer.is_main:
            return
        if checkpoint:
            name = f"{CHECKPOINTS}/{trainer.steps:010d}{_SUFFIX}"
            written[name] = state.parts(saved)
            old = [f"{CHECKPOINTS}/{path.name}" for path in checkpoints(self.path)]
            later = [n for n in old if n > name]  # left from before an older one was resumed
            earlier = [n for n in old if n < name]
            remove = later + earlier[: max(0, len(earlier) - self.keep + 1)]
        if self.lock is not None and not self.lock.holds(self.path):
            raise FileNotFoundError(
                errno.ENOENT, "cannot write: it was moved or deleted", str(self.path)
            )
        if written:
            files.commit(self.path, written, remove)

    def on_fit_end(self, trainer: Any) -> None:
        try:
            if trainer.is_interrupted:
                self.write(trainer)
            elif trainer.history:  # another callback may have replaced the weights
                self.write(trainer, {MODEL: serialize.model_parts(trainer.model)}, False)
        finally:
            self._close()
        received = int(max(trainer.ranks.gathered(self.received or 0)))  # on any rank
        if received == signal.SIGINT:
            raise KeyboardInterrupt
        if received:
            raise SystemExit(128 + received)

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        self._restore_handlers()
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def state_dict(self) -> dict[str, Any]:
        best = None if self._best is None else self._best.best
        return {"best": best, "settings": self.settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._best is not None:
            self._best.best = state["best"]
        saved, own = state.get("settings", {}), self.settings
        edited = [f"{k} was {v!r}" for k, v in saved.items() if own and own.get(k) != v]
        if edited:
            raise ArgumentError(
                f"{self.path}: settings were edited since the run began: {', '.join(edited)}; "
                "change them back, or start a new run"
            )


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run folder, oldest first."""
    return sorted((folder / CHECKPOINTS).glob(f"*{_SUFFIX}"))


def newest(path: Any) -> Path | None:
    """The checkpoint file to resume from.

    ``path`` is such a file, or the folder of a ModelCheckpoint; None if that has no checkpoint.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    path = Path(check_path("resume", path))
    if path.suffix == _SUFFIX and not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"no such file: {path}")
        return path
    files.complete_if_free(path)
    found = checkpoints(path)
    return found[-1] if found else None
