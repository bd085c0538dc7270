"""Style transfer: pictures painted in the style of another one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from .. import data, models, nn, optim
from .. import functional as F
from ..arrays import Array
from ..checks import check_choice, check_int, check_number
from ..data import DataSplits
from ..errors import ArgumentError, DataError, DivergenceError, ShapeError
from ..extend import register_task
from ..models import Features
from ..tensor import Parameter, Tensor, no_grad
from ..training import Trainer
from .autoencoder import InputAsTarget, OfPictures, as_pixels
from .task import Exported, Option, Task

_OPTIMIZERS = ("lbfgs", "adam")
#: of weights and learning rates: float32 can still compute with it
HIGHEST = 1e30


class Stylized(NamedTuple):
    """The result of :func:`style_transfer`.

    Attributes
    ----------
    picture : Tensor
        (1, C, H, W), from 0 to 1, on the device of the features.
    content_losses, style_losses : list of float
        Before each step, weighted.
    """

    picture: Tensor
    content_losses: list[float]
    style_losses: list[float]


def gram_matrix(input: Any) -> Tensor:
    """The products of all pairs of channels (N, C, H, W), summed over pixels: (N, C, C) / (C·H·W).

    Source: Gatys et al. 2016, "Image style transfer using convolutional neural networks".
    """
    x = F.flatten(input, 2)
    return F.matmul(x, F.transpose(x, 1, 2)) / (x.shape[1] * x.shape[2])


class StyleLoss(nn.Loss):
    """Content and style loss of pictures (N, C, H, W) from 0 to 1: (output, content) to a number.

    ``content_weight`` times the mean squared differences of the activations of output and content,
    plus ``style_weight`` times those of the Gram matrices of output and style, plus ``tv_weight``
    times the mean absolute difference of neighbouring pixels (total variation).

    Sources: Gatys et al. 2016, "Image style transfer using convolutional neural networks"; Johnson
    et al. 2016, "Perceptual losses for real-time style transfer and super-resolution".

    Parameters
    ----------
    features : Features
    style
        The picture (C, H, W) or (1, C, H, W), uint8 or floats from 0 to 1.
    content_layers, style_layers
        Names of layers; default: :meth:`xcnn.models.Features.spread`.
    content_weight, style_weight, tv_weight
        From 0 to 1e30.

    Raises
    ------
    ArgumentError
        Unknown layers, or a weight out of range.
    ShapeError
        The style is not one picture, or is too small for the layers.
    """

    term_names = ("content_loss", "style_loss")
    _last: tuple[Any, Any, dict[str, Tensor]] = (None, None, {})

    def __init__(
        self,
        features: Features,
        style: Any,
        content_layers: Sequence[str] | None = None,
        style_layers: Sequence[str] | None = None,
        content_weight: float = 1.0,
        style_weight: float = 1e6,
        tv_weight: float = 0.0,
    ) -> None:
        self.reduction = "mean"
        content, own = features.spread()
        self.content_layers = content if content_layers is None else list(content_layers)
        self.style_layers = own if style_layers is None else list(style_layers)
        self.layers = features.check([*self.content_layers, *self.style_layers])
        weights = {"content": content_weight, "style": style_weight, "tv": tv_weight}
        self.weights = {k: check_number(f"{k}_weight", v, 0, HIGHEST) for k, v in weights.items()}
        self.features = features
        self.least = max(2, features.least_size(self.layers))  # of height and width
        picture = self.picture("style", style)
        with no_grad():
            found = features(picture, self.style_layers)
            self.grams = {name: gram_matrix(value) for name, value in found.items()}

    def picture(self, name: str, picture: Any) -> Tensor:
        """:func:`as_picture` of one that the layers can be computed of.

        Raises
        ------
        ShapeError
            It is not one picture, or is too small.
        """
        x = as_picture(name, picture, self.features)
        if min(x.shape[2:]) < self.least:
            raise ShapeError(
                f"{name} has {x.shape[3]}×{x.shape[2]} pixels: these layers need at least "
                f"{self.least}×{self.least}"
            )
        return x

    def content_of(self, picture: Any) -> dict[str, Tensor]:
        """The activations that the content of pictures is compared by."""
        with no_grad():
            return self.features(picture, self.content_layers)

    def compare(self, output: Any, content: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms, of pictures (N, C, H, W) and :meth:`content_of` the others.

        The style loss includes the total variation.
        """
        found = self.features(output, self.layers)
        about: Any = sum(F.mse_loss(found[n], content[n]) for n in self.content_layers)
        style: Any = 0.0
        for name in self.style_layers:
            gram = gram_matrix(found[name])
            style = style + F.mse_loss(gram, F.expand(self.grams[name], gram.shape))
        style = style * self.weights["style"]
        if self.weights["tv"]:
            rows = F.abs(output[:, :, 1:] - output[:, :, :-1]).mean()
            columns = F.abs(output[:, :, :, 1:] - output[:, :, :, :-1]).mean()
            style = style + (rows + columns) * self.weights["tv"]
        return {"content_loss": about * self.weights["content"], "style_loss": style}

    def forward(self, input: Any, target: Any) -> Tensor:
        terms = self.compare(input, self.content_of(target))
        self._last = input, target, {name: Tensor(term.data) for name, term in terms.items()}
        return terms["content_loss"] + terms["style_loss"]

    def terms(self, output: Any, target: Any) -> dict[str, Tensor]:
        if self._last[0] is output and self._last[1] is target:  # the metrics of a batch
            return self._last[2]
        return self.compare(output, self.content_of(target))

    def __deepcopy__(self, memo: Any) -> StyleLoss:
        return self  # nothing in it changes, and the features may be large

    def prediction(self, output: Any) -> Tensor:
        return F.clamp(output, 0, 1)


def style_transfer(
    content: Any,
    style: Any,
    features: Features,
    steps: int = 300,
    optimizer: str = "lbfgs",
    lr: float | None = None,
    start: Any = None,
    callback: Callable[[int, float, float], Any] | None = None,
    **settings: Any,
) -> Stylized:
    """Change the pixels of a picture until it has the content of one and the style of another.

    Source: Gatys et al. 2016, "Image style transfer using convolutional neural networks".

    Parameters
    ----------
    content, style
        Pictures (C, H, W) or (1, C, H, W), uint8 or floats from 0 to 1, of any two sizes.
    features : Features
        On the device to compute on.
    steps
        Of the optimiser; pixels are clipped to 0 to 1 after each.
    optimizer
        "lbfgs" or "adam".
    lr
        Its learning rate; default: 1 for "lbfgs", 0.02 for "adam".
    start
        The picture to start from; default: the content.
    callback
        Called before each step with its number, from 1, and the weighted content and style losses.
    **settings
        Layers and weights: arguments of :class:`StyleLoss`.

    Raises
    ------
    ArgumentError
        A setting out of range, or unknown layers.
    ShapeError
        One of the pictures is not a picture, or too small for the layers; or ``start`` has not the
        shape of the content.
    DivergenceError
        A loss or the picture is infinite or NaN.
    """
    check_choice("optimizer", optimizer, _OPTIMIZERS)
    if lr is not None:
        check_number("lr", lr, 0, HIGHEST, above=True)
    loss = StyleLoss(features, style, **settings)
    wanted = loss.picture("content", content)
    first = wanted if start is None else as_picture("start", start, features)
    if first.shape != wanted.shape:
        raise ShapeError(f"start has shape {first.shape}: expected that of content, {wanted.shape}")
    activations = loss.content_of(wanted)
    picture = Parameter(first.data.copy())
    if optimizer == "lbfgs":
        search: Any = {"max_eval": 25, "line_search_fn": "strong_wolfe"}  # else the loss may rise
        first_lr = 1.0 if lr is None else lr
        algorithm: Any = optim.LBFGS([picture], lr=first_lr, max_iter=1, **search)
    else:
        algorithm = optim.Adam([picture], lr=0.02 if lr is None else lr)
    losses: list[tuple[float, float]] = []
    step = 0
    xp = picture.backend.xp

    def closure() -> Tensor:
        picture.grad = None
        terms = loss.compare(picture, activations)
        if len(losses) == step:  # the first of the step, which may search
            losses.append((terms["content_loss"].item(), terms["style_loss"].item()))
        total = terms["content_loss"] + terms["style_loss"]
        total.backward()
        return total

    for step in range(check_int("steps", steps, 0)):
        with picture.backend.quiet_overflow():  # which is reported
            if optimizer == "lbfgs":
                algorithm.step(closure)
            else:
                closure()
                algorithm.step()
            xp.clip(picture.data, 0, 1, out=picture.data)
        if not (math.isfinite(sum(losses[-1])) and xp.isfinite(picture.data).all()):
            raise DivergenceError(
                f"the optimisation diverged at step {step + 1}, with a content loss of "
                f"{losses[-1][0]:g} and a style loss of {losses[-1][1]:g}: use smaller weights or "
                "a smaller lr"
            )
        if callback is not None:
            callback(step + 1, *losses[-1])
    content_losses, style_losses = ([pair[i] for pair in losses] for i in (0, 1))
    return Stylized(Tensor(picture.data), content_losses, style_losses)


def as_picture(name: str, picture: Any, features: Features) -> Tensor:
    """A picture as (1, C, H, W) from 0 to 1, on the device of the features and of their dtype.

    Raises
    ------
    ShapeError
        It is not one picture, or has other channels than the features take.
    """
    x = Tensor.of(picture)
    channels = features.mean.shape[0]
    if x.ndim == 3:
        x = F.unsqueeze(x, 0)
    if x.ndim != 4 or x.shape[0] != 1 or x.shape[1] != channels:
        raise ShapeError(
            f"{name} has shape {Tensor.of(picture).shape}: expected one picture, ({channels}, H, W)"
        )
    scale = 255.0 if x.dtype.kind in "iu" else 1.0
    return Tensor(x.data.astype(features.mean.dtype) / scale).to(features.mean.backend)


# -- a network for one style ----------------------------------------------------------------------


@register_task
class StyleTransfer(OfPictures):
    """Pictures in the style of one picture, by a network. See :class:`Task`.

    Inputs and targets are pictures from 0 to 1; a prediction is clipped to this range.
    """

    name = "style-transfer"
    text = "the same picture in the style of another one"
    least = 16
    networks = ("transformer_net",)
    datasets = ("photo-crops",)
    losses = {"perceptual": "the picture in the style, from 0 to 1"}
    measured = StyleLoss.term_names
    options = {
        "style": Option(str, None, "the picture whose style is learned", "FILE"),
        "features": Option(
            str, None, "weights of a VGG, such as torchvision's, or a run that trained one", "FILE"
        ),
        "content_weight": Option(float, 1.0, "weight of the content in the loss", low=0),
        "style_weight": Option(float, 1e5, "weight of the style in the loss", low=0),
        "tv_weight": Option(
            float, 0.0, "weight of the differences of neighbouring pixels in the loss", low=0
        ),
    }
    image_size = 256
    crops = False
    style: str | None
    features: str | None

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        for name in ("style", "features"):
            if options.get(name) is None:
                raise ArgumentError(
                    f"style-transfer needs {cls.options[name].text}: pass --{name} FILE"
                )
            options[name] = os.path.abspath(Path(options[name]).expanduser())
        found: Any = super().of_data(dataset, loss, **options)
        taken, (channels, *size) = found.load_loss("cpu"), dataset.image_shape
        if taken.features.mean.shape[0] != channels or min(size) < taken.least:
            raise ArgumentError(
                f"{dataset.name} has {'×'.join(map(str, dataset.image_shape))} numbers per example:"
                f" the features need {taken.features.mean.shape[0]} channels (--grey makes one) "
                f"and at least {taken.least}×{taken.least} pixels (--image-size)"
            )
        return cast(Task, found)

    def load_loss(self, backend: Any) -> StyleLoss:
        """The loss, of the files that the options name.

        Raises
        ------
        DataError, FileFormatError, ShapeError
            A file is not there, damaged, or not of the right kind.
        """
        for name in ("style", "features"):
            if not os.path.exists(file := getattr(self, name)):
                raise DataError(
                    f"{name}={file!r}: there is no such file; if that of a run was moved, store "
                    f"where it is now with: xcnn train --resume RUN --{name} FILE"
                )
        features = models.load_features(str(self.features)).to(backend)
        style = data.read_image(str(self.style), (len(features.mean.data), None, None))
        names = ("content_weight", "style_weight", "tv_weight")
        return StyleLoss(features, style, **{name: getattr(self, name) for name in names})

    def transform(self, augment: str | None = None) -> Any:
        return data.Compose([super().transform(augment), InputAsTarget()])

    def create_loss(self) -> nn.Loss:
        return _LoadedLoss(self)

    def result(self, values: Mapping[str, Any], count: int) -> str:
        return f"content loss {values['content_loss']:.4f}, style loss {values['style_loss']:.4f}"

    def read(self, path: str | os.PathLike[str], invert: bool = False, crop: bool = False) -> Array:
        """The pixels of a file in its own size, uint8 (C, H, W)."""
        pixels = data.read_image(path, (self.input_shape[0], None, None), invert)
        if min(pixels.shape[1:]) < self.least:
            raise DataError(
                f"{path} has {pixels.shape[2]}×{pixels.shape[1]} pixels: {self.name} needs at "
                f"least {self.least}×{self.least}"
            )
        return pixels

    def predict(self, trainer: Trainer, x: Array) -> list[Any]:
        height, width = x.shape[2:]
        return list(trainer.predict(x)[:, :, :height, :width])

    def exported(self, model: nn.Module, postprocess: bool = False) -> Exported:
        if postprocess:
            model = nn.Sequential({"network": model, "clip": nn.Hardtanh(0, 1)})
        text = self.losses[self.loss] + ("" if postprocess else ": clip it")
        text += "; height and width are multiples of 4: cut off what exceeds those of the input"
        return Exported(model, ("output",), text, any_size=True)

    def describe(self, prediction: Any, top: int = 3) -> str:
        return f"{prediction.shape[2]}×{prediction.shape[1]} pixels"

    def compare(self, prediction: Any, target: Any) -> str:
        return ""  # its pictures say it all

    def draw(self, pixels: Array, prediction: Any) -> Array | None:
        return as_pixels(prediction)

    def show(self, pixels: Array, x: Array, y: Any, prediction: Any) -> dict[str, Array]:
        return {"Picture": as_pixels(y), "Prediction": as_pixels(prediction)}


class _LoadedLoss(nn.Loss):
    """The StyleLoss of a task; its files are read by the first call: predictions need none."""

    term_names = StyleLoss.term_names
    prediction = StyleLoss.prediction

    def __init__(self, task: StyleTransfer) -> None:
        super().__init__()
        self._task: Any = task
        self._loss: StyleLoss | None = None

    def forward(self, input: Any, target: Any) -> Tensor:
        return self._of(input)(input, target)

    def terms(self, output: Any, target: Any) -> dict[str, Tensor]:
        return self._of(output).terms(output, target)

    def __deepcopy__(self, memo: Any) -> _LoadedLoss:
        return self

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        self._of(inputs[0])  # an error of the files is none of a layer
        return super().__call__(*inputs, **settings)

    def _of(self, output: Any) -> StyleLoss:
        if self._loss is None:
            self._loss = self._task.load_loss(Tensor.of(output).backend)
        return self._loss
