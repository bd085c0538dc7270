"""Metrics of the similarity of images: PSNR and SSIM."""

from __future__ import annotations

import math
from typing import Any

from ..arrays import Array
from ..checks import check_number
from ..errors import ShapeError
from .regression import MeanMetric

__all__ = ["PSNR", "SSIM"]

_RADIUS, _SIGMA = 5, 1.5
_BELL = [math.exp(-0.5 * (i / _SIGMA) ** 2) for i in range(-_RADIUS, _RADIUS + 1)]
WINDOW = [weight / sum(_BELL) for weight in _BELL]


class ImageMetric(MeanMetric):
    """Base of the metrics that compare each predicted image (N, ..., H, W) with its target.

    Parameters
    ----------
    data_range
        The difference between the largest and the smallest value that a pixel may have: 1 for
        images from 0 to 1, 255 for bytes.
    """

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        self.data_range = check_number("data_range", data_range, 0, above=True)


class PSNR(ImageMetric):
    """Peak signal-to-noise ratio in dB, 10·log10(data_range² / mean squared error).

    The mean over images; infinite if one is equal to its target.
    """

    name = "psnr"

    def terms(self, xp: Any, prediction: Array, target: Array) -> Array:
        errors = xp.square(prediction - target)
        mean = errors.mean(axis=tuple(range(1, errors.ndim)), dtype="float64")
        return 20 * math.log10(self.data_range) - 10 * xp.log10(mean)


class SSIM(ImageMetric):
    """Structural similarity, from -1 to 1 (equal), with a Gaussian window of 11×11 pixels.

    The mean over images, channels and all windows that fit into the image, with sigma = 1.5,
    K1 = 0.01 and K2 = 0.03. Source: Wang et al. 2004, "Image quality assessment: from error
    visibility to structural similarity". Same as scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, use_sample_covariance=False``.
    """

    name = "ssim"

    def terms(self, xp: Any, prediction: Array, target: Array) -> Array:
        if prediction.ndim < 3 or min(prediction.shape[-2:]) < len(WINDOW):
            raise ShapeError(
                f"metric 'ssim': images have shape {prediction.shape}: expected (N, ..., H, W) of "
                f"at least {len(WINDOW)}×{len(WINDOW)} pixels"
            )
        x, y = prediction, target
        mean_x, mean_y, xx, yy, xy = _blurred(xp.stack([x, y, x * x, y * y, x * y]))
        c1, c2 = ((k * self.data_range) ** 2 for k in (0.01, 0.03))
        both, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        similarity = (2 * both + c1) * (2 * (xy - both) + c2)
        similarity /= (squares + c1) * (xx + yy - squares + c2)
        return similarity.mean(axis=tuple(range(1, similarity.ndim)))


def _blurred(a: Array) -> Array:
    """Weighted means of all windows that fit into (..., H, W)."""
    for _ in range(2):  # along W, then along H
        size = a.shape[-1] - len(WINDOW) + 1
        a = sum(weight * a[..., i : i + size] for i, weight in enumerate(WINDOW)).swapaxes(-1, -2)
    return a
