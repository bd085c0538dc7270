"""Augmentations by name, fitted to a data set: what ``xcnn train --augment`` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...errors import ArgumentError
from ..sources.loading import DataSet
from ..transforms import Compose
from .affine import RandomAffine, RandomRotation
from .colour import ColorJitter
from .crop import RandomCrop, RandomHorizontalFlip, RandomVerticalFlip
from .erase import Cutout, RandomErasing
from .mixing import CutMix, Mixing, MixUp


class Recipe(NamedTuple):
    """What a name stands for: a line for users, and how it is made of (H, W) and of the classes."""

    text: str
    make: Callable[[tuple[int, int], int], Any]


def _eighth(size: tuple[int, int]) -> tuple[int, int]:
    return max(1, (size[0] + 4) // 8), max(1, (size[1] + 4) // 8)


RECIPES: dict[str, Recipe] = {
    "flip": Recipe("left and right swapped", lambda size, _: RandomHorizontalFlip()),
    "vflip": Recipe("top and bottom swapped", lambda size, _: RandomVerticalFlip()),
    "crop": Recipe(
        "moved by up to an eighth (4 of 32 pixels), zeros around",
        lambda size, _: RandomCrop(size, padding=_eighth(size)),
    ),
    "rotate": Recipe("up to 10°", lambda size, _: RandomRotation(10)),
    "shift": Recipe(
        "up to a tenth", lambda size, _: RandomAffine(0, translate=(0.1, 0.1), order=0)
    ),
    "zoom": Recipe("0.9 to 1.1", lambda size, _: RandomAffine(0, scale=(0.9, 1.1))),
    "shear": Recipe("up to 10°", lambda size, _: RandomAffine(0, shear=10)),
    "affine": Recipe(
        "rotate, shift and zoom in one",
        lambda size, _: RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1)),
    ),
    "color": Recipe(
        "brightness, contrast, saturation ±20 %, hue ±5 %",
        lambda size, _: ColorJitter(0.2, 0.2, 0.2, 0.05),
    ),
    "erase": Recipe("a random rectangle, half of the time", lambda size, _: RandomErasing()),
    "cutout": Recipe("a square, a quarter as high", lambda size, _: Cutout(max(1, size[0] // 4))),
    "mixup": Recipe("images mixed, alpha 0.2", lambda _, classes: MixUp(classes)),
    "cutmix": Recipe("parts of images mixed", lambda _, classes: CutMix(classes)),
}
MIXTURES = ("mixup", "cutmix")
_STANDARD = {
    "digits": ("affine",),
    "mnist": ("affine",),
    "fashion-mnist": ("flip", "crop"),
    "cifar10": ("flip", "crop"),
    "moons": (),
    "cross": ("flip", "vflip"),
}


def parse(text: str) -> list[str]:
    """Names separated by commas, each once; "none" for none.

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    names = list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
    if names == ["none"]:
        return []
    known = [*RECIPES, "standard"]
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise ArgumentError(
            f"augment={text!r}: expected names separated by commas, of {', '.join(known)}; or none"
        )
    return names


def names_for(text: str, name: str) -> list[str]:
    """:func:`parse`, with "standard" replaced by what the data set ``name`` (or a folder) has.

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    found: list[str] = []
    for part in parse(text):
        found += _STANDARD.get(name, ("flip", "crop")) if part == "standard" else [part]
    return list(dict.fromkeys(found))


def training_transform(text: str, dataset: DataSet) -> Any:
    """The transform of a DataLoader that trains on ``dataset``: augmentations, then normalisation.

    Parameters
    ----------
    text : str
        Names of ``RECIPES`` separated by commas, "standard" or "none".
    dataset : DataSet

    Raises
    ------
    ArgumentError
        An unknown name, or a data set of features.

    Examples
    --------
    >>> training_transform("flip,mixup", load("cifar10"))
    Compose([RandomHorizontalFlip(p=0.5), Normalize(...), MixUp(num_classes=10, alpha=0.2)])
    """
    names = names_for(text, dataset.name)
    if not names:
        return dataset.normalize()
    if dataset.kind != "images":
        raise ArgumentError(
            f"augment={text!r} changes images, {dataset.name} holds features: use none"
        )
    _, height, width = dataset.image_shape
    made = [RECIPES[n].make((height, width), len(dataset.classes)) for n in names]
    mixtures = [m for m in made if isinstance(m, Mixing)]
    return Compose([*(m for m in made if m not in mixtures), dataset.normalize(), *mixtures])
