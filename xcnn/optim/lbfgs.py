"""L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array
from ..checks import check_choice, check_int, loads_state
from ..errors import ArgumentError, StateDictError
from ..tensor import enable_grad
from .optimizer import Optimizer, one_backend, state_dtype


class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu & Nocedal 1989, Math. Program. 45), for losses without noise.

    A step is up to ``max_iter`` iterations, each a move along -H g, where H approximates the
    inverse Hessian from the last ``history_size`` changes of parameters and gradients. It calls the
    closure several times and reads the loss on the host, so each iteration waits for a GPU.

    Parameters
    ----------
    params
        As in :class:`Optimizer`; one group only.
    lr
        Length of a move, or without history, of its first guess.
    max_iter
        Iterations per step.
    max_eval
        Calls of the closure per step; by default max_iter * 5 // 4.
    tolerance_grad
        Stop when no element of the gradient is larger.
    tolerance_change
        Stop when neither the parameters nor the loss change by more.
    history_size
        Number of changes that are remembered, two arrays each as large as all parameters.
    line_search_fn
        "strong_wolfe": search the length of each move that satisfies the strong Wolfe conditions
        (Nocedal & Wright 2006, algorithms 3.5 and 3.6); None: no search.

    Raises
    ------
    ArgumentError
        Several groups, or a value out of range. By :meth:`step`: no closure.

    Examples
    --------
    >>> optimizer = optim.LBFGS(model.parameters(), max_iter=5)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = F.cross_entropy(model(x), y)
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(closure)
    """

    lr: float = 1.0
    max_iter: int = 20
    max_eval: int | None = None
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    history_size: int = 100
    line_search_fn: str | None = None

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        for name in ("max_iter", "max_eval", "history_size"):
            if settings[name] is not None or name != "max_eval":
                check_int(name, settings[name])
        check_choice("line_search_fn", settings["line_search_fn"] or SEARCH, (SEARCH,))
        if settings["maximize"]:
            raise ArgumentError("LBFGS: maximize=True: expected False; negate the loss instead")

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        if self.param_groups:
            raise ArgumentError("LBFGS takes one parameter group only: use one optimiser for each")
        super().add_param_group(group)

    def reset(self) -> None:
        super().reset()
        self._history: list[tuple[Array, Array, float]] = []  # changes s and y, and s · y
        self._move: Array | None = None  # of the last iteration, as is the gradient
        self._gradient: Array | None = None
        self._length = 0.0

    def step(self, closure: Callable[[], Any] | None = None, *, scaler: Array | None = None) -> Any:
        """Minimise the loss by up to ``max_iter`` iterations.

        Parameters
        ----------
        closure
            A function that sets the gradients to zero, computes them and returns the loss.
        scaler
            None; loss scaling is refused.

        Returns
        -------
        loss
            The result of the first call.

        Raises
        ------
        ArgumentError
            No closure, or with loss scaling.
        """
        if not callable(closure) or scaler is not None:
            raise ArgumentError(
                "LBFGS evaluates the loss several times per step: call step(closure) with a "
                "function that computes the gradients and returns the loss, without loss scaling"
            )
        backend: Any = one_backend(self.params)
        with backend.active(), enable_grad():
            return self._iterate(backend.xp, closure)

    def _iterate(self, xp: Any, closure: Callable[[], Any]) -> Any:
        lr, max_iter, tolerance = self.lr, self.max_iter, self.tolerance_change
        max_eval = max_iter * 5 // 4 if self.max_eval is None else self.max_eval
        first = closure()
        loss, gradient, calls = float(first), self._flat_gradient(xp), 1
        for iteration in range(1, max_iter + 1):
            if _largest(gradient) <= self.tolerance_grad:
                break
            self._move = move = self._direction(gradient)
            self._gradient = gradient
            is_first = self.steps[0] == 0
            self.steps = [count + 1 for count in self.steps]
            self._length = min(1.0, 1 / float(abs(gradient).sum())) * lr if is_first else lr
            slope = float(gradient @ move)
            if slope > -tolerance:
                break
            start = [p.data.copy() for p in self.params]
            previous = loss

            def evaluate(length: float, start: Any = start, move: Any = move) -> _Point:
                self._set(start, length, move)
                loss, gradient = float(closure()), self._flat_gradient(xp)
                return _Point(length, loss, gradient, float(gradient @ move))

            if self.line_search_fn:
                origin, limit = _Point(0.0, loss, gradient, slope), max_eval - calls
                found, more = _strong_wolfe(evaluate, origin, self._length, _largest(move), limit)
                self._set(start, found.length, move)
                self._length, loss, gradient = found[:3]
                calls += more
            elif iteration < max_iter:
                _, loss, gradient, _ = evaluate(self._length)
                calls += 1
            else:
                self._set(start, self._length, move)  # the next step evaluates it
            change = _largest(move) * abs(self._length)
            if calls >= max_eval or change <= tolerance or abs(loss - previous) < tolerance:
                break
        return first

    def _direction(self, gradient: Array) -> Array:
        """-H g by the two-loop recursion, after adding the last change to the history."""
        if self._move is None:
            return -gradient
        y, s = gradient - self._gradient, self._move * self._length
        product = float(y @ s)
        if product > 1e-10:  # keeps H positive definite
            self._history = [*self._history, (s, y, product)][-self.history_size :]
        direction, weights = -gradient, []
        for s, y, product in reversed(self._history):
            weights.append(float(s @ direction) / product)
            direction -= weights[-1] * y
        if self._history:
            _, y, product = self._history[-1]
            direction *= product / float(y @ y)
        for (s, y, product), weight in zip(self._history, reversed(weights), strict=True):
            direction += (weight - float(y @ direction) / product) * s
        return direction

    def _flat_gradient(self, xp: Any) -> Array:
        """The gradients of all parameters as one array; zeros where there is none."""
        grads = [
            xp.zeros_like(p.data) if p.grad is None or not p.requires_grad else p.grad.data
            for p in self.params
        ]
        pairs = zip(self.params, grads, strict=True)
        return xp.concatenate([g.astype(state_dtype(p)).ravel() for p, g in pairs])

    def _set(self, start: list[Array], length: float, move: Array) -> None:
        """Set the parameters to ``start`` + ``length`` * ``move``."""
        offset = 0
        for param, values in zip(self.params, start, strict=True):
            part = move[offset : offset + values.size].reshape(values.shape)
            param.data[...] = values + length * part
            offset += values.size

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        pairs: dict[str, Any] = {"move": self._move, "gradient": self._gradient}
        for i, (s, y, _) in enumerate(self._history):
            pairs |= {f"change.{i}": s, f"bend.{i}": y}
        state["arrays"] = {k: backends.copy(a) for k, a in pairs.items() if a is not None}
        return {**state, "length": self._length}

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        arrays, length = state["arrays"], float(state["length"])
        size = sum(math.prod(p.shape) for p in self.params)
        wrong = [key for key, array in arrays.items() if tuple(array.shape) != (size,)]
        if wrong:
            raise StateDictError(f"the state does not fit LBFGS: {wrong[0]} has another size")
        super().load_state_dict({**state, "arrays": {}})
        backend: Any = one_backend(self.params)
        dtype = state_dtype(self.params[0])
        own = {k: backends.copy(backend.asarray(a, dtype)) for k, a in arrays.items()}
        pairs = [(own[f"change.{i}"], own[f"bend.{i}"]) for i in range((len(own) - 1) // 2)]
        with backend.active():
            self._history = [(s, y, float(y @ s)) for s, y in pairs]
        self._move, self._gradient, self._length = own.get("move"), own.get("gradient"), length


SEARCH = "strong_wolfe"


class _Point(NamedTuple):
    """A point of the search line: its distance, the loss, the gradient and the slope there."""

    length: float
    loss: float
    gradient: Array
    slope: float


def _largest(x: Array) -> float:
    return float(abs(x).max()) if x.size else 0.0


def _strong_wolfe(
    evaluate: Callable[[float], _Point], origin: _Point, length: float, scale: float, limit: int
) -> tuple[_Point, int]:
    """A point that satisfies the strong Wolfe conditions, and the number of evaluations.

    ``scale`` is the largest element of the direction, ``length`` the first guess.
    """

    def is_high(point: _Point) -> bool:
        return point.loss > origin.loss + 1e-4 * point.length * origin.slope

    def is_flat(point: _Point) -> bool:
        return abs(point.slope) <= -0.9 * origin.slope

    previous, new, tries = origin, evaluate(length), 0
    while tries < limit:  # until two points enclose one
        if is_high(new) or (tries > 1 and new.loss >= previous.loss):
            break
        if is_flat(new):
            return new, tries + 1
        if new.slope >= 0:
            break
        low = new.length + 0.01 * (new.length - previous.length)
        length = _cubic_minimum((previous, new), low, new.length * 10)
        previous, new, tries = new, evaluate(length), tries + 1
    ends = [origin if tries == limit else previous, new]
    best = int(ends[0].loss > ends[1].loss)
    is_stuck = False
    while tries < limit:
        low, high = sorted(end.length for end in ends)
        if (high - low) * scale < 1e-9:
            break
        length, margin = _cubic_minimum(ends, low, high), 0.1 * (high - low)
        is_near = min(high - length, length - low) < margin
        if is_near and (is_stuck or not low < length < high):
            length = high - margin if high - length < length - low else low + margin
            is_near = False
        is_stuck = is_near
        new, tries = evaluate(length), tries + 1
        if is_high(new) or new.loss >= ends[best].loss:
            ends[1 - best] = new
            best = int(ends[0].loss > ends[1].loss)
            continue
        if is_flat(new):
            return new, tries + 1
        if new.slope * (ends[1 - best].length - ends[best].length) >= 0:
            ends[1 - best] = ends[best]
        ends[best] = new
    return ends[best], tries + 1


def _cubic_minimum(ends: Sequence[_Point], low: float, high: float) -> float:
    """Where the cubic through two points and their slopes is smallest, from ``low`` to ``high``."""
    one, two = sorted(ends, key=lambda point: point.length)
    width = two.length - one.length
    if width > 0:
        middle = one.slope + two.slope - 3 * (two.loss - one.loss) / width
        square = middle * middle - one.slope * two.slope
        if square >= 0:
            root = math.sqrt(square)
            divisor = two.slope - one.slope + 2 * root
            if divisor:
                at = two.length - width * (two.slope + root - middle) / divisor
                return min(max(at, low), high)
    return (low + high) / 2
