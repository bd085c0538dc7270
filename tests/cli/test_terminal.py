"""The program's process: terminals of any size and encoding, pipes, Ctrl-C."""

import contextlib
import csv
import io
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from xcnn.cli import main, options, summary
from xcnn.training.callbacks import progress

from .runs import config

fcntl = pytest.importorskip("fcntl", reason="no POSIX terminals here")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")
PROGRAM = [sys.executable, "-W", "error", "-m", "xcnn"]
TRAIN = "train mlp --limit 60 --epochs 2 --device cpu"


VARIABLES = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


def run(line, **settings):
    return subprocess.run(
        [*PROGRAM, *line.split()], capture_output=True, text=True, timeout=120, **settings
    )


def in_a_terminal(line, columns, rows=24, **settings):
    """What the program shows in a terminal of this size, and its exit status."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment |= {"TERM": "xterm", **settings}
    process = subprocess.Popen(
        [*PROGRAM, *line.split()], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # Linux: the other end was closed
        while chunk := os.read(master, 65536):
            shown += chunk
    os.close(master)
    return shown.decode().replace("\r\n", "\n"), process.wait(60)


# -- the width -----------------------------------------------------------------------------


def too_long(shown):
    """Lines of more than 80 characters, except for words that fit in no line."""
    return [t for t in shown.splitlines() if len(t) > 80 and max(map(len, t.split())) <= 60]


@pytest.mark.parametrize("line", ["summary resnet18", "summary googlenet", "doctor", "datasets"])
def test_tables_fit_the_terminal(monkeypatch, capsys, line):
    shown = []
    for width in (80, None):  # a pipe has no width
        for module in (options, summary):
            monkeypatch.setattr(module, "terminal_width", lambda stream, width=width: width)
        assert main(line.split()) == 0
        shown.append(capsys.readouterr().out)
    narrow, wide = shown
    assert too_long(narrow) == []
    assert too_long(wide) != [] or line == "doctor"
    changed = set(narrow.split()) - set(wide.split())
    assert [word for word in changed if set(word) != {"─"}] == []  # the rule is shorter


def test_the_width_is_that_of_the_terminal():
    shown, status = in_a_terminal("summary resnet18", 80)
    assert (status, too_long(shown)) == (0, [])
    assert "memory" not in shown.splitlines()[0]
    shown, status = in_a_terminal("summary resnet18", 0)
    assert "memory" in shown.splitlines()[0]


# -- the table of a training ---------------------------------------------------------------

COLOUR = re.compile(r"\x1b\[\d+m")
TABLES = {  # the columns by the terminal's width
    200: "epoch train_loss train_acc val_loss val_acc val_AUROC val_F1 lr img/s time",
    80: "epoch train_loss train_acc val_loss val_acc val_AUROC val_F1 time",
    45: "epoch val_loss val_acc val_AUROC val_F1",
    30: "epoch val_loss val_acc",
    20: "epoch val_loss",
}


def what_remains(shown):
    """The lines, each as it was last written."""
    return [line.split("\r")[-1] for line in shown.removesuffix("\n").split("\n")]


@pytest.mark.parametrize("columns", TABLES)
def test_the_table_in_every_terminal(here, columns):
    shown, status = in_a_terminal(f"{TRAIN} --metrics auroc,f1 --out run", columns)
    assert status == 0
    plain = COLOUR.sub("", shown)
    written = [part for line in plain.split("\n")[1:-2] for part in line.split("\r")]
    assert max(map(len, written)) <= columns
    header, line, *rows = what_remains(plain)[1:-1]
    names = TABLES[columns].split()
    assert header.replace("train ", "train_").replace("val ", "val_").split() == names
    assert set(line) == {"─"}
    known = {"train_acc": "train_accuracy", "val_acc": "val_accuracy"}
    history = Path("run/history.csv").read_text().splitlines()
    for number, (row, values) in enumerate(zip(rows, csv.DictReader(history), strict=True), 1):
        cells = dict(zip(names, row.split(), strict=True))
        assert cells["epoch"] == f"{number}/2"
        numbers = {n: c.rstrip("*") for n, c in cells.items() if n.startswith(("train", "val"))}
        assert numbers == {n: f"{float(values[known.get(n, n.lower())]):.4f}" for n in numbers}
        assert (len(row), cells["val_loss"][-1]) == (len(header), "*")  # each is the best so far
    assert shown.count("\x1b[32m") == 2
    assert "  1/2   0% " in plain


def test_metrics_have_short_names_in_the_table():
    names = {
        "coco_map": "mAP",
        "map_50": "mAP@0.5",
        "psnr": "PSNR",
        "average_precision": "mAP",
        "psnr_bicubic": "psnr bicubic",
        "kl": "kl",
        "accuracy": "acc",
        "d_loss": "d loss",
        "top_5_accuracy": "top 5 acc",
        "recall": "recall",
    }
    assert {name: progress._short(name) for name in names} == names


def test_a_terminal_without_a_width_gets_lines():
    shown, status = in_a_terminal(TRAIN, 0, NO_COLOR="1")
    number = r"\d\.\d{4}"
    numbers = rf"loss {number}, accuracy {number}, val_loss {number}, val_accuracy {number}"
    for epoch in (1, 2):
        line = rf"^epoch {epoch}/2: {numbers}, lr [\d.]+, [\d.]+[kM]? img/s, \d\.\d s$"
        assert re.search(line, shown, re.MULTILINE)
    assert (status, "\r" in shown, "\x1b" in shown) == (0, False, False)


def test_colours_and_symbols_that_a_terminal_lacks():
    plain = {"PYTHONIOENCODING": "ascii", "TERM": "dumb"}
    shown, status = in_a_terminal(TRAIN, 80, **plain)
    assert (status, shown.isascii(), "\x1b" in shown) == (0, True, False)
    assert "\n------" in shown
    assert "*" in shown
    forced = run(TRAIN, env={**os.environ, "FORCE_COLOR": "1"})
    assert forced.stdout.count("\x1b[32mepoch ") == 2
    assert "\r" not in forced.stdout + forced.stderr
    none = run(TRAIN, env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b" not in none.stdout + none.stderr


def test_the_table_when_it_is_interrupted_and_resumed(here):
    line = "train mlp --limit 300 --batch-size 3 --epochs 2 --device cpu --out run"
    in_a_terminal(f"{line} --time-limit 0.02s", 80)
    assert len(config("run")) > 0
    shown, status = in_a_terminal("train --resume run", 80, NO_COLOR="1")
    _, going_on, _, _, *rows, last = what_remains(shown)
    assert re.fullmatch(r"going on with epoch 1/2 after batch \d+", going_on)
    part = int(going_on.split()[-1])
    assert f"\n\r  1/2 {part:3d}% " in shown  # the bar starts where the epoch was left
    assert [row.split()[0] for row in rows] == ["1/2", "2/2"]
    assert (status, "after 2 epochs" in last) == (0, True)


# -- encodings -----------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("line", ["--help", "train --help", "summary lenet5", "datasets", "doctor"])
def test_every_encoding(monkeypatch, line, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    with contextlib.suppress(SystemExit):  # after --help
        assert main(line.split()) == 0
    text = out.buffer.getvalue().decode(encoding)
    assert text.count("\n") > 5
    if line == "summary lenet5":
        sizes = {"ascii": "6x28x28", "latin-1": "6×28×28", "utf-8": "6×28×28"}
        assert sizes[encoding] in text
        assert text.splitlines()[1][:9] == ("─" if encoding == "utf-8" else "-") * 9


def test_names_that_the_encoding_lacks(trained, here):
    os.mkdir("für")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run(f"predict {trained} für/a.png", env=environment)
    assert done.returncode == 1
    assert done.stderr == "xcnn: error: no such file: f\\xfcr/a.png\n"


# -- pipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "unbuffered"), [("--help", ""), ("summary googlenet", ""), ("summary googlenet", "1")]
)
def test_a_reader_that_leaves_early(line, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [*PROGRAM, *line.split()],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("line", "status"), [("evaluate nowhere", 2), ("train --nope", 2), ("predict {} a b", 1)]
)
def test_nobody_reads_the_errors(trained, line, status):
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, *line.format(trained).split()]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stdout) == (status, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "summary", "googlenet"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "xcnn: error: cannot read or write: No space left on device\n"


def test_closed_streams():
    for closed in ("1", "1 2"):
        redirect = " ".join(f"{n}>&-" for n in closed.split())
        command = ["bash", "-c", f'"$@" {redirect}', "bash", *PROGRAM, "summary", "mlp"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


# -- Ctrl-C --------------------------------------------------------------------------------

# a meta path finder that calls for Ctrl-C when a module is about to be imported
AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("module", ["numpy", "xcnn.tensor", "xcnn.cli.train"])
@pytest.mark.parametrize("script", [False, True])
def test_ctrl_c_while_the_program_starts(here, module, script):
    (here / "sitecustomize.py").write_text(AT_IMPORT.format(module=module))
    path = os.pathsep.join([str(here), os.environ["PYTHONPATH"]])
    program = PROGRAM
    if script:  # as pip writes it
        text = "import sys\nfrom xcnn.cli import main\nsys.exit(main())\n"
        (here / "xcnn").write_text(text)
        program = [sys.executable, "xcnn"]
    done = subprocess.run(
        [*program, "train", "mlp", "--data", "moons", "--epochs", "1", "--quiet"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\nxcnn: stopped\n"


def test_a_program_that_imports_xcnn_handles_ctrl_c_itself():
    code = """
import signal
import xcnn
from xcnn.cli import main

assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert main(["--version"]) == 0
"""
    lines = "try:\n    main(['--version'])\nexcept SystemExit as exit:\n    assert not exit.code\n"
    code = code.replace('assert main(["--version"]) == 0\n', lines)
    code += "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# one that sends a signal some time after that
AFTER_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), {number}))
            signal.setitimer(signal.ITIMER_REAL, {delay})

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("line", ["summary vgg16", "evaluate {}"])
def test_signals_at_any_moment(here, trained, line, number):
    command = [*PROGRAM, *line.format(trained).split()]
    path = os.pathsep.join([str(here), os.environ["PYTHONPATH"]])
    for delay in (0.02, 0.2, 0.4):
        text = AFTER_IMPORT.format(number=int(number), delay=delay)
        (here / "sitecustomize.py").write_text(text)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        stopped = (130, "\nxcnn: stopped\n") if number == signal.SIGINT else (-number, "")
        faster = [(0, ""), (-signal.SIGALRM, "")]  # it ended before the alarm, or just then
        faster += [(-number, stopped[1])]  # Python ends so if it was executing a string just then
        assert (done.returncode, done.stderr) in [stopped, *faster]
