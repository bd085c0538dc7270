"""Show a page to draw on, and what a trained network says of the drawing.

xcnn demo runs/lenet5-digits-1
xcnn demo runs/lenet5-digits-1 --port 0 --no-browser
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import classifier
from .classifier import Classifier
from .options import Parser, seed

#: by dataset: how wide a pen draws as in its pictures, and how wide their border is, of the width
_DRAWING = {"digits": (0.18, 0.0), "mnist": (0.09, 4 / 28)}


def add_options(parser: Parser) -> None:
    parser.add("model RUN", "run folder from xcnn train, or an ONNX file")
    parser.add("--port N", "port to listen on; 0: any free one; default: 8000", type=seed)
    host = "address to listen on; for others than this machine, the page needs a token"
    parser.add("--host H", host, default="127.0.0.1")
    parser.add(
        "--token T",
        "token of the page, letters and digits; default: a new one if the host needs one",
    )
    parser.add("--no-browser", "only print the address", action="store_true")
    classifier.add_options(parser)


def run(arguments: argparse.Namespace) -> None:
    from .. import demo  # the server of the standard library takes a while to import

    opened = Classifier(arguments)
    explained = opened.explained_network()
    data = opened.config.get("data") or ""
    stroke, margin = _DRAWING.get(data, (0.09, 0.0))
    model = opened.config.get("model")
    title = f"{model} on {Path(data).name}" if model else Path(opened.name).name
    demo.serve(
        demo.Classifier(
            opened.network,
            opened.shape,
            opened.classes,
            opened.normalize,
            opened.probabilities,
            explained,
            opened.config["crop"],
            title,
            stroke,
            margin,
            arguments.invert,
        ),
        host=arguments.host,
        port=demo.PORT if arguments.port is None else arguments.port,
        token=arguments.token,
        open_browser=not arguments.no_browser,
    )
