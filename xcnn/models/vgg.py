"""VGG (Simonyan & Zisserman 2015, "Very deep convolutional networks", arXiv:1409.1556).

With torchvision's names and shapes of the weights.
"""

from __future__ import annotations

from functools import partial

from .. import init, nn
from .blocks import init_weights, normal_001, with_classifier
from .registry import ImageShape, image_shape, variant


def _vgg(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.5,
    *,
    name: str,
    counts: tuple[int, ...],
    norm: bool = False,
) -> nn.Sequential:
    """A VGG.

    3×3 convolutions, each with ReLU, in five groups with a max-pool after each; then average
    pooling to 7×7 pixels and three linear layers. For images below 224 pixels the average pool
    keeps the size that the last max-pool leaves: 1×1 for 32×32 images (28.1 M parameters for
    vgg11).

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
    channels, height, width = image_shape(input_shape, name, 32)
    pooled = min(7, height // 32), min(7, width // 32)
    with init.skipped():  # init_weights() initialises
        features: list[nn.Module] = []
        for count, out_channels in zip(counts, (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                features.append(nn.Conv2d(channels, out_channels, 3, padding=1))
                features += [nn.BatchNorm2d(out_channels)] if norm else []
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


_plain = partial(variant, _vgg)
_norm = partial(variant, _vgg, norm=True)
_11, _13, _16, _19 = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

vgg11 = _plain("vgg11", "VGG of 11 layers, configuration A: 132,863,336 parameters.", counts=_11)
vgg13 = _plain("vgg13", "VGG of 13 layers, configuration B: 133,047,848 parameters.", counts=_13)
vgg16 = _plain("vgg16", "VGG of 16 layers, configuration D: 138,357,544 parameters.", counts=_16)
vgg19 = _plain("vgg19", "VGG of 19 layers, configuration E: 143,667,240 parameters.", counts=_19)
vgg11_bn = _norm("vgg11_bn", "vgg11 with batch-norm: 132,868,840 parameters.", counts=_11)
vgg13_bn = _norm("vgg13_bn", "vgg13 with batch-norm: 133,053,736 parameters.", counts=_13)
vgg16_bn = _norm("vgg16_bn", "vgg16 with batch-norm: 138,365,992 parameters.", counts=_16)
vgg19_bn = _norm("vgg19_bn", "vgg19 with batch-norm: 143,678,248 parameters.", counts=_19)
