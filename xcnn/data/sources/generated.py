"""Synthetic datasets: two moons, and crosses versus other strokes."""

from __future__ import annotations

import numpy as np

# A figure is two strokes from or through one centre: start and end of the first stroke, then of
# the second, as multiples of the arm lengths.
_FIGURES = {
    "cross": (-1, 1, -1, 1),
    "bar": (-1, 1, 0, 0),
    "tee": (-1, 1, 0, 1),
    "corner": (0, 1, 0, 1),
    "ray": (0, 1, 0, 0),
    "pair": (-1, 1, -1, 1),  # two parallel bars
}
_OTHER_FIGURES = ("bar", "tee", "corner", "ray", "pair")


def moons(count: int, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw two interleaved half circles, a dataset for very small networks.

    Parameters
    ----------
    count : int
        Number of points, half in each class; class 0 gets the odd one.
    noise : float, default 0.1
        Standard deviation of the Gaussian noise on both coordinates, in radii of the circles.
    seed : int, default 0

    Returns
    -------
    points : numpy.ndarray
        float32 (count, 2).
    labels : numpy.ndarray
        int64 (count,): 0 for the upper moon, 1 for the lower one.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = rng.permutation(np.arange(count) % 2)
    angle = rng.uniform(0, np.pi, count)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    points = np.where(labels[:, None] == 0, upper, lower) + rng.normal(0, noise, (count, 2))
    return points.astype(np.float32), labels.astype(np.int64)


def cross(count: int, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw crosses (+ and ×) and other strokes, a sanity check for CNNs.

    The other strokes are bars, Ts, corners, single rays and pairs of parallel bars. Position,
    direction, length, thickness, brightness and noise have the same distribution in both classes;
    only the shape differs. A working small CNN exceeds 99 % test accuracy.

    Parameters
    ----------
    count : int
        Number of images; half are crosses.
    size : int, default 16
        Height and width in pixels.
    seed : int, default 0

    Returns
    -------
    images : numpy.ndarray
        uint8 (count, 1, size, size), bright strokes on a dark background.
    labels : numpy.ndarray
        int64 (count,): 0 other, 1 cross.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = rng.permutation(np.arange(count) % 2)
    ink = draw_strokes(_strokes(rng, labels, size), rng.uniform(1.2, 2.2, count), size)
    brightness = rng.uniform(0.6, 1.0, (count, 1, 1))
    noisy = ink * brightness + rng.normal(0, 0.05, ink.shape)
    images = np.floor(np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
    return images[:, None], labels.astype(np.int64)


def _strokes(rng: np.random.Generator, labels: np.ndarray, size: int) -> np.ndarray:
    """Draw the end points (x, y) of both strokes of each figure: (N, 2 strokes, 2 ends, 2)."""
    count = len(labels)
    kinds = np.where(labels == 1, "cross", rng.choice(_OTHER_FIGURES, count))
    multiples = np.array([_FIGURES[kind] for kind in kinds]).reshape(-1, 2, 2)
    arms = multiples * rng.uniform(0.28 * size, 0.38 * size, (count, 2, 2))  # (N, stroke, end)
    parallel = kinds == "pair"
    # the first stroke at a multiple of 45° ± 10°, the second at a right angle ± 10° to it
    angle = rng.integers(0, 8, count) * (np.pi / 4) + rng.uniform(-1, 1, count) * (np.pi / 18)
    second = angle + np.where(parallel, 0, np.pi / 2 + rng.uniform(-1, 1, count) * (np.pi / 18))
    angles = np.stack([angle, second], axis=1)
    direction = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (N, stroke, 2)
    centre = (size - 1) / 2 + rng.uniform(-0.08, 0.08, (count, 1, 2)) * size
    centre = np.repeat(centre, 2, axis=1)
    normal = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    gap = np.where(parallel, rng.uniform(0.22, 0.32, count) * size, 0)
    centre[:, 1] += gap[:, None] * normal
    return np.asarray(centre[:, :, None] + arms[..., None] * direction[:, :, None])


def draw_strokes(strokes: np.ndarray, thickness: np.ndarray, size: int) -> np.ndarray:
    """Draw anti-aliased strokes: (N, size, size) from 0 to 1, the maximum where they overlap."""
    x = np.arange(size, dtype=strokes.dtype)
    y = x[:, None]
    ink = np.zeros((len(strokes), size, size), strokes.dtype)
    for ends in strokes.swapaxes(0, 1):
        (x1, y1), (dx, dy) = (
            np.moveaxis(of, 1, 0)[..., None, None] for of in (ends[:, 0], ends[:, 1] - ends[:, 0])
        )  # each (N, 1, 1)
        squared = np.maximum(dx**2 + dy**2, 1e-9)  # a stroke of length 0 is a dot
        position = np.clip(((x - x1) * dx + (y - y1) * dy) / squared, 0, 1)
        distance = np.sqrt((x - (x1 + position * dx)) ** 2 + (y - (y1 + position * dy)) ** 2)
        ink = np.maximum(ink, np.clip(thickness[:, None, None] / 2 + 0.5 - distance, 0, 1))
    return ink
