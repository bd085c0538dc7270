"""``xcnn evaluate``, ``predict`` and ``summary`` of a run."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xcnn
from xcnn import data, nn
from xcnn.cli import main

from .runs import config, inputs


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


def test_evaluate_errors(run, trained):
    done = run("evaluate nowhere")
    assert (done.status, done.out) == (2, "")
    assert "nowhere is not a run folder: it has no config.json; train one with" in done.err
    done = run(f"evaluate {trained} --data cross")
    assert done.status == 2
    assert "--data cross has inputs [1, 16, 16] and 2 classes, but the network takes" in done.err


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


def test_predict_converts_colours_and_sizes(run, trained):
    """A large colour image of a digit is the same digit."""
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
        ("missing.png", "no such file: missing.png"),
        ("missing.npy", "no such file: missing.npy"),
        ("broken.png", "broken.png cannot be read as an image"),
        ("bad.npy", "bad.npy holds float64 from 7.5 to 7.5; expected uint8, or floats from 0 to 1"),
        ("text.npy", "text.npy cannot be read as an array"),
    ):
        done = run(f"predict {trained} {name}")
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith(f"xcnn: error: {text}")
    assert run("train --data moons --limit 9 --epochs 1 --quiet --out points").status == 0
    done = run("predict points broken.png")
    assert (done.status, done.err) == (
        2,
        "xcnn: error: points was trained on features, not on images\n",
    )


def test_an_array_of_strings_is_not_an_image(run, trained):
    np.save("image.npy", np.array([["a", "b"]]))
    done = run(f"predict {trained} image.npy")
    assert done.status == 1
    assert "holds <U1, not numbers" in done.err


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
        ("[" * 100_000, "copy/config.json is damaged"),
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


@pytest.mark.parametrize(
    ("entry", "value", "text"),
    [
        ("mean", "x", "missing or wrong: mean"),
        ("input_shape", 5, "missing or wrong: input_shape"),
        ("loss", "mse", "missing or wrong: loss"),
        ("classes", ["a"], "which does not fit 1 classes with loss cross_entropy"),
    ],
)
def test_invalid_config_entries(run, trained, entry, value, text):
    shutil.copytree(trained, "copy")
    with open("copy/config.json") as file:
        config = json.load(file)
    with open("copy/config.json", "w") as file:
        json.dump({**config, entry: value}, file)
    np.save("image.npy", np.zeros((32, 32), np.uint8))
    done = run("predict copy image.npy")
    assert done.status == 2
    assert text in done.err


def test_a_run_without_its_model(run, trained):
    shutil.copytree(trained, "copy")
    os.remove("copy/model.safetensors")
    done = run("evaluate copy")
    assert done.status == 2
    assert "copy has no network yet: no epoch was finished" in done.err


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
    assert "ends in .onnx; the models are alexnet, autoencoder, " in done.err
    done = run("summary lenet5 --input-shape 28,28")
    assert (done.status, "lenet5 needs images" in done.err) == (2, True)


def test_out_of_memory_is_reported(run, monkeypatch):
    def allocate(*sizes, **settings):
        raise MemoryError("Unable to allocate 8.00 TiB")

    monkeypatch.setattr(nn, "Linear", allocate)
    done = run("summary mlp --classes 10")
    assert done.status == 2
    assert done.err.startswith("xcnn: error: out of memory: Unable to allocate 8.00 TiB")


def test_a_network_that_no_computer_holds(run):
    done = run("summary mlp --classes 999999999999")
    assert done.status == 2
    assert done.err.startswith("xcnn: error: shape=(999999999999, 128) asks for")
    assert done.err.count("\n") == 1


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """A run of regression; do not modify it."""
    folder = tmp_path_factory.mktemp("regression") / "run"
    line = "train mlp --task regression --limit 8 --epochs 1 --quiet --device cpu --out"
    assert main([*line.split(), str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"target_mean": None}, "lack target_mean"),
        ({"target_mean": ["x"]}, "target_mean='x'"),
        ({"target_std": [float("nan"), 1, 1]}, "target_std=nan"),
        ({"target_std": 3}, "'int' object is not iterable"),
        ({"input_shape": [True, 32, 32]}, "input_shape"),
        ({"scale": True}, "scale"),
        ({"task": "denoising", "noise": "x"}, "noise='x': expected a number"),
        ({"task": "denoising", "noise": float("inf")}, "noise=inf: expected a number"),
        ({"task": "autoencoder", "loss": "mse", "code": 10**12}, "code=1000000000000: expected"),
        ({"task": "super-resolution", "loss": "l1", "upscale": 2.0}, "upscale=2.0: expected"),
    ],
)
def test_a_damaged_task(run, here, regression, change, text):
    shutil.copytree(regression, "run")
    changed = {**config("run"), **change}
    kept = {k: v for k, v in changed.items() if v is not None or k != "target_mean"}
    (here / "run" / "config.json").write_text(json.dumps(kept))
    for line in ("evaluate run", "predict run a.png", "export run a.onnx", "report run"):
        done = run(line)
        assert done.status == 2
        assert done.err.startswith(f"xcnn: error: {Path('run/config.json')} is damaged: ")
        assert text in done.err
    assert f"{Path('run/config.json')} is damaged: " in run("train --resume run").err
