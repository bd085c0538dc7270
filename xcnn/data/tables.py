"""CSV files of features, or of image files, with labels."""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..checks import COLOURS, check_code, check_flag, check_path, check_text, check_texts, pair
from ..errors import ArgumentError, DataError
from .dataset import ArrayDataset
from .images import THREADS, read_image, read_images


class CSVDataset(ArrayDataset):
    r"""A CSV file with a header: columns of numbers, or of image files, and of labels.

    Items are (x, y), or (x,) without a label column. Images are decoded on demand, in threads; only
    their names and labels stay in memory.

    Parameters
    ----------
    path : path
        A UTF-8 file whose first line names the columns.
    label : str, sequence of str or None, default "label"
        Column of the labels. Integers stay as they are; other numbers are targets, float32; other
        text is a class name, and the label its index in ``classes``. Several columns are numbers,
        float32. None: no labels.
    features : sequence of str, optional
        Columns of numbers; by default all others.
    image : str, optional
        Column of image files instead of features, relative to the folder of ``path``.
    size : int or (height, width), default 64
        Images are resized to it, see ``crop``.
    channels : int, default 3
        3 for colour, 1 for grey.
    classes : sequence of str, optional
        Class names in label order; by default those in the file, sorted.
    delimiter : str, default ","
    separator : str, optional
        Each label is any number of class names with this between them, such as "|"; it becomes a
        row of ones for these classes and zeros for the others, float32.
    crop : bool, default True
        Whether images are resized keeping their aspect ratio, and cropped at the centre; otherwise
        they are resized as a whole.

    Attributes
    ----------
    arrays : tuple
        Features float32 (N, F) or the image files; and labels int64 (N,), or float32 (N,) or
        (N, L).
    classes : list of str or None
        None if the labels are numbers.
    features : list of str
        Names of the feature columns.
    paths : list of str
        The image files.
    lines : list of int
        The line of each item in the file, from 1.

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing, or a value is; the message names the file
        and the line. When an image is read, if that fails.
    ArgumentError
        If another argument is invalid.

    Examples
    --------
    >>> text = "length,width,species\n5.1,3.5,setosa\n7.0,3.2,versicolor\n"
    >>> with open("iris.csv", "w") as file:
    ...     length = file.write(text)
    >>> flowers = CSVDataset("iris.csv", label="species")
    >>> x, y = flowers.batch(np.arange(2))
    >>> x.shape, x.dtype.name, y, flowers.classes
    ((2, 2), 'float32', array([0, 1]), ['setosa', 'versicolor'])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        label: str | Sequence[str] | None = "label",
        features: Sequence[str] | None = None,
        image: str | None = None,
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        delimiter: str = ",",
        separator: str | None = None,
        crop: bool = True,
    ) -> None:
        if image is not None and features is not None:
            raise ArgumentError(f"features={features!r}, image={image!r}: pass one of them")
        for name, text in (("image", image), ("separator", separator)):
            if text is not None:
                check_text(name, text)
        one = [label] if isinstance(label, str) else []
        targets = one or ([] if label is None else check_texts("label", label))
        features = None if features is None else check_texts("features", features)
        classes = None if classes is None else check_texts("classes", classes)
        shape = (check_code("channels", channels, COLOURS), *pair(size, "size"))
        self.path = check_path("path", path)
        rows = _rows(self.path, delimiter)
        _, header = next(rows, (1, []))
        if len(set(header)) < max(len(header), 1):
            raise DataError(f"{path}, line 1: expected a header of different names, got {header}")
        if features is None:
            features = [name for name in header if name not in targets]
        self.features = [] if image is not None else features
        inputs = [image] if image is not None else self.features
        missing = [name for name in (*inputs, *targets) if name not in header]
        if missing or not inputs:
            problem = f"no column {missing[0]!r}" if missing else "no columns of features"
            if len(header) == 1 and any(character in header[0] for character in ",;\t"):
                problem += f"; expected {delimiter!r} between the columns"
            raise DataError(f"{path}, line 1: {problem}; the columns are {', '.join(header)}")
        columns = [(header.index(name), f"column {name!r}") for name in inputs]
        labels = [(header.index(name), f"column {name!r}") for name in targets]

        values, numbers, names, texts, lines = array("f"), array("f"), [], [], []
        for line, row in rows:
            if len(row) != len(header):
                raise DataError(
                    f"{path}, line {line}: {len(row)} cells, but there are {len(header)} columns"
                )
            if image is None:
                values.extend(self._number(row[c], line, what) for c, what in columns)
            else:
                names.append(row[columns[0][0]])
                if "\0" in names[-1]:
                    raise DataError(f"{path}, line {line}: {names[-1]!r} is no file name")
            if one:
                texts.append(row[labels[0][0]])
            else:
                numbers.extend(self._number(row[c], line, what) for c, what in labels)
            lines.append(line)
        folder = os.path.dirname(self.path)
        self.root = folder or os.curdir
        self.paths = [os.path.join(folder, name) for name in names]
        self.target_paths = [self.path]
        x: Any = _ImageFiles(self.path, self.paths, lines, shape, crop)
        if image is None:
            x = np.array(values, np.float32).reshape(len(lines), len(columns))
        self.classes, self.lines = classes, lines
        if separator is not None:
            y = self._several(texts, lines, separator)
        elif one:
            y = self._labels(texts, lines)
        else:
            y = np.array(numbers, np.float32).reshape(len(lines), len(labels))
        super().__init__(x, *([] if label is None else [y]))

    def batch(self, indices: np.ndarray) -> Any:
        """Read several items, with indices (N,)."""
        files = self.arrays[0]
        if not isinstance(files, _ImageFiles):
            return super().batch(indices)
        images = read_images(files.__getitem__, np.asarray(indices).tolist(), files.shape, THREADS)
        return (images, *(labels[indices] for labels in self.arrays[1:]))

    def _labels(self, texts: list[str], lines: list[int]) -> np.ndarray:
        if self.classes is None and not any(map(_is_number, texts)):
            self.classes = sorted(set(texts))
        if self.classes is None:
            what = "the label (pass classes if labels are names)"
            numbers = [self._number(t, n, what) for t, n in zip(texts, lines, strict=True)]
            whole = all(text.strip().lstrip("+-").isdecimal() for text in texts)
            whole = whole and max(map(abs, numbers), default=0) < 2**63
            return np.array(numbers, np.int64 if whole else np.float32)
        index = self._index(zip(texts, lines, strict=True))
        return np.array([index[text] for text in texts], np.int64)

    def _several(self, texts: list[str], lines: list[int], separator: str) -> np.ndarray:
        """Ones for the classes that each text names, (N, classes)."""
        rows = [[name for part in t.split(separator) if (name := part.strip())] for t in texts]
        if self.classes is None:
            self.classes = sorted({name for row in rows for name in row})
        pairs = zip(rows, lines, strict=True)
        index = self._index((name, line) for row, line in pairs for name in row)
        y = np.zeros((len(rows), len(self.classes)), np.float32)
        for ones, row in zip(y, rows, strict=True):
            ones[[index[name] for name in row]] = 1
        return y

    def _index(self, named: Iterable[tuple[str, int]]) -> dict[str, int]:
        """The number of each class, once it is sure that the names, with their lines, have one."""
        index = {name: i for i, name in enumerate(self.classes or ()) if name}
        for text, line in named:
            if text not in index:
                known = ", ".join(index)
                raise DataError(
                    f"{self.path}, line {line}: label {text!r}, expected one of {known}"
                )
        return index

    def _number(self, text: str, line: int, what: str) -> float:
        if _is_number(text):
            return float(text)
        raise DataError(f"{self.path}, line {line}: {what} is {text!r}, expected a number")


class _ImageFiles:
    """Images that are decoded when they are read."""

    def __init__(
        self,
        path: str,
        paths: list[str],
        lines: list[int],
        shape: tuple[int, int, int],
        crop: bool,
    ) -> None:
        self.path, self.paths, self.lines = path, paths, lines
        self.shape, self.crop = shape, check_flag("crop", crop)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            return read_image(self.paths[index], self.shape, crop=self.crop)
        except DataError as error:
            raise DataError(f"{self.path}, line {self.lines[index]}: {error}") from error


def columns(path: str, delimiter: str = ",") -> list[str]:
    """The names of the columns of a CSV file, in its first line."""
    return next(_rows(path, delimiter), (1, []))[1]


def _rows(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not blank."""
    reader: Any = None
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (OSError, ValueError, csv.Error, TypeError) as error:
        line = f", line {reader.line_num}" if reader else ""
        raise DataError(f"{path}{line} cannot be read as CSV: {error}") from error


def _is_number(text: str) -> bool:
    """Whether a text is a number that float32 can hold; not NaN."""
    try:
        return abs(float(text)) < 3.4e38
    except ValueError:
        return False
