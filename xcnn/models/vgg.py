"""VGG (Simonyan & Zisserman 2015, "Very deep convolutional networks", arXiv:1409.1556).

Names and shapes of the weights are torchvision's.
"""

from __future__ import annotations

from .. import init, nn
from ..errors import ArgumentError
from .blocks import draw, narrow
from .simple import image_shape

#: filters of the 3×3 convolutions; each group ends with 2×2 max-pooling
_GROUPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}
Shape = tuple[int, int, int]


def vgg11(
    num_classes: int = 1000, input_shape: Shape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """VGG of 11 layers, configuration A of the paper: 132,863,336 parameters.

    3×3 convolutions, each with ReLU, in five groups with a max-pool after each; then an average
    pool to 7×7 pixels and three dense layers. The average pool never enlarges: of images below
    224 pixels as many pixels as are left, 1×1 of 32×32 images, go to the dense layers (28.1 M
    parameters). A network made for large images takes small ones too.

    Parameters
    ----------
    num_classes
        Classes to tell apart.
    input_shape
        (channels, height, width), at least 32 pixels each way.
    dropout
        Probability after the first two dense layers.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Images too small, or no images.
    """
    return _vgg("vgg11", num_classes, input_shape, dropout)


def vgg11_bn(
    num_classes: int = 1000, input_shape: Shape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """:func:`vgg11` with batch-norm after each convolution: 132,868,840 parameters."""
    return _vgg("vgg11", num_classes, input_shape, dropout, batch_norm=True)


def vgg16(
    num_classes: int = 1000, input_shape: Shape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """VGG of 16 layers, configuration D: 138,357,544 parameters; otherwise as :func:`vgg11`."""
    return _vgg("vgg16", num_classes, input_shape, dropout)


def vgg16_bn(
    num_classes: int = 1000, input_shape: Shape = (3, 224, 224), dropout: float = 0.5
) -> nn.Sequential:
    """:func:`vgg16` with batch-norm after each convolution: 138,365,992 parameters."""
    return _vgg("vgg16", num_classes, input_shape, dropout, batch_norm=True)


def _vgg(
    name: str, num_classes: int, input_shape: Shape, dropout: float, batch_norm: bool = False
) -> nn.Sequential:
    channels, height, width = image_shape(input_shape, name)
    if min(height, width) < 32:
        raise ArgumentError(f"input_shape={input_shape}: {name} needs images of 32×32 and more")
    pooled = min(7, height // 32), min(7, width // 32)
    with init.skipped():  # drawn below
        model = nn.Sequential(
            {
                "features": _features(channels, _GROUPS[name], batch_norm),
                "avgpool": nn.AdaptiveAvgPool2d(pooled),
                "flatten": nn.Flatten(),
                "classifier": nn.Sequential(
                    nn.Linear(512 * pooled[0] * pooled[1], 4096),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                    nn.Linear(4096, 4096),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                    nn.Linear(4096, num_classes),
                ),
            }
        )
    return draw(model, linear=narrow)


def _features(
    channels: int, groups: tuple[tuple[int, ...], ...], batch_norm: bool
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for group in groups:
        for filters in group:
            layers.append(nn.Conv2d(channels, filters, 3, padding=1))
            layers += [nn.BatchNorm2d(filters)] if batch_norm else []
            layers.append(nn.ReLU())
            channels = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
