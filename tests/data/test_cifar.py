import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from xcnn.data.sources import cifar
from xcnn.errors import DataError

from .conftest import cifar_batch


def write_archive(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_parse_reads_label_then_planes():
    record = bytes([7]) + bytes([1] * 1024) + bytes([2] * 1024) + bytes([3] * 1024)
    images, labels = cifar.parse(record, "f")
    assert images.shape == (1, 3, 32, 32)
    assert images.dtype == np.uint8
    assert labels.tolist() == [7]
    assert labels.dtype == np.int64
    assert [np.unique(plane).tolist() for plane in images[0]] == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("length", "nearest"), [(0, 3073), (3072, 3073), (3074, 3073), (6000, 3073)]
)
def test_wrong_length(length, nearest):
    with pytest.raises(DataError) as caught:
        cifar.parse(bytes(length), "data_batch_1.bin")
    text = str(caught.value)
    assert f"got {length} bytes" in text
    assert str(nearest) in text
    assert "data_batch_1" in text


def test_a_label_above_9_is_refused():
    with pytest.raises(DataError, match="record 1 has the label 10"):
        cifar.parse(cifar_batch([3, 10]), "f")


def test_loose_batches_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "data_batch_10.bin").write_bytes(cifar_batch([3]))
    (tmp_path / "data_batch_2.bin.gz").write_bytes(gzip.compress(cifar_batch([2])))
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_batch([0, 1]))
    (tmp_path / "data_batch_1.bin.gz").write_bytes(b"not read, the unpacked file is there")
    (tmp_path / "test_batch.bin").write_bytes(cifar_batch([9]))
    (tmp_path / "batches.meta.txt").write_text("airplane")
    paths, reason = cifar.locate(tmp_path)
    train_x, train_y, test_x, test_y = cifar.read(paths)
    assert reason == ""
    assert train_x.shape == (4, 3, 32, 32)
    assert test_x.shape == (1, 3, 32, 32)
    assert train_y.tolist() == [0, 1, 2, 3]
    assert test_y.tolist() == [9]


@pytest.mark.parametrize(("name", "mode"), [(cifar.ARCHIVE, "w:gz"), (cifar.ARCHIVE[:-3], "w")])
def test_archive_is_read_in_memory(tmp_path, name, mode):
    members = {
        "test_batch.bin": cifar_batch([5]),
        "data_batch_2.bin": cifar_batch([2]),
        "data_batch_1.bin": cifar_batch([1]),
        "readme.html": b"<html>",
    }
    write_archive(tmp_path / name, members, mode)
    _, train_y, _, test_y = cifar.read(cifar.locate(tmp_path)[0])
    assert train_y.tolist() == [1, 2]
    assert test_y.tolist() == [5]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_truncated_archive_names_the_file(tmp_path):
    path = tmp_path / cifar.ARCHIVE
    members = {"data_batch_1.bin": cifar_batch([1] * 4), "test_batch.bin": cifar_batch([5] * 4)}
    write_archive(path, members)
    whole = path.read_bytes()
    for keep in (10, len(whole) // 2, len(whole) - 10_000):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"binary\.tar\.gz is truncated"):
            cifar.read([path])


def test_the_python_archive_is_refused(tmp_path):
    write_archive(tmp_path / cifar.ARCHIVE, {"data_batch_1": b"pickle", "test_batch": b"pickle"})
    with pytest.raises(DataError, match="not the Python one"):
        cifar.read([tmp_path / cifar.ARCHIVE])


def test_locate_names_what_is_missing(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(cifar_batch([5]))
    paths, reason = cifar.locate(tmp_path)
    assert paths == []
    assert "data_batch_*.bin" in reason
