"""Files that every released version wrote still load; see ``tests/saved_files.py``."""

import csv
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import xcnn
from xcnn import callbacks
from xcnn.cli import main

from . import saved_files

VERSIONS = sorted(path.name for path in saved_files.FOLDER.iterdir())


def history(run):
    with open(run / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_this_version_has_its_files():
    assert xcnn.__version__ in VERSIONS


@pytest.fixture(params=VERSIONS)
def saved(request, tmp_path):
    """A copy of the files of one version."""
    return shutil.copytree(saved_files.FOLDER / request.param, tmp_path / "saved")


def test_the_model(saved):
    model = xcnn.load(saved / "run" / "model.safetensors")
    for name, array in load_file(saved / "run" / "model.safetensors").items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    expected = json.loads((saved / "expected.json").read_text())["predictions"]
    predicted = xcnn.Trainer(model).predict(saved_files.X)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-6)


def test_the_checkpoint(saved):
    path = callbacks.newest(saved / "run")
    arrays = load_file(path)
    model = xcnn.models.mlp(2, (2,))
    trainer = xcnn.Trainer(model, "adam", schedule=None)
    state = xcnn.training.state.read(path)
    trainer.load_state_dict({**state, "schedule": None})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, arrays[f"model/{name}"])
    rows = history(saved / "run")
    assert [epoch.train_loss for epoch in trainer.history] == [float(r["train_loss"]) for r in rows]
    assert trainer.steps == len(rows)  # one batch each


def test_resuming_the_run(saved, capsys):
    run = saved / "run"
    before = history(run)
    assert main(["train", "--resume", str(run), "--epochs", "5", "--device", "cpu"]) == 0
    after = history(run)
    # what later versions add to the history is not known of these epochs
    assert [{name: row[name] for name in before[0]} for row in after[: len(before)]] == before
    assert [row["epoch"] for row in after] == ["1", "2", "3", "4", "5"]
    assert "going on with epoch 4/5\n" in capsys.readouterr().out
