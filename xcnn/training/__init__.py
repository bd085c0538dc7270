"""The training loop, callbacks, checkpoints, and prefetching to the device."""

from . import callbacks, folder
from .epoch import Epoch, History
from .lr_finder import LRFinder
from .reducer import COMPRESSIONS, Reducer
from .totals import Step
from .trainer import Trainer

# fmt: off
__all__ = [
    "COMPRESSIONS", "Epoch", "History", "LRFinder", "Reducer", "Step", "Trainer", "callbacks",
    "folder",
]
# fmt: on
