"""List the datasets, and where they are on this machine.

xcnn datasets
xcnn datasets --data-dir ~/data
"""

from __future__ import annotations

import argparse

from .. import data
from . import sources
from .options import Parser, print_rows


def add_options(parser: Parser) -> None:
    sources.add_data_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    for name in data.names():
        record, status = data.info(name), data.status(name, arguments.data_dir)
        counts = [
            f"{count:,}" if count == whole else f"{count:,} of {whole:,}"
            for count, whole in zip(status.counts, record.counts, strict=True)
        ]
        title = f"{record.title}; {counts[0]} to train, {counts[1]} to test"
        print_rows([(name, title), ("", status)])
