"""VGG (Simonyan & Zisserman 2015, "Very deep convolutional networks", arXiv:1409.1556).

With torchvision's names and shapes of the weights.
"""

from __future__ import annotations

from .. import init, nn
from .blocks import init_weights, normal_001, with_classifier
from .registry import ImageShape, image_shape, register_classifier

#: output channels of the 3×3 convolutions; 2×2 max-pooling follows each group
_GROUPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


@register_classifier
def vgg11(
    num_classes: int = 1000, input_shape: ImageShape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """VGG of 11 layers, configuration A of the paper: 132,863,336 parameters.

    3×3 convolutions, each with ReLU, in five groups with a max-pool after each; then average
    pooling to 7×7 pixels and three linear layers. For images below 224 pixels the average pool
    keeps the size that the last max-pool leaves: 1×1 for 32×32 images (28.1 M parameters).

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), at least 32×32 pixels. A network built for large images also
        takes small ones.
    dropout
        Dropout probability after the first two linear layers.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    return _vgg("vgg11", num_classes, input_shape, dropout)


@register_classifier
def vgg11_bn(
    num_classes: int = 1000, input_shape: ImageShape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """:func:`vgg11` with batch-norm after each convolution: 132,868,840 parameters."""
    return _vgg("vgg11_bn", num_classes, input_shape, dropout)


@register_classifier
def vgg16(
    num_classes: int = 1000, input_shape: ImageShape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """VGG of 16 layers, configuration D: 138,357,544 parameters; otherwise as :func:`vgg11`."""
    return _vgg("vgg16", num_classes, input_shape, dropout)


@register_classifier
def vgg16_bn(
    num_classes: int = 1000, input_shape: ImageShape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """:func:`vgg16` with batch-norm after each convolution: 138,365,992 parameters."""
    return _vgg("vgg16_bn", num_classes, input_shape, dropout)


def _vgg(name: str, num_classes: int, input_shape: ImageShape, dropout: float) -> nn.Sequential:
    channels, height, width = image_shape(input_shape, name, 32)
    pooled = min(7, height // 32), min(7, width // 32)
    with init.skipped():  # init_weights() initialises
        features: list[nn.Module] = []
        for group in _GROUPS[name.removesuffix("_bn")]:
            for out_channels in group:
                features.append(nn.Conv2d(channels, out_channels, 3, padding=1))
                features += [nn.BatchNorm2d(out_channels)] if name.endswith("_bn") else []
                features.append(nn.ReLU())
                channels = out_channels
            features.append(nn.MaxPool2d(2))
        classifier = nn.Sequential(
            nn.Linear(512 * pooled[0] * pooled[1], 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        model = with_classifier(features, classifier, pooled)
    return init_weights(model, linear=normal_001)
