"""Training: the loop, what it measures, and how batches reach the device."""

from .trainer import Epoch, Trainer

__all__ = ["Epoch", "Trainer"]
