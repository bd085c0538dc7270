"""SSDlite, object detection with default boxes (Liu et al. 2016, "SSD: Single shot multibox
detector", arXiv:1512.02325; Sandler et al. 2018, arXiv:1801.04381, section 6.2; Howard et al. 2019,
arXiv:1905.02244, section 6.3), with torchvision's names of the weights.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

from .. import functional as F
from .. import init, nn
from ..arrays import Array
from ..tensor import Tensor
from .blocks import conv_norm, expand, init_weights
from .detection import BoxLoss, boxes_and_labels, nms_mask, objects, taken
from .mobilenet import LARGE_V3, features_v3
from .registry import ImageShape, image_shape, register_block, register_network

__all__ = ["ssdlite320_mobilenet_v3_large"]

_NORM: dict[str, Any] = {"eps": 1e-3, "momentum": 0.03}
#: of the feature maps that the heads read
_CHANNELS = (672, 480, 512, 256, 256, 128)
_RATIOS = (2, 3)  # aspect ratios of the default boxes, besides 1
_PER_CELL = 2 + 2 * len(_RATIOS)
#: weights of the centre and of the size in the regression
_CENTRE, _SIZE = 10.0, 5.0


class SSDOutput(NamedTuple):
    """What SSDlite returns, for A default boxes.

    Attributes
    ----------
    bbox_regression : Tensor (N, A, 4)
        How the box of the object differs from the default box, see :class:`SSDLoss`.
    cls_logits : Tensor (N, A, 1 + num_classes)
        Scores of the background and of the classes, softmax gives the probabilities.
    """

    bbox_regression: Tensor
    cls_logits: Tensor


@register_block
class SSDLite(nn.Module):
    """See :func:`ssdlite320_mobilenet_v3_large`."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        hidden, widths, *rest = LARGE_V3  # the last stage has half the channels
        halved = (*hidden[:-2], *(n // 2 for n in hidden[-2:]))
        blocks = halved, (*widths[:-3], *(n // 2 for n in widths[-3:])), *rest
        with init.skipped():
            layers = features_v3(in_channels, blocks, 6)
            c4: Any = layers[13]
            first = nn.Sequential(*layers[:13], c4.block[0])  # up to the expansion of C4
            second = nn.Sequential(c4.block[1:], *layers[14:])
            extra = nn.ModuleList(_extra(i, o) for i, o in itertools.pairwise(_CHANNELS[1:]))
            self.backbone = nn.ModuleDict(
                {"features": nn.Sequential(first, second), "extra": extra}
            )
            columns = {"classification_head": 1 + num_classes, "regression_head": 4}
            self.head = nn.ModuleDict({name: _head(n) for name, n in columns.items()})
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _NORM["momentum"]
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                init.zeros_(module.bias)
        init_weights(self, init.zeros_, lambda weight: init.normal_(weight, std=0.03))

    def forward(self, x: Any) -> SSDOutput:
        maps = []
        for layer in (*self.backbone["features"], *self.backbone["extra"]):
            x = layer(x)
            maps.append(x)
        scores, codes = self.head["classification_head"], self.head["regression_head"]
        return SSDOutput(_rows(codes, maps), _rows(scores, maps))


def _extra(in_channels: int, out_channels: int) -> nn.Sequential:
    """1×1 to half the output channels, 3×3 depthwise of stride 2, 1×1."""
    hidden = out_channels // 2
    last = conv_norm(hidden, out_channels, 1, activation=nn.ReLU6(), **_NORM)
    return nn.Sequential(*expand(in_channels, hidden, 3, 2, nn.ReLU6, **_NORM), last)


def _head(columns: int) -> nn.ModuleDict:
    """A 3×3 depthwise and a 1×1 convolution for each feature map."""
    return nn.ModuleDict(
        {
            "module_list": nn.ModuleList(
                nn.Sequential(
                    conv_norm(c, c, groups=c, activation=nn.ReLU6(), **_NORM),
                    nn.Conv2d(c, columns * _PER_CELL, 1),
                )
                for c in _CHANNELS
            )
        }
    )


def _rows(head: nn.ModuleDict, maps: list[Tensor]) -> Tensor:
    """What a head says of each default box: (N, A, columns)."""
    found = []
    for layer, x in zip(head["module_list"], maps, strict=True):
        y = layer(x)
        columns, (height, width) = y.shape[1] // _PER_CELL, y.shape[2:]
        y = F.permute(F.reshape(y, (-1, _PER_CELL, columns, height, width)), (0, 3, 4, 1, 2))
        found.append(F.reshape(y, (-1, height * width * _PER_CELL, columns)))
    return F.concat(found, 1)


@register_network
def ssdlite320_mobilenet_v3_large(
    num_classes: int = 90, input_shape: ImageShape = (3, 320, 320)
) -> SSDLite:
    """SSDlite on MobileNetV3-Large: 3,440,060 parameters for colour images and 90 classes.

    The features of MobileNetV3-Large, with half the channels in its last stage, and four more
    feature maps; for each cell of the six maps, six default boxes.

    Torchvision's weights fit; they are of pictures with values from -1 to 1, which a mean and a
    standard deviation of 0.5 give. torchvision counts the background as a class and says 91.

    Parameters
    ----------
    num_classes
        Number of classes, without the background.
    input_shape
        (channels, height, width); the weights do not depend on height and width.

    Returns
    -------
    SSDLite
        (N, channels, height, width) to an :class:`SSDOutput`, which
        :class:`xcnn.tasks.DetectionLoss` takes and turns into boxes.

    Raises
    ------
    ArgumentError
        Not an image shape.
    """
    return SSDLite(image_shape(input_shape, "ssdlite320_mobilenet_v3_large")[0], num_classes)


def default_boxes(xp: Any, height: int, width: int) -> Array:
    """The default boxes of pictures of a size, (A, 4): x1, y1, x2, y2 in pixels, float32.

    In each cell of the six feature maps there is a square of scale s, from 0.2 to 0.95 of the
    picture, one of √(s · the next scale), and two boxes for each aspect ratio; section 2.2 of the
    paper. They may extend beyond the picture.
    """
    scales = [*(0.2 + 0.75 * k / 5 for k in range(6)), 1.0]
    rows, columns, found = -(-height // 16), -(-width // 16), []
    for k in range(6):
        side, between = scales[k], math.sqrt(scales[k] * scales[k + 1])
        shapes = [(side, side), (between, between)]
        for ratio in _RATIOS:
            long, short = side * math.sqrt(ratio), side / math.sqrt(ratio)
            shapes += [(long, short), (short, long)]
        grid = xp.empty((rows, columns, len(shapes), 2, 2), "float32")  # ..., centre and size, x y
        grid[..., 0, 0] = ((xp.arange(columns, dtype="float32") + 0.5) / columns)[:, None]
        grid[..., 0, 1] = ((xp.arange(rows, dtype="float32") + 0.5) / rows)[:, None, None]
        grid[..., 1, :] = xp.clip(xp.asarray(shapes, "float32"), 0, 1)
        found.append(grid.reshape(-1, 2, 2))
        rows, columns = -(-rows // 2), -(-columns // 2)
    centres, sizes = xp.moveaxis(xp.concatenate(found), 1, 0)
    corners = xp.stack([centres - 0.5 * sizes, centres + 0.5 * sizes], 1)  # (A, 2, 2)
    return (corners * xp.asarray([width, height], "float32")).reshape(-1, 4)


class SSDLoss(BoxLoss):
    """The loss of SSDlite, torchvision's: of the boxes and of the classes.

    A default box is matched with the object that it overlaps most, if the intersection over union
    is at least 0.5; each object also with the default box that overlaps it most. The loss is the
    sum of the smooth absolute differences of the matched boxes (centres in units of a tenth of the
    default box's size, logarithms of the ratios of width and height times 5), and of the
    cross-entropies of the matched default boxes and of three times as many others in each picture,
    those of the largest; divided by the number of matched ones.

    Parameters
    ----------
    input_size
        (height, width) of the pictures, in pixels.
    nms_thresh
        :meth:`prediction` leaves out objects whose intersection over union with a more probable one
        of the same class is larger.
    detections
        How many objects it returns for each picture, and considers for each class, at most.
    """

    def __init__(
        self,
        input_size: int | tuple[int, int] = 320,
        nms_thresh: float = 0.55,
        detections: int = 300,
    ) -> None:
        super().__init__(input_size)
        self.nms_thresh, self.detections = nms_thresh, detections

    def _anchors(self, like: Tensor) -> Array:
        """The default boxes, on a device."""
        with like.backend.active():
            return default_boxes(like.backend.xp, *self.input_size).astype(like.dtype)

    def _matches(self, anchors: Array, target: Any, output: Any) -> tuple[Array, Array, Array]:
        """For each default box the number of its object, or -1; the boxes and labels of all."""
        codes, logits = output
        xp = codes.backend.xp
        boxes, labels = boxes_and_labels(target, codes, logits.shape[2] - 1)
        numbers = xp.arange(len(labels))
        exists = labels >= 0
        overlaps = F.box_iou(boxes, anchors).data  # (N, M, A)
        overlaps = xp.where(exists[:, :, None], overlaps, -1)
        matches = xp.where(overlaps.max(axis=1) >= 0.5, overlaps.argmax(axis=1), -1)
        matches = xp.concatenate([matches, matches[:, :1]], 1)  # a place for what does not exist
        best = xp.where(exists, overlaps.argmax(axis=2), -1)
        for m in range(labels.shape[1]):
            matches[numbers, best[:, m]] = m
        return matches[:, :-1], boxes, labels

    def forward(self, output: Any, target: Any) -> Tensor:
        codes, logits = output
        backend, dtype = codes.backend, codes.dtype
        xp = backend.xp
        anchors = self._anchors(codes)
        with backend.active():
            matches, boxes, labels = self._matches(anchors, target, output)
            is_object = matches >= 0
            at = xp.arange(len(labels))[:, None], xp.maximum(matches, 0)
            matched = xp.where(is_object[..., None], boxes[at], anchors)
            wanted = _encoded(xp, matched, anchors)
            classes = xp.where(is_object, labels[at] + 1, 0)
        terms = F.cross_entropy(F.permute(logits, (0, 2, 1)), classes, reduction="none")
        with backend.active():
            others = xp.where(is_object, -xp.inf, terms.data)
            rank = xp.argsort(xp.argsort(-others, axis=1), axis=1)
            counted = is_object | (rank < 3 * is_object.sum(axis=1, keepdims=True))
            mask, counted = is_object[..., None].astype(dtype), counted.astype(dtype)
            divisor = xp.maximum(is_object.sum(), 1).astype(dtype)  # without objects the sum is 0
        loss = F.smooth_l1_loss(codes * mask, wanted, reduction="sum") + (terms * counted).sum()
        return loss / divisor

    def divisor(self, output: Any, target: Any) -> Any:
        with output[0].backend.active():
            matches, _, _ = self._matches(self._anchors(output[0]), target, output)
            return (matches >= 0).sum()

    def prediction(self, output: Any) -> dict[str, Tensor]:
        codes, logits = output
        anchors = Tensor(self._anchors(codes))
        boxes = F.clip_boxes_to_image(_decoded(codes, anchors), self.input_size)
        count = len(anchors)
        scores = F.permute(F.softmax(logits, 2)[..., 1:], (0, 2, 1))  # (N, C, A)
        classes = scores.shape[1]
        most = min(self.detections, count)
        scores, index = F.topk(scores, most, 2)
        boxes = taken(boxes, F.reshape(index, (-1, classes * most)))
        keep = nms_mask(F.reshape(boxes, (-1, most, 4)), self.nms_thresh)
        scores = F.where(F.reshape(keep, (-1, classes, most)), scores, 0.0)
        scores = F.reshape(scores, (-1, classes * most))
        scores, index = F.topk(scores, min(self.detections, classes * most), 1)
        return objects(taken(boxes, index), scores, F.floor_divide(index, most))


def _encoded(xp: Any, boxes: Array, anchors: Array) -> Array:
    """How boxes (N, A, 4) differ from default boxes (A, 4)."""
    (centres, sizes), (at, unit) = (
        ((b[..., :2] + b[..., 2:]) / 2, b[..., 2:] - b[..., :2]) for b in (boxes, anchors)
    )
    codes = [_CENTRE * (centres - at) / unit, _SIZE * xp.log(sizes / unit)]
    return xp.concatenate(codes, -1)


def _decoded(codes: Tensor, anchors: Tensor) -> Tensor:
    """The boxes (N, A, 4): the reverse of ``_encoded``."""
    unit = anchors[:, 2:] - anchors[:, :2]
    centres = codes[..., :2] / _CENTRE * unit + (anchors[:, :2] + unit * 0.5)
    largest = math.log(1000 / 16)
    half = F.exp(F.clamp(codes[..., 2:] / _SIZE, max=largest)) * unit * 0.5
    return F.concat([centres - half, centres + half], -1)
