"""Tasks: settings, the registry, and a task of one's own through every command."""

import importlib.metadata
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
from xcnn import data, extend, tasks
from xcnn.cli import main
from xcnn.errors import ArgumentError, DTypeError

#: settings for a small network of each task; for the others as these
SHAPES = {"classification": (3, 32, 32)}
OF_DATA = {"regression": {"target_mean": [1.0, -2.0, 0.5], "target_std": [1.0, 2.0, 3.0]}}


class SetTarget(data.BatchTransform):
    """Puts the mean brightness of the pictures in place of the labels."""

    def apply(self, batch, rng):
        pixels = batch[0]
        mean = pixels.reshape(len(pixels), -1).mean(axis=1, keepdims=True) / 255
        return pixels, mean.astype("float32")


class Brightness(tasks.Task):
    """How bright a picture is."""

    name = "brightness"
    text = "the mean brightness of a picture"
    networks = ("small_cnn",)
    datasets = ("digits",)
    losses = {"mse": "the brightness, from 0 to 1", "l1": "the brightness, from 0 to 1"}
    measured = ("mae",)
    options = {"darker": tasks.Option(float, 0.0, "subtracted from the brightness")}

    def create_network(self, network):
        return xcnn.models.create(network, num_classes=1, input_shape=self.input_shape)

    def transform(self, augment=None):
        return data.Compose([SetTarget(), *self.steps(augment)])

    def describe(self, prediction, top=3):
        return f"brightness {float(prediction[0]):.1f}"

    def draw(self, pixels, prediction):
        return np.full_like(pixels, np.clip(round(255 * float(prediction[0])), 0, 255))

    def files(self, prediction):
        return {".txt": f"{float(prediction[0]):.3f}\n".encode()}

    def samples(self, trainer):
        return np.full((1, 4, 4), 7, np.uint8)


@pytest.fixture
def brightness():
    extend.register_task(Brightness)
    yield Brightness
    del extend.TASKS["brightness"]


@pytest.mark.parametrize("name", tasks.names())
def test_settings_make_the_task_again(name):
    kind = tasks.get(name)
    task = kind(
        ["a", "b", "c"], SHAPES.get(name, (3, 32, 32)), [0.5], [0.25], 255, **OF_DATA.get(name, {})
    )
    again = tasks.from_settings(json.loads(json.dumps(task.settings())))
    assert type(again) is kind
    assert again.settings() == task.settings()
    assert set(kind.networks) <= set(xcnn.models.names())
    assert set(kind.datasets) <= set(data.names())
    assert kind.text
    assert task.loss == next(iter(kind.losses))
    assert isinstance(task.create_loss(), xcnn.nn.Loss)
    assert kind.name in repr(task) or type(task).__name__ in repr(task)


def test_settings_of_an_older_version():
    old = {"classes": ["a", "b"], "input_shape": [1, 8, 8], "mean": [0.0], "std": [1.0]}
    task = tasks.from_settings({**old, "scale": 255, "loss": "nll", "epochs": 3})
    assert isinstance(task, tasks.Classification)
    assert (task.input_shape, task.loss) == ((1, 8, 8), "nll")


def test_refused(brightness):
    with pytest.raises(ArgumentError, match=r"task='clasification' is unknown.*classification"):
        tasks.create("clasification")
    with pytest.raises(ArgumentError, match="classification needs classes"):
        tasks.create("classification")
    with pytest.raises(ArgumentError, match="loss='mse': expected"):
        tasks.create("classification", classes=["a"], loss="mse")
    with pytest.raises(ArgumentError, match="brightness has no option 'nois': it has darker"):
        Brightness(nois=1)
    with pytest.raises(ArgumentError, match="name='brightness' is taken"):
        extend.register_task(type("Other", (tasks.Task,), {"name": "brightness"}))
    with pytest.raises(ArgumentError, match="expected a subclass of Task with a name"):
        extend.register_task(tasks.Task)
    with pytest.raises(ArgumentError, match="changes images, not features"):
        tasks.Classification(["a", "b"], (4,)).transform("flip")
    with pytest.raises(ArgumentError, match="brightness has no post-processing"):
        Brightness(input_shape=(1, 32, 32)).exported(xcnn.nn.Identity(), postprocess=True)
    with pytest.raises(ArgumentError, match=r"task is str: expected a xcnn\.tasks\.Task"):
        xcnn.report.Run("run", task="brightness")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        *(("denoising", {"noise": v}, "noise=") for v in (-1, 1e38, float("inf"), "x", True, None)),
        *(("super-resolution", {"upscale": v}, "upscale=") for v in (2.0, 5, True, [2])),
        *(("autoencoder", {"code": v}, "code=") for v in ("x", 0, 10**12, 1.5)),
        ("vae", {"beta": float("nan")}, "beta=nan: expected a number from 0 to"),
        ("gan", {"smoothing": 1.5}, "smoothing=1.5: expected a number from 0 to 1"),
        ("multi-label", {"threshold": -0.1}, "threshold="),
        ("detection", {"score": "0.5"}, "score='0.5': expected a number"),
        ("keypoints", {"limbs": 3}, "limbs=3: expected a str"),
        ("style-transfer", {"style": 3}, "style=3: expected a str"),
    ],
)
def test_options_out_of_range(name, settings, message):
    with pytest.raises(ArgumentError, match=message):
        tasks.create(name, classes=["a"], **settings)


def test_settings_that_are_lacking():
    settings = tasks.create(
        "regression", classes=["a", "b", "c"], **OF_DATA["regression"]
    ).settings()
    del settings["target_mean"]
    with pytest.raises(ArgumentError, match="settings of regression lack target_mean"):
        tasks.from_settings(settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": {}}, "losses and networks must name one or more"),
        ({"networks": ()}, "losses and networks must name one or more"),
        ({"datasets": ("digit",)}, r"datasets='digit': expected one of .*did you mean 'digits'"),
        ({"losses": {"msee": "x"}}, r"no loss 'msee' \(did you mean 'mse'\?\): define create_loss"),
        ({"options": {"a": tasks.Option(list, [1], "x")}}, "expected an Option whose default is"),
        ({"options": {"a-b": tasks.Option(int, 1, "x")}}, "expected an Option whose default is"),
        ({"options": {"a": tasks.Option(int, 1, "x", high=0)}}, "bad.a=1: expected a number from"),
    ],
)
def test_definitions_that_lack_something(change, message):
    with pytest.raises(ArgumentError, match=message):
        extend.register_task(type("Bad", (Brightness,), {"name": "bad", **change}))
    assert "bad" not in tasks.names()


def test_packages_whose_tasks_cannot_be_used(monkeypatch):
    def broken():
        raise NameError("name 'torhc' is not defined")

    entries = [
        SimpleNamespace(name="broken", load=broken, value="p.q:R", dist=SimpleNamespace(name="p")),
        SimpleNamespace(name="bright", load=lambda: Brightness, value="p.q:B"),
    ]
    monkeypatch.setattr(
        *(tasks.registry, "entry_points"),
        lambda group, name=None: [e for e in entries if name in (None, e.name)],
    )
    with pytest.warns(UserWarning, match="entry point") as caught:
        tasks.load_installed()
    assert [str(w.message) for w in caught] == [
        "task='broken': the entry point broken = p.q:R of the package p cannot be used: "
        "NameError: name 'torhc' is not defined",
        "task='bright': the entry point bright = p.q:B cannot be used: ArgumentError: the name of "
        "its task is 'brightness'",
    ]
    with pytest.raises(ArgumentError, match="entry point broken = "):
        tasks.get("broken")
    assert "brightness" not in tasks.names()
    with pytest.raises(ArgumentError, match="task=3: expected a str"):
        tasks.get(3)


def test_installed_packages_add_tasks(monkeypatch):
    entry = SimpleNamespace(name="brightness", load=lambda: Brightness)

    def found(group, name=None):
        assert group == "xcnn.tasks"
        return [entry] if name in (None, "brightness") else []

    monkeypatch.setattr(tasks.registry, "entry_points", found)
    try:
        assert tasks.get("brightness") is Brightness
        assert "brightness" in tasks.names()
        tasks.load_installed()
    finally:
        extend.TASKS.pop("brightness", None)
    assert callable(importlib.metadata.entry_points)


@pytest.mark.usefixtures("brightness")
class TestOfOnesOwn:
    TRAIN = (
        "train --task brightness --limit 64 --batch-size 32 --epochs 2 --device cpu --darker 0.5"
    )

    @pytest.fixture
    def trained(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert main([*self.TRAIN.split(), "--out", "run", "--report"]) == 0
        return capsys.readouterr().out

    def test_training(self, trained, capsys):
        assert "test MAE " in trained
        with open("run/config.json") as file:
            config = json.load(file)
        assert (config["task"], config["darker"], config["loss"]) == ("brightness", 0.5, "mse")
        with open("run/history.csv") as file:
            assert "val_mae" in file.readline()
        assert main(["train", "--resume", "run", "--epochs", "3", "--quiet"]) == 0
        assert "after 3 epochs" in capsys.readouterr().out
        assert main([*self.TRAIN.split(), "--out", "whole", "--epochs", "3", "--quiet"]) == 0

    def test_evaluate_predict_and_export(self, trained, capsys):
        assert main(["evaluate", "run", "--device", "cpu"]) == 0
        measured = capsys.readouterr().out
        assert measured.startswith("digits test: MAE ")
        picture = np.full((32, 32), 200, np.uint8)
        np.save("grey.npy", picture)
        assert main(["predict", "run", "grey.npy", "--out", "out", "--device", "cpu"]) == 0
        said = capsys.readouterr().out
        value = float(said.splitlines()[0].split()[-1])
        assert said.endswith("wrote 2 files to out\n")
        with open("out/grey.txt") as file:
            assert float(file.read()) == pytest.approx(value, abs=0.06)
        drawn = data.read_image("out/grey.png", (1, 32, 32))
        assert drawn.min() == drawn.max()
        assert abs(int(drawn.max()) / 255 - np.clip(value, 0, 1)) < 0.06
        assert main(["export", "run", "run.onnx"]) == 0
        assert "output: the brightness, from 0 to 1" in capsys.readouterr().out
        assert main(["evaluate", "run.onnx", "--device", "cpu"]) == 0
        assert capsys.readouterr().out == measured
        for command in ("show", "demo"):
            assert main([command, "run"]) == 2
            assert "is for classification" in capsys.readouterr().err

    def test_report(self, trained, capsys):
        assert main(["report", "run", "--out", "page.html", "--device", "cpu"]) == 0
        assert capsys.readouterr().err == ""
        for page in ("run/report.html", "page.html"):
            with open(page, encoding="utf-8") as file:
                text = file.read()
            found = re.search(
                r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL
            )
            content = json.loads(found[1])
            outcomes = content["runs"][0]["outcomes"]
            assert content["runs"][0]["predictions"] is None
            titles = [title for title, _ in outcomes["examples"][0]["pictures"]]
            assert titles == ["Picture", "Target", "Prediction"]
            assert outcomes["examples"][0]["text"].startswith("brightness")
            assert outcomes["samples"]
            tiles = {tile["label"]: tile["value"] for tile in content["runs"][0]["overview"]}
            assert float(tiles["Test MAE"]) > 0


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--task brightness mlp", "mlp cannot be trained for brightness"),
        ("--task brightness --data moons", "--data moons is for classification"),
        ("--task brightness --loss nll", "nll"),
        ("--task brightnes", "task='brightnes' is unknown (did you mean 'brightness'?)"),
        ("--darker 1", "--darker is for brightness, not for classification: leave it out"),
        ("--task brightness --darker inf", "--darker=inf: expected a number from"),
        ("--task brightness --augment mixup", "mixes labels"),
        ("--task regression --augment mixup", "does not support: it is not for regression"),
        ("--task regression --class-weight balanced", "--loss mse: it is not for regression"),
        ("--task regression --loss mae", "--loss mae is called l1 here"),
        ("--loss mse", "--loss='mse': expected one of cross_entropy, nll, binary_cross_entropy"),
        ("--task detection --threshold 1", "not for detection: its options are --score"),
        ("--task gan --epochs 1 --best val_accuracy", "--best='val_accuracy': expected one of"),
        ("--task brightness --data .", "Brightness does not define load_folder: use digits"),
    ],
)
@pytest.mark.usefixtures("brightness")
def test_options_that_do_not_fit(line, error, capsys):
    try:
        status = main(["train", *line.split()])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "option", "owner"),
    [
        ("epochs", tasks.Option(int, 1, "x"), "xcnn train"),
        ("task", tasks.Option(str, "", "x"), "xcnn train"),
        ("noise", tasks.Option(str, "", "x"), "another task"),
    ],
)
def test_an_option_with_a_name_that_is_taken(brightness, monkeypatch, capsys, name, option, owner):
    monkeypatch.setattr(Brightness, "options", {name: option})
    assert main(["train", "--task", "brightness", "--epochs", "1"]) == 2
    expected = f"brightness has an option {name}, which is one of {owner} already: rename it"
    assert expected in capsys.readouterr().err


def test_a_flag_of_a_task(brightness, monkeypatch, tmp_path):
    monkeypatch.setattr(Brightness, "options", {"dark": tasks.Option(bool, False, "whether")})
    line = ["train", "--task", "brightness", "--limit", "4", "--epochs", "1", "--quiet"]
    for flags, expected in ((["--dark"], True), ([], False)):
        out = tmp_path / str(expected)
        assert main([*line, *flags, "--out", str(out)]) == 0
        assert json.loads((out / "config.json").read_text())["dark"] is expected
    assert main(["train", "--config", str(tmp_path / "True"), "--out", str(tmp_path / "2")]) == 0
    assert json.loads((tmp_path / "2" / "config.json").read_text())["dark"] is True


def test_a_task_without_datasets_or_words(brightness, monkeypatch, capsys):
    monkeypatch.setattr(Brightness, "datasets", ())
    assert main(["train", "--task", "brightness"]) == 2
    assert "brightness has no dataset of its own: pass --data FOLDER" in capsys.readouterr().err
    monkeypatch.delattr(Brightness, "describe")
    assert Brightness(input_shape=(1, 8, 8)).describe(np.ones(1)) == ""


@pytest.mark.parametrize(
    ("file", "task"),
    [
        ("labels.csv", "multi-label"),
        ("train/targets.csv", "regression"),
        ("keypoints.csv", "keypoints"),
        ("train/masks/a.png", "segmentation"),
        ("annotations/instances_train2017.json", "detection"),
        ("train/_annotations.coco.json", "detection"),
        ("Annotations/a.xml", "detection"),
    ],
)
def test_a_folder_for_another_task(tmp_path, capsys, file, task):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    (tmp_path / file).parent.parent.joinpath("images").mkdir(exist_ok=True)
    assert main(["train", "--data", str(tmp_path)]) == 2
    assert f"which is for {task}: pass --task {task}, or" in capsys.readouterr().err
    assert main(["train", "--task", "classification", "--data", str(tmp_path)]) == 2
    assert "which is for" not in capsys.readouterr().err


def test_the_network_and_the_data_say_the_task(brightness, monkeypatch):
    from xcnn.cli import config

    monkeypatch.setattr(Brightness, "networks", ("unet_of_test", "small_cnn"))

    def chosen(model=None, data=None, task=None):
        arguments = SimpleNamespace(model=model, data=data, task=task, loss=None, given=[])
        arguments.parser = SimpleNamespace(sections=list)
        arguments.optimizer, arguments.warmup = "sgd", None
        config.choose_task(arguments)
        return arguments.task, arguments.data

    assert chosen() == ("classification", "digits")
    assert chosen("unet_of_test") == ("brightness", "digits")
    assert chosen("small_cnn") == ("classification", "digits")
    assert chosen("small_cnn", "cross") == ("classification", "cross")
    assert chosen(task="brightness") == ("brightness", "digits")


def test_task_of_the_wrong_type():
    with pytest.raises((ArgumentError, DTypeError)):
        xcnn.report.Report("report.html", task=3)


def test_encode_image():
    PIL = pytest.importorskip("PIL.Image")
    import io

    rng = np.random.default_rng(0)
    for channels in (1, 3, 4):
        pixels = rng.integers(0, 256, (channels, 5, 7), np.uint8)
        read = np.asarray(PIL.open(io.BytesIO(data.encode_image(pixels))))
        np.testing.assert_array_equal(read.reshape(5, 7, channels), pixels.transpose(1, 2, 0))
    numbers = rng.integers(0, 3, (5, 7), np.uint8)
    palette = rng.integers(0, 256, (3, 3), np.uint8)
    image = PIL.open(io.BytesIO(data.encode_image(numbers, palette)))
    np.testing.assert_array_equal(np.asarray(image), numbers)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette[numbers])
    for wrong in (
        np.zeros((2, 5, 7), np.uint8),
        np.zeros((3, 5, 7)),
        np.zeros((3, 0, 7), np.uint8),
    ):
        with pytest.raises(ArgumentError, match="expected uint8"):
            data.encode_image(wrong)
