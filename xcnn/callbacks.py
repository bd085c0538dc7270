"""The callbacks of :mod:`xcnn.training`, as ``from xcnn.callbacks import EarlyStopping``."""

from .training import callbacks as _callbacks
from .training.callbacks import *

__all__ = _callbacks.__all__
