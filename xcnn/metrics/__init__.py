"""Metrics of a whole epoch, from batches of any sizes, on every device.

:func:`create` makes one by name. Their sums stay on the device: only ``compute`` waits for it.
"""

from .classification import *
from .detection import *
from .image import *
from .keypoints import *
from .metric import Metric as Metric
from .metric import StoringMetric as StoringMetric
from .ranking import *
from .registry import create as create
from .registry import names as names
from .registry import title as title
from .regression import *

__all__ = sorted(name for name, value in globals().items() if callable(value))
