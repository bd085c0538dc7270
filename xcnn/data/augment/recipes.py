"""Augmentations by name, for ``xcnn train --augment``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...checks import pair
from ...errors import ArgumentError
from ..splits import DataSplits
from ..transforms import Compose, Normalize
from .affine import RandomAffine, RandomRotation
from .base import Augmentation
from .blur import GaussianBlur
from .colour import ColorJitter
from .crop import RandomCrop, RandomHorizontalFlip, RandomResizedCrop, RandomVerticalFlip
from .erase import Cutout, RandomErasing
from .mixing import CutMix, Mixing, MixUp
from .policies import AugMix, RandAugment, TrivialAugmentWide
from .targets import WithTarget


class Recipe(NamedTuple):
    """One line of help, and a function of (H, W) and the number of classes."""

    text: str
    make: Callable[[tuple[int, int], int], Augmentation | Mixing]


def _eighth(size: tuple[int, int]) -> tuple[int, int]:
    return max(1, (size[0] + 4) // 8), max(1, (size[1] + 4) // 8)


#: what ``xcnn train --augment`` calls the augmentations
RECIPES = {
    "flip": Recipe("left and right swapped", lambda hw, _: RandomHorizontalFlip()),
    "vflip": Recipe("top and bottom swapped", lambda hw, _: RandomVerticalFlip()),
    "crop": Recipe(
        "shifted by up to an eighth, 4 of 32 pixels, padded with zeros",
        lambda hw, _: RandomCrop(hw, padding=_eighth(hw)),
    ),
    "rotate": Recipe("up to 10°", lambda hw, _: RandomRotation(10)),
    "shift": Recipe("up to a tenth", lambda hw, _: RandomAffine(0, translate=(0.1, 0.1), order=0)),
    "zoom": Recipe("0.9 to 1.1", lambda hw, _: RandomAffine(0, scale=(0.9, 1.1))),
    "shear": Recipe("up to 10°", lambda hw, _: RandomAffine(0, shear=10)),
    "affine": Recipe("rotate+shift+zoom", lambda hw, _: RandomAffine(10, (0.1, 0.1), (0.9, 1.1))),
    "color": Recipe(
        "brightness, contrast, saturation ±20 %, hue ±5 %",
        lambda hw, _: ColorJitter(0.2, 0.2, 0.2, 0.05),
    ),
    "erase": Recipe("a random rectangle, half of the time", lambda hw, _: RandomErasing()),
    "cutout": Recipe("a square of a quarter height", lambda hw, _: Cutout(max(1, hw[0] // 4))),
    "resizedcrop": Recipe(
        "a random part, resized: 8 to 100 % of the area", lambda hw, _: RandomResizedCrop(hw)
    ),
    "blur": Recipe(
        "Gaussian of 0.1 to 2 pixels, in a window of a tenth",
        lambda hw, _: GaussianBlur(max(3, hw[0] // 10 | 1)),
    ),
    "randaugment": Recipe("2 of 14 operations", lambda hw, _: RandAugment()),
    "trivialaugment": Recipe(
        "1 of 14 operations, of any strength", lambda hw, _: TrivialAugmentWide()
    ),
    "augmix": Recipe("blend with 3 augmented copies", lambda hw, _: AugMix()),
    "mixup": Recipe("blend pairs of images, alpha 0.2", lambda _, classes: MixUp(classes)),
    "cutmix": Recipe("paste parts of other images", lambda _, classes: CutMix(classes)),
}
#: those of :data:`RECIPES` that change the labels too, and come after normalisation
MIXTURES = ("mixup", "cutmix")
# "standard" by dataset; other datasets and image folders get flip and crop
_STANDARD = {
    **{"digits": ["affine"], "mnist": ["affine"], "moons": [], "cross": ["flip", "vflip"]},
    **{"symbols": ["flip", "vflip"], "discs": [], "shapes": ["flip", "vflip"]},
}


def recipe_names(text: str, dataset: str = "") -> list[str]:
    """Split comma-separated names of ``RECIPES`` and remove duplicates; "none" gives [].

    "standard" stands for the usual augmentations of the dataset of that name; an image folder gets
    "flip,crop".

    Raises
    ------
    ArgumentError
        If a name is unknown.
    """
    if not isinstance(text, str) or not isinstance(dataset, str):
        raise ArgumentError(f"augment={text!r}, dataset={dataset!r}: expected strings")
    names = [name for part in text.split(",") if (name := part.strip())]
    known = {name: [name] for name in RECIPES}
    known["standard"] = _STANDARD.get(dataset, ["flip", "crop"])
    if names and set(names) == {"none"}:
        return []
    if not names or not known.keys() >= set(names):
        raise ArgumentError(
            f"augment={text!r}: expected names separated by commas, of {', '.join(known)}; or none"
        )
    return list(dict.fromkeys(recipe for name in names for recipe in known[name]))


def training_transform(text: str, dataset: DataSplits) -> Compose | Normalize:
    """Create the transform for training on ``dataset``: augmentations, then normalisation.

    MixUp and CutMix come last.

    Parameters
    ----------
    text : str
        Names of ``RECIPES`` separated by commas, "standard" or "none".
    dataset : DataSplits

    Raises
    ------
    ArgumentError
        If a name is unknown, or the dataset holds features.

    Examples
    --------
    >>> training_transform("flip,mixup", xcnn.data.load("digits"))
    Compose([RandomHorizontalFlip(p=0.5), Normalize(...), MixUp(num_classes=10, alpha=0.2)])
    """
    if not isinstance(dataset, DataSplits):
        raise ArgumentError(
            f"dataset is {type(dataset).__name__}: expected a DataSplits, of load()"
        )
    names = recipe_names(text, dataset.name)
    if not names:
        return dataset.normalize()
    if dataset.kind != "images":
        raise ArgumentError(
            f"augment={text!r} changes images, but {dataset.name} holds features: use none"
        )
    _, *size = dataset.image_shape
    steps = training_steps(",".join(names), size, len(dataset.classes), dataset.normalize())
    return Compose(steps)


def training_steps(
    text: str,
    size: Sequence[int],
    num_classes: int,
    normalize: Normalize,
    target: str | None = None,
    **settings: Any,
) -> list[Any]:
    """The steps of :func:`training_transform`, for images of any source.

    Parameters
    ----------
    text : str
        Names of ``RECIPES`` separated by commas, or "none".
    size : (int, int)
        Height and width of the images.
    num_classes : int
        For MixUp and CutMix.
    normalize : Normalize
    target : str, optional
        What of the targets follows the images, see :class:`WithTarget`.
    **settings
        Other arguments of :class:`WithTarget`.

    Raises
    ------
    ArgumentError
        If a name is unknown, or its transform cannot be applied to such targets.
    """
    names = recipe_names(text)
    hw = pair(size, "size") if names else (1, 1)
    transforms = [RECIPES[name].make(hw, num_classes) for name in names]
    mixtures = [t for t in transforms if isinstance(t, Mixing)]
    single: list[Any] = [t for t in transforms if t not in mixtures]
    if target is not None and mixtures:
        raise ArgumentError(
            f"augment={text!r}: {' and '.join(MIXTURES)} mix the labels of classes, but these "
            f"targets are {target}: leave them out"
        )
    if target is not None:
        single = [WithTarget(t, target, **settings) for t in single]
    return [*single, normalize, *mixtures]
