"""What a network is trained for: targets, loss, metrics, predictions and pictures of them.

One class per task; :func:`names` lists them, and :func:`create` makes one by name. The command
line, the report and the ONNX export work with any of them, also with those that
:func:`xcnn.extend.register_task` adds.

Examples
--------
>>> task = xcnn.tasks.create("classification", classes=["cat", "dog"], input_shape=(3, 64, 64))
>>> model = task.create_model("small_cnn")
>>> trainer = xcnn.Trainer(model, "adam", loss=task.create_loss(), metrics=task.measured)
"""

from .autoencoder import Autoencoder, Denoising, as_pixels
from .classification import Classification, of_each_class
from .detection import Detection, DetectionLoss
from .generative import GAN, VAE, ELBOLoss, GANLoss
from .keypoints import HeatmapLoss, Keypoints, Peaks
from .multi_label import MultiLabel
from .registry import create, from_settings, get, load_installed, names, of_network
from .regression import Regression, StandardizedLoss
from .segmentation import Segmentation
from .style import StyleLoss, StyleTransfer, Stylized, gram_matrix, style_transfer
from .super_resolution import SuperResolution
from .task import Exported, Option, Task

__all__ = [
    "GAN",
    "VAE",
    "Autoencoder",
    "Classification",
    "Denoising",
    "Detection",
    "DetectionLoss",
    "ELBOLoss",
    "Exported",
    "GANLoss",
    "HeatmapLoss",
    "Keypoints",
    "MultiLabel",
    "Option",
    "Peaks",
    "Regression",
    "Segmentation",
    "StandardizedLoss",
    "StyleLoss",
    "StyleTransfer",
    "Stylized",
    "SuperResolution",
    "Task",
    "as_pixels",
    "create",
    "from_settings",
    "get",
    "gram_matrix",
    "load_installed",
    "names",
    "of_each_class",
    "of_network",
    "style_transfer",
]
