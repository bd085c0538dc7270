"""Layers that own their parameters, under PyTorch's names."""

from .activation import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh, activation
from .conv import Conv2d
from .dropout import Dropout
from .linear import Linear
from .loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, NLLLoss
from .module import Buffer, Module, Sequential, record_activations
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
    "record_activations",
]
