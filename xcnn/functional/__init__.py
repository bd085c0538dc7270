"""Operations on arrays and Tensors; ``import xcnn.functional as F``.

Each takes arrays or Tensors and returns a Tensor. Images are (N, C, H, W), signals (N, C, L).
Each module lists its operations in ``__all__``; layers and imported models use the classes imported
by name.

Of one array: elementwise, activation, reduction (sum, norm, ...), sorting, shape (reshape, stack,
...), indexing (gather, masks, ...). Of two: arithmetic (also comparisons and where), linear (matrix
products), distance. Of images: conv, pool, pad, resample (interpolate, pixel_shuffle), grid, fold,
boxes.
Of networks: norm (batch_norm, ...), dropout, embedding, attention, loss and loss_*.
"""

from typing import TYPE_CHECKING, Any

from .. import hints
from ..tensor import Tensor
from . import methods
from .activation import *
from .activation import Hardtanh as Hardtanh
from .activation import ReLU as ReLU
from .arithmetic import *
from .attention import *
from .attention import Attention as Attention
from .boxes import *
from .conv import *
from .conv import Conv2d as Conv2d
from .conv_transpose import *
from .distance import *
from .dropout import *
from .elementwise import *
from .embedding import *
from .fold import *
from .grid import *
from .indexing import *
from .linear import *
from .loss import *
from .loss_boxes import *
from .loss_ctc import *
from .loss_margin import *
from .loss_region import *
from .norm import *
from .norm import LocalResponseNorm as LocalResponseNorm
from .pad import *
from .pad import Pad as Pad
from .pad import PadFromInside as PadFromInside
from .pool import *
from .pool import AvgPool2d as AvgPool2d
from .pool import MaxPool2d as MaxPool2d
from .reduction import *
from .resample import *
from .resample import AxisWeights as AxisWeights
from .resample import Resample as Resample
from .shape import *
from .sorting import *

methods.install(Tensor)

if not TYPE_CHECKING:  # a type checker would find nothing in a list that is computed, and
    __all__ = sorted(
        name
        for name, value in globals().items()
        if callable(value) and not isinstance(value, type) and value is not Any
    )

    # accept every name if it saw this
    __getattr__ = hints.getter("xcnn.functional", hints.FUNCTIONAL, __all__)
