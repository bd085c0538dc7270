"""The test helpers for user-defined layers."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import DTypeError, GradientError
from xcnn.testing import assert_close, gradcheck


class Square(xcnn.Function):
    """x², whose gradient is off by ``factor``."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, backend, x):
        self.save(x=x)
        return x * x

    def backward(self, backend, dy):
        return 2 * self.factor * self.saved.x * dy


class Scale(nn.Module):
    """x times a parameter, through an operation whose gradient is off by ``factor``."""

    def __init__(self, factor=1.0):
        self.weight = xcnn.Parameter(np.array([1.5, -0.5]))
        self.factor = factor

    def forward(self, x):
        return x + Square(self.factor)(self.weight)


def draw(*shape):
    return np.random.default_rng(3).standard_normal(shape)


def test_right_gradient_passes(backend):
    assert gradcheck(Square(), backend.asarray(draw(3, 4))) < 1e-8


@pytest.mark.parametrize("factor", [0.99, 1.001, -1])
def test_wrong_gradient_fails(backend, factor):
    with pytest.raises(AssertionError, match="argument 0: the gradient"):
        gradcheck(Square(factor), backend.asarray(draw(3, 4)))


def test_parameters_of_a_module_are_checked():
    assert gradcheck(Scale(), draw(3, 2)) < 1e-8
    with pytest.raises(AssertionError, match="weight: the gradient"):
        gradcheck(Scale(1.01), draw(3, 2))


def test_parameters_are_restored():
    module = Scale()
    before = module.weight.data
    gradcheck(module, draw(3, 2))
    assert module.weight.data is before
    assert np.array_equal(before, [1.5, -0.5])


def test_a_kink_is_refused():
    with pytest.raises(GradientError, match="kink"):
        gradcheck(F.relu, np.zeros((2, 2)))


def test_float32_is_refused():
    with pytest.raises(DTypeError, match="argument 0 is float32"):
        gradcheck(F.relu, np.ones((2, 2), np.float32))


def test_assert_close(backend):
    x = backend.asarray(np.array([1.0, 2.0], np.float32))
    assert_close(x, [1.0, 2.0 + 1e-6], dtype="float32")
    assert_close(xcnn.Tensor(x), [1.0, 2.0])
    with pytest.raises(AssertionError, match="shape"):
        assert_close(x, [[1.0, 2.0]])
    with pytest.raises(AssertionError, match="dtype"):
        assert_close(x, [1.0, 2.0], dtype="float64")
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_close(x, [1.0, 2.001])
    with pytest.raises(AssertionError):
        assert_close(x, [1.0, np.nan])


def test_vjp_of_one_element_needs_no_gradient(backend):
    x = backend.asarray(draw(2, 3))
    _, pullback = xcnn.vjp(F.mean, x)
    assert_close(pullback()[0], np.full((2, 3), 1 / 6))
    _, pullback = xcnn.vjp(F.relu, x)
    with pytest.raises(GradientError, match="one element"):
        pullback()
