"""Mixed precision: float16 arithmetic with float32 master weights and dynamic loss scaling.

Small gradients underflow in float16, so the loss is multiplied by a scale before backward and the
gradients are divided by it afterwards. If the scale is too large, gradients overflow: the step is
skipped and the scale halved.
Source: Micikevicius et al. 2018, "Mixed precision training", arXiv:1710.03740.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import backends
from .arrays import Array
from .backends import OVERFLOW, SCALE, SKIPPED
from .checks import loads_state
from .errors import GradientError, StateDictError
from .optim import Optimizer
from .tensor import Tensor, autocast

__all__ = ["GradScaler", "autocast"]


class GradScaler:
    """Dynamic loss scaling; the state stays on the device, so a step never waits for the GPU.

    Parameters
    ----------
    device
        The device of the model.
    init_scale, growth_factor, backoff_factor, growth_interval
        Initial scale, and the factors it is multiplied by after ``growth_interval`` steps without
        overflow and after a step with overflow. Defaults as in PyTorch.

    Examples
    --------
    >>> scaler = xcnn.amp.GradScaler("cpu")
    >>> with xcnn.amp.autocast():
    ...     output = model(x.astype("float16"))
    >>> loss = F.cross_entropy(output.astype("float32"), y)
    >>> scaler.backward(loss)
    >>> scaler.step(optimizer)
    """

    def __init__(
        self,
        device: str | backends.Backend,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self._backend = backends.get(device)
        self._growth = growth_factor, backoff_factor, growth_interval
        host = backends.get("cpu").xp.zeros(4, "float32")
        host[SCALE] = init_scale
        self._state = self._backend.asarray(host)
        self._unscaled: list[Optimizer] = []  # optimisers with unscaled gradients

    def backward(self, loss: Tensor) -> None:
        """Call ``loss.backward()`` with all gradients multiplied by the scale."""
        self._unscaled.clear()
        loss.backward(self._state[SCALE].astype(loss.dtype).reshape(loss.shape))

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale, to clip them before :meth:`step`.

        Raises
        ------
        GradientError
            The gradients are already unscaled.
        """
        if optimizer in self._unscaled:
            raise GradientError("unscale_(): the gradients are already unscaled; call step()")
        grads = [p.grad.data for p in optimizer.params if p.grad is not None]
        with self._backend.active():
            self._backend.unscale(grads, self._state)
        self._unscaled.append(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Unscale the gradients and run ``optimizer.step()`` unless a gradient overflowed."""
        if optimizer not in self._unscaled:
            self.unscale_(optimizer)
        with self._backend.active():
            optimizer.step(scaler=self._state)
            self._unscaled.remove(optimizer)
            self._backend.update_scale(self._state, *self._growth)

    @property
    def scale(self) -> float:
        """The current scale; reading it waits for the GPU."""
        return float(self._host()[SCALE])

    @property
    def skipped(self) -> int:
        """Number of skipped steps; reading it waits for the GPU."""
        host = self._host()
        return int(host[SKIPPED] + host[OVERFLOW])

    def state_dict(self) -> dict[str, Array]:
        """Return the state to resume from, one array of four numbers."""
        return {"scaler": backends.copy(self._state)}

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`.

        Raises
        ------
        StateDictError
            Not the state of a GradScaler.
        """
        array = state.get("scaler")
        if getattr(array, "shape", None) != (4,):
            raise StateDictError("not the state of a GradScaler: pass the result of state_dict()")
        host = backends.of(array).to_host(array)
        self._state = self._backend.asarray(host.astype("float32"))

    def __getstate__(self) -> dict[str, Any]:  # to copy it: the backend by its name
        return {**vars(self), "_backend": self._backend.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _backend=backends.get(state["_backend"]))

    def _host(self) -> Array:
        return self._backend.to_host(self._state)
