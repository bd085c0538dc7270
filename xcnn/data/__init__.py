"""Datasets, data loader and transforms.

Data stay on the host as NumPy arrays; the trainer moves each batch to the device.

Examples
--------
>>> from xcnn.data import DataLoader, load
>>> digits = load("digits")
>>> loader = DataLoader(digits.train, batch_size=32, shuffle=True, transform=digits.normalize())
>>> x, y = next(iter(loader))
>>> x.shape, x.dtype.name, y.shape
((32, 1, 32, 32), 'float32', (32,))
"""

from typing import TYPE_CHECKING

from .. import hints
from . import augment, sources
from .augment import *
from .crops import Crops, load_crops
from .dataset import ArrayDataset, Batch, Dataset, IterableDataset, Subset, arrays_of, map_arrays
from .detection import CocoDetection, VOCDetection, load_boxes
from .folder import (
    ImageFolder,
    image_files,
    load_folder,
    open_folder,
    split_folder,
    split_roots,
)
from .images import decode_image, encode_image, read_image
from .loader import DataLoader, prefetch
from .masks import MaskFolder, load_masks, read_mask, resize_mask, split_masks
from .packing import pack
from .samplers import WeightedRandomSampler, class_weights
from .shards import ShardFolder
from .sources import info, load, names, status
from .splits import DataSplits, kfold, labels, split, subsample
from .table_folder import load_table_folder
from .tables import CSVDataset
from .transforms import BatchTransform, Compose, Normalize, is_unscaled

__all__ = [
    "ArrayDataset",
    "Batch",
    "BatchTransform",
    "CSVDataset",
    "CocoDetection",
    "Compose",
    "Crops",
    "DataLoader",
    "DataSplits",
    "Dataset",
    "Grayscale",
    "ImageFolder",
    "IterableDataset",
    "MaskFolder",
    "Normalize",
    "ShardFolder",
    "Subset",
    "VOCDetection",
    "WeightedRandomSampler",
    "arrays_of",
    "augment",
    "class_weights",
    "decode_image",
    "encode_image",
    "image_files",
    "info",
    "is_unscaled",
    "kfold",
    "labels",
    "load",
    "load_boxes",
    "load_crops",
    "load_folder",
    "load_masks",
    "load_table_folder",
    "map_arrays",
    "names",
    "open_folder",
    "pack",
    "prefetch",
    "read_image",
    "read_mask",
    "resize_mask",
    "sources",
    "split",
    "split_folder",
    "split_masks",
    "split_roots",
    "status",
    "subsample",
]
__all__ += augment.__all__

if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = hints.getter("xcnn.data", hints.DATA, __all__)
