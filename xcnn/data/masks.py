"""Folders of pictures with masks: the class of each pixel."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import (
    check_path,
    check_size,
    check_texts,
    pair,
)
from ..errors import DataError, ShapeError
from ..files import open_file, reading
from .dataset import Batch, Dataset, Subset, describe
from .folder import (
    TEST_FOLDERS,
    absolute,
    by_stem,
    check_distinct,
    held_out,
    image_files,
    limited_splits,
)
from .images import (
    DECODERS,
    SKIP,
    check_reading,
    image_size,
    import_pillow,
    open_pillow,
    read_image,
    read_images,
)
from .splits import DataSplits

IGNORED = 255
_ADVICE = f"Correct or remove it, or {SKIP}"
_PETS = "annotations/trimaps"
_PET_CLASSES = ["pet", "background", "border"]


class MaskFolder(Dataset):
    """Pictures in ``root/images`` and their masks in ``root/masks``, decoded on demand.

    The mask of ``images/NAME.jpg`` is ``masks/NAME.png``, of the same size, with a palette or grey:
    the value of a pixel is its class, 255 is ignored. Oxford-IIIT Pets has its masks in
    ``root/annotations/trimaps``, whose values 1 to 3 become the classes 0 to 2. All masks are read
    once when the folder is opened, to check and count their values; later only paths stay in
    memory.

    Parameters
    ----------
    root : path
    size : int or (height, width), default 64
        Pictures are resized as a whole, without keeping the aspect ratio, by bilinear
        interpolation; masks alike, by the nearest pixel.
    channels : int, default 3
        3 for colour, 1 for grey.
    classes : sequence of str, optional
        Class names in the order of the values; by default the lines of ``root/classes.txt``, or
        else the numbers from 0 to the largest value.
    on_error : str, default "refuse"
        How to treat unreadable pictures and wrong masks: "refuse" raises an error; "skip" leaves
        them out, with a warning that lists them.
    threads : int, optional
        Decoder threads; by default one per CPU, at most 8.
    names : sequence of str, optional
        Only these pictures, by name without suffix.

    Attributes
    ----------
    classes : list of str
    paths, masks : list of str
    counts : numpy.ndarray
        int64 (N, 256): how many pixels of each mask have each class; at 255, are ignored.
    shape : tuple of int
        (C, H, W) of every picture.

    Raises
    ------
    DataError
        A folder or a mask that does not exist, a file that cannot be read; a mask of another size
        than its picture, in colour, with a value that is no class, or that ignores all pixels.
    ArgumentError
        If another argument is invalid.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        on_error: str = "refuse",
        threads: int | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.root = check_path("root", root)
        self.shape, self.threads = check_reading(channels, size, on_error, threads)
        is_pets = Path(root, _PETS).is_dir()
        self._first = int(is_pets)  # the value of the first class
        folder = Path(root, _PETS if is_pets else "masks")
        self.paths = _pictures(Path(root, "images"), names)
        stems = [os.path.relpath(stem, Path(root, "images")) for stem in by_stem(self.paths)]
        self.masks = [str(folder / f"{stem}.png") for stem in stems]
        listed = _PET_CLASSES if is_pets else _listed_classes(Path(root))
        if classes is not None:
            given = check_texts("classes", classes)
            if listed not in (None, given):
                known = f"has the classes {', '.join(listed or ())}"
                raise DataError(f"{root} {known}, expected {', '.join(given)}")
            listed = given
        self._known = None if listed is None else len(listed)
        self._check_all(on_error)
        present = np.flatnonzero(self.counts[:, :IGNORED].any(axis=0))
        self.classes = listed or [str(n) for n in range(present.max() + 1)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return one picture, uint8 (C, H, W), and its mask, uint8 (H, W)."""
        i = operator.index(index)
        return self._picture(i), self._mask(i)

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items: uint8 (N, C, H, W) and uint8 (N, H, W)."""
        items = np.asarray(indices).tolist()
        x = read_images(self._picture, items, self.shape, self.threads)
        return x, read_images(self._mask, items, self.shape[1:], self.threads)

    @property
    def labels(self) -> np.ndarray:
        """The masks of all pictures, uint8 (N, H, W), read anew."""
        return read_images(self._mask, range(len(self)), self.shape[1:], self.threads)

    @property
    def target_paths(self) -> list[str]:
        """The files of the targets."""
        return self.masks

    def _picture(self, index: int) -> np.ndarray:
        try:
            return read_image(self.paths[index], self.shape)
        except DataError as error:
            raise DataError(f"{error}. {_ADVICE}") from error

    def _mask(self, index: int) -> np.ndarray:
        values = read_mask(self.masks[index], self.shape[1:])
        return np.where(values == IGNORED, IGNORED, values - self._first).astype(np.uint8)

    def _check_all(self, on_error: str) -> None:
        """Count the values of all masks; leave out wrong ones, or raise an error."""
        import_pillow()  # report a missing Pillow once, not per file
        found = DECODERS.run(
            lambda i: self._check(i, on_error == "skip"), range(len(self)), self.threads
        )
        problems = [problem for problem in found if isinstance(problem, DataError)]
        if problems and on_error == "refuse":
            raise DataError(f"{problems[0]}. {_ADVICE}")
        if problems:
            title = f"{self.root}: {len(problems)} of {len(self)} pictures are left out:"
            warnings.warn("\n  ".join([title, *map(str, problems)]), stacklevel=4)
        kept = [i for i, counts in enumerate(found) if not isinstance(counts, DataError)]
        if not kept:
            raise DataError(f"{self.root} has no picture with a mask")
        self.paths, self.masks = ([a[i] for i in kept] for a in (self.paths, self.masks))
        self.counts = np.stack([found[i] for i in kept])

    def _check(self, index: int, decode: bool) -> np.ndarray | DataError:
        """The counts of one mask, or what is wrong with it or its picture."""
        path, mask = self.paths[index], self.masks[index]
        try:
            if not os.path.lexists(mask):
                return DataError(f"{path} has no mask: expected {mask}")
            values = read_mask(mask)
            if decode:
                read_image(path, self.shape)
            size = image_size(path)
        except DataError as error:
            return error
        if values.shape != size:
            return DataError(
                f"{mask} is a mask of {values.shape[1]}×{values.shape[0]} pixels, but {path} has "
                f"{size[1]}×{size[0]}: expected the same"
            )
        counts = np.bincount(values.ravel(), minlength=256)
        last = IGNORED - 1 if self._known is None else self._first + self._known - 1
        wrong = [v for v in np.flatnonzero(counts).tolist() if not self._first <= v <= last]
        wrong = [v for v in wrong if v != IGNORED]
        if wrong:
            return DataError(
                f"{mask} has the value {wrong[0]}: expected {self._first} to {last} for the "
                f"{self._known} classes, or {IGNORED} for pixels to ignore"
            )
        if counts[IGNORED] == values.size:
            return DataError(f"{mask} ignores its picture: all pixels are {IGNORED}")
        counts[:IGNORED] = np.roll(counts[:IGNORED], -self._first)
        return counts

    def __repr__(self) -> str:
        content = f"{len(self)} pictures with masks of {len(self.classes)} classes"
        return f"MaskFolder({self.root!r}: {content} as {'×'.join(map(str, self.shape))})"


def read_mask(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the class of each pixel from a PNG file with a palette, or grey.

    Parameters
    ----------
    path : path
    size : (height, width), optional
        Resize it, by the nearest pixel.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W).

    Raises
    ------
    DataError
        The file does not exist, is no image, or is in colour or of 16 bits.
    """
    path = Path(check_path("path", path))
    with reading(path, "cannot be read as a mask", "Expected a PNG file", DataError):
        with open_file(path) as file:
            image = open_pillow(file)
        if image.mode not in ("P", "L", "1"):
            raise DataError(
                f"{path} has pixels of the kind {image.mode}: expected a palette, or grey of 8 "
                "bits, whose values are the classes"
            )
        mask = np.array(image, np.uint8)
    return mask if size is None else resize_mask(mask, size)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask (H, W) to (height, width), by the nearest pixel."""
    old, size = getattr(mask, "shape", ()), pair(size, "size")
    if len(old) != 2 or 0 in old:
        raise ShapeError(f"mask is {describe(mask)}: expected (height, width)")
    check_size("size", size, size, visited=True)
    rows, columns = (((np.arange(n) + 0.5) * old[i] / n).astype(int) for i, n in enumerate(size))
    return mask[np.ix_(rows, columns)]


def load_masks(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 64,
    channels: int = 3,
    share: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    on_error: str = "refuse",
    classes: Sequence[str] | None = None,
) -> DataSplits:
    """Load a folder of pictures and masks as training and test splits.

    Parameters
    ----------
    root : path
        Contains ``images`` and ``masks``, either directly or in ``train`` and ``test`` (or
        ``val``); or is laid out as Oxford-IIIT Pets, whose lists ``annotations/trainval.txt`` and
        ``test.txt`` make the splits. Where nothing does, ``share`` is held out for testing.
    size, channels, on_error, classes
        As for :class:`MaskFolder`.
    share : float, default 0.2
    seed : int, default 0
        Seed of the held-out pictures, of ``limit``, and of the sample for mean and std.
    limit : int, optional
        Keep only this many random pictures of each split.

    Raises
    ------
    DataError, ArgumentError
        As for :class:`MaskFolder`; too few pictures to hold one out, or training masks that
        are all of one class.
    """
    path = absolute(root)
    settings = {"size": size, "channels": channels, "on_error": on_error, "classes": classes}
    train, test, folder = split_masks(path, share, seed, **settings)
    used = train.indices if isinstance(train, Subset) else slice(None)
    _check_classes(path, folder.classes, folder.counts[used].sum(axis=0))
    return limited_splits(path, train, test, folder.classes, folder.shape, limit, seed)


def split_masks(
    root: str | os.PathLike[str], share: float = 0.2, seed: int = 0, **settings: Any
) -> tuple[Dataset, Dataset, MaskFolder]:
    """Return the training split and the test split of :func:`load_masks`, and the former's folder.

    Parameters
    ----------
    root, share, seed
        As for :func:`load_masks`.
    **settings
        Arguments of :class:`MaskFolder`.
    """
    root = Path(check_path("root", root))
    lists = [root / "annotations" / name for name in ("trainval.txt", "test.txt")]
    tests = [root / name for name in TEST_FOLDERS if (root / name / "images").is_dir()]
    if (root / "train" / "images").is_dir() and tests:
        settings["classes"] = settings.get("classes") or _listed_classes(root)
        train = MaskFolder(root / "train", **settings)
        return train, MaskFolder(tests[0], **{**settings, "classes": train.classes}), train
    if all(path.is_file() for path in lists):
        names = [_names_in(path) for path in lists]
        train, test = (MaskFolder(root, names=listed, **settings) for listed in names)
        check_distinct(root, train.paths, test.paths)
        return train, test, train
    folder = MaskFolder(root, **settings)
    return *held_out(root, folder, share, seed), folder


def _check_classes(root: str, classes: list[str], counts: np.ndarray) -> None:
    """Refuse masks that only have one class and pixels to ignore; warn of classes without pixels.

    ``counts`` (256,) are the pixels of the training masks.
    """
    present = np.flatnonzero(counts[: len(classes)])
    if len(present) == 1 and counts[IGNORED]:
        raise DataError(
            f"{root}: the masks for training have the class {classes[present[0]]!r} and "
            f"{IGNORED}, which is ignored: write another class as the number after it"
        )
    missing = [name for n, name in enumerate(classes) if n not in present]
    if missing or len(classes) == 1:
        text = f"no mask for training has the class {', '.join(missing)}: it cannot be learned"
        only = f"all masks have only one class, {classes[0]!r}, so every network is always right"
        warnings.warn(f"{root}: {text if missing else only}", stacklevel=3)


def _pictures(folder: Path, names: Sequence[str] | None) -> list[str]:
    """The pictures of a folder, or those with some names."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: expected pictures in images/ and their masks in masks/"
        )
    paths = image_files(folder)
    if names is None:
        return paths
    known = {Path(path).stem: path for path in paths}
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(f"{folder} has no picture {missing[0]}.jpg, which is listed")
    return [known[name] for name in names]


def _names_in(path: Path) -> list[str]:
    """The first word of each line of a list of Oxford-IIIT Pets."""
    lines = [line.split() for line in _lines(path) if not line.startswith("#")]
    if not lines:
        raise DataError(f"{path} lists no picture")
    return [words[0] for words in lines]


def _listed_classes(root: Path) -> list[str] | None:
    """The class names in ``classes.txt``, if it is there."""
    path = root / "classes.txt"
    if not path.is_file():
        return None
    names = _lines(path)
    if not 1 <= len(names) <= IGNORED or len(set(names)) < len(names):
        raise DataError(
            f"{path} has {len(names)} lines: expected 1 to {IGNORED} different names of classes"
        )
    return names


def _lines(path: Path) -> list[str]:
    with (
        reading(path, "cannot be read", "Expected text, in UTF-8", DataError),
        open_file(path) as file,
    ):
        text = file.read().decode("utf-8-sig")
    return [line.strip() for line in text.splitlines() if line.strip()]
