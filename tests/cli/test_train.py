"""``xcnn train``: what it prints and writes, its options, and how it ends."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import xcnn
from xcnn import data
from xcnn.cli import optimizer as options

from .runs import FILES, config, contents, history, inputs

STOPPED = "xcnn: stopped: run holds a checkpoint; go on with: xcnn train --resume run\n"
COLUMNS = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,seconds,lr,grad_norm"


def test_train(run, here):
    done = run("train --limit 60 --epochs 2 --device cpu --out run")
    assert (done.status, done.err) == (0, "")
    assert sorted(os.listdir("run")) == ["checkpoints", *FILES]
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
        assert re.sub(r"[\d.]+k? img/s", "N img/s", line) == (
            f"epoch {number}/2: loss {row['train_loss']:.4f}, accuracy "
            f"{row['train_accuracy']:.4f}, val_loss {row['val_loss']:.4f}, val_accuracy "
            f"{row['val_accuracy']:.4f}, lr {row['lr']:.3g}, N img/s, {row['seconds']:.1f} s"
        )
    accuracy = float(rows[-1]["val_accuracy"])
    assert last.startswith(f"test accuracy {accuracy:.2%} ({round(60 * accuracy)} of 60) after 2")
    assert last.endswith(" s: run")


@pytest.mark.parametrize(("option", "column"), [("", "val_loss"), ("--best val_f1", "val_f1")])
def test_the_best_epoch_if_it_is_not_the_last(run, here, option, column):
    line = "train mlp --epochs 3 --device cpu --quiet --limit 20 --metrics f1 --out run"
    done = run(f"{line} {option} --lr 0")  # so that all are alike, and the first the best
    value = float(history("run")[0][column])
    assert done.out.endswith(f" s, best {column} {value:.4f} in epoch 1: run\n")


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
        "task": "classification",
        "lr_for": [],
        "unfreeze_at": None,
        "betas": None,
        "init": None,
        "new_head": False,
        "freeze": [],
        "seed": 3,
        "device": "cpu",
        "precision": "float32",
        "data_dir": None,
        "accumulate": 1,
        "metrics": [],
        "class_weight": None,
        "ema": None,
        "patience": None,
        "checkpoint_every": "1epoch",
        "keep": 3,
        "best": None,
        "log": [],
        "report": False,
        "sync_batch_norm": False,
        "compression": None,
    }
    assert repr(xcnn.load("run/model.safetensors")).splitlines()[1] == "  (0): Conv2d(1, 16, 3)"


def test_the_accuracy_is_that_of_the_saved_model(trained):
    model = xcnn.load(trained / "model.safetensors")
    x, labels = inputs(trained, data.load("digits").test, 400)
    accuracy = (model(x).data.argmax(axis=1) == labels).mean()
    assert float(history(trained)[-1]["val_accuracy"]) == pytest.approx(accuracy)
    assert accuracy > 0.85  # guessing gives 0.1


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
        "xcnn: error: --out run already holds a run (model.safetensors, history.csv, "
        "config.json): go on with it by --resume run, or choose another folder\n"
    )
    assert contents("run") == before
    done = run("train mlp --limit 10 --epochs 1 --out run/config.json")
    assert done.status == 2
    assert "is a file: expected a folder" in done.err
    done = run("train mlp --limit 10 --epochs 1 --out run/config.json/inner")
    assert (done.status, done.err.startswith("xcnn: error: ")) == (2, True)


def test_cosine_and_constant_schedules(run):
    """It has an effect from the second epoch."""
    for schedule in ("cosine", "constant"):
        line = f"train mlp --limit 100 --epochs 3 --quiet --schedule {schedule} --out {schedule}"
        assert run(line).status == 0
        assert config(schedule)["schedule"] == schedule
    cosine, constant = (
        [row["train_loss"] for row in history(name)] for name in ("cosine", "constant")
    )
    assert cosine[0] == constant[0]
    assert cosine[1] != constant[1]
    assert float(cosine[2]) > float(constant[2])  # smaller steps


@pytest.mark.parametrize("name", options._DEFAULTS)
def test_every_optimizer_learns(run, name):
    line = f"train mlp --limit 200 --epochs 3 --quiet --optimizer {name}"
    assert run(f"{line} --out plain").status == 0
    assert run(f"{line} --out drawn --weight-decay 0.5").status == 0
    assert config("plain")["optimizer"] == name
    assert config("plain")["weight_decay"] == (0.01 if name in ("adamw", "lion") else 0)
    assert config("drawn")["weight_decay"] == 0.5
    losses = [[float(row["train_loss"]) for row in history(f)] for f in ("plain", "drawn")]
    assert losses[0][-1] < 0.8 * losses[0][0]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("schedule", sorted({*options.SCHEDULES} - {"cosine", "constant"}))
def test_every_schedule_learns(run, schedule):
    line = f"train mlp --limit 200 --epochs 4 --quiet --schedule {schedule} --out run"
    assert run(line).status == 0
    assert config("run")["schedule"] == schedule
    losses = [float(row["train_loss"]) for row in history("run")]
    assert losses[-1] < 0.8 * losses[0]


def rates(schedule, epochs, warmup=0, batches=2, metrics=None):
    """The learning rate in each epoch, at its first batch."""
    settings = {"optimizer": "adam", "lr": 1.0, "weight_decay": 0.0, "warmup": warmup}
    settings |= {"schedule": schedule, "epochs": epochs, "betas": None}
    optimizer = options.create_optimizer(settings, xcnn.nn.Linear(1, 1), {})
    scheduler, rates = options.create_schedule(settings, optimizer, batches), []
    for epoch in range(epochs):
        rates.append(optimizer.lr)
        steps = batches if scheduler is not None and scheduler.per_batch else 1
        for _ in range(steps if scheduler is not None else 0):
            scheduler.step(*([] if metrics is None else [metrics[epoch]]))
    return rates


def test_schedules():
    assert rates("constant", 3) == [1, 1, 1]
    assert rates("cosine", 4) == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert rates("step", 7) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert rates("exponential", 4) == pytest.approx([1, 0.01**0.25, 0.1, 0.01**0.75])
    assert rates("linear", 4) == pytest.approx([1, 0.75, 0.5, 0.25])
    fall = [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]
    assert rates("restarts", 7) == pytest.approx([1, 1, 0.5, *fall])
    metrics = [5, 4, 4, 4, 4, 4, 3, 3]
    assert rates("plateau", 8, metrics=metrics) == pytest.approx([1] * 6 + [0.1, 0.1])
    cycle = rates("onecycle", 10, batches=10)
    assert cycle[0] == pytest.approx(1 / 25)
    assert max(cycle) == cycle[3] == pytest.approx(1, rel=0.01)
    assert cycle[9] < 0.05


def test_warmup():
    assert rates("constant", 5, 3) == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1])
    assert rates("step", 8, 2) == pytest.approx([1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates("cosine", 5, 1) == pytest.approx([1 / 2, *rates("cosine", 4)])


def test_warmup_and_clipping_options(run):
    """Both make the first steps smaller and the first losses larger."""
    line = "train mlp --limit 200 --epochs 3 --quiet --optimizer sgd"
    for folder, more in (("plain", ""), ("warm", " --warmup 2"), ("clipped", " --clip-norm 0.01")):
        assert run(f"{line}{more} --out {folder}").status == 0
    assert config("warm")["warmup"] == 2
    assert config("clipped")["clip_norm"] == 0.01
    losses = {f: float(history(f)[0]["train_loss"]) for f in ("plain", "warm", "clipped")}
    assert losses["plain"] < losses["warm"] < losses["clipped"]


@pytest.mark.parametrize(("device", "model"), [("cpu", "small_cnn"), ("strict", "mlp")])
def test_the_same_seed_gives_the_same_files(run, device, model):
    def files(folder, seed):
        line = f"train {model} --limit 40 --epochs 2 --quiet --device {device}"
        assert run(f"{line} --seed {seed} --out {folder}").status == 0
        rows = [{**row, "seconds": ""} for row in history(folder)]
        return contents(folder)["model.safetensors"], rows

    first = files("first", 5)
    assert files("again", 5) == first
    assert files("other", 6) != first


@pytest.mark.parametrize(
    ("line", "end", "outputs"),
    [
        ("--loss cross_entropy", "Linear", 2),
        ("--loss nll", "LogSoftmax", 2),
        ("--loss binary_cross_entropy", "Sigmoid", 1),
        ("--loss binary_cross_entropy_with_logits", "Linear", 1),
    ],
)
@pytest.mark.parametrize(("dataset", "count"), [("moons", 250), ("shades", 8)])
def test_every_loss(run, shades, line, end, outputs, dataset, count):
    train = f"train mlp --data {dataset} --limit 250 --epochs 4 --lr 0.03 --quiet --out run"
    assert run(f"{train} {line}" + " --image-size 8" * (dataset == "shades")).status == 0
    network = xcnn.load("run/model.safetensors")
    assert type(network[-1]).__name__ == end
    assert network(np.zeros((1, *config("run")["input_shape"]), np.float32)).shape == (1, outputs)
    losses = [float(row["train_loss"]) for row in history("run")]
    assert losses[-1] < 0.8 * losses[0]
    accuracy = float(history("run")[-1]["val_accuracy"])
    assert accuracy > 0.6
    done = run("evaluate run --limit 250")
    right = round(accuracy * count)
    assert f"{dataset} test: accuracy {accuracy:.2%} ({right} of {count}), loss " in done.out
    if dataset == "shades":
        pixels, _ = data.load_folder("shades", size=8).test[0]
        np.save("image.npy", pixels)
        mean, std = (np.reshape(config("run")[key], (3, 1, 1)) for key in ("mean", "std"))
        score = network(np.float32((pixels[None] / 255 - mean) / std)).data[0]
        best = score.argmax() if outputs == 2 else score[0] > (0.5 if end == "Sigmoid" else 0)
        first, second = run("predict run image.npy").out.split("  ")[1:]
        names = [entry.rsplit(" ", 1)[0] for entry in (first, second)]
        classes = config("run")["classes"]
        assert names == [classes[int(best)], classes[1 - int(best)]]
        percentages = [float(entry.rsplit(" ", 1)[1].rstrip("%\n")) for entry in (first, second)]
        assert sum(percentages) == pytest.approx(100, abs=0.02)
        assert percentages[0] >= percentages[1]


def test_defaults(run):
    """The first command of a new user, on less data."""
    assert run("train --limit 5").out.startswith("lenet5 (61,706 parameters) on digits: 5 to")
    assert len(history("runs/lenet5-digits-1")) == 20
    assert run("train --data moons --limit 5 --quiet").status == 0
    assert config("runs/mlp-moons-1")["epochs"] == 20


def test_the_digits_are_learned(run):
    done = run("train --epochs 4 --quiet --out run")
    assert (done.status, done.err) == (0, "")
    accuracy = float(history("run")[-1]["val_accuracy"])
    assert accuracy >= 0.95
    assert run("evaluate run").out.startswith(f"digits test: accuracy {accuracy:.2%} (")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "train --loss binary_cross_entropy",
            "needs two classes, but digits has 10: use cross_entropy",
        ),
        ("train --loss binary_cross_entropy_with_logits", "needs two classes, but digits has 10"),
        ("train lenet5 --data moons", "lenet5 takes images, but moons holds features: use mlp"),
        ("train small_cnn --data moons", "small_cnn takes images, but moons holds features"),
        ("train --lr -1", "lr=-1.0: expected a number >= 0"),
        ("train --lr nan", "lr=nan: expected a number >= 0"),
        ("train --weight-decay -1", "weight_decay=-1.0: expected a number >= 0"),
        ("train --clip-norm -1", "clip_norm=-1.0: expected a number >= 0"),
        ("train --warmup 20", "--warmup 20: expected fewer than the 20 epochs"),
        (
            "train --warmup 2 --schedule onecycle",
            "--warmup 2 does not fit --schedule onecycle: use one of constant, cosine, exponential",
        ),
        ("train --device tpu", 'device=\'tpu\': expected "cpu", "cuda", "cuda:N" or "auto"'),
        ("train --data mnist", "'mnist' is not on this machine"),
        ("train --data-dir . --data cifar10", "'cifar10' is not on this machine"),
    ],
)
def test_refused(run, here, line, text):
    done = run(line)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("xcnn: error: ")
    assert text in done.err
    assert not (here / "runs").exists()


def fill_disk(monkeypatch, room):
    """Let only the first ``room`` new files fit on the disk."""
    real, files = Path.open, []

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def writelines(self, contents):
            self.write(contents[0])

        def write(self, content):
            self.file.write(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path, mode="r", *rest):
        file = real(path, mode, *rest)
        if mode != "wb":
            return file
        files.append(path)
        return file if len(files) <= room else Full(file)

    monkeypatch.setattr(Path, "open", opened)


def test_a_full_disk_keeps_the_epochs_before(run, monkeypatch):
    assert run("train mlp --limit 20 --epochs 1 --quiet --out short").status == 0
    opened = Path.open
    fill_disk(monkeypatch, room=4)  # the config; history, model and checkpoint of an epoch
    done = run("train mlp --limit 20 --epochs 5 --quiet --out run")
    assert done.status == 2
    assert done.out == (
        "\nthe files cannot be written: run holds a checkpoint; go on with: xcnn train --resume "
        "run\n"
    )
    assert done.err == "xcnn: error: cannot write run: No space left on device\n"
    assert sorted(os.listdir("run")) == ["checkpoints", *FILES]
    assert len(history("run")) == 1
    assert contents("run")["model.safetensors"] == contents("short")["model.safetensors"]
    monkeypatch.setattr(Path, "open", opened)
    assert run("train --resume run --quiet").status == 0
    assert len(history("run")) == 5


def test_a_disk_full_from_the_start(run, monkeypatch):
    fill_disk(monkeypatch, room=0)
    done = run("train mlp --limit 20 --epochs 5 --quiet --out run")
    assert done.status == 2
    assert not os.path.exists("run")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_keeps_the_finished_epochs(run):
    line = "-m xcnn train --data moons --epochs 99999 --out run"
    program = subprocess.Popen(
        [sys.executable, *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # background jobs start with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while not (os.path.exists("run/history.csv") and len(history("run")) >= 3):
        assert program.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert err == f"\n{STOPPED}"
    assert "stopped" not in out
    assert sorted(os.listdir("run")) == ["checkpoints", *FILES]
    assert run("evaluate run").status == 0


def test_interrupted_while_saving(run, monkeypatch):
    """The second Ctrl-C comes between two files of the second epoch."""
    real, calls = os.replace, []

    def replace(*paths):
        calls.append(paths)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    done = run("train mlp --limit 20 --epochs 9 --quiet --out run")
    assert done.status == 130
    assert (done.out, done.err) == ("", f"\n{STOPPED}")
    assert sorted(os.listdir("run")) == ["checkpoints", *FILES]
    assert len(history("run")) == 2
    assert len(os.listdir("run/checkpoints")) == 2
    assert run("train mlp --limit 20 --epochs 9 --quiet --out whole").status == 0
    assert run("train --resume run --quiet").status == 0
    assert contents("run")["model.safetensors"] == contents("whole")["model.safetensors"]


def test_ctrl_c_before_the_first_epoch_leaves_nothing(run, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(xcnn.Trainer, "train_step", interrupted)
    done = run("train mlp --limit 20 --quiet --out run")
    assert done.status == 130
    assert (done.out, done.err) == ("", "\nxcnn: stopped: nothing was saved\n")
    assert not os.path.exists("run")


def test_ctrl_c_keeps_an_existing_folder(run, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    os.mkdir("mine")
    monkeypatch.setattr(xcnn.Trainer, "train_step", interrupted)
    assert run("train mlp --limit 20 --quiet --out mine").status == 130
    assert os.listdir("mine") == []


def test_diverging_training_is_reported(run):
    done = run("train --optimizer sgd --lr 1000 --epochs 5 --limit 200 --out run")
    assert done.status == 2
    assert re.search("diverged: the loss is (nan|inf) after epoch 1; the model has", done.err)
    assert "use a learning rate below" in done.err
    assert not os.path.exists("run")


def test_the_last_finite_network_is_kept(run, monkeypatch):
    step, calls = xcnn.Trainer.train_step, []

    def diverge(trainer, *arguments):
        calls.append(1)
        if len(calls) == 3:  # one batch per epoch
            next(trainer.model.parameters()).data[0] = np.nan
        return step(trainer, *arguments)

    monkeypatch.setattr(xcnn.Trainer, "train_step", diverge)
    done = run("train mlp --epochs 9 --limit 20 --quiet --out run")
    assert done.status == 2
    assert "run holds the network after 2 epochs" in done.out
    assert "the training diverged: the loss is nan after epoch 3; the model has" in done.err
    assert len(history("run")) == 2
    model = xcnn.load("run/model.safetensors")
    assert all(np.isfinite(array).all() for array in model.state_dict().values())


def test_best_is_checked_before_the_training(run, tmp_path):
    done = run(f"train --metrics f1 --best val_acc --out {tmp_path / 'run'}")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "xcnn: error: --best='val_acc': expected one of train_loss, train_accuracy, train_f1, "
        "val_loss, val_accuracy, val_f1 (did you mean 'val_accuracy'?)\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--sync-batch-norm", "--compression float16"])
def test_options_of_several_processes_need_them(run, option):
    status, _, err = run(f"train {option}")
    assert (status, f"{option.split()[0]} needs --distributed" in err) == (2, True)
