"""Logs: the same after any interruption as of a training that was never interrupted."""

import csv
import io
import json
import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import xcnn
from tests.strict import count_syncs
from xcnn import callbacks, nn, optim
from xcnn.errors import ArgumentError, FileFormatError, MissingPackageError, ShapeError
from xcnn.training import Epoch, History
from xcnn.training.callbacks import (
    CSVLogger,
    JSONLogger,
    ModelCheckpoint,
    TensorBoardLogger,
)

from .conftest import normal

X = normal(50, 1, 6, 6, dtype="float32")
Y = np.arange(50) * 7 % 3
EPOCHS = 3  # of 5 batches


class Interrupted(Exception):
    """Stands for a crash."""


class After(callbacks.Callback):
    """Calls a function after so many batches, before or after the other callbacks."""

    def __init__(self, batches, function, order=0):
        self.left, self.function, self.order = batches, function, order

    def on_batch_end(self, trainer, step):
        self.left -= 1
        if self.left == 0:
            self.function(trainer)


def crash(trainer):
    raise Interrupted


def build(device="cpu", **settings):
    xcnn.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Dropout(0.2), nn.Linear(8, 3))
    model.to(device)
    return xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.01), **settings)


def fit(*used, device="cpu", epochs=EPOCHS, resume=None, trainer=None, **settings):
    trainer = trainer or build(device, **settings)
    settings = {"validation": (X[:9], Y[:9]), "batch_size": 10, "progress": False}
    trainer.fit(X, Y, epochs=epochs, callbacks=used, resume=resume, **settings)
    return trainer


def lines(path):
    """The objects of a log without the seconds, which differ."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert all(row.pop("seconds") >= 0 for row in rows)
    return rows


# CSV


def test_csv_is_the_history(tmp_path):
    trainer = fit(CSVLogger(tmp_path / "new" / "log.csv"), callbacks.LearningRateLog())
    text = (tmp_path / "new" / "log.csv").read_text()
    assert text == trainer.history.to_csv()
    rows = list(csv.DictReader(text.splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["lr"]) for row in rows] == [0.01] * 3
    assert [float(row["val_loss"]) for row in rows] == [e.val_loss for e in trainer.history]


def test_csv_after_a_crash(tmp_path):
    path = tmp_path / "log.csv"
    used = [CSVLogger(path), ModelCheckpoint(tmp_path / "run", "2epochs")]
    with pytest.raises(Interrupted):
        fit(*used, After(18, crash), epochs=5)
    assert len(path.read_text().splitlines()) == 4  # the checkpoint has two epochs, the log three
    fit(*used, epochs=5, resume=tmp_path / "run")
    assert path.read_text() == (tmp_path / "run" / "history.csv").read_text()
    assert [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]] == [
        1,
        2,
        3,
        4,
        5,
    ]


# JSON lines


def test_json_lines(tmp_path):
    trainer = fit(JSONLogger(tmp_path / "log.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == [epoch.row() for epoch in trainer.history]


def test_json_lines_of_steps(tmp_path, backend):
    noted = []

    class Note(callbacks.Callback):
        def on_batch_start(self, trainer):
            self.rate = trainer.optimizer.lr

        def on_batch_end(self, trainer, step):
            noted.append((trainer.epoch, trainer.batch, trainer.steps, step.loss.item(), self.rate))

    trainer = build(backend)
    trainer.schedule = xcnn.schedules.OneCycleLR(trainer.optimizer, 0.1, 15)
    fit(Note(), JSONLogger(tmp_path / "log.jsonl", every="2steps"), trainer=trainer)
    rows = lines(tmp_path / "log.jsonl")
    names = ["epoch", "batch", "step", "loss", "lr"]
    expected = [dict(zip(names, row, strict=True)) for row in noted if row[2] % 2 == 0]
    assert [row for row in rows if "batch" in row] == expected
    assert len(expected) == 7
    assert ["batch" in row for row in rows] == [1, 1, 0, 1, 1, 1, 0, 1, 1, 0]


def test_steps_of_several_batches_and_rates(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    groups = [{"params": [model[1].weight]}, {"params": [model[1].bias], "lr": 0.5}]
    trainer = xcnn.Trainer(model, optim.SGD(groups, lr=0.1), accumulate=2)
    fit(JSONLogger(tmp_path / "log.jsonl", every="1step"), trainer=trainer, epochs=1)
    rows = lines(tmp_path / "log.jsonl")[:-1]
    assert [(row["step"], row["batch"]) for row in rows] == [(1, 2), (2, 4), (3, 5)]
    assert {(row["lr"], row["lr_1"]) for row in rows} == {(0.1, 0.5)}


def test_numbers_that_are_not_finite_are_null(tmp_path):
    trainer = build()
    trainer.model[1].weight.data[...] = math.nan
    log = JSONLogger(tmp_path / "log.jsonl", every="1step")
    settings = {"batch_size": 25, "progress": False, "terminate_on_nan": False}
    trainer.fit(X, Y, callbacks=[log], **settings)
    text = (tmp_path / "log.jsonl").read_text()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [row.get("loss", row.get("train_loss")) for row in rows] == [None] * 3


def test_a_training_that_diverged_is_logged_again(tmp_path):
    """The next fit repeats the epoch; the lines of the first try are removed."""
    log, path = JSONLogger(tmp_path / "log.jsonl", every="1step"), tmp_path / "log.jsonl"
    trainer = fit(log, epochs=1)

    def explode(trainer):
        trainer.model[1].weight.data[...] = math.inf

    with np.errstate(all="ignore"), pytest.raises(xcnn.errors.DivergenceError):
        fit(After(2, explode), log, trainer=trainer)
    assert [(r["epoch"], r.get("batch")) for r in lines(path)][6:] == [(2, i) for i in range(1, 6)]
    fit(log, trainer=trainer, epochs=1)
    places = [(row["epoch"], row.get("batch")) for row in lines(path)]
    assert places == [(e, b) for e in (1, 2) for b in (1, 2, 3, 4, 5, None)]
    assert lines(path)[-2]["step"] == 15


def test_a_new_training_replaces_the_file(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("anything")
    log = JSONLogger(path)
    fit(log, epochs=2)
    first = lines(path)
    fit(log, epochs=2)
    assert lines(path) == first
    assert len(first) == 2


def test_a_second_fit_appends(tmp_path):
    log = JSONLogger(tmp_path / "log.jsonl")
    trainer = fit(log, epochs=2)
    fit(log, trainer=trainer, epochs=1)
    assert [row["epoch"] for row in lines(tmp_path / "log.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize("batches", range(1, 16))
@pytest.mark.parametrize("every", ["1epoch", "1step", "3steps"])
def test_json_lines_after_a_crash(tmp_path, every, batches):
    fit(JSONLogger(tmp_path / "whole.jsonl", "2steps"))
    used = [JSONLogger(tmp_path / "log.jsonl", "2steps"), ModelCheckpoint(tmp_path / "run", every)]
    with pytest.raises(Interrupted):
        fit(*used, After(batches, crash))
    fit(*used, resume=tmp_path / "run")
    assert lines(tmp_path / "log.jsonl") == lines(tmp_path / "whole.jsonl")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("batches", "order"), [(3, 0), (7, 1.5), (10, 1.5), (12, 3), (15, 1.5)])
def test_after_kill_9(tmp_path, batches, order):
    """Nothing is flushed or closed; the last line was cut in the middle."""

    def used(name):
        folder = tmp_path / name
        boards = TensorBoardLogger(folder / "boards", every="2steps")
        log = JSONLogger(folder / "log.jsonl", "2steps")
        return [log, boards, ModelCheckpoint(folder / "run", "3steps", signals=False)]

    fit(*used("whole"))
    child = os.fork()
    if child == 0:
        try:
            kill = After(batches, lambda trainer: os.kill(os.getpid(), signal.SIGKILL), order)
            fit(*used("killed"), kill)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    killed = tmp_path / "killed"
    with open(killed / "log.jsonl", "ab") as file:
        file.write(b'{"epoch": 3, "batch"')
    for path in (killed / "boards").rglob("events*"):
        with open(path, "ab") as file:
            file.write(b"\x18\x00\x00")
    fit(*used("killed"), resume=killed / "run")
    assert lines(killed / "log.jsonl") == lines(tmp_path / "whole" / "log.jsonl")
    assert scalars(killed / "boards") == scalars(tmp_path / "whole" / "boards")


def test_a_log_of_something_else_is_refused_and_unchanged(tmp_path):
    fit(ModelCheckpoint(tmp_path / "run"), epochs=1)
    (tmp_path / "log.jsonl").write_text("no JSON\n")
    with pytest.raises(FileFormatError, match=r"log.jsonl is no log of a training.*another file"):
        fit(JSONLogger(tmp_path / "log.jsonl"), resume=tmp_path / "run")
    assert (tmp_path / "log.jsonl").read_text() == "no JSON\n"


def test_a_folder_that_is_refused_keeps_its_log(tmp_path):
    def used():
        return [JSONLogger(tmp_path / "log.jsonl"), ModelCheckpoint(tmp_path)]

    fit(*used())
    before = lines(tmp_path / "log.jsonl")
    with pytest.raises(ArgumentError, match="already holds a run"):
        fit(*used())
    assert lines(tmp_path / "log.jsonl") == before


@pytest.mark.parametrize("kind", [CSVLogger, JSONLogger, TensorBoardLogger])
def test_files_that_cannot_be_written(tmp_path, kind):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot create.*file"):
        fit(kind(tmp_path / "file" / "log"))


@pytest.mark.parametrize("every", ["often", "1epoch", "10s", 3, "0steps"])
@pytest.mark.parametrize("kind", [JSONLogger, TensorBoardLogger])
def test_intervals_refused(tmp_path, kind, every):
    with pytest.raises(ArgumentError, match="every="):
        kind(tmp_path, every=every)


# On a GPU


@pytest.mark.parametrize(("every", "most"), [(None, 0), ("1step", 2), ("30steps", 1)])
def test_steps_do_not_wait(tmp_path, strict, every, most):
    """40 steps; reading waits after 20 of them, and at the end of the epoch as always."""

    def syncs_of(*used):
        trainer = build("strict")
        with count_syncs() as syncs:
            trainer.fit(X, Y, batch_size=1, callbacks=used, progress=False)
        return len([line for line in syncs if "transfer.py" not in line])

    log = JSONLogger(tmp_path / "log.jsonl", every)
    syncs_of()
    assert syncs_of(log) - syncs_of() == most + (every == "1step")
    assert len(lines(tmp_path / "log.jsonl")) == {None: 1, "1step": 51, "30steps": 2}[every]


@pytest.mark.parametrize("kind", ["json", "tensorboard"])
def test_a_log_changes_no_bit(tmp_path, backend, kind):
    if kind == "json":
        log = JSONLogger(tmp_path / "log", "1step")
    else:
        log = TensorBoardLogger(tmp_path / "log", "1step", histograms=True, images=X[:5])
    logged, plain = fit(log, device=backend), fit(device=backend)
    for one, two in zip(logged.model.parameters(), plain.model.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert [e.train_loss for e in logged.history] == [e.train_loss for e in plain.history]
    assert logged.model.training == plain.model.training


# TensorBoard, read back by TensorBoard


def read(folder):
    """What TensorBoard shows of each run."""
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    found = {}
    for path in sorted(Path(folder).iterdir()):
        sizes = dict.fromkeys(event_accumulator.DEFAULT_SIZE_GUIDANCE, 0)
        found[path.name] = event_accumulator.EventAccumulator(str(path), sizes)
        found[path.name].Reload()
    return found


def scalars(folder):
    return {
        (run, tag): [(event.step, event.value) for event in found.Scalars(tag)]
        for run, found in read(folder).items()
        for tag in found.Tags()["scalars"]
        if tag != "seconds"
    }


@pytest.fixture(autouse=True)
def _tensorboard(request):
    if "tensorboard" in request.node.name.lower() or request.node.name.startswith("test_after_k"):
        pytest.importorskip("tensorboardX")


def test_tensorboard_scalars(tmp_path, backend):
    used = [TensorBoardLogger(tmp_path, every="4steps"), callbacks.LearningRateLog()]
    noted = []
    note = After(4, lambda trainer: noted.append(trainer.running()["loss"]))
    trainer = fit(note, *used, device=backend, metrics=["f1"])
    found = scalars(tmp_path)
    columns = {("train", "lr"), ("steps", "loss"), ("steps", "lr")}
    columns |= {(run, name) for run in ("train", "val") for name in ("loss", "accuracy", "f1")}
    assert set(found) == columns
    for run, name in columns - {("steps", "loss"), ("steps", "lr"), ("train", "lr")}:
        expected = [(e.epoch, e.value(f"{run}_{name}")) for e in trainer.history]
        np.testing.assert_allclose(found[run, name], expected, rtol=1e-6)
    assert [step for step, _ in found["steps", "loss"]] == [4, 8, 12]
    np.testing.assert_allclose(found["steps", "lr"], [(4, 0.01), (8, 0.01), (12, 0.01)], rtol=1e-6)


def test_tensorboard_without_steps_and_validation(tmp_path):
    build().fit(X, Y, callbacks=[TensorBoardLogger(tmp_path, every=None)], progress=False)
    assert set(scalars(tmp_path)) == {("train", "loss"), ("train", "accuracy")}


@pytest.mark.parametrize("batches", [2, 5, 9, 13])
@pytest.mark.parametrize("every", ["1epoch", "1step", "4steps"])
def test_tensorboard_after_a_crash(tmp_path, every, batches):
    fit(TensorBoardLogger(tmp_path / "whole", "2steps"))
    used = [TensorBoardLogger(tmp_path / "log", "2steps"), ModelCheckpoint(tmp_path / "run", every)]
    with pytest.raises(Interrupted):
        fit(*used, After(batches, crash))
    fit(*used, resume=tmp_path / "run")
    assert scalars(tmp_path / "log") == scalars(tmp_path / "whole")


def test_a_new_training_replaces_the_tensorboard(tmp_path):
    log = TensorBoardLogger(tmp_path, "2steps")
    fit(log)
    fit(log, epochs=1)
    assert [step for step, _ in scalars(tmp_path)["train", "loss"]] == [1]
    assert [step for step, _ in scalars(tmp_path)["steps", "loss"]] == [2, 4]


def test_tensorboard_histograms(tmp_path, backend):
    gradients = []

    class Note(callbacks.Callback):
        def on_step_end(self, trainer):
            gradients.append(xcnn.Tensor(trainer.model[1].weight.grad).numpy().copy())

    trainer = fit(Note(), TensorBoardLogger(tmp_path, histograms=True), device=backend, epochs=2)
    found = read(tmp_path)["train"]
    names = [name for name, _ in trainer.model.named_parameters()]
    expected = {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    assert set(found.Tags()["histograms"]) == expected
    for tag, array in (
        ("weights/1.weight", trainer.model[1].weight.numpy()),
        ("gradients/1.weight", gradients[-1]),
    ):
        first, last = found.Histograms(tag)
        assert (first.step, last.step) == (1, 2)
        histogram = last.histogram_value
        assert histogram.num == array.size == sum(histogram.bucket)
        np.testing.assert_allclose((histogram.min, histogram.max), (array.min(), array.max()))
        np.testing.assert_allclose(histogram.sum, array.sum(dtype="float64"), rtol=1e-4)


def test_tensorboard_histograms_of_numbers_that_are_not_finite(tmp_path):
    trainer = build()
    frozen = trainer.model[3].weight
    frozen.data[0, :2] = math.inf, math.nan
    frozen.requires_grad = False
    log = TensorBoardLogger(tmp_path, histograms=True)
    with np.errstate(invalid="ignore"):
        trainer.fit(X, Y, callbacks=[log], progress=False, terminate_on_nan=False)
    found = read(tmp_path)["train"]
    assert found.Tags()["histograms"] == ["weights/3.weight"]
    assert found.Histograms("weights/3.weight")[0].histogram_value.num == frozen.numel() - 2


def test_tensorboard_pictures_and_graph(tmp_path, backend):
    pytest.importorskip("onnx")
    Image = pytest.importorskip("PIL.Image")
    images = X[:11]
    trainer = fit(TensorBoardLogger(tmp_path, images=images), device=backend, epochs=2)
    found = read(tmp_path)["train"]
    (picture,) = found.Images("examples")
    assert (picture.width, picture.height) == (8 * 6, 2 * 6)
    pixels = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))[:6, :6, 0]
    scaled = (images[0, 0] - images.min()) / (images.max() - images.min()) * 255
    np.testing.assert_allclose(pixels, scaled, atol=1)
    _, last = found.Tensors("examples/predicted/text_summary")
    classes = " ".join(map(str, trainer.predict(images).argmax(axis=1)))
    assert last.tensor_proto.string_val[0].decode() == classes
    operators = {node.op for node in found.Graph().node}
    assert {"Flatten", "Gemm"} <= operators or {"MatMul", "Add"} <= operators


def test_tensorboard_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    fit(TensorBoardLogger(tmp_path, images=X[:2]), epochs=1)
    tags = read(tmp_path)["train"].Tags()
    assert (tags["graph"], tags["images"]) == (False, ["examples"])


def test_tensorboard_of_a_model_without_a_graph(tmp_path):
    pytest.importorskip("onnx")

    class Double(xcnn.Function):
        def forward(self, backend, x):
            return 2 * x

        def backward(self, backend, dy):
            return (2 * dy,)

    class Doubled(nn.Module):
        def forward(self, x):
            return Double()(x)

    trainer = build()
    trainer.model.append(Doubled())
    with pytest.warns(UserWarning, match="TensorBoardLogger: no graph: these operations"):
        fit(TensorBoardLogger(tmp_path, images=X[:2]), trainer=trainer, epochs=1)
    assert read(tmp_path)["train"].Tags()["images"] == ["examples"]


@pytest.mark.parametrize("shape", [(4, 36), (4, 2, 6, 6), (4, 6, 6, 3)])
def test_tensorboard_refuses_what_is_no_picture(tmp_path, shape):
    with pytest.raises(ShapeError, match=r"images has shape \(4, .*expected \(N, C"):
        TensorBoardLogger(tmp_path, images=np.zeros(shape))


def test_tensorboard_pictures_of_another_size_are_refused_before_training(tmp_path):
    trainer = build()
    with pytest.raises(ShapeError, match="layer '1'"):
        fit(TensorBoardLogger(tmp_path, images=np.zeros((1, 1, 5, 5))), trainer=trainer)
    assert trainer.steps == 0


def test_tensorboard_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingPackageError, match="TensorBoardLogger needs the package tensorb"):
        TensorBoardLogger(tmp_path)


# The command line


def test_the_command_line(tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    from xcnn.cli import main

    whole, run = tmp_path / "whole", tmp_path / "run"
    train = "train mlp --limit 60 --batch-size 20 --device cpu --log csv,json,tensorboard"
    assert main([*train.split(), "--epochs", "3", "--out", str(whole)]) == 0
    assert main([*train.split(), "--epochs", "2", "--out", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    assert json.loads((run / "config.json").read_text())["log"] == ["csv", "json", "tensorboard"]
    assert [row["epoch"] for row in lines(run / "log.jsonl")] == [1, 2, 3]
    assert lines(whole / "log.jsonl")[0].keys() - {"val_loss"} >= {"epoch", "train_loss"}
    for folder in (whole, run):
        steps = [step for step, _ in scalars(folder / "tensorboard")["val", "accuracy"]]
        assert steps == [1, 2, 3]
    assert len((run / "history.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("value", ["xml", "json,xml", ""])
def test_the_command_line_refuses_other_logs(capsys, value):
    from xcnn.cli import main

    with pytest.raises(SystemExit):
        main(["train", "--log", value])
    assert "expected some of csv, json, tensorboard" in capsys.readouterr().err


def test_a_run_of_an_older_version_has_no_logs(tmp_path):
    from xcnn.cli import main

    assert (
        main(f"train mlp --limit 40 --epochs 1 --device cpu --out {tmp_path / 'run'}".split()) == 0
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.pop("log") == []
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0


# History


def history(count):
    return History(
        Epoch(i, 1 / i, 0.5, None, None, 1.0, {"val_f1": 1e-5}) for i in range(1, count + 1)
    )


def test_the_text_of_a_history():
    assert repr(history(0)) == "History()"
    assert repr(history(3)).splitlines() == [
        "epoch  train_loss  train_accuracy  seconds  val_f1",
        "    1           1             0.5        1   1e-05",
        "    2         0.5             0.5        1   1e-05",
        "    3      0.3333             0.5        1   1e-05",
    ]
    long = repr(history(100)).splitlines()
    assert [line.split()[0] for line in long] == [
        *("epoch", "1", "2", "3", "4", "5", "...", "96", "97", "98", "99", "100")
    ]
    assert {len(line) for line in long} == {len(long[0])}
    assert len(repr(history(11)).splitlines()) == 12


def test_the_table_of_a_history():
    table = history(100)._repr_html_()
    assert table.count("<tr>") == 12
    assert "<th>train_loss</th>" in table
    assert "<td>0.3333</td>" in table
    assert "val_loss" not in table
    assert history(0)._repr_html_().count("<td>") == 0


def test_a_history_of_different_columns():
    rows = History([Epoch(1, 1.0, None, None, None, 1.0), Epoch(2, 2.0, None, 3.0, None, 1.0)])
    assert repr(rows).splitlines() == [
        "epoch  train_loss  val_loss  seconds",
        "    1           1                  1",
        "    2           2         3        1",
    ]
