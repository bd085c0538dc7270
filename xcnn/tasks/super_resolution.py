"""Super-resolution: pictures are enlarged."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from .. import backends, data, models, nn
from .. import functional as F
from ..arrays import Array
from ..data import BatchTransform, DataSplits, Normalize
from ..data.augment import training_steps
from ..errors import FileFormatError
from ..extend import register_task
from ..metrics import PSNR
from ..tensor import Tensor, no_grad
from ..tiling import tile_grid
from ..training import Trainer
from .autoencoder import OfPictures, as_pixels, psnr
from .task import Exported, Option, Task

#: pixels of an input that are enlarged at once, and around them those that a network may look at
_TILE, _MARGIN = 256, 32


@register_task
class SuperResolution(OfPictures):
    """Pictures enlarged 2, 3 or 4 times. See :class:`Task`.

    The inputs are made from the pictures of the data: shrunk by bicubic interpolation with
    antialiasing, as Pillow and MATLAB do it, and rounded to 8 bits. The targets are these pictures,
    from 0 to 1; a prediction is clipped to this range.
    """

    name = "super-resolution"
    text = "a larger picture, with the details that a small one lacks"
    networks = ("edsr_small", "espcn")
    datasets = ("photo-crops",)
    losses = {
        "l1": "the enlarged picture, from 0 to 1",
        "mse": "the enlarged picture, from 0 to 1",
    }
    options = {
        "upscale": Option(
            int, 2, "how many times as high and wide: 2, 3 or 4", "N", choices=(2, 3, 4)
        )
    }
    measured = ("psnr", "ssim")
    defaults = {"batch_size": 16, "epochs": (12, 12)}
    image_size = 96
    crops = False
    least = 11  # the window of SSIM
    upscale: int

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        own = BicubicPSNR(self.upscale)
        self.measured = (*self.measured, own)  # type: ignore[misc, assignment]

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        return data.load_crops(root, **settings)

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        factor = cls(**options).upscale  # checked
        cls.check_pictures(dataset, factor, f"upscale={factor}")
        channels, *size = dataset.image_shape
        small = (channels, *(length // factor for length in size))
        return cls((), small, loss=loss, **options)

    @property
    def _large(self) -> tuple[int, ...]:
        """Height and width of a target."""
        return tuple(length * self.upscale for length in self.input_shape[1:])

    def test_folder(
        self, root: str | os.PathLike[str], is_own: bool, **settings: Any
    ) -> tuple[str, data.Dataset]:
        return super().test_folder(root, is_own, **{**settings, "size": self._large})

    def steps(self, augment: str | None, **settings: Any) -> list[Any]:
        steps = training_steps(augment or "none", self._large, 0, Normalize(0, 1, self.scale))
        return [*steps, Shrink(self.upscale, self.mean, self.std)]

    def create_network(self, network: str) -> nn.Module:
        model: nn.Module = models.create(
            network, input_shape=self.input_shape, upscale_factor=self.upscale
        )
        return model

    def create_loss(self) -> nn.Loss:
        return _LOSSES[self.loss]()

    def result(self, values: Mapping[str, Any], count: int) -> str:
        psnr, bicubic, ssim = (values[name] for name in ("psnr", "psnr_bicubic", "ssim"))
        return f"PSNR {psnr:.2f} dB (bicubic {bicubic:.2f} dB), SSIM {ssim:.4f}"

    def read(self, path: str | os.PathLike[str], invert: bool = False, crop: bool = False) -> Array:
        """The pixels of a file in its own size, uint8 (C, H, W)."""
        return data.read_image(path, (self.input_shape[0], None, None), invert)

    def predict(self, trainer: Trainer, x: Array) -> list[Any]:
        def enlarged(part: Array) -> Array:
            y = trainer.predict(part)
            _check_size(y, (*part.shape[:2], *(n * self.upscale for n in part.shape[2:])))
            return y

        return list(in_tiles(enlarged, x, self.upscale))

    def describe(self, prediction: Any, top: int = 3) -> str:
        return f"{prediction.shape[2]}×{prediction.shape[1]} pixels"

    def compare(self, prediction: Any, target: Any) -> str:
        bicubic = psnr(target, target, BicubicPSNR, self.upscale)
        return f"PSNR {psnr(prediction, target):.2f} dB (bicubic {bicubic:.2f} dB)"

    def draw(self, pixels: Array, prediction: Any) -> Array | None:
        return as_pixels(prediction)

    def show(self, pixels: Array, x: Array, y: Any, prediction: Any) -> dict[str, Array]:
        small = self._pixels(x)
        pictures = {
            "Input": F.interpolate(small[None], scale_factor=self.upscale).numpy()[0],
            "Bicubic": enlarge(small[None], self.upscale).numpy()[0],
            "Prediction": prediction,
            "Target": y,
        }
        return {title: as_pixels(picture) for title, picture in pictures.items()}

    def _pixels(self, x: Array) -> Array:
        """An input as a picture from 0 to 1."""
        xp = backends.of(x).xp
        mean, std = (xp.asarray(v, "float32").reshape(-1, 1, 1) for v in (self.mean, self.std))
        return x * std + mean

    def exported(self, model: nn.Module, postprocess: bool = False) -> Exported:
        if postprocess:
            model = nn.Sequential({"network": model, "clip": nn.Hardtanh(0, 1)})
        clipped = "" if postprocess else ": clip it"
        return Exported(model, ("output",), self.losses[self.loss] + clipped, any_size=True)


def _check_size(output: Any, shape: tuple[int, ...]) -> None:
    """Refuse a network of another factor, or of other channels, than the task."""
    if output.shape != shape:
        raise FileFormatError(
            f"the network's output has shape {output.shape}, expected {shape}: it does not fit "
            "upscale and input_shape of the task"
        )


class _Clipped(nn.Loss):
    """A loss of pictures of the same size, whose predictions are clipped."""

    def forward(self, input: Any, target: Any) -> Tensor:
        _check_size(input, target.shape)
        return super().forward(input, target)

    def prediction(self, output: Any) -> Tensor:
        return F.clamp(output, 0, 1)


class _ClippedL1(_Clipped, nn.L1Loss):
    pass


class _ClippedMSE(_Clipped, nn.MSELoss):
    pass


_LOSSES: dict[str, type[nn.Loss]] = {"l1": _ClippedL1, "mse": _ClippedMSE}


class BicubicPSNR(PSNR):
    """PSNR of bicubic interpolation, from the targets alone: what a network must exceed."""

    def __init__(self, upscale: int) -> None:
        super().__init__()
        self.name, self.upscale = "psnr_bicubic", upscale

    def terms(self, xp: Any, prediction: Array, target: Array) -> Array:
        enlarged = enlarge(shrink(target, self.upscale), self.upscale)
        return super().terms(xp, enlarged.data, target)


class Shrink(BatchTransform):
    """Makes (input, target) of pictures (N, C, H, W) from 0 to 1, whose targets are dropped.

    Parameters
    ----------
    upscale
        Ratio of the heights of target and input.
    mean, std
        Of the inputs.
    """

    def __init__(self, upscale: int, mean: Any = (0.0,), std: Any = (1.0,)) -> None:
        self.upscale = upscale
        self._normalize = Normalize(mean, std, 1)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self._normalize(shrink(x, self.upscale).numpy()), x

    def apply(self, batch: Any, rng: Any) -> Any:
        return self(batch[0])


@no_grad()
def shrink(x: Any, factor: int) -> Tensor:
    """Pictures (N, C, H, W) from 0 to 1 as the small ones that 8-bit files would have."""
    height, width = (length // factor for length in x.shape[2:])
    small = F.interpolate(x, (height, width), mode="bicubic", antialias=True)
    return F.round(F.clamp(small, 0, 1) * 255) / 255


@no_grad()
def enlarge(x: Any, factor: int) -> Tensor:
    """Pictures (N, C, H, W) from 0 to 1, enlarged by Pillow's bicubic interpolation."""
    size = tuple(length * factor for length in x.shape[2:])
    return F.clamp(F.interpolate(x, size, mode="bicubic", antialias=True), 0, 1)


def in_tiles(predict: Callable[[Array], Array], x: Array, factor: int) -> Array:
    """Predict pictures (N, C, H, W) of any size tile by tile, so that memory stays bounded.

    Equal to ``predict(x)`` if a pixel depends on those within 32 pixels only.
    """
    size, xp = x.shape[2:], backends.get("cpu").xp
    if max(size) <= _TILE + 2 * _MARGIN:
        return predict(x)
    result = xp.empty((*x.shape[:2], *(length * factor for length in size)), "float32")
    for tile in tile_grid(size, _TILE, _TILE):
        top, left = max(0, tile.top - _MARGIN), max(0, tile.left - _MARGIN)
        y = predict(x[:, :, top : tile.bottom + _MARGIN, left : tile.right + _MARGIN])
        rows, columns = (
            slice((start - first) * factor, (stop - first) * factor)
            for start, stop, first in ((*tile[:2], top), (*tile[2:], left))
        )
        whole = (slice(a * factor, b * factor) for a, b in (tile[:2], tile[2:]))
        result[(..., *whole)] = y[:, :, rows, columns]
    return result
