"""The program ``xcnn``: train, evaluate, predict, export, summary, doctor, warmup, datasets."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__, data, models
from ..backends import PRECISIONS
from ..data import recipes
from ..errors import LINES, ArgumentError, XcnnError, printable
from . import deploy, info, optimization, sources, train, use
from .runs import LOSSES

_MODEL = "run folder of xcnn train, or an ONNX file"
_EXPORTED = "run folder of xcnn train, or what xcnn export made of one"
_UNITS = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "k": 2**10, "m": 2**20, "g": 2**30},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv
        Arguments; None: those of the process.

    Returns
    -------
    int
        Exit status: 0 done, 2 something is missing or wrong (told on standard error), 130
        stopped by Ctrl-C.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            status = arguments.run(arguments)
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        print("\nxcnn: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (XcnnError, OSError) as error:
        print(f"xcnn: error: {printable(str(error), keep=LINES)}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"xcnn: error: out of memory: {error}", file=sys.stderr)
        return 2


def _show_warning(message: Warning | str, *where: Any) -> None:
    """For users of the program: without the place in the code."""
    print(f"xcnn: warning: {printable(str(message), keep=LINES)}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xcnn", description="Train, look at and use convolutional networks."
    )
    parser.add_argument("--version", action="version", version=f"xcnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_summary(commands)
    doctor = commands.add_parser("doctor", help="versions, devices, BLAS: what this machine has")
    doctor.set_defaults(run=info.doctor)
    warmup = commands.add_parser("warmup", help="compile all CUDA kernels now")
    _add_device(warmup)
    warmup.set_defaults(run=info.warmup)
    datasets = commands.add_parser("datasets", help="the data sets and where they are")
    _add_data_dir(datasets)
    datasets.set_defaults(run=info.datasets)
    return parser


class _Formatter(argparse.HelpFormatter):
    """Names the defaults that there are."""

    def _get_help_string(self, action: argparse.Action) -> str:
        named = action.default is not None and action.option_strings and action.nargs != 0
        return (action.help or "") + (f"; default: {action.default}" if named else "")


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network; without arguments, LeNet-5 on handwritten digits",
        formatter_class=_Formatter,
    )
    parser.set_defaults(run=train.run)
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        choices=models.names(),
        metavar="MODEL",
        help=f"{', '.join(models.classifiers())}; default: lenet5 for images, mlp for features",
    )
    add(
        "--data",
        default="digits",
        type=sources.name_or_folder,
        metavar="NAME",
        help=f"data set: {', '.join(data.names())}; or a folder of pictures, with a folder for "
        "each class in train/ and test/ (or val/), or directly: then a fifth is held out",
    )
    _add_data_dir(parser)
    _add_folder(parser)
    _add_augment(parser)
    add(
        "--epochs",
        type=_count,
        metavar="N",
        help="passes over the data; default: 20 for the small data sets, 5 for the others",
    )
    add("--batch-size", type=_count, default=64, metavar="N", help="images per step")
    optimization.add_options(parser, _count)
    add(
        "--loss",
        default="cross_entropy",
        choices=LOSSES,
        metavar="NAME",
        help=f"{', '.join(LOSSES)}; the binary ones need two classes",
    )
    add(
        "--init",
        metavar="FILE",
        help="safetensors or ONNX file of weights to start from, by name; torchvision's have ours",
    )
    add(
        "--new-head",
        action="store_true",
        help="with --init: weights of another shape than in the file start anew",
    )
    add(
        "--freeze",
        action="append",
        metavar="PATTERN",
        help="do not train parameters of such names, as 'features.*'; may be repeated. Batch-norms "
        "go on averaging",
    )
    add(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="of weights and order: same seed, same run",
    )
    _add_device(parser)
    add(
        "--precision",
        default="float32",
        choices=PRECISIONS,
        help="of matrix products; tf32 and float16 (with float32 weights) need a GPU",
    )
    add(
        "--memory-limit",
        type=_size,
        metavar="SIZE",
        help="most memory to take of a GPU, such as 4GiB or 800MiB; default: all of it",
    )
    add("--out", metavar="DIR", help="run folder; default: runs/MODEL-DATA-N, N being free")
    add(
        "--limit",
        type=_count,
        metavar="N",
        help="use N images of each part only: the first ones; of a folder, some chosen by --seed",
    )
    add("--quiet", action="store_true", help="print the last line only")


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("evaluate", help="loss and accuracy of a trained network")
    parser.add_argument("model", metavar="RUN", help=_EXPORTED)
    parser.add_argument(
        "--data",
        type=sources.name_or_folder,
        metavar="NAME",
        help="another data set of the same shape and classes, or a folder of pictures",
    )
    _add_data_dir(parser)
    _add_device(parser)
    parser.add_argument("--batch-size", type=_count, default=256, metavar="N")
    parser.add_argument("--limit", type=_count, metavar="N", help="the first N test images only")
    parser.set_defaults(run=use.evaluate)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("predict", help="classes of image files")
    parser.add_argument("model", metavar="RUN", help=_MODEL)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="PNG, JPEG or .npy file")
    parser.add_argument(
        "--invert",
        action="store_true",
        help="swap light and dark first: for dark strokes on a light ground",
    )
    parser.add_argument("--top", type=_count, default=3, metavar="N", help="classes to show")
    for option, what in (("mean", "means"), ("std", "standard deviations")):
        parser.add_argument(
            f"--{option}",
            type=_numbers,
            metavar="X,...",
            help=f"of an ONNX file that does not say so: {what} of the pixels' channels, from 0 to "
            "1, that its training took",
        )
    parser.add_argument(
        "--classes", metavar="FILE", help="of such an ONNX file: names of its classes, a line each"
    )
    _add_device(parser)
    parser.set_defaults(run=use.predict)


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("export", help="a trained network as an ONNX file")
    parser.add_argument("folder", metavar="RUN", help="run folder of xcnn train")
    parser.add_argument("file", metavar="FILE", help="where to write it, such as model.onnx")
    parser.set_defaults(run=deploy.export)


def _add_summary(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "summary", help="layers, shapes, parameters, multiply-adds, memory"
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"a name ({', '.join(models.names())}), a run folder or an ONNX file",
    )
    parser.add_argument(
        "--input-shape", type=_shape, metavar="C,H,W", help="default: that of the model or run"
    )
    parser.add_argument("--classes", type=_count, metavar="N", help="default: those of the model")
    parser.set_defaults(run=info.summary)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder to look for data in, before $XCNN_DATA and the cache",
    )


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-size",
        type=_count,
        metavar="N",
        help="of a folder of pictures: resized to N×N, the middle kept; default: 64",
    )
    parser.add_argument("--grey", action="store_true", help="pictures of a folder without colours")
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out files of a folder that are no pictures or are damaged, with a warning",
    )


def _add_augment(parser: argparse.ArgumentParser) -> None:
    texts = [f"{name} ({recipe.text})" for name, recipe in recipes.RECIPES.items()]
    parser.add_argument(
        "--augment",
        type=_augment,
        default="none",
        metavar="NAMES",
        help="change training images at random: names separated by commas, of "
        + ", ".join(texts).replace("%", "%%")
        + "; standard: what suits the data set, such as flip,crop for photographs",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="cpu, cuda, cuda:N or auto (a GPU if there is one)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def _augment(text: str) -> str:
    try:
        recipes.parse(text)
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", text.lower())
    size = int(float(found[1]) * _UNITS.get(found[2], 0)) if found else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4GiB or 800MiB")
    return size


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers such as 0.5,0.4") from None


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape such as 1,28,28")
    return shape
