"""Detection: the boxes and the classes of all objects in a picture."""

from __future__ import annotations

import json
import os
from typing import Any

from .. import data, models, nn
from ..arrays import Array
from ..backends import get
from ..data import DataSplits
from ..errors import FileFormatError, missing_package
from ..extend import register_task
from ..models import BoxLoss
from ..tensor import Tensor
from ..training import Trainer
from .colours import COLOURS
from .task import Exported, Option, Task

_SAME = 0.5  # boxes with a larger intersection over union are of one object
_SIDE = 256  # pixels: smaller pictures are enlarged to be drawn on
_FIELDS = ("boxes", "scores", "labels")
_BOXES = "boxes (N, K, 4): x1, y1, x2, y2 in pixels of the input; "
#: by number of outputs: their names, and how to get predictions from them
_RAW = {
    2: (
        models.SSDOutput._fields,
        "of the default boxes of torchvision's ssdlite320_mobilenet_v3_large, for the size of the "
        "input; softmax of cls_logits gives the probabilities of the background and of the "
        "classes; bbox_regression is (x, y) of the centre · 10 in units of the default box and log "
        "of width and height · 5; NMS within each class at IoU 0.55",
    ),
    3: (
        models.CenterNetOutput._fields,
        "of cells of 4×4 pixels; an object is where sigmoid(heatmap) has its largest value among "
        "3×3 cells; its centre is (column, row) + offset, its width and height are size, all in "
        "cells",
    ),
}


class DetectionLoss(BoxLoss):
    """The loss of any of the detection networks, found by what they return.

    :class:`xcnn.models.CenterNetLoss` or :class:`xcnn.models.SSDLoss`.

    Parameters
    ----------
    input_size
        (height, width) of the pictures, in pixels.
    """

    def __init__(self, input_size: int | tuple[int, int]) -> None:
        super().__init__(input_size)
        self.centernet = models.CenterNetLoss(input_size)
        self.ssd = models.SSDLoss(input_size)

    def _of(self, output: Any) -> BoxLoss:
        return self.ssd if len(output) == 2 else self.centernet

    def forward(self, output: Any, target: Any) -> Tensor:
        loss: Tensor = self._of(output)(output, target)
        return loss

    def divisor(self, output: Any, target: Any) -> Any:
        return self._of(output).divisor(output, target)

    def prediction(self, output: Any) -> dict[str, Tensor]:
        return self._of(output).prediction(output)


@register_task
class Detection(Task):
    """The boxes and classes of all objects in a picture. See :class:`Task`.

    A prediction is a dict of arrays: "boxes" (K, 4), x1, y1, x2, y2 in pixels of the picture,
    "scores" (K,), the most probable first, and "labels" (K,), numbers of classes.
    """

    name = "detection"
    text = "the box and the class of each object in a picture"
    networks = ("centernet_small", "centernet_resnet18", "ssdlite320_mobilenet_v3_large")
    datasets = tuple(n for n in data.names() if data.info(n).task == "detection")
    losses = {"detection": "several, which the loss turns into boxes, scores and labels"}
    measured = ("coco_map", "map_50")
    moves = "boxes"
    options = {
        "score": Option(
            float,
            0.3,
            "probability from which objects are drawn and listed",
            low=0,
            high=1,
            used_by=("predict",),
        ),
    }
    defaults = {"augment": "zoom,shift,color", "lr": 2e-3}
    has_labels = True
    crops = False
    score: float

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        return data.load_boxes(root, **settings)

    def create_loss(self) -> DetectionLoss:
        _, height, width = self.input_shape
        return DetectionLoss((height, width))

    # -- predictions --------------------------------------------------------------------------

    def read(self, path: str | os.PathLike[str], invert: bool = False, crop: bool = False) -> Array:
        return data.read_image(path, (self.input_shape[0], None, None), invert)

    def predict(self, trainer: Trainer, x: Array) -> list[Any]:
        """The objects of each picture; of boxes that nearly agree, only the most probable.

        Two classes in one place count when a network is measured, but people expect one answer.
        """
        found = trainer.predict(x)
        if isinstance(found, tuple):  # of a file that computes predictions
            found = dict(zip(_FIELDS, found, strict=True))
        if found["labels"].max(initial=-1) >= len(self.classes):
            raise FileFormatError(
                f"the network found an object of class {found['labels'].max()}, but there are "
                f"{len(self.classes)} classes, counted from 0"
            )
        return self.truth(models.best_of_overlapping(found, _SAME))

    def predict_one(self, trainer: Trainer, pixels: Array) -> Any:
        """The prediction of a picture of any size, which is resized as a whole to the input."""
        size, own = self.input_shape[1:], pixels.shape[1:]
        found = self.predict(trainer, self.resized(pixels))[0]
        zoom = [own[i] / size[i] for i in (1, 0, 1, 0)]
        return {**found, "boxes": (found["boxes"] * zoom).astype(found["boxes"].dtype)}

    def truth(self, y: Any) -> list[Any]:
        """The objects of each picture; those of targets have scores of 1."""
        y = {name: Tensor.of(value).numpy() for name, value in y.items()}
        scores = y.get("scores", get("cpu").xp.ones(y["labels"].shape, "float32"))
        arrays = dict(zip(_FIELDS, (y["boxes"], scores, y["labels"]), strict=True))
        return [
            {name: array[n][labels >= 0] for name, array in arrays.items()}
            for n, labels in enumerate(y["labels"])
        ]

    def objects(self, prediction: Any) -> list[dict[str, Any]]:
        """The objects with at least the score of the task, as "class", "score" and "box"."""
        rows = zip(*(prediction[name].tolist() for name in _FIELDS), strict=True)
        return [
            {
                "class": self.classes[label],
                "score": round(score, 4),
                "box": [round(v, 1) for v in box],
            }
            for box, score, label in rows
            if score >= self.score
        ]

    def describe(self, prediction: Any, top: int = 3) -> str:
        found = self.objects(prediction)
        listed = [f"{each['class']} {each['score']:.2%}" for each in found[:top]]
        more = ["..."] if len(found) > top else []
        text = f"{len(found)} object{'s' * (len(found) != 1)}"
        return f"{text}: {', '.join(listed + more)}" if found else text

    def compare(self, prediction: Any, target: Any) -> str:
        wanted = [self.classes[label] for label in target["labels"].tolist()]
        return f"{self.describe(prediction)} (target: {', '.join(wanted) or 'none'})"

    def files(self, prediction: Any) -> dict[str, bytes]:
        return {".json": json.dumps(self.objects(prediction), indent=1).encode()}

    def draw(self, pixels: Array, prediction: Any) -> Array:
        """The picture with its boxes, each with the class, and the score if it is not 1."""
        try:
            from PIL import Image, ImageDraw, ImageFont
        except ImportError as error:
            raise missing_package("drawing boxes", "pillow", error) from error
        xp = get("cpu").xp
        zoom = -(-_SIDE // max(pixels.shape[1:]))
        large = xp.broadcast_to(pixels, (3, *pixels.shape[1:])).repeat(zoom, 1).repeat(zoom, 2)
        image = Image.fromarray(xp.ascontiguousarray(large.transpose(1, 2, 0)))
        canvas, width = ImageDraw.Draw(image), max(2, max(image.size) // 256)
        font = ImageFont.load_default(max(12, max(image.size) // 40))
        for each in self.objects(prediction)[::-1]:  # the most probable on top
            x1, y1, x2, y2 = (zoom * v for v in each["box"])
            colour = COLOURS[self.classes.index(each["class"]) % len(COLOURS)]
            text = each["class"] if each["score"] == 1 else f"{each['class']} {each['score']:.0%}"
            canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), None, colour, width)
            right, bottom = canvas.textbbox((0, 0), text, font)[2:]
            y = y1 - bottom - 2 if y1 > bottom + 2 else y1
            x = max(0, min(x1, image.width - right - 4))
            canvas.rectangle((x, y, x + right + 3, y + bottom + 2), colour)
            canvas.text((x + 2, y), text, "black" if sum(colour) > 380 else "white", font)
        return xp.ascontiguousarray(xp.asarray(image).transpose(2, 0, 1))

    # -- ONNX -------------------------------------------------------------------------------

    def exported(self, model: nn.Module, postprocess: bool = False) -> Exported:
        if postprocess:
            text = (
                f"{_BOXES}scores (N, K); labels (N, K): numbers of classes, -1 where there is none"
            )
            return Exported(WithBoxes(model, self.create_loss()), _FIELDS, text)
        x = get("cpu").xp.zeros((1, *self.input_shape), "float32")
        with nn.evaluating(model):
            outputs = model(model.backend.asarray(x))
        return Exported(model, *_RAW[len(outputs)])


class WithBoxes(nn.Module):
    """A detection network and what follows: it returns boxes, scores and labels."""

    def __init__(self, network: nn.Module, loss: BoxLoss) -> None:
        self.network, self.boxes = network, _Boxes(loss)

    @property
    def onnx_parts(self) -> tuple[nn.Module, ...]:
        """Compared one by one, as rounding errors decide which of two equal scores comes first."""
        return self.network, self.boxes

    def forward(self, x: Any) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.boxes(*self.network(x))
        return found


class _Boxes(nn.Module):
    """What :meth:`Detection.predict` does with the outputs of a network."""

    def __init__(self, loss: BoxLoss) -> None:
        self.loss = loss

    def forward(self, *outputs: Any) -> tuple[Tensor, ...]:
        found = models.best_of_overlapping(self.loss.prediction(outputs), _SAME)
        return tuple(found[name] for name in _FIELDS)
