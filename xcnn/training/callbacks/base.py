"""The base class of callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ...checks import check_callable
from ...errors import ArgumentError
from ..epoch import Epoch
from ..totals import Step


class Callback:
    """Base class of callbacks; a subclass overrides the hooks it needs.

    The order is on_fit_start; for each epoch on_epoch_start, for each batch on_batch_start,
    on_step_end (after each step of the optimiser) and on_batch_end, then on_epoch_end (after the
    validation and the schedule's step); finally on_fit_end, or on_exception if anything raised an
    error. Callbacks with a lower ``order`` are called first, those with the same one as listed. An
    error in a hook ends the training like any other, even in on_fit_end; one in on_exception is
    added to the first error as a note.

    To end the training, a hook calls ``trainer.stop()``: after the current step, in the middle of
    an epoch, or after on_epoch_end. A training that is resumed in the middle of an epoch does not
    call on_epoch_start again.

    In a distributed training, each process has the callbacks, and they must do the same, except
    those with ``main_only``, which only rank 0 calls.

    Attributes
    ----------
    order : int
        0 unless a callback must be first (-1) or last (1).
    main_only : bool
        For callbacks that write or print, and change nothing in the training.
    """

    order = 0
    main_only = False

    def on_fit_start(self, trainer: Any) -> None:
        """Called before the first epoch; a resumed trainer has its state, its callbacks not yet."""

    def on_epoch_start(self, trainer: Any) -> None:
        """Called before epoch ``trainer.epoch``."""

    def on_batch_start(self, trainer: Any) -> None:
        """Called before batch ``trainer.batch`` of the epoch, from 0."""

    def on_step_end(self, trainer: Any) -> None:
        """Called after each step of the optimiser, number ``trainer.steps``."""

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        """Called after each batch; reading ``step.loss`` on a GPU waits for it."""

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        """Called after each epoch, which is the last one in ``trainer.history``."""

    def on_fit_end(self, trainer: Any) -> None:
        """Called when a fit ends without an error."""

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        """Called when a fit ends with ``error``, even KeyboardInterrupt; it is raised again."""

    def evaluation_weights(self, trainer: Any) -> AbstractContextManager[Any]:
        """A context in which the model has the weights to evaluate and to keep."""
        return nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint stores: numbers, strings, arrays, None, lists of them, and dicts.

        The keys of the dicts are strings; tuples come back as lists.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`, after on_fit_start."""


#: names of the methods of a :class:`Callback` that a training calls
HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class FunctionCallback(Callback):
    """Calls ``function(trainer, epoch)`` after each epoch; if it returns True, training stops."""

    def __init__(self, function: Callable[[Any, Epoch], Any]) -> None:
        self.function = check_callable("function", function)

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        result = self.function(trainer, epoch)
        if result is not None and type(result).__name__ not in ("bool", "bool_"):
            raise ArgumentError(
                f"callback {getattr(self.function, '__name__', self.function)!r} returned "
                f"{result!r}: expected True to stop, or False or None to go on"
            )
        if result:
            trainer.stop()


def as_callback(value: Any) -> Callback:
    """``value`` itself if it is a callback, else a function as one.

    Raises
    ------
    ArgumentError
        Neither; a class instead of an object.

    Warns
    -----
    UserWarning
        A method is named like a hook that does not exist, such as ``on_epoch_begin``.
    """
    if isinstance(value, type) and issubclass(value, Callback):
        raise ArgumentError(f"callbacks has the class {value.__name__}: add (), pass an object")
    if isinstance(value, Callback):
        for name in dir(value):
            if name.startswith("on_") and name not in HOOKS:
                warnings.warn(
                    f"{type(value).__name__}.{name} is never called: the hooks are "
                    f"{', '.join(HOOKS)}",
                    stacklevel=4,
                )
        return value
    if not callable(value):
        raise ArgumentError(
            f"callbacks has {value!r}: expected a Callback or a function (trainer, epoch)"
        )
    return FunctionCallback(value)
