import dataclasses
import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from xcnn.data import info, load, names, status
from xcnn.data.sources.files import Digest, cache_dir, search_roots
from xcnn.data.sources.idx import STEMS
from xcnn.data.sources.registry import REGISTRY, RemoteFile
from xcnn.errors import ArgumentError, DataError

from .conftest import cifar_batch, idx_bytes, write_idx_set

REAL = os.environ.get("XCNN_DATA", "")  # read before the fixture clears it


@pytest.fixture
def small_mnist(monkeypatch, tmp_path) -> Path:
    """A small dataset in MNIST format, whose digests replace the published ones."""
    write_idx_set(tmp_path / "made")
    files = []
    for stem in STEMS:
        packed = (tmp_path / "made" / f"{stem}.gz").read_bytes()
        digest = hashlib.sha256(gzip.decompress(packed)).hexdigest()
        remote = RemoteFile(f"{stem}.gz", len(packed), Digest("sha256", digest, True))
        files.append(remote)
    record = dataclasses.replace(info("mnist"), files=tuple(files))
    monkeypatch.setitem(REGISTRY, "mnist", record)
    return tmp_path / "made"


def put(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def test_names_and_info():
    assert names()[:6] == ["digits", "mnist", "fashion-mnist", "cifar10", "moons", "cross"]
    for name in names():
        record = info(name)
        assert record.name == name
        assert len(record.mean) == len(record.std) == record.shape[0]
        assert bool(record.download_size) == (record.origin in ("idx", "cifar"))
    assert info("cifar10").classes[3] == "cat"


def test_an_unknown_name_lists_the_known_ones():
    for ask in (load, info, status):
        with pytest.raises(ArgumentError, match=r"'mist'.*mnist"):
            ask("mist")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
def test_a_bad_limit(limit):
    with pytest.raises(ArgumentError, match="limit"):
        load("moons", limit=limit)


def test_limit_keeps_the_first_items_of_both_splits():
    whole, some = load("digits"), load("digits", limit=11)
    assert len(some.train) == len(some.test) == 11
    np.testing.assert_array_equal(some.train.arrays[0], whole.train.arrays[0][:11])
    assert some.mean == whole.mean


def test_data_splits_are_frozen_and_normalise():
    data = load("digits")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"
    x = data.normalize()(data.train.arrays[0])
    assert x.dtype == np.float32
    assert abs(x.mean()) < 0.1
    assert abs(x.std() - 1) < 0.1
    moons = load("moons")
    assert abs(moons.normalize()(moons.train.arrays[0]).mean()) < 1e-3


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize("way", ["data_dir", "XCNN_DATA", "cache"])
def test_search_locations(small_mnist, tmp_path, monkeypatch, folder, way):
    root = cache_dir() if way == "cache" else tmp_path / "root"
    put(small_mnist, root / folder)
    if way == "XCNN_DATA":
        monkeypatch.setenv("XCNN_DATA", str(root))
    data_dir = root if way == "data_dir" else None
    data = load("mnist", data_dir=data_dir, download=False)
    assert data.train.arrays[0].shape == (7, 1, 5, 4)
    assert len(data.test) == 3
    assert Path(data.source) == root / folder == status("mnist", data_dir).folder
    assert "found in" in str(status("mnist", data_dir))


def test_search_order(small_mnist, tmp_path, monkeypatch):
    for root in ("given", "variable", "cache"):
        put(small_mnist, tmp_path / root / "mnist")
    monkeypatch.setenv("XCNN_DATA", str(tmp_path / "variable"))
    assert "given" in load("mnist", data_dir=tmp_path / "given").source
    assert "variable" in load("mnist").source
    assert "variable" in load("mnist", data_dir=tmp_path / "empty").source
    monkeypatch.delenv("XCNN_DATA")
    assert "cache" in load("mnist").source


def test_search_roots_and_cache(monkeypatch):
    monkeypatch.setenv("XCNN_CACHE", "/c")
    monkeypatch.setenv("XCNN_DATA", "/c")
    assert search_roots("~/d") == [Path.home() / "d", Path("/c")]
    monkeypatch.delenv("XCNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_dir() == Path("/x/xcnn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "xcnn"


def test_a_repacked_copy_is_accepted_and_a_changed_one_is_not(small_mnist):
    path = small_mnist / f"{STEMS[0]}.gz"
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data, 1))
    load("mnist", data_dir=small_mnist, download=False)
    changed = data[:-1] + bytes([data[-1] ^ 1])
    path.write_bytes(gzip.compress(changed))
    with pytest.raises(DataError) as caught:
        load("mnist", data_dir=small_mnist, download=False)
    text = str(caught.value)
    assert hashlib.sha256(data).hexdigest() in text
    assert str(path) in text
    assert hashlib.sha256(changed).hexdigest() in text
    assert "replace it" in text


def test_mnist_is_not_taken_for_fashion_mnist(small_mnist):
    with pytest.raises(DataError, match="belongs to mnist, not to fashion-mnist"):
        load("fashion-mnist", data_dir=small_mnist, download=False)


def test_fashion_mnist_from_files(tmp_path):
    write_idx_set(tmp_path / "fashion-mnist", packed=False)
    data = load("fashion-mnist", data_dir=tmp_path, download=False)
    assert data.classes[9] == "ankle boot"
    assert len(data.train) == 7


@pytest.mark.parametrize("folder", ["cifar10", "cifar10-jpeg", "cifar-10-batches-bin", ""])
def test_cifar10_from_loose_batches(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "data_batch_1.bin.gz").write_bytes(gzip.compress(cifar_batch([1, 2])))
    (tmp_path / folder / "test_batch.bin").write_bytes(cifar_batch([3]))
    data = load("cifar10", data_dir=tmp_path, download=False)
    assert data.train.arrays[1].tolist() == [1, 2]
    assert data.image_shape == (3, 32, 32)


def test_absent_dataset_error_lists_locations_and_advice(tmp_path):
    with pytest.raises(DataError) as caught:
        load("cifar10", data_dir=tmp_path / "mine", download=False)
    text = str(caught.value)
    for wanted in (
        str(tmp_path / "mine" / "cifar10"),
        str(tmp_path / "cache" / "cifar10-jpeg"),
        "no such folder",
        "download=False",
        "cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/",
    ):
        assert wanted in text
    absent = status("cifar10")
    assert absent.state == "absent"
    assert "170.1 MB" in str(absent)
    assert absent.folder == cache_dir() / "cifar10"


def test_failed_download_error_lists_locations_and_urls(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        load("mnist", data_dir=tmp_path / "mine", progress=False)
    text = str(caught.value)
    assert "http://127.0.0.1:9/mnist/train-images-idx3-ubyte.gz: " in text
    assert "refused" in text
    assert str(tmp_path / "mine" / "mnist") in text
    assert str(tmp_path / "cache") in text


def test_downloads_only_missing_files(small_mnist, server, monkeypatch):
    for path in small_mnist.iterdir():
        server.responses[f"/mnist/{path.name}"] = path.read_bytes()
    monkeypatch.setenv("XCNN_MIRROR", server.url)
    cache_dir().joinpath("mnist").mkdir(parents=True)
    name = f"{STEMS[1]}.gz"
    cache_dir().joinpath("mnist", name).write_bytes((small_mnist / name).read_bytes())
    data = load("mnist", progress=False)
    assert len(data.train) == 7
    assert len(server.requests) == 3
    assert load("mnist", progress=False).source == str(cache_dir() / "mnist")
    assert len(server.requests) == 3


def test_downloads_to_data_dir_if_given(small_mnist, server, monkeypatch, tmp_path):
    for path in small_mnist.iterdir():
        server.responses[f"/mnist/{path.name}"] = path.read_bytes()
    monkeypatch.setenv("XCNN_MIRROR", f"{server.url}/")
    data = load("mnist", data_dir=tmp_path / "mine", progress=False)
    assert data.source == str(tmp_path / "mine" / "mnist")
    assert not cache_dir().exists()


def test_wrong_download_is_deleted(small_mnist, server, monkeypatch):
    for stem in STEMS:
        server.responses[f"/mnist/{stem}.gz"] = gzip.compress(idx_bytes(np.zeros(3)))
    monkeypatch.setenv("XCNN_MIRROR", server.url)
    with pytest.raises(DataError, match="sent another file"):
        load("mnist", progress=False)
    assert list((cache_dir() / "mnist").iterdir()) == []


def test_status_without_files():
    assert str(status("digits")) == "embedded"
    assert str(status("moons")) == "generated"
    for name in names():  # of the whole dataset
        assert status(name).counts == info(name).counts


@pytest.mark.parametrize("packed", [True, False])
def test_status_counts_what_is_there(tmp_path, packed):
    write_idx_set(tmp_path / "fashion-mnist", packed=packed)
    assert status("fashion-mnist", tmp_path).counts == (7, 3)
    folder, pack = tmp_path / "cifar10", gzip.compress if packed else bytes
    folder.mkdir()
    for name, labels in (("data_batch_1", [1, 2]), ("data_batch_2", [3]), ("test_batch", [4, 5])):
        name += ".bin.gz" if packed else ".bin"
        (folder / name).write_bytes(pack(cifar_batch(labels)))
    assert status("cifar10", tmp_path).counts == (3, 2)


def test_status_of_an_archive(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, labels in (("data_batch_1", [1, 2]), ("readme", [0]), ("test_batch", [4])):
            content = cifar_batch(labels)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert status("cifar10", tmp_path).counts == (2, 1)


def test_status_of_damaged_files(tmp_path):
    write_idx_set(tmp_path / "mnist")
    path = tmp_path / "mnist" / f"{STEMS[0]}.gz"
    path.write_bytes(path.read_bytes()[:15])
    damaged = status("mnist", tmp_path)
    assert (damaged.state, damaged.counts) == ("found", (0, 0))
    assert f"found in {tmp_path / 'mnist'}, but {path} is truncated or damaged" in str(damaged)


@pytest.mark.skipif(
    not REAL or not (Path(REAL) / "mnist").is_dir(),
    reason="needs: the four files of MNIST in $XCNN_DATA/mnist",
)
def test_the_real_mnist():
    data = load("mnist", data_dir=REAL, download=False)
    images, labels = data.train.arrays
    assert images.shape == (60000, 1, 28, 28)
    assert data.test.arrays[0].shape == (10000, 1, 28, 28)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert images.dtype == np.uint8
    assert abs(images.mean() / 255 - data.mean[0]) < 1e-4


@pytest.mark.skipif(
    not REAL or not (Path(REAL) / "cifar10-jpeg").is_dir(),
    reason="needs: a part of CIFAR-10 in $XCNN_DATA/cifar10-jpeg",
)
def test_a_cifar10_of_fewer_batches():
    data = load("cifar10", data_dir=REAL, download=False, limit=100)
    assert data.train.arrays[0].shape == (100, 3, 32, 32)
    assert set(data.train.arrays[1]) <= set(range(10))


def test_the_fixture_replaced_the_record_only_for_its_test():
    assert info("mnist").files[0].digest.value.startswith("ba891046")
