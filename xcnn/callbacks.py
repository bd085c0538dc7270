"""The callbacks of :mod:`xcnn.training`, as ``from xcnn.callbacks import EarlyStopping``."""

from .training.callbacks import *
