"""Optimisers, one family per file; a step is one backend call per parameter group."""

from .adagrad import Adagrad
from .adam import Adam, AdamW
from .average import EMA, SWA, update_batch_norm
from .clip import clip_grad_norm_, clip_grad_value_
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = [
    "BY_NAME",
    "EMA",
    "SGD",
    "SWA",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "update_batch_norm",
]

BY_NAME: dict[str, type[Optimizer]] = {
    optimizer.__name__.lower(): optimizer for optimizer in (Adagrad, Adam, AdamW, RMSprop, SGD)
}
