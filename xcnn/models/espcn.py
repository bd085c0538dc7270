"""ESPCN, super-resolution (Shi et al. 2016, "Real-time single image and video super-resolution
using an efficient sub-pixel convolutional neural network", arXiv:1609.05158).
"""

from __future__ import annotations

from .. import nn
from .registry import ImageShape, image_shape, register_network

__all__ = ["espcn"]


@register_network
def espcn(
    num_classes: int | None = None, input_shape: ImageShape = (1, 17, 17), upscale_factor: int = 3
) -> nn.Sequential:
    """Enlarges images: 22,729 parameters for grey images and a factor of 3.

    A 5×5 convolution to 64 channels and a 3×3 one to 32, each with tanh; a 3×3 one to
    channels · upscale_factor² and a pixel shuffle.

    Parameters
    ----------
    num_classes
        Ignored: this network has no classes.
    input_shape
        (channels, height, width); the weights do not depend on height and width. The paper
        enlarges the luminance only, in patches of 17×17 pixels for a factor of 3.
    upscale_factor
        Ratio of output to input height and width.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to (N, channels, factor · height, factor · width).

    Raises
    ------
    ArgumentError
        Not an image shape, or ``upscale_factor`` not an int >= 1.
    """
    channels = image_shape(input_shape, "espcn")[0]
    shuffle = nn.PixelShuffle(upscale_factor)  # checks upscale_factor
    expanded = channels * upscale_factor**2
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(channels, 64, 5, padding=2, nonlinearity="tanh"),
            "act1": nn.Tanh(),
            "conv2": nn.Conv2d(64, 32, 3, padding=1, nonlinearity="tanh"),
            "act2": nn.Tanh(),
            "conv3": nn.Conv2d(32, expanded, 3, padding=1, nonlinearity="linear"),
            "shuffle": shuffle,
        }
    )
