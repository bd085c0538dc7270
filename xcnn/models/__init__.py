"""Model zoo: networks by name.

>>> model = xcnn.models.create("resnet20", num_classes=10)
"""

from .autoencoder import autoencoder
from .efficientnet import efficientnet_b0
from .espcn import espcn
from .googlenet import googlenet
from .lenet import lenet5
from .lenet_1998 import lenet5_1998
from .mobilenet import mobilenet_v2
from .registry import PARTS, classifiers, create, default, names
from .resnet import resnet18, resnet20, resnet50, resnet56
from .simple import mlp, small_cnn
from .unet import unet
from .vgg import vgg11, vgg11_bn, vgg16, vgg16_bn

__all__ = [
    "PARTS",
    "autoencoder",
    "classifiers",
    "create",
    "default",
    "efficientnet_b0",
    "espcn",
    "googlenet",
    "lenet5",
    "lenet5_1998",
    "mlp",
    "mobilenet_v2",
    "names",
    "resnet18",
    "resnet20",
    "resnet50",
    "resnet56",
    "small_cnn",
    "unet",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
]
