"""Reading annotations of objects: COCO's JSON files and Pascal VOC's XML files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from ..errors import DataError, show
from ..files import open_file, read_all, read_json, reading
from .folder import by_stem

_LARGE = 128  # an annotation file may be this many times as large as other JSON files: 2 GiB
_XML = 2**20  # bytes of an XML file
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class Thing(NamedTuple):
    """An object in a picture.

    ``where`` names it in messages; ``box`` is x1, y1, x2, y2 in pixels of the picture; ``area`` is
    None for that of the box.
    """

    where: str
    label: str
    box: tuple[float, float, float, float]
    crowd: bool = False
    area: float | None = None


class Picture(NamedTuple):
    """A picture: its file, (height, width) as the annotations say or None, and its objects."""

    path: str
    size: tuple[int, int] | None
    things: list[Thing]


def read_coco(
    images: str | os.PathLike[str], annotations: str | os.PathLike[str]
) -> tuple[list[Picture], list[str]]:
    """Read a COCO annotation file: its pictures, and the names of its categories by their ids.

    Parameters
    ----------
    images : path
        The folder that file names are relative to.
    annotations : path
        The JSON file.

    Raises
    ------
    DataError
        The file cannot be read, is not in COCO's format or contradicts itself.
    """
    file = Path(annotations)
    with reading(file, "is not in COCO's format", "Expected a COCO annotation file", DataError):
        if file.is_file() and not file.stat().st_size:
            raise DataError(f"{file} is empty: expected a COCO annotation file")
        content = read_json(file, _LARGE)
        lists = [_list_of(content, name) for name in ("images", "annotations", "categories")]
        names = _categories(lists[2], lists[1])
        pictures: dict[Any, Picture] = {}
        for entry in lists[0]:
            number = _identity(entry, "an image", pictures)
            pictures[number] = _picture(entry, Path(images), f"image {number}")
        seen: dict[Any, None] = {}
        for n, entry in enumerate(lists[1]):
            entry.setdefault("id", f"number {n}")
            where = f"annotation {_identity(entry, 'an annotation', seen)}"
            seen[entry["id"]] = None
            owner, kind = (_key(entry.get(k)) for k in ("image_id", "category_id"))
            if owner not in pictures:
                raise DataError(f"{where} has image_id={show(owner)}, but there is no such image")
            if kind not in names:
                raise DataError(f"{where} has category_id={show(kind)}: no such category")
            pictures[owner].things.append(_thing(entry, where, names[kind]))
    return list(pictures.values()), list(names.values())


def _list_of(content: Any, name: str) -> list[Any]:
    found = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DataError(f"no list {name!r} of objects: expected a COCO annotation file")
    if not found and name != "annotations":
        raise DataError(f"the list {name!r} is empty")
    return found


def _key(value: Any) -> Any:
    """A value that can be looked up; lists and the like cannot."""
    return value if isinstance(value, int | str) else show(value)


def _identity(entry: dict[str, Any], what: str, known: Mapping[Any, Any]) -> Any:
    number = entry.get("id")
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise DataError(f"{what} has id={show(number)}: expected an int")
    if number in known:
        raise DataError(f"two have the id {number}: {what}'s must be unique")
    return number


def _categories(entries: list[Any], annotations: list[Any]) -> dict[Any, str]:
    """Names by id, in the order of the ids; without groups that only other categories belong to."""
    names: dict[Any, str] = {}
    for entry in entries:
        number = _identity(entry, "a category", names)
        names[number] = _text(entry, "name", f"category {number}")
        if list(names.values()).count(names[number]) > 1:
            raise DataError(f"two categories have the name {names[number]!r}")
    groups = {_key(e.get("supercategory")) for e in entries if e.get("supercategory") != e["name"]}
    used = {_key(entry.get("category_id")) for entry in annotations}
    ids = [n for n in names if n in used or names[n] not in groups]
    return {n: names[n] for n in sorted(ids, key=lambda n: (isinstance(n, str), n))}


def _picture(entry: dict[str, Any], folder: Path, where: str) -> Picture:
    name = _text(entry, "file_name", where)
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise DataError(f"{where} has file_name={name!r}: expected a path inside of {folder}")
    size = tuple(entry.get(k) for k in ("height", "width"))
    if size == (None, None):
        return Picture(str(folder / name), None, [])
    if not all(type(n) is int and n > 0 for n in size):
        raise DataError(f"{where} has height and width {show(size)}: expected ints above 0")
    return Picture(str(folder / name), (int(size[0] or 0), int(size[1] or 0)), [])


def _text(entry: dict[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where} has {name}={show(value)}: expected a text")
    return value


def _thing(entry: dict[str, Any], where: str, label: str) -> Thing:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise DataError(f"{where} has bbox={show(box)}: expected [x, y, width, height] in pixels")
    x, y, width, height = map(float, box)
    crowd, area = entry.get("iscrowd", 0), entry.get("area")
    if crowd not in (0, 1):
        raise DataError(f"{where} has iscrowd={show(crowd)}: expected 0 or 1")
    if area is not None and not (_is_number(area) and area >= 0):
        raise DataError(f"{where} has area={show(area)}: expected a number of pixels")
    return Thing(where, label, (x, y, x + width, y + height), bool(crowd), area)


def _is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number that is no larger than pictures can need."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e12  # False for NaN


# -- Pascal VOC ------------------------------------------------------------------------------


def read_voc(
    root: str | os.PathLike[str], image_set: str | None = None
) -> tuple[list[Picture | str], list[str]]:
    """Read annotations as in Pascal VOC: ``Annotations/*.xml`` and the pictures in ``JPEGImages``.

    Parameters
    ----------
    root : path
    image_set : str, optional
        Only those listed in ``ImageSets/Main/IMAGE_SET.txt``.

    Returns
    -------
    pictures : list of Picture or str
        In the place of one that is missing, or whose annotations are, cannot be read or are not in
        VOC's format: what is wrong.
    files : list of str
        The annotation files.

    Raises
    ------
    DataError
        A folder or the list is missing or empty, or two pictures have one name.
    """
    root = Path(root)
    folder, images = root / "Annotations", root / "JPEGImages"
    for needed in (folder, images):
        if not needed.is_dir():
            raise DataError(f"no such folder: {needed}; expected Annotations and JPEGImages")
    names = [path.stem for path in shown(folder, "*.xml")]
    source: Path = folder
    if image_set is not None:
        source = root / "ImageSets" / "Main" / f"{image_set}.txt"
        with reading(source, "is not a list of pictures", error=DataError), open_file(source) as f:
            lines = read_all(f, 2**26).decode("utf-8").splitlines()
            names = [line.split()[0] for line in lines if line.strip()]
    if not names or any("\0" in name for name in names):
        problem = "lists a name with a NUL character" if names else "is empty"
        raise DataError(f"{source} {problem}: expected annotations of at least one picture")
    listed = [str(p) for p in shown(images, "*") if p.suffix.lower() in _SUFFIXES]
    found = {Path(stem).name: path for stem, path in by_stem(listed).items()}
    files = [folder / f"{name}.xml" for name in names]
    pictures = [_read_or_problem(file, found.get(file.stem)) for file in files]
    return pictures, [str(file) for file in files if file.is_file()]


def shown(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that match, sorted; without hidden ones, such as macOS makes."""
    return sorted(p for p in folder.glob(pattern) if not p.name.startswith("."))


def _read_or_problem(file: Path, image: str | None) -> Picture | str:
    try:
        return _read_xml(file, image)
    except DataError as error:
        return str(error)


class _WithoutEntities(ElementTree.TreeBuilder):
    """Refuses a document type declaration, whose entities could expand without limit."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError("a document type declaration is not read: remove it")


def _read_xml(file: Path, image: str | None) -> Picture:
    with reading(file, "is not in Pascal VOC's format", "Expected an XML file", DataError):
        with open_file(file) as opened:
            content = read_all(opened, _XML)
        root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_WithoutEntities()))
        if root.tag != "annotation":
            raise DataError(f"the outermost element is {root.tag!r}: expected 'annotation'")
        if image is None:
            name = root.findtext("filename") or file.stem
            raise DataError(f"its picture {Path(name).stem} is not in JPEGImages")
        size = [root.findtext(f"size/{k}") for k in ("height", "width")]
        nodes = enumerate(root.findall("object"), 1)
        things = [_voc_thing(node, f"object {n} of {file.name}") for n, node in nodes]
        numbers = [int(_number(text, "size")) for text in size if text is not None]
        # tools that do not know the size write 0
        is_known = len(numbers) == 2 and min(numbers) > 0
        return Picture(image, (numbers[0], numbers[1]) if is_known else None, things)


def _voc_thing(node: Any, where: str) -> Thing:
    """Pixels are counted from 1 in VOC, and the last one is inside of the box."""
    name = (node.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{where} has no name")
    x1, y1, x2, y2 = (
        _number(node.findtext(f"bndbox/{side}"), f"{side} of {where}")
        for side in ("xmin", "ymin", "xmax", "ymax")
    )
    is_difficult = (node.findtext("difficult") or "0").strip() == "1"
    return Thing(where, name, (x1 - 1, y1 - 1, x2, y2), is_difficult)


def _number(text: str | None, what: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not _is_number(value):
        raise DataError(f"{what} is {show(text)}: expected a number")
    return value


def class_names(pictures: Sequence[Picture | str]) -> list[str]:
    """The labels of all objects, sorted."""
    found = [picture for picture in pictures if not isinstance(picture, str)]
    return sorted({thing.label for picture in found for thing in picture.things})
