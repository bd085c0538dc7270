"""The digits dataset embedded in the package: 1,797 handwritten digits, 46 kB.

E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0; see ``digits.LICENSE.txt``.
"""

from __future__ import annotations

from importlib import resources

import numpy as np

_MAXIMUM = 16  # the original pixels count the dark dots of a 4×4 block
_FACTOR = 4


def load() -> list[np.ndarray]:
    """Read the digits and enlarge them to 32×32 pixels.

    Returns
    -------
    list of numpy.ndarray
        Training images uint8 (1437, 1, 32, 32), training labels int64 (1437,), test images
        (360, 1, 32, 32), test labels (360,). 0 is the background, 255 full ink.
    """
    with (
        resources.files(__package__).joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        images, labels, train = stored["images"], stored["labels"], stored["train"]
    pixels, labels = enlarge(images)[:, None], labels.astype(np.int64)
    return [pixels[train], labels[train], pixels[~train], labels[~train]]


def enlarge(images: np.ndarray) -> np.ndarray:
    """Enlarge images four times by bilinear interpolation.

    Pixel centres are aligned (output i samples the input at (i + 1/2) / 4 - 1/2) and border pixels
    are repeated. All products are multiples of 1/64, so the result is exact on every machine.

    Parameters
    ----------
    images : numpy.ndarray
        Values 0 to 16, (N, H, W).

    Returns
    -------
    numpy.ndarray
        uint8 (N, 4·H, 4·W), values 0 to 255.
    """
    vertical, horizontal = map(_interpolation_matrix, images.shape[1:])
    enlarged = vertical @ images.astype(np.float64) @ horizontal.T
    return np.asarray(np.floor(enlarged * (255 / _MAXIMUM) + 0.5)).astype(np.uint8)


def _interpolation_matrix(size: int) -> np.ndarray:
    """Interpolation weights (4·size, size), one row per output position."""
    position = np.clip((np.arange(size * _FACTOR) + 0.5) / _FACTOR - 0.5, 0, size - 1)
    return np.asarray(np.maximum(1 - np.abs(position[:, None] - np.arange(size)), 0))
