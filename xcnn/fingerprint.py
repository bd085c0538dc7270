"""Short texts that tell code, data and arrays apart, to compare those of several processes."""

from __future__ import annotations

import hashlib
import operator
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import backends
from .arrays import Array
from .data import Dataset, IterableDataset, arrays_of

_ITEMS = 16  # of a dataset that are looked at
_SOURCES = (".py", ".cu", ".cuh", ".cpp", ".h")
_host = backends.get("cpu").xp


def of_code() -> str:
    """Of xcnn's sources, and of the program that runs, if it is a file."""
    package = Path(__file__).parent
    files = sorted({*_sources(package), *_sources(Path(backends.__file__).parent)})
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is not None and Path(main).suffix == ".py" and Path(main).is_file():
        files.append(Path(main))
    return _digest(content for file in files for content in (file.name.encode(), file.read_bytes()))


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in _SOURCES)


def of_data(dataset: Dataset) -> str:
    """Of the number of items, and of some of them, evenly spaced; an iterable is not read.

    Items that are drawn anew each time, as by a random augmentation, do not count.
    """
    length = operator.length_hint(dataset, -1)
    if isinstance(dataset, IterableDataset) or length <= 0:
        return f"{length if length >= 0 else 'unknown'} items"
    places = sorted({i * (length - 1) // (_ITEMS - 1) for i in range(_ITEMS)})
    found = [_of_items(dataset, places) for _ in range(2)]
    return f"{length} items, {found[0] if found[0] == found[1] else 'random'}"


def _of_items(dataset: Dataset, places: list[int]) -> str:
    batch = dataset.batch(_host.asarray(places))
    return of_arrays({str(i): _host.asarray(a) for i, a in enumerate(arrays_of(batch))})


def of_arrays(named: Mapping[str, Array]) -> str:
    """Of names, shapes, dtypes and values of arrays on any device; waits for it."""

    def parts() -> Iterator[Any]:
        for name, array in named.items():
            host = _host.ascontiguousarray(backends.of(array).to_host(array))
            yield f"{name} {host.dtype} {array.shape}".encode()
            yield host.reshape(-1).view("uint8") if host.dtype.kind != "O" else repr(host).encode()

    return _digest(parts())


def differences(
    described: Sequence[Mapping[str, str]],
) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Name, and ranks by value, of each entry that is not the same in the descriptions of all."""
    for name in dict.fromkeys(name for one in described for name in one):
        ranks: dict[str, list[int]] = {}
        for rank, one in enumerate(described):
            ranks.setdefault(one.get(name, "missing"), []).append(rank)
        if len(ranks) > 1:
            yield name, ranks


def _digest(contents: Iterator[Any]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for content in contents:
        found.update(content)
    return found.hexdigest()
