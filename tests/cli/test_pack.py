"""``xcnn pack``, and the other commands on shards."""

import shutil

import pytest

from .runs import config, contents, history


def test_training_on_shards(run, shades, here):
    """They are a folder like any other, for training, evaluating, resuming and the report."""
    done = run("pack shades shards --shard-items 20 --seed 3")
    text = "shards: 32 images to train in 2 shards, 8 images to test in 1 shard\n"
    assert (done.status, done.out, done.err) == (0, text, "")
    line = (
        "train mlp --image-size 8 --epochs 2 --quiet --device cpu --schedule constant --data shards"
    )
    assert run(f"{line} --out run").status == 0
    found = config("run")
    assert (found["classes"], found["input_shape"]) == (["dark", "light"], [3, 8, 8])
    assert found["files"].startswith("3 (checksum ")
    assert len(history("run")) == 2
    for data in ("", "--data shards"):
        done = run(f"evaluate run {data}")
        assert done.out.startswith(f"{'shards' if data else here / 'shards'} test: accuracy ")
        assert " of 8)" in done.out
    # only test shards: all of them
    (here / "only").mkdir()
    for name in ("test-000000.tar", "classes.json"):
        shutil.copy(here / "shards" / name, here / "only")
    assert run("evaluate run --data only").out.startswith("only all images: accuracy ")
    assert run("report run").status == 0
    assert run("train --resume run --epochs 3 --quiet").status == 0
    assert run(f"{line} --epochs 3 --out whole").status == 0
    assert contents("run")["model.safetensors"] == contents("whole")["model.safetensors"]
    shutil.rmtree(here / "shards")
    assert run("pack shades shards --seed 4 --quiet").out == ""
    done = run("train --resume run --epochs 4")
    assert done.status == 2
    assert "shards has changed since the run began: files: 3 (checksum" in done.err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("shades shades", "shades is there already: expected a new or an empty folder"),
        ("moons new", "moons is for features: shards hold images with a class each"),
        ("shapes new", "shapes is for segmentation: shards hold images with a class each"),
        ("nothing new", "'nothing' is neither a folder nor a dataset"),
        ("boxes new", "boxes has Annotations, which is for detection: shards hold images with"),
        ("shades new --shard-size 0", "expected a size such as 4GiB"),
    ],
)
def test_refused(run, shades, here, line, text):
    (here / "boxes" / "Annotations").mkdir(parents=True)
    done = run(f"pack {line}")
    assert (done.status, done.out) == (2, "")
    assert text in done.err
    assert not (here / "new").exists()
    assert not (here / "new.partial").exists()
