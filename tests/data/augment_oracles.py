"""Reference augmentations in plain float64 loops, independent of xcnn."""

import colorsys
import itertools
import math

import numpy as np


def pixel(image, row, column):
    """Return a pixel of (H, W), zero outside."""
    inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
    return float(image[row, column]) if inside else 0.0


def interpolate(image, row, column, order):
    """Interpolate between pixels: bilinear (order 1) or nearest (order 0)."""
    if order == 0:
        return pixel(image, math.floor(row + 0.5), math.floor(column + 0.5))
    i, j = math.floor(row), math.floor(column)
    a, b = row - i, column - j
    return (
        (1 - a) * (1 - b) * pixel(image, i, j)
        + (1 - a) * b * pixel(image, i, j + 1)
        + a * (1 - b) * pixel(image, i + 1, j)
        + a * b * pixel(image, i + 1, j + 1)
    )


def source_point(x, y, clockwise=0, shift=(0, 0), zoom=1, shear=(0, 0)):
    """Map an output point, relative to the centre, back to the input, step by step."""
    x, y = x - shift[0], y - shift[1]
    x, y = x / zoom, y / zoom
    t = math.radians(clockwise)  # y points down: undoing a clockwise turn
    x, y = math.cos(t) * x + math.sin(t) * y, math.cos(t) * y - math.sin(t) * x
    y = y + math.tan(math.radians(shear[1])) * x
    x = x + math.tan(math.radians(shear[0])) * y
    return x, y


def affine(images, order=1, **change):
    """Sample each pixel of (N, C, H, W) at the point that :func:`source_point` gives."""
    result = np.zeros(images.shape)
    height, width = images.shape[2:]
    for n, c, i, j in np.ndindex(images.shape):
        x, y = source_point(j - (width - 1) / 2, i - (height - 1) / 2, **change)
        place = y + (height - 1) / 2, x + (width - 1) / 2
        result[n, c, i, j] = interpolate(images[n, c], *place, order)
    return result


def crops(image, size, padding, mode):
    """Yield every crop (C, h, w) that a random crop of an image (C, H, W) may return."""
    channels, height, width = image.shape
    (h, w), (ph, pw) = size, padding
    padded = np.zeros((channels, height + 2 * ph, width + 2 * pw))
    for c, i, j in np.ndindex(padded.shape):
        row, column = i - ph, j - pw
        if mode == "reflect":
            row, column = reflect(row, height), reflect(column, width)
        padded[c, i, j] = pixel(image[c], row, column)
    for i in range(padded.shape[1] - h + 1):
        for j in range(padded.shape[2] - w + 1):
            yield padded[:, i : i + h, j : j + w]


def reflect(place, size):
    """Reflect an index once at the first or the last pixel."""
    place = abs(place)
    return place if place < size else 2 * (size - 1) - place


def grey(rgb):
    """Return the luma of one pixel."""
    return 0.2989 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] if len(rgb) == 3 else rgb[0]


def each_pixel(image, change):
    """Apply ``change(rgb)`` to every pixel of (C, H, W)."""
    result = np.zeros(image.shape)
    for i, j in np.ndindex(image.shape[1:]):
        result[:, i, j] = change([float(v) for v in image[:, i, j]])
    return result


def clip(values, highest):
    return [min(max(v, 0.0), highest) for v in values]


def brightness(image, factor, highest):
    return each_pixel(image, lambda rgb: clip([factor * v for v in rgb], highest))


def contrast(image, factor, highest):
    greys = each_pixel(image, lambda rgb: [grey(rgb)] * len(rgb))
    mean = greys.mean()
    return each_pixel(
        image, lambda rgb: clip([factor * v + (1 - factor) * mean for v in rgb], highest)
    )


def saturation(image, factor, highest):
    return each_pixel(
        image, lambda rgb: clip([factor * v + (1 - factor) * grey(rgb) for v in rgb], highest)
    )


def hue(image, shift, highest):
    def turned(rgb):
        if len(rgb) == 1:
            return rgb
        h, s, v = colorsys.rgb_to_hsv(*(v / highest for v in rgb))
        return [highest * v for v in colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)]

    return each_pixel(image, turned)


STEPS = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}


def jittered_in_every_order(images, amounts, highest):
    """Yield (N, C, H, W) after the steps of ``amounts``, for every order of them."""
    for order in itertools.permutations(amounts):
        result = []
        for image in images:
            for name in order:
                image = STEPS[name](image, amounts[name], highest)
            result.append(image)
        yield np.array(result)
