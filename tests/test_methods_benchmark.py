"""``python -m benchmarks.methods``: its table, for a few small shapes."""

import json

import pytest

from benchmarks import methods
from benchmarks.methods import Shape
from xcnn import convolution


@pytest.mark.parametrize(
    ("shape", "text", "names"),
    [
        (Shape(16, 16, 8, 2), "16→16 3×3 8×8 ×2", {"im2col", "mec", "winograd"}),
        (Shape(4, 8, 5, 1, kernel=1), "4→8 1×1 5×5 ×1", {"im2col", "mec", "pointwise"}),
        (Shape(4, 4, 6, 2, stride=2, groups=4), "4→4 3×3/2 g4 6×6 ×2", {"im2col", "depthwise"}),
    ],
)
def test_a_shape(shape, text, names):
    assert str(shape) == text
    times = methods.milliseconds(shape, 1)
    assert set(times) == names
    assert all(0 < t < 1e4 for t in times.values())


def test_a_line_marks_the_choice_and_compares_it_with_the_fastest():
    shape = Shape(16, 16, 8, 64)
    assert methods.chosen(shape) == "winograd"
    line = methods.line(shape, {"im2col": 4.0, "mec": 3.0, "winograd": 6.0})
    assert line.split()[-4:] == ["4", "3", "6*", "2.00"]


def test_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(methods, "SHAPES", [Shape(2, 3, 5, 1), Shape(2, 3, 5, 1, kernel=1)])
    assert methods.main(["--quick", "--json", str(tmp_path / "found.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*convolution.METHODS, "/best"]
    assert lines[1].startswith("2→3 3×3 5×5 ×1")
    assert " of 2 shapes" in lines[4]
    found = json.loads((tmp_path / "found.json").read_text())
    assert [s["shape"]["kernel"] for s in found["shapes"]] == [3, 1]
    assert set(found["shapes"][1]["milliseconds"]) == {"im2col", "mec", "pointwise"}
