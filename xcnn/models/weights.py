"""Weights of a file, or of a URL, for a network."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..arrays import Array
from ..checks import check_path
from ..data import sources
from ..errors import ArgumentError, DataError, StateDictError
from ..files import AnyPath
from ..nn import Module
from ..serialize import load_state

MAX_BYTES = 2**32  # of a download
_URL = re.compile(r"(https?)://\S*/(\w[\w.+-]*)(?:#sha256=([0-9a-fA-F]{64}))?")
_SHORT_DIGEST = re.compile(r".*-([0-9a-f]{8,64})\.\w+")  # in the names of torchvision's files
_AUXILIARY = "aux_classifier."  # a head for training only, in torchvision's files of segmentation
#: names in torchvision's files that its networks rename when they load them
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\."), r"\1\2."),
    (re.compile(r"\bmlp\.linear_1\."), "mlp.0."),
    (re.compile(r"\bmlp\.linear_2\."), "mlp.3."),
)


def load_weights(model: Module, weights: AnyPath) -> None:
    """Load the weights of a file or a URL into a network; see :func:`xcnn.models.create`."""
    state = read_weights(model, weights)
    try:
        model.load_state_dict(state)
    except StateDictError as error:
        advice = _advice(model, state)
        raise StateDictError(f"weights={os.fspath(weights)!r}: {error}\n{advice}") from None


def read_weights(model: Module, weights: AnyPath) -> dict[str, Array]:
    """Read the arrays of a file or a URL, with old names of torchvision as in ``model`` now."""
    text = check_path("weights", weights)
    if text.startswith(("DEFAULT", "IMAGENET1K")):
        raise ArgumentError(
            f"weights={text!r}: expected a path or a URL; torchvision's documentation lists the "
            "URLs, such as https://download.pytorch.org/models/resnet18-f37072fd.pth"
        )
    arrays = load_state(_download(text) if "://" in text else text)
    known = dict(model.named_parameters()) | dict(model.named_buffers())
    if not any(key.startswith(_AUXILIARY) for key in known):
        arrays = {key: array for key, array in arrays.items() if not key.startswith(_AUXILIARY)}
    return {key if key in known else _renamed(key): array for key, array in arrays.items()}


def _renamed(key: str) -> str:
    for pattern, replacement in _OLD_NAMES:
        key = pattern.sub(replacement, key)
    return key


def _download(url: str) -> Path:
    """The file at a URL, in the cache; its digest is checked each time."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ArgumentError(
            f"weights={url!r}: expected https:// and the name of a file at the end, then "
            "#sha256= and 64 digits"
        )
    scheme, file, digits = match.groups()
    short = _SHORT_DIGEST.fullmatch(file)
    if digits is None and (short is None or scheme != "https"):  # a short one can be forged
        raise ArgumentError(
            f"weights={url!r} has no digest: append #sha256= and the SHA-256 digest of the file, "
            "in hexadecimal"
        )
    digest = sources.Digest("sha256", digits.lower() if digits else short[1])  # type: ignore[index]
    folder = sources.cache_dir() / "weights" / digest.value[:8]
    path = folder / file
    if path.is_file() and digest.accepts(digest.of_file(path)):
        return path
    mirror = url.partition("#")[0].rpartition("/")[0]
    try:
        return sources.fetch(file, [mirror], folder, digest, limit=MAX_BYTES)
    except sources.DownloadError as error:
        raise DataError(
            f"{error}\nWithout a network, download it elsewhere and pass its path, or put it into "
            f"{folder}"
        ) from error


def _advice(model: Module, state: dict[str, Array]) -> str:
    """A one-line hint for weights that do not fit."""
    own = dict(model.named_parameters())
    names = [key for key in own if key in state and state[key].shape != own[key].shape]
    if names and len(names) <= 2 and own.keys() <= state.keys():
        layer, classes = names[0].rpartition(".")[0], state[names[0]].shape[0]
        return (
            f"if the file is for other classes, build the network for those, num_classes={classes},"
            f" and then replace its layer {layer!r}"
        )
    if any(key.startswith("aux") for key in state.keys() - own.keys()):
        return "the file has auxiliary classifiers: build the network with aux_logits=True"
    return "the file must be for the same network, with the same names of weights"
