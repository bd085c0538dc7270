"""Image augmentation on the CPU or a GPU, and named recipes."""

from .affine import RandomAffine, RandomRotation
from .base import Augmentation
from .colour import ColorJitter, Grayscale
from .crop import RandomCrop, RandomHorizontalFlip, RandomVerticalFlip
from .erase import Cutout, RandomErasing
from .mixing import CutMix, Mixing, MixUp
from .recipes import MIXTURES, RECIPES, recipe_names, training_transform

__all__ = [
    "MIXTURES",
    "RECIPES",
    "Augmentation",
    "ColorJitter",
    "CutMix",
    "Cutout",
    "Grayscale",
    "MixUp",
    "Mixing",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomVerticalFlip",
    "recipe_names",
    "training_transform",
]
