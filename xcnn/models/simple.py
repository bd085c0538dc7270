"""Small networks for teaching."""

from __future__ import annotations

import math

from .. import nn
from .registry import ImageShape, image_shape, register_classifier

__all__ = ["mlp", "small_cnn"]


@register_classifier
def mlp(
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (1, 28, 28),
    hidden: tuple[int, ...] = (128,),
    activation: str = "tanh",
) -> nn.Sequential:
    """Fully connected layers: by default 784-128-10 with tanh, 101,770 parameters.

    Parameters
    ----------
    num_classes
        Number of outputs (logits).
    input_shape
        Shape of one example, (features,) or (channels, height, width).
    hidden
        Units of each hidden layer.
    activation
        A name that :func:`xcnn.nn.activation` takes, such as "relu" or "tanh".
    """
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(input_shape)
    for units in hidden:
        layers += [nn.Linear(features, units, nonlinearity=activation), nn.activation(activation)]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, num_classes, nonlinearity="softmax"))


@register_classifier
def small_cnn(
    num_classes: int = 10, input_shape: ImageShape = (1, 28, 28), filters: int = 16
) -> nn.Sequential:
    """One 3×3 convolution without padding, ReLU, 2×2 max-pool, one linear layer.

    Parameters
    ----------
    num_classes
        Number of outputs (logits).
    input_shape
        (channels, height, width), at least 4×4 pixels.
    filters
        Output channels of the convolution.

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    channels, height, width = image_shape(input_shape, "small_cnn", 4)
    features = filters * ((height - 2) // 2) * ((width - 2) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(features, num_classes, nonlinearity="softmax"),
    )
