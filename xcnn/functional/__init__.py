"""Operations on arrays and Tensors; ``import xcnn.functional as F``.

Each takes arrays or Tensors and returns a Tensor. Images are (N, C, H, W), signals
(N, C, L). Each module lists its operations in ``__all__``.
"""

from ..tensor import Tensor
from . import methods
from .activation import *
from .arithmetic import *
from .conv import *
from .conv_transpose import *
from .dropout import *
from .elementwise import *
from .linear import *
from .loss import *
from .norm import *
from .pad import *
from .pool import *
from .reduction import *
from .resample import *
from .shape import *

__all__ = sorted(
    name for name, value in globals().items() if callable(value) and value is not Tensor
)

methods.install(Tensor)
