"""What notebooks show: tables, and the progress of a training."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
from xcnn import callbacks, data, nn
from xcnn.errors import ArgumentError
from xcnn.notebook import (
    columns_that_fit,
    duration,
    html_table,
    paint,
    progress_bar,
    progress_stream,
    terminal_width,
)

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


SPEED = r"[\d.]+[kM]?"
LINE = rf"epoch 1/2: loss \d\.\d{{4}}, accuracy [01]\.\d{{4}}, lr 0, {SPEED} img/s, \d\.\d s"


def train(epochs=2, **settings):
    """A model that learns nothing: the first epoch stays the best."""
    xcnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2))
    trainer = xcnn.Trainer(model, xcnn.optim.SGD(model.parameters(), lr=0.0))
    trainer.fit(np.ones((10, 2), np.float32), np.zeros(10, int), epochs=epochs, **settings)
    return trainer


def what_remains(text):
    """The lines, each as it was last written."""
    return [line.split("\r")[-1] for line in text.removesuffix("\n").split("\n")]


def test_a_table_in_a_notebook(monkeypatch, capsys):
    in_notebook(monkeypatch)
    loss = train().history[0].train_loss
    out, err = capsys.readouterr()
    assert err == ""
    header, rule, first, second = what_remains(out)
    assert header.split() == ["epoch", "train", "loss", "train", "acc", "lr", "img/s", "time"]
    assert (set(rule), len(rule)) == ({"─"}, len(header))
    assert re.fullmatch(rf"  1/2 +{loss:.4f}\* +[01]\.0000 +0 +{SPEED} +\d\.\ds", first)
    assert re.fullmatch(rf"  2/2 +{loss:.4f}  +[01]\.0000 +0 +{SPEED} +\d\.\ds", second)


def test_nothing_is_shown_in_a_pipe(monkeypatch, capsys):
    train()
    assert capsys.readouterr() == ("", "")
    train(callbacks=[callbacks.ProgressBar(log=True)])
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(LINE, out.splitlines()[0])
    shell = SimpleNamespace(config={})  # IPython in a terminal
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress_stream() is None
    monkeypatch.setattr(sys, "stderr", None)  # a program without a console
    assert progress_stream() is None
    train()


def test_streams_without_a_width(monkeypatch, capsys):
    assert terminal_width(None) is None
    assert terminal_width(sys.stdout) is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert terminal_width(sys.stderr) is None
    train()
    first, _ = capsys.readouterr().err.splitlines()
    assert re.fullmatch(LINE, re.sub(r"\x1b\[\d+m", "", first))
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
    assert re.search(r"^ +2/2 +\d\.\d{4}", done.stdout, re.MULTILINE)


def test_the_column_that_decides_which_epoch_is_the_best(monkeypatch, capsys):
    class Score(callbacks.Callback):
        def on_epoch_end(self, trainer, epoch):
            epoch.metrics["score"] = [1.0, 3.0, 2.0, 4.0][epoch.epoch - 1]

    in_notebook(monkeypatch)
    train(epochs=4, callbacks=[Score(), callbacks.ProgressBar("score", "max")])
    header, _, *rows = what_remains(capsys.readouterr().out)
    assert header.split()[5] == "score"  # after train loss and train acc
    assert [row.split()[3] for row in rows] == ["1.0000*", "3.0000*", "2.0000", "4.0000*"]
    with pytest.raises(ArgumentError, match="monitor='score': expected one of train_loss"):
        train(callbacks=[callbacks.ProgressBar("score")])


def test_an_epoch_that_is_resumed_after_its_last_batch(monkeypatch, capsys, tmp_path):
    """As after a crash in the validation."""
    in_notebook(monkeypatch)

    class Crash(callbacks.Callback):
        order = -3

        def on_epoch_end(self, trainer, epoch):
            raise ZeroDivisionError

    saving = {"resume": tmp_path}
    with pytest.raises(ZeroDivisionError):
        train(callbacks=[Crash(), callbacks.ModelCheckpoint(tmp_path, "1step")], **saving)
    capsys.readouterr()
    train(callbacks=[callbacks.ModelCheckpoint(tmp_path)], **saving)
    header, _, first, second = what_remains(capsys.readouterr().out)
    assert header.startswith("epoch")
    assert (len(first.split()), len(second.split())) == (5, 6)  # no batches, no speed


@pytest.mark.parametrize(
    ("examples", "finished", "seconds", "left"),
    [
        ((25, 100), [], 5.0, "55.0s"),  # a quarter of the first of three epochs
        ((25, 100), [9.0, 11.0], 9.0, "17.5s"),
        ((25, None), [10.0], 5.0, "15.0s"),
        ((25, None), [10.0], 60.0, "10.0s"),  # one that takes longer than those before
        ((25, None), [], 5.0, ""),
        ((100, 100), [10.0], 9.0, "10.0s"),
    ],
)
def test_the_time_left(examples, finished, seconds, left):
    """Of the whole training, with the validation of the epochs that have one."""
    bar = callbacks.ProgressBar()
    bar._bar = SimpleNamespace(n=examples[0], total=examples[1])
    bar._finished = finished
    history = [None] * min(len(finished), 1)
    assert bar._left(SimpleNamespace(epochs=3, history=history, seconds=seconds)) == left


def test_columns_that_fit():
    columns = [(5, 0), (10, 2), (6, 3), (6, 1)]
    found = {width: columns_that_fit(columns, width) for width in (None, 33, 32, 25, 24, 13, 1)}
    assert found == {
        **{None: [0, 1, 2, 3], 33: [0, 1, 2, 3], 32: [0, 1, 3], 25: [0, 1, 3]},
        **{24: [0, 3], 13: [0, 3], 1: [0]},
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (59.94, "59.9s"), (59.96, "1:00"), (3599.4, "59:59"), (7207, "2:00:07")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("environment", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "", "TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours(monkeypatch, environment, terminal, expected):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = SimpleNamespace(isatty=lambda: terminal)
    assert paint("x", "32", stream) == ("\x1b[32mx\x1b[0m" if expected else "x")
