"""Variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

from .. import creation, nn, random
from .. import functional as F
from ..tensor import Tensor
from .autoencoder import decoder_layers, encoder_layers, quarter_shape
from .registry import ImageShape, register_block, register_network

__all__ = ["vae"]

_WIDTHS = (32, 64)


@register_block
class VAE(nn.Module):
    """See :func:`vae`."""

    def __init__(self, input_shape: ImageShape, latent: int) -> None:
        self.latent = latent
        features = _WIDTHS[1] * math.prod(input_shape[1:]) // 16
        self.encoder = encoder_layers(input_shape, _WIDTHS)
        self.mean = nn.Linear(features, latent, nonlinearity="linear")
        self.logvar = nn.Linear(features, latent, nonlinearity="linear")
        self.decoder = decoder_layers(input_shape, _WIDTHS, latent)

    def forward(self, x: Any) -> dict[str, Tensor]:
        features = self.encoder(x)
        mean, logvar = self.mean(features), self.logvar(features)
        with nullcontext() if self.training else random.seeded(0):
            noise = creation.randn_like(mean)
        logits = self.decoder(mean + F.exp(0.5 * logvar) * noise)
        output = {"logits": logits, "mean": mean, "logvar": logvar}
        return output if self.training else {**output, "expected": self.decoder(mean)}

    def reconstruction(self) -> nn.Sequential:
        """The network without its noise: pictures to their reconstructions, from 0 to 1.

        It has the weights of this one, and decodes the mean of the code.
        """
        layers = {"encoder": self.encoder, "mean": self.mean, "decoder": self.decoder}
        return nn.Sequential({**layers, "sigmoid": nn.Sigmoid()})

    def sample(self, count: int) -> Tensor:
        """Draw new pictures (count, C, H, W), from 0 to 1."""
        codes = creation.randn(count, self.latent, dtype=self.dtype, device=self.backend)
        return F.sigmoid(self.decoder(codes))


@register_network
def vae(
    num_classes: int | None = None, input_shape: ImageShape = (1, 28, 28), latent: int = 20
) -> VAE:
    """Encodes an image as a normal distribution and decodes a code drawn from it: 243,465
    parameters for 28×28 grey images.

    The encoder and the decoder of :func:`autoencoder`, twice as wide; two linear layers return the
    mean and the logarithm of the variance of each number of the code. The noise comes from the
    library's generator; in evaluation it is the same for each batch.

    Parameters
    ----------
    num_classes
        Ignored: this network has no classes.
    input_shape
        (channels, height, width); height and width must be divisible by 4.
    latent
        Length of the code.

    Returns
    -------
    VAE
        (N, channels, height, width), from 0 to 1, to a dict: "logits" of the pixels, of this
        shape; "mean" and "logvar" of the code, (N, latent); in evaluation also "expected", the
        logits for the mean code. Its ``sample(count)`` draws new images, and ``reconstruction()``
        is the network without noise.

    Raises
    ------
    ArgumentError
        Height or width not divisible by 4, or not an image shape.
    """
    return VAE(quarter_shape(input_shape, "vae"), latent)
