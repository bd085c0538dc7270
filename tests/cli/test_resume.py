"""``xcnn train --resume`` and ``--out`` on a bad day: damaged, moved and odd files, signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from xcnn import callbacks

from .runs import config, contents, history

TRAIN = "train mlp --limit 20 --epochs 2 --quiet --out run"


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)


def truncate(path):
    os.truncate(path, 1000)


def test_a_finished_run_takes_no_time(run):
    first = run(TRAIN).out
    assert re.search(r" after \d epochs in .* s", first)
    done = run("train --resume run --quiet")
    assert re.search(r" after \d epochs(: run|, best)", done.out)


@pytest.mark.parametrize("damage", [flip_bit, truncate])
def test_a_damaged_checkpoint(run, here, damage):
    run(TRAIN)
    whole = contents("run")["model.safetensors"]
    newest = callbacks.newest("run")
    damage(newest)
    done = run("train --resume run")
    assert done.status == 2
    assert f"{newest}" in done.err
    assert "to go on from the checkpoint before it, delete this file" in done.err
    newest.unlink()
    assert run("train --resume run").status == 0
    assert contents("run")["model.safetensors"] == whole


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "lr",
            0.5,
            "run: settings were edited since the run began: lr was 0.001; change them back",
        ),
        ("augment", "flip", "augment was 'none'"),
        ("mean", [0.5], "mean was [0.305]"),
        ("accumulate", "x", "is damaged: missing or wrong: accumulate"),
        ("log", 5, "missing or wrong: log"),
        ("freeze", 3, "missing or wrong: freeze"),
        ("schedule", "fast", "missing or wrong: schedule"),
        ("clip_norm", "x", "missing or wrong: clip_norm"),
        ("device", "cuda:99", "cuda"),
    ],
)
def test_an_edited_config(run, here, name, value, text):
    run(TRAIN)
    edited = {**config("run"), name: value}
    (here / "run/config.json").write_text(json.dumps(edited))
    done = run("train --resume run --epochs 3")
    assert done.status == 2
    assert text in done.err
    assert len(history("run")) == 2


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "train --best val_f1",
            "--best='val_f1': expected one of train_loss, train_accuracy",
        ),
        ("train --metrics foo", "argument --metrics: 'foo' is no metric: expected"),
        ("train --ema 2", "argument --ema: decay=2.0: expected a number from 0 to 1"),
        ("train --time-limit abc", "argument --time-limit: limit='abc': expected a time such as"),
        ("train --checkpoint-every 0steps", "argument --checkpoint-every: every='0steps': expect"),
        ("train --out=", "argument --out: expected a path, got an empty text"),
        ("train --resume=", "argument --resume: expected a path, got an empty text"),
        (
            "train --class-weight balanced --loss binary_cross_entropy",
            "--class-weight with --loss binary_cross_entropy: use cross_entropy or nll",
        ),
    ],
)
def test_refused_before_anything_is_read(run, here, line, text):
    done = run(line)
    assert (done.status, done.out) == (2, "")
    assert text in done.err
    assert not (here / "runs").exists()


def test_links_and_the_folder_itself_as_out(run, here, monkeypatch):
    os.symlink("target", "link")
    assert run("train mlp --limit 20 --epochs 1 --quiet --out link").status == 0
    assert len(history("target")) == 1
    assert os.path.islink("link")
    os.mkdir("inside")
    monkeypatch.chdir("inside")
    assert run("train mlp --limit 20 --epochs 1 --quiet --out .").status == 0
    assert sorted(os.listdir()) == ["checkpoints", *contents(".")]


def test_a_pipe_as_out(run, here):
    os.mkfifo("pipe")
    done = run("train mlp --limit 20 --out pipe")
    assert done.status == 2
    assert "--out pipe is a file: expected a folder" in done.err


def test_the_command_to_go_on_can_be_pasted(run, here):
    done = run("train mlp --limit 20 --quiet --time-limit 0s", "--out", "a run")
    assert "go on with: xcnn train --resume 'a run'\n" in done.out


def test_a_folder_of_images_that_moves_and_grows(run, here):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 10, 8, 8), np.uint8)
    for name, images in zip("ab", pixels, strict=True):
        os.makedirs(f"images/{name}")
        for i, image in enumerate(images):
            Image.fromarray(image).save(f"images/{name}/{i}.png")
    line = "train mlp --data images --image-size 8 --grey --quiet --epochs"
    run(f"{line} 1 --out run")
    run(f"{line} 1 --schedule constant --out part")
    run(f"{line} 2 --schedule constant --out whole")
    os.rename("images", "moved")
    assert "images is gone: if it was moved, pass --data" in run("train --resume part").err
    assert "is for a folder" in run("train --resume part --data digits").err
    assert run("train --resume part --data moved --epochs 2").status == 0
    assert contents("part")["model.safetensors"] == contents("whole")["model.safetensors"]
    assert run("evaluate part").status == 0
    Image.fromarray(pixels[0, 0]).save("moved/a/10.png")
    done = run("train --resume part --data moved --epochs 3")
    assert done.status == 2
    assert "has changed since the run began: files: 20 (checksum " in done.err
    assert "), now 21 (checksum " in done.err


def start(*arguments, **settings):
    program = [sys.executable, "-m", "xcnn", "train", "--out", "run", *arguments]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True, **settings)


def test_nobody_reads_the_lines(here):
    with start("mlp", "--limit", "20", "--epochs", "3") as program:
        program.stdout.readline()
        program.stdout.close()
    assert program.returncode == 0
    assert len(history("run")) == 3


def wait_for_an_epoch(program):
    until = time.monotonic() + 60
    while not os.path.exists("run/history.csv"):
        assert program.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_closed_terminal(here):
    def no_nohup():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    settings = {"preexec_fn": no_nohup, "stderr": subprocess.PIPE}
    with start("--data", "moons", "--epochs", "99999", **settings) as program:
        wait_for_an_epoch(program)
        program.send_signal(signal.SIGHUP)
        assert "xcnn: stopped: run holds a checkpoint" in program.communicate(timeout=60)[1]
    assert program.returncode == 129


def test_nohup(here):
    def nohup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with start("--data", "moons", "--epochs", "99999", preexec_fn=nohup) as program:
        wait_for_an_epoch(program)
        program.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=60)
    assert program.returncode == 143
