"""Multi-label classification and regression: folders with a CSV file, tasks, trainings."""

import importlib.util
import json
import math
import re

import numpy as np
import pytest

import xcnn
from xcnn import data, nn, optim, tasks
from xcnn.cli import main
from xcnn.errors import ArgumentError, DataError
from xcnn.testing import gradcheck

from .conftest import normal

NAMES = ["cat", "dog", "tree"]
SMALL = {"classes": NAMES, "input_shape": (1, 6, 6), "mean": (0.5,), "std": (0.25,)}
UNITS = {"target_mean": [100.0, -3.0, 0.5], "target_std": [40.0, 0.001, 2.0]}


@pytest.fixture
def folder(tmp_path):
    """``folder(files, images=5)`` writes tables by name, and images 0.npy, 1.npy, ... to each."""

    def write(tables, images=5):
        for name, text in tables.items():
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            for i in range(images):
                np.save(path.with_name(f"{i}.npy"), np.full((8, 10, 3), 10 * i, np.uint8))
        return tmp_path / "photos"

    return write


# -- folders


def rows(*lines):
    return "\n".join(lines) + "\n"


ONES = rows("file,cat,dog", "0.npy,0,1", "1.npy,1,1", "2.npy,0,0", "3.npy,1,0", "4.npy,0,1")
ROWS = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]], np.float32)


@pytest.mark.parametrize(
    "text",
    [ONES, rows("labels,file", "dog,0.npy", "dog| cat,1.npy", ",2.npy", "cat,3.npy", "dog|,4.npy")],
)
def test_labels_of_a_folder(folder, text):
    found = tasks.MultiLabel.load_folder(folder({"labels.csv": text}), size=(8, 8), seed=3)
    assert found.classes == ["cat", "dog"]
    assert (len(found.train), len(found.test), found.image_shape) == (4, 1, (3, 8, 8))
    for part in (found.train, found.test):
        x, y = part.batch(np.arange(len(part)))
        np.testing.assert_array_equal(y, ROWS[x[:, 0, 0, 0] // 10], strict=True)
    assert found.mean == pytest.approx(
        [found.train.batch(np.arange(4))[0].mean() / 255] * 3, abs=1e-4
    )


def test_values_in_train_and_val(folder):
    train = rows("weight,file,length", "1.5,0.npy,-2e3", "2,1.npy,7", "3,4.npy,9")
    test = rows("file,length,weight", "3.npy,8,4")  # in another order
    root = folder({"train/targets.csv": train, "val/targets.csv": test})
    found = tasks.Regression.load_folder(root, size=(8, 8), channels=1)
    assert found.classes == ["weight", "length"]
    np.testing.assert_array_equal(data.labels(found.train), [[1.5, -2000], [2, 7], [3, 9]])
    x, y = found.test.batch(np.arange(1))
    assert (x.shape, x[0, 0, 0, 0], y.tolist()) == ((1, 1, 8, 8), 30, [[4.0, 8.0]])
    task = tasks.Regression.of_data(found)
    assert task.target_mean == pytest.approx([6.5 / 3, -1984 / 3])
    assert task.target_std == pytest.approx([np.std([1.5, 2, 3]), np.std([-2000, 7, 9])])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "labels.csv",
            rows("file,cat", "0.npy,2"),
            r"labels.csv, line 2: 'cat' is 2: expected 1 if",
        ),
        ("labels.csv", rows("file,cat", "0.npy,yes"), "line 2: column 'cat' is 'yes', expected a"),
        ("labels.csv", rows("image,cat", "0.npy,1"), "line 1: no column 'file'; the columns are"),
        ("labels.csv", rows("file", "0.npy"), "line 1: expected columns of targets after 'file'"),
        ("labels.csv", rows("file,cat", "0.npy,1", "9.npy,1"), "line 3: there is no file .*9.npy"),
        ("labels.csv", rows("file,cat"), "labels.csv lists no images"),
        ("labels.csv", rows("file,cat", "0.npy,1"), "labels.csv has one image: expected two or"),
        ("labels.csv", rows("file;cat", "0.npy;1"), "no column 'file'; expected ',' between the"),
        ("other.csv", "", "labels.csv is missing: expected a CSV file .* such as file,cat,dog"),
    ],
)
def test_tables_that_are_wrong(folder, name, text, message):
    with pytest.raises(DataError, match=message):
        tasks.MultiLabel.load_folder(folder({name: text}))


def test_a_test_split_with_another_class_or_without_a_column(folder):
    tables = {"train/labels.csv": rows("file,labels", "0.npy,cat", "1.npy,dog")}
    root = folder({**tables, "test/labels.csv": rows("file,labels", "0.npy,cow")})
    with pytest.raises(DataError, match="line 2: label 'cow', expected one of cat, dog"):
        data.load_table_folder(root)
    (root / "test/labels.csv").write_text(rows("file,cat", "0.npy,1"))
    with pytest.raises(DataError, match="no column 'dog'"):
        data.load_table_folder(root)


def test_unreadable_images_are_left_out_with_a_warning(folder):
    root = folder({"labels.csv": ONES})
    (root / "1.npy").write_text("no picture")
    (root / "3.npy").unlink()
    with pytest.warns(UserWarning, match="labels.csv: 2 of 5 files are left out") as warned:
        found = data.load_table_folder(root, on_error="skip")
    assert re.search(r"line 3.*\n.*line 5", str(warned[0].message))
    assert len(found.train) + len(found.test) == 3
    with pytest.raises(ArgumentError, match="on_error='no'"):
        data.load_table_folder(root, on_error="no")


# -- tasks


@pytest.mark.parametrize(
    "task",
    [
        tasks.MultiLabel(**SMALL, loss="focal", threshold=0.2),
        tasks.Regression(**SMALL, loss="huber", **UNITS),
    ],
    ids=lambda task: task.name,
)
def test_settings_make_the_task_again(task):
    again = tasks.from_settings(json.loads(json.dumps(task.settings())))
    assert again.settings() == task.settings()
    assert task.create_model("small_cnn")(normal(2, 1, 6, 6, dtype="float32")).shape == (2, 3)


def test_labels_above_the_threshold():
    task = tasks.MultiLabel(**SMALL, threshold=0.3)
    assert task.describe([0.31, 0.3, 0.95]) == "tree 95.00%  cat 31.00%"
    assert task.describe([0.1, 0.3, 0]) == "no label"
    loss = task.create_loss()
    assert loss.threshold == pytest.approx(math.log(0.3 / 0.7))
    values = {"accuracy": 0.75, "average_precision": 0.5}
    assert task.result(values, 8) == "mean average precision 0.5000, 75.00% of the labels right"
    # accuracy counts labels; each of these scores is a probability of 0.4
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    model[1].weight.data[...] = 0
    model[1].bias.data[...] = math.log(0.4 / 0.6)
    x, y = normal(4, 1, 6, 6, dtype="float32"), np.array([[1, 0, 0]] * 4, np.float32)
    for threshold, expected in ((0.3, 1 / 3), (0.5, 2 / 3), (0.0, 1 / 3), (1.0, 2 / 3)):
        task = tasks.MultiLabel(**SMALL, threshold=threshold)
        trainer = xcnn.Trainer(model, loss=task.create_loss())
        assert trainer.evaluate(x, y)["accuracy"] == pytest.approx(expected)
    with pytest.raises(ArgumentError, match=r"threshold=1.5: expected a number from 0 to 1"):
        tasks.MultiLabel(**SMALL, threshold=1.5)


def test_the_loss_of_standardised_targets(backend):
    """Of (target - mean) / std; predictions and metrics in the units of the data."""
    mean, std = np.array(UNITS["target_mean"]), np.array(UNITS["target_std"])
    output = normal(5, 3)
    target = normal(5, 3, seed=1) * std + mean
    difference = output - (target - mean) / std
    size = abs(difference)
    expected = {
        "mse": (difference**2).mean(),
        "l1": size.mean(),
        "huber": np.where(size < 1, difference**2 / 2, size - 0.5).mean(),
        "smooth_l1": np.where(size < 1, difference**2 / 2, size - 0.5).mean(),
    }
    for name, value in expected.items():
        loss = tasks.Regression(**SMALL, loss=name, **UNITS).create_loss()
        y = xcnn.tensor(output.astype("float32"), device=backend.device)
        found = loss(y, backend.asarray(target, "float32"))
        truth = backend.asarray(target)
        assert gradcheck(lambda x, f=loss, y=truth: f(x, y), backend.asarray(output)) < 1e-6
        assert float(found.numpy()) == pytest.approx(value, rel=1e-3)
        predicted = loss.prediction(y)
        assert predicted.backend is backend
        np.testing.assert_allclose(predicted.numpy(), output * std + mean, rtol=1e-5)
    model = nn.Sequential(nn.Linear(3, 3)).to(backend)
    model[0].weight.data[...] = backend.asarray(np.eye(3), "float32")
    model[0].bias.data[...] = 0
    trainer = xcnn.Trainer(model, loss=loss, metrics=["mae", "r2"])
    values = trainer.evaluate(output.astype("float32"), target.astype("float32"))
    error = output * std + mean - target
    assert values["mae"] == pytest.approx(abs(error).mean(), rel=1e-4)
    r2 = 1 - (error**2).sum(axis=0) / ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    assert values["r2"] == pytest.approx(r2.mean(), rel=2e-3)


def test_settings_that_regression_refuses():
    for settings, message in (
        ({"target_mean": [1.0]}, "target_mean has 1 numbers: expected one for each of cat, dog"),
        ({"target_mean": []}, "target_mean has 0 numbers"),
        ({"target_std": []}, "target_std has 0 numbers: expected one for each of cat, dog"),
        ({"target_std": [1.0, 0.0, 1.0]}, "target_std=0.0: expected a number"),
        ({"classes": []}, "regression needs classes: pass the names of the numbers"),
    ):
        with pytest.raises(ArgumentError, match=message):
            tasks.Regression(**{**SMALL, **settings})
    digits = data.load("digits", limit=10)
    for kind in (tasks.MultiLabel, tasks.Regression):
        with pytest.raises(ArgumentError, match=f"{kind.name} needs a row of 10 numbers"):
            kind.of_data(digits)


def test_a_target_that_is_constant_and_a_description(folder):
    text = rows("file,depth,width", *(f"{i}.npy,{i},7" for i in range(5)))
    task = tasks.Regression.of_data(tasks.Regression.load_folder(folder({"targets.csv": text})))
    assert task.target_std[1] == 1
    assert task.describe(np.array([1234.5678, -0.00012345])) == "depth 1235, width -0.0001234"
    assert task.result({"r2": 0.5, "mae": 2.0, "loss": 1.0}, 8) == "R² 0.5000, MAE 2.0000"


@pytest.mark.parametrize("name", ["multi-label", "regression"])
def test_files_with_post_processing(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    task = tasks.create(name, **SMALL, **(UNITS if name == "regression" else {}))
    model = task.create_model("small_cnn")
    x = normal(4, 1, 6, 6, dtype="float32")
    exported = task.exported(model, postprocess=True)
    xcnn.onnx.export(exported.model, x, tmp_path / "model.onnx", output_names=exported.outputs)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(list(exported.outputs), {session.get_inputs()[0].name: x})
    expected = xcnn.Trainer(model, loss=task.create_loss()).predict(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# -- trainings


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("multi-label", "binary_cross_entropy_with_logits"),
        ("regression", "mse"),
        ("regression", "huber"),
    ],
)
def test_twenty_steps_as_in_pytorch(name, loss):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    units = UNITS if name == "regression" else {}
    task = tasks.create(name, **SMALL, loss=loss, **units)
    xcnn.manual_seed(0)
    model = task.create_model("small_cnn")  # Conv2d, ReLU, MaxPool2d, Flatten, Linear
    peer = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 3),
    )
    peer.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    x, y = normal(80, 1, 6, 6, dtype="float32"), (normal(80, 3) > 0.3).astype("float32")
    scaled = torch.tensor(y)
    if units:
        mean, std = np.array(units["target_mean"]), np.array(units["target_std"])
        values = normal(80, 3)
        y, scaled = (values * std + mean).astype("float32"), torch.tensor(values.astype("float32"))
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.01), task.create_loss())
    theirs = torch.optim.Adam(peer.parameters(), lr=0.01)
    functions = torch.nn.functional
    function = getattr(functions, loss, None) or getattr(functions, f"{loss}_loss")
    for step in range(20):
        batch = slice(step % 4 * 20, step % 4 * 20 + 20)
        ours = float(trainer.train_step(x[batch], y[batch]).loss.numpy())
        theirs.zero_grad()
        error = function(peer(torch.tensor(x[batch])), scaled[batch])
        error.backward()
        theirs.step()
        # with a mean of 100 standard deviations, float32 targets have four digits
        assert ours == pytest.approx(error.item(), rel=2e-3 if units else 1e-4)


def test_they_learn():
    """The figures of a training with all pictures are in docs/tasks/classification.md."""
    for kind, metric, lowest in (
        (tasks.MultiLabel, "average_precision", 0.55),
        (tasks.Regression, "r2", 0.5),
    ):
        dataset = data.load(kind.datasets[0])
        task = kind.of_data(dataset)
        settings = {"batch_size": 32, "transform": task.transform()}
        xcnn.manual_seed(0)
        trainer = xcnn.Trainer(
            task.create_model("lenet5"), "adam", task.create_loss(), metrics=task.measured
        )
        train = data.DataLoader(data.subsample(dataset.train, 1000), shuffle=True, **settings)
        trainer.fit(train, epochs=6, progress=False)
        measured = trainer.evaluate(data.DataLoader(dataset.test, **settings))
        assert measured[metric] > lowest  # 0.41 and 0 without training


def test_commands(folder, capsys, monkeypatch):
    root = folder(
        {"labels.csv": ONES, "targets.csv": rows("file,age", *(f"{i}.npy,{i}" for i in range(5)))}
    )
    monkeypatch.chdir(root.parent)
    options = ["--data", "photos", "--image-size", "32", "--epochs", "2", "--quiet"]
    for task, words in (("multi-label", "of the labels right"), ("regression", "R² ")):
        assert main(["train", "lenet5", "--task", task, "--out", task, *options]) == 0
        assert main(["evaluate", task]) == 0
        assert capsys.readouterr().out.count(words) == 2
        assert main(["predict", task, "photos/1.npy"]) == 0
        said = capsys.readouterr().out
        assert ("age " in said) == (task == "regression")
        assert main(["report", task, "--out", f"{task}.html"]) == 0
        page = (root.parent / f"{task}.html").read_text(encoding="utf-8")
        marks = ["(target: "] if task == "regression" else [r"\u2713 ", r"\u2717 "]
        assert any(mark in page for mark in marks)
        counts = json.loads(re.search(r'"balance":(\{.*?\})', page)[1])
        found = np.sum(list(counts.values()), axis=0).tolist()
        assert found == ([2, 3] if task == "multi-label" else 0)
        assert main(["train", "--resume", task, "--epochs", "3", "--quiet"]) == 0
        if importlib.util.find_spec("onnx"):
            for option in ([], ["--postprocess"]):
                assert main(["export", task, "model.onnx", *option]) == 0
                capsys.readouterr()
                assert main(["predict", task, "photos/1.npy"]) == 0
                said = capsys.readouterr().out
                assert main(["predict", "model.onnx", "photos/1.npy"]) == 0
                assert capsys.readouterr().out == said
    assert main(["train", "--task", "multi-label", "--class-weight", "balanced", *options]) == 2
    assert "--class-weight with --loss binary_cross_entropy_with_logits" in capsys.readouterr().err
