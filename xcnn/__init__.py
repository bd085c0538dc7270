"""xcnn: convolutional networks on NumPy and CuPy arrays.

Layers, losses and optimisers carry PyTorch's names; images are (N, C, H, W). Start with
:class:`Trainer`, or with :mod:`xcnn.nn` and ``loss.backward()``.
"""

from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from xcnn import interrupt  # noqa: F401  (first: importing the rest takes a while)

from . import (
    amp,
    backends,
    config,
    creation,
    cuda,
    extend,
    functional,
    hints,
    init,
    nn,
    optim,
    schedules,
)
from .creation import *
from .random import manual_seed
from .summary import summary
from .tensor import (
    DTYPE_ALIASES,
    DTYPES,
    Function,
    Parameter,
    Tensor,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
    vjp,
)

#: modules that the operations and layers do not need, and names from them: imported on first access
_ON_ACCESS = {
    **{name: name for name in ("callbacks", "data", "demo", "distributed", "explain", "metrics")},
    **{name: name for name in ("models", "onnx", "plot", "report", "serialize", "tasks")},
    **{name: name for name in ("testing", "training")},
    **dict.fromkeys(("load", "load_state", "save"), "serialize"),
    **dict.fromkeys(("Epoch", "Trainer"), "training"),
}
_DTYPES = {**{name: name for name in DTYPES}, **DTYPE_ALIASES}
inference_mode = no_grad
# where PyTorch has them
optim.lr_scheduler = schedules
nn.utils = SimpleNamespace(
    clip_grad_norm_=optim.clip_grad_norm_, clip_grad_value_=optim.clip_grad_value_
)

if TYPE_CHECKING:
    from . import callbacks, data, demo, distributed, explain, metrics, models, onnx, plot, report
    from . import tasks as tasks
    from . import testing as testing
    from .functional import *
    from .serialize import load, load_state, save
    from .training import Epoch, Trainer

    bool = double = float = float16 = float32 = float64 = half = ""
    int = int8 = int16 = int32 = int64 = long = short = uint8 = ""
else:  # a type checker that saw it would accept every name

    def __getattr__(name: str) -> Any:
        """What is imported on first access; operations, as ``xcnn.add`` is ``F.add``; names of
        dtypes.
        """
        if name in _ON_ACCESS:
            module = import_module(f".{_ON_ACCESS[name]}", __name__)
            return getattr(module, name, module)
        if name in functional.__all__:
            return getattr(functional, name)
        if name in _DTYPES:
            return _DTYPES[name]
        raise hints.no_attribute(__name__, name, hints.TOP, [*__all__, *functional.__all__])

    def __dir__() -> list[str]:
        return sorted({*globals(), *functional.__all__, *_DTYPES, *_ON_ACCESS})


__version__ = "0.1.0"

__all__ = [
    *creation.__all__,
    "Epoch",
    "Function",
    "Parameter",
    "Tensor",
    "Trainer",
    "amp",
    "backends",
    "callbacks",
    "config",
    "cuda",
    "data",
    "demo",
    "distributed",
    "enable_grad",
    "explain",
    "extend",
    "functional",
    "inference_mode",
    "init",
    "is_grad_enabled",
    "load",
    "load_state",
    "manual_seed",
    "metrics",
    "models",
    "nn",
    "no_grad",
    "onnx",
    "optim",
    "plot",
    "report",
    "save",
    "schedules",
    "set_grad_enabled",
    "summary",
    "tasks",
    "testing",
    "vjp",
]
