"""Connectionist temporal classification."""

from __future__ import annotations

import functools
from functools import partial
from itertools import accumulate
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_flag, check_int
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Function, Tensor
from .arithmetic import where
from .embedding import integers
from .loss import checked, narrow, reduced, wide
from .shape import reshape, unsqueeze

__all__ = ["ctc_loss"]

_LOG_ZERO = -1e30  # finite, so that differences of it are not NaN


class CTC(Function):
    """-log of the probability of all alignments; see :func:`ctc_loss`.

    The ``states`` (N, 2·S + 1) are the labels with a blank around each, ``times`` and ``lengths``
    (N,) the numbers of steps and of labels.
    """

    arguments = ("log_probs", "states", "times", "lengths")
    any_dtype = arguments[1:]

    def __init__(self, blank: int, zero_infinity: bool) -> None:
        self.blank = blank
        self.zero_infinity = zero_infinity

    def forward(
        self, backend: Backend, log_p: Array, states: Array, times: Array, lengths: Array
    ) -> Array:
        xp, steps = backend.xp, len(log_p)
        each_step = xp.broadcast_to(states, (steps, *states.shape))
        emitted = xp.take_along_axis(log_p, each_step, axis=2)
        emitted = xp.maximum(emitted, xp.asarray(_LOG_ZERO, log_p.dtype))
        # a label may follow the one before it without a blank if they differ
        skips = (states[:, 2:] != states[:, :-2]) & (states[:, 2:] != self.blank)
        place = xp.arange(states.shape[1])
        ends = place - 2 * lengths[:, None]
        zero = xp.zeros((), log_p.dtype)
        first, last, empty = (
            xp.where(mask, zero, _LOG_ZERO)
            for mask in (place < 2, (ends == 0) | (ends == -1), place == 0)
        )
        # relative to the most probable state of each step, so that long sequences lose no digits
        paths, peaks = xp.empty_like(emitted), xp.empty(emitted.shape[:2], log_p.dtype)
        for t in range(steps):
            paths[t] = emitted[t] + (_step(xp, paths[t - 1], skips) if t else first)
            peaks[t] = paths[t].max(axis=1)
            paths[t] -= peaks[t][:, None]
        in_time = xp.arange(steps)[:, None] < times
        final = paths[xp.maximum(times - 1, 0), xp.arange(len(times))]
        final = xp.where((times > 0)[:, None], final, empty) + last
        largest = final.max(axis=1)
        loss = -largest - xp.log(xp.exp(final - largest[:, None]).sum(axis=1))
        loss -= xp.where(in_time, peaks, 0).sum(axis=0)
        loss = xp.where(loss > -_LOG_ZERO / 2, xp.inf, loss)
        self.save(arrays=(log_p, states, times, in_time, emitted, skips, last, paths, loss))
        return xp.where(xp.isinf(loss), 0, loss) if self.zero_infinity else loss

    def backward(self, backend: Backend, dy: Array) -> tuple:
        """softmax - the probability that a state of the class emits at a step (Graves, eq. 16)."""
        xp = backend.xp
        log_p, states, times, in_time, emitted, skips, last, paths, loss = self.saved.arrays
        steps, batch, classes = log_p.shape
        used = xp.empty_like(paths)
        rest = last[:, ::-1]  # the way to the end, of reversed states
        for t in reversed(range(steps)):
            if t + 1 < steps:
                rest = _step(xp, rest + emitted[t + 1, :, ::-1], skips[:, ::-1])
                rest -= rest.max(axis=1, keepdims=True)
            rest = xp.where((t < times - 1)[:, None], rest, last[:, ::-1])
            whole = paths[t] + rest[:, ::-1]
            used[t] = xp.exp(whole - whole.max(axis=1, keepdims=True))
        used /= used.sum(axis=2, keepdims=True)
        rows = used.transpose(1, 2, 0).reshape(-1, steps)
        index = (states + classes * xp.arange(batch)[:, None]).reshape(-1)
        by_class = backend.sum_rows(rows, index, batch * classes).reshape(batch, classes, steps)
        slope = xp.exp(log_p) - by_class.transpose(2, 0, 1)
        infinite = 0 if self.zero_infinity else xp.nan
        slope = xp.where(xp.isinf(loss)[:, None], infinite, slope * dy[:, None])
        return xp.where(in_time[..., None], slope, 0).astype(log_p.dtype), None, None, None


def _step(xp: Any, before: Array, skips: Array) -> Array:
    """The log-probabilities of the states after a step: by none, one or, with ``skips``, two."""
    by_one, by_two = (xp.full_like(before, _LOG_ZERO) for _ in range(2))
    by_one[:, 1:] = before[:, :-1]
    xp.copyto(by_two[:, 2:], before[:, :-2], where=skips)
    return _log_sum(xp, before, by_one, by_two)


def _log_sum(xp: Any, *terms: Array) -> Array:
    largest = functools.reduce(xp.maximum, terms)
    return largest + xp.log(sum(xp.exp(term - largest) for term in terms))


@checked(blank=partial(check_int, minimum=0), zero_infinity=check_flag)
def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability that the outputs, without repetitions and blanks, are the target.

    Source: Graves et al. 2006, "Connectionist temporal classification". The gradient is that of
    normalised ``log_probs``, from log_softmax, as in PyTorch.

    Parameters
    ----------
    log_probs : (T, N, C) or (T, C)
        Log-probabilities of each step.
    targets : (N, S), concatenated (sum of target_lengths,), or (S,) without a batch
        Class indices other than ``blank``.
    input_lengths, target_lengths : (N,) or ()
        How many of the T steps and of the S labels an example has. Pass lists or arrays on the
        host: reading arrays on a GPU waits for it.
    blank
        The class of no label.
    reduction
        "mean" divides each loss by its target length (at least 1) and averages; "sum" or "none".
    zero_infinity
        Count 0 for targets that no alignment fits, instead of infinity.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes or lengths that do not fit, another dtype, a class or a setting out of range (on a
        GPU, the loss of a class that does not exist is NaN).
    """
    log_p, labels = Tensor.of(log_probs), integers("targets", targets)
    is_alone = log_p.ndim == 2
    wide_p = wide(unsqueeze(log_p, 1) if is_alone else log_p)
    if wide_p.ndim != 3 or 0 in (wide_p.shape[0], wide_p.shape[2]):
        raise ShapeError(
            f"ctc_loss: log_probs has shape {log_p.shape}: expected (T, N, C) or (T, C), with "
            "steps and classes"
        )
    steps, batch, classes = wide_p.shape
    if blank >= classes:
        raise ArgumentError(f"blank={blank}: expected a class from 0 to {classes - 1}")
    times = _lengths("input_lengths", input_lengths, batch, steps)
    longest = labels.shape[-1] if labels.ndim else 0
    lengths = _lengths("target_lengths", target_lengths, batch, longest)
    with log_p.backend.active():
        xp = log_p.backend.xp
        table = _table(xp, log_p.backend.asarray(labels.data), lengths)
        on_device = [log_p.backend.asarray(v, "int64") for v in (times, lengths)]
        is_label = xp.arange(table.shape[1]) < on_device[1][:, None]
        table = xp.where(is_label, table, blank)
        log_p.backend.check_class_indices(table, classes)
        exists = (table >= 0) & (table < classes)
        states = xp.full((batch, 2 * table.shape[1] + 1), blank, "int64")
        states[:, 1::2] = xp.where(exists, table, blank)
        terms = where(
            exists.all(axis=1), CTC(blank, zero_infinity)(wide_p, states, *on_device), float("nan")
        )
        if reduction == "mean":
            terms = terms / xp.maximum(on_device[1], 1).astype(terms.dtype)
        y = narrow(reduced(terms, reduction), log_p.dtype)
    return reshape(y, ()) if is_alone and reduction == "none" else y


def _lengths(name: str, value: Any, batch: int, largest: int) -> list[int]:
    tensor = Tensor.of(value)
    if tensor.dtype.kind not in "iu" and tensor.numel():
        raise DTypeError(f"{name} is {tensor.dtype}: expected integers")
    lengths = tensor.numpy().reshape(-1).tolist()
    if len(lengths) != batch or not all(0 <= n <= largest for n in lengths):
        raise ShapeError(f"{name}={lengths}: expected {batch} lengths from 0 to {largest}")
    return lengths


def _table(xp: Any, labels: Array, lengths: list[int]) -> Array:
    """The labels (N, S), S at least 1, of targets in a table or concatenated."""
    width = max(1, *lengths, 1)
    if labels.ndim == 2:
        if labels.shape[0] != len(lengths):
            raise ShapeError(
                f"targets has shape {labels.shape}: expected ({len(lengths)}, S), or concatenated"
            )
        padding = xp.zeros((len(labels), max(0, width - labels.shape[1])), labels.dtype)
        return xp.concatenate([labels[:, :width], padding], axis=1)
    if labels.ndim != 1 or labels.size != sum(lengths):
        raise ShapeError(
            f"targets has shape {labels.shape}: expected (N, S), or all {sum(lengths)} concatenated"
        )
    starts = [0, *accumulate(lengths)]
    last = max(labels.size - 1, 0)
    index = [[min(start + i, last) for i in range(width)] for start in starts[:-1]]
    padded = labels if labels.size else xp.zeros(1, labels.dtype)
    return xp.take(padded, xp.asarray(index, "int64").reshape(-1, width))
