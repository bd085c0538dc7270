"""Layers that own their parameters, under PyTorch's names."""

from .activation import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh, activation
from .container import Sequential
from .context import evaluating, record_activations
from .conv import Conv2d
from .dropout import Dropout
from .linear import Linear
from .loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, NLLLoss
from .module import Buffer, Module
from .pool import AvgPool2d, MaxPool2d
from .shape import Flatten, Unflatten

__all__ = [
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Buffer",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "NLLLoss",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Unflatten",
    "activation",
    "evaluating",
    "record_activations",
]
