"""``xcnn train --config`` and ``--print-config``."""

import os
import re
import tomllib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcnn import tasks
from xcnn.cli import config_file

from .runs import config, contents

TRAIN = "train mlp --limit 40 --epochs 2 --device cpu --quiet"


@given(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.text())
)
def test_values_in_toml(value):
    text = config_file._toml(value)
    found = tomllib.loads(f"x = {text}\n")["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "options",
    [
        "--seed 3 --optimizer sgd --schedule onecycle --metrics f1,auroc --log json --best val_f1",
        "--augment flip,shift --accumulate 2 --clip-norm 0.5 --ema 0.9 --class-weight balanced",
    ],
)
def test_the_same_run_again(run, here, options):
    assert run(f"{TRAIN} {options} --out one").status == 0
    printed = run(f"{TRAIN} {options} --print-config")
    assert (printed.status, printed.err) == (0, "")
    assert sorted(os.listdir()) == ["one"]  # nothing was trained
    (here / "settings.toml").write_text(printed.out)
    assert run("train --config settings.toml --out two").status == 0
    assert run("train --config one --quiet --out three").status == 0
    of_run = run("train --config one --print-config").out
    (here / "of-run.toml").write_text(of_run)
    assert run("train --config of-run.toml --quiet --out four").status == 0
    for folder in ("two", "three", "four"):
        assert config(folder) == config("one")
        assert contents(folder)["model.safetensors"] == contents("one")["model.safetensors"]


def test_the_same_run_on_a_folder_of_images(run, here, shades):
    line = "train small_cnn --data shades --image-size 16 --grey --skip-unreadable --epochs 1"
    assert run(f"{line} --freeze 0.* --device cpu --quiet --out one").status == 0
    assert run("train --config one --quiet --out two").status == 0
    assert config("two") == config("one")
    assert contents("two")["model.safetensors"] == contents("one")["model.safetensors"]


#: options of runs of each task
OF_TASKS = {
    "regression": "mlp --loss huber",
    "multi-label": "mlp --threshold 0.3",
    "gan": "--smoothing 0.1",
    "denoising": "--noise 0.2 --code 8",
    "keypoints": "--sigma 2",
    "super-resolution": "espcn --upscale 3",
    "style-transfer": "--style a.png --features vgg.pth --tv-weight 0.1",
}


@pytest.mark.parametrize("name", tasks.names())
def test_settings_of_tasks_in_toml(run, here, name):
    line = f"train --task {name} {OF_TASKS.get(name, '')} --limit 8 --epochs 1 --device cpu"
    printed = run(f"{line} --print-config")
    assert (printed.status, printed.err) == (0, "")
    (here / "settings.toml").write_text(printed.out)
    assert run("train --config settings.toml --print-config") == printed


@pytest.mark.parametrize("name", ["regression", "multi-label", "gan", "denoising"])
def test_the_same_run_of_a_task(run, name):
    line = f"train --task {name} {OF_TASKS[name]} --limit 8 --epochs 1 --device cpu --quiet"
    assert run(f"{line} --out one").status == 0
    done = run("train --config one --quiet --out two")
    assert (done.status, done.err) == (0, "")
    assert config("two") == config("one")
    assert contents("two")["model.safetensors"] == contents("one")["model.safetensors"]


def test_every_setting_is_printed(run):
    help = run("train --help-all").out
    options = set(re.findall(r"^  (?:-h, )?--([a-z-]+)", help, re.MULTILINE))
    options -= {"help", "help-all", "config", "print-config", "resume"}
    text = run("train --print-config").out
    names = set(re.findall(r"^(?:# )?(\w+) =", text, re.MULTILINE))
    assert names == {"model"} | {option.replace("-", "_") for option in options}
    values = tomllib.loads(text)
    assert (values["model"], values["epochs"], values["lr"]) == ("lenet5", 20, 0.001)
    uncommented = re.sub(r"^# (\w+ =)", r"\1", text, flags=re.MULTILINE)
    assert max(map(len, uncommented.splitlines())) <= 100


def test_options_of_the_command_line_come_first(run, here):
    lines = ["batch-size = 16", "lr = 1", "limit = 40", "epochs = 1", 'freeze = ["x"]']
    (here / "a.toml").write_text("\n".join(['model = "mlp"', "quiet = true", *lines]))
    done = run("train --config a.toml --lr 0.5 --freeze 1.* --out run --device cpu --data-dir .")
    assert (done.status, done.err) == (0, "")
    found = config("run")
    assert [found[k] for k in ("model", "batch_size", "lr", "freeze")] == ["mlp", 16, 0.5, ["1.*"]]
    assert done.out.count("\n") == 1
    done = run("train lenet5 --config a.toml --print-config")
    assert '\nmodel = "lenet5" ' in done.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epocs = 3", "a.toml: unknown setting epocs (did you mean 'epochs'?)"),
        ("zzz = 3", "a.toml: unknown setting zzz: expected one of model, task, "),
        ('epochs = "3"', "a.toml: epochs = '3': expected a whole number"),
        ("epochs = true", "a.toml: epochs = True: expected a whole number"),
        ("epochs = 0", "a.toml: epochs = 0: expected a whole number >= 1, got '0'"),
        ("lr = [1]", "a.toml: lr = [1]: expected a number"),
        ("grey = 1", "a.toml: grey = 1: expected true or false"),
        ("data = 5", "a.toml: data = 5: expected a string"),
        ('data = "minst"', "'minst' is neither a folder nor a dataset (did you mean 'mnist'?)"),
        (
            'optimizer = "adm"',
            "a.toml: optimizer = 'adm': invalid choice: 'adm' (did you mean 'adam'",
        ),
        ("metrics = [1]", "a.toml: metrics = [1]: expected a list of strings"),
        ('metrics = ["f2"]', "a.toml: metrics = ['f2']: 'f2' is no metric: expected"),
        ("ema = 2.5", "a.toml: ema = 2.5: decay=2.5: expected a number from 0 to 1"),
        ("batch_size = 2\nbatch-size = 3", "a.toml: batch_size is set twice, with - and with _"),
        ("[training]\nepochs = 3", "a.toml: unknown setting training"),
        ("epochs = ", "a.toml is no TOML file: Invalid value (at end of document). See what xcnn"),
        ("epochs = 1\nepochs = 2", "a.toml is no TOML file: Cannot overwrite a value"),
    ],
)
def test_refused(run, here, text, message):
    (here / "a.toml").write_text(text)
    done = run("train --config a.toml")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_files_that_are_missing(run, here):
    assert run("train --config a.toml").err == "xcnn: error: no such file: a.toml\n"
    assert "is not a run folder" in run("train --config .").err
    run(f"{TRAIN} --out run")
    assert "leave out --config" in run("train --resume run --config run").err
    assert "leave out --print-config" in run("train --resume run --print-config").err


def test_a_choice_of_the_data_is_left_open(shades):
    arguments = SimpleNamespace(
        task="classification", data=str(shades), data_dir=None, limit=None, model=None, epochs=None,
        optimizer="lion", lr=None, weight_decay=0.5,
    )  # fmt: skip
    config_file.fill_in(arguments)
    assert (arguments.model, arguments.epochs) == (None, None)
    assert (arguments.lr, arguments.weight_decay) == (5e-4, 0.5)
