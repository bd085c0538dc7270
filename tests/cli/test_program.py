"""The program as a whole: its parser, its help and its process."""

import subprocess
import sys

import pytest

import xcnn
from xcnn.cli.options import size as parse_size

COMMANDS = ["train", "evaluate", "predict", "export", "summary", "doctor", "warmup", "datasets"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(run, command):
    done = run(f"{command} --help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: xcnn {command}".rstrip())
    assert "None" not in done.out


def test_no_command_shows_the_help(run):
    done = run("")
    assert (done.status, done.err) == (2, "")
    assert done.out.startswith("usage: xcnn")
    assert all(f"\n    {command} " in done.out for command in COMMANDS)


def test_version(run):
    assert run("--version") == (0, f"xcnn {xcnn.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("fly", "invalid choice: 'fly'"),
        ("train resnet", "invalid choice: 'resnet' (did you mean 'resnet18'"),
        ("train --data cats", "argument --data: 'cats' is neither a folder nor a dataset (digits"),
        ("train --epochs 0", "argument --epochs: expected a whole number >= 1, got '0'"),
        ("train --epochs many", "argument --epochs: expected a whole number >= 1, got 'many'"),
        ("train --limit 1.5", "argument --limit: expected a whole number >= 1, got '1.5'"),
        ("train --batch-size -3", "argument --batch-size: expected a whole number >= 1, got '-3'"),
        ("train --seed -1", "argument --seed: expected a whole number >= 0, got '-1'"),
        ("train --optimizer lion", "argument --optimizer: invalid choice: 'lion'"),
        ("train --schedule linear", "argument --schedule: invalid choice: 'linear'"),
        ("train --warmup 0", "argument --warmup: expected a whole number >= 1, got '0'"),
        ("train --loss hinge", "argument --loss: invalid choice: 'hinge'"),
        ("predict run", "the following arguments are required: IMAGE"),
        ("summary mlp --input-shape 3,x", "--input-shape: expected a whole number >= 1, got 'x'"),
        ("predict run a.png --mean 0.5,x", "argument --mean: invalid numbers value: '0.5,x'"),
    ],
)
def test_refused_by_the_parser(run, line, text):
    done = run(line)
    assert (done.status, done.out) == (2, "")
    command = "xcnn" if line == "fly" else f"xcnn {line.split()[0]}"
    assert done.err.startswith(f"{command}: error: ")
    assert done.err.endswith(f"; see {command} --help\n")
    assert done.err.count("\n") == 1
    assert text.replace("'", "") in done.err.replace("'", "")  # Python 3.12 quotes less


@pytest.mark.parametrize("size", ["0", "4q", "GiB", "-1GiB", "1e3"])
def test_invalid_sizes(run, size):
    done = run(f"train --memory-limit={size}")
    assert done.status == 2
    assert f"expected a size such as 4GiB or 800MiB, got '{size}'" in done.err


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("1.5 gib", 3 * 2**29), ("800M", 800 * 2**20), ("7", 7), ("2kB", 2000)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


def test_python_m_xcnn():
    line = [sys.executable, "-W", "error", "-m", "xcnn", "evaluate", "nowhere"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("xcnn: error: nowhere is not a run folder")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early():
    line = f"{sys.executable} -m xcnn summary lenet5 | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
