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


def sharpness(image, factor, highest):
    """Blend with the mean of 3x3 pixels, of which the middle one counts five times."""
    result = image.astype(float)
    for c, i, j in np.ndindex(image.shape):
        if 0 < i < image.shape[1] - 1 and 0 < j < image.shape[2] - 1:
            around = [float(v) for v in image[c, i - 1 : i + 2, j - 1 : j + 2].ravel()]
            smooth = (sum(around) + 4 * around[4]) / 13
            smooth = round(smooth) if highest == 255 else smooth
            (result[c, i, j],) = clip([factor * around[4] + (1 - factor) * smooth], highest)
    return result


def posterize(image, bits, highest):
    """Keep the highest bits of a byte; round a float down to a multiple of 1 / 2^bits."""

    def keep(value):
        if highest == 255:
            return int(value) >> (8 - bits) << (8 - bits)
        return min(math.floor(value * 2**bits), 2**bits - 1) / 2**bits

    return each_pixel(image, lambda rgb: [keep(v) for v in rgb])


def solarize(image, threshold, highest):
    return each_pixel(image, lambda rgb: [highest - v if v >= threshold else v for v in rgb])


def autocontrast(image):
    """Stretch each channel of floats to 0 to 1."""
    result = image.astype(float)
    for c, channel in enumerate(result):
        low, high = channel.min(), channel.max()
        if low < high:
            result[c] = (channel - low) / (high - low)
    return result


def equalize(image):
    """Look each pixel of (C, H, W), uint8, up in the table that Pillow's ``equalize`` builds."""
    result = np.zeros(image.shape)
    for c, channel in enumerate(image):
        counts = [0] * 256
        for value in channel.ravel():
            counts[value] += 1
        step = (channel.size - counts[channel.max()]) // 255
        table, total = list(range(256)), step // 2
        for value in range(256 if step else 0):
            table[value] = min(total // step, 255)
            total += counts[value]
        for i, j in np.ndindex(channel.shape):
            result[c, i, j] = table[channel[i, j]]
    return result


def blur(image, kernel, sigma):
    """Weight the pixels of a window of ``kernel`` (height, width) by a Gaussian; reflect."""
    result = np.zeros(image.shape)
    (h, w), (channels, height, width) = kernel, image.shape
    for c, i, j in np.ndindex(channels, height, width):
        total = 0.0
        for di, dj in itertools.product(range(-(h // 2), h // 2 + 1), range(-(w // 2), w // 2 + 1)):
            weight = math.exp(-(di**2 + dj**2) / (2 * sigma**2))
            total += weight
            result[c, i, j] += weight * image[c, reflect(i + di, height), reflect(j + dj, width)]
        result[c, i, j] /= total
    return result


def resize(signal, size, antialias=True):
    """Resample a line of pixels by a triangle around the place of each output pixel."""
    result, scale = [], len(signal) / size
    reach = max(scale, 1.0) if antialias else 1.0
    for i in range(size):
        place = (i + 0.5) * scale - 0.5
        weights = [max(0.0, 1 - abs(k - place) / reach) for k in range(len(signal))]
        result.append(sum(w * v for w, v in zip(weights, signal, strict=True)) / sum(weights))
    return np.array(result)
