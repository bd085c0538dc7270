"""Optimisers, one family per file; a step is one backend call per parameter group."""

from .adagrad import Adadelta, Adagrad
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .average import EMA, SWA, update_batch_norm
from .clip import clip_grad_norm_, clip_grad_value_
from .lbfgs import LBFGS
from .matrix import Adafactor, Muon
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import ASGD, LARS, SGD
from .sign import Lion, Rprop

__all__ = [
    "ASGD",
    "BY_NAME",
    "EMA",
    "LARS",
    "LBFGS",
    "SGD",
    "SWA",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "update_batch_norm",
]

_GENERAL = Adadelta, Adafactor, Adagrad, Adam, Adamax, AdamW, ASGD, LARS, Lion, NAdam, RAdam
#: those for mini-batches and parameters of any shape
BY_NAME: dict[str, type[Optimizer]] = {
    optimizer.__name__.lower(): optimizer for optimizer in (*_GENERAL, RMSprop, SGD)
}
