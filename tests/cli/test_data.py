"""The data of the commands: augmentation, folders of images, ``xcnn datasets``."""

import os
import re
import shutil

import pytest

from xcnn import data

from .runs import config, contents, history


def test_datasets(run):
    done = run("datasets")
    assert done.status == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == data.names()
    assert lines[0].endswith("1,437 to train, 360 to test")
    assert lines[1].strip() == "embedded"
    assert lines[3].strip().startswith("not present; load() would download 11.6 MB to")
    assert lines[6].endswith("10 classes; 50,000 to train, 10,000 to test")


def test_datasets_of_which_a_part_is_there(run, here):
    (here / "cifar10").mkdir()
    for name, count in (("data_batch_1.bin", 2000), ("test_batch.bin", 10000)):
        (here / "cifar10" / name).write_bytes(bytes(count * 3073))
    lines = run("datasets --data-dir .").out.splitlines()
    assert lines[6].endswith("10 classes; 2,000 of 50,000 to train, 10,000 to test")
    assert lines[7].strip() == "found in cifar10"


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_augmented_training(run, device):
    """Reproducible, in the config, and different from training without."""
    mixed = "standard,color,mixup"
    for folder, names in (("a", mixed), ("b", mixed), ("c", "none")):
        line = f"train mlp --limit 80 --epochs 2 --quiet --device {device} --out {folder}"
        assert run(f"{line} --augment {names}").status == 0
    assert config("a")["augment"] == "affine,color,mixup"
    assert config("c")["augment"] == "none"
    a, b, c = (contents(folder)["model.safetensors"] for folder in "abc")
    assert a == b != c


def test_augmentation_is_the_same_on_every_device(run, strict):
    for device in ("cpu", "strict"):
        line = f"train mlp --limit 80 --epochs 2 --quiet --augment affine,cutmix --device {device}"
        assert run(f"{line} --out {device}").status == 0
    losses = [[float(row["train_loss"]) for row in history(d)] for d in ("cpu", "strict")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_test_images_are_not_augmented(run):
    line = "train mlp --limit 50 --epochs 1 --quiet --out run"
    assert run(f"{line} --augment rotate,erase").status == 0
    accuracy = float(history("run")[-1]["val_accuracy"])
    assert run("evaluate run --limit 50").out.startswith(f"digits test: accuracy {accuracy:.2%} (")


def test_augmentation_help(run):
    text = " ".join(run("train --help-all").out.split())
    for name in ("flip (", "mixup (", "standard: the default for the dataset"):
        assert name in text


@pytest.mark.parametrize("grey", [False, True])
def test_a_folder_of_images(run, shades, grey):
    line = "train small_cnn --data shades --image-size 16 --epochs 8 --lr 0.01 --device cpu"
    done = run(f"{line} --augment standard" + " --grey" * grey)
    assert (done.status, done.err) == (0, "")
    assert f"on {shades}: 32 to train, 8 to test, on cpu" in done.out
    settings = config("runs/small_cnn-shades-1")
    assert settings["data"] == str(shades)
    assert settings["classes"] == ["dark", "light"]
    assert settings["input_shape"] == ([1] if grey else [3]) + [16, 16]
    assert settings["augment"] == "flip,crop"
    assert 0.4 < settings["mean"][0] < 0.55
    assert len(settings["mean"]) == len(settings["std"]) == (1 if grey else 3)
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
    whole = r"other all images: accuracy [\d.]+% \(\d+ of 40\), loss "  # some were trained on
    assert re.match(whole, run("evaluate run --data other").out)
    assert " of 8), loss " in run("evaluate run --data shades").out
    os.rename("other/dark", "other/black")
    done = run("evaluate run --data other")
    assert done.status == 2
    assert "the classes black, expected some of dark, light" in done.err
    done = run("evaluate run --data digits")
    assert "--data digits has inputs [1, 32, 32] and 10 classes, but the network takes" in done.err


def test_a_folder_with_test_images(run, shades):
    shutil.copytree(shades / "train", shades / "val")
    done = run("train mlp --data shades --image-size 8 --epochs 1 --limit 30 --out run")
    assert "30 to train, 30 to test" in done.out
    assert " of 40), loss " in run("evaluate run").out


@pytest.mark.filterwarnings("default::UserWarning")
def test_files_that_are_not_images(run, shades):
    (shades / "train" / "dark" / "broken.png").write_text("no picture")
    line = "train mlp --data shades --image-size 8 --epochs 1 --quiet --out run"
    done = run(line)
    assert done.status == 2
    assert "broken.png cannot be read as an image" in done.err
    assert "--skip-unreadable" in done.err
    assert not os.path.exists("run")
    skipped = run(f"{line} --skip-unreadable")
    assert skipped.status == 0
    warning = (
        rf"xcnn: warning: {re.escape(os.path.abspath('shades'))}\S*: 1 of 41 files are left out:\n"
    )
    assert re.match(warning, skipped.err)
    assert "UserWarning" not in skipped.err
    assert config("run")["on_error"] == "skip"
    evaluated = run("evaluate run")
    assert " of 8), loss " in evaluated.out
    assert re.match(warning, evaluated.err)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--augment flop", "augment='flop': expected names separated by commas, of flip, vflip"),
        ("--augment none,flip", "augment='none,flip'"),
        ("--data moons --augment flip", "augment='flip' changes images, not features: use none"),
        (
            "--augment flip,mixup --loss nll",
            "mixup mixes labels, which --loss nll does not support",
        ),
        ("--grey", "--grey applies to a folder of images, not to digits"),
        ("--image-size 32", "--image-size applies to a folder of images, not to digits"),
        ("--skip-unreadable", "--skip-unreadable applies to a folder of images"),
        ("--data shades --data-dir .", "--data-dir applies to named datasets"),
        ("--data nowhere", "'nowhere' is neither a folder nor a dataset (digits, mnist, "),
        ("--data shades/train/dark", "dark has no folders"),
    ],
)
def test_data_options_that_do_not_fit(run, shades, line, text):
    done = run(f"train {line} --epochs 1 --out run")
    assert (done.status, done.out) == (2, "")
    assert text in done.err
    assert not os.path.exists("run")
