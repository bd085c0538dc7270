"""Pack a folder of images into tar shards, for data sets that are too large for many files.

xcnn pack photos/ shards/
xcnn pack mnist shards/ --shard-size 16MiB
xcnn train --data shards/
"""

from __future__ import annotations

import argparse

from .. import data
from . import sources
from .options import Parser, count, path, say, seed, size


def add_options(parser: Parser) -> None:
    parser.add(
        "source FOLDER",
        "folder of images, as for xcnn train --data, or a dataset",
        type=sources.name_or_folder,
    )
    parser.add("out OUT", "folder for the shards; it must be new or empty", type=path)
    parser.add("--shard-size SIZE", "size of a shard", type=size, default="256MiB")
    parser.add("--shard-items N", "at most N images in a shard", type=count)
    held_out = "seed of the order and the held-out test images"
    parser.add("--seed N", held_out, type=seed, default=0)
    skip = "leave out damaged images, with a warning; each image is decoded to find them"
    parser.add("--skip-unreadable", skip, action="store_true")
    sources.add_data_dir(parser)
    parser.add("--quiet", "print nothing", action="store_true")


def run(arguments: argparse.Namespace) -> None:
    if sources.is_folder(arguments.source):
        sources.check_layout(arguments.source, option="")
    counts = data.pack(
        arguments.source,
        arguments.out,
        arguments.shard_size,
        arguments.shard_items,
        arguments.seed,
        "skip" if arguments.skip_unreadable else "refuse",
        arguments.data_dir,
        progress=not arguments.quiet,
    )
    if not arguments.quiet:
        texts = (
            f"{images:,} {'image' if images == 1 else 'images'} to {split} in "
            f"{shards:,} {'shard' if shards == 1 else 'shards'}"
            for split, (images, shards) in counts.items()
        )
        say(f"{arguments.out}: {', '.join(texts)}")
