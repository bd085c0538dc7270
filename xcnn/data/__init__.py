"""Data sets, the loader that makes batches of them, and what is done to a batch.

Data live on the host, as NumPy arrays; the trainer moves a batch to the device.

>>> from xcnn.data import DataLoader, load
>>> digits = load("digits")
>>> loader = DataLoader(digits.train, batch_size=32, shuffle=True, transform=digits.normalize())
>>> x, y = next(iter(loader))
>>> x.shape, x.dtype.name, y.shape
((32, 1, 32, 32), 'float32', (32,))
"""

from .arrays import ArrayDataset, Dataset, Subset
from .datasets import DataSet, load, status
from .loader import DataLoader
from .registry import info, names
from .transforms import Compose, Normalize

__all__ = [
    "ArrayDataset",
    "Compose",
    "DataLoader",
    "DataSet",
    "Dataset",
    "Normalize",
    "Subset",
    "info",
    "load",
    "names",
    "status",
]
