"""Networks that draw new pictures: the variational autoencoder and the DCGAN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .. import backends, random
from .. import functional as F
from ..arrays import Array
from ..checks import check_number
from ..errors import ArgumentError
from ..extend import register_task
from ..nn import Loss, evaluating
from ..tensor import Tensor
from ..training import Trainer
from .autoencoder import Autoencoder, OfPictures, as_pixels
from .task import Exported, Option

_GAP = 2


class ELBOLoss(Loss):
    """The negative evidence lower bound of a VAE, in nats per picture: reconstruction + beta · KL.

    Called with the output of :func:`xcnn.models.vae` and pictures from 0 to 1. "reconstruction" is
    the mean over the batch of -log p(x | z), summed over pixels; "kl" that of the divergence of the
    code's distribution from the standard normal one. Kingma and Welling 2014, equation 10; with
    another ``beta``, Higgins et al. 2017, "beta-VAE".

    Parameters
    ----------
    beta
        Weight of the divergence.
    squared
        Whether "reconstruction" is the squared error, instead of the binary cross-entropy.
    """

    target = "pictures"
    term_names = ("reconstruction", "kl")

    def __init__(self, beta: float = 1.0, squared: bool = False) -> None:
        super().__init__()
        self.beta = check_number("beta", beta, 0, 1e30)
        self.squared = squared

    def forward(self, input: Any, target: Any) -> Tensor:
        terms = self.terms(input, target)
        return terms["reconstruction"] + self.beta * terms["kl"]

    def terms(self, output: Any, target: Any) -> dict[str, Tensor]:
        _check_output(output, "the reconstruction without the code")
        logits, mean, logvar = (output[k] for k in ("logits", "mean", "logvar"))
        if self.squared:
            reconstruction = F.mse_loss(F.sigmoid(logits), target, "sum")
        else:
            reconstruction = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        kl = 0.5 * F.sum(F.square(mean) + F.exp(logvar) - logvar - 1)
        count = max(len(mean), 1)
        return {"reconstruction": reconstruction / count, "kl": kl / count}

    def prediction(self, output: Any) -> Tensor:
        """The reconstruction (N, C, H, W), from 0 to 1; in evaluation that of the mean code."""
        if isinstance(output, Tensor):  # of an exported network
            return output
        return F.sigmoid(output.get("expected", output["logits"]))


class GANLoss(Loss):
    """The losses of both networks of a GAN, whose sum it is: "d_loss" + "g_loss".

    Called with the output of :func:`xcnn.models.dcgan`; the targets do not matter. Both are binary
    cross-entropies: "d_loss" of real pictures as real and drawn ones as not, "g_loss" of drawn ones
    as real, the generator's non-saturating loss. Goodfellow et al. 2014, "Generative adversarial
    nets".

    Parameters
    ----------
    smoothing
        How much less than 1 the discriminator's target for real pictures is, such as 0.1: one-sided
        label smoothing, Salimans et al. 2016, "Improved techniques for training GANs".
    """

    target = "pictures"
    term_names = ("d_loss", "g_loss")
    lower_is_better = False

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = check_number("smoothing", smoothing, 0, 1)

    def forward(self, input: Any, target: Any) -> Tensor:
        terms = self.terms(input, target)
        return terms["d_loss"] + terms["g_loss"]

    def terms(self, output: Any, target: Any) -> dict[str, Tensor]:
        _check_output(output, "pictures without the discriminator")
        real = _cross_entropy(output["real"], 1 - self.smoothing)
        fake, fooled = _cross_entropy(output["fake"], 0), _cross_entropy(output["fooled"], 1)
        return {"d_loss": real + fake, "g_loss": fooled}

    def prediction(self, output: Any) -> Tensor:
        """The probability that each picture is real, (N, 1)."""
        return output if isinstance(output, Tensor) else F.sigmoid(output["real"])


def _check_output(output: Any, found: str) -> None:
    """Refuse the output of a part of the network."""
    if isinstance(output, Tensor):
        raise ArgumentError(
            f"the network returns {found}, so it cannot be evaluated: use the run it is from"
        )


def _cross_entropy(logits: Tensor, probability: float) -> Tensor:
    target = logits.backend.xp.full_like(logits.data, probability)
    return F.binary_cross_entropy_with_logits(logits, target)


class _Generative(OfPictures):
    """Base class: the network's ``sample`` draws pictures."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.create_loss()  # checks its settings

    def samples(self, trainer: Trainer, count: int = 64, seed: int = 0) -> Array:
        model: Any = trainer.model
        with evaluating(model), random.seeded(seed):
            return grid(as_pixels(model.sample(count).numpy()))


@register_task
class VAE(_Generative, Autoencoder):
    """A variational autoencoder: reconstructs pictures and draws new ones. See :class:`Task`."""

    name = "vae"
    text = "variational autoencoder: reconstruct pictures and draw new ones"
    networks = ("vae",)
    losses = dict.fromkeys(("elbo", "elbo_mse"), Autoencoder.losses["mse"])
    measured = ELBOLoss.term_names
    network_options = ("latent",)
    defaults = {"lr": 2e-3, "batch_size": 32, "epochs": (60, 10)}
    options = {
        "latent": Option(int, 20, "numbers that a picture is drawn from", "N", 1, 2**20),
        "beta": Option(float, 1.0, "weight of the divergence from the standard normal", low=0),
    }

    def create_loss(self) -> Loss:
        return ELBOLoss(self.beta, squared=self.loss == "elbo_mse")

    def result(self, values: Mapping[str, Any], count: int) -> str:
        reconstruction, kl = (values[name] for name in self.measured)
        parts = f"reconstruction {reconstruction:.2f}, KL {kl:.2f}"
        if self.loss != "elbo":
            return parts
        return f"negative ELBO {reconstruction + kl:.2f} nats ({parts})"

    def exported(self, model: Any, postprocess: bool = False) -> Exported:
        found = super().exported(model, postprocess)
        return found._replace(model=model.reconstruction())


@register_task
class GAN(_Generative):
    """A generative adversarial network: draws new pictures. See :class:`Task`.

    Its inputs are from -1 to 1, as are the generator's outputs. Predictions are probabilities that
    pictures are real.
    """

    name = "gan"
    text = "generative adversarial network: draw new pictures"
    networks = ("dcgan",)
    losses = {"gan": "pictures from -1 to 1, of noise from the standard normal distribution"}
    measured = GANLoss.term_names
    options = {
        "smoothing": Option(
            float, 0.0, "how much less than 1 the target of real pictures is", low=0, high=1
        )
    }
    defaults = {
        **{"lr": 2e-4, "betas": (0.5, 0.999), "schedule": "constant"},
        **{"batch_size": 32, "epochs": (60, 5)},
    }

    def __init__(
        self,
        classes: Any = (),
        input_shape: Any = (3, 64, 64),
        mean: Any = (0.5,),
        std: Any = (0.5,),
        *arguments: Any,
        **settings: Any,
    ) -> None:
        super().__init__(classes, input_shape, mean, std, *arguments, **settings)

    def create_loss(self) -> Loss:
        return GANLoss(self.smoothing)

    def result(self, values: Mapping[str, Any], count: int) -> str:
        return f"discriminator loss {values['d_loss']:.4f}, generator loss {values['g_loss']:.4f}"

    def truth(self, y: Any) -> list[Any]:
        return [[1.0] for _ in y]

    def describe(self, prediction: Any, top: int = 3) -> str:
        return f"real {float(prediction[0]):.2%}"

    def compare(self, prediction: Any, target: Any) -> str:
        return self.describe(prediction)  # all of them are real

    def exported(self, model: Any, postprocess: bool = False) -> Exported:
        found = super().exported(model, postprocess)
        return found._replace(model=model.generator, input_shape=(model.latent,))


def grid(pictures: Array) -> Array:
    """Pictures uint8 (N, C, H, W) in a square, two grey pixels apart, (C, H', W').

    It has √N columns, rounded up, and as many rows as are needed.
    """
    (count, c, h, w), columns = pictures.shape, math.ceil(math.sqrt(len(pictures)))
    rows, height, width = math.ceil(count / columns), h + _GAP, w + _GAP
    tiles = backends.get("cpu").xp.full((rows * columns, c, height, width), 128, "uint8")
    tiles[:count, :, _GAP:, _GAP:] = pictures
    tiles = tiles.reshape(rows, columns, c, height, width)
    return tiles.transpose(2, 0, 3, 1, 4).reshape(c, rows * height, columns * width)
