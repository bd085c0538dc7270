"""Data sets, the loader that makes batches of them, and what is done to a batch.

Data live on the host, as NumPy arrays; the trainer moves a batch to the device.

>>> from xcnn.data import DataLoader, load
>>> digits = load("digits")
>>> loader = DataLoader(digits.train, batch_size=32, shuffle=True, transform=digits.normalize())
>>> x, y = next(iter(loader))
>>> x.shape, x.dtype.name, y.shape
((32, 1, 32, 32), 'float32', (32,))
"""

from .augment.affine import RandomAffine, RandomRotation
from .augment.colour import ColorJitter, Grayscale
from .augment.crop import Augmentation, RandomCrop, RandomHorizontalFlip, RandomVerticalFlip
from .augment.erase import Cutout, RandomErasing
from .augment.mixing import CutMix, Mixing, MixUp
from .augment.recipes import training_transform
from .dataset import ArrayDataset, Dataset, Subset
from .folder import ImageFolder, load_folder
from .loader import DataLoader
from .sources.loading import DataSet, load, status
from .sources.registry import info, names
from .transforms import Compose, Normalize

__all__ = [
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
    "status",
    "training_transform",
]
