"""Autoencoders: pictures through a short code and back, and denoising."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .. import backends, data, models, random
from ..arrays import Array
from ..data import Batch, BatchTransform, DataSplits
from ..data.augment import MIXTURES, recipe_names
from ..errors import ArgumentError
from ..extend import register_task
from ..metrics import PSNR
from ..nn import Module
from .task import Option, Task


class OfPictures(Task):
    """Base class of tasks that learn from pictures alone, whatever their labels.

    A folder of the user's own data is one of pictures, in subfolders or not.
    """

    datasets = tuple(
        name
        for name in data.names()
        if data.info(name).task == "classification" and data.info(name).kind == "images"
    )
    network_options: ClassVar[tuple[str, ...]] = ()  # options that its networks take
    divisor: ClassVar[int] = 4  # of height and width; its networks halve pictures twice
    least: ClassVar[int] = 4  # height and width

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        return data.load_folder(root, **settings, labelled=False)

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        cls.check_pictures(dataset, cls.divisor)
        return cls(input_shape=dataset.image_shape, loss=loss, **options)

    @classmethod
    def check_pictures(cls, dataset: DataSplits, divisor: int, why: str = "") -> None:
        """Refuse data without pictures, or with pictures of a size that networks cannot take."""
        shape, least = dataset.image_shape, -(-cls.least // divisor) * divisor
        wanted = f"pictures of at least {least}×{least} pixels, height and width divisible by"
        if len(shape) == 3 and min(shape[1:]) >= least and not any(n % divisor for n in shape[1:]):
            return
        advice = ""
        if len(shape) == 3:
            advice = f"; pass --image-size {max(least, min(shape[1:]) // divisor * divisor)}"
        raise ArgumentError(
            f"{dataset.name} has {'×'.join(map(str, shape))} numbers per example: {cls.name} needs "
            f"{wanted} {why or divisor}{advice}"
        )

    def create_network(self, network: str) -> Module:
        options = {name: getattr(self, name) for name in self.network_options}
        model: Module = models.create(network, input_shape=self.input_shape, **options)
        return model

    def transform(self, augment: str | None = None) -> Any:
        mixtures = set(MIXTURES) & set(recipe_names(augment or "none"))
        if mixtures:
            raise ArgumentError(f"augment={augment!r}: {self.name} has no labels to mix")
        return super().transform(augment)


@register_task
class Autoencoder(OfPictures):
    """Pictures compressed to a few numbers and reconstructed; inputs and outputs are from 0 to 1.

    See :class:`Task`.
    """

    name = "autoencoder"
    text = "compress pictures to a few numbers and reconstruct them"
    networks = ("autoencoder",)
    losses = dict.fromkeys(("mse", "l1"), "reconstructed pictures, pixels from 0 to 1")
    measured: ClassVar[Sequence[str]] = ("psnr",)
    options = {"code": Option(int, 32, "numbers that a picture is compressed to", "N", 1, 2**20)}
    network_options = ("code",)
    noise = 0.0

    def transform(self, augment: str | None = None) -> Any:
        steps = super().transform(augment)
        return data.Compose([steps, InputAsTarget(self.noise, augment is None)])

    def result(self, values: Mapping[str, Any], count: int) -> str:
        return f"{self.loss} {values['loss']:.5f}, PSNR {values['psnr']:.2f} dB"

    def describe(self, prediction: Any, top: int = 3) -> str:
        return f"reconstructed, {'×'.join(map(str, prediction.shape[1:]))} pixels"

    def compare(self, prediction: Any, target: Any) -> str:
        return f"PSNR {psnr(prediction, target):.2f} dB"

    def draw(self, pixels: Array, prediction: Any) -> Array:
        xp = backends.get("cpu").xp
        return xp.concatenate([pixels, as_pixels(prediction)], axis=2)

    def show(self, pixels: Array, x: Array, y: Any, prediction: Any) -> dict[str, Array]:
        return {"Picture": pixels, "Reconstruction": as_pixels(prediction)}


@register_task
class Denoising(Autoencoder):
    """Pictures with Gaussian noise, of which the clean ones are the targets. See :class:`Task`.

    ``noise`` is its standard deviation, for pixels from 0 to 1, which clips them too. It is drawn
    anew for each picture in each epoch; in evaluation it is always the same. Pictures to predict
    get no noise: they have their own. Vincent et al. 2008, "Extracting and composing robust
    features with denoising autoencoders".
    """

    name = "denoising"
    text = "remove noise from pictures"
    losses = dict.fromkeys(("mse", "l1"), "pictures without noise, pixels from 0 to 1")
    options = {
        **Autoencoder.options,
        "noise": Option(
            float, 0.3, "standard deviation of the noise, for pixels from 0 to 1", low=0, high=1000
        ),
    }

    def describe(self, prediction: Any, top: int = 3) -> str:
        return f"without noise, {'×'.join(map(str, prediction.shape[1:]))} pixels"

    def draw(self, pixels: Array, prediction: Any) -> Array:
        return as_pixels(prediction)

    def show(self, pixels: Array, x: Array, y: Any, prediction: Any) -> dict[str, Array]:
        return {"Picture": pixels, "With noise": as_pixels(x), "Denoised": as_pixels(prediction)}


class InputAsTarget(BatchTransform):
    """(x, anything) to (x with noise, x), pixels from 0 to 1; (x,) stays."""

    def __init__(self, noise: float = 0.0, is_fixed: bool = False) -> None:
        self.noise, self.is_fixed = noise, is_fixed

    def __call__(self, x: Array) -> Array:
        return x

    def apply(self, batch: Batch, rng: Any) -> Batch:
        x, xp = batch[0], backends.get("cpu").xp
        if len(batch) == 1 or not self.noise:
            return (x, x)[: len(batch)]
        rng, total, rows = random.whole(rng or random.generator(), len(x))
        if self.is_fixed:
            with random.seeded(0):
                rng = random.generator()
        noise = rng.standard_normal((total, *x.shape[1:]), "float32")[rows]
        noise *= self.noise
        noisy = xp.add(x, noise, out=xp.empty_like(x))
        return xp.clip(noisy, 0, 1, out=noisy), x


def psnr(prediction: Array, target: Array, metric: type[PSNR] = PSNR, *settings: Any) -> float:
    """The PSNR of one picture (C, H, W)."""
    measured = metric(*settings)
    measured.update(prediction[None], target[None])
    return float(measured.compute())


def as_pixels(picture: Array) -> Array:
    """A picture from 0 to 1 as uint8."""
    xp = backends.get("cpu").xp
    return xp.rint(255 * xp.clip(picture, 0, 1)).astype("uint8")
