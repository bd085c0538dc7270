"""Writing reports: once, or while a training runs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import check_int, check_number, check_path
from ..errors import ArgumentError
from ..files import AnyPath, naming, write_atomically
from ..tasks import Task
from ..training import Epoch, callbacks
from . import contents, predictions
from .compare import comparison
from .page import html
from .run import Run

_INTERRUPTED = "The training was interrupted."


def write(
    path: AnyPath,
    *runs: Run,
    title: str | None = None,
    limit: int = contents.LIMIT,
) -> None:
    """Write a report of one training, or of several side by side, as one HTML file.

    The file needs no other file and no network. Everything is computed on the devices of the
    models, which are left as they were.

    Parameters
    ----------
    path
        The file, ``report.html``; it is replaced as a whole.
    runs
        What to show; the first one is on top.
    title
        Of the page; default: the names of the runs.
    limit
        Test examples that are predicted at most, evenly spaced; the page says so.

    Raises
    ------
    ArgumentError
        No run, or an invalid setting.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> run = report.Run("lenet5", trainer, test=(x_test, y_test), classes=list("0123456789"))
    >>> report.write("report.html", run)
    """
    if not runs or not all(isinstance(run, Run) for run in runs):
        found = ", ".join(type(run).__name__ for run in runs) or "nothing"
        raise ArgumentError(f"runs: expected one or more xcnn.report.Run, got {found}")
    check_int("limit", limit)
    measured = [contents.measure(run, limit) for run in runs]
    compared = comparison(measured) if len(measured) > 1 else None
    names = title or ", ".join(run.name for run in runs)
    write_atomically(path, html(names, measured, compared))


class Report(callbacks.Callback):
    """Writes a report while a training runs, and the whole report when it ends.

    After an epoch, the page has the curves and the predictions of the test data so far; it loads
    itself again until the training ends. Predicting takes at most about a tenth of the time: after
    predictions that took a second, the next ones follow after the epoch in which ten seconds have
    passed, and until then only the curves are new. When the training ends, feature maps,
    explanations and all other sections are added; if it is interrupted, only the curves are brought
    up to date.

    Like a log, the report ends the training if it cannot be written, as when the disk is full;
    it is written after the checkpoint of the epoch, so that nothing is lost. If it cannot be made,
    as when a task fails to draw a picture, there is a warning and the training goes on.

    Parameters
    ----------
    path
        The file, ``report.html``.
    test, train, classes, settings, name, task
        See :class:`Run`; ``name`` is by default that of the model's class.
    limit
        Test examples that are predicted at most.
    share
        Fraction of the time that predicting, and that writing may take while the training runs.

    Raises
    ------
    ArgumentError
        An invalid setting.
    OSError
        In ``fit``: the file cannot be written.

    Examples
    --------
    >>> page = report.Report("report.html", test=(x_test, y_test))
    >>> history = trainer.fit(x, y, epochs=20, callbacks=[page])
    """

    order = 3  # after ModelCheckpoint
    main_only = True

    def __init__(
        self,
        path: AnyPath,
        test: Any = None,
        train: Any = None,
        classes: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        name: str | None = None,
        limit: int = contents.LIMIT,
        *,
        task: Task | None = None,
        share: float = 0.1,
    ) -> None:
        self.path = Path(check_path("path", path))
        # an error now, not in fit
        label = "run" if name is None else name
        Run(label, None, test, train, classes, settings=settings or {}, task=task)
        self.test, self.train = test, train
        self.classes, self.settings, self.name = classes, dict(settings or {}), name
        self.task = task
        self.limit = check_int("limit", limit)
        self.share = check_number("share", share, 0, 1)
        self._reset()

    def on_fit_start(self, trainer: Any) -> None:
        with naming("create", self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        test = self._run(trainer).test
        x = contents.inputs(test, [0]) if test is not None and len(test.dataset) else None
        if x is not None:  # an error now, not after the first epoch
            trainer.predict(x)
            if predictions.is_counted(self._run(trainer)):
                predictions.predict(self._run(trainer), 1)
        self._reset()

    def _reset(self) -> None:
        self._due = self._next = 0.0  # when to predict, and to write, at the earliest
        self._pause = 0.0  # between two pages
        self._last: dict[str, Any] | None = None  # contents

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        with self._warning():
            self._write(trainer, epoch)

    def _write(self, trainer: Any, epoch: Epoch) -> None:
        start = time.monotonic()
        if start < self._next or epoch.epoch >= trainer.epochs or trainer.is_stopping:
            return
        before = self._last if start < self._due else None
        with trainer.evaluation_weights():
            self._last = contents.measure(self._run(trainer), self.limit, False, before)
        now = time.monotonic()
        if before is None:
            self._due = now + (now - start) / max(self.share, 1e-6)
        live = max(epoch.seconds, self._pause, 1.0)
        write_atomically(self.path, html(self._last["name"], [self._last], live=live))
        self._pause = (time.monotonic() - now) / max(self.share, 1e-6)
        self._next = time.monotonic() + self._pause

    def on_fit_end(self, trainer: Any) -> None:
        with self._warning():
            if trainer.is_interrupted:
                self._end(trainer, _INTERRUPTED)
            elif trainer.history:
                write(self.path, self._run(trainer, "stopped early"), limit=self.limit)

    @contextmanager
    def _warning(self) -> Iterator[None]:
        """Turn errors into warnings, except those of writing."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            text = f"{self.path} is not up to date: {type(error).__name__}: {error}"
            warnings.warn(f"{text}; the training is not affected", stacklevel=4)

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        if self._last is not None and self.path.parent.is_dir():  # else there is no live page
            is_stop = isinstance(error, KeyboardInterrupt | SystemExit)
            why = _INTERRUPTED if is_stop else f"The training ended with {type(error).__name__}."
            self._end(trainer, why)

    def _end(self, trainer: Any, note: str) -> None:
        """Write at once the quick sections of a training that will not go on."""
        run = self._run(trainer)
        measured = contents.measure(run, self.limit, full=False, before=self._last)
        write_atomically(self.path, html(measured["name"], [measured], note=note))

    def _run(self, trainer: Any, state: str = Run.state) -> Run:
        return Run(
            self.name or type(trainer.model).__name__,
            trainer,
            self.test,
            self.train,
            self.classes,
            settings=self.settings,
            task=self.task,
            epochs=trainer.epochs,
            state=state,
        )
