"""Draw what a trained network sees in pictures, to a PNG file.

xcnn show runs/lenet5-digits-1
xcnn show runs/lenet5-digits-1 seven.png --method grad-cam,guided
xcnn show runs/lenet5-digits-1 --features --index 3
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import backends, explain, plot, tasks
from ..errors import ArgumentError, DataError, OutOfRangeError, did_you_mean, printable
from ..files import write_atomically
from ..nn import Module
from . import classifier, network, sources
from .classifier import Classifier
from .options import Parser, count, path, print_error, say

_FIRST = 6  # test pictures without --index
_MOST = 64  # pictures in a file

_Method = Callable[[Module, Any, Any, Any], Any]
#: by name: of the network, pictures, the layer and the classes
METHODS: dict[str, _Method] = {
    "grad-cam": explain.grad_cam,
    "gradient": lambda model, x, layer, target: explain.saliency(model, x, target),
    "guided": lambda model, x, layer, target: explain.saliency(model, x, target, method="guided"),
    "smooth": lambda model, x, layer, target: explain.saliency(model, x, target, method="smooth"),
    "integrated-gradients": lambda model, x, layer, target: explain.integrated_gradients(
        model, x, target
    ),
    "occlusion": lambda model, x, layer, target: explain.occlusion(model, x, target),
}
_DEFAULT = "grad-cam,integrated-gradients,occlusion"


#: the options that --help shows
_COMMON = ("model", "images", "out", "index", "method", "layer", "target", "features", "filters")


def add_options(parser: Parser) -> None:
    parser.common = (*_COMMON, "data", "invert", "device")
    parser.add("model RUN", "run folder from xcnn train, or an ONNX file")
    images = "PNG, JPEG or .npy file, or a folder of them; default: test images of the run"
    parser.add("images IMAGE", images, nargs="*", default=[])
    out = "file to write; default: show.png in the run folder, or next to the ONNX file"
    parser.add("--out FILE.png", out, type=path)
    parser.add("--index N,...", f"these test images; default: the first {_FIRST}", type=_indices)
    names = ", ".join(METHODS)
    method = f"maps to draw: some of {names}"
    parser.add(
        "--method NAME,...", method, type=_methods, default=_DEFAULT, suggested=METHODS, values=list
    )
    parser.add("--layer PATH", "layer for grad-cam or --filters; xcnn summary RUN lists them")
    parser.add("--class NAME", "class to explain; default: the predicted one", dest="target")
    features = "draw the feature maps of one picture instead"
    parser.add("--features", features, action="store_true")
    parser.add("--filters", "draw the filters of a convolution instead", action="store_true")
    sources.add_data(parser, "other test images, of the same shape and classes")
    classifier.add_options(parser)


def run(arguments: argparse.Namespace) -> bool:
    _check(arguments)
    arguments.limit = None
    model = Path(arguments.model)
    out = Path(arguments.out or (model.parent if network.is_onnx(model) else model) / "show.png")
    opened, failed = Classifier(arguments), 0
    if arguments.filters:
        figure = plot.filters(opened.network, arguments.layer)
    else:
        pixels, titles, failed = _pictures(opened, arguments, 1 if arguments.features else _MOST)
        if not titles:
            return True
        stack = backends.get("cpu").xp.stack
        pixels = stack(pixels)
        chances = stack([opened.probabilities(image) for image in pixels])
        if arguments.features:
            figure = _features(opened, pixels, titles[0], chances[0])
        else:
            figure = _explained(opened, arguments, pixels, titles, chances)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(out, buffer.getvalue())
    say(f"wrote {out}")
    return failed > 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    given = set(arguments.given)
    if arguments.features and arguments.filters:
        raise ArgumentError("--features and --filters: pass one of them")
    if arguments.images and given & {"index", "data", "data_dir"}:
        raise ArgumentError("--index and --data choose test images: leave them out, or the files")
    if "invert" in given and not arguments.images:
        raise ArgumentError("--invert is for files: leave it out, or pass some")
    if arguments.out and not arguments.out.lower().endswith(".png"):
        raise ArgumentError(f"--out {arguments.out}: expected a name that ends in .png")
    unused = {
        "filters": {"images", "index", "data", "method", "target"},
        "features": {"method", "target", "layer"},
    }
    for option, others in unused.items():
        wrong = {
            name for name in others if name in given or (name == "images" and arguments.images)
        }
        if getattr(arguments, option) and wrong:
            names = ", ".join(sorted(_spelled(name) for name in wrong))
            raise ArgumentError(f"--{option} does not use {names}: leave it out")
    if arguments.layer and not arguments.filters and "grad-cam" not in _methods(arguments.method):
        raise ArgumentError("--layer is for the method grad-cam and for --filters: leave it out")


def _spelled(name: str) -> str:
    return {"images": "pictures", "target": "--class"}.get(name, f"--{name}")


def _pictures(
    opened: Classifier, arguments: argparse.Namespace, most: int
) -> tuple[list[Any], list[str], int]:
    """Pixels (C, H, W) and titles of pictures, and how many files could not be read."""
    if not arguments.images:
        wanted, pixels, labels = _test_pictures(opened, arguments, most)
        names = [opened.classes[int(label)] for label in labels]
        titles = [f"test {n}: {printable(name)}" for n, name in zip(wanted, names, strict=True)]
        return [*pixels], titles, 0
    names = classifier.paths(arguments.images)
    _check_count(len(names), most)
    found = {}
    for n, name in enumerate(names):
        try:
            found[n] = opened.read(name)
        except DataError as error:
            print_error(error)
    titles = [printable(Path(names[n]).name) for n in found]
    return [*found.values()], titles, len(names) - len(found)


def _check_count(number: int, most: int) -> None:
    if number > most:
        what = "--features draws one picture" if most == 1 else f"at most {most} pictures in a file"
        raise ArgumentError(f"{number:,} pictures: {what}; pass fewer")


def _test_pictures(
    opened: Classifier, arguments: argparse.Namespace, most: int
) -> tuple[list[int], Any, Any]:
    """Numbers, pixels and labels of test images."""
    config = opened.config
    if "data" not in config and not arguments.data:
        raise ArgumentError(f"{opened.name} does not say what it was trained on: pass pictures")
    is_file = network.is_onnx(Path(opened.name))
    if is_file and not arguments.data and sources.is_folder(config["data"]):
        raise ArgumentError(
            f"{opened.name} was trained on {config['data']!r}, which is not the name of a dataset: "
            "pass pictures, or the folder of images as --data"
        )
    opened.count_classes()
    _, test = sources.test_data(arguments, opened.task, config)
    wanted = arguments.index or list(range(min(_FIRST, most, len(test))))
    _check_count(len(wanted), most)
    if max(wanted) >= len(test):
        raise OutOfRangeError(f"--index {max(wanted)}: there are {len(test):,} test images, from 0")
    pixels, labels = test.batch(backends.get("cpu").xp.asarray(wanted))
    return wanted, pixels, labels


def _features(opened: Classifier, pixels: Any, title: str, probabilities: Any) -> Any:
    maps = explain.feature_maps(opened.network, opened.normalize(pixels), "stages")
    if not maps:
        raise ArgumentError(f"{opened.name} has no layer whose outputs are images: no feature maps")
    figure = plot.feature_maps({printable(path): of for path, of in maps.items()})
    chances = tasks.of_each_class(probabilities)
    best = max(range(len(chances)), key=chances.__getitem__)
    text = f"{title}, predicted {printable(opened.classes[best])} ({chances[best]:.1%})"
    figure.suptitle(text, fontsize="medium", parse_math=False)
    return figure


def _explained(
    opened: Classifier,
    arguments: argparse.Namespace,
    pixels: Any,
    titles: list[str],
    probabilities: Any,
) -> Any:
    model, x = opened.explained_network(), opened.normalize(pixels)
    layers = dict(opened.network.named_modules())
    if arguments.layer and arguments.layer not in layers:
        hint = did_you_mean(arguments.layer, layers) or f"; xcnn summary {opened.name} lists them"
        raise ArgumentError(f"--layer {arguments.layer}: the network has no such layer{hint}")
    layer = layers.get(arguments.layer)
    target = None
    if arguments.target is not None:
        if arguments.target not in opened.classes:
            hint = did_you_mean(arguments.target, opened.classes)
            hint = hint or f": the classes are {', '.join(opened.classes[:20])}"
            raise ArgumentError(f"--class {arguments.target}: there is no such class{hint}")
        target = opened.classes.index(arguments.target)
    names = _methods(arguments.method)
    if layer is None and "grad-cam" in names and not explain.feature_maps(model, x[:1], "stages"):
        if "method" in arguments.given:
            raise ArgumentError(
                "--method grad-cam: no layer of the network has a spatial output; use gradient, "
                "which needs none"
            )
        names.remove("grad-cam")
    maps = {name: METHODS[name](model, x, layer, target) for name in names}
    what = "predicted class" if target is None else opened.classes[target]
    maps = {f"{name}\n{printable(what)}": of for name, of in maps.items()}
    classes = [printable(name) for name in opened.classes]
    return plot.explained(pixels, probabilities, maps, classes, titles=titles)


def _methods(text: str) -> list[str]:
    """Names separated by commas, each once."""
    names = [name.strip() for name in text.split(",")] if isinstance(text, str) else text
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in METHODS:
            hint = did_you_mean(name, METHODS) or f" (choose from {', '.join(METHODS)})"
            raise argparse.ArgumentTypeError(f"there is no method {name!r}{hint}")
    return names


def _indices(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    return [count(part.strip(), 0) for part in text.split(",")]
