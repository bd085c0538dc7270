"""What a trained network looks at: class activation maps, saliency, occlusion, features.

All functions take NumPy arrays, arrays of the model's device or Tensors, evaluate in evaluation
mode, a bounded number of examples at a time, and return NumPy arrays: float32, or float64 for a
model in float64. The model is left as it was: its training flags, its gradients, its hooks and what
requires a gradient. Calls from several threads take turns. Layers with ``data_format="NHWC"`` are
refused where an axis must be that of the channels.

The explained number is the score of a class: the output of the model or, if it ends in a Softmax,
LogSoftmax or Sigmoid layer, the input of that layer, because probabilities saturate and have hardly
any gradient where the network is sure.
"""

from .attribution import integrated_gradients, occlusion, saliency
from .cam import grad_cam
from .features import feature_maps, filters
from .statistics import LayerStatistics, layer_statistics, weight_statistics

__all__ = [
    "LayerStatistics",
    "feature_maps",
    "filters",
    "grad_cam",
    "integrated_gradients",
    "layer_statistics",
    "occlusion",
    "saliency",
    "weight_statistics",
]
