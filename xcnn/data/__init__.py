"""Data sets, the loader that makes batches of them, and what is done to a batch.

Data live on the host, as NumPy arrays; the trainer moves a batch to the device.

>>> from xcnn.data import DataLoader, load
>>> digits = load("digits")
>>> loader = DataLoader(digits.train, batch_size=32, shuffle=True, transform=digits.normalize())
>>> x, y = next(iter(loader))
>>> x.shape, x.dtype.name, y.shape
((32, 1, 32, 32), 'float32', (32,))
"""

from .affine import RandomAffine, RandomRotation
from .arrays import ArrayDataset, Dataset, Subset
from .augment import Augmentation, RandomCrop, RandomHorizontalFlip, RandomVerticalFlip
from .colour import ColorJitter, Grayscale
from .datasets import DataSet, load, status
from .erase import Cutout, RandomErasing
from .folder import ImageFolder, load_folder, some_of, split_folder
from .images import read_image
from .loader import DataLoader
from .mixing import CutMix, Mixing, MixUp
from .recipes import MIXTURES, RECIPES, names_for, training_transform
from .registry import info, names
from .transforms import Compose, Normalize

__all__ = [
    "MIXTURES",
    "RECIPES",
    "ArrayDataset",
    "Augmentation",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "DataLoader",
    "DataSet",
    "Dataset",
    "Grayscale",
    "ImageFolder",
    "MixUp",
    "Mixing",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomVerticalFlip",
    "Subset",
    "info",
    "load",
    "load_folder",
    "names",
    "names_for",
    "read_image",
    "some_of",
    "split_folder",
    "status",
    "training_transform",
]
