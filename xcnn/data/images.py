"""Reading one picture from a file, as the input of a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, DataError


def read_image(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    invert: bool = False,
    crop: bool = False,
) -> np.ndarray:
    """Read a picture and bring it to the shape that a model takes.

    Parameters
    ----------
    path : path
        A PNG, JPEG or other file that Pillow reads, or an array saved as ``.npy``: (H, W),
        (C, H, W) or (H, W, C); bytes, or floats from 0 to 1.
    shape : tuple of int
        (C, H, W) of the result. With C = 1 colours become grey (ITU-R 601 luma), with C = 3 grey
        becomes R = G = B. Another size is brought to H×W by bilinear interpolation, without
        keeping the proportions.
    invert : bool, default False
        Swap light and dark. Wanted for a photograph of ink on paper if the model was trained on
        bright strokes on a dark ground, as MNIST's are; never done without being asked for.
    crop : bool, default False
        Keep the proportions: cut off what the shape does not hold, the same on both sides.

    Returns
    -------
    numpy.ndarray
        uint8 (C, H, W). Transparent parts of a picture are white before any inversion.

    Raises
    ------
    DataError
        If the file cannot be read, is no picture, or cannot be brought to ``shape``.
    ArgumentError
        If ``shape`` is not three positive integers.
    """
    if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape):
        raise ArgumentError(f"shape must be (C, H, W), positive integers, got {shape!r}")
    path = Path(path)
    pixels = _read_npy(path) if path.suffix.lower() == ".npy" else _read_picture(path)
    if pixels.shape != tuple(shape):
        pixels = _fit(pixels, shape, path, crop)
    return 255 - pixels if invert else pixels


def pillow() -> Any:
    """The module ``PIL.Image``.

    Raises
    ------
    DataError
        Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            "reading and resizing pictures needs Pillow, which is not installed: "
            "pip install pillow, or pass an .npy array of the right shape"
        ) from error
    return Image


def _read_picture(path: Path) -> np.ndarray:
    """Read pixels of a picture file: uint8 (1, H, W) or (3, H, W)."""
    image_module = pillow()
    from PIL import ImageOps

    try:
        with image_module.open(path) as opened:
            _refuse_bomb(opened.size, image_module.MAX_IMAGE_PIXELS)
            image = ImageOps.exif_transpose(opened)  # phones store how the picture was turned
            image.load()
    except Exception as error:  # on damaged files decoders fail in many ways
        raise DataError(
            f"{path} cannot be read as a picture: {error}. Wanted a PNG, JPEG or .npy file"
        ) from error
    if image.mode.startswith("I;16"):  # 16 bits: Pillow would clip instead of scaling
        return (np.asarray(image).astype(np.uint32) * 255 // 65535).astype(np.uint8)[None]
    if image.mode in ("I", "F"):
        raise DataError(f"{path} has pixels of 32 bits; save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        white = image_module.new("RGBA", image.size, "white")
        image = image_module.alpha_composite(white, image.convert("RGBA"))
    grey = image.mode in ("1", "L", "LA")
    return _channels_first(np.array(image.convert("L" if grey else "RGB")))


def _refuse_bomb(size: tuple[int, int], limit: int | None) -> None:
    """Pillow itself refuses twice as many pixels."""
    if limit and size[0] * size[1] > limit:
        raise ValueError(f"{size[0]}×{size[1]} pixels, more than PIL.Image.MAX_IMAGE_PIXELS")


def _read_npy(path: Path) -> np.ndarray:
    """Read pixels of a saved array: uint8 (C, H, W)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or not array.size:
        raise DataError(
            f"{path} holds {getattr(array, 'shape', type(array).__name__)}; wanted one image: "
            "(H, W), (C, H, W) or (H, W, C)"
        )
    return _channels_first(_to_bytes(array, path))


def _to_bytes(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iufb":
        raise DataError(f"{path} holds {array.dtype}, no numbers; wanted uint8, or floats 0 to 1")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.floor(array * 255 + 0.5).astype(np.uint8)
    raise DataError(
        f"{path} holds {array.dtype} from {low} to {high}; wanted uint8, or floats from 0 to 1"
    )


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels[None]
    last = pixels.shape[2] in (1, 3) and pixels.shape[0] not in (1, 3)
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0)) if last else pixels


def _fit(pixels: np.ndarray, shape: tuple[int, int, int], path: Path, crop: bool) -> np.ndarray:
    """Convert grey and colour, and resize."""
    channels, height, width = shape
    if channels not in (1, 3) or len(pixels) not in (1, 3):
        raise DataError(
            f"{path} has the shape {pixels.shape}, the model takes {shape}; only images of 1 and 3 "
            "channels are converted: save an .npy array of exactly that shape"
        )
    image_module = pillow()
    array = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
    image = image_module.fromarray(array).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        box = _middle(image.size, (width, height)) if crop else None
        image = image.resize((width, height), image_module.Resampling.BILINEAR, box)
    return _channels_first(np.array(image))


def _middle(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the largest part of the proportions ``wanted``."""
    zoom = min(size[0] / wanted[0], size[1] / wanted[1])
    left, top = ((s - zoom * w) / 2 for s, w in zip(size, wanted, strict=True))
    return max(0.0, left), max(0.0, top), min(size[0], size[0] - left), min(size[1], size[1] - top)
