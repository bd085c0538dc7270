"""The CPU's compiled kernels: how they are found, chosen and run on several threads."""

import ctypes
import os
import subprocess
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest

from xcnn.backends import OVERFLOW, SKIPPED, Running
from xcnn.backends.native import Library, load
from xcnn.backends.native.backend import address
from xcnn.backends.native.library import KERNELS, PATH, VARIANTS
from xcnn.errors import ArgumentError
from xcnn.geometry import window_geometry

from .conftest import NATIVE, PLAIN, assert_matches, normal

pytestmark = pytest.mark.skipif(not PATH.exists(), reason="the kernels are not compiled")


def output(code, **environment):
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    return run.stdout.strip() if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


SHOW = "import xcnn; print(type(xcnn.backends.get('cpu')).__name__, xcnn.backends.kernels_of_cpu)"


def test_off():
    assert output(SHOW, XCNN_NATIVE="0") == "CpuBackend off: XCNN_NATIVE=0"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_chosen_instruction_set(variant):
    if Library()._has(variant):
        assert output(SHOW, XCNN_NATIVE=variant) == f"NativeBackend {variant}"
    else:
        assert f"XCNN_NATIVE={variant}: expected" in output(SHOW, XCNN_NATIVE=variant)


def test_an_unknown_instruction_set():
    with pytest.raises(ArgumentError, match=r"XCNN_NATIVE=mmx: expected 0, 1 or .*baseline"):
        Library("mmx")


def test_every_instruction_set_has_every_kernel():
    for variant in filter(Library()._has, VARIANTS):
        library = Library(variant)
        names = {name for name, _ in library.functions}
        assert names == set(KERNELS)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [("missing.so", None, "not compiled"), ("broken.so", b"no library", "cannot be loaded")],
)
def test_without_a_library(tmp_path, monkeypatch, name, content, expected):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr("xcnn.backends.native.library.PATH", path)
    monkeypatch.setenv("XCNN_NATIVE", "1")
    library, text = load()
    assert library is None
    assert expected in text


def test_an_instruction_set_without_a_library(tmp_path, monkeypatch):
    monkeypatch.setattr("xcnn.backends.native.library.PATH", tmp_path / "missing.so")
    monkeypatch.setenv("XCNN_NATIVE", "avx2")
    with pytest.raises(ArgumentError, match=r"XCNN_NATIVE=avx2: .* the kernels are not compiled"):
        load()


def test_a_library_of_another_version(monkeypatch):
    monkeypatch.setattr("xcnn.backends.native.library._signatures", lambda: 1)
    library, text = load()
    assert library is None
    assert "cannot be loaded, install xcnn again: it is of another version of xcnn" in text


def test_the_library_is_newer_than_its_sources():
    sources = [*PATH.parent.glob("*.cpp"), *PATH.parent.glob("*.h")]
    newest = max(path.stat().st_mtime for path in sources)
    assert PATH.stat().st_mtime >= newest, "compile the kernels again: pip install -e ."


@pytest.mark.parametrize("threads", [1, 2])
def test_no_memory(threads, monkeypatch):
    """A tile of 2^25 rows and columns does not fit; the next call works."""
    monkeypatch.setattr(NATIVE, "_threads_for", lambda work: threads)
    geometry = window_geometry((3, 3), (2, 2), 1, 2**24, 2**25)
    x, weight, dy = normal(1, 3, 3, 2), normal(1, 1, 2, 2), normal(1, 3, 3, 2)
    with pytest.raises(MemoryError, match="no room for a kernel's intermediate values"):
        NATIVE.convolution(x, weight, None, geometry, 1, False)
    with pytest.raises(MemoryError, match="no room for a kernel's intermediate values"):
        NATIVE.convolution_weight_gradient(dy, x, geometry, 1)
    geometry = window_geometry((3, 3), (2, 2), 1, 0, 1)
    y = NATIVE.convolution(x, weight, None, geometry, 1, False)
    assert_matches(y, PLAIN.convolution(x, weight, None, geometry, 1, False))


# -- matrix products -----------------------------------------------------------------------


class ThreeThreads:
    available, busy = 3, False

    def hold(self):
        return nullcontext(True)


def matrix(form, rows, columns, dtype):
    """In rows, in columns (a transposed view), or part of a wider one."""
    wide = normal(*((columns, rows) if form == "T" else (rows, columns + 5)), dtype=dtype)
    return {"C": wide[:, :columns].copy(), "T": wide.T, "slice": wide[:, 3 : 3 + columns]}[form]


@pytest.mark.skipif(not NATIVE or not NATIVE._gemm, reason="NumPy has another BLAS")
@pytest.mark.parametrize("form", ["C", "T", "slice"])
@pytest.mark.parametrize("shape", [(33, 5, 20), (5, 20, 47), (7, 50, 3), (2, 2, 2), (40, 1, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_several_threads(monkeypatch, dtype, shape, form):
    """Split by rows, by columns, or along the common length."""
    monkeypatch.setattr(NATIVE, "_threads", ThreeThreads())
    monkeypatch.setattr("xcnn.backends.native.backend._THREAD", 1)
    monkeypatch.setattr("xcnn.backends.cpu.CpuBackend.matmul", None)  # nothing is left to NumPy
    rows, terms, columns = shape
    a, b = matrix(form, rows, terms, dtype), matrix(form, terms, columns, dtype)
    expected = (a.astype(np.float64)[:, :, None] * b).sum(axis=1)
    assert_matches(NATIVE.matmul(a, b), expected.astype(dtype))
    whole = normal(rows, columns + 2, dtype=dtype)
    before, out = whole.copy(), whole[:, 1:-1]
    assert NATIVE.matmul(a, b, out=out) is out
    assert_matches(out, expected.astype(dtype))
    np.testing.assert_array_equal(whole[:, [0, -1]], before[:, [0, -1]])


# -- threads -------------------------------------------------------------------------------

WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


def run_parallel(threads, parts, work):
    library = ctypes.CDLL(str(PATH))
    library.xcnn_parallel.argtypes = [ctypes.c_int64, ctypes.c_int64, WORK, ctypes.c_void_p]
    library.xcnn_parallel(threads, parts, WORK(lambda _, part: work(part)), None)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("parts", [0, 1, 2, 7, 100])
def test_each_part_runs_once(threads, parts):
    for _ in range(20):
        ran = []
        run_parallel(threads, parts, ran.append)
        assert sorted(ran) == list(range(parts))


def test_parts_run_at_the_same_time():
    both = threading.Barrier(2, timeout=30)
    run_parallel(2, 2, lambda part: both.wait())
    assert not both.broken


def test_work_inside_work():
    ran = []
    run_parallel(2, 3, lambda i: run_parallel(2, 4, lambda j: ran.append((i, j))))
    assert sorted(ran) == [(i, j) for i in range(3) for j in range(4)]


def test_callers_at_the_same_time():
    ran = []

    def call(number):
        for _ in range(50):
            run_parallel(2, 3, lambda part: ran.append((number, part)))

    callers = [threading.Thread(target=call, args=[n]) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(ran) == sorted((n, p) for n in range(4) for p in range(3) for _ in range(50))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_starts_its_own_threads():
    code = """
import os, sys
sys.path.insert(0, {path!r})
from tests.test_native import run_parallel
run_parallel(2, 4, lambda part: None)
child = os.fork()
ran = []
run_parallel(2, 4, ran.append)
assert sorted(ran) == [0, 1, 2, 3]
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    assert output(code.format(path=folder)).endswith("0")


# -- kernels, of sizes below, at and above those of vectors and blocks ---------------------

SIZES = [0, 1, 3, 4, 8, 15, 16, 17, 33, 67]


@pytest.fixture(params=[name for name in VARIANTS if not PATH.exists() or Library()._has(name)])
def native(request, monkeypatch):
    """The backend with the kernels of each instruction set."""
    monkeypatch.setattr(NATIVE, "library", Library(request.param))
    return NATIVE


def assert_same(call, native, *arrays):
    """Require the kernels' results to be those of NumPy, and inputs that stay the same."""
    before = [a.copy() for a in arrays]
    with np.errstate(all="ignore"):
        found, expected = call(native, *arrays), call(PLAIN, *arrays)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if b is not None and b.dtype.kind == "f":
            assert_matches(a, b, b.dtype)
        elif b is not None:
            np.testing.assert_array_equal(a, b, strict=True)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


WINDOWS = {
    "2x2": window_geometry((6, 4), 2, 2),
    "3x3 overlapping": window_geometry((7, 6), 3, 2, 1),
    "gaps": window_geometry((7, 8), 1, 3),
    "dilated": window_geometry((7, 6), (3, 2), 1, ((1, 0), (0, 1)), (1, 2)),
    "ceil": window_geometry((5, 5), 2, 2, 0, ceil_mode=True),
    "large": window_geometry((18, 17), 17, 1),
}


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pooling_of_any_batch(native, windows, dtype):
    def both(backend, x, dy):
        y, argmax = backend.max_pool2d(x, windows)
        alone, none = backend.max_pool2d(x, windows, with_argmax=False)
        return y, argmax, alone, none, backend.max_pool2d_backward(dy, argmax, windows)

    def means(backend, x, dy):
        include = [backend.avg_pool2d(x, windows, flag) for flag in (True, False)]
        back = [backend.avg_pool2d_backward(dy, windows, flag) for flag in (True, False)]
        return include + back

    for batch in SIZES:
        x = normal(3, *windows.input, batch, dtype=dtype).round(1)  # with equal maxima
        x[x > 2] = np.nan
        x[x < -2] = -np.inf
        dy = normal(3, *windows.output, batch, seed=1, dtype=dtype)
        assert_same(both, native, x, dy)
        if windows.dilation == (1, 1):
            assert_same(means, native, np.nan_to_num(x, neginf=-3), dy)


@pytest.mark.parametrize("classes", [1, 10, 70])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_any_batch(native, classes, dtype):
    for size in SIZES:
        x = 30 * normal(classes, size, dtype=dtype)
        target = np.random.default_rng(0).integers(0, classes, size)
        for column, (logit, label) in enumerate(
            [(0, -100), (0, classes), (np.nan, 0), (np.inf, 0), (-np.inf, 0), (1e30, 0)]
        ):
            x[-1, column : column + 1] = logit
            target[column : column + 1] = label
        for with_slope in (True, False):
            assert_same(lambda b, *a, s=with_slope: b.cross_entropy(*a, s), native, x, target)
        for labels in (target, np.full(size, -100)):
            terms = normal(size, dtype=dtype) * (labels != -100)
            assert_same(lambda b, *a: b.mean_of_terms(*a, -100), native, terms, labels)


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 110), ("float64", 760)])
def test_exponential(native, dtype, limit):
    """Within one unit in the last place, from what underflows to what overflows."""
    x = np.linspace(-limit, limit, 100_003)
    x = np.concatenate([x, x / limit, [0, -0.0, np.inf, -np.inf, np.nan]]).astype(dtype)
    y = np.empty_like(x)
    native.library.functions["exponential", x.dtype.char](address(x), address(y), x.size)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.exp(x.astype(np.longdouble)).astype(dtype)
    np.testing.assert_array_max_ulp(y[:-1], expected[:-1], maxulp=1)
    assert np.isnan(y[-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_any_length(native, dtype):
    def rows(backend, y, dy, bias):
        results = [*backend.relu_backward(dy, y)]
        for part in (slice(None), slice(1, 4)):
            for relu in (False, True):
                for shift in (bias, None):
                    results.append(y.copy())
                    backend.add_bias(results[-1], shift, part, relu)
        return results

    for size in (*SIZES, 10_001):
        y, dy = normal(5, size, dtype=dtype), normal(5, size, seed=1, dtype=dtype)
        y[2] = np.nan
        assert_same(rows, native, y, dy, normal(5, seed=2, dtype=dtype))


@pytest.mark.parametrize("lanes", [32, 36, 33])
@pytest.mark.parametrize(("rows", "pixels"), [(33_000, 1), (130, 256)])
def test_normalization_of_arrays_larger_than_the_caches(native, lanes, rows, pixels):
    def both(backend, x, dy, weight, bias):
        y, statistics = backend.normalize(x, weight, bias, 1e-5)
        return y, *backend.normalize_backward(dy, x, None, statistics, weight)[:3]

    x, dy = (normal(1, rows, pixels, lanes, seed=s, dtype="float32") for s in (0, 1))
    weight, bias = (normal(1, rows, seed=s, dtype="float32") for s in (2, 3))
    assert_same(both, native, x, dy, weight, bias)


def test_copies_to_batch_last_memory(native):
    for batch in SIZES:
        for shape in ((batch, 1, 1, 1), (batch, 3, 5, 4), (batch, 17), (2 * batch, 130)):
            x = normal(*shape, dtype="float32").transpose(*range(1, len(shape)), 0)
            for view in (x, x[::-1], x[..., ::2], x.astype("float64"), x > 0):
                y = native.ascontiguousarray(view)
                assert y.flags.c_contiguous
                np.testing.assert_array_equal(y, view, strict=True)


def test_masks_of_any_length(native):
    for count in (*SIZES, 4096, 9001):
        for key in (0, 2**64 - 1):
            for p in (0.3, 1.0):
                mask = native.dropout_mask(count, key, p, np.dtype("float32"))
                expected = PLAIN.dropout_mask(count, key, p, np.dtype("float32"))
                np.testing.assert_array_equal(mask, expected, strict=True)


SETTINGS = {"lr": 0.1, "weight_decay": 0.01, "eps": 1e-3}
STEPS = [
    ("sgd_step", 0, {"momentum": 0.0, "nesterov": False}),
    ("sgd_step", 1, {"momentum": 0.9, "nesterov": True}),
    ("adam_step", 2, {"beta1": 0.9, "beta2": 0.99, "decoupled": True}),
    ("adagrad_step", 1, {"lr_decay": 0.1}),
    ("rmsprop_step", 3, {"alpha": 0.9, "momentum": 0.5}),
]


@pytest.mark.parametrize(("kernel", "states", "settings"), STEPS)
def test_steps_of_parameters_of_any_size(native, kernel, states, settings):
    """A parameter and its parts, one element each, change alike; not at all after an overflow."""
    sizes = [*SIZES, 2**14 + 5]
    arrays = [normal(sum(sizes), seed=i, dtype="float32") ** 2 for i in range(2 + states)]
    settings = SETTINGS | settings | {"step": 5}

    def step(lists, scaler=None, number=5):
        changed = settings | {"step": number}
        native.optimizer_step(kernel, lambda: None, lists, changed, scaler)

    def cut(kinds):
        stops = np.cumsum(sizes)
        return [[a[stop - n : stop] for n, stop in zip(sizes, stops, strict=True)] for a in kinds]

    whole, parts = [a.copy() for a in arrays], [a.copy() for a in arrays]
    scaler = np.zeros(4, "float32")
    scaler[OVERFLOW] = 1
    step([[a] for a in whole], scaler)
    np.testing.assert_array_equal(whole, arrays)
    scaler[OVERFLOW], scaler[SKIPPED] = 0, 2
    step([[a] for a in whole], scaler, number=7)
    step(cut(parts))
    assert not np.array_equal(whole[0], arrays[0])
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-7)


# -- arrays in unusual memory --------------------------------------------------------------


def test_a_bias_that_is_copied_lives_as_long_as_the_kernel():
    """Under the address sanitiser; large enough for NumPy to return the copy's memory at once."""
    x, weight, bias = normal(2, 3, 4, 5), normal(4000, 2, 1, 1), normal(4000, 2)[:, 0]
    settings = window_geometry((3, 4), (1, 1)), 1, True
    y = NATIVE.convolution(x, weight, bias, *settings)
    assert_matches(y, PLAIN.convolution(x, weight, bias, *settings))
    rows = normal(4000, 6)
    NATIVE.add_bias(rows, bias, slice(None), True)
    assert_matches(rows, np.maximum(normal(4000, 6) + bias[:, None], 0))


def test_a_product_into_its_own_operand_or_a_read_only_array():
    a, b = normal(300, 300), normal(300, 300, seed=1)
    expected = a @ b
    frozen = np.zeros((300, 300))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        NATIVE.matmul(a, b, out=frozen)
    NATIVE.matmul(a, b, out=a)
    assert_matches(a, expected)


def test_an_infinite_pixel_makes_the_running_mean_infinite():
    x = normal(2, 1, 300, 1)
    x[0, 0, 150] = np.inf
    running = [Running(np.zeros(2), np.ones(2), 0.5) for _ in range(2)]
    for backend, statistics in zip((NATIVE, PLAIN), running, strict=True):
        with np.errstate(invalid="ignore"):
            backend.normalize(x, None, None, 1e-5, statistics)
    assert running[0].mean[0] == running[1].mean[0] == np.inf
    assert_matches(running[0].mean[1], x[1].mean() / 2)
