"""xcnn.plot: the data, texts and pictures in its figures."""

import subprocess
import sys

import numpy as np
import pytest

import xcnn
from xcnn import explain, nn
from xcnn.errors import ArgumentError, MissingPackageError, ShapeError
from xcnn.testing import assert_close
from xcnn.training import Epoch

from .conftest import normal

Figure = pytest.importorskip("matplotlib.figure").Figure
plot = xcnn.plot

RNG = np.random.default_rng(0)
EPOCHS = [Epoch(n, 1 / n, None, 2 / n, 0.5, 9.0, {"val_f1": n / 10}) for n in (1, 2, 3)]


def lines(figure):
    """Label, axis label and points of every line."""
    return {
        line.get_label(): (ax.get_ylabel(), line.get_xydata().tolist())
        for ax in figure.axes
        for line in ax.lines
    }


def pictures(figure):
    return [image.get_array() for ax in figure.axes for image in ax.get_images()]


def test_history():
    found = lines(plot.history(EPOCHS))
    assert found == {
        "train_loss": ("loss", [[1, 1], [2, 0.5], [3, 1 / 3]]),
        "val_loss": ("loss", [[1, 2], [2, 1], [3, 2 / 3]]),
        "val_accuracy": ("accuracy", [[1, 0.5], [2, 0.5], [3, 0.5]]),
        "val_f1": ("f1", [[1, 0.1], [2, 0.2], [3, 0.3]]),
    }
    runs = {"a": EPOCHS, "b": [{"lr": 0.1, "val_loss": 3.0}, {"lr": 0.2}]}
    found = lines(plot.history(runs, ["loss", "lr"]))
    assert list(found) == ["a train_loss", "a val_loss", "b val_loss", "b lr"]
    assert found["b lr"] == ("lr", [[1, 0.1], [2, 0.2]])
    ax = Figure().add_subplot()
    figure = plot.history(EPOCHS, ["val_f1", "val_loss"], ax=ax)
    assert figure is ax.figure
    assert [line.get_label() for line in ax.lines] == ["val_f1", "val_loss"]
    assert lines(plot.history([])) == {}
    with pytest.raises(ArgumentError, match=r"no 'val_los' .did you mean 'val_loss'"):
        plot.history(EPOCHS, ["val_los"])
    for wrong in ([1, 2], 5, None, "abc", {"train_loss": 1.0}):
        with pytest.raises(ArgumentError, match="expected a History"):
            plot.history(wrong)
    with pytest.raises(ArgumentError, match="train_loss='a': expected a number"):
        plot.history([{"train_loss": "a"}])
    legend = plot.history({"_a": EPOCHS}, ["val_loss"]).axes[0].get_legend()
    assert [text.get_text().strip() for text in legend.get_texts()] == ["_a val_loss"]


def test_names_are_neither_parsed_nor_too_long():
    """Of mathematics that is wrong, matplotlib would raise when it draws."""
    names = ["US$ and CA$", "$\\frac$", "one long name, and then another, and one more"]
    x, maps = RNG.random((3, 1, 4, 4)), RNG.random((3, 4, 4))
    for figure in (
        plot.history(dict.fromkeys(names, EPOCHS)),
        plot.confusion(np.eye(3), names),
        plot.probabilities([0.2, 0.3, 0.5], names),
        plot.images(x, [0, 1, 2], [0, 2, 1], classes=names),
        plot.explained(x, np.eye(3), dict.fromkeys(names, maps), names, titles=names),
    ):
        assert figure._repr_png_()  # without a warning, which pytest would raise
        texts = [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_parse_math"))]
        assert any("$\\frac$" in text for text in texts)
        assert any(names[2][:23].rstrip() + "…" in text for text in texts)
        assert not any(names[2] in text for text in texts)
    assert plot.feature_maps({"$x$_$": x})._repr_png_()


def test_confusion():
    figure = plot.confusion(np.array([[8, 2], [0, 0]]), ["cat", "dog"])
    ax = figure.axes[0]
    assert_close(pictures(figure)[0], [[0.8, 0.2], [0, 0]])
    texts = {t.get_position(): t.get_text() for t in ax.texts}
    assert texts == {(0, 0): "8", (1, 0): "2"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["cat", "dog"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "actual")
    assert not plot.confusion(np.eye(1000)).axes[0].texts  # nobody could read them
    for shape in ((2, 3), (0, 0)):
        with pytest.raises(ShapeError, match=rf"\({shape[0]}, {shape[1]}\)"):
            plot.confusion(np.zeros(shape))


def test_images():
    x = RNG.integers(0, 256, (5, 3, 4, 6), np.uint8)
    figure = plot.images(
        x,
        [0, 1, 1, 0, 1],
        probabilities=[[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.5, 0.5], [0, 1]],
        classes=["cat", "dog"],
        columns=2,
    )
    assert_close(np.stack(pictures(figure)), np.moveaxis(x, 1, 3) / 255)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["cat 90%", "dog 80%", "✗ cat 70%\nis dog", "cat 50%", "dog 100%"]
    framed = [ax.spines["top"].get_visible() for ax in figure.axes]
    assert framed == [False, False, True, False, False]
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (3, 2)
    normalize = xcnn.data.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    undone = plot.images(normalize(x), normalize=normalize)
    assert_close(np.stack(pictures(undone)), np.moveaxis(x, 1, 3) / 255, atol=1e-6)
    stretched = plot.images(np.array([[[-2.0, 2.0]]]), ["a"])
    assert_close(pictures(stretched)[0], [[0.0, 1.0]])
    equal = plot.images(x, [0.0, 1.0, 2.0, 3.0, 4.0], np.arange(5))
    assert [ax.get_title() for ax in equal.axes] == list("01234")
    for labels, text in {
        (0, 1, 2, 0, 0): "labels contains 2: expected whole numbers from 0 to 1, or texts",
        (0, 1, -1, 0, 0): "labels contains -1",
        (0, 1, 0.5, 0, 0): "labels contains 0.5",
        (0, 1, None, 0, 0): "labels contains None",
        5: "labels=5: expected a class for each picture",
    }.items():
        with pytest.raises(ArgumentError, match=text):
            plot.images(x, labels, classes=["cat", "dog"])
    for wrong in ({"labels": [1]}, {"probabilities": [0.5]}):
        with pytest.raises(ShapeError, match="for 5 pictures"):
            plot.images(x, **wrong)
    with pytest.raises(ShapeError, match="2 channels"):
        plot.images(x[:, :2])


def test_augmented():
    x = RNG.random((3, 1, 4, 4))
    figure = plot.augmented(x, x[:, :, ::-1], columns=2)
    places = [ax.get_subplotspec().num1 for ax in figure.axes]
    assert places == [0, 1, 4, 2, 3, 6]  # rows of before, after, before, after
    assert_close(pictures(figure)[3], x[0, 0, ::-1])
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels == ["before", "", "before", "after", "", "after"]


def test_filters():
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Conv2d(3, 4, 2), nn.Conv2d(4, 2, 3))
    grey, colour, many = (pictures(plot.filters(model, str(n)))[0] for n in range(3))
    weight = model[0].weight.numpy()
    assert grey.shape == (2, 8)
    assert_close(grey[:, 3:5].filled(), weight[1, 0])
    assert np.ma.getmaskarray(grey)[:, 2].all()  # the gap
    weight = model[1].weight.numpy()
    limit = np.abs(weight).max()
    assert_close(colour[:, 3:5], np.moveaxis(weight[1] / limit / 2 + 0.5, 0, 2), atol=1e-6)
    weight = model[2].weight.numpy()
    assert many.shape == (7, 15)  # a row for each filter
    assert_close(many[4:, 8:11].filled(), weight[1, 2])
    assert_close(pictures(plot.filters(weight))[0], many)


def test_feature_maps():
    maps = {"a": RNG.random((2, 3, 4, 4)), "b.c": RNG.random((2, 40, 2, 2))}
    figure = plot.feature_maps(maps, index=1, limit=32)
    assert [ax.get_title("left") for ax in figure.axes] == [
        "a: 3 maps of 4×4",
        "b.c: 40 maps of 2×2, the first 32",
    ]
    shown = pictures(figure)
    assert [p.shape for p in shown] == [(4, 79), (5, 47)]  # 16 in a row
    part = maps["a"][1, 2]
    assert_close(shown[0][:, 10:14].filled(), (part - part.min()) / (part.max() - part.min()))
    with pytest.raises(ArgumentError, match="2 examples"):
        plot.feature_maps(maps, index=2)
    for wrong, text in ((maps["a"], "maps is ndarray"), ({}, "maps is empty")):
        with pytest.raises(ArgumentError, match=text):
            plot.feature_maps(wrong)
    with pytest.raises(ShapeError, match=r"maps\['a'\] has shape \(2, 0, 4, 4\)"):
        plot.feature_maps({"a": maps["a"][:, :0]})


def test_heatmap():
    x, maps = RNG.random((2, 3, 4, 4)), np.abs(normal(2, 4, 4))
    figure = plot.heatmap(x, maps)
    below, above = pictures(figure)[:2]
    assert_close(below, np.einsum("chw,c", x[0], [0.299, 0.587, 0.114]))
    assert_close(above, maps[0])
    image = figure.axes[0].get_images()[1]
    assert image.get_clim() == (0, maps[0].max())
    signed = plot.heatmap(x, normal(2, 3, 4, 4))
    image = signed.axes[1].get_images()[1]
    total = normal(2, 3, 4, 4).sum(1)[1]
    assert_close(image.get_array(), total)
    limit = np.percentile(np.abs(total), 99)
    assert image.get_clim() == pytest.approx((-limit, limit))
    maps[0, 0, :3] = np.nan, np.inf, -np.inf
    figure = plot.heatmap(x, maps)
    assert figure._repr_png_()
    assert_close(pictures(figure)[1], np.where(np.isfinite(maps[0]), maps[0], 0))
    with pytest.raises(ShapeError, match="one map of the same size"):
        plot.heatmap(x, maps[:1])


def test_probabilities():
    figure = plot.probabilities([0.1, 0.7, 0.2], ["a", "b", "c"], top=2)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "c"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.7, 0.2])
    assert [t.get_text() for t in ax.texts] == ["70.0%", "20.0%"]
    ax = plot.probabilities([0.9], ["no", "yes"]).axes[0]  # of a binary loss
    assert [t.get_text() for t in ax.get_yticklabels()] == ["yes", "no"]


def test_explained():
    x, maps = RNG.random((2, 1, 4, 4)), {"first": normal(2, 4, 4), "b": normal(2, 1, 4, 4)}
    chances = [[0.2, 0.8], [0.6, 0.4]]
    figure = plot.explained(x, chances, maps, ["a", "b"], titles=["one", "two"])
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 4)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["one", "", "first", "b", "two", "", "", ""]
    assert [t.get_text() for t in figure.axes[5].texts] == ["60.0%", "40.0%"]
    assert_close(figure.axes[6].get_images()[1].get_array(), maps["first"][1])
    with pytest.raises(ShapeError, match="1 titles"):
        plot.explained(x, chances, maps, ["a", "b"], titles=["one"])
    with pytest.raises(ShapeError, match="no pictures"):
        plot.explained(x[:0], np.zeros((0, 2)), {}, ["a", "b"])
    with pytest.raises(ShapeError, match=r"maps\['c'\] has shape \(1, 4, 4\) for 2 pictures"):
        plot.explained(x, chances, {"c": normal(1, 4, 4)}, ["a", "b"])
    with pytest.raises(ArgumentError, match="top=0"):
        plot.explained(x, chances, maps, ["a", "b"], top=0)


def test_of_a_trained_network(tmp_path):
    """Arrays of the device and the trainer itself are taken; figures can be saved and shown."""
    model = xcnn.models.small_cnn(num_classes=10, input_shape=(1, 8, 8))
    x = normal(2, 1, 8, 8, dtype="float32")
    for figure in (
        plot.heatmap(x, explain.grad_cam(model, x)),
        plot.feature_maps(explain.feature_maps(model, xcnn.Tensor(x), "stages")),
        plot.images(xcnn.Tensor(x), xcnn.Tensor(np.arange(2))),
    ):
        assert figure._repr_png_().startswith(b"\x89PNG")
    figure.savefig(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_no_pyplot_and_a_missing_package():
    code = (
        "import sys, xcnn; xcnn.plot.confusion([[1]])._repr_png_();"
        "assert 'matplotlib.pyplot' not in sys.modules;"
        "sys.modules['matplotlib.figure'] = None; xcnn.plot._figure_type.cache_clear()\n"
        "try: xcnn.plot.confusion([[1]])\n"
        "except xcnn.errors.MissingPackageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "xcnn.plot needs the package matplotlib" in done.stdout, done.stderr
    assert issubclass(MissingPackageError, ImportError)
