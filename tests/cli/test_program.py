"""The program ``xcnn``: what it prints, what it leaves behind and how it ends."""

import csv
import errno
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xcnn
from xcnn import backends, data
from xcnn.cli import optimization

COLUMNS = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,seconds"
FILES = ["config.json", "history.csv", "model.safetensors"]


def python(*arguments, **settings):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, **settings
    )


def history(folder):
    with open(f"{folder}/history.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {name: Path(folder, name).read_bytes() for name in FILES}


def config(folder):
    with open(f"{folder}/config.json") as file:
        return json.load(file)


def inputs(folder, part, count):
    """The first images as the network takes them, computed here, and their labels."""
    settings = config(folder)
    pixels, labels = (a[:count] for a in part.arrays)
    x = (pixels / 255.0 - settings["mean"][0]) / settings["std"][0]
    return x.astype(np.float32), labels


# Training


def test_train(run, here):
    done = run("train --limit 60 --epochs 2 --device cpu --out run")
    assert (done.status, done.err) == (0, "")
    assert sorted(os.listdir("run")) == FILES
    assert os.listdir() == ["run"]
    with open("run/history.csv") as file:
        assert file.readline() == COLUMNS + "\n"
    rows = history("run")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row[name]) >= 0 for row in rows for name in COLUMNS.split(","))
    head, first, second, last = done.out.splitlines()
    assert head == "lenet5 (61,706 parameters) on digits: 60 to train, 60 to test, on cpu"
    for number, line in ((1, first), (2, second)):
        row = {name: float(value) for name, value in rows[number - 1].items()}
        assert line == (
            f"epoch {number}/2: loss {row['train_loss']:.4f}, accuracy "
            f"{row['train_accuracy']:.4f}, val_loss {row['val_loss']:.4f}, val_accuracy "
            f"{row['val_accuracy']:.4f}, {row['seconds']:.1f} s"
        )
    accuracy = float(rows[-1]["val_accuracy"])
    assert last.startswith(f"test accuracy {accuracy:.2%} ({round(60 * accuracy)} of 60) after 2")
    assert last.endswith("run holds model.safetensors, history.csv, config.json")


def test_the_config(run):
    run("train small_cnn --limit 20 --epochs 1 --optimizer sgd --seed 3 --device cpu --out run")
    assert config("run") == {
        "xcnn": xcnn.__version__,
        "model": "small_cnn",
        "data": "digits",
        "classes": list("0123456789"),
        "input_shape": [1, 32, 32],
        "mean": [0.3050],
        "std": [0.3234],
        "scale": 255,
        "augment": "none",
        "limit": 20,
        "epochs": 1,
        "batch_size": 64,
        "optimizer": "sgd",
        "lr": 0.05,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "warmup": 0,
        "clip_norm": None,
        "loss": "cross_entropy",
        "init": None,
        "new_head": False,
        "freeze": [],
        "seed": 3,
        "device": "cpu",
        "precision": "float32",
    }
    assert repr(xcnn.load("run/model.safetensors")).splitlines()[1] == "  (0): Conv2d(1, 16, 3)"


def test_the_numbers_belong_to_the_saved_model(trained):
    model = xcnn.load(trained / "model.safetensors")
    x, labels = inputs(trained, data.load("digits").test, 400)
    accuracy = (model(x).data.argmax(axis=1) == labels).mean()
    assert float(history(trained)[-1]["val_accuracy"]) == pytest.approx(accuracy)
    assert accuracy > 0.85  # it did learn: guessing gives 0.1


def test_quiet(run):
    done = run("train --limit 20 --epochs 2 --quiet --out run")
    assert done.err == ""
    (line,) = done.out.splitlines()
    assert line.startswith("test accuracy ")
    assert ") after 2 epochs in " in line
    assert ") after 1 epoch in " in run("train mlp --limit 9 --epochs 1 --quiet").out


def test_default_folders_are_numbered(run):
    for _ in range(2):
        assert run("train mlp --limit 10 --epochs 1 --quiet").status == 0
    os.makedirs("runs/mlp-digits-4")
    for _ in range(2):
        assert run("train mlp --limit 10 --epochs 1 --quiet").status == 0
    assert run("train --data moons --limit 10 --epochs 1 --quiet").status == 0
    assert sorted(os.listdir("runs")) == [
        *(f"mlp-digits-{n}" for n in (1, 2, 3, 4, 5)),
        "mlp-moons-1",
    ]
    assert os.listdir("runs/mlp-digits-4") == []


def test_out_refuses_an_existing_run(run):
    os.makedirs("run/inner")
    assert run("train mlp --limit 10 --epochs 1 --quiet --out run").status == 0
    before = contents("run")
    done = run("train mlp --limit 10 --epochs 1 --quiet --out run")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "xcnn: error: --out run: the folder already holds a run (model.safetensors, history.csv, "
        "config.json); choose another or remove it\n"
    )
    assert contents("run") == before
    done = run("train mlp --limit 10 --epochs 1 --out run/config.json")
    assert done.status == 2
    assert "this is a file, expected a folder" in done.err
    done = run("train mlp --limit 10 --epochs 1 --out run/config.json/inner")
    assert (done.status, done.err.startswith("xcnn: error: ")) == (2, True)


def test_the_schedule(run):
    """It acts from the second epoch on."""
    for schedule in ("cosine", "constant"):
        line = f"train mlp --limit 100 --epochs 3 --quiet --schedule {schedule} --out {schedule}"
        assert run(line).status == 0
        assert config(schedule)["schedule"] == schedule
    cosine, constant = (
        [row["train_loss"] for row in history(name)] for name in ("cosine", "constant")
    )
    assert cosine[0] == constant[0]
    assert cosine[1] != constant[1]
    assert float(cosine[2]) > float(constant[2])  # smaller steps go less far


@pytest.mark.parametrize("name", ["adagrad", "adam", "adamw", "rmsprop", "sgd"])
def test_every_optimizer_learns(run, name):
    line = f"train mlp --limit 300 --epochs 4 --quiet --optimizer {name}"
    assert run(f"{line} --out plain").status == 0
    assert run(f"{line} --out drawn --weight-decay 0.5").status == 0
    assert config("plain")["optimizer"] == name
    assert config("plain")["weight_decay"] == (0.01 if name == "adamw" else 0)
    assert config("drawn")["weight_decay"] == 0.5
    losses = [[float(row["train_loss"]) for row in history(f)] for f in ("plain", "drawn")]
    assert losses[0][-1] < 0.8 * losses[0][0]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("schedule", ["step", "exponential", "onecycle", "plateau"])
def test_every_schedule_learns(run, schedule):
    line = f"train mlp --limit 300 --epochs 5 --quiet --schedule {schedule} --out run"
    assert run(line).status == 0
    assert config("run")["schedule"] == schedule
    losses = [float(row["train_loss"]) for row in history("run")]
    assert losses[-1] < 0.8 * losses[0]


def rates(schedule, epochs, warmup=0, batches=2, metrics=None):
    """The learning rate in each epoch, at its first batch."""
    settings = {"optimizer": "adam", "lr": 1.0, "weight_decay": 0.0, "warmup": warmup}
    settings |= {"schedule": schedule, "epochs": epochs}
    optimizer = optimization.make_optimizer(settings, xcnn.nn.Linear(1, 1))
    made, found = optimization.make_schedule(settings, optimizer, batches), []
    for epoch in range(epochs):
        found.append(optimizer.lr)
        steps = batches if made is not None and made.per_batch else 1
        for _ in range(steps if made is not None else 0):
            made.step(*([] if metrics is None else [metrics[epoch]]))
    return found


def test_what_the_schedules_are():
    assert rates("constant", 3) == [1, 1, 1]
    assert rates("cosine", 4) == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert rates("step", 7) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert rates("exponential", 4) == pytest.approx([1, 0.01**0.25, 0.1, 0.01**0.75])
    metrics = [5, 4, 4, 4, 4, 4, 3, 3]
    assert rates("plateau", 8, metrics=metrics) == pytest.approx([1] * 6 + [0.1, 0.1])
    cycle = rates("onecycle", 10, batches=10)
    assert cycle[0] == pytest.approx(1 / 25)
    assert max(cycle) == cycle[3] == pytest.approx(1, rel=0.01)
    assert cycle[9] < 0.05


def test_the_warm_up():
    assert rates("constant", 5, 3) == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1])
    assert rates("step", 8, 2) == pytest.approx([1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates("cosine", 5, 1) == pytest.approx([1 / 2, *rates("cosine", 4)])


def test_warm_up_and_clipping_from_the_command_line(run):
    """Both make the first steps smaller, so that the first losses are larger."""
    line = "train mlp --limit 200 --epochs 3 --quiet --optimizer sgd"
    for folder, more in (("plain", ""), ("warm", " --warmup 2"), ("clipped", " --clip-norm 0.01")):
        assert run(f"{line}{more} --out {folder}").status == 0
    assert config("warm")["warmup"] == 2
    assert config("clipped")["clip_norm"] == 0.01
    losses = {f: float(history(f)[0]["train_loss"]) for f in ("plain", "warm", "clipped")}
    assert losses["plain"] < losses["warm"] < losses["clipped"]


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_the_same_seed_gives_the_same_files(run, device):
    def files(folder, seed):
        line = f"train small_cnn --data cross --limit 100 --epochs 2 --quiet --device {device}"
        assert run(f"{line} --seed {seed} --out {folder}").status == 0
        rows = [{**row, "seconds": ""} for row in history(folder)]
        return contents(folder)["model.safetensors"], rows

    first = files("first", 5)
    assert files("again", 5) == first
    assert files("other", 6) != first


def test_another_device(run):
    """Trained on one device, used on another."""
    assert run("train --limit 50 --epochs 1 --quiet --device strict --out run").status == 0
    assert config("run")["device"] == "strict"
    answers = [run(f"evaluate run --limit 50 --device {d}").out for d in ("strict", "cpu")]
    assert answers[0] == answers[1]
    accuracy = float(history("run")[0]["val_accuracy"])
    assert answers[0].startswith(f"digits test: accuracy {accuracy:.2%} (")


@pytest.mark.parametrize(
    ("line", "end", "outputs"),
    [
        ("--loss cross_entropy", "Linear", 2),
        ("--loss nll", "LogSoftmax", 2),
        ("--loss binary_cross_entropy", "Sigmoid", 1),
        ("--loss binary_cross_entropy_with_logits", "Linear", 1),
    ],
)
@pytest.mark.parametrize("dataset", ["moons", "cross"])
def test_every_loss(run, line, end, outputs, dataset):
    model = "" if dataset == "moons" else "small_cnn"
    train = f"train {model} --data {dataset} --limit 250 --epochs 6 --lr 0.02 --quiet --out run"
    assert run(f"{train} {line}").status == 0
    network = xcnn.load("run/model.safetensors")
    assert type(network[-1]).__name__ == end
    assert network(np.zeros((1, *config("run")["input_shape"]), np.float32)).shape == (1, outputs)
    losses = [float(row["train_loss"]) for row in history("run")]
    assert losses[-1] < 0.8 * losses[0]
    accuracy = float(history("run")[-1]["val_accuracy"])
    assert accuracy > 0.6
    done = run("evaluate run --limit 250")
    right = round(accuracy * 250)
    assert done.out.startswith(f"{dataset} test: accuracy {accuracy:.2%} ({right} of 250), loss ")
    if dataset == "cross":
        part = data.load("cross").test
        np.save("image.npy", part.arrays[0][0])
        score = network(inputs("run", part, 1)[0]).data[0]
        best = score.argmax() if outputs == 2 else score[0] > (0.5 if end == "Sigmoid" else 0)
        first, second = run("predict run image.npy").out.split("  ")[1:]
        names = [entry.rsplit(" ", 1)[0] for entry in (first, second)]
        classes = config("run")["classes"]
        assert names == [classes[int(best)], classes[1 - int(best)]]
        percentages = [float(entry.rsplit(" ", 1)[1].rstrip("%\n")) for entry in (first, second)]
        assert sum(percentages) == pytest.approx(100, abs=0.02)
        assert percentages[0] >= percentages[1]


@pytest.mark.slow
def test_the_digits_from_start_to_end(here):
    """The first thing that a new user types."""
    done = python("-m", "xcnn", "train")
    assert (done.returncode, done.stderr) == (0, "")
    rows = history("runs/lenet5-digits-1")
    assert len(rows) == 20
    assert float(rows[-1]["val_accuracy"]) >= 0.98
    done = python("-m", "xcnn", "evaluate", "runs/lenet5-digits-1")
    assert done.stdout.startswith(f"digits test: accuracy {float(rows[-1]['val_accuracy']):.2%} (")


# Using a run


def test_evaluate(run, trained):
    model = xcnn.load(trained / "model.safetensors")
    for limit in (7, 360):
        x, labels = inputs(trained, data.load("digits").test, limit)
        z = np.float64(model(x).data)
        right = int((z.argmax(axis=1) == labels).sum())
        chosen = np.exp(z)[np.arange(limit), labels] / np.exp(z).sum(axis=1)
        done = run(f"evaluate {trained} --limit {limit} --batch-size 5 --device cpu")
        assert (done.status, done.err) == (0, "")
        assert done.out == (
            f"digits test: accuracy {right / limit:.2%} ({right} of {limit}), "
            f"loss {-np.log(chosen).mean():.4f}\n"
        )


def test_predict(run, trained):
    model = xcnn.load(trained / "model.safetensors")
    x, _ = inputs(trained, data.load("digits").test, 3)
    z = np.float64(model(x).data)
    expected = []
    for row in np.exp(z) / np.exp(z).sum(axis=1, keepdims=True):
        best = np.argsort(-row)[:3]
        expected.append("  ".join(f"{i} {row[i]:.2%}" for i in best))
    first, second, third = data.load("digits").test.arrays[0][:3]
    Image.fromarray(first[0]).save("a.png")
    np.save("longer-name.npy", second)
    Image.fromarray(255 - third[0]).save("ink.png")
    done = run(f"predict {trained} a.png longer-name.npy --device cpu")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"a.png            {expected[0]}\nlonger-name.npy  {expected[1]}\n"
    assert run(f"predict {trained} ink.png --invert").out == f"ink.png  {expected[2]}\n"
    assert run(f"predict {trained} ink.png").out != f"ink.png  {expected[2]}\n"
    done = run(f"predict {trained} a.png --top 1")
    assert done.out == f"a.png  {expected[0].split('  ')[0]}\n"
    assert len(run(f"predict {trained} a.png --top 99").out.split("  ")) == 11


def test_predict_fits_colours_and_sizes(run, trained):
    """A large colour picture of a digit is the same digit."""
    pixels = data.load("digits").test.arrays[0][0, 0]
    small = run_image(run, trained, Image.fromarray(pixels))
    large = Image.fromarray(np.repeat(pixels.repeat(4, 0).repeat(4, 1)[:, :, None], 3, 2))
    assert run_image(run, trained, large) == small


def run_image(run, trained, image):
    image.save("image.png")
    return run(f"predict {trained} image.png --top 1").out.split()[1]


def test_predict_errors(run, trained):
    with open("broken.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 9)
    np.save("bad.npy", np.full((3, 3), 7.5))
    with open("text.npy", "w") as file:
        file.write("no array")
    for name, text in (
        ("missing.png", "missing.png cannot be read as a picture: [Errno 2] No such file"),
        ("missing.npy", "missing.npy cannot be read as an array: [Errno 2] No such file"),
        ("broken.png", "broken.png cannot be read as a picture"),
        ("bad.npy", "bad.npy holds float64 from 7.5 to 7.5; wanted uint8, or floats from 0 to 1"),
        ("text.npy", "text.npy cannot be read as an array"),
    ):
        done = run(f"predict {trained} {name}")
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith(f"xcnn: error: {text}")
    assert run("train --data moons --limit 9 --epochs 1 --quiet --out points").status == 0
    done = run("predict points broken.png")
    assert (done.status, done.err) == (
        2,
        "xcnn: error: points was trained on features, not on images\n",
    )


def test_evaluate_errors(run, trained):
    done = run("evaluate nowhere")
    assert (done.status, done.out) == (2, "")
    assert "nowhere is not a run folder: it has no config.json; train one with" in done.err
    done = run(f"evaluate {trained} --data cross")
    assert done.status == 2
    assert "--data cross has inputs [1, 16, 16] and 2 classes, the network takes" in done.err


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_model(run, trained, part):
    shutil.copytree(trained, "copy")
    with open("copy/model.safetensors", "r+b") as file:
        file.truncate(int(part * os.path.getsize("copy/model.safetensors")))
    for line in ("evaluate copy", "summary copy"):
        done = run(line)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith(
            "xcnn: error: copy/model.safetensors is not a complete safetensors file"
        )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "copy/config.json is damaged"),
        ('{"classes": ["a"', "copy/config.json is damaged"),
        ("{}", "copy/config.json is damaged: missing or wrong: classes, data, input_shape, loss, "),
        ("[1]", "copy/config.json is damaged: missing or wrong: classes"),
        ("3", "copy/config.json is damaged: missing or wrong: classes"),
    ],
)
def test_a_damaged_config(run, trained, content, text):
    shutil.copytree(trained, "copy")
    with open("copy/config.json", "w") as file:
        file.write(content)
    done = run("evaluate copy")
    assert done.status == 2
    assert done.err.startswith(f"xcnn: error: {text}")


def test_a_run_without_its_model(run, trained):
    shutil.copytree(trained, "copy")
    os.remove("copy/model.safetensors")
    done = run("evaluate copy")
    assert (done.status, done.err) == (2, "xcnn: error: no such file: copy/model.safetensors\n")


# What there is


def test_summary(run, trained):
    done = run("summary lenet5")
    assert done.status == 0
    assert done.out == xcnn.summary(xcnn.models.lenet5(), (1, 28, 28)) + "\n"
    of_run = run(f"summary {trained}").out
    assert of_run == xcnn.summary(xcnn.models.mlp(10, (1, 32, 32)), (1, 32, 32)) + "\n"
    done = run("summary small_cnn --input-shape 3,10,12 --classes 4")
    total = (3 * 9 + 1) * 16 + (16 * 4 * 5 + 1) * 4
    assert done.out.splitlines()[-2].split()[:2] == ["total", f"{total:,}"]
    done = run("summary nothing")
    assert (done.status, done.out) == (2, "")
    assert "'nothing' is neither a model (autoencoder, efficientnet_b0, " in done.err
    done = run("summary lenet5 --input-shape 28,28")
    assert (done.status, "lenet5 needs images" in done.err) == (2, True)


def test_doctor(run):
    done = run("doctor")
    assert done.status == 0
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert rows["xcnn"].startswith(xcnn.__version__)
    assert rows["numpy"] == np.__version__
    assert "device cpu     ok" in done.out
    assert {"scipy", "tqdm", "safetensors", "pillow", "CuPy", "device", "BLAS"} <= set(rows)


def test_datasets(run):
    done = run("datasets")
    assert done.status == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == data.names()
    assert lines[0].endswith("1,437 to train, 360 to test")
    assert lines[1].strip() == "embedded"
    assert lines[3].strip().startswith("not present; load() would download 11.6 MB to")


# What is refused


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "train --loss binary_cross_entropy",
            "needs two classes, digits has 10: use cross_entropy",
        ),
        ("train --loss binary_cross_entropy_with_logits", "needs two classes, digits has 10"),
        ("train lenet5 --data moons", "lenet5 takes images, moons holds features: use mlp"),
        ("train small_cnn --data moons", "small_cnn takes images, moons holds features"),
        ("train --lr -1", "lr=-1.0: expected a number >= 0"),
        ("train --lr nan", "lr=nan: expected a number >= 0"),
        ("train --weight-decay -1", "weight_decay=-1.0: expected a number >= 0"),
        ("train --clip-norm -1", "clip_norm=-1.0: expected a number >= 0"),
        ("train --warmup 20", "--warmup 20: expected fewer than the 20 epochs"),
        (
            "train --warmup 2 --schedule onecycle",
            "--warmup 2 does not go with --schedule onecycle: use constant, cosine, exponential",
        ),
        ("train --device tpu", 'device=\'tpu\': expected "cpu", "cuda", "cuda:N" or "auto"'),
        ("train --data mnist", "the data set 'mnist' is not on this machine"),
        ("train --data-dir . --data cifar10", "the data set 'cifar10' is not on this machine"),
    ],
)
def test_refused(run, here, line, text):
    done = run(line)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("xcnn: error: ")
    assert text in done.err
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("fly", "invalid choice: 'fly'"),
        ("train resnet", "invalid choice: 'resnet' (choose from 'autoencoder', 'eff"),
        ("train --data cats", "argument --data: invalid choice: 'cats'"),
        ("train --epochs 0", "argument --epochs: 0 is not a whole number from 1 on"),
        ("train --epochs many", "argument --epochs: many is not a whole number from 1 on"),
        ("train --limit 1.5", "argument --limit: 1.5 is not a whole number from 1 on"),
        ("train --batch-size -3", "argument --batch-size: -3 is not a whole number from 1 on"),
        ("train --seed -1", "argument --seed: -1 is not a whole number from 0 on"),
        ("train --optimizer lion", "argument --optimizer: invalid choice: 'lion'"),
        ("train --schedule linear", "argument --schedule: invalid choice: 'linear'"),
        ("train --warmup 0", "argument --warmup: 0 is not a whole number from 1 on"),
        ("train --loss hinge", "argument --loss: invalid choice: 'hinge'"),
        ("predict run", "the following arguments are required: IMAGE"),
        ("summary mlp --input-shape 3,x", "'3,x' is not a shape such as 1,28,28"),
        ("summary mlp --input-shape 3,0", "'3,0' is not a shape such as 1,28,28"),
    ],
)
def test_refused_by_the_parser(run, line, text):
    done = run(line)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("usage: xcnn")
    assert text.replace("'", "") in done.err.replace("'", "")  # Python 3.12 quotes less


@pytest.fixture
def no_gpu_opened(monkeypatch):
    monkeypatch.setattr(backends, "_by_name", {"cpu": backends.get("cpu")})


@pytest.mark.parametrize("command", ["train", "evaluate {trained}", "predict {trained} a.png"])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_cupy(run, trained, monkeypatch, no_gpu_opened, command, device):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = run(f"{command.format(trained=trained)} --device {device}")
    assert (done.status, done.out) == (2, "")
    number = device.partition(":")[2] or "0"
    assert done.err == (
        f"xcnn: error: device cuda:{number} is not available: CuPy is not installed; install it "
        'with: pip install "cupy-cuda13x[ctk]"   (for a driver of CUDA 13; cupy-cuda12x for CUDA '
        "12)\n"
    )


def test_no_driver(run, monkeypatch, no_gpu_opened):
    def count():
        raise RuntimeError("cudaErrorNoDevice")

    runtime = types.SimpleNamespace(
        getDeviceCount=count, driverGetVersion=lambda: 0, runtimeGetVersion=lambda: 13020
    )
    fake = types.ModuleType("cupy")
    fake.__spec__ = types.SimpleNamespace()
    fake.ndarray = type("ndarray", (), {})
    fake.__version__, fake.is_available = "14.2.0", lambda: False
    fake.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    done = run("train --device cuda")
    assert done.status == 2
    assert "CuPy 14.2.0 is installed, but the CUDA driver does not answer" in done.err
    assert "sudo apt install nvidia-driver" in done.err
    assert "nvidia-smi" in done.err
    assert run("train --limit 9 --epochs 1 --quiet").status == 0  # auto goes on without


# Accidents


def fill_disk(monkeypatch, room):
    """The first ``room`` new files fit on it; of the next one a part."""
    real, files = Path.open, []

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, content):
            self.file.write(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path, mode="r", *rest):
        file = real(path, mode, *rest)
        if mode != "xb":
            return file
        files.append(path)
        return file if len(files) <= room else Full(file)

    monkeypatch.setattr(Path, "open", opened)


def test_a_full_disk_keeps_the_epochs_before(run, monkeypatch):
    assert run("train mlp --limit 20 --epochs 1 --quiet --out short").status == 0
    fill_disk(monkeypatch, room=3)
    done = run("train mlp --limit 20 --epochs 5 --quiet --out run")
    assert done.status == 2
    assert done.out == "\nthe files cannot be written: run holds the network after 1 epoch\n"
    assert done.err == "xcnn: error: [Errno 28] No space left on device: 'run/model.safetensors'\n"
    assert sorted(os.listdir("run")) == FILES
    assert len(history("run")) == 1
    assert contents("run")["model.safetensors"] == contents("short")["model.safetensors"]


def test_a_disk_full_from_the_start(run, monkeypatch):
    fill_disk(monkeypatch, room=0)
    done = run("train mlp --limit 20 --epochs 5 --quiet --out run")
    assert done.status == 2
    assert not os.path.exists("run")


def test_ctrl_c_keeps_the_finished_epochs(run):
    line = "-m xcnn train --data moons --epochs 99999 --out run"
    program = subprocess.Popen(
        [sys.executable, *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background starts with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while not (os.path.exists("run/config.json") and len(history("run")) >= 3):
        assert program.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert err.strip() == "xcnn: stopped"
    count = len(history("run"))
    assert f"stopped: run holds the network after {count} epochs" in out
    assert sorted(os.listdir("run")) == FILES
    assert run("evaluate run").status == 0


def test_ctrl_c_while_saving_still_saves(run, monkeypatch):
    """The second epoch's history is interrupted; its model is there already."""
    real, calls = os.replace, []

    def replace(*paths):
        calls.append(paths)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    done = run("train mlp --limit 20 --epochs 9 --quiet --out run")
    assert (done.status, done.out) == (130, "\nstopped: run holds the network after 2 epochs\n")
    assert sorted(os.listdir("run")) == FILES
    assert len(history("run")) == 2


def test_ctrl_c_before_the_first_epoch_leaves_nothing(run, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(xcnn.Trainer, "train_step", interrupted)
    done = run("train mlp --limit 20 --quiet --out run")
    assert done.status == 130
    assert done.out == "\nstopped: no epoch was finished, nothing is saved\n"
    assert done.err == "\nxcnn: stopped\n"
    assert not os.path.exists("run")


def test_a_folder_that_was_there_before_stays(run, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    os.mkdir("mine")
    monkeypatch.setattr(xcnn.Trainer, "train_step", interrupted)
    assert run("train mlp --limit 20 --quiet --out mine").status == 130
    assert os.listdir("mine") == []


def test_diverging_training_is_told(run):
    done = run("train --optimizer sgd --lr 1000 --epochs 5 --limit 200 --out run --device cpu")
    assert done.status == 2
    assert "the training diverged: the loss is nan after 1 epoch" in done.err
    assert "smaller --lr than 1000" in done.err
    assert len(history("run")) == 1


def test_no_command_shows_the_help(run):
    done = run("")
    assert (done.status, done.err) == (2, "")
    assert done.out.startswith("usage: xcnn")


# The process


@pytest.mark.parametrize("command", ["", "train", "evaluate", "predict", "summary", "datasets"])
def test_help(run, command):
    done = run(f"{command} --help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: xcnn {command}".rstrip())
    assert "None" not in done.out


def test_python_m_xcnn():
    done = python("-W", "error", "-m", "xcnn", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("train", "evaluate", "predict", "summary", "doctor", "datasets"):
        assert f"\n    {command} " in done.stdout
    done = python("-m", "xcnn", "--version")
    assert (done.returncode, done.stdout) == (0, f"xcnn {xcnn.__version__}\n")
    done = python("-m", "xcnn", "evaluate", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early():
    line = f"{sys.executable} -m xcnn summary lenet5 | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("entry", "value", "text"),
    [
        ("mean", "x", "missing or wrong: mean"),
        ("input_shape", 5, "missing or wrong: input_shape"),
        ("loss", "mse", "missing or wrong: loss"),
        ("classes", ["a"], "but 1 classes are named, with loss cross_entropy"),
    ],
)
def test_a_config_of_another_run(run, trained, entry, value, text):
    shutil.copytree(trained, "copy")
    with open("copy/config.json") as file:
        config = json.load(file)
    with open("copy/config.json", "w") as file:
        json.dump({**config, entry: value}, file)
    np.save("image.npy", np.zeros((32, 32), np.uint8))
    done = run("predict copy image.npy")
    assert done.status == 2
    assert text in done.err


def test_an_array_of_texts_is_no_image(run, trained):
    np.save("image.npy", np.array([["a", "b"]]))
    done = run(f"predict {trained} image.npy")
    assert done.status == 2
    assert "holds <U1, no numbers" in done.err


def test_out_of_memory_is_told(run):
    done = run("summary mlp --classes 999999999999")
    assert done.status == 2
    assert done.err.startswith("xcnn: error: out of memory: ")


# Augmentation, and folders of pictures


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_augmented_training(run, device):
    """Recorded, the same for a seed, and another training than without."""
    for folder, names in (
        ("a", "standard,color,mixup"),
        ("b", "standard,color,mixup"),
        ("c", "none"),
    ):
        line = f"train mlp --limit 80 --epochs 2 --quiet --device {device} --out {folder}"
        assert run(f"{line} --augment {names}").status == 0
    assert config("a")["augment"] == "affine,color,mixup"
    assert config("c")["augment"] == "none"
    a, b, c = (contents(folder)["model.safetensors"] for folder in "abc")
    assert a == b != c


def test_augmented_alike_on_every_device(run, strict):
    for device in ("cpu", "strict"):
        line = f"train mlp --limit 80 --epochs 2 --quiet --augment affine,cutmix --device {device}"
        assert run(f"{line} --out {device}").status == 0
    losses = [[float(row["train_loss"]) for row in history(d)] for d in ("cpu", "strict")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_test_images_are_not_augmented(run):
    assert (
        run("train mlp --limit 50 --epochs 1 --quiet --augment rotate,erase --out run").status == 0
    )
    accuracy = float(history("run")[-1]["val_accuracy"])
    assert run("evaluate run --limit 50").out.startswith(f"digits test: accuracy {accuracy:.2%} (")


def test_augmentations_are_explained(run):
    text = " ".join(run("train --help").out.split())
    for name in ("flip (left and right swapped)", "mixup (", "standard: what suits the data set"):
        assert name in text


@pytest.fixture
def shades(here):
    """40 pictures of dark or light noise, in sizes of their own."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        folder = here / "shades" / "train" / name
        folder.mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(low, low + 120, (20 + i, 30, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.{('png', 'jpg')[i % 2]}")
    return here / "shades"


@pytest.mark.parametrize("grey", [False, True])
def test_a_folder_of_pictures(run, shades, grey):
    line = "train small_cnn --data shades --image-size 16 --epochs 8 --lr 0.01 --device cpu"
    done = run(f"{line} --augment standard" + " --grey" * grey)
    assert (done.status, done.err) == (0, "")
    assert f"on {shades}: 32 to train, 8 to test, on cpu" in done.out
    found = config("runs/small_cnn-shades-1")
    assert found["data"] == str(shades)
    assert found["classes"] == ["dark", "light"]
    assert found["input_shape"] == ([1] if grey else [3]) + [16, 16]
    assert found["augment"] == "flip,crop"
    assert 0.4 < found["mean"][0] < 0.55
    assert len(found["mean"]) == len(found["std"]) == (1 if grey else 3)
    accuracy = float(history("runs/small_cnn-shades-1")[-1]["val_accuracy"])
    assert accuracy > 0.8
    done = run("evaluate runs/small_cnn-shades-1")
    assert done.out.startswith(
        f"{shades} test: accuracy {accuracy:.2%} ({round(8 * accuracy)} of 8)"
    )
    done = run("predict runs/small_cnn-shades-1 shades/train/dark/1.jpg shades/train/light/0.png")
    first, second = done.out.splitlines()
    assert first.split()[1] == "dark"
    assert second.split()[1] == "light"


def test_another_folder_is_evaluated_whole(run, shades):
    run("train mlp --data shades --image-size 8 --epochs 3 --quiet --out run")
    shutil.copytree(shades / "train", "other")
    assert " of 40), loss " in run("evaluate run --data other").out
    assert " of 8), loss " in run("evaluate run --data shades").out
    os.rename("other/dark", "other/black")
    done = run("evaluate run --data other")
    assert done.status == 2
    assert "the classes black, expected some of dark, light" in done.err
    done = run("evaluate run --data digits")
    assert "--data digits has inputs [1, 32, 32] and 10 classes, the network takes" in done.err


def test_a_folder_with_its_own_test_pictures(run, shades):
    shutil.copytree(shades / "train", shades / "val")
    done = run("train mlp --data shades --image-size 8 --epochs 1 --limit 30 --out run")
    assert "30 to train, 30 to test" in done.out
    assert " of 40), loss " in run("evaluate run").out


@pytest.mark.filterwarnings("default::UserWarning")
def test_files_that_are_no_pictures(run, shades):
    (shades / "train" / "dark" / "broken.png").write_text("no picture")
    line = "train mlp --data shades --image-size 8 --epochs 1 --quiet --out run"
    done = run(line)
    assert done.status == 2
    assert "broken.png cannot be read as a picture" in done.err
    assert "--skip-unreadable" in done.err
    assert not os.path.exists("run")
    skipped = run(f"{line} --skip-unreadable")
    assert skipped.status == 0
    told = (
        rf"xcnn: warning: {re.escape(os.path.abspath('shades'))}\S*: 1 of 41 files are left out:\n"
    )
    assert re.match(told, skipped.err)
    assert "UserWarning" not in skipped.err
    assert config("run")["on_error"] == "skip"
    evaluated = run("evaluate run")
    assert " of 8), loss " in evaluated.out
    assert re.match(told, evaluated.err)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--augment flop", "augment='flop': expected names separated by commas, of flip, vflip"),
        ("--augment none,flip", "augment='none,flip'"),
        ("--data moons --augment flip", "moons holds features: use none"),
        ("--augment flip,mixup --loss nll", "mixup mixes labels, which --loss nll does not take"),
        ("--grey", "--grey is for a folder of pictures, not for digits"),
        ("--image-size 32", "--image-size is for a folder of pictures, not for digits"),
        ("--skip-unreadable", "--skip-unreadable is for a folder of pictures"),
        ("--data shades --data-dir .", "--data-dir is for data sets by name"),
        ("--data nowhere", "invalid choice: 'nowhere' (choose from digits, mnist, "),
        ("--data shades/train/dark", "dark has no folders"),
    ],
)
def test_data_options_that_do_not_fit(run, shades, line, text):
    done = run(f"train {line} --epochs 1 --out run")
    assert (done.status, done.out) == (2, "")
    assert text in done.err
    assert not os.path.exists("run")


# On a GPU, as far as the stand-in goes


def test_doctor_tells_of_each_gpu(run, strict, monkeypatch):
    monkeypatch.setattr(backends, "cuda_devices", lambda: ["strict"])
    lines = run("doctor").out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("strict "))
    assert "stand-in without a GPU, compute capability 9.0, 16.0 of 16.0 GiB free" in lines[at]
    assert (
        lines[at + 1].split(maxsplit=4)[-1] == "ok: compiled, run, and equal to the CPU's numbers"
    )


def test_warmup(run, strict, monkeypatch):
    monkeypatch.setattr(strict, "warmup", lambda: iter(["im2col.cu for float32"]))
    done = run("warmup --device strict")
    assert done.status == 0
    assert "1 kernel modules of xcnn and those of CuPy" in done.out
    assert run("warmup --device cpu").err == (
        "xcnn: error: there is nothing to compile for the CPU; choose --device cuda\n"
    )


def test_training_in_float16_on_a_gpu(run, strict):
    line = "train mlp --limit 40 --epochs 2 --device strict --precision float16 --out run"
    done = run(line)
    assert done.status == 0
    assert "float16: " in done.out
    assert config("run")["precision"] == "float16"
    assert {p.dtype.name for p in xcnn.load("run/model.safetensors").parameters()} == {"float32"}


@pytest.mark.parametrize("name", ["tf32", "float16"])
def test_the_cpu_refuses_other_precisions(run, name):
    done = run(f"train --device cpu --precision {name} --out run")
    assert done.status == 2
    assert f"precision='{name}' needs a CUDA GPU" in done.err
    assert not os.path.exists("run")


def test_a_memory_limit_is_for_a_gpu_and_is_kept(run, strict):
    assert "a memory limit is for the memory of a GPU" in run("train --memory-limit 1GiB").err
    budget = strict.column_budget
    try:
        done = run("train --device strict --limit 64 --epochs 1 --memory-limit 1.0MiB --out run")
        assert done.status == 2
        assert "strict is out of memory" in done.err
        assert "the memory limit is 1.0 MiB" in done.err
        assert not os.path.exists("run")
    finally:
        strict._pool.set_limit(size=0)
        strict.column_budget = budget


@pytest.mark.parametrize("size", ["0", "4q", "GiB", "-1GiB", "1e3"])
def test_sizes_that_are_none(run, size):
    done = run(f"train --memory-limit={size}")
    assert done.status == 2
    assert "is not a size such as 4GiB or 800MiB" in done.err


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("1.5 gib", 3 * 2**29), ("800M", 800 * 2**20), ("7", 7), ("2kB", 2000)],
)
def test_sizes(text, size):
    assert xcnn.cli._size(text) == size
