"""Networks by name.

>>> model = xcnn.models.create("resnet20", num_classes=10)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..extend import register_layer
from ..nn import Module
from .autoencoder import autoencoder
from .blocks import SqueezeExcitation, StochasticDepth
from .efficientnet import MBConv, efficientnet_b0
from .espcn import espcn
from .googlenet import ConvBNReLU, GoogLeNet, Inception, InceptionAux, googlenet
from .lenet import lenet5
from .lenet_1998 import RBF, PartialConv2d, ScaledTanh, Subsampling, lenet5_1998
from .mobilenet import InvertedResidual, mobilenet_v2
from .resnet import (
    BasicBlock,
    Bottleneck,
    PlainShortcutBlock,
    resnet18,
    resnet20,
    resnet50,
    resnet56,
)
from .simple import mlp, small_cnn
from .unet import UNet, unet
from .vgg import vgg11, vgg11_bn, vgg16, vgg16_bn

__all__ = [
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

_CLASSIFIERS: dict[str, Callable[..., Module]] = {
    "efficientnet_b0": efficientnet_b0,
    "googlenet": googlenet,
    "lenet5": lenet5,
    "lenet5_1998": lenet5_1998,
    "mlp": mlp,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet50": resnet50,
    "resnet56": resnet56,
    "small_cnn": small_cnn,
    "vgg11": vgg11,
    "vgg11_bn": vgg11_bn,
    "vgg16": vgg16,
    "vgg16_bn": vgg16_bn,
}
_MODELS: dict[str, Callable[..., Module]] = {
    **_CLASSIFIERS,
    "autoencoder": autoencoder,
    "espcn": espcn,
    "unet": unet,
}
#: blocks of networks by name; saved files may name them, as "models.BasicBlock"
PARTS: dict[str, type[Module]] = {
    part.__name__: part
    for part in (
        *(BasicBlock, Bottleneck, ConvBNReLU, GoogLeNet, Inception, InceptionAux, InvertedResidual),
        *(MBConv, PartialConv2d, PlainShortcutBlock, RBF, ScaledTanh, SqueezeExcitation),
        *(StochasticDepth, Subsampling, UNet),
    )
}
for _name, _part in PARTS.items():
    register_layer(_part, f"models.{_name}")


def names() -> list[str]:
    """What :func:`create` knows."""
    return sorted(_MODELS)


def classifiers() -> list[str]:
    """Those of :func:`names` that tell classes apart; the others return images."""
    return sorted(_CLASSIFIERS)


def create(name: str, **settings: Any) -> Any:
    """A new network with random weights.

    Parameters
    ----------
    name
        One of :func:`names`.
    **settings
        Of that network's function: ``num_classes``, ``input_shape`` and its own.

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    return _find(name)(**settings)


def default(name: str, setting: str) -> Any:
    """What :func:`create` takes for ``setting``, such as "input_shape", if it is not given.

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    return inspect.signature(_find(name)).parameters[setting].default


def _find(name: str) -> Callable[..., Module]:
    if name not in _MODELS:
        raise ArgumentError(f"model {name!r} is not known: expected one of {', '.join(names())}")
    return _MODELS[name]
