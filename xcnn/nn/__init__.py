"""Layers that own their parameters, under PyTorch's names.

Each module lists its layers in ``__all__``.
"""

from typing import TYPE_CHECKING, Any

from .. import functional as functional
from .. import hints
from .. import init as init
from ..tensor import Buffer as Buffer
from ..tensor import Parameter as Parameter
from .activation import *
from .attention import *
from .container import *
from .conv import *
from .distance import *
from .dropout import *
from .embedding import *
from .fold import *
from .linear import *
from .loss import *
from .loss import LOSSES as LOSSES
from .module import Module as Module
from .module import evaluating as evaluating
from .module import hooked as hooked
from .module import matching_parameters as matching_parameters
from .module import record_activations as record_activations
from .norm import *
from .padding import *
from .pool import *
from .resample import *
from .shape import *

__all__ = sorted(name for name, value in globals().items() if callable(value) and value is not Any)

utils: Any  # gradient clipping, which xcnn/__init__.py puts here

if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = hints.getter("xcnn.nn", hints.NN, __all__)
