"""What the page shows of a network for one picture."""

from __future__ import annotations

import base64
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import backends, explain
from ..arrays import Array
from ..checks import COLOURS, check_shape, check_texts
from ..data import decode_image
from ..errors import ArgumentError, DivergenceError
from ..nn import Module
from ..training import Trainer

_xp = backends.get("cpu").xp  # NumPy
_CHANNELS = 16  # of a stage, that the page shows
_PIXELS = 64  # along each side of a map that the page shows


@dataclass
class Classifier:
    """A network, and what the page must know about it.

    Attributes
    ----------
    model : Module
        Returns scores (N, C).
    input_shape : (C, H, W)
        With 1 or 3 channels. With 1, one can draw.
    classes : list of str
    normalize : callable
        From uint8 (N, C, H, W) to the network's inputs, such as
        :class:`~xcnn.data.Normalize`. None: divide by 255.
    probabilities : callable
        From uint8 (C, H, W) to probabilities (C,), or (1,) of the second of two classes. None:
        softmax of the scores.
    explained : Module
        The network that Grad-CAM explains; None: ``model``.
    crop : bool
        Crop pictures to the aspect ratio instead of distorting them.
    name : str
        The heading of the page.
    stroke : float
        Width of the pen as a fraction of the picture's, for drawings like the training data.
    margin : float
        Where the training data leave the border of the picture empty, its fraction of the width.
    invert : bool
        Whether the page at first inverts pictures that are not drawn.

    Raises
    ------
    ArgumentError
        ``input_shape`` is not that of a picture, or ``classes`` is not a list of names.
    """

    model: Module
    input_shape: Sequence[int]
    classes: Sequence[str]
    normalize: Callable[[Array], Array] | None = None
    probabilities: Callable[[Array], Array] | None = None
    explained: Module | None = None
    crop: bool = False
    name: str = "xcnn demo"
    stroke: float = 0.09
    margin: float = 0.0
    invert: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        shape = check_shape("input_shape", self.input_shape)
        if len(shape) != 3 or shape[0] not in COLOURS:
            raise ArgumentError(
                f"input_shape={shape}: the page shows pictures (C, H, W) with 1 or 3 channels"
            )
        self.input_shape, self.classes = shape, check_texts("classes", self.classes)
        self._stages: list[str] | None = None

    def describe(self) -> dict[str, Any]:
        """What the page must know before the first picture, for JSON."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "shape": list(self.input_shape),
            "crop": self.crop,
            "stroke": self.stroke,
            "margin": self.margin,
            "invert": self.invert,
        }

    def look(
        self, content: bytes, invert: bool = False, cam: bool = False, target: int | None = None
    ) -> dict[str, Any]:
        """Classify a picture; one at a time, whatever the number of threads.

        Parameters
        ----------
        content
            A PNG or JPEG file.
        invert
            Invert its pixels.
        cam
            Also compute Grad-CAM.
        target
            The class that it explains; None: the predicted one.

        Returns
        -------
        dict
            For JSON; arrays are uint8 in base64.

        Raises
        ------
        DataError
            It is not a picture.
        """
        shape: Any = self.input_shape
        with self._lock:
            with warnings.catch_warnings():  # decode_image refuses such pictures
                warnings.filterwarnings("ignore", "Image size .* exceeds limit")
                pixels = decode_image(content, shape, invert, self.crop, "the picture")
            normalize = self.normalize or (lambda x: x.astype("float32") / 255)
            x = normalize(pixels[None])
            found = [float(p) for p in self._probabilities(pixels, x)]
            if not all(map(math.isfinite, found)):
                raise DivergenceError("the outputs of the network are not finite")
            if len(found) == 1:  # of the second class
                found = [1 - found[0], found[0]]
            result: dict[str, Any] = {
                "probabilities": found,
                "input": _packed(pixels),
                "maps": self._maps(x),
            }
            if cam:
                chosen = max(range(len(found)), key=found.__getitem__) if target is None else target
                heat = explain.grad_cam(self.explained or self.model, x, target=chosen)
                result["cam"] = {"class": chosen, **_packed(_scaled(heat))}
        return result

    def _probabilities(self, pixels: Array, x: Array) -> Any:
        if self.probabilities is not None:
            return self.probabilities(pixels)
        return Trainer(self.model, loss="cross_entropy").predict(x)[0]

    def _maps(self, x: Array) -> list[dict[str, Any]]:
        """The first feature maps of every stage, each stage in its own range."""
        if self._stages is None:
            self._stages = list(explain.feature_maps(self.model, x, "stages"))
        maps = explain.feature_maps(self.model, x, self._stages)
        return [
            {"path": path, "channels": of.shape[1], "size": of.shape[2:], **_packed(_shown(of[0]))}
            for path, of in maps.items()
        ]


def _shown(maps: Array) -> Array:
    step = max(1, -(-max(maps.shape[1:]) // _PIXELS))
    return _scaled(maps[:_CHANNELS, ::step, ::step])


def _scaled(values: Array) -> Array:
    """Values as uint8, 0 or their minimum if it is below, to their maximum."""
    values = _xp.nan_to_num(values.astype("float64"))
    low = min(0.0, float(values.min()))
    spread = float(values.max()) - low
    return ((values - low) * (255 / spread if spread > 0 else 0)).round().astype("uint8")


def _packed(values: Array) -> dict[str, Any]:
    """An array (planes, H, W) for JSON."""
    data = base64.b64encode(values.tobytes()).decode()
    return {"shape": list(values.shape), "data": data}
