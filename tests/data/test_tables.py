"""CSV files of features and of image files."""

import csv

import numpy as np
import pytest

from xcnn.data import CSVDataset, DataLoader, labels, split
from xcnn.errors import ArgumentError, DataError


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


IRIS = "length,width,species\n5.1,3.5,setosa\n7.0,3.2,versicolor\n\n4.9,-3e0,setosa\n"


def test_features_and_names_of_classes(write):
    data = CSVDataset(write(IRIS), label="species")
    assert data.features == ["length", "width"]
    assert data.classes == ["setosa", "versicolor"]
    x, y = data.arrays
    wanted = np.array([[5.1, 3.5], [7, 3.2], [4.9, -3]], np.float32)
    np.testing.assert_array_equal(x, wanted, strict=True)
    np.testing.assert_array_equal(y, np.array([0, 1, 0]), strict=True)
    ((x, y),) = DataLoader(data, 5)
    assert x.shape == (3, 2)
    assert labels(data).tolist() == [0, 1, 0]
    assert repr(data) == "CSVDataset(3 items: float32 (3, 2), int64 (3,))"


def test_several_labels(write):
    path = write("a,up,down,tags\n1,0.5,-2,x; z\n3,4,5,\n7,8,9,z\n")
    data = CSVDataset(path, label=["down", "up"], features=["a"])
    expected = np.array([[-2, 0.5], [5, 4], [9, 8]], np.float32)
    np.testing.assert_array_equal(labels(data), expected, strict=True)
    assert data.classes is None
    data = CSVDataset(path, label="tags", features=["a"], separator=";")
    assert (data.classes, data.lines) == (["x", "z"], [2, 3, 4])
    expected = np.array([[1, 1], [0, 0], [0, 1]], np.float32)
    np.testing.assert_array_equal(labels(data), expected, strict=True)
    with pytest.raises(DataError, match="line 2: label 'x', expected one of z"):
        CSVDataset(path, label="tags", features=["a"], separator=";", classes=["z"])
    with pytest.raises(DataError, match="line 2: column 'tags' is 'x; z', expected a number"):
        CSVDataset(path, label=["up", "tags"], features=["a"])


def test_as_the_csv_module_writes_it(write):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 4)).round(5)
    path = write("")
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b, quoted", 'c "too"', "label"])
        writer.writerows(table.tolist())
    data = CSVDataset(path)
    np.testing.assert_allclose(data.arrays[0], table[:, :3], rtol=1e-6)
    np.testing.assert_allclose(data.arrays[1], table[:, 3], rtol=1e-6)
    assert data.features == ["a", "b, quoted", 'c "too"']


def test_kinds_of_labels(write):
    def labels_of(column, **settings):
        data = CSVDataset(write("x,label\n" + "".join(f"1,{v}\n" for v in column)), **settings)
        return data.arrays[1].dtype.name, data.arrays[1].tolist(), data.classes

    assert labels_of([3, 0, -1]) == ("int64", [3, 0, -1], None)
    assert labels_of([0.5, 2, 1]) == ("float32", [0.5, 2, 1], None)
    assert labels_of([10**20, 1]) == ("float32", [float(np.float32(1e20)), 1], None)
    assert labels_of(["b", "a", "b"]) == ("int64", [1, 0, 1], ["a", "b"])
    assert labels_of(["b", "a"], classes=["b", "z", "a"]) == ("int64", [0, 2], ["b", "z", "a"])
    assert labels_of(["7", "x"], classes=["x", "7"]) == ("int64", [1, 0], ["x", "7"])


def test_selected_columns_and_other_delimiters(write):
    path = write("id;b;a\n7; 1.5;2\n8;3;4\n")
    data = CSVDataset(path, label=None, features=["a", "b"], delimiter=";")
    (x,) = data.arrays
    assert x.tolist() == [[2, 1.5], [4, 3]]
    assert data.features == ["a", "b"]
    path = write(b"\xef\xbb\xbflabel\tx\n1\t2\n")  # Excel writes a byte order mark
    assert CSVDataset(path, delimiter="\t").arrays[1].tolist() == [1]


def test_a_header_alone_is_an_empty_dataset(write):
    data = CSVDataset(write("a,b,label\n"))
    assert len(data) == 0
    assert data.arrays[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,label\n1,0\n\nabc,1\n", r"data.csv, line 4: column 'x' is 'abc', expected a number"),
        ("x,label\n1,0\n,1\n", "line 3: column 'x' is '', expected a number"),
        ("x,label\nnan,0\n", "line 2: column 'x' is 'nan'"),
        ("x,label\n1e39,0\n", "line 2: column 'x' is '1e39'"),
        ("x,label\n1,0\n2\n", "line 3: 1 cells, but there are 2 columns"),
        ("x,label\n1,0\n2,no\n", r"line 3: the label \(pass classes .* is 'no'"),
        ("x,label\n1,a\n2,\n", "line 3: label '', expected one of a"),
        ("x,y\n1,0\n", "line 1: no column 'label'; the columns are x, y"),
        ("label\n1\n", "line 1: no columns of features"),
        ("x,x,label\n1,2,3\n", "line 1: expected a header of different names"),
        ("", "line 1: expected a header"),
        ('x,label\n"1,0\n', "line 2 cannot be read as CSV"),
        (b"x,label\n1,\xff\n", "cannot be read as CSV: 'utf-8'"),
    ],
)
def test_errors_name_the_file_and_the_line(write, text, message):
    with pytest.raises(DataError, match=message):
        CSVDataset(write(text))


def test_bad_arguments(write, tmp_path):
    path = write(IRIS)
    with pytest.raises(DataError, match="No such file"):
        CSVDataset(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="line 3: label 'versicolor', expected one of setosa"):
        CSVDataset(path, label="species", classes=["setosa"])
    with pytest.raises(DataError, match="delimiter"):
        CSVDataset(path, delimiter="::")
    with pytest.raises(ArgumentError, match="pass one of them"):
        CSVDataset(path, features=["length"], image="width")
    with pytest.raises(ArgumentError, match="channels=2"):
        CSVDataset(path, image="width", channels=2)
    with pytest.raises(ArgumentError, match="size="):
        CSVDataset(path, image="width", size=0)


# -- images --------------------------------------------------------------------------------


@pytest.fixture
def pictures(write, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 3, 8, 8), np.uint8)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(pixels):
        np.save(tmp_path / "images" / f"{i}.npy", image)
    rows = "".join(f"images/{i}.npy,{'cat' if i % 2 else 'dog'},{i}\n" for i in range(6))
    return write(f"file,label,note\n{rows}"), pixels


@pytest.mark.parametrize("workers", [0, 2])
def test_image_files(pictures, workers, monkeypatch, tmp_path):
    path, pixels = pictures
    monkeypatch.chdir("/")
    data = CSVDataset(path, image="file", size=8)
    assert data.classes == ["cat", "dog"]
    for i, (x, y) in enumerate(DataLoader(data, 4, workers=workers)):
        np.testing.assert_array_equal(x, pixels[4 * i : 4 * i + 4], strict=True)
        np.testing.assert_array_equal(y, np.array([1, 0, 1, 0])[: len(x)])
    np.testing.assert_array_equal(data[2][0], pixels[2])
    train, test = split(data, 0.5, stratify=True)
    assert len(train) == len(test) == 3
    images, answers = test.batch(np.array([2, 0]))
    np.testing.assert_array_equal(images, pixels[test.indices[[2, 0]]])
    assert answers.tolist() == [int(i % 2 == 0) for i in test.indices[[2, 0]]]
    assert data.batch(np.array([], int))[0].shape == (0, 3, 8, 8)


def test_images_are_decoded_on_demand_and_resized(pictures):
    pytest.importorskip("PIL")
    path, _ = pictures
    data = CSVDataset(path, label=None, image="file", size=(4, 6), channels=1)
    (x,) = data.batch(np.arange(6))
    assert x.shape == (6, 1, 4, 6)
    (path.parent / "images" / "3.npy").unlink()
    data = CSVDataset(path, image="file", size=8)
    with pytest.raises(DataError, match=r"data.csv, line 5: no such file: .*3.npy$"):
        data.batch(np.arange(6))
    with pytest.raises(DataError, match=r"data.csv, line 5: no such file: .*3.npy$"):
        data[3]
