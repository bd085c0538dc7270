"""Image augmentation on the CPU or a GPU, and named recipes."""

from .affine import RandomAffine, RandomRotation
from .base import Augmentation, Move
from .blur import GaussianBlur
from .colour import ColorJitter, Grayscale
from .crop import RandomCrop, RandomHorizontalFlip, RandomResizedCrop, RandomVerticalFlip
from .erase import Cutout, RandomErasing
from .mixing import CutMix, Mixing, MixUp
from .policies import AugMix, RandAugment, TrivialAugmentWide
from .recipes import MIXTURES, RECIPES, recipe_names, training_steps, training_transform
from .targets import WithTarget

__all__ = [
    "MIXTURES",
    "RECIPES",
    "AugMix",
    "Augmentation",
    "ColorJitter",
    "CutMix",
    "Cutout",
    "GaussianBlur",
    "Grayscale",
    "MixUp",
    "Mixing",
    "Move",
    "RandAugment",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "TrivialAugmentWide",
    "WithTarget",
    "recipe_names",
    "training_steps",
    "training_transform",
]
