"""``xcnn predict`` on folders, and on files that are not images."""

import os
import subprocess
import sys

import numpy as np
from PIL import Image


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
