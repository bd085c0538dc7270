"""What a report measures, against scikit-learn, Pillow and counting by hand; and its callback."""

import io
import json
import re

import numpy as np
import pytest

import xcnn
from xcnn import data, models, nn, report
from xcnn.errors import ArgumentError
from xcnn.report import architecture, contents, examples, pictures, predictions
from xcnn.report.compare import comparison
from xcnn.tasks.super_resolution import enlarge, shrink

RNG = np.random.default_rng(0)


def content_of(path):
    """The JSON in a page."""
    found = re.search(r'id="content">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


def small_net(classes=3):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 16, classes),
    )


def images(count=24, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((count, 1, 8, 8), np.float32)
    return x, rng.integers(0, classes, count)


def found_in(scores, labels, names=None):
    scores, labels = np.asarray(scores, np.float32), np.asarray(labels)
    names = names or [str(i) for i in range(scores.shape[1])]
    return predictions.Predictions(np.arange(len(labels)), labels, scores, names, len(labels))


def random_predictions(count=400, classes=5, seed=1):
    rng = np.random.default_rng(seed)
    scores = rng.random((count, classes)) ** 3
    scores /= scores.sum(axis=1, keepdims=True)
    return found_in(scores, rng.integers(0, classes - 1, count))  # no example of the last class


# -- outcomes -----------------------------------------------------------------------------------


def test_predictions_are_compared_with_their_targets():
    tasks, f32 = xcnn.tasks, np.float32
    labels = tasks.MultiLabel(["a", "b", "c"])
    found = np.array([0.9, 0.2, 0.7], f32)
    assert labels.compare(found, np.array([1, 0, 1], f32)) == "✓ a 90.00%, c 70.00%"
    assert labels.compare(found, np.array([0, 1, 1], f32)) == "✗ a 90.00%, c 70.00%; is: b, c"
    assert labels.compare(found * 0, np.array([1, 0, 0], f32)) == "✗ no label; is: a"
    number = tasks.Regression(["size"])
    assert number.compare(np.array([2.5], f32), np.array([3], f32)) == "size 2.5 (target: size 3)"
    assert tasks.GAN().compare([0.25], [1.0]) == "real 25.00%"
    points = tasks.Keypoints(["nose", "tail"])
    found, truth = [[1, 2, 0.9], [3, 4, 0.5]], [[1.5, 2, 1], [0, 0, 0]]
    assert points.compare(found, truth) == "nose 1.0,2.0 (1.5,2.0), tail 3.0,4.0 (not visible)"
    pixels = tasks.Segmentation(["background", "cat", "dog"])
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    assert pixels.compare(np.array([[0, 1], [1, 1]], np.uint8), mask) == "66.7% of the pixels right"
    assert pixels.legend() == {"cat": "#e69f00", "dog": "#56b4e9"}
    boxes = tasks.Detection(["cat", "dog"])
    none, two = (
        {"boxes": np.ones((n, 4)), "scores": np.ones(n), "labels": np.arange(n)} for n in (0, 2)
    )
    assert boxes.compare(none, two) == "0 objects (target: cat, dog)"
    assert boxes.compare(none, none) == "0 objects (target: none)"


def test_pictures_are_compared_in_decibels():
    clean = np.full((1, 8, 8), 0.5, np.float32)
    assert xcnn.tasks.Denoising().compare(clean + 0.1, clean) == "PSNR 20.00 dB"
    picture = images(1)[0][0]
    bicubic = xcnn.metrics.create("psnr")
    enlarged = enlarge(shrink(picture[None], 2), 2)
    bicubic.update(enlarged.numpy(), picture[None])
    text = xcnn.tasks.SuperResolution(input_shape=(1, 4, 4)).compare(picture - 0.01, picture)
    assert text == f"PSNR 40.00 dB (bicubic {bicubic.compute():.2f} dB)"


# -- files --------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Six pictures in two folders, each of its own grey, and what says where they are."""
    image = pytest.importorskip("PIL.Image")
    table, listed = ["file,size"], []
    for n in range(6):
        name = f"{'ab'[n % 2]}/{n}.png"
        for path in (tmp_path / "photos" / name, tmp_path / "pairs" / "images" / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            image.new("L", (8, 16), 40 * n).save(path)
        mask = tmp_path / "pairs" / "masks" / name
        mask.parent.mkdir(parents=True, exist_ok=True)
        image.new("L", (8, 16), n % 2).save(mask)
        table.append(f"{name},{n}")
        listed.append({"id": n, "file_name": name, "width": 8, "height": 16})
    (tmp_path / "photos" / "table.csv").write_text("\n".join(table))
    thing = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 3, 3]}
    whole = {"images": listed, "annotations": [thing], "categories": [{"id": 1, "name": "it"}]}
    (tmp_path / "photos" / "boxes.json").write_text(json.dumps(whole))
    return tmp_path


@pytest.mark.parametrize("kind", ["images", "masks", "crops", "table", "boxes"])
def test_the_name_of_a_file_is_that_of_the_picture(kind, photos):
    folder = photos / "photos"
    size = {"size": (8, 8) if kind == "crops" else (16, 8), "channels": 1}
    made = {
        "images": lambda: data.ImageFolder(folder, **size),
        "masks": lambda: data.MaskFolder(photos / "pairs", **size),
        "crops": lambda: data.Crops(data.ImageFolder(folder, **size, labelled=False)),
        "table": lambda: data.CSVDataset(folder / "table.csv", "size", image="file", **size),
        "boxes": lambda: data.CocoDetection(folder, folder / "boxes.json", **size),
    }[kind]()
    assert len(made) == (12 if kind == "crops" else 6)
    for dataset in (made, data.Subset(data.Subset(made, range(len(made))[::-1]), [4, 0])):
        shown = examples.Examples(data.DataLoader(dataset))
        at = range(len(dataset))
        for values, example in zip(shown.read(at), shown.show(at), strict=True):
            n = values[0, 0, 0] // 40
            name = f"{'ab'[n % 2]}/{n}.png"
            assert example["file"] == (f"images/{name}" if kind == "masks" else name)


def test_paths_that_are_not_of_the_examples_are_no_file_names():
    dataset = data.ArrayDataset(np.zeros((4, 1, 8, 8), np.uint8))
    dataset.paths = ["/home/me/one.png"]
    assert "file" not in examples.Examples(data.DataLoader(dataset)).show([3])[0]
    dataset.paths, dataset.root = ["/home/me/one.png"] * 4, "/home/you"
    assert examples.Examples(data.DataLoader(dataset)).show([3])[0]["file"] == "one.png"


# -- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 7, 3), (2, 9, 4)])
def test_png_is_read_by_pillow(shape):
    image = pytest.importorskip("PIL.Image")
    pixels = RNG.integers(0, 256, shape).astype(np.uint8)
    picture = pictures.Picture(pixels, "viridis")
    read = np.asarray(image.open(io.BytesIO(picture.png())).convert("RGBA"))
    if len(shape) == 2:
        table = np.vstack([pictures.PALETTES["viridis"], [[0, 0, 0]]])
        expected = np.dstack([table[pixels], np.where(pixels == 255, 0, 255)])
    else:
        opaque = np.full((*shape[:2], 1), 255)
        expected = np.dstack([pixels, opaque]) if shape[2] == 3 else pixels
    np.testing.assert_array_equal(read, expected)


def test_shrink_takes_means():
    x = RNG.random((2, 9, 7))
    expected = [
        [[x[c, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean() for j in range(2)] for i in range(3)]
        for c in range(2)
    ]
    np.testing.assert_allclose(pictures.shrink(x, 3), expected)
    assert pictures.shrink(x, 9) is x
    assert pictures.shrink(x[:, :1], 2).shape == (2, 1, 1)


def test_levels():
    values = np.array([-1.0, 0.0, 0.5, 1.0, 9.0, np.nan, np.inf, -np.inf])
    assert pictures.levels(values, 0, 1).tolist() == [0, 0, 127, 254, 254, 255, 254, 0]
    assert pictures.levels(np.zeros(3), 0, 0).tolist() == [0, 0, 0]


def test_sheet():
    tiles = [np.full((2, 3), i, np.uint8) for i in range(3)]
    sheet = pictures.sheet(tiles, 2, "grey").pixels
    assert sheet.shape == (5, 7)
    assert (sheet[0].tolist(), sheet[2, 0], sheet[3].tolist()) == (
        [0, 0, 0, 255, 1, 1, 1],
        255,
        [2, 2, 2, 255, 255, 255, 255],
    )


# -- predictions ----------------------------------------------------------------------------------


def test_classes_as_scikit_learn():
    scores = pytest.importorskip("sklearn.metrics")
    found = random_predictions()
    labels, predicted = found.labels, found.probabilities.argmax(axis=1)
    expected = scores.confusion_matrix(labels, predicted, labels=range(5))
    np.testing.assert_array_equal(predictions.confusion(found)["matrix"], expected)
    columns = scores.precision_recall_fscore_support(
        labels, predicted, labels=range(5), zero_division=0
    )
    rows = predictions.per_class(found)
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        np.testing.assert_allclose([row[name] for row in rows], column, rtol=1e-6)
    assert [row["predicted"] for row in rows] == np.bincount(predicted, minlength=5).tolist()


def test_cells_keep_the_most_confident():
    found = random_predictions()
    predicted = found.probabilities.argmax(axis=1)
    cells = predictions.confusion(found)["cells"]
    assert sum(cell["count"] for cell in cells) == len(found.labels)
    for cell in cells:
        inside = [
            i
            for i in range(len(predicted))
            if (found.labels[i], predicted[i]) == (cell["actual"], cell["predicted"])
        ]
        inside.sort(key=lambda i: -found.probabilities[i, cell["predicted"]])
        assert (cell["count"], cell["examples"]) == (len(inside), inside[: predictions.PER_CELL])
    large = predictions.confusion(found, numbers=64 * 64 * 3)
    assert 2 <= large["kept"] < predictions.PER_CELL
    assert max(len(cell["examples"]) for cell in large["cells"]) == large["kept"]


def test_lists():
    scores = [[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.99, 0.01], [0.5, 0.5], [0.3, 0.7]]
    lists = predictions.lists(found_in(scores, [0, 0, 0, 1, 0, 1]))
    assert lists["mistakes"] == [3, 1]  # by the probability of the actual class: 0.01, 0.2
    assert lists["confident"] == [0, 5, 2, 4]  # the surest of each class come first
    assert lists["uncertain"] == [4, 2, 5, 1, 0, 3]


def test_many_classes_are_bounded():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 3000)
    scores = np.zeros((3000, 1000), np.float32)
    scores[np.arange(3000), (labels + (rng.random(3000) < 0.5)) % 1000] = 1
    scores[:9] = np.eye(1000)[7]
    labels[:9] = 3
    found = found_in(scores, labels)
    table = predictions.confusion(found)
    assert table["matrix"] is None
    assert len(table["cells"]) == predictions.MAX_CONFUSIONS
    assert {k: table["cells"][0][k] for k in ("actual", "predicted", "count")} == {
        "actual": 3,
        "predicted": 7,
        "count": 9,
    }
    assert all(cell["actual"] != cell["predicted"] for cell in table["cells"])


def predict(loss, model, x, y, limit=10_000, **settings):
    run = report.Run("run", xcnn.Trainer(model, loss=loss), test=(x, y), **settings)
    return predictions.predict(run, limit)


class Scores(nn.Module):
    """Returns its input, as scores."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        return xcnn.Tensor.of(x)


def test_binary_predictions_are_two_classes():
    x = np.array([[2.0], [-1.0], [0.5]], np.float32)
    found = predict("binary_cross_entropy_with_logits", Scores(), x, np.array([[1.0], [0], [0]]))
    second = 1 / (1 + np.exp(-x[:, 0]))
    np.testing.assert_allclose(found.probabilities, np.stack([1 - second, second], 1), rtol=1e-6)
    assert found.labels.tolist() == [1, 0, 0]


def test_what_cannot_be_predicted_is_said():
    x, y = np.zeros((3, 2), np.float32), np.zeros(3, int)
    nan = np.full((3, 2), np.nan, np.float32)
    assert "MSELoss has no classes" in predict("mse", Scores(), x, x)
    assert "diverged" in predict("cross_entropy", Scores(), nan, y)
    labels = predict("cross_entropy", Scores(), x, y.reshape(-1, 1))
    assert "have shape (3, 1), expected (3,)" in labels
    assert "no examples" in predict("cross_entropy", Scores(), x[:0], y[:0])
    assert "one class per example" in predict("binary_cross_entropy", Scores(), x, x)
    assert "one class per example" in predict(
        "cross_entropy", Scores(), np.zeros((3, 2, 4, 4), np.float32), np.zeros((3, 4, 4), int)
    )
    with pytest.raises(ArgumentError, match="test is an iterable"):
        report.Run("run", test=data.IterableDataset(lambda: iter([1])))


def test_examples_without_a_prediction_are_left_out():
    x = np.eye(4, 2, dtype=np.float32)
    x[1, 0] = np.nan
    found = predict("cross_entropy", Scores(), x, np.array([0, 1, -100, 1]))
    assert (found.indices.tolist(), found.labels.tolist(), found.invalid) == ([0, 3], [0, 1], 2)


def test_limit_takes_evenly_spaced_examples():
    x, y = RNG.random((100, 3), np.float32), np.arange(100) % 3
    found = predict("cross_entropy", Scores(), x, y, limit=12, classes=["a", "b", "c"])
    assert (found.total, len(found.labels), found.classes) == (100, 12, ["a", "b", "c"])
    assert found.indices.tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    np.testing.assert_array_equal(found.labels, y[found.indices])


# -- the network ----------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)
        self.join = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        y = xcnn.functional.relu(self.first(x))
        z = y + self.second(y)
        return self.join(xcnn.functional.cat([y, z], 1))


def test_graph_has_the_real_edges(backend):
    nodes = architecture.trace(nn.Sequential({"body": Residual()}).to(backend), (1, 6, 5)).nodes
    assert [(n.path, n.kind, n.inputs) for n in nodes] == [
        ("body.first", "Conv2d", [-1]),
        ("body", "relu", [0]),
        ("body.second", "Conv2d", [1]),
        ("body", "add", [1, 2]),
        ("body", "concat", [1, 3]),
        ("body.join", "Conv2d", [4]),
    ]
    assert [n.shape for n in nodes[3:]] == [(2, 6, 5), (4, 6, 5), (3, 6, 5)]
    assert [n.parameters for n in nodes] == [2 * 9 + 2, 0, 4 * 9 + 2, 0, 0, 3 * 4 + 3]
    assert [n.multiply_adds for n in nodes] == [30 * 18, 0, 30 * 36, 0, 0, 30 * 12]


class Same(nn.Module):
    """Adds its layers' outputs; some layers return their input as it is."""

    def __init__(self):
        super().__init__()
        self.same, self.drop = nn.Identity(), nn.Dropout(0.5)
        self.first, self.second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

    def forward(self, x):
        same, dropped = self.same(x), self.drop(x)
        y = self.first(x) + same
        return self.second(dropped) + xcnn.functional.dropout(y, training=False)


def test_graph_of_layers_that_return_their_input(backend):
    nodes = architecture.trace(Same().to(backend), (1, 4, 4)).nodes
    assert [(n.path or n.kind, n.inputs) for n in nodes] == [
        ("same", [-1]),
        ("drop", [-1]),
        ("first", [-1]),
        ("add", [2, 0]),
        ("second", [1]),
        ("add", [4, 3]),
    ]


def test_graph_of_a_network_agrees_with_its_summary():
    model = models.resnet20()
    graph = architecture.trace(model, (3, 32, 32))
    layers = xcnn.summary(model, (3, 32, 32)).table[2:-1]
    traced = [[n.path, n.kind, "×".join(map(str, n.shape))] for n in graph.nodes]
    assert [row for row in traced if row[1][0].isupper()] == [row[:3] for row in layers]
    assert sum(n.kind == "add" for n in graph.nodes) == 9  # blocks
    assert all(not m._hooks and not m._pre_hooks for m in model.modules())


# -- curves, data, settings -----------------------------------------------------------------------


def test_history():
    rows = [
        {"epoch": 1, "train_loss": 2.0, "val_loss": None, "train_f1": 0.5, "seconds": 2.0, "lr": 1},
        {"epoch": 2, "train_loss": np.nan, "val_loss": None, "seconds": 4.0, "lr": 0.5},
    ]
    found = contents.history(rows, 100)
    assert found["columns"]["train_loss"] == [2.0, None]
    assert found["columns"]["train_f1"] == [0.5, None]
    assert found["columns"]["images_per_second"] == [50.0, 25.0]
    assert found["bad"] == ["train_loss"]
    assert [(c["title"], c["series"]) for c in found["charts"]] == [
        ("Loss", [["train", "train_loss"]]),
        ("F1", [["train", "train_f1"]]),
        ("Learning rate", [["lr", "lr"]]),
        ("Examples per second", [["train", "images_per_second"]]),
    ]
    assert contents.best_epoch(found["columns"]) == ("train_loss", 0)
    long = contents.history([{"epoch": i, "train_loss": 1 / i} for i in range(1, 5001)], None)
    assert (long["epochs"], len(long["columns"]["epoch"])) == (5000, 5000)
    assert contents.drawn(long)["columns"]["epoch"][::1999] == [1, 5000]
    assert contents.drawn(found) == found
    assert contents.best_epoch({"epoch": []}) is None


def tiles(rows, **settings):
    run = report.Run("run", history=rows, **settings)
    return {
        tile["label"]: (tile["value"], tile["note"])
        for tile in contents.measure(run, full=False)["overview"]
    }


def test_results_are_those_of_all_epochs(tmp_path):
    rows = [{"epoch": i, "val_loss": 2.0, "val_f1": 1.0, "seconds": 1.0} for i in range(1, 5002)]
    rows[1] |= {"val_loss": 0.5, "val_f1": np.nan, "seconds": 100.0}
    found = tiles(rows)
    assert found["Test loss"] == ("2.0000", "lowest 0.5000 in epoch 2")
    assert found["Time"] == ("1:25:00", "1.0s per epoch")
    report.write(tmp_path / "page.html", *[report.Run(name, history=rows) for name in "ab"])
    content = content_of(tmp_path / "page.html")
    history = content["runs"][0]["history"]
    assert history["bad"] == ["val_f1"]
    assert (len(history["columns"]["epoch"]), 2 in history["columns"]["epoch"]) == (2000, False)
    results = {row["name"]: row["values"] for row in content["comparison"]["results"]}
    assert results["Best epoch"] == [2, 2]
    assert results["Seconds per epoch"] == [pytest.approx(5100 / 5001)] * 2


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.5, 0.25], ("0.2500", "the lowest of all epochs")),
        ([0.25, 0.25], ("0.2500", "the lowest of all epochs")),
        ([0.25, 0.5], ("0.5000", "lowest 0.2500 in epoch 1")),
        ([0.25, np.nan], ("NaN", "after the last epoch; lowest 0.2500 in epoch 1")),
        ([np.inf, np.inf], ("infinite", "no epoch has a finite number")),
    ],
)
def test_headline(losses, expected):
    rows = [{"train_loss": 0.1, "val_loss": loss, "val_accuracy": 0.5} for loss in losses]
    found = tiles(rows)
    assert found["Test loss"] == expected
    assert found["Test accuracy"] == ("50.00%", "after the last epoch")  # a tie is no better epoch
    assert "Train loss" not in found


def test_history_of_numbers_only():
    found = tiles([{"val_loss": "0.5", "val_accuracy": ""}], epochs=3, state="stopped early")
    assert found == {
        "Test loss": ("0.5000", "the lowest of all epochs"),
        "Epochs": ("1 of 3", "stopped early"),
    }


def test_balance_and_bounds():
    x, y = images(30)
    loader = data.DataLoader((x, y))
    assert examples.balance({"train": loader, "test": None}, 3) == {
        "train": [int((y == c).sum()) for c in range(3)]
    }
    hot = data.DataLoader((x, np.eye(3, dtype=np.float32)[y]))
    assert examples.balance({"test": hot}, 3)["test"] == np.bincount(y, minlength=3).tolist()
    assert examples.balance({"test": data.DataLoader((x, x[:, 0, 0, 0]))}, 3) == {}
    assert examples.Examples(loader).bounds == (0.0, 1.0)
    assert examples.Examples(data.DataLoader((x * 4 - 1, y))).bounds == pytest.approx((-1, 3), 0.05)
    assert examples.Examples(data.DataLoader(((x * 9).astype(np.uint8), y))).bounds == (0, 255)


def test_augmentation_is_shown_without_normalization():
    x = np.zeros((8, 1, 8, 8), np.uint8)
    x[..., :4] = 200
    flip = data.Compose([data.RandomHorizontalFlip(), data.Normalize(0.3, 0.2)])
    rows = examples.augmented(data.DataLoader((x, np.arange(8)), transform=flip))
    level = round(200 / 255 * 254)
    halves = {row.tobytes() for pair in rows for row in [p.pixels[0] for p in pair["after"]]}
    both = [[level] * 4 + [0] * 4, [0] * 4 + [level] * 4]
    assert halves == {np.array(row, np.uint8).tobytes() for row in both}
    assert {pair["before"].pixels[0].tobytes() for pair in rows} == {
        np.array(both[0], np.uint8).tobytes()
    }
    plain = data.DataLoader((x, np.arange(8)), transform=data.Normalize(0.3, 0.2))
    assert examples.augmented(plain) == []


# -- pages ----------------------------------------------------------------------------------------


def test_page_of_a_trainer(backend, tmp_path):
    x, y = images()
    trainer = xcnn.Trainer(small_net().to(backend), "adam")
    trainer.fit(x, y, epochs=1, validation=(x, y), progress=False)
    report.write(tmp_path / "page.html", report.Run("net", trainer, test=(x, y)))
    (run,) = content_of(tmp_path / "page.html")["runs"]
    assert run["predictions"]["right"] == round(trainer.evaluate(x, y)["accuracy"] * 24)
    assert run["data"]["sizes"] == {"train": 24, "test": 24}
    assert [row["path"] for row in run["layers"]["outputs"]] == ["0", "1", "2", "3", "4"]
    assert run["missing"] == []
    assert {m["name"] for m in run["explained"][0]["maps"]} >= {"Grad-CAM", "Occlusion"}


def test_oblong_pictures_and_a_method_that_fails(tmp_path, monkeypatch):
    x, y = np.zeros((6, 1, 40, 3), np.float32), np.arange(6) % 2
    layers = nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(240, 2)
    trainer = xcnn.Trainer(nn.Sequential(*layers))
    train = data.DataLoader((x, y))

    def fail(*arguments, **settings):
        raise ArgumentError("too dark")

    monkeypatch.setattr(xcnn.explain, "grad_cam", fail)
    report.write(tmp_path / "page.html", report.Run("net", trainer, test=(x, y), train=train))
    (run,) = content_of(tmp_path / "page.html")["runs"]
    assert run["missing"] == ["Grad-CAM is missing: too dark"]
    names = [found["name"] for found in run["explained"][0]["maps"]]
    assert names == ["Occlusion", "Gradient", "Guided gradient", "Smooth gradient"]
    report.write(tmp_path / "page.html", report.Run("net", trainer, train=train))
    (run,) = content_of(tmp_path / "page.html")["runs"]
    assert run["missing"] == ["There are no test data, so there are no predictions."]
    assert [node["shape"] for node in run["architecture"]["nodes"]] == [[2, 40, 3], [240], [2]]


def test_transform_that_changes_the_size(tmp_path):
    x, y = images()
    half = data.DataLoader(
        (np.repeat(np.repeat(x, 2, 2), 2, 3), y), transform=lambda x: x[..., ::2, ::2]
    )
    report.write(tmp_path / "page.html", report.Run("net", xcnn.Trainer(small_net()), test=half))
    (run,) = content_of(tmp_path / "page.html")["runs"]
    assert len(run["explained"]) == 6
    assert run["missing"] == []


class Two(nn.Module):
    """Returns two outputs."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, x):
        return self.inner(x), self.inner(x)


def test_network_with_several_outputs(tmp_path):
    x, y = np.zeros((3, 4), np.float32), np.zeros(3, int)
    report.write(tmp_path / "page.html", report.Run("net", xcnn.Trainer(Two()), test=(x, y)))
    (run,) = content_of(tmp_path / "page.html")["runs"]
    assert run["missing"] == ["The network returns several outputs: there is no class to count."]
    assert len(run["architecture"]["nodes"]) == 2


@pytest.mark.parametrize("kind", ["features", "regression", "no test", "diverged", "nothing"])
def test_pages_of_unusual_runs(kind, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((20, 4), np.float32), rng.integers(0, 2, 20)
    loss = "mse" if kind == "regression" else "cross_entropy"
    model = nn.Sequential(nn.Linear(4, 2))
    if kind == "diverged":
        model[0].weight.data[:] = np.nan
    target = rng.random((20, 2), np.float32) if kind == "regression" else y
    trainer = None if kind == "nothing" else xcnn.Trainer(model, loss=loss)
    test = None if kind in ("no test", "nothing") else (x, target)
    run = report.Run("run", trainer, test=test, missing=["The data are gone."])
    report.write(tmp_path / "page.html", run)
    (found,) = content_of(tmp_path / "page.html")["runs"]
    assert (found["predictions"] is not None) == (kind == "features")
    assert found["missing"][0] == "The data are gone."
    assert len(found["missing"]) == {"features": 1, "no test": 3}.get(kind, 2)
    assert ("architecture" in found) == (kind not in ("no test", "nothing"))


def test_comparison(tmp_path):
    runs = []
    for name, seed in (("one", 0), ("two", 1)):
        x, y = images(seed=0)
        xcnn.manual_seed(seed)
        trainer = xcnn.Trainer(small_net())
        rows = [{"epoch": 1, "val_loss": 1.0 + seed, "val_accuracy": 0.5}]
        settings = {"seed": seed, "lr": 0.1, **({"extra": True} if seed else {})}
        runs.append(report.Run(name, trainer, test=(x, y), history=rows, settings=settings))
    report.write(tmp_path / "page.html", *runs)
    content = content_of(tmp_path / "page.html")
    results = {row["name"]: row for row in content["comparison"]["results"]}
    assert (results["Test loss"]["values"], results["Test loss"]["best"]) == ([1.0, 2.0], [0])
    assert results["Test accuracy"]["best"] == [0, 1]
    rows = {row["name"]: row["values"] for row in content["comparison"]["settings"]}
    assert rows == {"seed": ["0", "1"], "extra": [None, "True"]}
    first, second = (np.array(run["predictions"]["confusion"]["matrix"]) for run in content["runs"])
    np.testing.assert_array_equal(content["comparison"]["difference"], second - first)


def test_a_comparison_of_what_is_not_the_same():
    def measured(n, **settings):
        row = {"val_loss": 1 + n, "val_accuracy": 0.5 + n, "val_iou": 0.5 + n}
        of_both = {"task": "a", "loss": "a"}
        return contents.measure(report.Run(str(n), history=[row], settings=of_both | settings))

    starred = []
    for other in ({}, {"loss": "b"}, {"task": "b"}):
        results = comparison([measured(0), measured(1, **other)])["results"]
        starred.append({row["name"] for row in results if row["best"]})
        assert next(row["values"] for row in results if row["name"] == "Test IoU") == [0.5, 1.5]
    assert starred == [{"Test accuracy", "Test loss"}, {"Test accuracy"}, set()]


def test_two_networks_that_compete_have_no_best_epoch():
    model = xcnn.models.dcgan(input_shape=(1, 16, 16))
    loss = xcnn.tasks.GAN(input_shape=(1, 16, 16)).create_loss()
    rows = [{"val_loss": 1.0, "val_d_loss": 0.5}, {"val_loss": 2.0, "val_d_loss": 1.0}]
    run = report.Run("gan", xcnn.Trainer(model, loss=loss), history=rows)
    found = contents.measure(run, full=False)
    tile = next(tile for tile in found["overview"] if tile["label"] == "Test loss")
    assert (tile["value"], tile["note"]) == ("2.0000", "")
    assert "Best epoch" not in [row["name"] for row in comparison([found, found])["results"]]


def test_arguments():
    with pytest.raises(ArgumentError, match="expected one or more"):
        report.write("page.html")
    with pytest.raises(ArgumentError, match="trainer is Sequential"):
        report.Run("run", small_net())
    with pytest.raises(ArgumentError, match="share"):
        report.Report("page.html", share=2)
    for settings, text in (
        ({"name": 3}, "name=3"),
        ({"classes": 3}, "classes is int"),
        ({"settings": [1]}, "settings is list"),
        ({"history": [3]}, "row 1 of history is int"),
        ({"history": [{"val_loss": "x"}]}, "row 1 of history has val_loss='x'"),
        ({"history": [{}, {"val_loss": 10**400}]}, "row 2 of history has val_loss=1000"),
        ({"history": [{"epoch": None}]}, "row 1 of history has epoch=None"),
        ({"history": [{"epoch": np.nan}]}, "row 1 of history has epoch=nan"),
    ):
        with pytest.raises(ArgumentError, match=text):
            report.Run(**{"name": "run", **settings})
    for settings in ({"settings": [1]}, {"classes": "abc"}, {"name": 3}):
        with pytest.raises(ArgumentError, match=next(iter(settings))):
            report.Report("page.html", **settings)
    with pytest.raises(ArgumentError, match="5 names, but the network tells 3 classes apart"):
        train([report.Report("page.html", test=images(), classes=list("abcde"))])
    with pytest.raises(xcnn.errors.ShapeError):  # before the first epoch
        train([report.Report("page.html", test=(np.zeros((3, 5), np.float32), np.zeros(3, int)))])


# -- while a training runs ------------------------------------------------------------------------


def train(callbacks, epochs=3, **settings):
    x, y = images()
    xcnn.manual_seed(0)
    trainer = xcnn.Trainer(small_net(), "adam")
    trainer.fit(x, y, epochs, validation=(x, y), callbacks=callbacks, progress=False, **settings)
    return trainer


def test_report_while_training(tmp_path):
    path = tmp_path / "new" / "page.html"
    pages = []

    def read(trainer, epoch):
        pages.append(content_of(path) if path.exists() else None)

    reader = xcnn.callbacks.FunctionCallback(read)
    reader.order = 4
    x, y = images()
    trainer = train([report.Report(path, test=(x, y), share=1), reader])
    live = [page["live"] is not None for page in pages]
    assert live[0]
    assert len(pages[0]["runs"][0]["history"]["columns"]["epoch"]) == 1
    assert pages[0]["live"]["until"] > pages[0]["written"] + 60
    assert "explained" not in pages[0]["runs"][0]
    end = content_of(path)
    assert end["live"] is None
    assert len(end["runs"][0]["history"]["columns"]["epoch"]) == 3
    assert end["runs"][0]["predictions"]["epoch"] == 3
    assert "explained" in end["runs"][0]
    for ours, plain in zip(trainer.model.parameters(), train([]).model.parameters(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), plain.numpy())  # the training is the same


def test_predictions_are_computed_seldom_and_curves_often(tmp_path):
    pages = []

    def read(trainer, epoch):
        content = content_of(tmp_path / "page.html")
        (run,) = content["runs"]
        pages.append((run["history"]["columns"]["epoch"][-1], run["predictions"]["epoch"]))

    x, y = images()
    shown = report.Report(tmp_path / "page.html", test=(x, y), share=1e-6)
    train([shown, _last(read)], epochs=4)
    # the others would follow too early
    assert pages == [(1, 1), (1, 1), (1, 1), (1, 1)]
    pages.clear()
    shown = report.Report(tmp_path / "page.html", test=(x, y), share=1)
    shown.on_epoch_end = _often(shown)
    train([shown, _last(read)], epochs=4)
    assert pages == [(1, 1), (2, 1), (3, 1), (3, 1)]
    assert content_of(tmp_path / "page.html")["runs"][0]["predictions"]["epoch"] == 4


def _often(shown):
    """The hook, as if writing took no time and predicting very long."""

    def on_epoch_end(trainer, epoch):
        shown._next = 0.0
        type(shown).on_epoch_end(shown, trainer, epoch)
        shown._due = float("inf")

    return on_epoch_end


def test_report_of_a_training_on_a_stream(tmp_path):
    x, y = images()
    stream = data.DataLoader(data.IterableDataset(lambda: zip(x, y, strict=True)), batch_size=8)
    trainer = xcnn.Trainer(small_net(), "adam")
    shown = report.Report(tmp_path / "page.html", test=(x, y))
    trainer.fit(stream, epochs=1, callbacks=[shown], progress=False)
    assert content_of(tmp_path / "page.html")["runs"][0]["data"]["sizes"] == {"test": 24}


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (KeyboardInterrupt, "The training was interrupted."),
        (RuntimeError, "The training ended with RuntimeError."),
    ],
)
def test_report_of_a_training_that_ends_early(error, note, tmp_path):
    def stop(trainer, epoch):
        raise error

    x, y = images()
    with pytest.raises(error):
        train([report.Report(tmp_path / "page.html", test=(x, y)), _last(stop)])
    content = content_of(tmp_path / "page.html")
    assert (content["live"], content["note"]) == (None, note)


def _last(function):
    callback = xcnn.callbacks.FunctionCallback(function)
    callback.order = 4
    return callback


class Undrawable(xcnn.tasks.Regression):
    def describe(self, prediction, top=3):
        raise IndexError("no such number")


def test_report_that_fails_does_not_end_the_training(tmp_path):
    x, y = np.zeros((4, 1, 8, 8), np.float32), np.ones((4, 1), np.float32)
    task, model = Undrawable(["size"], (1, 8, 8)), small_net(1)
    trainer = xcnn.Trainer(model, xcnn.optim.SGD(model.parameters(), 0.1), task.create_loss())
    page = report.Report(tmp_path / "page.html", test=(x, y), task=task)
    with pytest.warns(UserWarning, match=r"page.html is not up to date: IndexError: no such"):
        trainer.fit(x, y, epochs=2, progress=False, callbacks=[page])
    assert len(trainer.history) == 2


def test_report_that_cannot_be_written_ends_the_training_after_its_checkpoint(tmp_path):
    (tmp_path / "page.html").mkdir()
    checkpoint = xcnn.callbacks.ModelCheckpoint(tmp_path / "run", signals=False)
    with pytest.raises(IsADirectoryError, match=r"page\.html"):
        train([report.Report(tmp_path / "page.html"), checkpoint])
    assert xcnn.callbacks.newest(tmp_path / "run") is not None
    assert (tmp_path / "run" / "model.safetensors").exists()
