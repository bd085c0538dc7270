"""CenterNet, object detection without anchors (Zhou et al. 2019, "Objects as points",
arXiv:1904.07850), on residual networks with a feature pyramid (Lin et al. 2017, arXiv:1612.03144).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import functional as F
from .. import init, nn
from ..arrays import Array
from ..tensor import Tensor
from .detection import BoxLoss, boxes_and_labels, objects
from .registry import ImageShape, image_shape, register_block, register_network
from .resnet import BasicBlock, resnet18

__all__ = ["centernet_resnet18", "centernet_small"]

#: pixels of the picture per cell of the output, along each axis
STRIDE = 4


class CenterNetOutput(NamedTuple):
    """What CenterNet returns, for cells of 4×4 pixels.

    Attributes
    ----------
    heatmap : Tensor (N, num_classes, h, w)
        Logits: how probable the centre of an object of the class is in the cell.
    size : Tensor (N, 2, h, w)
        Width and height of the object whose centre is in the cell, in cells.
    offset : Tensor (N, 2, h, w)
        x and y of the centre within the cell, 0 to 1.
    """

    heatmap: Tensor
    size: Tensor
    offset: Tensor


@register_block
class CenterNet(nn.Module):
    """See :func:`centernet_small`.

    Parameters
    ----------
    backbone
        A Sequential whose layers named "layer1", "layer2", ... are the stages of a residual
        network; the output of the first has a fourth of the height and width of the picture, and
        each other half of those before it.
    channels
        Channels of each stage.
    num_classes
        Number of classes.
    width
        Channels of the pyramid.
    """

    def __init__(
        self, backbone: nn.Sequential, channels: list[int], num_classes: int, width: int
    ) -> None:
        self.backbone = backbone
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.merge = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.heatmap = nn.Conv2d(width, num_classes, 1)
        self.size = nn.Conv2d(width, 2, 1)
        self.offset = nn.Conv2d(width, 2, 1)
        for head in (self.heatmap, self.size, self.offset):
            init.normal_(head.weight, std=0.01)
        init.constant_(self.heatmap.bias, -math.log(9))  # a probability of 0.1, as in the paper

    def forward(self, x: Any) -> CenterNetOutput:
        stages = []
        for name, layer in self.backbone.named_children():
            x = layer(x)
            if name.startswith("layer"):
                stages.append(x)
        x = self.lateral[-1](stages[-1])
        for lateral, stage in zip(self.lateral[-2::-1], stages[-2::-1], strict=True):
            x = lateral(stage) + F.interpolate(x, stage.shape[2:])
        x = self.merge(x)
        return CenterNetOutput(self.heatmap(x), self.size(x), self.offset(x))


@register_network
def centernet_small(num_classes: int = 10, input_shape: ImageShape = (1, 64, 64)) -> CenterNet:
    """CenterNet on a small residual network: 267,774 parameters for grey images and ten classes.

    A 3×3 convolution and three residual blocks of 32, 64 and 96 channels, each of stride 2, and a
    feature pyramid of 64 channels.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), at least 16×16 pixels; the weights do not depend on height and
        width.

    Returns
    -------
    CenterNet
        (N, channels, height, width) to a :class:`CenterNetOutput`, which
        :class:`xcnn.tasks.DetectionLoss` takes and turns into boxes.

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    channels = image_shape(input_shape, "centernet_small", 16)[0]
    backbone = nn.Sequential(
        {
            "conv1": nn.Conv2d(channels, 16, 3, stride=2, padding=1, bias=False),
            "bn1": nn.BatchNorm2d(16),
            "relu": nn.ReLU(),
            "layer1": BasicBlock(16, 32, 2),
            "layer2": BasicBlock(32, 64, 2),
            "layer3": BasicBlock(64, 96, 2),
        }
    )
    return CenterNet(backbone, [32, 64, 96], num_classes, 64)


@register_network
def centernet_resnet18(num_classes: int = 80, input_shape: ImageShape = (3, 512, 512)) -> CenterNet:
    """CenterNet on ResNet-18: 11,458,452 parameters for colour images and 80 classes.

    The four stages of ResNet-18, under "backbone" with torchvision's names of the weights, and a
    feature pyramid of 128 channels.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), at least 32×32 pixels; the weights do not depend on height and
        width.

    Returns
    -------
    CenterNet
        See :func:`centernet_small`.

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    shape = image_shape(input_shape, "centernet_resnet18", 32)
    layers = resnet18(input_shape=shape).named_children()
    backbone = nn.Sequential({n: m for n, m in layers if n not in ("avgpool", "flatten", "fc")})
    return CenterNet(backbone, [64, 128, 256, 512], num_classes, 128)


class CenterNetLoss(BoxLoss):
    """The loss of CenterNet: of the heatmap, the sizes and the offsets.

    The wanted heatmap is 1 at the centre of each object of the class and falls off around it like
    a Gaussian, of standard deviations 0.54 / 6 of the object's width and height and at least 1/6 of
    a cell (Liu et al. 2020, "Training-time-friendly network for real-time object detection",
    arXiv:1909.00700; the paper of CenterNet has round ones). With p the predicted probability and g
    the wanted heatmap, the loss is the sum of

    - -(1 - p)² log p at the centres, -(1 - g)⁴ p² log(1 - p) elsewhere;
    - ``size_weight`` times the absolute differences of width and height, in cells, at the centres;
    - ``offset_weight`` times those of the offsets;

    divided by the number of objects, where a picture without any counts as one. Objects are
    predicted where the heatmap has a peak: in cells that none of their 8 neighbours exceeds.

    Parameters
    ----------
    input_size
        (height, width) of the pictures, in pixels.
    size_weight, offset_weight
        Weights of the second and third part.
    detections
        How many objects :meth:`prediction` returns for each picture at most.
    """

    def __init__(
        self,
        input_size: int | tuple[int, int],
        size_weight: float = 0.1,
        offset_weight: float = 1.0,
        detections: int = 100,
    ) -> None:
        super().__init__(input_size)
        self.size_weight, self.offset_weight = size_weight, offset_weight
        self.detections = detections

    def forward(self, output: Any, target: Any) -> Tensor:
        heatmap, size, offset = output
        backend, dtype = heatmap.backend, heatmap.dtype
        xp = backend.xp
        with backend.active():
            boxes, labels = boxes_and_labels(target, heatmap, heatmap.shape[1])
            boxes /= STRIDE
            centres, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
            last = xp.asarray(heatmap.shape[:1:-1], dtype) - 1
            cells = xp.clip(xp.floor(centres), 0, last)  # (N, M, 2)
            wanted = _gaussians(xp, cells, sizes, labels, heatmap.shape)
            is_centre, far = (wanted == 1).astype(dtype), (1 - wanted) ** 4
            exists = (labels >= 0).astype(dtype)[..., None]
            x, y = cells[..., 0].astype("int64"), cells[..., 1].astype("int64")
            at = xp.arange(len(labels))[:, None], slice(None), y, x
            divisor = xp.maximum(self.divisor(output, target), 1).astype(dtype)
        p = F.sigmoid(heatmap)
        found = (1 - p) ** 2 * F.logsigmoid(heatmap) * is_centre
        loss = -(found + p**2 * F.logsigmoid(-heatmap) * far).sum()
        for part, right, weight in (
            (size, sizes, self.size_weight),
            (offset, centres - cells, self.offset_weight),
        ):
            loss = loss + weight * (F.abs(part[at] - right) * exists).sum()
        return loss / divisor

    def divisor(self, output: Any, target: Any) -> Any:
        _, labels = boxes_and_labels(target, output[0], output[0].shape[1])
        xp = output[0].backend.xp
        return xp.maximum((labels >= 0).sum(axis=1), 1).sum()

    def prediction(self, output: Any) -> dict[str, Tensor]:
        heatmap, size, offset = output
        _, classes, rows, columns = heatmap.shape
        is_peak = F.eq(F.max_pool2d(heatmap, 3, 1, 1), heatmap)
        peaks = F.reshape(F.where(is_peak, heatmap, -100.0), (-1, classes * rows * columns))
        logits, index = F.topk(peaks, min(self.detections, classes * rows * columns), 1)
        cell = F.remainder(index, rows * columns)
        at = F.expand(F.unsqueeze(cell, 1), (-1, 2, -1))  # (N, 2, K)
        sizes, offsets = (
            F.permute(F.gather(F.reshape(part, (-1, 2, rows * columns)), 2, at), (0, 2, 1))
            for part in (size, offset)
        )
        cells = F.stack([F.remainder(cell, columns), F.floor_divide(cell, columns)], 2)
        sizes = F.relu(sizes)
        centres = F.astype(cells, sizes.dtype) + offsets
        corners = F.concat([centres - sizes / 2, centres + sizes / 2], 2) * STRIDE
        labels = F.floor_divide(index, rows * columns)
        boxes = F.clip_boxes_to_image(corners, self.input_size)
        return objects(boxes, F.sigmoid(logits), labels)


def _gaussians(xp: Any, cells: Array, sizes: Array, labels: Array, shape: Any) -> Array:
    """The wanted heatmap (N, C, h, w); objects with the label -1 are left out."""
    count, classes, rows, columns = shape
    sigma = (2 * 0.54 / 2 * xp.maximum(sizes, 0) + 1) / 6
    away = [
        xp.arange(n, dtype=cells.dtype) - cells[..., i, None] for i, n in ((0, columns), (1, rows))
    ]
    x, y = (xp.exp(-0.5 * (d / sigma[..., i, None]) ** 2) for i, d in enumerate(away))
    found = xp.zeros((classes + 1, rows, columns, count), cells.dtype)  # the last is for -1
    numbers = xp.arange(count)
    for m in range(labels.shape[1]):  # all pictures at once: no two of these are in one place
        at = labels[:, m], slice(None), slice(None), numbers
        found[at] = xp.maximum(found[at], y[:, m, :, None] * x[:, m, None, :])
    return xp.moveaxis(found[:-1], -1, 0)
