"""VGG (Simonyan & Zisserman 2015, "Very deep convolutional networks", arXiv:1409.1556).

With torchvision's names and shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import init, nn
from ..arrays import Array
from .blocks import init_weights, normal_001, with_classifier
from .registry import ImageShape, family, image_shape

__all__ = ["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]


@family
def _vgg(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.5,
    *,
    name: str,
    counts: tuple[int, ...],
    norm: bool = False,
) -> nn.Sequential:
    """VGG.

    3×3 convolutions, each with ReLU, in five groups with a max-pool after each; then average
    pooling to 7×7 pixels and three linear layers. Names in ``_bn`` have a batch-norm before each
    ReLU. For images below 224 pixels the average pool keeps the size that the last max-pool
    leaves: 1×1 for 32×32 images (28.1 M parameters for vgg11).

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
        features = _layers(channels, counts, norm)
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


def _layers(channels: int, counts: tuple[int, ...], norm: bool) -> list[nn.Module]:
    """The convolutional part."""
    layers: list[nn.Module] = []
    for count, out_channels in zip(counts, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=1))
            layers += [nn.BatchNorm2d(out_channels)] if norm else []
            layers.append(nn.ReLU())
            channels = out_channels
        layers.append(nn.MaxPool2d(2))
    return layers


def vgg_features(state: Mapping[str, Array]) -> nn.Sequential | None:
    """The convolutional part of the VGG for colour images of these weights; None if of none."""
    prefix = "features."
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    depth = sum(array.ndim == 4 for array in own.values())
    counts = next((c for c in (_11, _13, _16, _19) if sum(c) == depth), None)
    if counts is None:
        return None
    with init.skipped():
        layers = nn.Sequential(*_layers(3, counts, any("running" in name for name in own)))
    known = dict(layers.named_parameters()) | dict(layers.named_buffers())
    if {k: tuple(v.shape) for k, v in own.items()}.items() <= {
        k: v.shape for k, v in known.items()
    }.items():
        layers.load_state_dict(own)
        return layers
    return None


_11, _13, _16, _19 = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
vgg11 = _vgg("vgg11", 132_863_336, counts=_11)
vgg13 = _vgg("vgg13", 133_047_848, counts=_13)
vgg16 = _vgg("vgg16", 138_357_544, counts=_16)
vgg19 = _vgg("vgg19", 143_667_240, counts=_19)
vgg11_bn = _vgg("vgg11_bn", 132_868_840, counts=_11, norm=True)
vgg13_bn = _vgg("vgg13_bn", 133_053_736, counts=_13, norm=True)
vgg16_bn = _vgg("vgg16_bn", 138_365_992, counts=_16, norm=True)
vgg19_bn = _vgg("vgg19_bn", 143_678_248, counts=_19, norm=True)
