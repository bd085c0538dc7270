"""abs, exp, log, pow, maximum and the like, against Python's own functions."""

import math

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn.errors import ArgumentError, DTypeError, ShapeError

from . import oracles
from .conftest import assert_matches, is_batch_last, layouts, normal

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def squared(value):
    return value * value


ONE = {  # value and derivative of one number; where the inputs start
    "abs": (F.abs, abs, lambda x: math.copysign(1, x), -3),
    "erf": (F.erf, math.erf, lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x), -3),
    "exp": (F.exp, math.exp, math.exp, -3),
    "log": (F.log, math.log, lambda x: 1 / x, 0.1),
    "reciprocal": (F.reciprocal, lambda x: 1 / x, lambda x: -1 / squared(x), 0.1),
    "sqrt": (F.sqrt, math.sqrt, lambda x: 0.5 / math.sqrt(x), 0.1),
    "threshold": (
        lambda x: F.threshold(x, 0.5, -2),
        lambda x: x if x > 0.5 else -2.0,
        lambda x: float(x > 0.5),
        -3,
    ),
}
each = pytest.mark.parametrize(("function", "value", "slope", "start"), ONE.values(), ids=ONE)


def numbers(start, *shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).uniform(start, 3, shape).astype(dtype)


def of_each(function, *arrays):
    """``function`` of every number, or of every pair after broadcasting, in float64."""
    arrays = np.broadcast_arrays(*[np.float64(a) for a in arrays])
    found = [function(*(float(v) for v in pair)) for pair in zip(*map(np.ravel, arrays))]  # noqa: B905
    return np.reshape(found, arrays[0].shape)


@each
@dtypes
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4, 5), (0, 3)], ids=str)
def test_of_one_array(evaluate, function, value, slope, start, dtype, shape):
    x = numbers(start, *shape, dtype=dtype)
    found = evaluate(function, x)
    assert_matches(found.y, of_each(value, x), dtype)
    assert_matches(found.gradients[0], found.dy * of_each(slope, x), dtype)


@each
def test_memory_stays_batch_last(backend, function, value, slope, start):
    for x in layouts(backend, numbers(start, 3, 4, 5, 2)).values():
        y, pullback = xcnn.vjp(function, x)
        assert_matches(y, of_each(value, backend.to_host(x)))
    y, pullback = xcnn.vjp(function, layouts(backend, numbers(start, 3, 4, 5, 2))["batch-last"])
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


def power_slopes(a, b):
    base = b * a ** (b - 1) if b else 0.0
    return base, (a**b * math.log(a) if a else 0.0)


TWO = {  # value and both derivatives of two numbers
    "maximum": (F.maximum, max, lambda a, b: (float(a > b), float(a < b))),
    "minimum": (F.minimum, min, lambda a, b: (float(a < b), float(a > b))),
    "pow": (F.pow, pow, power_slopes),
}
pairs = pytest.mark.parametrize(("function", "value", "slopes"), TWO.values(), ids=TWO)


@pairs
@dtypes
@pytest.mark.parametrize(
    "shapes", [((3, 4), (3, 4)), ((3, 1, 4), (5, 1)), ((), (2, 3)), ((0, 3), (3,))], ids=str
)
def test_of_two_arrays(evaluate, function, value, slopes, dtype, shapes):
    a, b = (numbers(0.1, *s, dtype=dtype, seed=i) for i, s in enumerate(shapes))
    found = evaluate(function, a, b)
    assert_matches(found.y, of_each(value, a, b), dtype)
    for i, (gradient, shape) in enumerate(zip(found.gradients, shapes, strict=True)):
        terms = found.dy * of_each(lambda a, b, i=i: slopes(a, b)[i], a, b)
        assert_matches(gradient, oracles.summed_to(terms, shape), dtype)


@pairs
def test_shapes_that_do_not_broadcast(backend, function, value, slopes):
    with pytest.raises(ShapeError, match="do not broadcast"):
        function(backend.xp.ones(2), backend.xp.ones(3))


@pairs
def test_a_number_takes_the_others_dtype(backend, function, value, slopes):
    y = function(backend.xp.full((2, 2), 3.0, "float32"), 2)
    assert_matches(y, np.full((2, 2), value(3.0, 2)), "float32")


def test_an_int_takes_the_dtype_of_a_float():
    for y in (F.pow(2.5, 2), F.pow(2.5, 2.0), F.add(6.25, 0), F.add(6, 0.25)):
        assert_matches(y, 6.25, "float32")


def test_pow_of_what_is_negative_or_zero(evaluate):
    torch = pytest.importorskip("torch")
    a = np.array([-2.0, -2.0, 0.0, 0.0, 0.0, 1.5])
    b = np.array([3.0, -2.0, 0.0, 1.0, 2.0, 0.0])
    found = evaluate(F.pow, a, b)
    inputs = [torch.tensor(v, requires_grad=True) for v in (a, b)]
    y = torch.pow(*inputs)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    assert_matches(found.gradients[0], inputs[0].grad.numpy())
    # the logarithm of a negative number
    assert np.isnan(found.gradients[1][:2]).all()
    assert_matches(found.gradients[1][2:], inputs[1].grad.numpy()[2:])


def test_without_a_gradient_for_the_exponent(backend):
    """Negative bases give it none: nothing warns where it is not wanted."""
    x = xcnn.Tensor(backend.asarray(-np.ones(3)), requires_grad=True)
    F.pow(x, 2).sum().backward()
    assert backend.to_host(x.grad.data).tolist() == [-2] * 3


@pytest.mark.parametrize("function", [F.maximum, F.minimum], ids=["maximum", "minimum"])
def test_equal_numbers_share_the_gradient(evaluate, function):
    found = evaluate(function, np.ones((2, 3)), np.ones((2, 3)))
    assert_matches(found.gradients[0], found.dy / 2)
    assert_matches(found.gradients[1], found.dy / 2)


def test_abs_has_no_gradient_at_zero(evaluate):
    assert evaluate(F.abs, np.array([0.0, -0.0])).gradients[0].tolist() == [0, 0]


@pytest.mark.parametrize("function", [f for f, *_ in ONE.values()], ids=list(ONE))
def test_nan_propagates(evaluate, function):
    assert np.isnan(evaluate(function, np.array([np.nan, 1.0])).y).tolist() == [True, False]


def test_erf_far_away(evaluate):
    found = evaluate(F.erf, np.array([-np.inf, -1e30, 1e30, np.inf], "float32"))
    assert found.y.tolist() == [-1, -1, 1, 1]
    assert found.gradients[0].tolist() == [0] * 4


def test_float16(backend):
    x = numbers(0.5, 3, 4, dtype="float16")
    for function, value, _, _ in ONE.values():
        y, pullback = xcnn.vjp(function, backend.asarray(x))
        assert y.dtype == pullback(y)[0].dtype == np.float16
        np.testing.assert_allclose(
            np.float64(backend.to_host(y)), of_each(value, x), rtol=2e-3, atol=1e-3
        )


def test_what_is_refused(backend):
    with pytest.raises(ArgumentError, match="threshold=None"):
        F.threshold(backend.xp.ones(2), None, 0)
    with pytest.raises(ArgumentError, match="value=nan"):
        F.threshold(backend.xp.ones(2), 0, math.nan)
    with pytest.raises(DTypeError, match=r"input is float64, exponent is float32"):
        F.pow(backend.asarray(normal(2)), backend.asarray(normal(2, dtype="float32")))


# -- where ---------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4),) * 3,
        ((4,), (3, 1), (2, 1, 4)),
        ((3, 1), (), (4,)),
        ((0, 3), (3,), (0, 1)),
        ((3,), (3,), (1, 3)),
        ((1, 3), (3,), ()),
        ((4, 3), (1, 3), (3,)),
    ],
    ids=str,
)
def test_where(evaluate, dtype, shapes):
    condition = normal(*shapes[0]) > 0
    a, b = (normal(*s, seed=i, dtype=dtype) for i, s in enumerate(map(tuple, shapes[1:]), 1))
    a, b = np.asarray(a, dtype), np.asarray(b, dtype)
    found = evaluate(F.where, condition, a, b)
    chosen = of_each(lambda c, x, y: x if c else y, condition, a, b)
    assert_matches(found.y, chosen, dtype)
    assert found.gradients[0] is None
    taken = np.broadcast_to(condition, chosen.shape)
    assert_matches(found.gradients[1], oracles.summed_to(found.dy * taken, a.shape), dtype)
    assert_matches(found.gradients[2], oracles.summed_to(found.dy * ~taken, b.shape), dtype)


def test_where_stays_batch_last(backend):
    values = normal(3, 4, 5, 2)
    for layout, x in layouts(backend, values).items():
        y, pullback = xcnn.vjp(lambda a: F.where(a.data > 0, a, 0), x)
        dx = pullback(y)[0]
        assert_matches(y, np.maximum(values, 0))
        assert_matches(dx, np.maximum(values, 0))
        if layout == "batch-last":
            assert is_batch_last(y)
            assert is_batch_last(dx)


def test_where_of_numbers_and_of_other_types(backend):
    condition = backend.asarray(np.array([True, False]))
    x = backend.asarray(np.ones(2, "float32"))
    assert F.where(condition, x, -3).numpy().tolist() == [1, -3]
    assert F.where(condition, -3, x).numpy().tolist() == [-3, 1]
    assert F.where(condition, x, -3).dtype == "float32"
    for values in (np.arange(2), np.array([True, True]), np.ones(2, "float16")):
        y = F.where(condition, backend.asarray(values), backend.asarray(np.zeros_like(values)))
        assert y.dtype == values.dtype
        assert y.numpy().tolist() == [values[0], 0]


def test_where_leaves_alone_what_it_does_not_take(evaluate):
    """NaN there reaches neither the value nor the gradient of the other."""
    condition, a, b = np.array([True, False]), np.array([2.0, np.nan]), np.array([np.nan, 3.0])
    found = evaluate(F.where, condition, a, b)
    assert found.y.tolist() == [2, 3]
    assert found.gradients[1].tolist() == [found.dy[0], 0]
    assert found.gradients[2].tolist() == [0, found.dy[1]]


def test_what_where_refuses(backend):
    ones, condition = backend.xp.ones(3), backend.asarray(np.ones(3, bool))
    with pytest.raises(DTypeError, match="condition is float64: expected bool"):
        F.where(ones, ones, ones)
    with pytest.raises(DTypeError, match="input is float64, other is float32"):
        F.where(condition, ones, ones.astype("float32"))
    with pytest.raises(ShapeError, match=r"\(3,\), \(3,\) and \(2,\) do not broadcast"):
        F.where(condition, ones, ones[:2])


def test_methods_of_tensors(backend):
    x = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4))
    tensor = xcnn.Tensor(backend.asarray(x))
    for found, wanted in (
        (abs(-tensor), x),
        (tensor**2, x**2),
        (2**tensor, 2**x),
        (tensor.pow(-0.5), x**-0.5),
        ((-tensor).abs(), x),
        (tensor.exp(), np.exp(x)),
        (tensor.log(), np.log(x)),
        (tensor.sqrt(), np.sqrt(x)),
        (tensor.reciprocal(), 1 / x),
    ):
        assert_matches(found.numpy(), wanted)


BINARY = [F.add, F.sub, F.mul, F.div, F.maximum, F.minimum, F.pow]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (0,)])
@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.__name__)
def test_a_number_does_not_change_the_shape(backend, function, shape):
    a = backend.asarray(np.full(shape, 0.5, "float32"))
    for number in (2, 2.0, np.float64(2)):
        for operands in ((a, number), (number, a)):
            y = function(*operands)
            assert (y.shape, y.dtype, type(y.data)) == (shape, "float32", type(a))
    for choice in ((a, 2.0), (2.0, a)):
        assert F.where(backend.asarray(np.full(shape, True)), *choice).shape == shape


# -- comparisons, logic and whole numbers ----------------------------------------------------

COMPARISONS = {
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "ne": np.not_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}


@pytest.mark.parametrize("dtypes", [("float32",) * 2, ("int64", "float64"), ("bool", "uint8")])
@pytest.mark.parametrize(
    "shapes", [((3, 4), (3, 4)), ((2, 1, 3), (4, 1)), ((0, 3), (3,)), ((), ())]
)
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(backend, name, shapes, dtypes):
    a, b = (
        np.random.default_rng(seed).integers(0, 3, shape).astype(dtype)
        for seed, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    )
    found = getattr(F, name)(backend.asarray(a), backend.asarray(b))
    assert found.dtype == bool
    assert not found.requires_grad
    np.testing.assert_array_equal(found.numpy(), COMPARISONS[name](a, b))


OPERATORS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "reflected <": lambda a, b: 2 < a,  # noqa: SIM300
    "accuracy": lambda a, b: (a == b).astype("float64") * 1,
    "number": lambda a, b: a != 1.5,
    "not": lambda a, b: ~(a == b),
    "and": lambda a, b: (a > 0) & (b > 0),
    "or": lambda a, b: (a > 1) | (b > 1),
    "xor": lambda a, b: (a > 1) ^ (b > 1),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_compare_elements(backend, name):
    a, b = np.array([[0.0, 1, 2], [1.5, 3, 2]]), np.array([0.0, 3, 2])
    found = OPERATORS[name](xcnn.Tensor(backend.asarray(a)), xcnn.Tensor(backend.asarray(b)))
    np.testing.assert_array_equal(found.numpy(), OPERATORS[name](a, b))


def test_tensors_are_hashed_by_identity(backend):
    a, b = (xcnn.Tensor(backend.xp.zeros(2)) for _ in range(2))
    assert len({a, b, a}) == 2
    assert {a: 1, b: 2}[b] == 2
    assert (a == None) is False  # noqa: E711
    assert (a != "text") is True


@pytest.mark.parametrize(
    "other", [3, 2.5, True, np.int64(2), np.arange(1, 4), np.float32([1, 2, 4])]
)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_arithmetic_of_whole_numbers(backend, dtype, other):
    """PyTorch's rules: floats make floats, of 32 bits unless an operand has more."""
    a = np.array([1, 0, 5]).astype(dtype)
    tensor = xcnn.Tensor(backend.asarray(a))
    there = backend.asarray(other) if isinstance(other, np.ndarray) else other
    is_float = np.asarray(other).dtype.kind == "f"
    if dtype == "bool" and other is True:
        return  # the sum of two bools is a bool
    for symbol, function in {
        "+": np.add,
        "*": np.multiply,
        "/": np.divide,
        "//": np.floor_divide,
    }.items():
        found = eval(f"tensor {symbol} there", {"tensor": tensor, "there": there})
        expected = function(a.astype("float64"), np.asarray(other).astype("float64"))
        assert (found.dtype == "float32") == (is_float or symbol == "/")
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod", "div floor", "div trunc"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_quotients_and_remainders(backend, name, dtype):
    a, b = np.array([[7, -7], [6, -1]]).astype(dtype), np.array([[3, 3], [-4, 5]]).astype(dtype)
    expected = {
        "floor_divide": np.floor(a / b),
        "remainder": a - b * np.floor(a / b),
        "fmod": a - b * np.trunc(a / b),
        "div floor": np.floor(a / b),
        "div trunc": np.trunc(a / b),
    }[name]
    function, *mode = name.split()
    settings = {"rounding_mode": mode[0]} if mode else {}
    found = getattr(F, function)(backend.asarray(a), backend.asarray(b), **settings)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits(backend, name):
    a, b = np.array([12, 10, 255], "uint8"), np.array([10, 3, 1], "uint8")
    found = getattr(F, name)(backend.asarray(a), backend.asarray(b))
    np.testing.assert_array_equal(found.numpy(), getattr(np, name)(a, b))
    np.testing.assert_array_equal(F.bitwise_not(backend.asarray(a)).numpy(), 255 - a)
    with pytest.raises(DTypeError, match="not for arrays of float64"):
        getattr(F, name)(backend.xp.ones(2), backend.xp.ones(2))


def test_closeness(backend):
    a = backend.asarray(np.array([1, 1 + 1e-6, 1.1, np.nan, np.inf]))
    b = backend.asarray(np.array([1, 1, 1, np.nan, np.inf]))
    assert F.isclose(a, b).tolist() == [True, True, False, False, True]
    assert F.isclose(a, b, rtol=0.2, equal_nan=True).tolist() == [True] * 5
    assert F.logical_not(backend.asarray(np.array([0.0, 2, -1]))).tolist() == [True, False, False]


def test_alpha(backend):
    a, b = (backend.asarray(normal(3, seed=seed)) for seed in (1, 2))
    np.testing.assert_allclose(
        F.add(a, b, alpha=3).numpy(), normal(3, seed=1) + 3 * normal(3, seed=2)
    )
    np.testing.assert_allclose(F.sub(a, 2, alpha=0.5).numpy(), normal(3, seed=1) - 1)


def test_division_by_zero_is_quiet(backend):
    """Warnings are errors here; the results are IEEE's."""
    x = xcnn.Tensor(backend.asarray(np.array([1.0, -1.0, 0.0])), requires_grad=True)
    zero = backend.asarray(np.zeros(3))
    y = F.div(x, zero)
    y.backward(backend.asarray(np.ones(3)))
    assert_matches(y.data, [math.inf, -math.inf, math.nan])
    assert_matches(x.grad, [math.inf] * 3)
    assert_matches(F.div(x.detach().long(), 0).numpy(), [math.inf, -math.inf, math.nan], "float32")
    assert_matches(F.pow(zero, -1), [math.inf] * 3)
    assert_matches(F.pow(x, 0.5).data, [1, math.nan, 0])
    assert_matches(F.floor_divide(x, zero), [math.inf, -math.inf, math.nan])
    for function in (F.remainder, F.fmod):
        assert np.isnan(function(x, zero).numpy()).all()


@pytest.mark.parametrize("function", [F.floor_divide, F.remainder, F.fmod])
def test_integers_divided_by_zero(function):
    """A GPU gives 0, as checking would wait for it."""
    with pytest.raises(ArgumentError, match=f"{function.__name__}: an integer is divided by 0"):
        function(np.array([1, 2]), np.array([1, 0]))


def test_powers_of_integers():
    assert F.pow(np.array([2, 3]), np.array([3, 0])).tolist() == [8, 1]
    with pytest.raises(ArgumentError, match=r"Pow: Integers to negative .*\.float\(\)"):
        F.pow(np.array([2, 3]), -1)


@pytest.mark.parametrize(("mode", "expected"), [("trunc", [[3, -3]] * 2), ("floor", [[3, -4]] * 2)])
def test_rounded_quotients_have_a_gradient_of_zero(backend, mode, expected):
    x = xcnn.Tensor(backend.asarray(np.array([7.5, -7.5])), requires_grad=True)
    divisor = xcnn.Tensor(backend.asarray(np.full((2, 1), 2.0)), requires_grad=True)
    y = F.div(x, divisor, rounding_mode=mode)
    assert y.tolist() == expected
    y.sum().backward()
    assert x.grad.tolist() == [0, 0]
    assert divisor.grad.tolist() == [[0], [0]]


def test_of_both_the_number_rather_than_nan(backend):
    a = backend.asarray(np.array([1, math.nan, 3, math.nan]))
    b = backend.asarray(np.array([2, 5, math.nan, math.nan]))
    assert_matches(F.fmax(a, b), [2, 5, 3, math.nan])
    assert_matches(F.fmin(a, b), [1, 5, 3, math.nan])


def test_all_close_and_equal(backend):
    a, b = (backend.asarray(np.array(v)) for v in ([1.0, 2.0], [1.0, 2.0 + 1e-7]))
    assert F.equal(a, a) is True
    assert F.equal(a, b) is False
    assert F.equal(a, a[:1]) is False
    assert F.allclose(a, b) is True
    assert F.allclose(a, b, rtol=0) is False
    assert F.isin(a, backend.asarray(np.array([[2.0, 9.0]]))).tolist() == [False, True]


def test_text_equals_no_tensor():
    x = xcnn.Tensor([1.0, 2.0])
    assert not np.any(x == np.array(["1.0", "2.0"]))
    assert (x == "1.0") is False
