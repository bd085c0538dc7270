"""The measurements behind docs/: methods, choices, accuracy, curves."""

import os

import numpy as np
import pytest

import xcnn
from benchmarks import accuracy, choices, curves, methods
from benchmarks.__main__ import main
from benchmarks.methods import Shape
from xcnn import convolution


@pytest.mark.parametrize(
    ("shape", "text", "names"),
    [
        (Shape(16, 16, 8, 2), "16→16 3×3 8×8 ×2", {"direct", "im2col", "mec", "winograd"}),
        (
            Shape(4, 4, 6, 2, stride=2, groups=4),
            "4→4 3×3/2 g4 6×6 ×2",
            {"direct", "im2col", "depthwise"},
        ),
    ],
)
def test_a_shape(shape, text, names):
    assert str(shape) == text
    times = methods.milliseconds(shape, 1)
    assert set(times) == names
    assert all(0 < t < 1e4 for t in times.values())


def test_a_line_marks_the_choice_and_compares_it_with_the_fastest():
    shape = Shape(16, 16, 8, 64)
    chosen = methods.candidates(shape)[1]  # with compiled kernels another one
    line = methods.line(shape, {"im2col": 4.0, "mec": 3.0, chosen: 6.0}, chosen)
    assert line.endswith(" 2.00")
    assert {"4", "3", "6*"} < set(line.split())


def test_methods(monkeypatch, capsys):
    monkeypatch.setattr(methods, "SHAPES", [Shape(2, 3, 5, 1), Shape(2, 3, 5, 1, kernel=1)])
    assert main(["methods", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*convolution.METHODS, "/best"]
    assert " of 2 shapes" in lines[4]


def test_a_method_is_used_and_the_setting_restored(monkeypatch):
    used = []
    forward = convolution.METHODS["mec"].forward
    monkeypatch.setattr(
        convolution.METHODS["mec"], "forward", lambda *a, **k: used.append(1) or forward(*a, **k)
    )
    rng = np.random.default_rng(0)
    x, weight, dy = (rng.standard_normal(s) for s in ((3, 6, 6, 2), (4, 3, 3, 3), (4, 4, 4, 2)))
    before = xcnn.config.convolution
    results = [methods.passes(method, x, weight, dy) for method in ("mec", "im2col")]
    assert used == [1]
    assert xcnn.config.convolution == before
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_errors_are_those_of_float32():
    for error in accuracy.errors("im2col", 8, size=8):
        assert 1e-8 < error < 1e-5


def test_a_process_of_its_own_chooses_the_kernels(monkeypatch):
    monkeypatch.setenv("XCNN_NATIVE", "1")
    assert accuracy.apart("0", xcnn.backends.native.load) == (None, "off: XCNN_NATIVE=0")


@pytest.mark.parametrize("name", choices.CHOICES)
def test_variants_compute_the_same(name):
    variants = choices.CHOICES[name]()
    first, *others = [call() for call in variants.values()]
    if name == "memory_order":  # (F, oH·oW·N) and (N, F, oH·oW)
        others = [other.transpose(1, 2, 0).reshape(first.shape) for other in others]
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-2, rtol=1e-4)


def test_choices(capsys):
    assert main(["choices", "thin", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("thin_product")
    assert lines[1].split()[-1] == "1.00"


# -- curves ----------------------------------------------------------------------------------


def test_a_few_steps_of_both(monkeypatch):
    """Rounding changes the losses by 0.02 in the mean, another order of the batches by 0.7."""
    pytest.importorskip("torch")
    if not os.environ.get("XCNN_DATA"):
        pytest.skip("XCNN_DATA names no folder with CIFAR-10")
    monkeypatch.setattr(curves, "BATCH", 16)
    images = curves.Images(limit=64)
    images.test = [part[:50] for part in images.test]
    learners = curves.learners(seed=3)
    first = [learner.accuracy(*images.test) for learner in learners.values()]
    assert first[0] == first[1]
    runs = {k: curves.train(k, learner, images, 1, seed=0) for k, learner in learners.items()}
    ours, theirs = (np.array(runs[name]["losses"]) for name in ("xcnn", "torch"))
    assert len(ours) == 4
    assert np.abs(ours - theirs).mean() < 0.1
    assert np.abs(ours[:2] - theirs[:2]).max() < 1e-3
