"""Paint a picture in the style of another one.

xcnn style photo.jpg painting.jpg --features vgg19-dcbb9e9d.pth
xcnn style photo.jpg painting.jpg --features runs/vgg11-cifar10-1 --steps 100
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import backends, data, models, tasks
from .. import functional as F
from ..checks import check_number
from ..errors import ArgumentError
from ..files import write_atomically
from .options import Parser, add_device, count, path, say

_HIGHEST = 1e30  # float32 can still compute with it
_EVERY = 20  # steps from one line of output to the next


def add_options(parser: Parser) -> None:
    parser.add("content CONTENT", "the picture to paint")
    parser.add("style STYLE", "the picture in whose style")
    features = "weights of a VGG, such as torchvision's, or a run that trained one"
    parser.add("--features FILE", features, type=path, required=True)
    parser.add("--out FILE.png", "file to write; default: style.png", type=path)
    size = "shrink both pictures so that no side is longer than N pixels"
    parser.add("--size N", size, type=count, default=512)
    parser.add("--steps N", "steps of the optimiser", type=count, default=300)
    names = ["lbfgs", "adam"]
    parser.add("--optimizer NAME", "lbfgs or adam", choices=names, default=names[0])
    default_rate = "learning rate; default: 1 for lbfgs, 0.02 for adam"
    parser.add("--lr RATE", default_rate, type=rate, values=float)
    parser.section("the loss")
    for name, default in (("content", 1.0), ("style", 1e6), ("tv", 0.0)):
        what = "the differences of neighbouring pixels" if name == "tv" else f"the {name}"
        given: dict[str, Any] = {"type": weight, "values": float, "default": default}
        parser.add(f"--{name}-weight X", f"weight of {what}", **given)
    for name in ("content", "style"):
        layers = f"layers whose activations give the {name}, separated by commas, such as relu4_2"
        parser.add(f"--{name}-layers NAMES", layers, values=list)
    parser.section("device")
    add_device(parser)
    parser.add("--quiet", "print only the last line", action="store_true")


def run(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out or "style.png")
    if out.suffix.lower() != ".png":
        raise ArgumentError(f"--out {out}: expected a name that ends in .png")
    backend = backends.get(arguments.device)
    features = models.load_features(arguments.features).to(backend)
    content, style = (
        _read(file, len(features.mean.data), arguments.size)
        for file in (arguments.content, arguments.style)
    )
    given = {k: getattr(arguments, k) for k in ("content_weight", "style_weight", "tv_weight")}
    for name in ("content_layers", "style_layers"):
        if text := getattr(arguments, name):
            given[name] = [layer.strip() for layer in text.split(",")]

    def report(step: int, content: float, style: float) -> None:
        if (step % _EVERY == 0 or step in (1, arguments.steps)) and not arguments.quiet:
            say(f"step {step:,}/{arguments.steps:,}: content {content:.4g}, style {style:.4g}")

    found = tasks.style_transfer(
        content,
        style,
        features,
        arguments.steps,
        arguments.optimizer,
        arguments.lr,
        callback=report,
        **given,
    )
    pixels = tasks.as_pixels(found.picture.numpy()[0])
    write_atomically(out, data.encode_image(pixels))
    say(f"{out}: {pixels.shape[2]}×{pixels.shape[1]} pixels")


def weight(text: str) -> float:
    """A weight in the loss."""
    return check_number("weight", float(text), 0, _HIGHEST)


def rate(text: str) -> float:
    """A learning rate."""
    return check_number("lr", float(text), 0, _HIGHEST, above=True)


def _read(file: str, channels: int, size: int) -> Any:
    """A picture (1, C, H, W) from 0 to 1, no side longer than ``size``."""
    pixels = data.read_image(file, (channels, None, None))
    factor = min(1.0, size / max(pixels.shape[1:]))
    sides = tuple(max(1, round(length * factor)) for length in pixels.shape[1:])
    picture = pixels[None].astype("float32") / 255
    return F.interpolate(picture, sides, mode="bilinear", antialias=True)
