"""A convolutional autoencoder (Masci et al. 2011, "Stacked convolutional auto-encoders")."""

from __future__ import annotations

from .. import nn
from ..errors import ArgumentError
from .simple import image_shape


def autoencoder(
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    code: int = 32,
) -> nn.Sequential:
    """Images to a few numbers and back: 115,217 parameters for 28×28 grey images and 32 numbers.

    Two convolutions of stride 2 and a dense layer to the code; a dense layer and two transposed
    convolutions of stride 2 back. The output lies between 0 and 1, as the images should.

    Parameters
    ----------
    num_classes
        Taken because every network takes it, and not used: there are no classes.
    input_shape
        (channels, height, width); height and width divide by 4.
    code
        Numbers that an image is described with.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to the same shape; its "encoder" gives (N, code) and its
        "decoder" takes that.

    Raises
    ------
    ArgumentError
        Sizes that do not divide by 4, or no images.
    """
    channels, height, width = image_shape(input_shape, "autoencoder")
    if height % 4 or width % 4:
        raise ArgumentError(
            f"input_shape={input_shape}: autoencoder halves images twice, expected a height and a "
            "width that divide by 4; pad the images"
        )
    small = (32, height // 4, width // 4)
    features = small[0] * small[1] * small[2]
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
