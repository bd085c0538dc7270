"""Training loop, metrics, progress bar and prefetching to the device."""

from .trainer import Epoch, Trainer

__all__ = ["Epoch", "Trainer"]
