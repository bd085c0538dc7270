"""Pictures in folders, a folder for each class, read while they are needed."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import is_int
from ..errors import ArgumentError, DataError
from .arrays import Batch, Dataset, Subset, as_dataset, stratified
from .augment import pair_of_ints
from .datasets import DataSet
from .images import pillow, read_image

SUFFIXES = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".pgm", ".png"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)
_TEST_FOLDERS = ("test", "val", "valid", "validation")


class ImageFolder(Dataset):
    """Pictures in ``root/CLASS/…``, decoded when they are asked for, in threads.

    Labels are the numbers of the class folders in the order of their names. Only paths and labels
    are kept in memory. Other files, and those whose names begin with a dot, are no pictures.

    Parameters
    ----------
    root : path
    size : int or (height, width), default 64
        Each picture is resized with its proportions kept, so that it just covers this, and what
        lies outside is cut off, the same on both sides.
    channels : int, default 3
        3 for colours, 1 for grey.
    classes : sequence of str, optional
        Names in the order of their labels; by default those of the folders, sorted.
    on_error : str, default "refuse"
        Where a file is not readable: "refuse" raises an error when it is read; "skip" reads every
        file once now, and leaves those out, with a warning that names them.
    threads : int, optional
        That decode at once; by default one for each CPU, at most 8.

    Attributes
    ----------
    classes : list of str
    paths : list of str
    labels : numpy.ndarray
        int64 (N,).
    shape : tuple of int
        (C, H, W) of every image.

    Raises
    ------
    DataError
        No such folder, no class or picture in it, a class that is not in ``classes``; when read: a
        file that is no picture, is damaged or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
    ArgumentError
        Another argument that is not as above.

    Examples
    --------
    >>> photos = ImageFolder("photos/train", size=96)       # photos/train/cat/1.jpg, …
    >>> x, y = photos.batch(np.arange(32))                  # uint8 (32, 3, 96, 96), int64 (32,)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: Any = 64,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        on_error: str = "refuse",
        threads: int | None = None,
    ) -> None:
        if on_error not in ("refuse", "skip"):
            raise ArgumentError(f'on_error={on_error!r}: expected "refuse" or "skip"')
        if channels not in (1, 3):
            raise ArgumentError(f"channels={channels!r}: expected 1 (grey) or 3 (colours)")
        if threads is not None and not (is_int(threads) and threads > 0):
            raise ArgumentError(f"threads={threads!r}: expected an int >= 1")
        self.root = str(root)
        self.shape = (channels, *pair_of_ints("size", size, 1))
        self.threads = threads or min(8, os.cpu_count() or 1)
        folders = _class_folders(Path(root), classes)
        self.classes = list(folders) if classes is None else list(classes)
        numbers = {name: number for number, name in enumerate(self.classes)}
        found = [(path, numbers[name]) for name in folders for path in _pictures(folders[name])]
        self.paths = [path for path, _ in found]
        self.labels = np.array([label for _, label in found], np.int64)
        if on_error == "skip":
            self._leave_out_unreadable()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.int64]:
        """One image, uint8 (C, H, W), and its label."""
        number = operator.index(index)
        return self._read(self.paths[number]), self.labels[number]

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items: uint8 (N, C, H, W) and int64 (N,)."""
        paths = [self.paths[i] for i in np.asarray(indices).tolist()]
        images = np.empty((len(paths), *self.shape), np.uint8)

        def read(number: int) -> None:
            images[number] = self._read(paths[number])

        self._each(read, range(len(paths)))
        return images, self.labels[indices]

    def _read(self, path: str) -> np.ndarray:
        try:
            return read_image(path, self.shape, crop=True)
        except DataError as error:
            raise DataError(
                f'{error}. Replace or remove it, or leave out such files: on_error="skip", '
                "--skip-unreadable"
            ) from error

    def _each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        from concurrent.futures import ThreadPoolExecutor  # not by `import xcnn`

        with ThreadPoolExecutor(self.threads, "xcnn-decode") as pool:
            futures = [pool.submit(function, item) for item in items]
            try:
                return [future.result() for future in futures]
            finally:
                pool.shutdown(cancel_futures=True)  # after an error, the others are not wanted

    def _leave_out_unreadable(self) -> None:
        pillow()  # without it, no file at all is readable
        problems: list[str] = []
        for start in range(0, len(self.paths), 1024):
            problems += self._each(self._problem, self.paths[start : start + 1024])
        keep = np.array([not problem for problem in problems], bool)
        if keep.all():
            return
        self.paths = [
            path for path, problem in zip(self.paths, problems, strict=True) if not problem
        ]
        self.labels = self.labels[keep]
        warnings.warn(
            f"{self.root}: {(~keep).sum()} of {len(keep)} files are left out:\n  "
            + "\n  ".join(filter(None, problems)),
            stacklevel=3,
        )
        if not self.paths:
            raise DataError(f"{self.root} has no picture that can be read")

    def _problem(self, path: str) -> str:
        try:
            read_image(path, self.shape, crop=True)
        except DataError as error:
            return str(error)
        return ""

    def __repr__(self) -> str:
        _, height, width = self.shape
        return (
            f"ImageFolder({self.root!r}: {len(self)} pictures of {len(self.classes)} classes as "
            f"{self.shape[0]}×{height}×{width})"
        )


def split_folder(
    root: str | os.PathLike[str], share: float = 0.2, seed: int = 0, **settings: Any
) -> tuple[Dataset, Dataset, list[str]]:
    """Training part, test part and classes of a folder of pictures.

    The parts are ``root/train`` and ``root/test`` (or val, valid, validation) where they are;
    else ``share`` of each class, chosen by ``seed``, is held out of ``root/train`` or ``root``.

    Parameters
    ----------
    root : path
    share : float, default 0.2
    seed : int, default 0
    **settings
        Of :class:`ImageFolder`.

    Raises
    ------
    DataError, ArgumentError
        As :class:`ImageFolder`; or too few pictures to hold one out.
    """
    root = Path(root)
    within = root / "train" if (root / "train").is_dir() else root
    whole = ImageFolder(within, **settings)
    tests = [root / name for name in _TEST_FOLDERS if within != root and (root / name).is_dir()]
    if tests:
        test = ImageFolder(tests[0], **{**settings, "classes": whole.classes})
        return whole, test, whole.classes
    train = stratified(whole.labels, share, seed)
    if train.all() or not train.any():
        raise DataError(
            f"{root} has {len(whole)} pictures: holding out {share:g} of them leaves none to train "
            "or to test; add pictures, or put them into train/ and test/"
        )
    return Subset(whole, train), Subset(whole, ~train), whole.classes


def load_folder(
    root: str | os.PathLike[str],
    size: Any = 64,
    channels: int = 3,
    share: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    on_error: str = "refuse",
) -> DataSet:
    """A data set of a folder of pictures, as :func:`xcnn.data.load` gives one for a name.

    Parameters
    ----------
    root : path
        With a folder for each class in ``train`` and ``test`` (or ``val``), or directly: then
        ``share`` of each class is held out for testing.
    size, channels, on_error
        As for :class:`ImageFolder`.
    share : float, default 0.2
    seed : int, default 0
        Of what is held out, of ``limit``, and of the images that mean and deviation are of.
    limit : int, optional
        Keep only so many pictures of each part, chosen by ``seed``.

    Returns
    -------
    DataSet
        ``mean`` and ``std`` are of at most 2,000 training images.

    Raises
    ------
    DataError, ArgumentError
        As :func:`split_folder`.

    Examples
    --------
    >>> photos = load_folder("photos", size=96)
    >>> loader = DataLoader(photos.train, 64, shuffle=True, transform=photos.normalize())
    """
    path = os.path.abspath(Path(root).expanduser())
    settings = {"size": size, "channels": channels, "on_error": on_error}
    train, test, classes = split_folder(path, share, seed, **settings)
    train, test = some_of(train, limit, seed), some_of(test, limit, seed)
    mean, std = statistics(some_of(train, 2000, seed))
    return DataSet(
        name=path,
        train=train,
        test=test,
        classes=classes,
        mean=mean,
        std=std,
        kind="images",
        source=path,
        image_shape=(channels, *pair_of_ints("size", size, 1)),
    )


def some_of(data: Any, limit: int | None, seed: int = 0) -> Dataset:
    """At most ``limit`` items, chosen by ``seed``, in the order of ``data``."""
    dataset = as_dataset(data)
    if limit is None or limit >= len(dataset):
        return dataset
    chosen = np.random.Generator(np.random.PCG64(seed)).permutation(len(dataset))[:limit]
    return Subset(dataset, np.sort(chosen))


def statistics(images: Dataset, batch_size: int = 64) -> tuple[tuple[float, ...], ...]:
    """Mean and standard deviation of each channel, pixels divided by 255; read batch by batch.

    A channel that is the same everywhere gets the deviation 1: nothing is divided by zero.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for start in range(0, len(images), batch_size):
        x, *_ = images.batch(np.arange(start, min(start + batch_size, len(images))))
        pixels = x.astype(np.float64) / 255
        count += x[:, 0].size
        total = total + pixels.sum(axis=(0, 2, 3))
        squares = squares + (pixels**2).sum(axis=(0, 2, 3))
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    std[std < 1e-6] = 1
    return tuple(mean.round(4).tolist()), tuple(np.maximum(std, 1e-4).round(4).tolist())


def _class_folders(root: Path, classes: Sequence[str] | None) -> dict[str, Path]:
    """Folder of each class by name, sorted."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; wanted one with a folder of pictures per class")
    folders = {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and p.name[0] != "."}
    if not folders:
        raise DataError(f"{root} has no folders; wanted one with a folder of pictures per class")
    unknown = [name for name in folders if classes is not None and name not in classes]
    if unknown:
        raise DataError(
            f"{root} has the classes {', '.join(unknown)}, expected some of "
            f"{', '.join(classes or ())}"
        )
    return folders


def _pictures(folder: Path) -> list[str]:
    """Paths of the pictures in and below a folder, sorted."""
    found = sorted(
        str(path)
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
    )
    if not found:
        raise DataError(
            f"{folder} has no pictures ({', '.join(SUFFIXES)}); add some, or remove the folder"
        )
    return found
