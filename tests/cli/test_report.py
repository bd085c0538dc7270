"""``xcnn report``, and ``xcnn train --report``."""

import json
import re
import shutil

import numpy as np
import pytest

from xcnn.cli.config import without_folders
from xcnn.cli.run_folder import RunFolder
from xcnn.training.folder import Lock, commit


def content_of(path):
    """The JSON in a page."""
    found = re.search(r'id="content">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


def test_report_of_a_run(run, trained, here):
    outcome = run("report", str(trained), "--out", "page.html", "--limit", "50")
    assert outcome.status == 0
    assert re.fullmatch(r"page\.html \(\d\.\d MB\)\n", outcome.out)
    content = content_of(here / "page.html")
    (found,) = content["runs"]
    assert content["title"] == "digits"
    assert found["missing"] == []
    assert len(found["history"]["columns"]["epoch"]) == 6
    assert (found["predictions"]["used"], found["predictions"]["total"]) == (50, 360)
    settings = dict(found["settings"])
    assert (settings["model"], settings["limit"], settings["data"]) == ("mlp", "400", "digits")


def test_report_is_written_to_the_first_run(run, trained, here):
    shutil.copytree(trained, here / "copy")
    assert run("report", "copy", str(trained)).out.startswith("copy/report.html")
    content = content_of(here / "copy" / "report.html")
    assert [found["name"] for found in content["runs"]] == ["copy", "digits"]
    assert content["comparison"]["settings"] == []
    assert run("report", "copy", str(here / "copy"), "--out", "page.html").status == 0
    names = [found["name"] for found in content_of(here / "page.html")["runs"]]
    assert names == ["copy", str(here / "copy")]


def test_report_of_a_folder_of_images_that_is_gone_later(run, shades, here):
    line = "train lenet5 --data shades --image-size 16 --epochs 1 --out run --quiet"
    assert run(f"{line} --augment flip").status == 0
    assert run("report run").status == 0
    (found,) = content_of(here / "run" / "report.html")["runs"]
    assert found["classes"] == ["dark", "light"]
    files = {example["file"] for example in found["predictions"]["examples"].values()}
    assert files <= {
        f"{name}/{i}.{('png', 'jpg')[i % 2]}" for name in found["classes"] for i in range(20)
    }
    assert len(found["data"]["augmented"]) == 6
    assert dict(found["settings"])["data"] == "shades"
    shades.rename(here / "moved")
    assert str(here) not in (here / "run" / "report.html").read_text()
    lost = run("report run --out lost.html")
    assert str(here) not in (here / "lost.html").read_text()
    assert lost.err.startswith("xcnn: warning: run: The data are not shown: ")
    assert run("report run --data moved --out page.html").err == ""
    assert content_of(here / "page.html")["runs"][0]["predictions"] == found["predictions"]
    (here / "moved").rename(shades)
    shutil.copy(shades / "train" / "dark" / "0.png", shades / "train" / "dark" / "new.png")
    assert run("report run").status == 0  # other pictures would be held out for testing
    (found,) = content_of(here / "run" / "report.html")["runs"]
    assert found["predictions"] is None
    assert str(here) not in (here / "run" / "report.html").read_text()
    assert "shades has changed since the run began: files: 40 (checksum" in found["missing"][0]
    shades.rename(here / "moved")
    assert run("report run").status == 0
    (found,) = content_of(here / "run" / "report.html")["runs"]
    assert found["predictions"] is None
    assert "The data are not shown" in found["missing"][0]
    assert found["architecture"]["nodes"]
    assert found["layers"]["weights"]
    assert found["history"]["columns"]["val_loss"]


def test_settings_of_a_page_name_no_folders():
    given = {"task": "style-transfer", "data": "/home/me/photos", "features": "/home/me/vgg.pth"}
    found = without_folders({**given, "style": "../me/sea.jpg", "loss": "style"})
    wanted = {"task": "style-transfer", "data": "photos", "features": "vgg.pth", "style": "sea.jpg"}
    assert found == {**wanted, "loss": "style"}


def test_report_without_a_network(run, trained, here):
    shutil.copytree(trained, here / "copy")
    (here / "copy" / "model.safetensors").unlink()
    (here / "copy" / "history.csv").unlink()
    assert run("report copy").status == 0
    (found,) = content_of(here / "copy" / "report.html")["runs"]
    assert "The network cannot be read" in found["missing"][0]
    assert found["history"]["charts"] == []
    assert found["data"]["sizes"] == {"train": 400, "test": 360}


def change_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_report_of_a_run_that_trains(run, trained, here):
    shutil.copytree(trained, here / "copy")
    change_config(here / "copy", epochs=9, report=True)
    with Lock(here / "copy"):
        assert run("report copy --out page.html").status == 0
        outcome = run("report copy")
        assert (outcome.status, "choose another file with --out" in outcome.err) == (2, True)
    (found,) = content_of(here / "page.html")["runs"]
    assert found["missing"] == ["The training still runs: this is its state after epoch 6."]
    epochs = [(t["value"], t["note"]) for t in found["overview"] if t["label"] == "Epochs"]
    assert epochs == [("6 of 9", "still training")]
    assert run("report copy").status == 0  # the training has ended


def test_report_of_a_run_that_stopped_early(run, here):
    line = "train mlp --limit 100 --epochs 30 --lr 1e-12 --patience 1 --report --quiet --out run"
    assert run(line).status == 0
    for again in ("", "report run"):
        assert not again or run(again).status == 0
        (found,) = content_of(here / "run" / "report.html")["runs"]
        (epochs,) = [t for t in found["overview"] if t["label"] == "Epochs"]
        assert epochs["note"] == "stopped early"


def test_network_and_history_are_of_the_same_epoch(trained, here):
    shutil.copytree(trained, here / "copy")
    folder, read = RunFolder(here / "copy"), []

    def load():
        if not read:  # an epoch ends after the history was read
            rows = (here / "copy" / "history.csv").read_bytes()
            with Lock(folder.path):
                commit(folder.path, {"history.csv": [rows]})
        read.append(len(folder.load_history()))
        return len(read)

    assert folder.together(load) == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is not a run folder"),
        (
            lambda folder: (folder / "history.csv").write_text("epoch\nx\n"),
            "history.csv is damaged",
        ),
    ],
)
def test_what_is_no_run(change, text, run, trained, here):
    shutil.copytree(trained, here / "copy")
    change(here / "copy")
    outcome = run("report copy")
    assert (outcome.status, text in outcome.err) == (2, True)
    assert not (here / "copy" / "report.html").exists()


def test_train_with_report(run, here):
    line = "train mlp --limit 300 --epochs 2 --quiet --device cpu"
    assert run(f"{line} --report --out with").status == 0
    assert run(f"{line} --out without").status == 0
    content = content_of(here / "with" / "report.html")
    assert content["live"] is None
    assert content["runs"][0]["history"]["columns"]["epoch"] == [1, 2]
    assert content["runs"][0]["classes"] == list("0123456789")
    for name in ("model.safetensors",):
        assert (here / "with" / name).read_bytes() == (here / "without" / name).read_bytes()
    columns = [
        np.genfromtxt(here / name / "history.csv", delimiter=",") for name in ("with", "without")
    ]
    np.testing.assert_array_equal(*(column[1:, :5] for column in columns))
    assert run("train --resume with --epochs 3 --quiet").status == 0  # goes on with the report
    content = content_of(here / "with" / "report.html")
    assert content["runs"][0]["history"]["columns"]["epoch"] == [1, 2, 3]
