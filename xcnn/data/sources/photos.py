"""Crops of the photographs that are installed with scikit-image and scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..images import read_image

_SIZE = 96
_FLAT = 8.0  # standard deviation of a crop without detail, of 255
_TRIES = 20
#: pictures by package and folder; those for testing are of other scenes
_FILES = {
    ("skimage", "data"): (
        ("astronaut.png", "chelsea.png", "motorcycle_left.png", "brick.png"),
        ("coffee.png", "rocket.jpg"),
    ),
    ("sklearn", "datasets/images"): (("china.jpg",), ("flower.jpg",)),
}


def photographs(test: bool = False) -> list[np.ndarray]:
    """Read the photographs for training, or those for testing, uint8 (3, H, W) each.

    Raises
    ------
    DataError
        Neither scikit-image nor scikit-learn is installed.
    MissingPackageError
        Pillow is not installed.
    """
    paths: list[Path] = []
    for (package, folder), files in _FILES.items():
        spec = find_spec(package)
        for root in [] if spec is None else spec.submodule_search_locations or []:
            paths += [Path(root, folder, name) for name in files[test]]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise DataError(
            "the photographs are those of scikit-image and scikit-learn, and neither is installed: "
            "pip install scikit-image pillow, or pass a folder of pictures as --data FOLDER"
        )
    return [read_image(path, (3, None, None)) for path in found]


def photos(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cut crops of photographs at random places, at their resolution.

    Crops of nothing but sky or background are drawn anew.

    Parameters
    ----------
    count : int
    seed : int, default 0
        0: from the photographs for training; else from those for testing, which no crop for
        training is from.

    Returns
    -------
    crops, targets : numpy.ndarray
        uint8 (count, 3, 96, 96), twice the same array: the target of a picture is the picture.

    Raises
    ------
    DataError, MissingPackageError
        See :func:`photographs`.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    pictures = photographs(test=seed != 0)
    share = np.array([picture[0].size for picture in pictures], float)
    crops = np.empty((count, 3, _SIZE, _SIZE), np.uint8)
    for crop in crops:
        for _ in range(_TRIES):
            crop[...] = random_crop(pictures[rng.choice(len(share), p=share / share.sum())], rng)
            if crop.std() > _FLAT:
                break
    return crops, crops


def random_crop(picture: np.ndarray, rng: np.random.Generator, size: int = _SIZE) -> np.ndarray:
    """A square of a picture (C, H, W) at a random place."""
    top, left = (int(rng.integers(0, length - size + 1)) for length in picture.shape[1:])
    return picture[:, top : top + size, left : left + size]
