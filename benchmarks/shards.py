"""Reading a data set of the size of ImageNet from tar shards, on one machine.

``python -m benchmarks shards`` writes 1.2 million tiny pictures into 120 shards in a temporary
folder: 30 of them, each under four names, 630 MB on the disk. It opens them, shuffles the epoch,
reads a part of it, starts in the middle of it and as one of four ranks. It prints pictures per
second, and how much the memory of the process grew meanwhile. A reader that goes through the tars
from the first byte to the last, tarfile or webdataset if that is installed, decodes the same
pictures for comparison.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.data import DataLoader, ShardFolder, decode_image, encode_image
from xcnn.data.packing import write_shards
from xcnn.data.shard_index import INDEX, IndexWriter

SHARDS, COPIES, SIDE, BATCH, RANKS = 120, 4, 12, 256, 4


def write(folder: Path, items: int) -> None:
    """Write ``items`` pictures of 1,000 classes into shards, of which some are links to others."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1000, 1, SIDE, SIDE)).astype(np.uint8)
    contents = list(map(encode_image, pixels))
    each, own = items // SHARDS, SHARDS // COPIES
    pictures = (("png", contents[n % 1000], n % 1000) for n in range(each * own))
    index = IndexWriter()
    write_shards(folder, "train", pictures, 2**40, each, index)
    places = list(zip(*(column.tolist() for column in index.arrays().values()), strict=True))
    index = IndexWriter()
    for number in range(SHARDS):
        source, path = (folder / f"train-{n:06}.tar" for n in (number % own, number))
        if number >= own:
            os.link(source, path)
        for place in places[number % own * each :][:each]:
            index.add(*place)
        index.end(path.name, path.stat().st_size)
    index.write(folder)


def memory() -> int:
    """Bytes that the process has in memory, apart from files that are mapped."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and its seconds."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def rate(batches: Iterable[Any], items: int) -> str:
    """Pictures per second, and the growth of memory from the tenth batch on."""
    start, work = time.perf_counter(), time.process_time()
    seen = before = most = 0
    for number, (x, *_) in enumerate(batches):
        seen += len(x)
        if number == 10:
            before = memory()
        most = max(most, memory()) if number >= 10 else 0
        if seen >= items:
            break
    seconds, work = time.perf_counter() - start, time.process_time() - work
    grown = (most - before) / 1e6
    return f"{seen / seconds:>8,.0f} {seen / work:>12,.0f} {seen:>10,} {grown:>+10.1f} MB"


def in_order(folder: Path) -> Iterator[tuple[np.ndarray]]:
    """Batches by tarfile, which reads every byte."""

    def pictures() -> Iterator[np.ndarray]:
        for path in sorted(folder.glob("*.tar")):
            with tarfile.open(path) as tar:
                for member in tar:
                    content = tar.extractfile(member).read()  # type: ignore[union-attr]
                    if member.name.endswith(".png"):
                        yield decode_image(content, (1, SIDE, SIDE))

    images = pictures()
    while batch := list(itertools.islice(images, BATCH)):
        yield (np.stack(batch),)


def by_webdataset(folder: Path) -> Iterator[Any]:
    """Batches by webdataset, shuffled by its shards and its buffer."""
    import webdataset
    from PIL import Image

    def decode(content: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(content)))[None]

    urls = sorted(map(str, folder.glob("*.tar")))
    source = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(10_000)
    pairs = source.to_tuple("png", "cls").map_tuple(decode, int)
    return iter(pairs.batched(BATCH))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--items", type=int, default=1_200_000, help="pictures in the shards")
    parser.add_argument("--read", type=int, default=60_000, help="pictures that each reader reads")


def main(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="xcnn-shards-") as name:
        folder = Path(name)
        _, seconds = timed(lambda: write(folder, options.items))
        files = [path.stat() for path in folder.iterdir()]
        disk = sum({file.st_ino: file.st_size for file in files}.values()) / 1e6
        whole = sum(file.st_size for file in files) / 1e9
        print(f"written {whole:.2f} GB, {disk:.0f} MB of disk, in {seconds:.0f} s")
        dataset = opened(folder)
        loader = DataLoader(dataset, BATCH, shuffle=True)
        ordered(loader, dataset)
        read(folder, loader, options.read)
    return 0


def opened(folder: Path) -> ShardFolder:
    """Open one shard without an index, and all with theirs."""
    settings: Any = {"size": SIDE, "channels": 1}
    shard = next(folder.glob("*.tar"))
    os.makedirs(folder / "one")
    os.link(shard, folder / "one" / shard.name)
    scanned, seconds = timed(lambda: len(ShardFolder(folder / "one", **settings)))
    print(f"index of a shard from elsewhere: {scanned / seconds:,.0f} img/s")
    before = memory()
    dataset, seconds = timed(lambda: ShardFolder(folder, **settings))
    grown = (memory() - before) / 1e6
    mapped = (folder / INDEX).stat().st_size / 1e6
    print(f"opened in {1000 * seconds:.1f} ms, memory +{grown:.1f} MB ({mapped:.0f} MB mapped)")
    return dataset


def ordered(loader: DataLoader, dataset: ShardFolder) -> None:
    """Find the order of an epoch, batch by batch, and start in its middle."""
    before = memory()
    jobs = loader._indexed(0, 0)
    count, seconds = timed(lambda: sum(len(indices) for *_, indices in jobs))
    grown = (memory() - before) / 1e6
    print(f"order of an epoch: {count:,} in {seconds:.2f} s, memory +{grown:.1f} MB")
    loader.start = len(loader) // 2
    first, seconds = timed(lambda: next(iter(loader)))
    middle = loader.order(0)[len(loader) // 2 * BATCH :][:BATCH]
    right = np.array_equal(first[0], dataset.batch(middle)[0])
    print(f"started in the middle, first batch after {1000 * seconds:.0f} ms: right is {right}")


def read(folder: Path, loader: DataLoader, count: int) -> None:
    """Read ``count`` pictures with each reader."""
    readers: dict[str, tuple[Iterable[Any], int]] = {"shuffled": (loader, count)}
    for rank in range(RANKS):
        part = DataLoader(loader.dataset, BATCH, shuffle=True).shard(rank, RANKS)
        readers[f"rank {rank} of {RANKS}"] = part, count // RANKS
    readers["tarfile"] = in_order(folder), count
    if importlib.util.find_spec("webdataset"):
        readers["webdataset"] = by_webdataset(folder), count
    print(f"{'pictures':<12}    per s    per CPU s       read        memory")
    for name, (batches, items) in readers.items():
        print(f"{name:<13}{rate(batches, items)}", flush=True)
