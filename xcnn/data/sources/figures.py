"""Synthetic pictures with several labels, or with numbers to predict: symbols and discs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: by name, a function of x and y that is negative inside, in radii from the centre
_SYMBOLS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda x, y: np.hypot(x, y) - 0.9,
    "cross": lambda x, y: np.maximum(
        np.minimum(abs(x), abs(y)) - 0.25, np.maximum(abs(x), abs(y)) - 1
    ),
    "flower": lambda x, y: np.hypot(x, y) - 0.65 - 0.35 * np.cos(5 * np.arctan2(y, x)),
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.75) - 0.25,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) - 0.8,
    "triangle": lambda x, y: np.maximum(abs(x) * 0.866 + y / 2, -y) - 0.5,
}


def symbols(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures that hold any of six symbols, a dataset for multi-label classification.

    Each symbol is in a picture with probability 0.4, whatever the others. Places, sizes, angles,
    colours and the order in which they cover each other are random, and there is noise.

    Parameters
    ----------
    count : int
        Number of pictures.
    seed : int, default 0

    Returns
    -------
    images : numpy.ndarray
        uint8 (count, 3, 32, 32).
    labels : numpy.ndarray
        float32 (count, 6): 1 for the symbols that are in the picture, 0 for the others.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = count, len(_SYMBOLS)
    labels = rng.random(shape) < 0.4
    centre, radius = rng.uniform(6, 26, (2, *shape)), rng.uniform(4.5, 8, shape)
    turn, colour = rng.uniform(-0.4, 0.4, shape), rng.uniform(0.35, 1, (*shape, 3))
    along = np.array([np.cos(turn), np.sin(turn)]) / radius
    images = np.repeat(rng.uniform(0, 0.25, (count, 3, 1, 1)), 32, 2).repeat(32, 3)
    order = rng.permuted(np.tile(np.arange(shape[1]), (count, 1)), axis=1)
    for drawn in order.T:  # the symbol that each picture gets next
        for number, depth in enumerate(_SYMBOLS.values()):
            n = np.flatnonzero((drawn == number) & labels[:, number])
            y, x = _from_centre(centre[:, n, number])
            cos, sin = along[:, n, number, None, None]
            inside = -depth(cos * x + sin * y, cos * y - sin * x) * radius[n, number, None, None]
            ink = np.clip(inside + 0.5, 0, 1)[:, None]
            images[n] += ink * (colour[n, number, :, None, None] - images[n])
    return _as_pixels(images, rng), labels.astype(np.float32)


def discs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw a disc in each picture, whose place and radius are to be predicted.

    The background, the brightness of the disc, which is lighter or darker, and the noise are
    random.

    Parameters
    ----------
    count : int
        Number of pictures.
    seed : int, default 0

    Returns
    -------
    images : numpy.ndarray
        uint8 (count, 1, 32, 32).
    targets : numpy.ndarray
        float32 (count, 3): x and y of the centre, from the top left corner, and the radius, in
        pixels.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    centre, radius = rng.uniform(8, 24, (2, count)), rng.uniform(3, 8, count)
    light = rng.uniform(0.3, 0.7, (count, 1, 1))
    light_of_disc = light + rng.choice([-1, 1], light.shape) * rng.uniform(0.2, 0.5, light.shape)
    ink = np.clip(0.5 + radius[:, None, None] - np.hypot(*_from_centre(centre)), 0, 1)
    images = light + ink * (light_of_disc - light)
    targets = np.stack([centre[1], centre[0], radius], axis=1).astype(np.float32)
    return _as_pixels(images[:, None], rng), targets


def _from_centre(centre: np.ndarray) -> np.ndarray:
    """Pixels of 32×32 pictures from centres (y, x), (2, N), to their own: (2, N, 32, 32)."""
    return np.asarray(np.indices((32, 32))[:, None] + 0.5 - centre[..., None, None])


def _as_pixels(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noisy = images + rng.normal(0, 0.06, images.shape)
    return np.floor(np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
