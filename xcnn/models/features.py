"""Activations inside a VGG, or another chain of convolutions, that losses compare."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .. import backends, nn
from ..errors import ArgumentError, FileFormatError, did_you_mean, show
from ..files import AnyPath, read_json, reading
from ..serialize import load, read
from ..tensor import Buffer, Tensor
from .registry import register_block
from .vgg import vgg_features

#: of the pictures of ImageNet, from 0 to 1
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@register_block
class Features(nn.Module):
    """The activations of layers of a chain of convolutions, such as ``vgg19().features``.

    Layers are named as in the papers: "conv2_1" is the first convolution after the first pooling,
    "relu2_1" the activation after it, "pool2" the pooling that follows. The weights are frozen.

    Parameters
    ----------
    layers : Sequential
        Convolutions, activations, pooling, and perhaps batch norms.
    mean, std : sequence of float
        Of the normalisation of the pictures that it was trained on, from 0 to 1, by channel.

    Attributes
    ----------
    names : list of str
        The names of the layers.

    Raises
    ------
    ArgumentError
        The layers are not a Sequential that starts with a convolution.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
    >>> features = models.Features(layers)
    >>> features.names
    ['conv1_1', 'relu1_1', 'pool1', 'conv2_1']
    """

    def __init__(
        self,
        layers: nn.Sequential,
        mean: Sequence[float] = _MEAN,
        std: Sequence[float] = _STD,
    ) -> None:
        if not isinstance(layers, nn.Sequential) or not len(layers):
            raise ArgumentError(f"layers is {show(layers)}: expected a Sequential of convolutions")
        self.layers = layers.requires_grad_(False)
        self.names = _layer_names(layers)
        channels = layers[0].in_channels
        if not len(mean) == len(std) == channels:
            raise ArgumentError(
                f"mean={mean}, std={std}: expected {channels} numbers each, one for each channel"
            )
        xp = backends.get("cpu").xp
        self.mean = Buffer(xp.array(mean, "float32").reshape(-1, 1, 1))
        self.std = Buffer(xp.array(std, "float32").reshape(-1, 1, 1))
        self.eval()

    def forward(self, x: Any, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The activations of the named layers, or all, of pictures x (N, C, H, W) from 0 to 1."""
        wanted = self.check(self.names if names is None else names)
        x = (Tensor.of(x) - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.names, self.layers, strict=True):
            if len(found) == len(wanted):
                break
            x = layer(x)
            if name in wanted:
                found[name] = x
        return found

    def check(self, names: Collection[str]) -> set[str]:
        """The names of layers, if there are such layers.

        Raises
        ------
        ArgumentError
            There are not.
        """
        for name in names:
            if name not in self.names:
                hint = did_you_mean(name, self.names) or f": expected {', '.join(self.names)}"
                raise ArgumentError(f"the features have no layer {show(name)}{hint}")
        return set(names)

    def least_size(self, names: Collection[str]) -> int:
        """Height and width of pictures that leave a pixel in each of the named layers."""
        depth = 1 + max((self.names.index(name) for name in names), default=0)
        strides = [layer.stride[0] for layer in self.layers[:depth] if hasattr(layer, "stride")]
        return math.prod(strides)

    def spread(self) -> tuple[list[str], list[str]]:
        """The layers that losses compare by default: for the content, and for the style.

        Gatys et al. 2016 compare the content after the second convolution of the last group but
        one, "relu4_2" of a VGG, and the style after the first one of each group.
        """
        groups = sorted({name[4:].partition("_")[0] for name in self.names if "relu" in name})
        group = groups[-2] if len(groups) > 1 else groups[0]
        content = [name for name in self.names if name in (f"relu{group}_1", f"relu{group}_2")]
        return content[-1:], [f"relu{group}_1" for group in groups]


def _layer_names(layers: nn.Sequential) -> list[str]:
    names, group, number = [], 1, 0
    for layer in layers:
        kind = type(layer).__name__
        if isinstance(layer, nn.Conv2d):
            number += 1
            names.append(f"conv{group}_{number}")
        elif "Pool" in kind:
            names.append(f"pool{group}")
            group, number = group + 1, 0
        else:
            names.append(f"{'norm' if 'Norm' in kind else 'relu'}{group}_{number}")
    if names[0] != "conv1_1" or "relu1_1" not in names:
        raise ArgumentError(
            f"layers start with {type(layers[0]).__name__}: expected Conv2d, and activations, such "
            "as the features of a VGG"
        )
    return names


def load_features(path: AnyPath) -> Features:
    """Read the features of a file: weights of a VGG under torchvision's names, or a saved model.

    Parameters
    ----------
    path
        Weights of a VGG of any depth, such as torchvision's vgg19-dcbb9e9d.pth; or a file of
        :func:`xcnn.save` with :class:`Features`, or with a network that has ``features``, whose
        inputs are then normalised as those of ImageNet; or the folder of a run that trained such a
        network, which are normalised as they were for it.

    Raises
    ------
    FileNotFoundError, FileFormatError
        The file is missing or damaged, or has nothing of the kind.
    """
    more = {}
    if (folder := Path(path)).is_dir():
        if not (folder / "config.json").is_file():
            raise FileFormatError(f"{path} is a folder, but not of a run: {_WANTED}")
        config, path = read_json(folder / "config.json"), folder / "model.safetensors"
        with reading(folder / "config.json", "is damaged"):
            more = {name: [float(v) for v in config[name]] for name in ("mean", "std")}
    arrays, metadata = read(path)
    if "architecture" not in metadata:
        layers = vgg_features(arrays)
        if layers is None:
            raise FileFormatError(f"{path} has no weights of a VGG: {_WANTED}")
        return Features(layers)
    model = load(path)
    if isinstance(model, Features):
        return model
    layers = getattr(model, "features", None)
    if not isinstance(layers, nn.Sequential):
        raise FileFormatError(f"{path} has a {type(model).__name__} without features: {_WANTED}")
    return Features(layers, **more)


_WANTED = (
    "expected those of torchvision, or a run or a file of xcnn.save with a VGG or its features"
)
