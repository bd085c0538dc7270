"""``xcnn runs`` and ``xcnn compare``."""

import json
import os
import pathlib
import shutil

import pytest

from xcnn.training import folder

from .runs import config, history


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with runs of all kinds; do not modify it."""
    from xcnn.cli import main

    runs = tmp_path_factory.mktemp("made") / "runs"
    line = "train mlp --limit 60 --device cpu --quiet --out"
    assert main([*line.split(), str(runs / "first"), "--epochs", "2"]) == 0
    assert main([*line.split(), str(runs / "second"), "--epochs", "3", "--lr", "0.01"]) == 0
    shutil.copytree(runs / "second", runs / "stopped")
    settings = config(runs / "stopped")
    (runs / "stopped/config.json").write_text(json.dumps({**settings, "epochs": 9}))
    shutil.copytree(runs / "stopped", runs / "early")
    (runs / "early/config.json").write_text(json.dumps({**settings, "epochs": 9, "patience": 2}))
    rows = ["epoch,train_loss,train_accuracy,val_loss,val_accuracy,seconds"]
    rows += [f"{i},1,0.5,{loss},0.25,2" for i, loss in ((1, 0.5), (2, 0.75), (3, "nan"))]
    (runs / "early/history.csv").write_text("\n".join(rows))
    for name, damage in (("no-json", "config.json"), ("no-csv", "history.csv")):
        shutil.copytree(runs / "first", runs / name)
        (runs / name / damage).write_text("epoch\nx\n")
    (runs / "no-runs").mkdir()
    (runs / "file").touch()
    for age, name in enumerate(["no-csv", "no-json", "early", "stopped", "second", "first"]):
        for path in (runs / name).glob("*.*"):
            os.utime(path, (1e9 - age, 1e9 - age))
    return runs


def test_runs(run, made):
    done = run(f"runs {made}")
    assert (done.status, done.err) == (0, "")
    titles, line, *rows = done.out.splitlines()
    assert titles.split("  ")[0] == "name"
    names = ["first", "second", "stopped", "early", "no-json", "no-csv"]
    assert [row.split()[0] for row in rows[:6]] == names
    assert [row.split()[-1] for row in rows[:6]] == [
        *("finished", "finished", "stopped", "finished", "damaged", "damaged")
    ]
    assert len(line) == max(map(len, [titles, *rows[:6]]))
    epochs = history(made / "first")
    best = max(float(row["val_accuracy"]) for row in epochs)
    last = epochs[-1]
    assert rows[0].split()[1:7] == [
        *("mlp", "digits", "2/2", f"{float(last['val_accuracy']):.2%}", f"{best:.2%}"),
        f"{float(last['val_loss']):.4f}",
    ]
    assert rows[2].split()[3] == "3/9"
    assert rows[6].startswith(f"no-json: {made / 'no-json' / 'config.json'} is damaged")
    assert rows[7].startswith(f"no-csv: {made / 'no-csv' / 'history.csv'} is damaged: could not")


def test_runs_as_json(run, made):
    records = {r["name"]: r for r in json.loads(run(f"runs {made} --json").out)}
    assert list(records) == ["first", "second", "stopped", "early", "no-json", "no-csv"]
    early = records["early"]
    assert (early["seconds"], early["loss"], early["accuracy"]) == (6.0, None, 0.25)
    assert (early["epochs"], early["planned_epochs"], early["best_epoch"]) == (3, 9, 1)
    assert records["no-csv"]["model"] is None


def test_sorted_runs(run, made):
    records = json.loads(run(f"runs {made} --sort loss --json").out)
    losses = [record["loss"] for record in records]
    known = [loss for loss in losses if loss is not None]
    assert losses == [None] * 3 + sorted(known)
    assert json.loads(run(f"runs {made} --sort name --json").out)[0]["name"] == "early"
    assert "--sort: invalid choice: 'speed'" in run(f"runs {made} --sort speed").err


def test_a_run_that_is_being_trained(run, made):
    with folder.Lock(made / "stopped"):
        states = {r["name"]: r["state"] for r in json.loads(run(f"runs {made} --json").out)}
    assert states["stopped"] == "training"
    assert states["first"] == "finished"


def test_folders_without_runs(run, here, made):
    assert "there is no folder runs: train a network" in run("runs").err
    os.mkdir("runs")
    assert run("runs").out == "there are no runs in runs; train a network with: xcnn train\n"
    assert json.loads(run("runs --json").out) == []
    assert run(f"runs {made}/first").out.splitlines()[2].split()[0] == "first"  # one run


def test_runs_in_a_narrow_terminal(run, made, monkeypatch):
    from xcnn.cli import options

    monkeypatch.setattr(options, "terminal_width", lambda stream: 40)
    titles, _, *rows = run(f"runs {made}").out.splitlines()
    assert titles.split("  ")[0] == "name"
    assert titles.split()[-1] == "state"
    assert max(map(len, [titles, *rows[:6]])) <= 40


def test_compare(run, made):
    done = run(f"compare {made}/first {made}/second {made}/no-runs {made}/file")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["first", "second"]
    rows = {line[:13].strip(): line[13:].split() for line in lines[2:]}
    lr, blank, epochs = [line.split() for line in lines[2:5]]
    assert (lr, blank, epochs) == (["lr", "0.001", "0.01"], [], ["epochs", "2/2", "3/3"])
    results = {line.rsplit("  ", 2)[0].split("  ")[0]: line.split()[-2:] for line in lines[5:]}
    assert list(rows)[-1] == "state"
    accuracies = [float(history(made / n)[-1]["val_accuracy"]) for n in ("first", "second")]
    assert [float(t.rstrip("*%")) / 100 for t in results["test accuracy"]] == pytest.approx(
        accuracies, abs=1e-4
    )
    marks = [text.endswith("*") for text in results["test accuracy"]]
    assert marks == [a == max(accuracies) and min(accuracies) < a for a in accuracies]


def copy_of(run, place, rows="", **settings):
    """A run with other settings, and another history."""
    shutil.copytree(run, place)
    config = json.loads((run / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **settings}))
    if rows:
        (place / "history.csv").write_text(rows)


def test_only_what_means_the_same_has_a_best(run, made, here):
    copy_of(made / "second", here / "other", loss="nll")
    labels = {"task": "multi-label", "loss": "focal", "threshold": 0.5}
    copy_of(made / "second", here / "labels", **labels)
    wanted = {"second": {"test accuracy", "test loss"}, "other": {"test accuracy"}, "labels": set()}
    for name, starred in wanted.items():
        place = made / name if name == "second" else here / name
        lines = run(f"compare {made}/first {place}").out.splitlines()
        found = {line.partition("  ")[0] for line in lines if "*" in line}
        assert found & {"test accuracy", "test loss"} == starred


def test_runs_whose_loss_says_it_or_nothing(run, made, here):
    header = "epoch,train_loss,val_loss,val_reconstruction,val_kl,val_d_loss,val_g_loss,seconds"
    rows = f"{header}\n1,1,2,1.5,0.5,1,1,1\n2,1,3,2.5,0.5,2,1,1\n"
    for name, network, loss in (("vae", "vae", "elbo"), ("gan", "dcgan", "gan")):
        changed = {"task": name, "model": network, "loss": loss, "classes": []}
        for place in ("1", "2"):
            text = rows if place == "1" else rows.replace("2,1,3", "2,1,4")
            copy_of(made / "first", here / name / place, text, **changed)
    for line in run("runs vae").out.splitlines()[2:]:
        assert line.split()[4] in ("3.0000", "4.0000")
    assert "*" in run("compare vae/1 vae/2").out
    assert "*" not in run("compare gan/1 gan/2").out


def test_compare_as_json(run, made):
    names = [f"{made}/{name}" for name in ("first", "second", "no-json")]
    found = json.loads(run(f"compare {' '.join(names)} --json").out)
    assert found["settings"] == {"epochs": [2, 3, None], "lr": [0.001, 0.01, None]}
    assert [record["state"] for record in found["runs"]] == ["finished", "finished", "damaged"]


def test_compare_in_a_narrow_terminal(run, made, monkeypatch):
    from xcnn.cli import compare

    monkeypatch.setattr(compare, "terminal_width", lambda stream: 30)
    lines = run(f"compare {made}/first {made}/second {made}/stopped").out.splitlines()
    assert max(map(len, lines)) <= 30
    assert [line.split() for line in lines if "first" in line or "stopped" in line.split()[:1]]
    assert sum(line.startswith("test loss") for line in lines) > 1


def test_compare_needs_a_run(run, here):
    assert "error: . nowhere: expected run folders of xcnn train" in run("compare . nowhere").err


def test_two_trainings_start_in_one_folder_at_once(run, here, monkeypatch):
    """Neither finds a run there, but the other one is the first to move its folder there."""
    locks, real = [], folder.secrets.token_hex

    def token(size):
        if not locks:
            os.makedirs("run")
            (here / "run/config.json").touch()
            locks.append(folder.Lock(here / "run"))
        return real(size)

    monkeypatch.setattr(folder.secrets, "token_hex", token)
    line = "train mlp --limit 20 --epochs 1 --quiet --device cpu --out run"
    assert "run is in use by another training: choose another folder" in run(line).err
    locks[0].release()
    assert "--out run already holds a run (config.json): go on with it" in run(line).err


def test_an_unreadable_folder_is_damaged(run, made, monkeypatch):
    exists = pathlib.Path.exists

    def refuse(path):
        if path.parent.name == "first":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(pathlib.Path, "exists", refuse)
    lines = run(f"runs {made}").out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("first ")] == ["damaged"]


def test_odd_entries_are_damages(run, made, here):
    for name, change in (("patience", {"patience": "x"}), ("best", {"best": 3, "patience": 1})):
        shutil.copytree(made / "early", here / "runs" / name)
        path = here / "runs" / name / "config.json"
        path.write_text(json.dumps({**config(path.parent), **change}))
    shutil.copytree(made / "first", here / "runs/epochs")
    text = (made / "first/history.csv").read_text()
    (here / "runs/epochs/history.csv").write_text(text.replace("\n2,", "\nnan,"))
    rows = run("runs").out.splitlines()[2:5]
    assert [row.split()[-1] for row in rows] == ["damaged"] * 3
    assert run("compare runs/epochs runs/best").status == 0


def test_a_long_name_leaves_room_for_the_results(run, made, here, monkeypatch):
    from xcnn.cli import options

    shutil.copytree(made / "first", here / "runs" / ("x" * 120))
    monkeypatch.setattr(options, "terminal_width", lambda stream: 80)
    titles, _, row = run("runs").out.splitlines()
    assert {"epochs", "state"} <= set(titles.split())
    assert len(row) <= 80
    assert row.startswith("xxx")
    assert "..." in row


def test_names_cannot_control_the_terminal(run, here):
    out = "r\x1b[31mX"
    done = run("train mlp --limit 60 --epochs 1 --device cpu --quiet --out", out)
    assert done.status == 0
    (here / "empty\x1b[31m").mkdir()
    texts = [done.out, run("export", out, "m.onnx").out, run("runs", "empty\x1b[31m").out]
    assert not any("\x1b" in text for text in texts)
    assert "r?[31mX" in texts[0]
