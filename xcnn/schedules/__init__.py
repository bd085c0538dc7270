"""Learning-rate schedules under PyTorch's names.

Pass a schedule to a Trainer, or call ``step`` after each epoch (:class:`OneCycleLR`: each batch).
"""

from .cosine import CosineAnnealingLR, OneCycleLR
from .factor import ConstantLR, ExponentialLR, LambdaLR, LinearLR, MultiStepLR, StepLR
from .plateau import ReduceLROnPlateau
from .scheduler import LRScheduler
from .sequential import SequentialLR

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
