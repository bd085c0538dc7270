"""List the datasets, and where they are on this machine."""

from __future__ import annotations

import argparse

from .. import data
from . import sources
from .options import Parser


def add_options(parser: Parser) -> None:
    sources.add_data_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    for name in data.names():
        record = data.info(name)
        train, test = record.counts
        print(f"{name:<14} {record.title}; {train:,} to train, {test:,} to test")
        print(f"{'':<14} {data.status(name, arguments.data_dir)}")
