"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition")."""

from __future__ import annotations

from .. import nn
from .registry import ImageShape, image_shape, register_classifier

__all__ = ["lenet5"]


@register_classifier
def lenet5(
    num_classes: int = 10, input_shape: ImageShape = (1, 28, 28), activation: str = "relu"
) -> nn.Sequential:
    """The modern LeNet-5: 61,706 parameters for ten classes of 28×28 or 32×32 grey images.

    conv 6@5×5, pool 2, conv 16@5×5, pool 2, then 120, 84 and ``num_classes`` units; max-pooling
    and He initialisation. The first convolution pads images below 32 pixels ("same"), so that
    28×28 and 32×32 images need the same weights.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), at least 12×12 pixels.
    activation
        A name that :func:`xcnn.nn.activation` takes, such as "relu" or "tanh".

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    channels, height, width = image_shape(input_shape, "lenet5", 12)
    padding, trim = ("valid", 4) if min(height, width) >= 32 else ("same", 0)
    features = 16 * _pooled(height - trim) * _pooled(width - trim)
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(channels, 6, 5, padding=padding, nonlinearity=activation),
            "act1": nn.activation(activation),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(6, 16, 5, nonlinearity=activation),
            "act2": nn.activation(activation),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(features, 120, nonlinearity=activation),
            "act3": nn.activation(activation),
            "fc2": nn.Linear(120, 84, nonlinearity=activation),
            "act4": nn.activation(activation),
            "fc3": nn.Linear(84, num_classes, nonlinearity="softmax"),
        }
    )


def _pooled(size: int) -> int:
    """Size after pool 2, conv 5×5 and pool 2."""
    return (size // 2 - 4) // 2
