"""Draw new pictures with a trained VAE or GAN.

xcnn sample runs/vae-digits-1
xcnn sample runs/dcgan-mnist-1 --count 100 --seed 1 --out new.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import data
from ..errors import ArgumentError
from ..files import write_atomically
from . import network
from .options import Parser, add_device, count, path, say, seed

_MOST = 10_000


def add_options(parser: Parser) -> None:
    parser.add("model RUN", "run folder from xcnn train, of a VAE or a GAN")
    parser.add("--out FILE.png", "file to write; default: samples.png", type=path)
    parser.add("--count N", "number of pictures", type=count, default=64)
    parser.add("--seed N", "the same seed draws the same pictures", type=seed, default=0)
    add_device(parser)


def run(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out or "samples.png")
    if out.suffix.lower() != ".png":
        raise ArgumentError(f"--out {out}: expected a name that ends in .png")
    if arguments.count > _MOST:
        raise ArgumentError(f"--count {arguments.count}: expected at most {_MOST:,}")
    if network.is_onnx(Path(arguments.model)):
        raise ArgumentError(f"{arguments.model} is a file: expected the run that it is from")
    trainer, task, _ = network.open_network(arguments)
    picture = task.samples(trainer, arguments.count, arguments.seed)
    if picture is None:
        raise ArgumentError(
            f"{arguments.model} was trained for {task.name}, which draws no new pictures: train "
            "for vae or gan"
        )
    write_atomically(out, data.encode_image(picture))
    say(f"{out}: {arguments.count:,} pictures, {picture.shape[2]}×{picture.shape[1]} pixels in all")
