"""Layers that own their parameters, under PyTorch's names.

Each module lists its layers in ``__all__``.
"""

from ..tensor import Buffer as Buffer
from ..tensor import Parameter as Parameter
from .activation import *
from .container import *
from .conv import *
from .dropout import *
from .embedding import *
from .linear import *
from .loss import *
from .loss import LOSSES as LOSSES
from .module import Module as Module
from .module import evaluating as evaluating
from .module import hooked as hooked
from .module import record_activations as record_activations
from .norm import *
from .pool import *
from .resample import *
from .shape import *

__all__ = sorted(name for name, value in globals().items() if callable(value))
