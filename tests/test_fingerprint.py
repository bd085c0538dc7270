"""What tells code, data and arrays of several processes apart."""

import sys

import numpy as np

from xcnn import data, fingerprint

from .conftest import layouts, normal

X, Y = normal(100, 2, 3, dtype="float32"), np.arange(100) % 7


def test_arrays(backend):
    array = normal(3, 4, dtype="float32")
    expected = fingerprint.of_arrays({"w": array})
    for same in layouts(backend, array).values():
        assert fingerprint.of_arrays({"w": same}) == expected
    changed = array.copy()
    changed[2, 3] = np.nextafter(changed[2, 3], np.float32(9))
    others = [
        {"w": changed},
        {"v": array},
        {"w": array.view("int32")},
        {"w": array.T},
        {"w": array.reshape(4, 3)},
        {"w": array, "n": np.zeros((), "int64")},
        {"w": array, "n": np.zeros((1,), "int64")},
        {"w": array, "n": np.zeros((0, 2))},
        {},
    ]
    found = [fingerprint.of_arrays({k: backend.asarray(a) for k, a in o.items()}) for o in others]
    assert len({expected, *found}) == 1 + len(others)


def test_code(tmp_path, monkeypatch):
    found = []
    for text in ("a = 1", "a = 1", "a = 2"):
        script = tmp_path / "main.py"
        script.write_text(text)
        monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
        found.append(fingerprint.of_code())
    assert found[0] == found[1] != found[2]
    source = tmp_path / "xcnn" / "layer.py"
    source.parent.mkdir()
    monkeypatch.setattr(fingerprint, "__file__", str(source.with_name("fingerprint.py")))
    for text in ("b = 1", "b = 2"):
        source.write_text(text)
        found.append(fingerprint.of_code())
    assert len(set(found)) == 4


def test_data():
    def of(*arrays):
        return fingerprint.of_data(data.ArrayDataset(*arrays))

    other = X.copy()
    other[-1, 1, 2] += 1
    assert of(X, Y) == of(X.copy(), Y.copy())
    assert of(X, Y).startswith("100 items, ")
    found = [of(X, Y), of(other, Y), of(X, Y[::-1]), of(X[:-1], Y[:-1]), of({"x": X, "y": Y * 2})]
    assert len(set(found)) == len(found)
    assert of(X[:1]) != of(X[1:2])
    half = data.Subset(data.ArrayDataset(X, Y), np.arange(0, 100, 2))
    assert fingerprint.of_data(half) == of(X[::2], Y[::2])


def test_data_that_is_not_read():
    assert fingerprint.of_data(data.IterableDataset(lambda: 1 / 0)) == "unknown items"
    assert fingerprint.of_data(data.IterableDataset(iter([X[0]]), length=3)) == "3 items"
    assert fingerprint.of_data(data.ArrayDataset(X[:0])) == "0 items"

    class Counting(data.Dataset):
        read: set[int] = set()

        def __len__(self):
            return 10**6

        def __getitem__(self, index):
            self.read.add(index)
            return np.float32(index)

    assert fingerprint.of_data(Counting()).startswith("1000000 items, ")
    assert len(Counting.read) == 16
    assert {0, 10**6 - 1} <= Counting.read


def test_items_that_are_drawn_anew():
    class Augmented(data.Dataset):
        rng = np.random.default_rng()

        def __len__(self):
            return 5

        def __getitem__(self, index):
            return self.rng.random(3)

    assert fingerprint.of_data(Augmented()) == "5 items, random"
