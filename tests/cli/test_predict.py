"""``xcnn predict`` on folders, and on files that are not images."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xcnn import tasks
from xcnn.cli import main
from xcnn.errors import ShapeError


def save(path, value=0):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    Image.fromarray(np.full((9, 9), value, np.uint8)).save(path)


def names(done):
    return [line.split("  ")[0].rstrip() for line in done.out.splitlines()]


def test_a_folder(run, trained):
    """All its images in the order of their names, at any depth, without hidden ones."""
    for i, name in enumerate(["b.png", "a/c.jpg", "a/B.png", "z/y/x.bmp"]):
        save(f"photos/{name}", 40 * i)
    np.save("photos/n.npy", np.zeros((4, 4)))
    for name in (".hidden.png", ".cache/a.png", "a/.b/c.png"):
        save(f"photos/{name}")
    with open("photos/notes.txt", "w") as file:
        file.write("not an image")
    save("alone.png")
    done = run(f"predict {trained} photos alone.png --top 1")
    inside = ["a/B.png", "a/c.jpg", "b.png", "n.npy", "z/y/x.bmp"]
    assert (done.status, done.err) == (0, "")
    assert names(done) == [*(f"photos/{name}" for name in inside), "alone.png"]
    first = done.out.splitlines()[0].split()[1:]
    assert run(f"predict {trained} photos/a/B.png --top 1").out.split()[1:] == first
    os.mkdir("empty")
    done = run(f"predict {trained} empty")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("xcnn: error: empty has no images (")


def test_bad_files_among_good_ones(run, trained):
    save("photos/1.png")
    save("photos/3.png")
    with open("photos/2.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\nnonsense")
    done = run(f"predict {trained} photos missing.png --top 1")
    assert (done.status, names(done)) == (1, ["photos/1.png", "photos/3.png"])
    bad, missing, total = done.err.splitlines()
    assert bad.startswith("xcnn: error: photos/2.png cannot be read as an image: ")
    assert missing == "xcnn: error: no such file: missing.png"
    assert total == "xcnn: error: 2 of 4 images failed"


def test_without_pillow(run, trained, monkeypatch):
    """One error, not one for each file."""
    save("photos/1.png")
    save("photos/2.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    done = run(f"predict {trained} photos")
    assert (done.status, done.out) == (2, "")
    assert done.err.endswith("pip install pillow\n")
    assert done.err.count("\n") == 1


def test_memory_does_not_grow_with_the_number_of_images(trained, here):
    """700 arrays of 600 KiB each: 410 MiB if all were kept."""
    pixels = np.zeros((600, 1024), np.uint8)
    for i in range(700):
        target = here / "photos" / f"{i}.npy"
        target.parent.mkdir(exist_ok=True)
        os.link(here / "photos" / "0.npy", target) if i else np.save(target, pixels)
    command = [sys.executable, "-m", "xcnn", "predict", str(trained), "photos", "--top", "1"]
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
    code += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert done.stdout.count("\n") == 700
    unit = 1024 if sys.platform == "linux" else 1
    assert int(done.stderr) * unit < 300 * 2**20


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """A run of segmentation; do not modify it."""
    folder = tmp_path_factory.mktemp("segmented") / "shapes"
    line = "train --task segmentation --limit 8 --epochs 1 --quiet --device cpu --out"
    assert main([*line.split(), str(folder)]) == 0
    return folder


@pytest.mark.filterwarnings("default:--out is not used")
def test_what_is_written(run, segmented, trained):
    save("photos/a.png")
    done = run(f"predict {segmented} photos")
    assert done.out.endswith(f"wrote 2 files to {Path('predictions', segmented.name)}\n")
    assert sorted(os.listdir(f"predictions/{segmented.name}")) == ["a.png", "a_mask.png"]
    save("photos/new\nline.png")
    done = run(f"predict {trained} photos --out x --top 1")
    assert done.err == "xcnn: warning: --out is not used: classification predicts no pictures\n"
    assert [line.split()[0] for line in done.out.splitlines()] == [
        "photos/a.png",
        "photos/new?line.png",
    ]


def test_pictures_are_not_overwritten(run, segmented):
    """Not by the prediction of another picture either, nor through a link."""
    save("same/a.png", 50)
    save("b.png", 60)
    os.symlink("../b.png", "same/b.png")
    os.symlink("same", "link")
    before = {name: Path(name).read_bytes() for name in ("same/a.png", "b.png")}
    for line, name in (
        ("same/a.png --out same", "same/a.png"),
        ("same/a.png --out link", "link/a.png"),
        ("b.png --out same", "same/b.png"),
    ):
        done = run(f"predict {segmented} {line}")
        error = f"{name} is one of the images to predict: choose another --out"
        assert (done.status, done.out, done.err) == (2, "", f"xcnn: error: {error}\n")
    assert before == {name: Path(name).read_bytes() for name in before}


def test_a_picture_that_cannot_be_predicted(run, trained, monkeypatch):
    def predict_one(self, trainer, pixels):
        if pixels.max() == 0:
            raise ShapeError("too small")
        return predicted(self, trainer, pixels)

    predicted = tasks.Classification.predict_one
    monkeypatch.setattr(tasks.Classification, "predict_one", predict_one)
    save("photos/a.png")
    save("photos/b.png", 100)
    done = run(f"predict {trained} photos")
    assert (done.status, names(done)) == (1, ["photos/b.png"])
    assert done.err.startswith("xcnn: error: photos/a.png: too small\n")


def test_options_in_use(run, segmented, here):
    line = "train mlp --task multi-label --limit 20 --epochs 1 --quiet --device cpu --out run"
    assert run(line).status == 0
    save("a.png")
    assert run("predict run a.png --threshold 1").out == "a.png  no label\n"
    assert len(run("predict run a.png --threshold 0").out.split()) > 5
    measured = [run(f"evaluate run --threshold {p}").out for p in (0, 1)]
    assert measured[0] != measured[1]
    done = run("predict run a.png --threshold 2")
    assert done.err == "xcnn: error: threshold=2.0: expected a number from 0 to 1\n"
    done = run(f"predict {segmented} a.png --threshold 0.5")
    assert "--threshold is for multi-label, not for segmentation: leave it out" in done.err
