"""A convolutional autoencoder (Masci et al. 2011, "Stacked convolutional auto-encoders")."""

from __future__ import annotations

import math

from .. import nn
from ..errors import ArgumentError
from .registry import ImageShape, image_shape, register_network

__all__ = ["autoencoder"]


@register_network
def autoencoder(
    num_classes: int | None = None, input_shape: ImageShape = (1, 28, 28), code: int = 32
) -> nn.Sequential:
    """Encodes an image as a few numbers and decodes it: 115,217 parameters for 28×28 grey images.

    Encoder: two convolutions of stride 2 and a linear layer. Decoder: a linear layer and two
    transposed convolutions of stride 2. The output is between 0 and 1, as the images should be.

    Parameters
    ----------
    num_classes
        Ignored: this network has no classes.
    input_shape
        (channels, height, width); height and width must be divisible by 4.
    code
        Length of the code.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to the same shape. Its "encoder" returns (N, code), which its
        "decoder" takes.

    Raises
    ------
    ArgumentError
        Height or width not divisible by 4, or not an image shape.
    """
    shape = quarter_shape(input_shape, "autoencoder")
    encoder = encoder_layers(shape, (16, 32))
    encoder.append(nn.Linear(32 * shape[1] * shape[2] // 16, code, nonlinearity="linear"))
    decoder = decoder_layers(shape, (16, 32), code).append(nn.Sigmoid())
    return nn.Sequential({"encoder": encoder, "decoder": decoder})


def quarter_shape(input_shape: tuple[int, ...], model: str) -> ImageShape:
    """Check that ``input_shape`` is (channels, height, width) of images that are halved twice.

    Raises
    ------
    ArgumentError
        Height or width not divisible by 4, or not an image shape.
    """
    shape = image_shape(input_shape, model)
    if shape[1] % 4 or shape[2] % 4:
        raise ArgumentError(
            f"input_shape={input_shape}: {model} halves images twice, expected a height and a "
            "width divisible by 4; pad or resize the images"
        )
    return shape


def encoder_layers(shape: ImageShape, widths: tuple[int, int]) -> nn.Sequential:
    """Two convolutions of stride 2, each with ReLU, and flattening."""
    return nn.Sequential(
        nn.Conv2d(shape[0], widths[0], 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(*widths, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )


def decoder_layers(shape: ImageShape, widths: tuple[int, int], code: int) -> nn.Sequential:
    """The way back from (N, code): a linear layer and two transposed convolutions of stride 2."""
    first, last = widths
    small = (last, shape[1] // 4, shape[2] // 4)
    return nn.Sequential(
        nn.Linear(code, math.prod(small)),
        nn.ReLU(),
        nn.Unflatten(1, small),
        nn.ConvTranspose2d(last, first, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(first, shape[0], 4, stride=2, padding=1),
    )
