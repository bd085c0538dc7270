"""The table of elementwise functions, clamp and others, against PyTorch."""

import inspect
import math

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn.errors import ArgumentError, DTypeError, ShapeError

from .conftest import assert_matches, evaluate_on, normal

torch = pytest.importorskip("torch")

TOLERANCES = {"float32": 1e-5, "float64": 1e-11, "float16": 4e-3}
FLOATS = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "logit",
    "rad2deg",
    "reciprocal",
    "rsqrt",
    "sigmoid",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]
EXACT = [
    "abs",
    "ceil",
    "clamp_min",
    "floor",
    "neg",
    "nan_to_num",
    "positive",
    "round",
    "sign",
    "square",
    "trunc",
]
SPECIAL = [0.0, -0.0, 0.5, -0.5, 1, -1, 1.5, 2.5, -2.5, 88, -104, 1e4, -1e4, 1e30, -1e30]
each = pytest.mark.parametrize("name", sorted([*FLOATS, *EXACT, "frac"]))


def of(module, name):
    function = getattr(module, name)
    return (lambda x: function(x, 1)) if name == "clamp_min" else function


def peer(name, x, dy=None):
    """PyTorch's value and gradient."""
    x = torch.tensor(x, requires_grad=dy is not None)
    y = of(torch, name)(x)
    if dy is None or not y.requires_grad:
        return y.detach().numpy(), None
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), x.grad.numpy() + 0 if name not in ("sign",) else 0 * dy


def check(backend, name, x):
    found = evaluate_on(backend, of(F, name), x)
    y, dx = peer(name, x, found.dy)
    tolerance = TOLERANCES[str(x.dtype)]
    assert found.y.dtype == y.dtype
    np.testing.assert_allclose(found.y, y, rtol=tolerance, atol=tolerance)
    if dx is not None:
        np.testing.assert_allclose(found.gradients[0], dx, rtol=2 * tolerance, atol=tolerance)


@each
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_values_and_gradients(backend, name, dtype):
    """Also at poles, kinks and bounds, where nothing overflows with a warning."""
    check(backend, name, np.array(SPECIAL, "float32").clip(-6e4, 6e4).astype(dtype))
    for shape in ((2, 3, 4), (), (0, 3)):
        check(backend, name, np.array(normal(*shape), dtype))


@each
def test_not_finite(backend, name):
    x = np.array([np.nan, np.inf, -np.inf, 1], "float32")
    y = of(F, name)(backend.asarray(x)).numpy()
    np.testing.assert_allclose(y, peer(name, x)[0], rtol=1e-6)


@each
def test_integers(backend, name):
    """float32 from the functions of calculus, integers from the rest."""
    x = np.array([[0, 1, 2], [-3, 5, 7]])
    if name == "frac":  # PyTorch refuses them
        return
    y = of(F, name)(backend.asarray(x)).numpy()
    expected = peer(name, x)[0]
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["abs", "floor", "neg", "round", "sign", "square"])
def test_bools_are_not_numbers(backend, name):
    with pytest.raises(DTypeError, match="input is bool, expected numbers"):
        getattr(F, name)(backend.asarray(np.array([True])))


def test_methods(backend):
    x = xcnn.Tensor(backend.asarray(between(3, 4)))
    for name in (*FLOATS, *EXACT, "relu", "sigmoid", "tanh"):
        call = of(F, name)(x).numpy()
        method = x.clamp_min(1) if name == "clamp_min" else getattr(x, name)()
        np.testing.assert_array_equal(method.numpy(), call)
    np.testing.assert_array_equal(x.softmax(0).numpy(), F.softmax(x, 0).numpy())
    np.testing.assert_array_equal(x.clip(0.2, 0.4).numpy(), x.clamp(0.2, 0.4).numpy())


def between(*shape):
    return np.random.default_rng(0).uniform(0.1, 0.9, shape)


def test_signature_and_documentation():
    assert list(inspect.signature(F.sin).parameters) == ["input"]
    assert F.sin.__name__ == "sin"
    assert F.sin.__doc__ == "Sine of x in radians, elementwise."
    assert type(
        F.sin(
            np.ones(2, "float32"),
        ).creator
    ) is type(None)


def test_results_that_are_bools_have_no_gradient(backend):
    x = xcnn.Tensor(backend.asarray(normal(3)), requires_grad=True)
    for name in ("isfinite", "isinf", "isnan"):
        y = getattr(F, name)(x)
        assert y.dtype == bool
        assert not y.requires_grad


@pytest.mark.parametrize("decimals", [-2, -1, 1, 3])
def test_round(evaluate, decimals):
    x = normal(50) * 100
    found = evaluate(F.round, x, decimals=decimals)
    np.testing.assert_allclose(
        found.y, torch.round(torch.tensor(x), decimals=decimals).numpy(), rtol=1e-15
    )
    assert (found.gradients[0] == 0).all()


@pytest.mark.parametrize("bounds", ["both", "crossed", "min", "max", "number"])
def test_clamp_with_arrays(evaluate, bounds):
    """Where the input equals a bound, the input has the gradient."""
    x, low, high = normal(4, 3), normal(3, seed=1), normal(4, 1, seed=2) + 2
    x[0, 0], x[1, 1] = low[0], high[1, 0]
    low, high = {
        "both": (low, high),
        "crossed": (high, low),
        "min": (low, None),
        "max": (None, high),
        "number": (low, np.array(0.5)),
    }[bounds]
    found = evaluate(F.clamp, x, low, high)
    inputs = [None if v is None else torch.tensor(v, requires_grad=True) for v in (x, low, high)]
    y = torch.clamp(*inputs)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    for gradient, tensor in zip(found.gradients, inputs, strict=True):
        if tensor is not None:
            assert_matches(gradient, tensor.grad.numpy())


def test_clamp_of_nan(backend):
    x = backend.asarray(np.array([np.nan, 1.0, 2.0]))
    bound = backend.asarray(np.array([0.0, np.nan, 3.0]))
    for function in (F.clamp_min, F.clamp_max):
        assert np.isnan(function(x, bound).numpy()).tolist() == [True, True, False]


def test_clamp_of_integers(backend):
    x = backend.asarray(np.array([-3, 0, 255]))
    assert F.clamp(x, 0).numpy().tolist() == [0, 0, 255]
    assert F.clamp(x, max=7).dtype == np.int64
    assert_matches(F.clamp(x, 0.5), [0.5, 0.5, 255], "float32")
    assert F.clamp(backend.asarray(np.array([3, 9], "uint8")), -1, 300).numpy().tolist() == [3, 9]


def test_nan_to_num(evaluate):
    x = np.array([np.nan, np.inf, -np.inf, 2], "float32")
    found = evaluate(F.nan_to_num, x, nan=7, posinf=8)
    assert found.y.tolist() == [7, 8, np.finfo("float32").min, 2]
    assert_matches(found.gradients[0], found.dy * [0, 0, 0, 1], "float32")


@pytest.mark.parametrize("eps", [0.1, 0])
def test_logit(evaluate, eps):
    x = np.array([0, 0.05, 0.3, 0.97, 1])
    found = evaluate(F.logit, x, eps=eps)
    t = torch.tensor(x, requires_grad=True)
    y = torch.logit(t, eps)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    assert_matches(found.gradients[0], t.grad.numpy())


@pytest.mark.parametrize(
    ("name", "settings"),
    [("lerp", {}), ("addcmul", {}), ("addcmul", {"value": 0.3}), ("addcdiv", {"value": -2})],
)
def test_of_three_arrays(evaluate, name, settings):
    arrays = normal(4, 3), normal(3, seed=1), normal(4, 1, seed=2)
    found = evaluate(getattr(F, name), *arrays, **settings)
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = getattr(torch, name)(*inputs, **settings)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    for gradient, tensor in zip(found.gradients, inputs, strict=True):
        assert_matches(gradient, tensor.grad.numpy())


def test_lerp_by_a_number(backend):
    a, b = (backend.asarray(normal(3, seed=i)) for i in (0, 1))
    assert_matches(F.lerp(a, b, 0.25), 0.75 * normal(3) + 0.25 * normal(3, seed=1))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: F.round(x, decimals=0.5), ArgumentError, "decimals=0.5: expected an int"),
        (lambda x: F.clamp(x, "a"), ArgumentError, "min='a': expected a number"),
        (lambda x: F.clamp(x, math.nan), ArgumentError, "min=nan: expected a number"),
        (lambda x: F.clamp(x, x[:1, :2]), ShapeError, r"Clamp: .*do not broadcast"),
        (lambda x: F.nan_to_num(x, "a"), ArgumentError, "nan='a': expected a number"),
        (lambda x: F.logit(x, "a"), ArgumentError, "eps='a': expected a number"),
        (lambda x: F.addcmul(x, x, x, value="a"), ArgumentError, "value='a': expected a number"),
        (lambda x: F.sin(x, x), TypeError, "sin.. takes 1"),
    ],
)
def test_refused(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(backend.asarray(normal(2, 3)))


def test_integers_stay_integers_between_bounds_of_integers(backend):
    x, low = (backend.asarray(np.array(v)) for v in ([1, 5, 9], [3, 3, 3]))
    for y in (F.clamp(x, low, 7), F.clamp_max(F.clamp_min(x, low), 7)):
        assert y.dtype == "int64"
        assert y.tolist() == [3, 5, 7]
    assert F.addcmul(x, x, low, value=2).tolist() == [7, 35, 63]
