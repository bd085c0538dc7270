"""DCGAN (Radford, Metz and Chintala 2016, "Unsupervised representation learning with deep
convolutional generative adversarial networks", arXiv:1511.06434).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from .. import creation, init, nn, random
from ..tensor import Tensor
from .autoencoder import quarter_shape
from .registry import ImageShape, register_block, register_network

__all__ = ["dcgan"]


@register_block
class DCGAN(nn.Module):
    """See :func:`dcgan`."""

    def __init__(self, input_shape: ImageShape, latent: int, width: int) -> None:
        channels, *size = input_shape
        count = _halvings(size)
        widths = [width * 2**i for i in range(count)]
        small = (widths[-1], *(n >> count for n in size))
        self.latent = latent
        self.generator = _generator(latent, small, channels, widths)
        self.discriminator = _discriminator(small, channels, widths)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                init.normal_(layer.weight, 1, 0.02)
            elif isinstance(weight := getattr(layer, "weight", None), Tensor):
                init.normal_(weight, 0, 0.02)

    def forward(self, x: Any) -> dict[str, Tensor]:
        real = self.discriminator(x)
        with nullcontext() if self.training else random.seeded(0):
            drawn = self.generator(self._noise(len(real), real.dtype))
        output = {"real": real, "fake": self.discriminator(drawn.detach())}
        with _frozen(self.discriminator):
            return {**output, "fooled": self.discriminator(drawn)}

    def sample(self, count: int) -> Tensor:
        """Draw new pictures (count, C, H, W), from 0 to 1."""
        return self.generator(self._noise(count, self.dtype)) * 0.5 + 0.5

    def _noise(self, count: int, dtype: Any) -> Tensor:
        return creation.randn(count, self.latent, dtype=dtype, device=self.backend)


@register_network
def dcgan(
    num_classes: int | None = None,
    input_shape: ImageShape = (1, 28, 28),
    latent: int = 100,
    width: int = 32,
) -> DCGAN:
    """Learns to draw images that a second network cannot tell from real ones: 383,617 parameters
    for 28×28 grey images.

    The generator enlarges noise by transposed convolutions of stride 2, from at least 4×4 pixels;
    the discriminator is its mirror image, with convolutions of stride 2. Both have batch-norm, but
    for the output of one and the input of the other, and the paper's weights at first: normal, of
    standard deviation 0.02. Kernels are 4×4, so that stride 2 covers all pixels evenly.

    A forward pass does what a training step needs: it draws as many images as it is given, and
    lets the discriminator judge real ones, drawn ones, and the drawn ones again, this time with
    constant weights. The gradient of the sum of both losses is then that of each network's own,
    and one step of one optimiser is a simultaneous step of both. The noise comes from the library's
    generator; in evaluation it is the same for each batch.

    Parameters
    ----------
    num_classes
        Ignored: this network has no classes.
    input_shape
        (channels, height, width); height and width must be divisible by 4.
    latent
        Numbers of noise for each image.
    width
        Channels at half the size, doubled at each further halving; the paper has 128 for images of
        64×64 pixels.

    Returns
    -------
    DCGAN
        (N, channels, height, width), from -1 to 1, to a dict of logits (N, 1), whose sigmoid is the
        probability that an image is real: "real" of the input, "fake" of drawn images, and
        "fooled", the same for the generator. Its ``sample(count)`` draws new images from 0 to 1;
        its ``generator`` takes noise (N, latent) and returns images from -1 to 1.

    Raises
    ------
    ArgumentError
        Height or width not divisible by 4, or not an image shape.
    """
    return DCGAN(quarter_shape(input_shape, "dcgan"), latent, width)


def _halvings(size: list[int]) -> int:
    """How often an image can be halved with at least 4×4 pixels left; at least twice."""
    count = 2
    while all(n % 2 ** (count + 1) == 0 and n >> (count + 1) >= 4 for n in size):
        count += 1
    return count


def _generator(
    latent: int, small: tuple[int, ...], channels: int, widths: list[int]
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Linear(latent, small[0] * small[1] * small[2], bias=False),
        nn.Unflatten(1, small),
    ]
    for i in reversed(range(len(widths))):
        layers += [nn.BatchNorm2d(widths[i]), nn.ReLU()]
        out = widths[i - 1] if i else channels
        layers.append(nn.ConvTranspose2d(widths[i], out, 4, 2, 1, bias=False))
    return nn.Sequential(*layers, nn.Tanh())


def _discriminator(small: tuple[int, ...], channels: int, widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, out in enumerate(widths):
        layers.append(nn.Conv2d(widths[i - 1] if i else channels, out, 4, 2, 1, bias=False))
        layers += [nn.BatchNorm2d(out)] if i else []
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(small[0] * small[1] * small[2], 1))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """A context in which the parameters are constants of what is computed."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad = True
