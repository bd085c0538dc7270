"""Backends: one set of primitives, and devices found by name, by array, or not at all."""

import importlib.machinery
import importlib.util
import inspect
import sys
import types

import numpy as np
import pytest

import xcnn
from xcnn import backends
from xcnn.backends import Backend, CpuBackend, cuda
from xcnn.errors import ArgumentError, DeviceError, DTypeError
from xcnn.geometry import window_geometry

from . import oracles, steps
from .conftest import StrictBackend, assert_matches, normal
from .strict import cupy as strict_cupy

CLASSES = [CpuBackend, backends.NativeBackend, cuda.CudaBackend, StrictBackend]
PRIMITIVES = {
    name: method
    for name, method in vars(Backend).items()
    if callable(method) and not name.startswith("_")
}


def shape_of(function):
    """Names, kinds and defaults of the parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


# -- the contract --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRIMITIVES)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_same_parameters_and_defaults(kind, name):
    assert shape_of(getattr(kind, name)) == shape_of(PRIMITIVES[name])


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_no_public_name_of_its_own(kind):
    """What only one device has, no layer could use."""
    assert {n for n in dir(kind) if not n.startswith("_")} <= set(dir(Backend))


def test_every_primitive_says_what_it_does():
    assert [name for name, method in PRIMITIVES.items() if not inspect.getdoc(method)] == []


def test_there_are_primitives():
    assert {"im2col", "col2im", "max_pool2d", "random_bits", "optimizer_step"} <= set(PRIMITIVES)


# -- generic versions against a device's own -----------------------------------------------

GENERIC = Backend(np, "generic")
GEOMETRY = window_geometry((7, 6), (3, 2), (2, 1), ((1, 0), (0, 1)))


def ties(*shape):
    """Small integers: many equal maxima."""
    return np.random.default_rng(0).integers(-2, 3, shape).astype("float32")


def im2col(backend, array):
    for tile in GEOMETRY.tiles(12):
        shape = (3, 3, 2, tile.bottom - tile.top, tile.right - tile.left, 4)
        out = backend.xp.full(shape, backend.xp.nan, "float32")
        yield backend.im2col(array(ties(3, 7, 6, 4)), GEOMETRY, tile, out)


def col2im(backend, array):
    dx = array(ties(3, 7, 6, 4))
    for tile in GEOMETRY.tiles(12):
        shape = (3, 3, 2, tile.bottom - tile.top, tile.right - tile.left, 4)
        backend.col2im(array(ties(*shape)), GEOMETRY, tile, dx)
    yield dx


def max_pool(backend, array):
    y, argmax = backend.max_pool2d(array(ties(3, 7, 6, 4)), GEOMETRY)
    yield from (y, argmax, backend.max_pool2d_backward(array(ties(*y.shape)), argmax, GEOMETRY))


def max_pool_of_nan(backend, array):
    x = ties(3, 7, 6, 4)
    x[x == 1] = np.nan
    yield from backend.max_pool2d(array(x), GEOMETRY)


def max_pool_without_overlap(backend, array):
    exact = window_geometry((6, 4), 2, 2)
    y, argmax = backend.max_pool2d(array(ties(3, 6, 4, 2)), exact)
    yield from (y, argmax, backend.max_pool2d_backward(array(ties(*y.shape)), argmax, exact))


def avg_pool(backend, array):
    for include_pad in (True, False):
        y = backend.avg_pool2d(array(ties(3, 7, 6, 4)), GEOMETRY, include_pad)
        yield y
        yield backend.avg_pool2d_backward(y, GEOMETRY, include_pad)


def random_bits(backend, array):
    for count in (0, 1, 31, 32):
        yield backend.random_bits(count, 2**63 + 5)


def sgd(backend, array):
    settings = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    p, v = array(ties(4, 3)), array(ties(4, 3))
    steps.sgd_step(backend, [p], [array(ties(4, 3))], [v], **settings)
    yield from (p, v)


def adam(backend, array):
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.01}
    p, m, v = array(ties(4, 3)), array(ties(4, 3)), array(abs(ties(4, 3)))
    steps.adam_step(backend, [p], [array(ties(4, 3))], [m], [v], **settings, step=3)
    yield from (p, m, v)


def adamw(backend, array):
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.01}
    p, m, v = array(ties(4, 3)), array(ties(4, 3)), array(abs(ties(4, 3)))
    steps.adam_step(backend, [p], [array(ties(4, 3))], [m], [v], **settings, step=3, decoupled=True)
    yield from (p, m, v)


def rmsprop(backend, array):
    settings = {"lr": 0.1, "alpha": 0.5, "eps": 1e-8, "momentum": 0.5, "weight_decay": 0.0}
    p, s, m, v = array(ties(4, 3)), array(abs(ties(4, 3))), array(ties(4, 3)), array(ties(4, 3))
    steps.rmsprop_step(backend, [p], [array(ties(4, 3))], [s], [m], [v], **settings)
    yield from (p, s, m, v)


def adagrad(backend, array):
    settings = {"lr": 0.1, "lr_decay": 0.5, "eps": 1e-8, "weight_decay": 0.0, "step": 3}
    p, s = array(ties(4, 3)), array(abs(ties(4, 3)))
    steps.adagrad_step(backend, [p], [array(ties(4, 3))], [s], **settings)
    yield from (p, s)


CALLS = [
    im2col,
    col2im,
    max_pool,
    max_pool_of_nan,
    max_pool_without_overlap,
    avg_pool,
    random_bits,
    sgd,
    adam,
    adamw,
    rmsprop,
    adagrad,
]


@pytest.mark.parametrize("call", CALLS, ids=lambda f: f.__name__)
def test_own_version_equals_the_generic_one(backend, call):
    """Bit for bit with the same arithmetic, to float32's tolerance where compilers fuse."""
    is_same = type(backend) in (CpuBackend, StrictBackend)
    pairs = zip(
        call(backend, lambda a: backend.asarray(a.copy())),
        call(GENERIC, np.copy),
        strict=True,
    )
    for own, generic in pairs:
        own = backend.to_host(own)
        assert own.dtype == generic.dtype
        if own.dtype.kind == "f" and not is_same:
            assert_matches(own, generic)
        else:
            np.testing.assert_array_equal(own, generic)


# -- optimiser steps -----------------------------------------------------------------------

SGD = [
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.1},
]


def parameters(backend, dtype):
    """Two parameters, their zero states, and five gradients of each."""
    shapes = [(3, 4), (5,)]
    params = [backend.asarray(normal(*s, seed=9, dtype=dtype)) for s in shapes]
    grads = [[normal(*s, seed=i, dtype=dtype) for i in range(5)] for s in shapes]
    states = [[backend.xp.zeros_like(p) for p in params] for _ in range(2)]
    return params, grads, states


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", SGD, ids=str)
def test_sgd_step(backend, settings, dtype):
    params, grads, (velocities, _) = parameters(backend, dtype)
    start = [backend.to_host(p).astype("float64") for p in params]
    kept = velocities if settings["momentum"] else []
    for step in range(5):
        now = [backend.asarray(g[step]) for g in grads]
        steps.sgd_step(backend, params, now, kept, lr=0.1, **settings)
        for g, before in zip(now, grads, strict=True):
            assert_matches(g, before[step])  # not changed
    for p, p0, g in zip(params, start, grads, strict=True):
        assert_matches(p, oracles.sgd(p0, np.float64(g), 0.1, **settings), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.6)], ids=str)
def test_adam_step(backend, betas, weight_decay, dtype):
    params, grads, (means, squares) = parameters(backend, dtype)
    start = [backend.to_host(p).astype("float64") for p in params]
    settings = {"lr": 0.1, "eps": 1e-3, "weight_decay": weight_decay}
    for step in range(5):
        now = [backend.asarray(g[step]) for g in grads]
        steps.adam_step(
            backend,
            params,
            now,
            means,
            squares,
            beta1=betas[0],
            beta2=betas[1],
            step=step + 1,
            **settings,
        )
        for g, before in zip(now, grads, strict=True):
            assert_matches(g, before[step])  # not changed
    for p, p0, g in zip(params, start, grads, strict=True):
        expected = oracles.adam(p0, np.float64(g), betas=betas, **settings)
        assert_matches(p, expected, dtype, factor=5)


# -- arrays --------------------------------------------------------------------------------


def test_to_and_from_the_host(backend):
    host = normal(3, 4, dtype="float32")
    array = backend.asarray(host)
    assert isinstance(array, backend.xp.ndarray)
    assert (backend.to_host(array) == host).all()
    assert backend.asarray(array) is array
    assert backend.asarray([[1, 2]], "float32").dtype == np.float32
    assert isinstance(backend.to_host(array), np.ndarray)


def test_memory_and_synchronize(backend):
    backend.synchronize()
    memory = backend.memory()
    assert memory["total"] > 2**20
    assert memory.get("used", 0) >= 0
    assert Backend(np, "x").memory() == {}


def test_class_indices_are_checked_on_the_host_only(strict):
    cpu = backends.get("cpu")
    cpu.check_class_indices(np.array([0, 2]), 3)
    cpu.check_class_indices(np.array([], int), 3)
    with pytest.raises(ArgumentError, match="class 3, but the input has 3 classes"):
        cpu.check_class_indices(np.array([0, 3]), 3)
    with pytest.raises(ArgumentError, match="class -2"):
        cpu.check_class_indices(np.array([-2, 3]), 3)
    strict.check_class_indices(strict.asarray([7]), 3)  # says nothing, does not look


# -- by name and by array ------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """Devices opened in a test are forgotten after it."""
    monkeypatch.setattr(backends, "_by_name", {"cpu": backends.get("cpu")})
    known = dict(backends.by_type)
    monkeypatch.setattr(backends.base, "by_type", known)


def test_get_by_name(backend):
    assert backends.get(backend.device) is backend
    assert backends.get(backend) is backend


def test_of_finds_the_backend_of_an_array(backend):
    assert backends.of(backend.xp.ones(2)) is backend


def test_of_a_subclass():
    class Own(np.ndarray):
        pass

    assert backends.of(np.ones(2).view(Own)).device == "cpu"


@pytest.mark.parametrize("value", [[1.0], 1.0, "a", None], ids=repr)
def test_of_what_is_no_array(value):
    assert backends.find(value) is None
    with pytest.raises(DTypeError, match=f"got {type(value).__name__}.*numpy.asarray"):
        backends.of(value)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "", 0, None])
def test_unknown_names(name):
    with pytest.raises(DeviceError, match='expected "cpu", "cuda", "cuda:N" or "auto"') as caught:
        backends.get(name)
    assert f"device={name!r}" in str(caught.value)


def test_register(registry):
    class Array(np.ndarray):
        pass

    own = backends.add_device(Backend(np, "own"))
    backends.register(Array, lambda array: own)
    assert backends.get("own") is own
    assert backends.of(np.ones(2).view(Array)) is own
    assert repr(own) == "<Backend own>"


# -- when CuPy, the driver or the device is missing ----------------------------------------


def pretend_cupy(monkeypatch, count=None, error=None, driver=0):
    """Install a module called cupy that sees ``count`` devices, or whose driver gives ``error``."""

    def device_count():
        if error:
            raise error
        return count

    module = types.ModuleType("cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    module.__version__ = "14.0.0"
    module.ndarray = strict_cupy.ndarray
    module.is_available = lambda: bool(count)
    runtime = types.SimpleNamespace(
        getDeviceCount=device_count,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 13020,
    )
    module.cuda = types.SimpleNamespace(
        runtime=runtime, Device=strict_cupy.cuda.Device, memory=strict_cupy.cuda.memory
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def without_cupy(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def broken_cupy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it is an ImportError


def no_driver(monkeypatch):
    pretend_cupy(monkeypatch, error=RuntimeError("cudaErrorInsufficientDriver"))


def old_driver(monkeypatch):
    pretend_cupy(monkeypatch, error=RuntimeError("cudaErrorInsufficientDriver"), driver=12040)


def no_device(monkeypatch):
    pretend_cupy(monkeypatch, count=0)


@pytest.mark.parametrize(
    ("arrange", "text"),
    [
        (without_cupy, "CuPy is not installed.*pip install .cupy-cuda13x"),
        (broken_cupy, "cannot be imported.*reinstall"),
        (no_driver, "CuPy 14.0.0.*driver does not answer.*cudaErrorInsufficient.*nvidia-smi"),
        (old_driver, r"driver is for CUDA 12\.4, too old for CuPy 14\.0\.0.*cupy-cuda12x\[ctk\]"),
        (no_device, "no CUDA device is visible; check with: nvidia-smi"),
    ],
    ids=lambda a: getattr(a, "__name__", ""),
)
def test_what_is_missing_and_what_to_do(monkeypatch, registry, arrange, text):
    arrange(monkeypatch)
    for name in ("cuda", "cuda:0", "cuda:3"):
        with pytest.raises(DeviceError, match=text):
            backends.get(name)
    assert backends.get("auto").device == "cpu"
    reasons = backends.available()
    assert reasons["cpu"] == "ok"
    assert reasons["cuda"] == cuda.problem() != ""
    with pytest.raises(DeviceError, match=text):
        xcnn.models.create("mlp").to("cuda")


def test_a_device_that_answers(monkeypatch, registry):
    pretend_cupy(monkeypatch, count=1)
    assert backends.available() == {"cpu": "ok", "cuda": "ok"}
    first = backends.get("cuda")
    assert (type(first), first.device) == (cuda.CudaBackend, "cuda:0")
    assert backends.get("cuda:0") is backends.get("auto") is first
    with pytest.raises(DeviceError, match=r"cuda:1 does not exist: this machine has 1"):
        backends.get("cuda:1")


def test_arrays_of_a_cupy_imported_by_the_user(monkeypatch, registry):
    """Their type is not known before; the device is opened by the number the array carries."""
    module = pretend_cupy(monkeypatch, count=1)
    monkeypatch.delitem(backends.base.by_type, strict_cupy.ndarray)
    found = backends.of(strict_cupy.ones(2))
    assert found.device == "cuda:0"
    assert found.xp is module
