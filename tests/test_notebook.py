"""What notebooks show: tables, and the progress of a training."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
from xcnn import Epoch, callbacks, data, nn
from xcnn.notebook import html_table, progress_bar, progress_stream, terminal_width

from .conftest import PACKAGE


class Table(HTMLParser):
    """Rows of cells, read by Python's parser; every tag must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.title = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open[-1:] == ["caption"]:
            self.title += text
        elif self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += text


def test_a_table():
    rows = [
        {"<b>": "a & b", "n": 1234567, "x": 0.123456789, "yes": True},
        {"<b>": "<script>", "n": None, "x": float("nan"), "yes": np.float32(0.5)},
    ]
    table = Table(html_table(rows, "t < u"))
    assert table.title == "t < u"
    assert table.rows == [
        ["<b>", "n", "x", "yes"],
        ["a & b", "1,234,567", "0.123457", "True"],
        ["<script>", "", "nan", "0.5"],
    ]
    assert Table(html_table([])).rows == [[]]


def test_a_summary():
    model = nn.Sequential({"fc": nn.Linear(3, 2), "act": nn.ReLU()})
    text = xcnn.summary(model, (3,))
    assert repr(text) == str(text)
    assert isinstance(text, str)
    table = Table(text._repr_html_())
    assert table.rows[0][:4] == ["layer", "kind", "output shape", "parameters"]
    assert table.rows[2][:5] == ["fc", "Linear", "2", "8", "6"]
    assert table.rows[-1][:4] == ["total", "", "", "8"]
    assert table.title == text.splitlines()[-1]


@pytest.mark.parametrize(
    ("width", "last"),
    [(None, "memory"), (200, "memory"), (68, "adds"), (56, "parameters"), (1, "p")],
)
def test_a_summary_leaves_out_columns(width, last):
    lines = xcnn.summary(xcnn.models.lenet5(), (1, 28, 28), width).splitlines()
    assert last in lines[0].split()[-1]
    if width and width > 1:
        assert max(map(len, lines[:-1])) <= width
    assert lines[3].split()[:4] == ["conv1", "Conv2d", "6×28×28", "156"]


def test_a_module():
    model = nn.Sequential({"fc": nn.Linear(3, 2, bias=False), "act": nn.LeakyReLU(0.1)})
    table = Table(model._repr_html_())
    assert table.title == "Sequential: 6 parameters"
    assert table.rows[1] == ["fc", "Linear(3, 2, bias=False)", "6"]
    assert table.rows[2][::2] == ["act", "0"]
    assert Table(nn.Linear(3, 2)._repr_html_()).rows[1] == ["", "Linear(3, 2)", "8"]


@pytest.mark.parametrize(
    ("values", "shape", "shown"),
    [
        (np.arange(6.0).reshape(2, 3), "2×3", "0, 1, 2, 3, 4, 5"),
        (np.arange(40).reshape(4, 10), "4×10", "0, 1, 2, 3, 4, 5, 6, 7, ..."),
        (np.float32(1 / 3), "scalar", "0.3333"),
        (np.zeros((0, 3), np.float32), "0×3", ""),
        (np.array([123456789, -1]), "2", "123456789, -1"),
        (np.array([np.nan, -np.inf], np.float32)[::-1], "2", "-inf, nan"),
    ],
)
def test_a_tensor(backend, values, shape, shown):
    values = np.asarray(values)
    tensor = xcnn.Tensor(backend.asarray(values))
    row = Table(tensor._repr_html_()).rows[1]
    assert row == [shape, values.dtype.name, tensor.device, shown]


def test_datasets():
    x, y = np.zeros((1200, 3, 4, 5), np.uint8), np.zeros(1200, np.int64)
    arrays = data.Subset((x, y), range(1100))
    assert Table(arrays._repr_html_()).rows[1] == ["Subset", "1,100", "uint8 3×4×5, int64"]
    empty = data.Subset((x, y), [])
    assert Table(empty._repr_html_()).rows[1] == ["Subset", "0", ""]
    table = Table(data.load("digits", limit=20)._repr_html_())
    assert table.title.startswith("digits: 10 classes (0, 1, 2, 3, ")
    assert [row[:3] for row in table.rows[1:]] == [
        ["train", "ArrayDataset", "20"],
        ["test", "ArrayDataset", "20"],
    ]


# -- progress ------------------------------------------------------------------------------


def test_datasets_of_other_items():
    nested = data.ArrayDataset({"x": (np.ones((3, 2)), np.ones((3, 4, 5))), "<y>": [0, 1, 2]})
    assert Table(nested._repr_html_()).rows[1] == [
        "ArrayDataset",
        "3",
        "float64 2, float64 4×5, int64",
    ]
    stream = iter([(1, 2)])
    assert Table(data.IterableDataset(stream)._repr_html_()).rows[1] == [
        "IterableDataset",
        "unknown",
    ]
    assert next(stream) == (1, 2)  # nothing was read


def in_notebook(monkeypatch):
    """As in Jupyter, where tqdm.auto looks for the same."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


LINE = r"epoch 1/1: [\d.]+[kM]? img/s, loss 0.5000 acc 1.0000"


def finish_epoch():
    bar = callbacks.ProgressBar()
    trainer = SimpleNamespace(epoch=1, epochs=1, examples=10, running=dict)
    for _ in range(10):
        bar.on_batch_start(trainer)
        bar.on_batch_end(trainer, SimpleNamespace(examples=1))
    bar.on_epoch_end(trainer, Epoch(1, 0.5, 1.0, None, None, 2.0))


def test_an_epoch_in_a_notebook(monkeypatch, capsys):
    in_notebook(monkeypatch)
    finish_epoch()
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(LINE, out.rstrip("\n").split("\r")[-1])


def test_nothing_is_shown_in_a_pipe(monkeypatch, capsys):
    finish_epoch()
    assert capsys.readouterr() == ("", "")
    shell = SimpleNamespace(config={})  # IPython in a terminal
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress_stream() is None
    monkeypatch.setattr(sys, "stderr", None)  # a program without a console
    assert progress_stream() is None
    finish_epoch()


def test_streams_without_a_width(monkeypatch, capsys):
    assert terminal_width(None) is None
    assert terminal_width(sys.stdout) is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert terminal_width(sys.stderr) is None
    finish_epoch()
    assert re.fullmatch(LINE, capsys.readouterr().err.rstrip("\n"))
    assert progress_bar(3, "t").disable


def test_no_warning_without_ipywidgets():
    code = """
import sys, types
import numpy as np
import xcnn

shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
sys.modules["ipywidgets"] = None
model = xcnn.nn.Sequential(xcnn.nn.Linear(2, 2))
trainer = xcnn.Trainer(model, xcnn.optim.SGD(model.parameters(), lr=0.1))
trainer.fit(np.zeros((4, 2), np.float32), np.zeros(4, int), epochs=2)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"epoch 2/2: .* img/s, loss \d", done.stdout)
