"""Tar shards: packing, reading by index, the order of large data, and what is wrong with them."""

import gzip
import importlib.util
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcnn.data import (
    DataLoader,
    ImageFolder,
    ShardFolder,
    Subset,
    encode_image,
    load_folder,
    pack,
    split_folder,
)
from xcnn.data.samplers import BlockOrder
from xcnn.errors import ArgumentError, DataError
from xcnn.serialize import parts

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def png(value):
    return encode_image(np.full((3, 6, 6), value, np.uint8))


@pytest.fixture
def photos(tmp_path):
    """20 cats coloured 0 to 19, 10 dogs coloured 100 to 109, in several formats; a test split."""
    rng = np.random.default_rng(0)
    for split, name, first, count in (
        *(("train", "cat", 0, 20), ("train", "dog", 100, 10)),
        *(("test", "cat", 50, 3), ("test", "dog", 150, 2)),
    ):
        folder = tmp_path / "photos" / split / name
        folder.mkdir(parents=True)
        for value in range(first, first + count):
            suffix = ("png", "jpg", "WEBP", "npy")[value % 4]
            array = rng.integers(0, 200, (8, 9, 3)).astype(np.uint8)
            array[0] = value
            file = folder / f"{value}.x.{suffix}"
            np.save(file, array) if suffix == "npy" else Image.fromarray(array).save(file)
    return tmp_path / "photos"


def write(path, files):
    """A shard written by tarfile, as webdataset's writer does it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(values, label=lambda v: v % 2):
    for value in values:
        yield from ((f"{value:06}.png", png(value)), (f"{value:06}.cls", b"%d" % label(value)))


def items(dataset):
    x, y = dataset.batch(np.arange(len(dataset)))
    return sorted((int(label), image.tobytes()) for image, label in zip(x, y, strict=True))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_packed_images_are_those_of_the_folder(photos, tmp_path):
    """Their bytes too; in an order that mixes classes and is the same each time."""
    out = tmp_path / "shards"
    assert pack(photos, out, shard_items=8) == {"train": (30, 4), "test": (5, 1)}
    names = [f"train-00000{n}.tar" for n in range(4)]
    assert sorted(contents(out)) == sorted(
        [*names, "test-000000.tar", "classes.json", "index.safetensors"]
    )
    settings = {"size": (7, 5), "classes": ["cat", "dog"]}
    for split in ("train", "test"):
        packed = ShardFolder(out / f"{split}-*.tar", size=(7, 5))
        assert packed.classes == ["cat", "dog"]
        assert items(packed) == items(ImageFolder(photos / split, **settings))
    train, test, classes = split_folder(out, size=8)
    assert (len(train), len(test), classes) == (30, 5, ["cat", "dog"])
    assert np.abs(np.diff(train.labels)).sum() > 5
    stored = {}
    for name in names:
        with tarfile.open(out / name) as tar:
            stored |= {m.name: tar.extractfile(m).read() for m in tar}
    originals = {path.read_bytes() for path in photos.glob("train/*/*[gP]")}  # all but .npy
    assert originals <= set(stored.values())
    assert [stored[f"{n:09}.cls"] for n in range(30)] == [b"%d" % y for y in train.labels]
    pack(photos, tmp_path / "again", shard_items=8)
    assert contents(tmp_path / "again") == contents(out)
    (tmp_path / "other").mkdir()  # an empty one is fine
    pack(photos, tmp_path / "other", shard_size=4000, seed=1)
    sizes = [path.stat().st_size for path in (tmp_path / "other").glob("train-*.tar")]
    assert len(sizes) > 3
    assert max(sizes) <= 10240
    assert items(ShardFolder(tmp_path / "other" / "train-*", size=8)) == items(train)
    pack(photos / "train", tmp_path / "split", seed=5)  # what training on the folder holds out
    for own, packed in zip(
        *(split_folder(f, seed=5)[:2] for f in (photos / "train", tmp_path / "split")), strict=True
    ):
        assert items(own) == items(packed)


def test_items(photos, tmp_path):
    pack(photos, tmp_path / "shards", shard_items=8)
    data = ShardFolder(str(tmp_path / "shards" / "train-{000001..000002}.tar"), size=4, channels=1)
    assert (len(data), data.bounds.tolist(), len(data.paths)) == (16, [0, 8, 16], 2)
    x, y = data.batch(np.array([9, 0, -1]))
    assert (x.shape, x.dtype, y.dtype) == ((3, 1, 4, 4), np.uint8, np.int64)
    image, label = data[-1]
    np.testing.assert_array_equal(image, x[2])
    assert label == y[2] == data.labels[15]
    assert data.batch(np.array([], int))[0].shape == (0, 1, 4, 4)
    for index in (16, -17):
        with pytest.raises(IndexError):
            data[index]
    assert repr(data).endswith("16 images of 2 classes in 2 shards as 1×4×4)")
    unlabelled = load_folder(tmp_path / "shards", labelled=False)
    assert unlabelled.classes == []
    assert not unlabelled.train.labels.any()


def test_named_datasets(tmp_path):
    assert pack("digits", tmp_path / "digits") == {"train": (1437, 1), "test": (360, 1)}
    data = ShardFolder(tmp_path / "digits" / "test-*", size=32, channels=1)
    from xcnn.data import load

    test = load("digits").test
    assert items(data) == items(test)


def test_shards_from_elsewhere(tmp_path):
    """Long and foreign names, other files, folders; classes without names."""
    long = "a" * 90 + "/" + "ü" * 90 + "/000001"
    folder = tmp_path / "elsewhere"
    files = [
        *(("./0.JPG", png(0)), ("./0.CLS", b"2\n"), ("./0.json", b"{}")),
        *((f"{long}.cls", b"0"), (f"{long}.left.png", png(1)), (f"{long}.txt", b"a cat")),
    ]
    with tarfile.open(write(folder / "b.tar", files), "a") as tar:
        tar.addfile(tarfile.TarInfo("._hidden.png"))
        directory = tarfile.TarInfo("folder")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
    write(folder / "a.tar", samples(range(10, 13)))
    data = ShardFolder(folder, size=6)
    x, y = data.batch(np.arange(5))
    assert x[:, 0, 0, 0].tolist() == [10, 11, 12, 0, 1]
    assert y.tolist() == [0, 1, 0, 2, 0]
    assert data.classes == ["0", "1", "2"]
    assert ShardFolder(folder, classes=["x", "y", "z"]).classes == ["x", "y", "z"]
    (folder / "classes.json").write_text('["bird", "cat", "dog"]')
    assert ShardFolder(folder).classes == ["bird", "cat", "dog"]
    renamed = ShardFolder(folder, classes=["dog", "cat", "cow", "bird"])
    assert renamed.labels.tolist() == [3, 1, 3, 0, 3]
    with pytest.raises(DataError, match="has the classes bird, expected some of cat, dog"):
        ShardFolder(folder, classes=["cat", "dog"])
    train, test, _ = split_folder(folder, 0.4)
    assert (len(train), len(test)) == (3, 2)
    assert (train.bounds[-1], test.bounds[-1]) == (3, 2)


def test_the_index_follows_the_shards(tmp_path, monkeypatch):
    folder = tmp_path / "shards"
    write(folder / "a-0.tar", samples(range(4)))
    index = folder / "index.safetensors"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(ShardFolder(folder)) == 4
    assert not index.exists()
    monkeypatch.undo()
    assert len(ShardFolder(folder)) == 4
    first = index.read_bytes()
    write(folder / "a-1.tar", samples(range(4, 14)))
    assert ShardFolder(folder).bounds.tolist() == [0, 4, 14]
    assert index.read_bytes() != first
    (folder / "a-1.tar").unlink()
    with pytest.raises(DataError, match=r"a-1\.tar is missing.* remove .*index\.safetensors"):
        ShardFolder(folder)
    index.write_bytes(first)
    write(folder / "a-0.tar", samples(range(100, 104)))  # of the same size
    moved = (folder / "a-0.tar").read_bytes()
    (folder / "a-0.tar").write_bytes(moved[1024:] + moved[:1024])
    with pytest.raises(DataError, match=r"a-0\.tar is damaged: no picture .* remove index"):
        ShardFolder(folder)[0]


def two(path):
    write(path, [("a.png", png(0)), ("a.jpg", png(0)), ("a.cls", b"0")])


def apart(path):
    write(path, [("a.png", png(0)), ("b.png", png(0)), ("a.cls", b"0"), ("b.cls", b"0")])


def sparse(path):
    member = tarfile.TarInfo("a.png")
    member.type = tarfile.GNUTYPE_SPARSE
    with tarfile.open(path, "w") as tar:
        tar.addfile(member)


def compressed(path):
    write(path, samples(range(2)))
    path.with_suffix(".tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def changed(change):
    def make(path):
        write(path, samples(range(3)))
        path.write_bytes(change(path.read_bytes()))

    return make


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (changed(lambda b: b[:2000]), r"s\.tar is truncated or damaged: .* Copy or download it"),
        (changed(lambda b: b[:2048]), r"s\.tar is truncated or damaged: no header at byte 2048"),
        (changed(lambda b: b[:3072] + b"x" * 512 + b[3584:]), "damaged: no header at byte 3072"),
        (changed(lambda b: b"x" * 99), r"s\.tar is truncated or damaged"),
        (changed(lambda b: b""), r"s\.tar is truncated or damaged: empty file"),
        (changed(lambda b: bytes(10240)), "no images: its shards are empty"),
        (compressed, r"s\.tar\.gz is compressed, so it has no random access: gunzip it"),
        (two, "a has 2 pictures among .png, .jpg, .cls: expected one"),
        (apart, "a has 0 pictures among .cls: expected one .* one after another"),
        (lambda p: write(p, [("a.png", png(0))]), r"a\.png in .*s\.tar has no class: expected"),
        (lambda p: write(p, [("a.png", b""), ("a.cls", b"cat")]), r"a\.cls holds b'cat'"),
        (lambda p: write(p, [("a.png", b"")] * 2), r"has .*a\.png twice"),
        (changed(lambda b: b + b), "goes on after its end"),
        (sparse, "a.png is sparse"),
        (lambda p: p.mkdir(), "no such shards; expected tar files, as xcnn pack"),
    ],
)
def test_what_is_wrong(tmp_path, make, text):
    make(tmp_path / "s.tar")
    with pytest.raises(DataError, match=text):
        ShardFolder(tmp_path / "s*", classes=["a", "b"])


def test_wrong_indices_and_classes(tmp_path):
    write(tmp_path / "s.tar", samples(range(3)))
    ShardFolder(tmp_path)
    (tmp_path / "classes.json").write_text('["a"]')
    with pytest.raises(DataError, match=r"of class 1, but .*classes\.json has 1 names"):
        ShardFolder(tmp_path)
    ends = ([["s.tar", 1, n, 0, 0], ["t.tar", 1, 3, 0, 0]] for n in (2.5, 4))
    more = [["s.tar", 1, 2, 0, 0]], [["s.tar", "1", 3, 0, 0]], [[0, 1, 3, 0, 0]], *ends
    for shards in ("[]", "[1]", "{", *map(json.dumps, more)):
        content = parts(
            {n: np.zeros(3, np.int64) for n in ("offset", "size", "label")}, {"shards": shards}
        )
        (tmp_path / "index.safetensors").write_bytes(b"".join(map(bytes, content)))
        with pytest.raises(
            DataError, match=r"index\.safetensors is no index of shards: .*Remove it"
        ):
            ShardFolder(tmp_path)
    write(tmp_path / "large" / "s.tar", [("a.png", b""), ("a.cls", b"9" * 18)])
    with pytest.raises(DataError, match=r"of class 9{18}, but classes has 1048576 names"):
        ShardFolder(tmp_path / "large")
    with pytest.raises(DataError, match=r"s-2\.tar is missing"):
        ShardFolder(tmp_path / "s-{2..4}.tar")


def test_unreadable_images(tmp_path):
    files = [*samples(range(4)), ("x.png", b"no picture"), ("x.cls", b"1")]
    write(tmp_path / "a.tar", files)
    write(tmp_path / "b.tar", samples(range(4, 6)))
    with pytest.raises(DataError, match=r"x\.png in .*a\.tar cannot be read: .*on_error=\"skip\""):
        ShardFolder(tmp_path).batch(np.arange(7))
    with pytest.warns(UserWarning, match="1 of 7 files are left out"):
        data = ShardFolder(tmp_path, on_error="skip", size=6)
    assert data.bounds.tolist() == [0, 4, 6]
    assert data.batch(np.arange(6))[0][:, 0, 0, 0].tolist() == [*range(6)]


def test_packing_is_all_or_nothing(photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    out, partial = tmp_path / "out", tmp_path / "out.partial"
    monkeypatch.setattr("xcnn.data.packing._write_member", full)
    with pytest.raises(OSError, match="No space left"):
        pack(photos, out)
    assert not out.exists()
    assert not partial.exists()
    partial.mkdir()
    with pytest.raises(ArgumentError, match=r"out\.partial is there, of a pack that was killed"):
        pack(photos, out)
    (out / "x").mkdir(parents=True)
    with pytest.raises(ArgumentError, match="is there already: expected a new or an empty folder"):
        pack(photos, out)
    with pytest.raises(ArgumentError, match=r"shards is in .*, whose folders are classes"):
        pack(photos, photos / "shards")
    with pytest.raises(ArgumentError, match="seed=-1"):
        pack(photos, tmp_path / "new", seed=-1)
    write(tmp_path / "shards" / "a.tar", samples(range(20)))
    for source, text in ((tmp_path / "shards", "holds shards already"), ("moons", "for features")):
        with pytest.raises(ArgumentError, match=text):
            pack(source, tmp_path / "new")


# -- the order -----------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), min_size=1, max_size=9), st.integers(1, 50), st.integers(0, 99))
def test_an_order_of_blocks(lengths, size, seed):
    """A permutation; any slice is that of the whole."""
    bounds = np.cumsum([0, *lengths])
    order = BlockOrder(bounds, size, (seed, 0))
    whole = order[:]
    assert sorted(whole.tolist()) == [*range(sum(lengths))]
    for start, stop in itertools.pairwise(range(0, sum(lengths) + 7, 7)):
        fresh = BlockOrder(bounds, size, (seed, 0))
        np.testing.assert_array_equal(fresh[start:stop], whole[start:stop])
        np.testing.assert_array_equal(order[start:stop], whole[start:stop])


def test_an_order_reads_few_shards_at_a_time():
    bounds = np.arange(0, 100_001, 1000)
    order = BlockOrder(bounds, 2000, (3, 1))[:]
    for start in range(0, 100_000, 5000):
        assert len(set(order[start : start + 1000] // 1000)) <= 6
    # but of each shard, items are next to others each time
    assert np.abs(np.diff(order)).mean() > 500
    assert abs(np.corrcoef(order, np.arange(100_000))[0, 1]) < 0.2
    assert (order != BlockOrder(bounds, 2000, (3, 2))[:]).mean() > 0.99


def test_a_loader_goes_on_anywhere_on_any_number_of_ranks(tmp_path):
    for shard in range(4):
        write(tmp_path / f"{shard}.tar", samples(range(20 * shard, 20 * shard + 20)))

    def read(epoch=1, start=0, part=(0, 1), **settings):
        settings = {"batch_size": 7, "shuffle": True, "shuffle_buffer": 30, **settings}
        loader = DataLoader(ShardFolder(tmp_path, size=6), seed=5, **settings)
        loader.epoch, loader.start = epoch, start
        return [x[:, 0, 0, 0].tolist() for x, _ in loader.shard(*part)]

    whole = read()
    assert sorted(itertools.chain(*whole)) == [*range(80)]
    assert whole != read(2)
    assert whole == read(workers=3) == read(prefetch=0)
    assert whole[5:] == read(start=5)
    ranks = [read(part=(rank, 3), start=2) for rank in range(3)]
    assert [[*itertools.chain(*batch)] for batch in zip(*ranks, strict=True)] == whole[2:]
    assert [*itertools.chain(*read(shuffle=False))] == [*range(80)]
    data = ShardFolder(tmp_path)
    loaders = [DataLoader(data, shuffle=True), DataLoader(data, shuffle=True, shuffle_buffer=9)]
    assert [loader.state_dict()["shuffle_buffer"] for loader in loaders] == [10_000, 9]
    half = DataLoader(Subset(data, np.arange(80) % 2 == 0), shuffle=True, shuffle_buffer=10)
    assert half.dataset.bounds.tolist() == [0, 10, 20, 30, 40]
    assert sorted(half.order(0).tolist()) == [*range(40)]
    assert Subset(data, [5, 3]).bounds is None


def test_memory_does_not_grow_with_the_data(tmp_path):
    """A million pictures: all shards are one file, and all rows of the index one picture."""
    count, shards = 10_000, 100
    first = write(tmp_path / "000.tar", samples([7]))
    size = first.stat().st_size
    for number in range(1, shards):
        os.link(first, tmp_path / f"{number:03}.tar")
    rows = [[f"{n:03}.tar", size, (n + 1) * count, 0, 1] for n in range(shards)]
    columns = {"offset": 512, "size": len(png(7)), "label": 1}
    full = {name: np.full(count * shards, value) for name, value in columns.items()}
    content = parts(full, {"shards": json.dumps(rows)})
    (tmp_path / "index.safetensors").write_bytes(b"".join(map(bytes, content)))
    del full, content
    tracemalloc.start()
    loader = DataLoader(ShardFolder(tmp_path, size=6), 200, shuffle=True, prefetch=0)
    loader.start = 2500
    for x, _ in itertools.islice(loader, 3):
        assert (x == 7).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # the numbers of a million pictures are 8 MB


_BY_WEBDATASET = """
import sys, webdataset
for sample in webdataset.WebDataset(sys.argv[1], shardshuffle=False):
    print(int(sample["cls"]))
with webdataset.TarWriter(sys.argv[2]) as writer:
    for n in range(3):
        writer.write({"__key__": f"{n}", "png": open(sys.argv[3], "rb").read(), "cls": n})
"""


@pytest.mark.skipif(not importlib.util.find_spec("webdataset"), reason="webdataset is missing")
def test_webdataset_reads_what_is_packed(photos, tmp_path):
    """And the other way round."""
    pack(photos, tmp_path / "shards", shard_items=8)
    (tmp_path / "7.png").write_bytes(png(7))
    urls = "shards/train-{000000..000003}.tar"
    command = [sys.executable, "-c", _BY_WEBDATASET, urls, "written.tar", "7.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    packed = ShardFolder(tmp_path / "shards" / "train-*")
    assert list(map(int, done.stdout.split())) == packed.labels.tolist()
    data = ShardFolder(tmp_path / "written.tar", size=6)
    assert (data.batch(np.arange(3))[0] == 7).all()
    assert data.labels.tolist() == [0, 1, 2]
