"""The training loop, callbacks, checkpoints, and prefetching to the device."""

from . import callbacks, folder
from .epoch import Epoch, History
from .lr_finder import LRFinder
from .totals import Step
from .trainer import Trainer

__all__ = ["Epoch", "History", "LRFinder", "Step", "Trainer", "callbacks", "folder"]
