"""The documentation: its examples run, its commands parse, its links lead somewhere.

Python blocks of a page run in order, in one namespace. ``CONTEXTS`` prepares what a page cannot
contain, such as a folder of photos, and checks what its examples have made. ``>>>`` examples of a
docstring run in the namespace of their module, with what :func:`common` adds. The pages of the
tutorial have a runner of their own.
"""

import contextlib
import doctest
import functools
import importlib
import importlib.util
import json
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import backends, cli, communicator, extend, models, nn, optim

from .conftest import normal

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("needs a checkout", allow_module_level=True)

#: pages by their path in the repository; those of the tutorial have their own runner
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    if "tutorials" not in path.parts
}


def blocks(text, language):
    """The fenced blocks of a page in that language, each with the number of its first line."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
        yield text.count("\n", 0, match.start(1)), match[1]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Examples write into the current folder, find photos there, and register things."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            np.save(tmp_path / "photos" / name / f"{i}.npy", np.full((3, 64, 64), i, np.uint8))
    rows = [f"{name}/{i}.npy,{name}" for name in ("cat", "dog") for i in range(5)]
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["file,labels", *rows, ""]))
    (tmp_path / "shards").mkdir()
    monkeypatch.setattr(extend, "TASKS", dict(extend.TASKS))
    monkeypatch.setattr(backends, "_by_name", dict(backends._by_name))
    monkeypatch.setattr(backends.base, "by_type", dict(backends.by_type))
    emitters = dict(extend.EMITTERS)
    yield
    extend.EMITTERS.clear()
    extend.EMITTERS.update(emitters)


@contextlib.contextmanager
def optional_packages():
    """Skip a test at the first example whose package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    except xcnn.errors.MissingPackageError as error:
        pytest.skip(str(error.__cause__))


# -- pages


def library(names, printed):
    assert names["dw"].shape == (4, 3, 3, 3)
    assert names["model"].classifier[1].weight.shape == (10, 512, 1, 1)


def data(names, printed):
    assert names["batch"]["image"].shape == (8, 1, 16, 16)
    assert names["iris"].classes == ["setosa", "versicolor"]
    assert names["iris"].arrays[1].tolist() == [0, 1]
    assert len(names["rest"]) == 45 - 20
    assert names["weights"].shape == (10,)
    assert len(names["train"]) == len(names["photos"].train) == 8  # in shards


def training(names, printed):
    trainer = names["trainer"]
    assert names["probabilities"].shape == (200, 10)
    history = Path("run/history.csv").read_text(encoding="utf-8").splitlines()
    assert [line.partition(",")[0] for line in history] == ["epoch", "1", "2", "3"]
    log = [json.loads(line) for line in Path("logs/log.jsonl").read_text().splitlines()]
    assert len({row["epoch"] for row in log}) == 2
    for service, function in (("wandb", "log"), ("mlflow", "log_metrics")):
        names[f"to_{service}"](trainer, trainer.history[-1])
        (row,), settings = getattr(sys.modules[service], function).calls[-1]
        assert row["val_loss"] == trainer.history[-1].val_loss
        assert all(isinstance(value, int | float) for value in row.values())
        assert settings == {"step": trainer.history[-1].epoch}


def sklearn(names, printed):
    numbers = [float(line) for line in printed.splitlines() if re.fullmatch(r"[\d.]+", line)]
    about = [float(n) for n in re.findall(r"print.*# about ([\d.]+)", PAGES["docs/sklearn.md"])]
    np.testing.assert_allclose(numbers[: len(about)], about, atol=0.02)
    trial = types.SimpleNamespace(
        suggest_float=lambda name, low, high, log: 0.01,
        report=lambda value, step: None,
        should_prune=lambda: False,
    )
    assert 0.5 < names["objective"](trial) <= 1


def extending(names, printed):
    assert float(printed.splitlines()[0]) < 1e-6
    x = normal(2, 3, 8, 8, dtype="float32")
    example = nn.Sequential(names["Residual"](3))
    assert example(x).shape == x.shape
    assert names["swish"](x).shape == x.shape


def backend(names, printed):
    """It trains a network, with the numbers of the CPU."""
    x, target = normal(4, 1, 28, 28, dtype="float32"), np.arange(4)
    losses = {}
    for device, kind in (("cpu", np.ndarray), ("mine", names["MyArray"])):
        xcnn.manual_seed(0)
        model = models.create("lenet5").to(device)
        assert {type(p.data) for p in model.parameters()} == {kind}
        trainer = xcnn.Trainer(model, optim.Adam(model.parameters()))
        losses[device] = [epoch.train_loss for epoch in trainer.fit(x, target, epochs=3)]
    np.testing.assert_allclose(losses["mine"], losses["cpu"], rtol=1e-5)


def migrating(names, printed):
    ours, theirs = re.findall(r"loss (.*)", printed)
    assert float(ours) < 1
    assert abs(float(ours) - float(theirs)) < 1e-3


def metrics(names, printed):
    assert 0 <= float(printed.splitlines()[0]) <= 1
    inputs, target = np.float32([1, 2]), np.float32([1.05, 3])
    within = xcnn.metrics.create("within_10_percent")
    within.update(inputs, target)
    assert within.compute() == 0.5


def several_ranks(names, printed):
    communicator.set_current(communicator.SINGLE)
    assert names["everyone"] == [{"rank": 0}]
    assert names["total"].tolist() == [1, 1, 1]


#: what is checked after the examples of a page
CHECKS = {
    "docs/backends.md": backend,
    "docs/data.md": data,
    "docs/distributed.md": several_ranks,
    "docs/extending.md": extending,
    "docs/library.md": library,
    "docs/metrics.md": metrics,
    "docs/migrating.md": migrating,
    "docs/sklearn.md": sklearn,
    "docs/training.md": training,
}
#: packages of services, and what the examples call of each
STAND_INS = {"mlflow": "log_metrics", "optuna": "TrialPruned", "wandb": "log"}


@pytest.mark.parametrize("path", [p for p in PAGES if [*blocks(PAGES[p], "python")]])
def test_examples_of_pages(path, monkeypatch, capsys):
    for package, function in STAND_INS.items():
        calls = []
        note = functools.partial(lambda calls, *a, **settings: calls.append((a, settings)), calls)
        note.calls = calls
        module = types.ModuleType(package)
        setattr(module, function, note)
        monkeypatch.setitem(sys.modules, package, module)
    names = {}
    with optional_packages():
        for line, code in blocks(PAGES[path], "python"):
            # with as many empty lines before it as make a traceback name the line of the page
            exec(compile("\n" * line + code, str(ROOT / path), "exec"), names)
    CHECKS.get(path, lambda names, printed: None)(names, capsys.readouterr().out)


# -- docstrings

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted([*ROOT.glob("xcnn/**/*.py"), *ROOT.glob("xcnn/backends/**/*.py")])
    if ">>>" in path.read_text(encoding="utf-8")
]


def examples():
    """The docstrings with ``>>>`` examples, as doctest finds them."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except xcnn.errors.MissingPackageError:
            continue
        for test in finder.find(module, name, globs=vars(module)):
            if test.examples:
                yield test


def common():
    """What the examples of docstrings use without importing or making it."""
    xcnn.manual_seed(0)
    x, y = normal(16, 1, 28, 28, dtype="float32"), np.arange(16) % 10
    model = models.create("lenet5")
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    modules = {n: getattr(xcnn, n) for n in xcnn.__all__ if type(getattr(xcnn, n)) is type(xcnn)}
    return {
        **modules,
        **{"np": np, "xcnn": xcnn, "F": F, "x": x, "y": y},
        **{f"x_{part}": x for part in ("train", "val", "test")},
        **{f"y_{part}": y for part in ("train", "val", "test")},
        **{"loader": [(x[:8], y[:8]), (x[8:], y[8:])], "model": model, "optimizer": optimizer},
        "trainer": xcnn.Trainer(model, optimizer),
    }


class Runner(doctest.DebugRunner):
    """Raises at the first difference, and what an example raises."""

    def report_unexpected_exception(self, out, test, example, exc_info):
        raise exc_info[1]

    def report_failure(self, out, test, example, got):
        line = test.lineno + example.lineno + 1
        pytest.fail(
            f"{test.filename}:{line}\n{example.source}gave\n{got}instead of\n{example.want}"
        )


@pytest.mark.parametrize("test", [*examples()], ids=lambda test: test.name)
def test_examples_of_docstrings(test):
    test.globs = {**common(), **test.globs}
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    with optional_packages():
        Runner(optionflags=flags).run(test, clear_globs=False)


# -- commands


def commands():
    """The commands in ``bash`` blocks: page, line and words."""
    for path, text in PAGES.items():
        for first, block in blocks(text, "bash"):
            for i, line in enumerate(block.splitlines()):
                for command in re.split(r"&&|\|\|?|;", line):
                    if words := shlex.split(command, comments=True):
                        yield pytest.param(words, id=f"{path}:{first + i + 1}")


def test_commands_in_text(capsys):
    """Those in the text of a page may leave arguments out, as `xcnn predict` does."""
    text = re.sub(r"^```.*?^```", "", "\n".join(PAGES.values()), flags=re.M | re.S)
    for command in {*re.findall(r"`xcnn ([^`|\\]+)", text)}:
        try:
            cli._parser().parse_args(shlex.split(command.replace("COMMAND", "train")))
        except SystemExit as end:
            error = capsys.readouterr().err
            is_short = "required" in error or "expected one argument" in error
            assert not end.code or is_short, command  # noqa: PT017


@pytest.mark.parametrize("words", [*commands()])
def test_commands(words, capsys):
    """They name what there is, with options that it takes."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    while re.fullmatch(r"\w+=\S*", words[0]):
        words = words[1:]
    if words[0] == "mpiexec":
        words = words[words.index("-n") + 2 :]
    program, *rest = words[: words.index(">") if ">" in words else None]
    if program == "xcnn":
        try:
            cli._parser().parse_args(rest)
        except SystemExit as end:  # of --help
            assert end.code == 0, capsys.readouterr().err  # noqa: PT017
    elif program == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) or rest[1] in ("build", "twine", "venv"), rest[1]
    elif program == "python" and not rest[0].startswith("-"):
        assert (ROOT / rest[0]).is_file()
    elif program == "pip":
        named = re.findall(r"\[(\w+(?:,\w+)*)\]", " ".join(rest))
        assert {extra for names in named for extra in names.split(",")} <= extras.keys() | {"ctk"}


# -- what the pages name

_NAMED = re.compile(
    r"`((?:xcnn|nn|F|optim|callbacks|metrics|models|schedules)(?:\.\w+)+)(?:\(.*?\))?`"
)


#: what looks like a name
_PLACEHOLDERS = {"F.NAME", "F.x", "optim.cu", "xcnn.NAME"}


def test_names_in_code():
    """Names such as `nn.Conv2d` in the text of a page exist."""
    scope = {"xcnn": xcnn, "F": F, **{name: getattr(xcnn, name) for name in xcnn.__all__}}
    text = re.sub(r"^```.*?^```", "", "\n".join(PAGES.values()), flags=re.M | re.S)
    with optional_packages():
        names = {*_NAMED.findall(text)} - _PLACEHOLDERS
        assert not {name for name in names if not found(scope, name)}


def found(scope, name):
    first, *rest = name.split(".")
    value, path = scope[first], first
    for part in rest:
        path = f"{path}.{part}"
        if not hasattr(value, part):
            try:
                importlib.import_module(f"{value.__name__}.{part}")
            except ModuleNotFoundError as error:
                if error.name == f"{value.__name__}.{part}":
                    return False
                raise
        value = getattr(value, part)
    return True


def test_the_index_is_the_navigation():
    """docs/README.md, for those who read on GitHub, and mkdocs.yml."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = re.findall(r"^ *- (?:(.+): )?(\S+(?:\.md|/))(?:  #.*)?$", navigation, re.M)
    outside = {"index": "../README", "changelog": "../CHANGELOG"}
    outside |= {"contributing": "../CONTRIBUTING", "security": "../SECURITY"}
    listed = [
        (
            title,
            f"{outside.get(path[:-3], path[:-3])}.md" if path[-1] != "/" else f"{path}README.md",
        )
        for title, path in pages
    ]
    index = re.findall(r"\[(.+?)\]\((.+?)\)", PAGES["docs/README.md"])
    assert [path for _, path in index] == [path for _, path in listed]
    assert [title for title, _ in index][1:] == [title or "Reference" for title, _ in listed][1:]


def test_every_layer_is_listed():
    layers = {n for n in nn.__all__ if isinstance(getattr(nn, n), type)}
    layers -= {"Buffer", "Loss", "Module", "Parameter"}
    listed = set(re.findall(r"`(\w+)`", PAGES["docs/library.md"]))
    missing = {
        n for n in layers - listed if n[:-2] not in listed or n[-2:] not in ("1d", "2d", "3d")
    }
    assert not missing


def test_every_optimiser_is_listed():
    kinds = [n for n in optim.__all__ if isinstance(getattr(optim, n), type)]
    for name in {*kinds} - {"EMA", "Optimizer", "SWA"}:
        assert re.search(rf"\b{name}\b", PAGES["docs/library.md"]), name
