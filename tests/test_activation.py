"""Activations: values, gradients, extremes, memory order, and PyTorch's choices at the kinks."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xcnn
import xcnn.functional as F
from xcnn import init, nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, normal


def relu(x):
    return np.where(x > 0, x, 0), np.where(x > 0, 1.0, 0.0)


def sigmoid(x):
    y = oracles.sigmoid(x)
    return y, y * (1 - y)


def tanh(x):
    e = np.exp(-2 * np.abs(np.longdouble(x)))
    return np.float64(np.sign(x) * (1 - e) / (1 + e)), np.float64(4 * e / (1 + e) ** 2)


def one_by_one(function):
    """Value and slope of every number, from a function of one Python float."""

    def of_array(x):
        found = [function(float(v)) for v in np.ravel(x)]
        return tuple(np.reshape([pair[i] for pair in found], np.shape(x)) for i in (0, 1))

    return of_array


@one_by_one
def relu6(x):
    return min(max(x, 0.0), 6.0), float(0 < x < 6)


@one_by_one
def leaky_relu(x):
    return (x, 1.0) if x > 0 else (0.01 * x, 0.01)


def elu_of(alpha, scale=1.0):
    @one_by_one
    def of_number(x):
        if x > 0:
            return scale * x, scale
        return scale * alpha * math.expm1(x), scale * alpha * math.exp(x)

    return of_number


@one_by_one
def gelu(x):
    share = math.erfc(-x / math.sqrt(2)) / 2
    return x * share, share + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@one_by_one
def gelu_tanh(x):
    x = np.longdouble(x)
    root = np.sqrt(2 / np.longdouble(math.pi))
    t = np.tanh(root * (x + 0.044715 * x**3))
    inner = root * (1 + 3 * 0.044715 * x**2)
    return float(x * (1 + t) / 2), float((1 + t) / 2 + x * (1 - t * t) * inner / 2)


@one_by_one
def silu(x):
    s = 1 / (1 + np.exp(-np.longdouble(x)))
    return float(x * s), float(s + x * s * (1 - s))


@one_by_one
def hardsigmoid(x):
    return min(max(x / 6 + 0.5, 0.0), 1.0), float(-3 < x < 3) / 6


@one_by_one
def hardswish(x):
    if x <= -3:
        return 0.0, 0.0
    return (x, 1.0) if x >= 3 else (x * (x + 3) / 6, x / 3 + 0.5)


def softplus_of(beta, threshold):
    @one_by_one
    def of_number(x):
        if beta * x > threshold:
            return x, 1.0
        e = np.exp(np.longdouble(beta * x))
        return float(np.log1p(e) / beta), float(e / (1 + e))

    return of_number


@one_by_one
def mish(x):
    x = np.longdouble(x)
    e = np.exp(-abs(x))
    t = np.tanh(np.log1p(e) + max(x, 0))
    return float(x * t), float(t + x * (1 - t * t) * (1 if x > 0 else e) / (1 + e))


@one_by_one
def logsigmoid(x):
    e = math.exp(-abs(x))
    return min(x, 0.0) - math.log1p(e), (e if x > 0 else 1) / (1 + e)


@one_by_one
def softsign(x):
    return x / (1 + abs(x)), (1 + abs(x)) ** -2


@one_by_one
def tanhshrink(x):
    return x - math.tanh(x), math.tanh(x) ** 2


@one_by_one
def celu_2(x):
    return (x, 1.0) if x > 0 else (2 * math.expm1(x / 2), math.exp(x / 2))


def named(name, function, *settings):
    call = functools.partial(_with_settings, function, settings)
    call.__name__ = name
    return call


def _with_settings(function, settings, x):
    return function(x, *settings)


LEAKY_MINUS = named("leaky_relu_minus", F.leaky_relu, -0.5)
ELU_2 = named("elu_2", F.elu, 2)
GELU_TANH = named("gelu_tanh", F.gelu, "tanh")
CELU_2 = named("celu_2", F.celu, 2)
SOFTPLUS_3 = named("softplus_3", F.softplus, 3, 2)
SELU_ALPHA, SELU_SCALE = 1.67326324235437728481704, 1.05070098735548049341933
ELEMENTWISE = {  # value and derivative
    F.relu: relu,
    F.relu6: relu6,
    F.leaky_relu: leaky_relu,
    LEAKY_MINUS: one_by_one(lambda x: (x, 1.0) if x > 0 else (-0.5 * x, -0.5)),
    F.elu: elu_of(1.0),
    ELU_2: elu_of(2.0),
    F.selu: elu_of(SELU_ALPHA, SELU_SCALE),
    F.gelu: gelu,
    GELU_TANH: gelu_tanh,
    F.silu: silu,
    F.hardsigmoid: hardsigmoid,
    F.hardswish: hardswish,
    F.softplus: softplus_of(1, 20),
    SOFTPLUS_3: softplus_of(3, 2),
    F.sigmoid: sigmoid,
    F.tanh: tanh,
    F.celu: elu_of(1.0),
    CELU_2: celu_2,
    F.hardshrink: one_by_one(lambda x: (x, 1.0) if abs(x) > 0.5 else (0.0, 0.0)),
    F.hardtanh: one_by_one(lambda x: (min(max(x, -1.0), 1.0), float(-1 < x < 1))),
    F.logsigmoid: logsigmoid,
    F.mish: mish,
    F.softshrink: one_by_one(
        lambda x: (x - math.copysign(0.5, x), 1.0) if abs(x) > 0.5 else (0.0, 0.0)
    ),
    F.softsign: softsign,
    F.tanhshrink: tanhshrink,
}
ALONG_AN_AXIS = {
    F.softmax: (oracles.softmax, oracles.softmax_gradient),
    F.log_softmax: (oracles.log_softmax, oracles.log_softmax_gradient),
}
each = pytest.mark.parametrize("function", ELEMENTWISE, ids=lambda f: f.__name__)
each_softmax = pytest.mark.parametrize("function", ALONG_AN_AXIS, ids=lambda f: f.__name__)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@each
@dtypes
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4, 5), (0, 3)], ids=str)
def test_elementwise(evaluate, function, dtype, shape):
    x = normal(*shape, dtype=dtype) * 3
    x = x.astype(dtype)
    found = evaluate(function, x)
    y, slope = ELEMENTWISE[function](x.astype("float64"))
    assert_matches(found.y, y, dtype)
    assert_matches(found.gradients[0], found.dy * slope, dtype)


@each
@given(
    x=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
        elements=st.floats(-50, 50),
    )
)
def test_any_elementwise(backend, function, x):
    found = evaluate_on(backend, function, x)
    y, slope = ELEMENTWISE[function](x)
    assert_matches(found.y, y)
    assert_matches(found.gradients[0], found.dy * slope)


MANY = np.float32(1e30)
LIKE_RELU = [0, 0, 0, 0, 0, 800, MANY, np.inf]
LIKE_SIGMOID = [0, 0, 0, 0.5, 0.5, 1, 1, 1]
LIMITS = {
    F.relu6: [0, 0, 0, 0, 0, 6, 6, 6],
    F.leaky_relu: [-np.inf, -MANY / 100, -8, 0, 0, 800, MANY, np.inf],
    LEAKY_MINUS: [np.inf, MANY / 2, 400, 0, 0, 800, MANY, np.inf],
    F.elu: [-1, -1, -1, *LIKE_RELU[3:]],
    ELU_2: [-2, -2, -2, *LIKE_RELU[3:]],
    F.selu: [*[-SELU_ALPHA * SELU_SCALE] * 3, *np.float32(LIKE_RELU[3:]) * SELU_SCALE],
    F.hardsigmoid: LIKE_SIGMOID,
    F.softplus: [0, 0, 0, math.log(2), math.log(2), *LIKE_RELU[5:]],
    SOFTPLUS_3: [0, 0, 0, math.log(2) / 3, math.log(2) / 3, *LIKE_RELU[5:]],
    F.sigmoid: LIKE_SIGMOID,
    F.tanh: [-1, -1, -1, 0, 0, 1, 1, 1],
    F.celu: [-1, -1, -1, *LIKE_RELU[3:]],
    CELU_2: [-2, -2, -2, *LIKE_RELU[3:]],
    F.hardshrink: [-np.inf, -MANY, -800, 0, 0, 800, MANY, np.inf],
    F.hardtanh: [-1, -1, -1, 0, 0, 1, 1, 1],
    F.logsigmoid: [-np.inf, -MANY, -800, -math.log(2), -math.log(2), 0, 0, 0],
    F.softshrink: [-np.inf, -MANY, -799.5, 0, 0, 799.5, MANY, np.inf],
    F.softsign: [np.nan, -1, -800 / 801, 0, 0, 800 / 801, 1, np.nan],  # ∞ / ∞, as in PyTorch
    F.tanhshrink: [-np.inf, -MANY, -799, 0, 0, 799, MANY, np.inf],
}


@each
def test_extremes_neither_overflow_nor_warn(evaluate, function):
    x = np.array([-np.inf, -1e30, -800, -0.0, 0.0, 800, 1e30, np.inf], "float32")
    found = evaluate(function, x)
    expected = LIMITS.get(function, LIKE_RELU)
    np.testing.assert_allclose(found.y, np.float64(expected), rtol=1e-6, atol=1e-7)
    assert np.isfinite(found.gradients[0]).all()


@each
@dtypes
def test_large_inputs(evaluate, function, dtype):
    x = np.array([-1e4, -100, -40, -20, 20, 40, 100, 1e4], dtype)
    found = evaluate(function, x)
    with np.errstate(under="ignore"):
        y, slope = ELEMENTWISE[function](np.longdouble(x) if function is F.tanh else x)
    np.testing.assert_allclose(found.y, y, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(found.gradients[0], found.dy * slope, rtol=1e-5, atol=1e-6)


@each
def test_nan_propagates(evaluate, function):
    assert np.isnan(evaluate(function, np.array([np.nan, 1.0])).y).tolist() == [True, False]


def test_relu_has_no_gradient_at_zero(evaluate):
    assert evaluate(F.relu, np.array([0.0, -0.0])).gradients[0].tolist() == [0, 0]


KINKS = [-3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 20.0, 20.5]


@pytest.mark.parametrize(
    "name",
    [
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "silu",
        "hardsigmoid",
        "hardswish",
        "softplus",
        "celu",
        "hardshrink",
        "hardtanh",
        "mish",
        "rrelu",
        "softshrink",
    ],
)
def test_kinks_are_as_in_pytorch(evaluate, name):
    torch = pytest.importorskip("torch")
    x = np.array(KINKS, "float32")
    found = evaluate(getattr(F, name), x)
    peer = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, name)(peer)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy(), "float32")
    assert_matches(found.gradients[0], peer.grad.numpy(), "float32")


# -- prelu ---------------------------------------------------------------------------------


def prelu(x, weight, dy):
    """Value, gradient of x, gradient of weight."""
    x, y, dx, dweight = np.float64(x), np.zeros(x.shape), np.zeros(x.shape), np.zeros(len(weight))
    for index in np.ndindex(x.shape):
        slope = index[1] if len(weight) > 1 else 0
        positive = x[index] > 0
        y[index] = x[index] if positive else x[index] * weight[slope]
        dx[index] = dy[index] * (1 if positive else weight[slope])
        dweight[slope] += 0 if positive else dy[index] * x[index]
    return y, dx, dweight


@dtypes
@pytest.mark.parametrize(
    ("shape", "slopes"),
    [((4, 3), 3), ((4, 3), 1), ((2, 3, 4, 5), 3), ((2, 3, 4, 5), 1), ((5,), 1), ((), 1)],
    ids=str,
)
def test_prelu(evaluate, dtype, shape, slopes):
    x, weight = normal(*shape, dtype="float64").astype(dtype), normal(slopes, seed=1, dtype=dtype)
    found = evaluate(F.prelu, x, weight)
    for actual, expected in zip(
        (found.y, *found.gradients), prelu(x, weight, found.dy), strict=True
    ):
        assert_matches(actual, expected, dtype)


@pytest.mark.parametrize("slopes", [1, 3])
def test_prelu_at_zero_and_far_away(evaluate, slopes):
    x = np.array([[0, -1e4, 1e4], [-0.0, -1e4, 1e4]], "float32")
    found = evaluate(F.prelu, x, np.full(slopes, 0.25, "float32"))
    assert_matches(found.y, [[0, -2500, 1e4]] * 2, "float32")
    assert_matches(found.gradients[0], found.dy * [[0.25, 0.25, 1]] * 1, "float32")


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), (0,)], ids=str)
def test_prelu_with_slopes_that_do_not_fit(backend, shape):
    with pytest.raises(ShapeError, match=r"weight has shape .*expected one slope, \(1,\), or .*3,"):
        F.prelu(backend.xp.ones((2, 3)), backend.xp.ones(shape))


def test_prelu_of_one_number_as_slope(evaluate):
    x = normal(2, 3)
    found, row = evaluate(F.prelu, x, np.array(0.3)), evaluate(F.prelu, x, np.array([0.3]))
    assert found.gradients[1].shape == ()
    for actual, expected in zip((found.y, *found.gradients), (row.y, *row.gradients), strict=True):
        assert (actual == expected).all()


def test_prelu_is_trained(backend):
    layer = nn.PReLU(2, init=0.5).to(backend)
    assert {n: p.shape for n, p in layer.named_parameters()} == {"weight": (2,)}
    layer(backend.asarray(-np.ones((3, 2, 2, 2), "float32"))).sum().backward()
    assert backend.to_host(layer.weight.grad.data).tolist() == [-12, -12]
    assert layer.weight.dtype == np.float32
    assert nn.PReLU().weight.numpy().tolist() == [0.25]
    with pytest.raises(ArgumentError, match="num_parameters=0"):
        nn.PReLU(0)


# -- layers --------------------------------------------------------------------------------

LAYERS = {
    nn.ReLU6(): F.relu6,
    nn.LeakyReLU(): F.leaky_relu,
    nn.LeakyReLU(0.3): lambda x: F.leaky_relu(x, 0.3),
    nn.ELU(): F.elu,
    nn.ELU(2.0): ELU_2,
    nn.SELU(): F.selu,
    nn.GELU(): F.gelu,
    nn.GELU("tanh"): GELU_TANH,
    nn.SiLU(): F.silu,
    nn.Hardswish(): F.hardswish,
    nn.Hardsigmoid(): F.hardsigmoid,
    nn.Softplus(): F.softplus,
    nn.Softplus(3, 2): SOFTPLUS_3,
    nn.PReLU(): lambda x: F.leaky_relu(x, 0.25),
    nn.Mish(): F.mish,
    nn.Hardtanh(-2, 0.5): lambda x: F.hardtanh(x, -2, 0.5),
    nn.CELU(2.0): CELU_2,
    nn.Softsign(): F.softsign,
    nn.LogSigmoid(): F.logsigmoid,
    nn.Hardshrink(0.3): lambda x: F.hardshrink(x, 0.3),
    nn.Softshrink(0.3): lambda x: F.softshrink(x, 0.3),
    nn.Tanhshrink(): F.tanhshrink,
    nn.RReLU(0.1, 0.3).eval(): lambda x: F.leaky_relu(x, 0.2),
    nn.Threshold(0.1, 20): lambda x: F.threshold(x, 0.1, 20),
    nn.GLU(0): lambda x: F.glu(x, 0),
    nn.Softmin(): lambda x: F.softmax(-x),
    nn.Softmax(None): F.softmax,
    nn.Identity(): lambda x: xcnn.Tensor(x),
}


@pytest.mark.parametrize(("layer", "function"), LAYERS.items(), ids=[*map(repr, LAYERS)])
def test_layers(layer, function):
    x = 3 * normal(4, 3, dtype="float32")
    assert (layer(x).numpy() == function(x).numpy()).all()


def test_identity_copies_nothing():
    x = xcnn.Tensor(np.ones(3, "float32"), requires_grad=True)
    assert nn.Identity()(x) is x


def test_activations_by_name():
    names = [
        "celu",
        "elu",
        "gelu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "identity",
        "leaky_relu",
        "logsigmoid",
        "mish",
        "prelu",
        "relu",
        "relu6",
        "rrelu",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softshrink",
        "softsign",
        "tanh",
        "tanhshrink",
    ]
    with pytest.raises(ArgumentError, match=f" {names[0]}, .*, {names[-1]}"):
        nn.activation("GLU")
    for name in names:
        layer = nn.activation(name)
        assert type(layer).__name__.lower() == name.replace("_", "")
        assert init.gain(name) > 0
        assert nn.Linear(3, 2, nonlinearity=name).weight.numpy().any()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: F.gelu(x, "sigmoid"), ArgumentError, "approximate='sigmoid': expected one of"),
        (lambda x: nn.GELU(True), ArgumentError, "approximate=True: expected"),
        (lambda x: F.softplus(x, 0), ArgumentError, "beta=0: expected a number other than 0"),
        (lambda x: F.softplus(x, 1, None), ArgumentError, "threshold=None: expected a number"),
        (lambda x: F.elu(x, "1"), ArgumentError, "alpha='1': expected a number"),
        (lambda x: F.elu(x, math.nan), ArgumentError, "alpha=nan: expected a number"),
        (lambda x: F.leaky_relu(x, True), ArgumentError, "negative_slope=True: expected a number"),
        (lambda x: nn.LeakyReLU([0.1]), ArgumentError, "negative_slope=.0.1.: expected a number"),
        (lambda x: nn.PReLU(1, "a"), ArgumentError, "init='a': expected a number"),
        (lambda x: F.silu(x.astype("int32")), DTypeError, "input is int32"),
        (lambda x: nn.ReLU6(inplace="yes"), ArgumentError, "inplace='yes': expected True or"),
        (lambda x: nn.Tanh(inplace=True), TypeError, "Tanh: .*inplace"),
        (lambda x: F.celu(x, 0), ArgumentError, "alpha=0: expected a number other than 0"),
        (lambda x: F.hardtanh(x, 1, -1), ArgumentError, "min_val=1: expected at most max_val=-1"),
        (lambda x: F.softshrink(x, -1), ArgumentError, "lambd=-1: expected a number >= 0"),
        (lambda x: F.rrelu(x, 0.5, 0.2), ArgumentError, r"lower=0.5: expected .* to 0.2"),
        (lambda x: F.glu(x), ShapeError, r"axis -1 of shape \(2, 3\): expected an even length"),
        (lambda x: F.gumbel_softmax(x, 0), ArgumentError, "tau=0: expected a number > 0"),
        (lambda x: nn.Softmax2d()(x), ShapeError, r"expected \(N, C, H, W\) or \(C, H, W\)"),
    ],
)
def test_errors(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(backend.xp.ones((2, 3)))


def test_settings_of_numpy_types_keep_the_dtype(backend):
    x = backend.xp.ones(3, "float32")
    assert F.elu(x, np.float64(0.5)).dtype == np.float32
    assert F.leaky_relu(x, np.float32(0.5)).dtype == np.float32


# -- along an axis -------------------------------------------------------------------------


@each_softmax
@dtypes
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((3, 4), 1), ((3, 4), 0), ((3, 4), -1), ((5,), 0), ((2, 3, 4, 2), 1), ((2, 3, 1), -1)],
    ids=str,
)
def test_along_an_axis(evaluate, function, dtype, shape, dim):
    x = normal(*shape, dtype=dtype)
    found = evaluate(function, x, dim=dim)
    value, gradient = ALONG_AN_AXIS[function]
    assert_matches(found.y, value(x, dim), dtype)
    assert_matches(found.gradients[0], gradient(found.dy, x, dim), dtype)


@each_softmax
@given(
    x=hnp.arrays(
        np.float64, st.tuples(st.integers(0, 3), st.integers(1, 5)), elements=st.floats(-99, 99)
    )
)
def test_any_row(backend, function, x):
    found = evaluate_on(backend, function, x)
    value, gradient = ALONG_AN_AXIS[function]
    assert_matches(found.y, value(x, 1))
    assert_matches(found.gradients[0], gradient(found.dy, x, 1))


def test_softmax_of_many_classes_in_float16(evaluate):
    """Sums in float32: adding 1 to 2048 changes nothing in float16."""
    x = np.zeros((2, 8192), "float16")
    np.testing.assert_array_equal(evaluate(F.softmax, x).y, 1 / 8192)
    np.testing.assert_allclose(evaluate(F.log_softmax, x).y, -np.log(8192), rtol=1e-3)


@dtypes
def test_softmax_of_large_numbers(evaluate, dtype):
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype)
    third = 1 / 3
    assert_matches(evaluate(F.softmax, x).y, [[0.5, 0.5, 0], [third] * 3], dtype)
    half = np.log(0.5)
    log = [[half, half, half - 2e4], [np.log(third)] * 3]
    assert_matches(evaluate(F.log_softmax, x).y, log, dtype)


@pytest.mark.parametrize("function", [*ELEMENTWISE, *ALONG_AN_AXIS], ids=lambda f: f.__name__)
def test_gradcheck(backend, function):
    assert gradcheck(function, backend.asarray(normal(3, 4, 2))) < 1e-6


@pytest.mark.parametrize("function", [*ELEMENTWISE, *ALONG_AN_AXIS], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5)], ids=str)
def test_memory_order_stays(backend, function, shape):
    xp = backend.xp
    x = xp.moveaxis(backend.asarray(normal(*shape[1:], shape[0])), -1, 0)
    y, pullback = xcnn.vjp(function, x)
    assert is_batch_last(y)
    assert is_batch_last(pullback(xp.ones_like(y))[0])


@each_softmax
@pytest.mark.parametrize(("shape", "dim"), [((2, 3), 2), ((2, 3), -3), ((), 1), ((2, 3, 4), None)])
def test_no_such_axis(backend, function, shape, dim):
    with pytest.raises(ArgumentError, match=f"dim={dim}"):
        function(backend.asarray(normal(*shape)), dim=dim)


@each_softmax
def test_implicit_axis_and_dtype(backend, function):
    """dim=None: the only axis, or the classes; dtype converts first."""
    x = normal(3, 4, dtype="float32")
    value = ALONG_AN_AXIS[function][0]
    for array, axis in ((x, 1), (x[0], 0), (normal(2, 3, 4, 5, dtype="float32"), 1)):
        y = function(backend.asarray(array), dim=None)
        assert_matches(y, value(array, axis), "float32")
    assert_matches(function(backend.asarray(x), 0, "float64"), value(np.float64(x), 0), "float64")
    whole = backend.asarray(np.arange(6).reshape(2, 3))
    assert_matches(function(whole, dtype="float32"), value(np.arange(6.0).reshape(2, 3), 1))


@each_softmax
def test_of_nothing_and_of_one_number(evaluate, function):
    found = evaluate(function, np.zeros((2, 0), "float32"), dim=1)
    assert found.y.shape == found.gradients[0].shape == (2, 0)
    found = evaluate(function, np.array(3.0), dim=0)
    assert (found.y, found.gradients[0]) == (1.0 if function is F.softmax else 0.0, 0)


def test_softmax2d(backend):
    x = normal(2, 3, 4, 5)
    assert_matches(nn.Softmax2d()(backend.asarray(x)), oracles.softmax(x, 1))
    assert_matches(nn.Softmax2d()(backend.asarray(x[0])), oracles.softmax(x[0], 0))


# -- what is random, gated, or far ------------------------------------------------------------


def test_glu(evaluate):
    x = normal(3, 4, 2)
    found = evaluate(F.glu, x, dim=1)
    gate, slope = sigmoid(x[:, 2:])
    assert_matches(found.y, x[:, :2] * gate)
    expected = np.concatenate([found.dy * gate, found.dy * x[:, :2] * slope], 1)
    assert_matches(found.gradients[0], expected)


def test_rrelu(evaluate):
    """Slopes spread evenly over the range; the gradient is the slope that was drawn."""
    x = -np.abs(normal(100, 50, dtype="float32"))
    x[0] *= -1
    found = evaluate(F.rrelu, x, lower=0.2, upper=0.6, training=True, key=3)
    slopes = found.y / x
    assert (slopes[0] == 1).all()
    slopes = np.sort(slopes[1:].ravel())
    assert 0.2 <= slopes[0] < 0.21
    assert 0.59 < slopes[-1] <= 0.6 + 1e-6
    assert np.abs(slopes - np.linspace(0.2, 0.6, slopes.size)).max() < 0.4 * 0.04
    assert_matches(found.gradients[0], found.dy * np.float64(found.y) / x, "float32", factor=10)


def test_layer_of_random_slopes(backend):
    x, layer = backend.asarray(-np.ones((4, 5), "float32")), nn.RReLU()
    first, second = layer(x).numpy(), layer(x).numpy()
    assert (first != second).all()
    assert (
        F.rrelu(x, training=True, key=1).numpy() == F.rrelu(x, training=True, key=1).numpy()
    ).all()
    assert_matches(layer.eval()(x), np.full((4, 5), -11 / 48), "float32")


def test_gumbel_softmax(backend):
    """How often each class wins is the softmax of the logits."""
    p = np.array([0.1, 0.2, 0.7], "float32")
    logits = backend.asarray(np.tile(np.log(p), (20000, 1)))
    hard = F.gumbel_softmax(logits, 0.5, hard=True, key=4).numpy()
    np.testing.assert_allclose(hard.max(1), 1, rtol=1e-6)
    np.testing.assert_allclose(hard.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(hard.mean(0), p, atol=5 * 0.5 / math.sqrt(20000))
    soft = F.gumbel_softmax(logits, 0.5, key=4).numpy()
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
    assert (soft.argmax(1) == hard.argmax(1)).all()


def test_hard_samples_have_the_gradient_of_soft_ones(evaluate):
    x = normal(5, 4)
    hard = evaluate(F.gumbel_softmax, x, tau=0.7, hard=True, dim=0, key=4)
    soft = evaluate(F.gumbel_softmax, x, tau=0.7, dim=0, key=4)
    assert_matches(hard.gradients[0], soft.gradients[0])


INPLACE = [F.relu, F.relu6, F.elu, F.selu, F.celu, F.leaky_relu, F.silu, F.mish, F.hardtanh]


@pytest.mark.parametrize("function", [*INPLACE, F.hardsigmoid, F.hardswish, F.rrelu])
def test_inplace_leaves_the_input(backend, function):
    x = normal(3, 2)
    on_device = backend.asarray(x)
    y = function(on_device, inplace=True)
    assert (backend.to_host(on_device) == x).all()
    assert (y.numpy() == function(on_device).numpy()).all()


def test_an_alpha_beyond_the_dtype(backend):
    """0 times infinity would be NaN."""
    x = backend.asarray(np.array([-1.0, 0.0, 2.0], "float32"))
    y, pullback = xcnn.vjp(F.elu, x, alpha=1e300)
    assert y[0] < -1e38
    assert backend.to_host(y)[1:].tolist() == [0, 2]
    assert backend.to_host(pullback(backend.xp.ones_like(y))[0])[2] == 1
    assert F.celu(x, 1e-300).numpy()[1:].tolist() == [0, 2]


def test_names_of_layers_show_what_was_set():
    assert repr(nn.ReLU(True)) == "ReLU(inplace=True)"
    assert repr(nn.CELU()) == "CELU()"
    assert repr(nn.Threshold(0.1, 20)) == "Threshold(0.1, 20)"
