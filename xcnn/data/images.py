"""Reading image files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import Pair, are_ints, check_flag
from ..errors import ArgumentError, DataError


def read_image(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    invert: bool = False,
    crop: bool = False,
) -> np.ndarray:
    """Read an image and convert it to the shape that a model takes.

    Parameters
    ----------
    path : path
        A PNG, JPEG or other file that Pillow reads, or an array saved as ``.npy``: (H, W),
        (C, H, W) or (H, W, C), uint8 or floats from 0 to 1.
    shape : tuple of int
        (C, H, W) of the result. C = 1 converts colours to grey (ITU-R 601 luma), C = 3 repeats grey
        as R = G = B. Images of another size are resized to H×W by bilinear interpolation, without
        keeping the aspect ratio.
    invert : bool, default False
        Invert the pixels, for photographs of ink on paper if the model was trained on bright
        strokes on a dark background, as in MNIST.
    crop : bool, default False
        Keep the aspect ratio and crop the longer side equally at both ends.

    Returns
    -------
    numpy.ndarray
        uint8 (C, H, W). Transparent pixels are white (before inversion).

    Raises
    ------
    DataError
        If the file cannot be read, is not an image, or cannot be converted to ``shape``.
    ArgumentError
        If ``shape`` is not three positive integers.
    """
    if not are_ints(shape, 3) or min(shape) < 1:
        raise ArgumentError(f"shape={shape!r}: expected three ints >= 1, (C, H, W)")
    check_flag("invert", invert)
    check_flag("crop", crop)
    if not isinstance(path, str | os.PathLike):
        raise DataError(f"path is {type(path).__name__}: expected the path of a file")
    path = Path(path)
    pixels = _read_npy(path) if path.suffix.lower() == ".npy" else _read_pillow(path)
    if pixels.shape != tuple(shape):
        pixels = _fit(pixels, shape, path, crop)
    return 255 - pixels if invert else pixels


def import_pillow() -> Any:
    """Import and return ``PIL.Image``.

    Raises
    ------
    DataError
        If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            "reading and resizing images needs Pillow, which is not installed: "
            "pip install pillow, or pass an .npy array of the right shape"
        ) from error
    return Image


def _read_pillow(path: Path) -> np.ndarray:
    """Read an image file: uint8 (1, H, W) or (3, H, W)."""
    Image = import_pillow()
    from PIL import ImageOps

    try:
        with Image.open(path) as opened:
            width, height = opened.size
            limit = Image.MAX_IMAGE_PIXELS
            if limit and width * height > limit:  # Pillow raises only from twice the limit on
                raise ValueError(f"{width}×{height} pixels, more than PIL.Image.MAX_IMAGE_PIXELS")
            image = ImageOps.exif_transpose(opened)  # phones store the orientation as metadata
            image.load()
    except Exception as error:  # decoders raise many types on damaged files
        raise DataError(
            f"{path} cannot be read as an image: {error}. Expected a PNG, JPEG or .npy file"
        ) from error
    if image.mode.startswith("I;16"):  # 16 bits: Pillow would clip instead of scaling
        return (np.asarray(image).astype(np.uint32) * 255 // 65535).astype(np.uint8)[None]
    if image.mode in ("I", "F"):
        raise DataError(f"{path} has 32-bit pixels; save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    grey = image.mode in ("1", "L", "LA")
    return _channels_first(np.array(image.convert("L" if grey else "RGB")))


def _read_npy(path: Path) -> np.ndarray:
    """Read a saved array: uint8 (C, H, W)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or not array.size:
        raise DataError(
            f"{path} holds {getattr(array, 'shape', type(array).__name__)}; expected one image: "
            "(H, W), (C, H, W) or (H, W, C)"
        )
    if array.dtype != np.uint8:
        numeric = array.dtype.kind in "iufb"
        if not (array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1):
            values = f" from {array.min()} to {array.max()}" if numeric else ", not numbers"
            raise DataError(
                f"{path} holds {array.dtype}{values}; expected uint8, or floats from 0 to 1"
            )
        array = np.floor(array * 255 + 0.5).astype(np.uint8)
    return _channels_first(array)


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels[None]
    last = pixels.shape[2] in (1, 3) and pixels.shape[0] not in (1, 3)
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0)) if last else pixels


def _fit(pixels: np.ndarray, shape: tuple[int, int, int], path: Path, crop: bool) -> np.ndarray:
    """Convert between grey and colour, and resize."""
    channels, *size = shape
    if channels not in (1, 3) or len(pixels) not in (1, 3):
        raise DataError(
            f"{path} has the shape {pixels.shape}, the model takes {shape}; only images with 1 or "
            "3 channels are converted: save an .npy array of exactly that shape"
        )
    Image = import_pillow()
    array = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
    image = Image.fromarray(array).convert("L" if channels == 1 else "RGB")
    target = (size[1], size[0])  # (width, height), Pillow's order
    if image.size != target:
        box = _centre_box(image.size, target) if crop else None
        image = image.resize(target, Image.Resampling.BILINEAR, box)
    return _channels_first(np.array(image))


def _centre_box(size: Pair, target: Pair) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of the largest centred box with target's aspect ratio."""
    zoom = min(size[0] / target[0], size[1] / target[1])
    left, top = ((s - zoom * t) / 2 for s, t in zip(size, target, strict=True))
    return max(0.0, left), max(0.0, top), min(size[0], size[0] - left), min(size[1], size[1] - top)
