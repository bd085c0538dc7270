"""ESPCN, super-resolution (Shi et al. 2016, "Real-time single image and video super-resolution
using an efficient sub-pixel convolutional neural network", arXiv:1609.05158).
"""

from __future__ import annotations

from .. import nn
from .simple import image_shape


def espcn(
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] = (1, 17, 17),
    upscale_factor: int = 3,
) -> nn.Sequential:
    """Larger images from small ones: 22,729 parameters for grey images and a factor of 3.

    5×5 convolution to 64 channels, 3×3 to 32, each with tanh, 3×3 to upscale_factor² channels for
    each of the image's; these are then laid out as the pixels between.

    Parameters
    ----------
    num_classes
        Taken because every network takes it, and not used: there are no classes.
    input_shape
        (channels, height, width); the size does not matter to the weights. The paper takes the
        brightness only, in patches of 17×17 for a factor of 3.
    upscale_factor
        How many times larger the images become.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to (N, channels, factor · height, factor · width).

    Raises
    ------
    ArgumentError
        No images, or ``upscale_factor`` is no int from 1 on.
    """
    channels = image_shape(input_shape, "espcn")[0]
    shuffle = nn.PixelShuffle(upscale_factor)
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(channels, 64, 5, padding=2, nonlinearity="tanh"),
            "act1": nn.Tanh(),
            "conv2": nn.Conv2d(64, 32, 3, padding=1, nonlinearity="tanh"),
            "act2": nn.Tanh(),
            "conv3": nn.Conv2d(
                32, channels * upscale_factor**2, 3, padding=1, nonlinearity="linear"
            ),
            "shuffle": shuffle,
        }
    )
