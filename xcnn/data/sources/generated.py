"""Synthetic datasets: moons, crosses among other strokes, stick figures, shapes to segment."""

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


#: limbs of a stick figure, pairs of its points: head, neck, hip, hands, feet
_LIMBS = ((0, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6))


def stick_figures(count: int, size: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw people of six strokes, whose joints are to be found.

    Sizes, poses, brightness and noise are random, and another stroke crosses the picture. The
    figures face us, so that the left hand is on the right. Points may be outside the picture.

    Parameters
    ----------
    count : int
        Number of images.
    size : int, default 40
        Height and width in pixels.
    seed : int, default 0

    Returns
    -------
    images : numpy.ndarray
        uint8 (count, 1, size, size), bright strokes on a dark background.
    keypoints : numpy.ndarray
        float32 (count, 7, 3): x, y and visibility (2 inside the picture, else 0) of the head, the
        neck, the hip, the left and the right hand, the left and the right foot.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    unit = rng.uniform(0.75, 1.15, (count, 1)) * size
    lean = rng.uniform(-0.4, 0.4, count)  # radians

    def away(angle: np.ndarray, length: float) -> np.ndarray:
        """From a joint, clockwise from upwards: (N, 2), x and y."""
        turn = angle + lean
        return np.stack([np.sin(turn), -np.cos(turn)], axis=1) * length * unit

    hip = rng.uniform((0.3, 0.5), (0.7, 0.65), (count, 2)) * size
    neck = hip + away(np.zeros(count), 0.25)
    head = neck + away(rng.uniform(-0.3, 0.3, count), 0.14)
    hands = [neck + away(s * rng.uniform(0.7, 2.5, count), 0.24) for s in (1, -1)]
    feet = [hip + away(s * rng.uniform(2.4, 3.0, count), 0.3) for s in (1, -1)]
    points = np.stack([head, neck, hip, *hands, *feet], axis=1)
    other = rng.uniform(0, size, (count, 1, 2, 2))
    strokes = np.concatenate([points[:, _LIMBS], other], axis=1)
    ink = draw_strokes(strokes, rng.uniform(1.2, 2.2, count), size)
    noisy = ink * rng.uniform(0.6, 1, (count, 1, 1)) + rng.normal(0, 0.08, ink.shape)
    images = np.floor(np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
    seen = ((points >= -0.5) & (points < size - 0.5)).all(axis=2, keepdims=True)
    return images[:, None], np.concatenate([points, 2 * seen], axis=2).astype(np.float32)


def shapes(count: int, size: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw circles, squares and triangles that hide parts of each other, for segmentation.

    Each image has one to four, of any colour, of equal area for equal size and turned by any angle,
    on a textured background, with noise: only the outline tells the class.

    Parameters
    ----------
    count : int
        Number of images.
    size : int, default 64
        Height and width in pixels.
    seed : int, default 0

    Returns
    -------
    images : numpy.ndarray
        uint8 (count, 3, size, size).
    masks : numpy.ndarray
        uint8 (count, size, size): 0 background, 1 circle, 2 square, 3 triangle.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    images = np.empty((count, 3, size, size), np.uint8)
    masks = np.zeros((count, size, size), np.uint8)
    for start in range(0, count, 50):  # small enough for the caches
        part = slice(start, start + 50)
        images[part], masks[part] = _scenes(rng, len(masks[part]), size)
    return images, masks


def _scenes(rng: np.random.Generator, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks of :func:`shapes`."""
    ground = rng.uniform(0.2, 0.8, (count, 3, 1, 1)).astype(np.float32)
    coarse = rng.uniform(-0.2, 0.2, (count, 3, 9, 9)).astype(np.float32)
    stretch = _stretch(9, size)
    pixels = ground + stretch @ coarse @ stretch.T
    masks = np.zeros((count, size, size), np.uint8)
    y, x = np.indices((size, size), np.float32)
    drawn = rng.integers(1, 5, count)
    # of each colour, more or less red, green and blue than the ground: no two alike in an image
    order = rng.permuted(np.tile(np.arange(8), (count, 1)), axis=1)
    signs = 2 * (order[..., None] >> np.arange(3) & 1) - 1  # (N, 8, 3)
    for n in range(4):
        kinds = rng.integers(1, 4, count)
        centre = rng.uniform(0.1, 0.9, (2, count, 1, 1)).astype(np.float32) * size
        radius = rng.uniform(0.12, 0.25, count).astype(np.float32) * size
        turn = rng.uniform(0, 2 * np.pi, count)
        inside = np.empty((count, size, size), np.float32)
        for kind, sides in ((1, 0), (2, 4), (3, 3)):
            own = kinds == kind
            places = x - centre[0, own], y - centre[1, own]
            inside[own] = _inside(*places, radius[own], turn[own], sides)
        inside[drawn <= n] = -1
        away = rng.uniform(0.2, 0.4, (count, 3)) * signs[:, n]
        colour = ((ground + away[..., None, None]) % 1).astype(np.float32)
        pixels += np.clip(inside + 0.5, 0, 1)[:, None] * (colour - pixels)
        np.copyto(masks, kinds[:, None, None].astype(np.uint8), where=inside > 0)
    pixels += 0.05 * rng.standard_normal(pixels.shape, np.float32)
    return np.floor(np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8), masks


def _inside(
    x: np.ndarray, y: np.ndarray, radius: np.ndarray, turn: np.ndarray, sides: int
) -> np.ndarray:
    """How far pixels (N, H, W) are inside a circle (``sides`` 0) or polygon of equal area."""
    if sides == 0:
        return np.asarray(radius[:, None, None] - np.hypot(x, y))
    inner = radius * np.sqrt(np.pi / (sides * np.tan(np.pi / sides)))  # of the inscribed circle
    far = np.full(x.shape, -np.inf, np.float32)
    for k in range(sides):
        angle = (turn + 2 * np.pi * k / sides).astype(np.float32)[:, None, None]
        np.maximum(far, x * np.cos(angle) + y * np.sin(angle), out=far)
    return np.asarray(inner.astype(np.float32)[:, None, None] - far)


def _stretch(count: int, size: int) -> np.ndarray:
    """Linear interpolation between ``count`` values as a matrix (size, count)."""
    places = np.linspace(0, count - 1, size)[:, None] - np.arange(count)
    return np.maximum(0, 1 - np.abs(places)).astype(np.float32)


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
