import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcnn.data.sources import idx
from xcnn.data.sources.files import read_bytes
from xcnn.errors import DataError

from .conftest import idx_bytes, write_idx_set


def unchecked(path: Path, data: bytes) -> None:
    pass


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
def test_parse_gives_back_what_was_written(array):
    parsed = idx.parse(idx_bytes(array), "f")
    assert parsed.dtype == np.uint8
    assert parsed.flags.writeable
    np.testing.assert_array_equal(parsed, array)


@given(st.binary(max_size=64))
def test_parse_of_any_bytes_is_an_array_or_a_data_error(data):
    try:
        parsed = idx.parse(data, "f")
    except DataError:
        return
    assert idx_bytes(parsed) == data


@given(st.integers(0, 27))
def test_every_truncation_is_detected(length):
    whole = idx_bytes(np.arange(12).reshape(3, 2, 2))
    assert len(whole) == 28
    with pytest.raises(DataError):
        idx.parse(whole[:length], "f")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x00\x00\x0b\x01" + struct.pack(">I", 1) + b"\0\0", "starts with '00 00 0b 01'"),
        (b"\x89PNG\r\n", "starts with '89 50 4e 47'"),
        (b"", "starts with ''"),
        (idx_bytes(np.zeros((2, 3))) + b"x", "expected 18 bytes for the shape (2, 3), got 19"),
        (b"\x00\x00\x08\x03\x00\x00", "expected a header of 16 bytes, got 6"),
    ],
)
def test_parse_errors_state_actual_and_expected(data, text):
    with pytest.raises(DataError) as caught:
        idx.parse(data, "labels.idx")
    assert text in str(caught.value)
    assert "labels.idx" in str(caught.value)


def test_a_huge_stated_shape_allocates_nothing():
    with pytest.raises(DataError, match="got 16 bytes"):
        idx.parse(b"\x00\x00\x08\x03" + b"\xff" * 12, "f")


@pytest.mark.parametrize("packed", [True, False])
def test_read_gives_channels_and_int64_labels(tmp_path, packed):
    write_idx_set(tmp_path, packed=packed)
    paths, reason = idx.locate(tmp_path)
    train_x, train_y, test_x, test_y = idx.read(paths, unchecked)
    assert reason == ""
    assert train_x.shape == (7, 1, 5, 4)
    assert train_x.dtype == np.uint8
    assert train_y.tolist() == list(range(7))
    assert train_y.dtype == np.int64
    assert test_x.shape == (3, 1, 5, 4)
    assert test_y.shape == (3,)


def test_an_unpacked_file_named_gz_is_read(tmp_path):
    path = tmp_path / "f.gz"
    path.write_bytes(idx_bytes(np.arange(3)))
    assert idx.parse(read_bytes(path), "f").tolist() == [0, 1, 2]


def test_locate_names_what_is_missing(tmp_path):
    write_idx_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert idx.locate(tmp_path) == ([], "lacks t10k-labels-idx1-ubyte[.gz]")


def test_images_and_labels_must_match(tmp_path):
    write_idx_set(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx_bytes(np.zeros(6))))
    with pytest.raises(DataError, match=r"\(7, 5, 4\).*\(6,\)"):
        idx.read(idx.locate(tmp_path)[0], unchecked)


@pytest.mark.parametrize("keep", [1, 10, 25, -1])
def test_truncated_gzip_names_the_file(tmp_path, keep):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.arange(200)))[:keep])
    with pytest.raises(DataError, match=r"images\.gz"):
        idx.parse(read_bytes(path), str(path))


def test_damaged_gzip_names_the_file(tmp_path):
    path = tmp_path / "images.gz"
    packed = bytearray(gzip.compress(idx_bytes(np.arange(200))))
    packed[40] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"images\.gz is truncated or damaged: CRC"):
        read_bytes(path)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"no such file: .*none"):
        read_bytes(tmp_path / "none")
