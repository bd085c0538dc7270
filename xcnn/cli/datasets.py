"""List the datasets, and where they are on this machine."""

from __future__ import annotations

import argparse

from .. import data
from . import sources
from .options import Parser, print_rows


def add_options(parser: Parser) -> None:
    sources.add_data_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    for name in data.names():
        record = data.info(name)
        train, test = record.counts
        title = f"{record.title}; {train:,} to train, {test:,} to test"
        print_rows([(name, title), ("", data.status(name, arguments.data_dir))])
