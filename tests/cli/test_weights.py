"""``xcnn train --init`` and ``--freeze``."""

import csv
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import xcnn
from xcnn import models, nn, tasks

TRAIN = "train small_cnn --limit 20 --epochs 1 --quiet --device cpu --out run"


@pytest.fixture
def start():
    """Weights of small_cnn for the digits, 32×32, in start.safetensors."""
    xcnn.manual_seed(5)
    arrays = models.small_cnn(10, (1, 32, 32)).state_dict()
    save_file(arrays, "start.safetensors")
    return arrays


def weights():
    return load_file("run/model.safetensors")


def config():
    with open("run/config.json") as file:
        return json.load(file)


def test_init(run, start):
    assert run(f"{TRAIN} --init start.safetensors --lr 0")[0] == 0
    assert {k: a.tolist() for k, a in weights().items()} == {
        k: a.tolist() for k, a in start.items()
    }
    assert config()["init"] == "start.safetensors"
    assert config()["new_head"] is False
    assert config()["freeze"] == []


def test_init_from_a_run(run):
    assert run(TRAIN)[0] == 0
    before = weights()
    again = TRAIN.replace("--out run", "--out again")
    assert run(f"{again} --init run/model.safetensors --lr 0")[0] == 0
    after = load_file("again/model.safetensors")
    assert all(np.array_equal(after[k], before[k]) for k in before)
    assert run(f"{again}2 --init run --lr 0")[0] == 0
    after = load_file("again2/model.safetensors")
    assert all(np.array_equal(after[k], before[k]) for k in before)
    status, _, err = run(f"{again}3 --init .")
    assert status == 2
    assert "--init . is a folder, but not of a run: expected one, or a file" in err


def test_init_of_other_classes(run, start):
    save_file(models.small_cnn(4, (1, 32, 32)).state_dict(), "four.safetensors")
    status, _, err = run(f"{TRAIN} --init four.safetensors")
    assert status == 2
    assert "--init four.safetensors: the state does not fit Sequential:" in err
    assert "shape: 4.weight is (4, 3600), the module's is (10, 3600)" in err
    assert "shape: 4.bias is (4,), the module's is (10,)" in err
    assert "--new-head keeps random weights for these" in err
    line = f"{TRAIN} --init four.safetensors --new-head --lr 0".replace(" --quiet", "")
    status, out, _ = run(line)
    assert status == 0
    assert "randomly initialised: 4.weight, 4.bias" in out
    expected = load_file("four.safetensors")
    np.testing.assert_array_equal(weights()["0.weight"], expected["0.weight"])
    assert weights()["4.weight"].shape == (10, 3600)
    assert weights()["4.weight"].std() > 0
    assert config()["new_head"] is True


def test_a_new_head_for_as_many_classes(run, start):
    line = f"{TRAIN} --init start.safetensors --new-head --lr 0".replace(" --quiet", "")
    status, out, _ = run(line)
    assert (status, "randomly initialised: 4.weight, 4.bias" in out) == (0, True)
    np.testing.assert_array_equal(weights()["0.weight"], start["0.weight"])
    assert not np.array_equal(weights()["4.weight"], start["4.weight"])


@pytest.mark.parametrize("option", ["", "--new-head"])
def test_init_of_another_model(run, start, option):
    start["5.weight"] = start.pop("0.weight")
    save_file(start, "other.safetensors")
    status, _, err = run(f"{TRAIN} --init other.safetensors {option}")
    assert status == 2
    assert "missing: 0.weight (16, 1, 3, 3)" in err
    assert "unexpected: 5.weight (16, 1, 3, 3)" in err
    assert "the file must be for the same model" in err
    assert "--new-head" not in err


def test_init_files_that_are_invalid(run):
    status, _, err = run(f"{TRAIN} --init nothing.safetensors")
    assert (status, "no such file: nothing.safetensors" in err) == (2, True)
    with open("text.safetensors", "w") as file:
        file.write("no weights")
    status, _, err = run(f"{TRAIN} --init text.safetensors")
    assert (status, "is not a complete safetensors file" in err) == (2, True)
    status, _, err = run(f"{TRAIN} --new-head")
    assert (status, "--new-head needs --init" in err) == (2, True)


def test_freeze(run, start):
    line = f"{TRAIN} --init start.safetensors".replace(" --quiet", "")
    status, out, _ = run(line, "--freeze", "0.*")
    assert status == 0
    assert out.startswith("small_cnn (36,170 parameters, 160 of them frozen) on digits: ")
    changed = {k for k, a in weights().items() if not np.array_equal(a, start[k])}
    assert changed == {"4.weight", "4.bias"}
    assert config()["freeze"] == ["0.*"]


def test_freeze_may_be_repeated(run, start):
    patterns = ["--freeze", "*.bias", "--freeze", "[4-9].weight"]
    assert run(f"{TRAIN} --init start.safetensors", *patterns)[0] == 0
    changed = {k for k, a in weights().items() if not np.array_equal(a, start[k])}
    assert changed == {"0.weight"}
    assert config()["freeze"] == ["*.bias", "[4-9].weight"]


def test_frozen_weights_train_from_an_epoch_on(run, start):
    line = f"{TRAIN} --init start.safetensors --freeze 0.* --schedule constant"
    assert run(line.replace("--epochs 1", "--epochs 4 --unfreeze-at 3"))[0] == 0
    whole = weights()
    shutil.rmtree("run")
    assert run(line.replace("--epochs 1", "--epochs 2"))[0] == 0
    frozen = {k for k, a in weights().items() if np.array_equal(a, start[k])}
    assert frozen == {"0.weight", "0.bias"}  # after two epochs
    shutil.rmtree("run")
    assert run(line.replace("--epochs 1", "--epochs 3 --unfreeze-at 3"))[0] == 0
    third = weights()
    assert not any(np.array_equal(a, start[k]) for k, a in third.items())
    assert run("train --resume run --epochs 4 --quiet")[0] == 0  # they still train
    assert {k: a.tobytes() for k, a in weights().items()} == {
        k: a.tobytes() for k, a in whole.items()
    }
    assert config()["unfreeze_at"] == 3


def test_rates_of_some_layers(run, start):
    line = f"{TRAIN} --init start.safetensors --lr 0.1 --optimizer sgd --batch-size 20"
    assert run(line)[0] == 0
    once = {k: weights()[k] - start[k] for k in start}
    shutil.rmtree("run")
    assert run(line, "--lr-for", "*=0.5", "--lr-for", "0.*=0", "--lr-for", "4.bias=1")[0] == 0
    factors = {"0.weight": 0, "0.bias": 0, "4.weight": 0.5, "4.bias": 1}
    for name, factor in factors.items():
        found = weights()[name] - start[name]
        np.testing.assert_allclose(found, factor * once[name], rtol=1e-4, atol=1e-7)
    assert config()["lr_for"] == ["*=0.5", "0.*=0", "4.bias=1"]
    assert run("train --resume run --epochs 2 --quiet")[0] == 0


@pytest.mark.parametrize("schedule", ["onecycle", "plateau", "cosine"])
def test_schedules_keep_the_ratio_of_the_rates(run, schedule):
    line = f"{TRAIN} --schedule {schedule} --lr-for 0.*=0.25 --epochs 3"
    assert run(line)[0] == 0
    with open("run/history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["lr_1"]) == pytest.approx(float(row["lr"]) / 4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--unfreeze-at 2", "--unfreeze-at 2 needs --freeze: pass both"),
        ("--freeze 0.* --unfreeze-at 2", "--unfreeze-at 2: expected 2 to 1, the number of epochs"),
        ("--lr-for 0.*", "argument --lr-for: '0.*': expected PATTERN=FACTOR, such as"),
        ("--lr-for 0.*=-1", "argument --lr-for: '0.*=-1': expected PATTERN=FACTOR, such as"),
        ("--lr-for fc=1", "--lr-for 'fc' matches no parameter; choose from: 0.weight, 0.bias"),
    ],
)
def test_options_of_transfer_learning_that_do_not_fit(run, options, text):
    status, _, err = run(f"{TRAIN} {options}")
    assert status == 2
    assert text in err


@pytest.mark.parametrize(
    ("patterns", "text"),
    [
        (
            ["features.*"],
            "--freeze 'features.*' matches no parameter; choose from: 0.weight, 0.bias",
        ),
        (["0.*", "0.Weight"], "--freeze '0.Weight' matches no parameter"),
        (["*"], "--freeze *: nothing is left to train"),
        (["0.*", "4.*"], "--freeze 0.* 4.*: nothing is left to train"),
    ],
)
def test_freeze_refuses(run, patterns, text):
    status, _, err = run(TRAIN, *[word for p in patterns for word in ("--freeze", p)])
    assert status == 2
    assert text in err


def test_networks_that_no_task_trains_are_refused(run, monkeypatch):
    monkeypatch.setattr("xcnn.models.names", lambda: ["mlp", "other"])
    status, _, err = run("train other --limit 20")
    assert status == 2
    assert "argument MODEL: no task trains other: train it with xcnn.Trainer" in err


def test_resnet20_trains(run, resnet):
    done = run(f"evaluate {resnet / 'run'} --limit 10")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("digits test: accuracy ")


def test_a_last_batch_of_one_image(run):
    """It is dropped where a batch norm would refuse it."""
    line = "train {} --limit 17 --batch-size 16 --epochs 1 --quiet --device cpu --out {}"
    for name in ("resnet20", "mlp"):
        status, out, err = run(line.format(name, name))
        assert (status, err) == (0, "")
        assert out.startswith("test accuracy ")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mobilenet_v2", "total 3,504,872"),
        ("lenet5", "total 61,706"),
    ],
)
def test_summary_with_defaults(run, name, line):
    status, out, _ = run(f"summary {name}")
    assert status == 0
    assert any(" ".join(row.split()).startswith(line) for row in out.splitlines())


def test_summary_of_other_classes(run):
    _, out, _ = run("summary resnet18 --classes 10 --input-shape 1,32,32")
    count = 11_689_512 - 990 * 513 - 2 * 64 * 49
    assert any(" ".join(r.split()).startswith(f"total {count:,}") for r in out.splitlines())


def test_the_output_layer_of_a_loss():
    class Network(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x)

    def with_output(network, loss):
        return tasks.Classification(["a", "b"], (3,), loss=loss).with_output(network)

    x = np.ones((1, 3), np.float32)
    for loss, total in (("nll", np.exp), ("binary_cross_entropy", np.asarray)):
        y = total(with_output(Network(), loss)(x).data)
        assert ((y > 0) & (y < 1)).all()
    network = Network()
    assert with_output(network, "cross_entropy") is network


def test_init_from_pytorch(run):
    torch = pytest.importorskip("torch")
    xcnn.manual_seed(5)
    arrays = models.small_cnn(10, (1, 32, 32)).state_dict()
    torch.save({"epoch": 1, "model": {k: torch.tensor(a) for k, a in arrays.items()}}, "start.pth")
    assert run(f"{TRAIN} --init start.pth --lr 0")[0] == 0
    assert {k: a.tolist() for k, a in weights().items()} == {
        k: a.tolist() for k, a in arrays.items()
    }
    torch.save(torch.nn.Linear(2, 3), "module.pth")
    status, _, err = run(f"{TRAIN} --init module.pth --out other")
    assert status == 2
    assert "module.pth: it contains torch.nn.modules.linear.Linear: only dicts" in err


def test_init_from_a_url(run):
    status, _, err = run(f"{TRAIN} --init https://host/weights.pth")
    assert status == 2
    assert "has no digest: append #sha256=" in err
