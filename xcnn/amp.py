"""Mixed precision: float16 arithmetic with float32 master weights and dynamic loss scaling.

Small gradients are zero in float16, so the loss is multiplied by a scale first and the gradients
divided by it. A scale too large makes them infinite: that step is skipped and the scale halved.
Source: Micikevicius et al. 2018, "Mixed precision training", arXiv:1710.03740.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import backends
from .backends import OVERFLOW, SCALE, SKIPPED
from .errors import GradientError, StateDictError
from .optim import Optimizer
from .tensor import Tensor, autocast

__all__ = ["GradScaler", "autocast"]


class GradScaler:
    """Scales losses; its numbers stay on the device, so that no step waits for them.

    Parameters
    ----------
    device
        Where the model is.
    init_scale, growth_factor, backoff_factor, growth_interval
        The first scale; what it is multiplied by after ``growth_interval`` steps without overflow,
        and after one with. Defaults as in PyTorch.

    Examples
    --------
    >>> with amp.autocast():
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
        self._unscaled: list[Optimizer] = []  # whose gradients are unscaled already

    def backward(self, loss: Tensor) -> None:
        """``loss.backward()``, every gradient multiplied by the scale."""
        self._unscaled.clear()
        loss.backward(self._state[SCALE].astype(loss.dtype).reshape(loss.shape))

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale now, to clip them; :meth:`step` then does not.

        Raises
        ------
        GradientError
            They are already.
        """
        if optimizer in self._unscaled:
            raise GradientError(
                "unscale_(): these gradients are unscaled already; step() comes next"
            )
        grads = [p.grad for p in optimizer.params if p.grad is not None]
        with self._backend.active():
            self._backend.unscale(grads, self._state)
        self._unscaled.append(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Unscale the gradients, and make the optimiser's step unless one overflowed."""
        if optimizer not in self._unscaled:
            self.unscale_(optimizer)
        self._unscaled.remove(optimizer)
        with self._backend.active():
            optimizer.step(self._state)
            self._backend.update_scale(self._state, *self._growth)

    @property
    def scale(self) -> float:
        """The scale now; waits for a GPU."""
        return float(self._host()[SCALE])

    @property
    def skipped(self) -> int:
        """How many steps were skipped; waits for a GPU."""
        host = self._host()
        return int(host[SKIPPED] + host[OVERFLOW])

    def state_dict(self) -> dict[str, Any]:
        """The four numbers, to go on from."""
        return {"scaler": self._state.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises
        ------
        StateDictError
            Something else was passed.
        """
        array = state.get("scaler")
        if getattr(array, "shape", None) != (4,):
            raise StateDictError("this is no state of a GradScaler: pass what state_dict() gave")
        host = backends.of(array).to_host(array)
        self._state = self._backend.asarray(host.astype("float32"))

    def _host(self) -> Any:
        return self._backend.to_host(self._state)
