"""Fixtures: a test that takes ``backend`` runs once per device.

``cpu`` is plain NumPy, ``native`` has the compiled kernels, where they were compiled.
``strict`` is a CUDA backend over the stand-in for CuPy in tests/strict, whose kernels g++ compiles;
it is left out without g++. ``cuda`` is included if a GPU responds.
"""

import gc
import itertools
import json
import os
import pathlib
import random
import re
import signal
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest

import xcnn
from xcnn import backends
from xcnn.backends import cuda
from xcnn.testing import TOLERANCES, assert_close

from . import shim
from .browser import browser, visit  # noqa: F401  (fixtures)
from .strict import cupy as strict_cupy

hypothesis.settings.register_profile(
    "xcnn",
    deadline=None,
    derandomize=True,
    max_examples=int(os.environ.get("XCNN_EXAMPLES", "25")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("xcnn")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

PACKAGE = pathlib.Path(xcnn.__file__).parent
# rglob does not follow the link backends/ of a checkout
SOURCES = sorted({*PACKAGE.rglob("*.py"), *(PACKAGE / "backends").rglob("*.py")})


class StrictBackend(cuda.CudaBackend):
    """The CUDA backend over the stand-in, as device ``strict``."""

    def __init__(self):
        super().__init__(strict_cupy)
        self.device = "strict"


STRICT = backends.add_device(StrictBackend())
backends.register(strict_cupy.ndarray, lambda array: STRICT)
NO_STRICT = "" if shim.available() is True else f"no stand-in for a GPU: {shim.available()}"
DEFAULT = backends.get("cpu")
NATIVE = DEFAULT if isinstance(DEFAULT, backends.NativeBackend) else None
PLAIN = backends.CpuBackend() if NATIVE else DEFAULT
DEVICES = ["cpu"] + ([] if NO_STRICT else ["strict"]) + ([] if cuda.problem() else ["cuda"])
BACKENDS = [*DEVICES[:1], *(["native"] if NATIVE else []), *DEVICES[1:]]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite in one process per core if pytest-xdist is installed; ``-n`` overrides.

    A run of named files or tests uses one process.
    """
    is_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if is_suite and not hasattr(config, "workerinput") and hasattr(config.option, "numprocesses"):
        if config.option.numprocesses is None:
            config.option.numprocesses = "auto"
        if config.option.dist == "no":
            config.option.dist = "worksteal"


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect the tests without looking for garbage among them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


LARGE = 24  # tests per function
#: test files that run on ``native`` too: what they test has compiled kernels, or uses those that do
NATIVE_FILES = {
    *("conv", "conv_transpose", "depthwise", "dropout", "edges", "explain", "linear_shape"),
    *(
        "loss",
        "native",
        "networks",
        "nonfinite",
        "norm",
        "optim",
        "pool",
        "sharding",
        "sync_batch_norm",
        "threads",
        "three_dimensions",
        "trainer",
    ),
}
#: at most this many tests per function, to try another version of a package
FEW = int(os.environ.get("XCNN_TESTS_PER_FUNCTION", "0"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Reduce large tables of settings to cover every pair of values; mark the rest exhaustive.

    ``native`` has the tests of NATIVE_FILES only, and no exhaustive ones.
    """
    tables = {}
    for item in items:
        if hasattr(item, "callspec"):
            tables.setdefault((item.parent, item.originalname), []).append(item)
    if FEW:
        spare = {item for table in tables.values() for item in sample(table)[FEW:]}
        config.hook.pytest_deselected(items=list(spare))
        items[:] = [item for item in items if item not in spare]
        return
    spare = {item for item in items if is_native(item) and item.path.stem[5:] not in NATIVE_FILES}
    for table in tables.values():
        if len(table) <= LARGE:
            continue
        random.Random(0).shuffle(table)  # makes the subset nearly minimal
        covered = set()
        for item in table:
            values = [(name, id(value)) for name, value in item.callspec.params.items()]
            pairs = set(itertools.combinations(values, 2)) or set(values)
            if pairs <= covered:
                item.add_marker("exhaustive")
            covered |= pairs
    spare |= {item for item in items if is_native(item) and item.get_closest_marker("exhaustive")}
    config.hook.pytest_deselected(items=list(spare))
    items[:] = [item for item in items if item not in spare]


def is_native(item):
    """Whether a test runs on the compiled kernels by the ``backend`` fixture."""
    return hasattr(item, "callspec") and item.callspec.params.get("backend") == "native"


def sample(table):
    """The tests of a function in random order, which is always the same."""
    return random.Random(0).sample(table, len(table))


PACKAGES = {
    "PIL": "pillow",
    "cupy": "cupy-cuda13x[ctk]",
    "cupy_backends": "cupy-cuda13x[ctk]",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return fold_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return fold_skip((yield))


def fold_skip(report):
    """Drop the location of a skip and name the missing package: one line in the summary."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if missing := re.search("No module named '(\\w+)", reason):
            reason = f"needs: pip install {PACKAGES.get(missing[1], missing[1])}"
        report.longrepr = ("tests", None, reason)
    return report


def pytest_report_header():
    """Report which devices the ``backend`` fixture runs on."""
    return f"backends: {', '.join(BACKENDS)}" + (f" ({NO_STRICT})" if NO_STRICT else "")


@pytest.fixture(autouse=True)
def _cpu_kernels(request):
    """Make ``cpu`` plain NumPy; tests without a backend use the kernels where they are compiled."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("backend")
    use_cpu(PLAIN if name == "cpu" else DEFAULT)


def use_cpu(backend):
    """Make ``backend`` that of the device "cpu" and of NumPy arrays."""
    backends.register(np.ndarray, backends.add_device(backend))


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Make weights and masks reproducible, whatever the order of tests."""
    xcnn.manual_seed(0)


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request):
    cpu = {"cpu": PLAIN, "native": NATIVE}
    return cpu.get(request.param) or backends.get(request.param)


@pytest.fixture(scope="session")
def strict():
    if NO_STRICT:
        pytest.skip(NO_STRICT)
    return STRICT


GPUS = [STRICT, *(cuda.CudaBackend(strict_cupy, index) for index in (1, 2))]


@pytest.fixture
def gpus(strict, monkeypatch):
    """Three GPUs of the stand-in; using memory of one while another is current is an error."""
    monkeypatch.setattr(strict_cupy.cuda, "_devices", len(GPUS))
    backends.register(strict_cupy.ndarray, lambda array: GPUS[array.device.id])
    yield GPUS
    strict_cupy.cuda.Device(0).use()
    backends.register(strict_cupy.ndarray, lambda array: STRICT)


@pytest.fixture(scope="session")
def evaluate(backend):
    """``evaluate(F.conv2d, x, w, b, stride=2)``: the :class:`Result` of that call on the device."""

    def call(function, *arrays, **settings):
        return evaluate_on(backend, function, *arrays, **settings)

    return call


class Result(NamedTuple):
    """An operation's output, a random gradient for it, and the resulting input gradients."""

    y: np.ndarray
    dy: np.ndarray
    gradients: tuple


def evaluate_on(backend, function, *arrays, **settings):
    """Call a function with NumPy arrays moved to ``backend``; the results are NumPy arrays."""
    moved = [None if a is None else backend.asarray(a) for a in arrays]
    y, pullback = xcnn.vjp(function, *moved, **settings)
    dy = np.random.default_rng(7).standard_normal(y.shape).astype(y.dtype)
    gradients = pullback(backend.asarray(dy))
    return Result(
        backend.to_host(y), dy, tuple(None if g is None else backend.to_host(g) for g in gradients)
    )


def normal(*shape, seed=0, dtype="float64"):
    """Standard normal numbers from a seed."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_matches(actual: Any, expected: Any, dtype: Any = None, factor: float = 1) -> None:
    """:func:`assert_close` with an absolute tolerance that scales with the largest expected value.

    The error of a sum depends on the rounding of its terms, however small the sum is.
    """
    expected = np.asarray(expected)
    finite = expected[np.isfinite(expected)]
    largest = max(1.0, np.abs(finite).max(initial=0))
    actual = np.asarray(actual) if isinstance(actual, np.generic | float) else actual
    relative, absolute = TOLERANCES[str(actual.dtype)]
    assert_close(
        actual, expected, rtol=factor * relative, atol=factor * absolute * largest, dtype=dtype
    )


def through_json(state):
    """A state as it is read back from files: JSON, and for arrays their raw bytes."""

    def stored(value):
        if hasattr(value, "tobytes"):
            return {"shape": value.shape, "dtype": value.dtype.str, "bytes": value.tobytes().hex()}
        return value.get() if hasattr(value, "get") else NotImplemented

    def read(value):
        if value.keys() != {"shape", "dtype", "bytes"}:
            return value
        array = np.frombuffer(bytes.fromhex(value["bytes"]), value["dtype"])
        return array.reshape(value["shape"])

    return json.loads(json.dumps(state, default=stored), object_hook=read)


def is_batch_last(a: Any) -> bool:
    """Whether an array (N, ...) is C-contiguous as (..., N)."""
    return a.transpose((*range(1, a.ndim), 0)).flags.c_contiguous


def layouts(backend, a):
    """``a`` on the device in several memory layouts, by name."""
    xp = backend.xp
    plain = backend.asarray(np.asarray(a, order="C"))  # stays 0-d
    if a.ndim == 0:
        return {"contiguous": plain}
    wide = xp.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = plain
    return {
        "contiguous": plain,
        "batch-last": xp.moveaxis(xp.ascontiguousarray(xp.moveaxis(plain, 0, -1)), -1, 0),
        "strided": wide[..., ::2],
        "reversed": xp.ascontiguousarray(plain[::-1])[::-1],
    }
