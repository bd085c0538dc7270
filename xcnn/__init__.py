"""xcnn: convolutional networks on NumPy and CuPy arrays."""

from . import backends, functional, init, models, nn, optim
from .autograd import Function, enable_grad, is_grad_enabled, no_grad, vjp
from .random import manual_seed
from .tensor import Parameter, Tensor

__version__ = "0.1.0"
