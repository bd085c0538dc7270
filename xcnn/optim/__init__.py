"""Optimisers, one family per file; a step is one backend call per parameter group."""

from typing import TYPE_CHECKING, Any

from .. import hints
from .adagrad import Adadelta, Adagrad
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .average import EMA, SWA, update_batch_norm
from .clip import clip_grad_norm_, clip_grad_value_
from .lbfgs import LBFGS
from .muon import Muon
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import LARS, SGD
from .sign import Lion, Rprop

__all__ = [
    "BY_NAME", "EMA", "LARS", "LBFGS", "SGD", "SWA", "Adadelta", "Adagrad", "Adam", "AdamW",
    "Adamax", "Lion", "Muon", "NAdam", "Optimizer", "RAdam", "RMSprop", "Rprop",
    "clip_grad_norm_", "clip_grad_value_", "update_batch_norm",
]  # fmt: skip

_GENERAL = Adadelta, Adagrad, Adam, Adamax, AdamW, LARS, Lion, NAdam, RAdam, RMSprop, SGD
#: those for mini-batches and parameters of any shape
BY_NAME: dict[str, type[Optimizer]] = {
    optimizer.__name__.lower(): optimizer for optimizer in _GENERAL
}

lr_scheduler: Any  # xcnn.schedules, which xcnn/__init__.py puts here

if not TYPE_CHECKING:  # a type checker that saw it would accept every name

    def __getattr__(name: str) -> Any:
        raise hints.no_attribute("xcnn.optim", name, hints.OPTIM, __all__)
