# ruff: noqa: F403 (each module lists its networks in __all__)
"""Model zoo: networks by name.

Examples
--------
>>> model = xcnn.models.create("resnet20", num_classes=10)
"""

from .alexnet import *
from .autoencoder import *
from .centernet import *
from .centernet import CenterNetLoss as CenterNetLoss
from .centernet import CenterNetOutput as CenterNetOutput
from .convnext import *
from .dcgan import *
from .densenet import *
from .detection import BoxLoss as BoxLoss
from .detection import best_of_overlapping as best_of_overlapping
from .edsr import *
from .efficientnet import *
from .espcn import *
from .features import Features, load_features
from .googlenet import *
from .hourglass import *
from .lenet import *
from .lenet_1998 import *
from .mnasnet import *
from .mobilenet import *
from .registry import PARTS, classifiers, create, default, names
from .regnet import *
from .resnet import *
from .segmentation import *
from .shufflenet import *
from .simple import *
from .squeezenet import *
from .ssdlite import *
from .ssdlite import SSDLoss as SSDLoss
from .ssdlite import SSDOutput as SSDOutput
from .transformer_net import *
from .unet import *
from .vae import *
from .vgg import *
from .vision_transformer import *
from .weights import read_weights as read_weights

__all__ = [
    "PARTS",
    "BoxLoss",
    "CenterNetLoss",
    "CenterNetOutput",
    "Features",
    "SSDLoss",
    "SSDOutput",
    "classifiers",
    "create",
    "default",
    "load_features",
    "names",
    *names(),
]
