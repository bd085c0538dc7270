"""Reading image files."""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..checks import (
    COLOURS,
    Pair,
    are_ints,
    check_choice,
    check_code,
    check_flag,
    check_int,
    check_path,
    pair,
)
from ..errors import ArgumentError, DataError, missing_package
from ..files import open_file, reading
from ..threads import Pool
from .dataset import describe

DECODERS = Pool("xcnn-decode")
THREADS = min(8, os.cpu_count() or 1)
#: how to treat files that cannot be read
ON_ERROR = ("refuse", "skip")
#: a remedy
SKIP = 'leave such files out: on_error="skip", xcnn train --skip-unreadable'
_ORIENTATION = 0x0112  # in the metadata of a photograph; from 5 on, height and width are swapped
_SMALL = 60_000_000  # bytes of decoded pixels, 15 megapixels in colour, that any file may have
_RATIO = 128  # decoded bytes per byte of a larger file; photographs have 4 to 60


def check_reading(
    channels: int, size: int | tuple[int, int], on_error: str, threads: int | None
) -> tuple[tuple[int, int, int], int]:
    """(C, H, W) of the images of a dataset, and the number of threads that read them.

    Raises
    ------
    ArgumentError
        An argument is invalid.
    """
    check_choice("on_error", on_error, ON_ERROR)
    shape = (check_code("channels", channels, COLOURS), *pair(size, "size"))
    return shape, THREADS if threads is None else check_int("threads", threads)


def read_image(
    path: str | os.PathLike[str],
    shape: tuple[int, int | None, int | None],
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
        keeping the aspect ratio; None keeps the height or the width of the file.
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
        If ``path`` is not a path, or ``shape`` is not three positive integers.
    """
    _check(shape, invert, crop)
    path = Path(check_path("path", path))
    read, kind = _read_file, "an image"
    if path.suffix.lower() == ".npy":
        read, kind = _read_npy, "an array"
    with reading(path, f"cannot be read as {kind}", "Expected a PNG, JPEG or .npy file", DataError):
        image = read(path)
        as_it_is = isinstance(image, np.ndarray) and image.shape == tuple(shape)
        pixels = image if as_it_is else _fit(image, shape, path, crop)
    return 255 - pixels if invert else pixels


def decode_image(
    content: bytes,
    shape: tuple[int, int, int],
    invert: bool = False,
    crop: bool = False,
    name: str = "the image",
    formats: Sequence[str] = ("PNG", "JPEG"),
) -> np.ndarray:
    """:func:`read_image` of the content of an image file, such as one that was uploaded.

    Parameters
    ----------
    content : bytes
        The image file.
    shape, invert, crop
        As for :func:`read_image`.
    name : str
        What error messages call it.
    formats : sequence of str
        Pillow's names of the formats that are read. It starts other programs for some that are not
        pictures of pixels.

    Returns
    -------
    numpy.ndarray
        uint8 (C, H, W).

    Raises
    ------
    DataError, ArgumentError
        As for :func:`read_image`.
    """
    _check(shape, invert, crop)
    expected = f"Expected a {' or '.join(formats)} file"
    with reading(name, "cannot be read", expected, DataError):
        image = _read_pillow(io.BytesIO(content), name, formats)
        pixels = _fit(image, shape, name, crop)
    return 255 - pixels if invert else pixels


def _check(shape: Any, invert: Any, crop: Any) -> None:
    given = shape if not isinstance(shape, tuple) else [1 if n is None else n for n in shape]
    if not are_ints(given, 3) or min(given) < 1 or shape[0] is None:
        raise ArgumentError(f"shape={shape!r}: expected three ints >= 1, (C, H, W)")
    check_flag("invert", invert)
    check_flag("crop", crop)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of an image file as :func:`read_image` shows it, without reading its pixels.

    Raises
    ------
    DataError
        If the file cannot be read, or is not an image.
    """
    path = Path(check_path("path", path))
    with reading(path, "cannot be read as an image", "Expected a PNG or JPEG file", DataError):
        if path.suffix.lower() == ".npy":
            return _read_npy(path).shape[-2:]
        with open_file(path) as file:
            image = _identified(file)
            is_turned = _has_exif(image) and image.getexif().get(_ORIENTATION, 1) >= 5
        width, height = image.size[::-1] if is_turned else image.size
    return height, width


def encode_image(
    pixels: np.ndarray, palette: np.ndarray | None = None, transparent: int | None = None
) -> bytes:
    """Encode pixels as a PNG file (ISO/IEC 15948), without Pillow.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 (C, H, W): grey (1), colours (3), or colours with opacity (4); or (H, W), numbers of
        colours in ``palette``, grey without one.
    palette : numpy.ndarray, optional
        uint8 (K, 3), at most 256 colours.
    transparent : int, optional
        The number of a colour that is transparent.

    Raises
    ------
    ArgumentError
        If ``pixels`` have another dtype or shape.
    """
    if getattr(pixels, "ndim", 0) == 2:
        pixels = pixels[None]
    kinds = {1: 0 if palette is None else 3, 3: 2, 4: 6}
    is_picture = getattr(pixels, "ndim", 0) == 3 and len(pixels) in kinds and pixels.size > 0
    if not is_picture or pixels.dtype != np.uint8:
        raise ArgumentError(
            f"pixels: {describe(pixels)}: expected uint8 (1, 3 or 4, height, width)"
        )
    channels, height, width = pixels.shape
    rows = pixels.transpose(1, 2, 0).reshape(height, width * channels)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, kinds[channels], 0, 0, 0)
    parts = [_chunk(b"IHDR", header)]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    if transparent is not None:
        parts.append(_chunk(b"tRNS", b"\xff" * transparent + b"\0"))
    parts += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def read_images(
    read: Callable[[Any], np.ndarray], items: Sequence[Any], shape: Sequence[int], threads: int
) -> np.ndarray:
    """``read(item)`` of several items, in a pool of threads: uint8 (N, C, H, W)."""
    images = np.empty((len(items), *shape), np.uint8)

    def fill(n: int) -> None:
        images[n] = read(items[n])

    DECODERS.run(fill, range(len(items)), threads)
    return images


def readable(
    root: str, read: Callable[[Any], Any], items: Sequence[Any], threads: int = THREADS
) -> np.ndarray:
    """Which of the ``items`` of ``root`` ``read`` can read, bool (N,); a warning lists the others.

    Raises
    ------
    DataError
        It can read none of them.
    """

    def problem(item: Any) -> str:
        try:
            read(item)
        except DataError as error:
            return str(error)
        return ""

    import_pillow()  # report a missing Pillow once, not per file
    problems: list[str] = []
    for start in range(0, len(items), 1024):
        problems += DECODERS.run(problem, items[start : start + 1024], threads)
    is_read = np.array([not text for text in problems], bool)
    if not is_read.all():
        title = f"{root}: {(~is_read).sum()} of {len(is_read)} files are left out:"
        warnings.warn("\n  ".join([title, *filter(None, problems)]), stacklevel=4)
    if not is_read.any():
        raise DataError(f"{root} has no readable images")
    return is_read


def import_pillow() -> Any:
    """Import and return ``PIL.Image``.

    Raises
    ------
    MissingPackageError
        If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("reading or resizing images", "pillow", error) from error
    return Image


def _read_file(path: Path) -> Any:
    import_pillow()
    with open_file(path) as file:
        return _read_pillow(file, path)


def _read_pillow(file: BinaryIO, name: Any, formats: Sequence[str] | None = None) -> Any:
    """Read an image file, of any format or some: a Pillow image of mode L or RGB."""
    Image = import_pillow()
    image = open_pillow(file, formats)
    if image.mode.startswith("I;16"):  # 16 bits: Pillow would clip instead of scaling
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{name} has 32-bit pixels; save it with 8 or 16 bits per channel")
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        image = white
    return image if image.mode == mode else image.convert(mode)


def open_pillow(file: BinaryIO, formats: Sequence[str] | None = None) -> Any:
    """Read an image file, of any format or some, as a Pillow image of its own mode."""
    image = _identified(file, formats)
    from PIL import ImageOps

    if _has_exif(image):
        ImageOps.exif_transpose(image, in_place=True)  # phones store the orientation as metadata
    image.load()
    return image


def _has_exif(image: Any) -> bool:
    """Whether there may be metadata before the pixels; what follows those of a PNG is not read."""
    return image.format != "PNG" or "exif" in image.info


def _identified(file: BinaryIO, formats: Sequence[str] | None = None) -> Any:
    """A Pillow image whose pixels are not read yet, but of which there are not too many."""
    Image = import_pillow()
    from PIL import UnidentifiedImageError

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError as error:  # its text shows Python's object for the file
        raise ValueError("unknown format, or damaged") from error
    _check_size(image, Image.MAX_IMAGE_PIXELS, size)
    return image


def _check_size(image: Any, limit: int | None, file_size: int) -> None:
    """Reject an image that takes far more memory than a photograph or scan in such a small file."""
    pixels = math.prod(image.size)
    if limit and pixels > limit:  # Pillow raises only from twice the limit on
        raise ValueError(f"{pixels} pixels, more than PIL.Image.MAX_IMAGE_PIXELS")
    decoded = pixels * (1 if image.mode in ("1", "L") else 4)
    if decoded > max(_SMALL, _RATIO * file_size):
        raise ValueError(f"{pixels} pixels in {file_size} bytes look like a decompression bomb")


def _read_npy(path: Path) -> np.ndarray:
    """Read a saved array: uint8 (C, H, W)."""
    with open_file(path):  # a regular file
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")  # compares the sizes
    if array.size * (1 if array.dtype == np.uint8 else max(4, array.itemsize)) > _SMALL:
        raise ValueError(f"{array.shape} of {array.dtype}, too large for an image")
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(
            f"{path} holds {array.shape}; expected one image: (H, W), (C, H, W) or (H, W, C)"
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
        return np.array(pixels[None])
    last = pixels.shape[2] in (1, 3) and pixels.shape[0] not in (1, 3)
    return np.array(np.moveaxis(pixels, 2, 0) if last else pixels, order="C")


def _fit(
    image: Any, shape: tuple[int, int | None, int | None], path: Any, crop: bool
) -> np.ndarray:
    """Convert a Pillow image or an array (C, H, W) between grey and colour, and resize it."""
    Image = import_pillow()
    channels, *size = shape
    is_array = isinstance(image, np.ndarray)
    actual = image.shape if is_array else (len(image.getbands()), image.height, image.width)
    if channels not in (1, 3) or actual[0] not in (1, 3):
        raise DataError(
            f"{path} has the shape {actual}, the model takes {shape}; only images with 1 or 3 "
            "channels are converted: save an .npy array of exactly that shape"
        )
    if is_array:
        array = image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, 2))
        image = Image.fromarray(array)
    image = image.convert("L") if channels == 1 else image
    target = (size[1] or image.width, size[0] or image.height)  # Pillow's order
    if image.size != target:
        box = _centre_box(image.size, target) if crop else None
        image = image.resize(target, Image.Resampling.BILINEAR, box)
    image = image if channels == 1 else image.convert("RGB")
    return np.array(np.moveaxis(np.atleast_3d(image), 2, 0), order="C")


def _centre_box(size: Pair, target: Pair) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of the largest centred box with target's aspect ratio."""
    zoom = min(size[0] / target[0], size[1] / target[1])
    left, top = ((s - zoom * t) / 2 for s, t in zip(size, target, strict=True))
    return max(0.0, left), max(0.0, top), min(size[0], size[0] - left), min(size[1], size[1] - top)
