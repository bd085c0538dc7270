"""The program as a whole: its parser, its help and its process."""

import argparse
import os
import re
import subprocess
import sys

import pytest

import xcnn
from xcnn.cli import COMMANDS as GROUPS
from xcnn.cli import _name, _parser
from xcnn.cli.options import Parser, print_error
from xcnn.cli.options import size as parse_size

COMMANDS = [_name(module) for modules in GROUPS.values() for module in modules]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(run, command):
    """It fits one screen, and has examples that the parser takes."""
    done = run(f"{command} --help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: xcnn {command}".rstrip())
    assert "None" not in done.out
    lines = done.out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    examples = re.findall(r"^(?:  |example: )(xcnn .*)$", done.out, re.MULTILINE)
    assert len(examples) in ((1,) if not command else (2, 3, 4))
    for example in examples:
        program, *words = re.split(" [>(]", example)[0].split()
        assert program == "xcnn"
        words = ["digits" if word in ("photos/", "shards/") else word for word in words]
        assert _parser().parse_args(words).run is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_help_all(run, command):
    """It has every option and, as the short one, no option that there is not."""
    parser = _parser().parsers()[command]
    known = {option for action in parser._actions for option in action.option_strings}
    long, short = (run(f"{command} --help{more}") for more in ("-all", ""))
    assert (long.status, long.err) == (0, "")
    rows = re.compile(r"^  (-[\w-]+)(?:, (--[\w-]+))?", re.MULTILINE)
    assert {option for row in rows.findall(long.out) for option in row if option} == known
    shown = {row[0] for row in rows.findall(short.out)}
    assert shown <= known
    if parser.common is None:
        assert shown == known - {"-h", "--help", "--help-all"}
    assert max(map(len, long.out.splitlines())) < 85


def test_options_in_groups(run):
    titles = re.findall(r"^(\S.*):$", run("train --help-all").out, re.MULTILINE)
    assert titles == [
        *("positional arguments", "options", "task", "data", "training", "optimiser"),
        *("initial and frozen weights", "device", "several processes, such as one for each GPU"),
        "measuring and logging",
        *("run folder, interrupting and repeating", "examples"),
    ]


def test_no_command_shows_the_help(run):
    done = run("")
    assert (done.status, done.err) == (2, "")
    assert done.out.startswith("usage: xcnn")
    assert all(f"\n  {command} " in done.out for command in COMMANDS)


def test_settings_that_are_wrong_when_the_program_starts():
    for program in ([sys.executable, "-m", "xcnn"], [sys.executable, "-m", "xcnn", "doctor"]):
        environment = {**os.environ, "XCNN_NATIVE": "quick"}
        done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("xcnn: error: XCNN_NATIVE=quick: expected 0, ")
        assert done.stderr.count("\n") == 1


def test_version(run):
    assert run("--version") == (0, f"xcnn {xcnn.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("fly", "invalid choice: 'fly'"),
        ("trian", "argument COMMAND: invalid choice: 'trian' (did you mean 'train'?); see"),
        ("train lenet6", "argument MODEL: invalid choice: 'lenet6' (did you mean 'lenet5'?); see"),
        ("train VGG", "'VGG' (did you mean 'vgg11' or 'vgg11_bn' or 'vgg13'?); see"),
        ("train nothing", "invalid choice: 'nothing' (choose from "),
        ("train --epocs 3", "unknown option --epocs (did you mean '--epochs'?); see"),
        ("train --epoch 3", "unknown option --epoch (did you mean '--epochs'?); see"),
        ("train --epocs=3", "unknown option --epocs (did you mean '--epochs'?); see"),
        ("evaluate run --zzz", "unknown option --zzz; see"),
        ("--versoin train", "unknown option --versoin (did you mean '--version'?); see"),
        ("doctor now please", "unexpected arguments: now please"),
        ("evaluate run -x", "unexpected arguments: -x"),
        ("train --data cats", "argument --data: 'cats' is neither a folder nor a dataset (digits"),
        ("train --data minst", "is neither a folder nor a dataset (did you mean 'mnist'?)"),
        ("train --optimizer adan", "invalid choice: 'adan' (did you mean 'adam'?)"),
        ("train --epochs 0", "argument --epochs: expected a whole number >= 1, got '0'"),
        ("train --epochs many", "argument --epochs: expected a whole number >= 1, got 'many'"),
        ("train --limit 1.5", "argument --limit: expected a whole number >= 1, got '1.5'"),
        ("train --batch-size -3", "argument --batch-size: expected a whole number >= 1, got '-3'"),
        ("train --seed -1", "argument --seed: expected a whole number >= 0, got '-1'"),
        ("train --optimizer tiger", "argument --optimizer: invalid choice: 'tiger'"),
        ("train --schedule zigzag", "argument --schedule: invalid choice: 'zigzag'"),
        ("train --warmup 0", "argument --warmup: expected a whole number >= 1, got '0'"),
        ("train --precision int8", "argument --precision: invalid choice: 'int8'"),
        ("predict run", "the following arguments are required: IMAGE"),
        ("summary mlp --input-shape 3,x", "--input-shape: expected a whole number >= 1, got 'x'"),
        (
            "predict run a.png --mean 0.5,x",
            "argument --mean: expected numbers separated by commas, got '0.5,x'",
        ),
        (
            "train --metrics f2",
            "argument --metrics: 'f2' is no metric: expected some of auroc",
        ),
    ],
)
def test_refused_by_the_parser(run, line, text):
    done = run(line)
    assert (done.status, done.out) == (2, "")
    command = f"xcnn {line.split()[0]}" if line.split()[0] in COMMANDS else "xcnn"
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


def test_reasons_against_choices():
    """A parser can say why it does not take a value that users may expect."""
    parser = Parser(prog="p")
    parser.add("model MODEL", "", choices=["a", "b"], refused={"c": "c outputs images: use a or b"})
    with pytest.raises(argparse.ArgumentError, match="c outputs images: use a or b"):
        parser._check_value(parser._actions[-1], "c")
    with pytest.raises(argparse.ArgumentError, match=r"'d' \(choose from a, b\)"):
        parser._check_value(parser._actions[-1], "d")


def test_summary_suggests_a_model(run):
    done = run("summary lenet6")
    assert done.err == (
        "xcnn: error: 'lenet6' is not a model, a run folder or a file that ends in .onnx (did you "
        "mean 'lenet5'?)\n"
    )
    assert "; the models are alexnet, autoencoder, " in run("summary zzz").err


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: xcnn.models.create("LeNet6"), "(did you mean 'lenet5'?)"),
        (lambda: xcnn.data.load("minst"), "(did you mean 'mnist'?)"),
        (lambda: xcnn.nn.activation("leaky_rleu"), "(did you mean 'leaky_relu'?)"),
        (lambda: xcnn.nn.MSELoss(reduction="avg_"), "expected one of mean, sum, none"),
        (
            lambda: xcnn.nn.MSELoss(reduction=None),
            "reduction=None: expected one of mean, sum, none (did you mean 'none'?)",
        ),
        (lambda: xcnn.backends.get("cpu").precision("float61"), "(did you mean 'float16'?)"),
    ],
)
def test_suggestions_of_the_library(call, text):
    with pytest.raises(xcnn.errors.ArgumentError) as raised:
        call()
    assert str(raised.value).endswith(text)


def test_a_file_that_cannot_be_written(run, trained):
    done = run(f"export {trained} /proc/x.onnx")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("xcnn: error: cannot write /proc/x.onnx: ")
    assert "Errno" not in done.err


def test_errors_of_the_system_name_the_file(capsys):
    print_error(PermissionError(13, "Permission denied", "a/b"))
    print_error(OSError(28, "cannot write: No space left on device", "a/c"))
    print_error(OSError("no device"))
    print_error(MemoryError("2 TiB"))
    assert capsys.readouterr().err.splitlines() == [
        "xcnn: error: cannot open a/b: Permission denied",
        "xcnn: error: cannot write a/c: No space left on device",
        "xcnn: error: no device",
        "xcnn: error: out of memory: 2 TiB",
    ]
