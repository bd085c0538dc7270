"""Show the layers of a network: shapes, parameters, multiply-adds and memory.

xcnn summary resnet18
xcnn summary resnet20 --input-shape 3,32,32 --classes 10
xcnn summary runs/lenet5-digits-1
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from .. import init, models, onnx
from ..errors import ArgumentError, did_you_mean
from ..notebook import terminal_width
from ..summary import summary
from .network import MAX_INPUT, describe_inputs, is_onnx
from .options import Parser, count, shape
from .run_folder import RunFolder


def add_options(parser: Parser) -> None:
    names = models.names()
    about = f"a name, a run folder or an ONNX file; the names: {', '.join(names)}"
    parser.add("model MODEL", about, suggested=names)
    parser.add("--input-shape C,H,W", "shape of one example; default: the model's", type=shape)
    parser.add("--classes N", "number of classes; default: the model's", type=count)


def run(arguments: argparse.Namespace) -> None:
    name, path = arguments.model, Path(arguments.model)
    if name in models.names():
        input_shape = arguments.input_shape or models.default(name, "input_shape")
        classes = arguments.classes or models.default(name, "num_classes")
        with init.skipped():  # the values do not matter
            model = models.create(name, num_classes=classes, input_shape=input_shape)
    elif not path.is_dir() and not is_onnx(path):
        hint = did_you_mean(name, models.names())
        hint = hint or f"; the models are {', '.join(models.names())}"
        raise ArgumentError(
            f"{name!r} is not a model, a run folder or a file that ends in .onnx{hint}"
        )
    elif arguments.classes:
        raise ArgumentError("--classes applies to a model name: runs and files define their own")
    elif path.is_dir():
        folder = RunFolder(path)
        input_shape = arguments.input_shape or tuple(folder.load_config()["input_shape"])
        model = folder.load_model()
    else:
        model, input_shape = _read_onnx(name, arguments.input_shape)
    print(summary(model, input_shape, terminal_width(sys.stdout)))


def _read_onnx(path: str, shape: tuple[int, ...] | None) -> tuple[Any, tuple[int, ...]]:
    """The network of an ONNX file, for any batch size, and the shape of an example."""
    model = onnx.load(path)
    for name, declared in model.inputs.items():
        model.inputs[name] = (None, *declared[1:]) if declared else declared
    if len(model.inputs) != 1:
        raise ArgumentError(
            f"{path} takes {describe_inputs(model)}: a summary requires a network with one input"
        )
    (declared,) = model.inputs.values()
    shape = shape or tuple(declared[1:] if declared else ())
    is_known = shape and all(isinstance(n, int) for n in shape)
    if not is_known or math.prod(shape) > MAX_INPUT:
        raise ArgumentError(
            f"{path} takes {describe_inputs(model)}: pass the shape of one example as --input-shape"
        )
    return model, shape
