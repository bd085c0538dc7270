"""Datasets, data loader and transforms.

Data stay on the host as NumPy arrays; the trainer moves each batch to the device.

>>> from xcnn.data import DataLoader, load
>>> digits = load("digits")
>>> loader = DataLoader(digits.train, batch_size=32, shuffle=True, transform=digits.normalize())
>>> x, y = next(iter(loader))
>>> x.shape, x.dtype.name, y.shape
((32, 1, 32, 32), 'float32', (32,))
"""

from . import augment, sources
from .augment import *
from .dataset import ArrayDataset, Batch, Dataset, Subset
from .folder import ImageFolder, image_files, load_folder, split_folder
from .images import read_image
from .loader import DataLoader, prefetch
from .sources import info, load, names, status
from .splits import DataSplits, subsample
from .transforms import Compose, Normalize

__all__ = [
    "ArrayDataset",
    "Augmentation",
    "Batch",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "DataLoader",
    "DataSplits",
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
    "augment",
    "image_files",
    "info",
    "load",
    "load_folder",
    "names",
    "prefetch",
    "read_image",
    "sources",
    "split_folder",
    "status",
    "subsample",
    "training_transform",
]
