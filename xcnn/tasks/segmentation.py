"""Semantic segmentation: the class of each pixel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from .. import backends, data, nn
from .. import functional as F
from ..arrays import Array
from ..data import DataSplits
from ..errors import printable
from ..extend import register_task
from ..nn import Loss
from ..tensor import Tensor
from ..training import Trainer
from .colours import COLOURS
from .task import Exported, Task

IGNORED = 255
_SCORES = "scores of the classes of each pixel; softmax over axis 1 gives the probabilities"


class CrossEntropyDiceLoss(nn.CrossEntropyLoss):
    """Cross-entropy plus Dice loss: right pixels, and regions of which small ones count as much.

    The Dice loss is a mean over the pictures, weighed by their pixels that count: the divisor of
    both. Settings are those of :class:`xcnn.nn.CrossEntropyLoss`.
    """

    ignore_index: int

    def forward(self, input: Any, target: Any) -> Tensor:
        loss = super().forward(input, target)
        each = F.dice_loss(input, target, ignore_index=self.ignore_index, reduction="none")
        is_counted = Tensor.of(target).data != self.ignore_index
        counted = is_counted.sum(axis=tuple(range(1, is_counted.ndim)))
        total = each.backend.xp.maximum(counted.sum(), 1).astype(each.dtype)
        overlap: Tensor = F.sum(F.mean(each, 1) * Tensor(counted.astype(each.dtype) / total))
        return loss + overlap


class ClassMap(nn.Module):
    """A network, and the class with the largest score of each pixel: (N, H, W), int64."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def forward(self, x: Any) -> Tensor:
        return F.argmax(self.network(x), 1)


@register_task
class Segmentation(Task):
    """The class of each pixel. See :class:`Task`.

    Masks are integers (N, H, W); 255 does not count, in the loss and in what is measured. A
    prediction is a mask too, uint8 (H, W).
    """

    name = "segmentation"
    text = "the class of each pixel"
    networks = (
        *("unet_light", "unet", "fcn_resnet18", "fcn_resnet50", "fcn_resnet101"),
        *("deeplabv3_resnet18", "deeplabv3_resnet50", "deeplabv3_resnet101"),
    )
    datasets = tuple(n for n in data.names() if data.info(n).task == "segmentation")
    losses: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("cross_entropy_dice", "cross_entropy", "dice", "softmax_focal"), _SCORES
    )
    measured = ("iou",)
    moves = "masks"
    crops = False
    defaults: ClassVar[Mapping[str, Any]] = {
        **{"lr": 0.003, "batch_size": 16, "epochs": (12, 5), "augment": "standard"}
    }

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        return data.load_masks(root, **settings)

    def test_folder(
        self, root: str | os.PathLike[str], is_own: bool, **settings: Any
    ) -> tuple[str, data.Dataset]:
        settings["classes"] = self.classes
        if is_own or any(os.path.isdir(os.path.join(root, n)) for n in ("train", "annotations")):
            return "test", data.split_masks(root, **settings)[1]
        settings.pop("seed")
        return "all pictures", data.MaskFolder(root, **settings)

    def create_loss(self) -> Loss:
        kind = nn.LOSSES.get(self.loss, CrossEntropyDiceLoss)
        return kind(ignore_index=IGNORED)

    def result(self, values: Mapping[str, Any], count: int) -> str:
        return f"mIoU {values['iou']:.3f}, pixel accuracy {values['accuracy'] or 0.0:.1%}"

    def predict(self, trainer: Trainer, x: Array) -> list[Any]:
        found = trainer.predict(x)
        if found.ndim == 4:  # not of an ONNX file that computes the classes
            found = found.argmax(axis=1)
        return list(found.astype("uint8"))

    def read(self, path: str | os.PathLike[str], invert: bool = False, crop: bool = False) -> Array:
        """The pixels of a file in its own size, uint8 (C, H, W)."""
        return data.read_image(path, (self.input_shape[0], None, None), invert)

    def predict_one(self, trainer: Trainer, pixels: Array) -> Any:
        """The mask of a picture of any size, which is resized as a whole to the input and back."""
        found = self.predict(trainer, self.resized(pixels))[0]
        return data.resize_mask(found, pixels.shape[1:])

    def describe(self, prediction: Any, top: int = 3) -> str:
        xp = backends.get("cpu").xp
        pixels = xp.bincount(prediction.ravel(), minlength=256)[: len(self.classes)].tolist()
        order = sorted(range(len(pixels)), key=lambda i: -pixels[i])[:top]
        shares = [(self.classes[i], pixels[i] / prediction.size) for i in order if pixels[i]]
        return "  ".join(f"{printable(name)} {share:.1%}" for name, share in shares)

    def compare(self, prediction: Any, target: Any) -> str:
        counts = target != IGNORED
        right = (prediction == target)[counts].sum() / max(counts.sum(), 1)
        return f"{right:.1%} of the pixels right"

    def legend(self) -> dict[str, str]:
        colours = (f"#{bytes(colour).hex()}" for colour in self.palette())
        named = zip(self.classes, colours, strict=False)
        return {
            name: colour for n, (name, colour) in enumerate(named) if n not in self._background()
        }

    def draw(self, pixels: Array, prediction: Any) -> Array:
        xp = backends.get("cpu").xp
        colours = xp.moveaxis(self.palette()[prediction], 2, 0)
        is_plain = xp.isin(prediction, [*self._background(), IGNORED])
        picture = xp.broadcast_to(pixels, colours.shape).astype("float32")
        weight = xp.where(_contours(xp, prediction), 1, 0.6) * ~is_plain
        return (picture + weight * (colours - picture)).round().astype("uint8")

    def files(self, prediction: Any) -> dict[str, bytes]:
        return {"_mask.png": data.encode_image(prediction, self.palette())}

    def exported(self, model: nn.Module, postprocess: bool = False) -> Exported:
        if postprocess:
            return Exported(ClassMap(model), ("classes",), "the class of each pixel")
        return super().exported(model)

    def palette(self) -> Array:
        """A colour for each of the 256 values of a mask, uint8 (256, 3); black for the background.

        After seven colours, those of the Pascal VOC dataset follow.
        """
        xp = backends.get("cpu").xp
        bits = xp.arange(256)[:, None, None] >> xp.array([0, 1, 2])[:, None] + 3 * xp.arange(8) & 1
        voc = (bits << 7 - xp.arange(8)).sum(axis=2).astype("uint8")  # three times 3 bits of each
        own = [i for i in range(255) if i not in self._background()]
        voc[own[: len(COLOURS)]] = COLOURS
        voc[self._background()] = 0
        return voc

    def _background(self) -> list[int]:
        return [i for i, name in enumerate(self.classes) if name.lower() in ("background", "0")]


def _contours(xp: Any, mask: Array) -> Array:
    """Whether a pixel has another class than one of its four neighbours."""
    found = xp.zeros(mask.shape, bool)
    for one, other in ((mask, found), (mask.T, found.T)):
        differs = one[1:] != one[:-1]
        other[1:] |= differs
        other[:-1] |= differs
    return found
