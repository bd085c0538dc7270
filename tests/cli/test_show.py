"""``xcnn show``: what it draws, from which pictures, and what it refuses."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

import xcnn
from xcnn import explain, plot

from .runs import inputs

pytest.importorskip("matplotlib")


@pytest.fixture(scope="session")
def lenet(tmp_path_factory):
    """A run folder with a network of convolutions; do not modify it."""
    folder = tmp_path_factory.mktemp("lenet") / "run"
    line = "train lenet5 --limit 200 --epochs 1 --quiet --device cpu --out"
    assert xcnn.cli.main([*line.split(), str(folder)]) == 0
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of each call of plot.explained."""
    calls = []
    draw = plot.explained

    def record(*arguments, **settings):
        calls.append((*arguments, settings))
        return draw(*arguments, **settings)

    monkeypatch.setattr(plot, "explained", record)
    return calls


def test_test_images(run, lenet, drawn, here):
    done = run(f"show {lenet} --index 2,7 --method guided,occlusion,grad-cam --class 4 --out a.png")
    assert (done.status, done.out, done.err) == (0, "wrote a.png\n", "")
    with Image.open("a.png") as image:
        assert image.width > image.height > 200
    pixels, probabilities, maps, classes, settings = drawn[0]
    test = xcnn.data.load("digits").test
    chosen = [a[[2, 7]] for a in test.arrays]
    assert np.array_equal(pixels, chosen[0])
    assert settings["titles"] == [f"test {n}: {chosen[1][i]}" for i, n in enumerate([2, 7])]
    assert classes == [str(n) for n in range(10)]
    model, x = xcnn.load(lenet / "model.safetensors"), inputs(lenet, test, 8)[0][[2, 7]]
    expected = {
        "guided\n4": explain.saliency(model, x, 4, method="guided"),
        "occlusion\n4": explain.occlusion(model, x, 4),
        "grad-cam\n4": explain.grad_cam(model, x, target=4),
    }
    assert list(maps) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(maps[name], values, rtol=1e-3, atol=1e-5)
    trainer = xcnn.Trainer(model, loss="cross_entropy")
    np.testing.assert_allclose(probabilities, trainer.predict(x), rtol=1e-4, atol=1e-6)


def test_files(run, lenet, drawn, here):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32), np.uint8)
    for name, image in zip("ab", pixels, strict=True):
        Image.fromarray(image).save(here / f"{name}.png")
    done = run(f"show {lenet} b.png a.png --invert --method gradient --out s.png")
    assert (done.status, done.err) == (0, "")
    assert np.array_equal(drawn[0][0][:, 0], 255 - pixels[::-1])
    assert drawn[0][-1]["titles"] == ["b.png", "a.png"]
    assert list(drawn[0][2]) == ["gradient\npredicted class"]
    (here / "bad.png").write_bytes(b"hello")
    done = run(f"show {lenet} bad.png a.png none.png --method gradient,gradient --out t.png")
    assert (done.status, done.out) == (1, "wrote t.png\n")
    bad, none = done.err.splitlines()
    assert bad.startswith("xcnn: error: bad.png cannot be read")
    assert none == "xcnn: error: no such file: none.png"
    assert drawn[1][-1]["titles"] == ["a.png"]
    assert list(drawn[1][2]) == ["gradient\npredicted class"]
    assert run(f"show {lenet} none.png --out u.png").status == 1
    assert not (here / "u.png").exists()


@pytest.mark.skipif(not importlib.util.find_spec("onnx"), reason="needs: pip install onnx")
def test_onnx(run, lenet, drawn, here):
    """An exported network gives the same maps; show.png lies next to it."""
    assert run(f"export {lenet} net.onnx").status == 0
    for model in ("net.onnx", lenet):
        assert run(f"show {model} --index 0,1 --method grad-cam,smooth").status == 0
    assert (here / "show.png").exists()
    assert (lenet / "show.png").exists()
    for ours, theirs in zip(drawn[0][2].values(), drawn[1][2].values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    assert run("show net.onnx --filters --out f.png").status == 0


@pytest.mark.skipif(not importlib.util.find_spec("onnx"), reason="needs: pip install onnx")
@pytest.mark.parametrize("dynamic", [False, True])
def test_onnx_without_metadata(run, lenet, drawn, here, dynamic):
    """Its classes are numbers; a softmax at its end is not explained."""
    model = xcnn.load(lenet / "model.safetensors").eval()
    softmax = xcnn.nn.Sequential(model, xcnn.nn.Softmax(1))
    example = np.zeros((1, 1, 32, 32), "float32")
    xcnn.onnx.export(softmax, example, "plain.onnx", dynamic_batch=dynamic)
    options = "--mean 0.305 --std 0.3234 --index 1 --class 7 --method gradient"
    assert run(f"show plain.onnx --data digits {options}").err == ""
    assert run(f"show {lenet} --index 1 --class 7 --method gradient").err == ""
    (ours,), (theirs,) = (call[2].values() for call in drawn)
    np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    assert drawn[0][3] == [str(n) for n in range(10)]
    done = run("show plain.onnx --mean 0 --std 1")
    assert (done.status, "pass pictures" in done.err) == (2, True)


def test_features_and_filters(run, lenet, here, monkeypatch):
    shown, above = [], []
    figure_type = plot._figure_type()
    monkeypatch.setattr(figure_type, "suptitle", lambda self, text, **_: above.append(text))
    for name in ("feature_maps", "filters"):
        draw = getattr(plot, name)
        monkeypatch.setattr(plot, name, lambda *a, draw=draw: shown.append(a) or draw(*a))
    assert run(f"show {lenet} --features --index 3 --out a.png").status == 0
    assert run(f"show {lenet} --filters --layer conv2 --out b.png").status == 0
    assert {path: maps.shape for path, maps in shown[0][0].items()} == {
        "act1": (1, 6, 28, 28),
        "pool1": (1, 6, 14, 14),
        "act2": (1, 16, 10, 10),
        "pool2": (1, 16, 5, 5),
    }
    assert shown[1][1] == "conv2"
    dataset = xcnn.data.load("digits").test
    name = dataset.arrays[1][3]
    trainer = xcnn.Trainer(xcnn.load(lenet / "model.safetensors"), loss="cross_entropy")
    chances = trainer.predict(inputs(lenet, dataset, 4)[0][[3]])[0]
    assert above == [f"test 3: {name}, predicted {chances.argmax()} ({chances.max():.1%})"]
    assert (here / "a.png").read_bytes()[:4] == (here / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_a_binary_loss(run, here, shades, drawn):
    """The first class has a score too: minus the network's output."""
    line = (
        f"train small_cnn --data {shades} --loss binary_cross_entropy_with_logits --image-size 16"
    )
    assert run(f"{line} --epochs 1 --quiet --out run").status == 0
    for name in ("dark", "light"):
        assert run(f"show run --method occlusion --class {name} --out a.png").status == 0
    first, second = (next(iter(call[2].values())) for call in drawn)
    np.testing.assert_allclose(first, -second, atol=1e-6)
    assert np.abs(first).max() > 0


def test_a_network_without_feature_maps(run, trained, drawn, here):
    assert run(f"show {trained} --index 0 --out a.png").status == 0
    assert len(drawn[0][2]) == 2
    done = run(f"show {trained} --method grad-cam")
    assert (done.status, "has a spatial output; use gradient, which" in done.err) == (2, True)
    done = run(f"show {trained} --features")
    assert (done.status, "no feature maps" in done.err) == (2, True)


ERRORS = {
    "--index 400": "--index 400: there are 360 test images",
    "--index -1": "expected a whole number >= 0, got '-1'",
    "--class seven": "--class seven: there is no such class: the classes are 0, 1",
    "--layer convv1": "did you mean 'conv1'",
    "--layer fc1": "layer 'fc1' has an output of",
    "--layer act1 --method smooth": "--layer is for the method grad-cam",
    "--method cam": "there is no method 'cam'",
    "--features --index 1,2": "--features draws one picture",
    "--features --filters": "pass one of them",
    "--filters --index 1": "--filters does not use --index",
    "a.png --index 1": "--index and --data choose test images",
    "--method grad-cam,": "there is no method ''",
    "--invert": "--invert is for files",
    "--out a.jpg": "--out a.jpg: expected a name that ends in .png",
    "--out no/folder/a.png": "no/folder",
}


@pytest.mark.parametrize("options", ERRORS)
def test_errors(run, lenet, options):
    done = run(f"show {lenet} {options}")
    assert (done.status, done.out) == (2, "")
    assert ERRORS[options] in done.err
    assert done.err.count("\n") == 1


def test_pictures_need_not_be_given(run):
    done = run("show")
    assert done.status == 2
    assert "required: RUN;" in done.err


def test_features_instead_of_images(run, here):
    assert run("train mlp --data moons --epochs 1 --quiet --out run").status == 0
    done = run("show run")
    assert (done.status, done.err) == (
        2,
        "xcnn: error: run was trained on features, not on images\n",
    )
