"""A convolutional autoencoder (Masci et al. 2011, "Stacked convolutional auto-encoders")."""

from __future__ import annotations

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
    channels, height, width = image_shape(input_shape, "autoencoder")
    if height % 4 or width % 4:
        raise ArgumentError(
            f"input_shape={input_shape}: autoencoder halves images twice, expected a height and a "
            "width divisible by 4; pad the images"
        )
    small = (32, height // 4, width // 4)
    features = 32 * (height // 4) * (width // 4)
    encoder = nn.Sequential(
        nn.Conv2d(channels, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(features, code, nonlinearity="linear"),
    )
    decoder = nn.Sequential(
        nn.Linear(code, features),
        nn.ReLU(),
        nn.Unflatten(1, small),
        nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, channels, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )
    return nn.Sequential({"encoder": encoder, "decoder": decoder})
