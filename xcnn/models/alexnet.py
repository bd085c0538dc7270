"""AlexNet (Krizhevsky et al. 2012; in the form of Krizhevsky 2014, "One weird trick for
parallelizing convolutional neural networks", arXiv:1404.5997), with torchvision's weight names.
"""

from __future__ import annotations

from .. import nn
from .blocks import with_classifier
from .registry import ImageShape, image_shape, register_classifier

__all__ = ["alexnet"]


@register_classifier
def alexnet(
    num_classes: int = 1000, input_shape: ImageShape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """AlexNet: 61,100,840 parameters.

    Five convolutions and three max-pools; average pooling to 6×6 pixels and three linear layers.
    For images below 223 pixels the average pool keeps the size that the last max-pool leaves.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), at least 63×63 pixels. A network built for large images also
        takes small ones.
    dropout
        Dropout probability before the first two linear layers.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    channels, height, width = image_shape(input_shape, "alexnet", 63)
    pooled = min(6, (height - 31) // 32), min(6, (width - 31) // 32)
    features = [
        nn.Conv2d(channels, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
    ]
    classifier = nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(256 * pooled[0] * pooled[1], 4096),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, num_classes, nonlinearity="softmax"),
    )
    return with_classifier(features, classifier, pooled)
