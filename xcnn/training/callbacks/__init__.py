"""What acts during :meth:`xcnn.Trainer.fit`: stopping, averaging, saving and logging.

A callback is an object with the hooks of :class:`Callback`, or a function ``f(trainer, epoch)``
that is called after each epoch.
"""

from .averaging import EMA, StochasticWeightAveraging
from .base import HOOKS, Callback, FunctionCallback, as_callback
from .checkpoint import ModelCheckpoint, newest
from .freezing import Unfreeze
from .loggers import CSVLogger, JSONLogger, TensorBoardLogger
from .progress import ProgressBar
from .schedule import GradientAccumulation, GradientNorm, LearningRateLog
from .stopping import EarlyStopping, TerminateOnNaN, TimeLimit

__all__ = [
    "EMA",
    "HOOKS",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "FunctionCallback",
    "GradientAccumulation",
    "GradientNorm",
    "JSONLogger",
    "LearningRateLog",
    "ModelCheckpoint",
    "ProgressBar",
    "StochasticWeightAveraging",
    "TensorBoardLogger",
    "TerminateOnNaN",
    "TimeLimit",
    "Unfreeze",
    "as_callback",
    "newest",
]
