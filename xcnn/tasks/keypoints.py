"""Keypoints: the places of named points in each picture, such as joints, found as heatmaps."""

from __future__ import annotations

import json
import os
import re
import warnings
from typing import Any

from .. import data, nn
from .. import functional as F
from ..arrays import Array
from ..checks import check_number
from ..data import DataSplits
from ..errors import ArgumentError, DataError, ShapeError, printable
from ..extend import register_task
from ..tensor import Tensor
from ..training import Trainer
from .task import Exported, Option, Task

#: which points are joined by lines in pictures
_LIMBS = {"stick-figures": "0-1,1-2,1-3,1-4,2-5,2-6"}
_LEFT = re.compile("left|^l(?=[ _.-])")  # in a name in small letters
_SURE = 0.1  # points below this score are not drawn
# fmt: off
_COLOURS = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
            (145, 30, 180), (70, 240, 240), (240, 50, 230))
# fmt: on


class HeatmapLoss(nn.Loss):
    """The mean squared difference between heatmaps and Gaussians of height 1 at the keypoints.

    Tompson et al. 2014, "Joint training of a convolutional network and a graphical model for human
    pose estimation". Called with heatmaps (N, K, H, W) and keypoints (N, K, 2), or (N, K, 3) with
    the visibility; those of visibility 0 do not count. Predictions are what :class:`Peaks` returns.

    Parameters
    ----------
    sigma
        Standard deviation of the Gaussians in pixels.
    """

    target = "keypoints"

    def __init__(self, sigma: float = 1.5) -> None:
        super().__init__()
        self.sigma = check_number("sigma", sigma, 0, above=True)
        self.peaks = Peaks()

    def forward(self, output: Any, target: Any) -> Tensor:
        output, target = Tensor.of(output), Tensor.of(target)
        if output.ndim != 4 or target.ndim != 3 or target.shape[:2] != output.shape[:2]:
            raise ShapeError(
                f"heatmaps {output.shape} and keypoints {target.shape}: expected (N, K, H, W) and "
                "(N, K, 2), or (N, K, 3) with the visibility, for the same N and K"
            )
        xp, seen = output.backend.xp, _seen(target)
        dtype = xp.promote_types(output.dtype, "float32")  # float16 cannot count pixels
        points = target.data[..., :2].astype(dtype)
        bells = []
        for axis, side in enumerate(output.shape[:1:-1]):  # along x, then along y
            places = xp.where(seen, points[..., axis], 0)[..., None]
            distances = (xp.arange(side, dtype=dtype) - places) / self.sigma
            with output.backend.quiet_overflow():  # of a point far away
                bells.append(xp.exp(-0.5 * distances * distances).astype(output.dtype))
        truth = bells[1][..., :, None] * bells[0][..., None, :]  # (N, K, H, W)
        weight = seen[..., None, None].astype(output.dtype)
        height, width = output.shape[2:]
        count = xp.maximum(seen.sum(), 1).astype(output.dtype) * (height * width)
        loss: Tensor = F.sum(F.square(output - Tensor(truth)) * Tensor(weight)) / Tensor(count)
        return loss

    def prediction(self, output: Any) -> Tensor:
        points: Tensor = self.peaks(output)
        return points

    def divisor(self, output: Any, target: Any) -> Any:
        """The number of keypoints that count."""
        return _seen(Tensor.of(target)).sum()


def _right(left: re.Match[str]) -> str:
    return {"left": "right", "l": "r"}[left.group()]


def _seen(target: Tensor) -> Array:
    if target.shape[-1] == 3:
        return target.data[..., 2] > 0
    return target.backend.xp.ones(target.shape[:2], bool)


class Peaks(nn.Module):
    """The highest pixel of each heatmap, moved by a quarter pixel towards its higher neighbours.

    Along an axis on which it lies at the edge, it is not moved.

    From (N, K, H, W) to x, y and the height (N, K, 3). Source: Xiao et al. 2018, "Simple baselines
    for human pose estimation and tracking".
    """

    def forward(self, heatmaps: Any) -> Tensor:
        heatmaps = Tensor.of(heatmaps)
        height, width = heatmaps.shape[2:]
        flat = F.flatten(heatmaps, 2)
        best = F.argmax(flat, 2, keepdim=True)
        row, column = F.floor_divide(best, width), F.remainder(best, width)

        def near(down: int, across: int) -> Tensor:
            i, j = F.clamp(row + down, 0, height - 1), F.clamp(column + across, 0, width - 1)
            return F.gather(flat, 2, i * width + j)

        def moved(place: Tensor, side: int, slope: Tensor) -> Tensor:
            is_inside = F.eq(place, F.clamp(place, 1, side - 2))
            return F.astype(place, flat.dtype) + F.where(is_inside, F.sign(slope) * 0.25, 0.0)

        x = moved(column, width, near(0, 1) - near(0, -1))
        y = moved(row, height, near(1, 0) - near(-1, 0))
        return F.concat([x, y, near(0, 0)], 2)


@register_task
class Keypoints(Task):
    """The places of named points, from one heatmap each. See :class:`Task`.

    ``classes`` are the names of the points. Two that differ in "left" and "right" only, or in "l_"
    and "r_" at their beginning, change places when a picture is mirrored; the case of letters does
    not matter.
    """

    name = "keypoints"
    text = "the places of named points, such as joints"
    networks = ("hourglass",)
    datasets = tuple(n for n in data.names() if data.info(n).task == "keypoints")
    losses = {"mse": "one for each point, which is at its highest pixel"}
    measured = ("pck",)
    moves = "keypoints"
    classes_are = "points"
    crops = False
    defaults = {"batch_size": 32}
    options = {
        "limbs": Option(
            str,
            "",
            "pairs of points that pictures join by lines, such as 0-1,1-2",
            "A-B,...",
            used_by=("predict",),
        ),
        "sigma": Option(float, 1.5, "size of the spots to learn, in pixels", low=0.1, high=1000),
    }

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if not self.classes:
            raise ArgumentError("keypoints needs classes: pass the names of the points")
        pairs = [part.split("-") for part in self.limbs.split(",") if part]
        numbers = {str(n): n for n in range(len(self.classes))}
        if not all(len(p) == 2 and numbers.keys() >= set(p) for p in pairs):
            last = len(self.classes) - 1
            raise ArgumentError(
                f"limbs={self.limbs!r}: expected pairs of points such as 0-1, from 0 to {last}"
            )
        self._limbs = [(numbers[a], numbers[b]) for a, b in pairs]
        names = [name.lower() for name in self.classes]
        sides = [(name, _LEFT.sub(_right, name)) for name in names if _LEFT.search(name)]
        swapped = [(names.index(a), names.index(b)) for a, b in sides if b in names]
        self.move_settings = {"pairs": swapped}

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        """Images and ``keypoints.csv``, see :func:`xcnn.data.load_table_folder`."""
        found = data.load_table_folder(root, "keypoints.csv", "keypoints", **settings)
        for name, part in (("training", found.train), ("test", found.test)):
            if not (data.labels(part)[..., 2] > 0).any():
                text = f"{found.name}: keypoints.csv has no point inside of a {name} picture"
                if part is found.train:
                    raise DataError(f"{text}: expected x and y in pixels of the file, from 0")
                warnings.warn(f"{text}, so nothing can be measured", stacklevel=2)
        return found

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        limbs = options.get("limbs") or _LIMBS.get(dataset.name, "")
        return super().of_data(dataset, loss, **{**options, "limbs": limbs})

    def create_loss(self) -> nn.Loss:
        return HeatmapLoss(self.sigma)

    # -- predictions --------------------------------------------------------------------------

    def read(self, path: str | os.PathLike[str], invert: bool = False, crop: bool = False) -> Array:
        """The pixels of a file in its own size, uint8 (C, H, W)."""
        return data.read_image(path, (self.input_shape[0], None, None), invert)

    def predict_one(self, trainer: Trainer, pixels: Array) -> Array:
        """The points of a picture of any size, which is resized as a whole to the input."""
        found: Array = self.predict(trainer, self.resized(pixels))[0].copy()
        for axis in (0, 1):  # x, y
            zoom = pixels.shape[2 - axis] / self.input_shape[2 - axis]
            found[:, axis] = (found[:, axis] + 0.5) * zoom - 0.5
        return found

    def result(self, values: Any, count: int) -> str:
        return f"PCK {values['pck']:.2%} (points within a tenth of their figure's size)"

    def describe(self, prediction: Any, top: int = 3) -> str:
        points = zip(self.classes, prediction, strict=True)
        return "  ".join(f"{printable(name)} {x:.1f},{y:.1f}" for name, (x, y, _) in points)

    def compare(self, prediction: Any, target: Any) -> str:
        """Each point, and in brackets where it is."""
        rows = zip(self.classes, prediction, target, strict=True)
        places = (
            f"{printable(name)} {x:.1f},{y:.1f} ({f'{u:.1f},{v:.1f}' if seen else 'not visible'})"
            for name, (x, y, _), (u, v, seen) in rows
        )
        return ", ".join(places)

    def legend(self) -> dict[str, str]:
        colours = (f"#{bytes(_COLOURS[n % len(_COLOURS)]).hex()}" for n in range(len(self.classes)))
        return dict(zip(self.classes, colours, strict=True))

    def files(self, prediction: Any) -> dict[str, bytes]:
        """The points by name, as x, y and score."""
        points = {
            n: [round(float(v), 3) for v in p]
            for n, p in zip(self.classes, prediction, strict=True)
        }
        return {".json": json.dumps(points, indent=1).encode()}

    def draw(self, pixels: Array, prediction: Any) -> Array:
        """Limbs in grey, and a spot of its own colour for each point."""
        picture = pixels.repeat(3 // len(pixels), axis=0)
        width = max(pixels.shape) // 128  # of a limb, on both sides of its middle
        places = [(x, y) if score > _SURE else None for x, y, score in prediction.tolist()]
        for a, b in self._limbs:
            if (start := places[a]) and (end := places[b]):
                for share in (n / 100 for n in range(101)):
                    x, y = (p + share * (q - p) for p, q in zip(start, end, strict=True))
                    _spot(picture, x, y, width, (160, 160, 160))
        for n, place in enumerate(places):
            if place:
                _spot(picture, *place, 2 * width + 1, _COLOURS[n % len(_COLOURS)])
        return picture

    def exported(self, model: nn.Module, postprocess: bool = False) -> Exported:
        if not postprocess:
            return Exported(model, ("heatmaps",), self.losses[self.loss])
        network = nn.Sequential({"network": model, "peaks": Peaks()})
        return Exported(network, ("keypoints",), "x and y in pixels, and the height of the peak")


def _spot(picture: Array, x: float, y: float, radius: int, colour: tuple[int, ...]) -> None:
    """Paint a square around a pixel."""
    i, j = round(y), round(x)
    rows = slice(max(i - radius, 0), max(i + radius + 1, 0))
    columns = slice(max(j - radius, 0), max(j + radius + 1, 0))
    for channel, value in zip(picture, colour, strict=True):
        channel[rows, columns] = value
