"""Losses with every reduction, against their formulas in float64."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, normal

REDUCTIONS = ["mean", "sum", "none"]
reductions = pytest.mark.parametrize("reduction", REDUCTIONS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def labels(*shape, classes, dtype="int64"):
    return np.random.default_rng(3).integers(0, classes, shape).astype(dtype)


def probabilities(*shape, seed=5):
    return oracles.softmax(normal(*shape, seed=seed), 1)


def check(found, terms, slopes, reduction, dtype=None):
    """Value and first gradient; ``slopes`` may have a class axis that ``terms`` has not."""
    assert_matches(found.y, oracles.reduced(terms, reduction), dtype)
    dy = found.dy
    if reduction == "none" and slopes.ndim > terms.ndim:
        dy = dy[:, None]
    expected = oracles.reduced_gradient(slopes, dy, reduction, terms.size)
    assert_matches(found.gradients[0], expected, dtype)


# -- classes -------------------------------------------------------------------------------


@reductions
@dtypes
@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (2, 3, 4), (2, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("target_dtype", ["int64", "int32", "uint8"])
def test_cross_entropy_of_classes(evaluate, reduction, dtype, shape, target_dtype):
    x = normal(*shape, dtype=dtype)
    target = labels(shape[0], *shape[2:], classes=shape[1], dtype=target_dtype)
    found = evaluate(F.cross_entropy, x, target, reduction=reduction)
    hot = oracles.one_hot(target, shape[1])
    terms, slopes = oracles.cross_entropy_terms(x, hot), oracles.cross_entropy_slopes(x, hot)
    check(found, terms, slopes, reduction, dtype)
    assert found.gradients[1] is None


@reductions
@dtypes
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 2)], ids=str)
def test_cross_entropy_of_probabilities(evaluate, reduction, dtype, shape):
    x = normal(*shape, dtype=dtype)
    target = (1.5 * probabilities(*shape)).astype(dtype)  # they need not sum to one
    found = evaluate(F.cross_entropy, x, target, reduction=reduction)
    terms = oracles.cross_entropy_terms(x, target)
    check(found, terms, oracles.cross_entropy_slopes(x, target), reduction, dtype)


@given(batch=st.integers(1, 4), classes=st.integers(1, 5), data=st.data())
def test_any_classes(backend, batch, classes, data):
    target = np.array(
        data.draw(st.lists(st.integers(0, classes - 1), min_size=batch, max_size=batch))
    )
    x = 20 * normal(batch, classes, seed=data.draw(st.integers(0, 99)))
    hot = oracles.one_hot(target, classes)
    found = evaluate_on(backend, F.cross_entropy, x, target)
    check(found, oracles.cross_entropy_terms(x, hot), oracles.cross_entropy_slopes(x, hot), "mean")


@reductions
@dtypes
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 2, 2)], ids=str)
def test_nll(evaluate, reduction, dtype, shape):
    x = oracles.log_softmax(normal(*shape), 1).astype(dtype)
    target = labels(shape[0], *shape[2:], classes=shape[1])
    hot = oracles.one_hot(target, shape[1])
    found = evaluate(F.nll_loss, x, target, reduction=reduction)
    check(found, -(hot * x.astype("float64")).sum(axis=1), -hot, reduction, dtype)


def test_nll_picks_finite_among_infinite(evaluate):
    x = np.array([[-np.inf, -1.0], [-2.0, -np.inf]])
    assert_matches(evaluate(F.nll_loss, x, np.array([1, 0])).y, 1.5)


def test_sure_and_wrong_is_large_but_finite(evaluate):
    x = np.array([[1000.0, -1000.0]], "float32")
    found = evaluate(F.cross_entropy, x, np.array([1]))
    assert_matches(found.y, 2000, "float32")
    assert_matches(found.gradients[0], found.dy * np.array([[1.0, -1.0]]), "float32")


@pytest.mark.parametrize("bad", [-1, 3])
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss], ids=lambda f: f.__name__)
def test_class_that_does_not_exist(backend, loss, bad):
    """An error on the CPU; on a GPU, where looking would stop the device, NaN for that example."""
    x, target = backend.asarray(normal(2, 3)), backend.asarray(np.array([0, bad]))
    if backend.device == "cpu":
        with pytest.raises(ArgumentError, match=f"class {bad}.*3 classes.*0 to 2"):
            loss(x, target)
    else:
        terms = loss(x, target, reduction="none").numpy()
        assert np.isnan(terms).tolist() == [False, True]


# -- elementwise ---------------------------------------------------------------------------


@reductions
@dtypes
@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 3, 2, 2), ()], ids=str)
def test_mse(evaluate, reduction, dtype, shape):
    x, target = normal(*shape).astype(dtype), normal(*shape, seed=1).astype(dtype)
    found = evaluate(F.mse_loss, x, target, reduction=reduction)
    difference = np.float64(x) - np.float64(target)
    check(found, difference**2, 2 * difference, reduction, dtype)
    assert_matches(found.gradients[1], -found.gradients[0])


@reductions
@dtypes
def test_binary_cross_entropy(evaluate, reduction, dtype):
    x = oracles.sigmoid(normal(4, 3)).astype(dtype)
    target = oracles.sigmoid(normal(4, 3, seed=1)).astype(dtype)
    found = evaluate(F.binary_cross_entropy, x, target, reduction=reduction)
    p, t = np.float64(x), np.float64(target)
    terms = oracles.binary_cross_entropy_terms(p, t)
    check(found, terms, -t / p + (1 - t) / (1 - p), reduction, dtype)


@dtypes
def test_binary_cross_entropy_costs_at_most_100(evaluate, dtype):
    x, target = np.array([0, 1, 0, 1], dtype), np.array([0, 0, 1, 1], dtype)
    found = evaluate(F.binary_cross_entropy, x, target, reduction="none")
    assert_matches(found.y, [0, 100, 100, 0], dtype)
    assert np.isfinite(found.gradients[0]).all()


@reductions
@dtypes
def test_binary_cross_entropy_with_logits(evaluate, reduction, dtype):
    x = (3 * normal(4, 3)).astype(dtype)
    target = oracles.sigmoid(normal(4, 3, seed=1)).astype(dtype)
    found = evaluate(F.binary_cross_entropy_with_logits, x, target, reduction=reduction)
    p, t = oracles.sigmoid(np.float64(x)), np.float64(target)
    check(found, oracles.binary_cross_entropy_terms(p, t), p - t, reduction, dtype)


def test_logits_neither_overflow_nor_saturate(evaluate):
    x, target = np.array([-1e4, 1e4, -1e4, 1e4], "float32"), np.array([0, 0, 1, 1], "float32")
    found = evaluate(F.binary_cross_entropy_with_logits, x, target, reduction="none")
    assert_matches(found.y, [0, 1e4, 1e4, 0], "float32")
    assert_matches(found.gradients[0], found.dy * [0, 1, -1, 0], "float32")


# -- all of them ---------------------------------------------------------------------------

PROBABILITY = oracles.sigmoid(normal(4, 3, seed=8))
CALLS = {
    "mse": (F.mse_loss, normal(4, 3), normal(4, 3, seed=1)),
    "cross_entropy": (F.cross_entropy, normal(4, 3), labels(4, classes=3)),
    "soft_cross_entropy": (F.cross_entropy, normal(4, 3), probabilities(4, 3)),
    "nll": (F.nll_loss, normal(4, 3), labels(4, classes=3)),
    "bce": (F.binary_cross_entropy, PROBABILITY, PROBABILITY[::-1].copy()),
    "bce_with_logits": (F.binary_cross_entropy_with_logits, normal(4, 3), PROBABILITY),
}
calls = pytest.mark.parametrize(("loss", "x", "target"), CALLS.values(), ids=CALLS)


@calls
@reductions
def test_gradcheck(backend, loss, x, target, reduction):
    device_target = backend.asarray(target)

    def of_input(x):
        return loss(x, device_target, reduction=reduction)

    assert gradcheck(of_input, backend.asarray(x)) < 1e-6


def test_gradcheck_of_both_arguments_of_mse(backend):
    _, x, target = CALLS["mse"]
    assert gradcheck(F.mse_loss, backend.asarray(x), backend.asarray(target)) < 1e-6


@calls
def test_reductions_agree(evaluate, loss, x, target):
    mean, total, terms = (evaluate(loss, x, target, reduction=r).y for r in REDUCTIONS)
    assert_matches(total, terms.sum())
    assert_matches(mean, terms.mean())


@calls
def test_mean_of_no_examples_is_nan(backend, loss, x, target):
    y, pullback = xcnn.vjp(loss, backend.asarray(x[:0]), backend.asarray(target[:0]))
    assert math.isnan(float(backend.to_host(y)))
    assert pullback(y)[0].shape == (0, *x.shape[1:])


@calls
def test_unknown_reduction(backend, loss, x, target):
    with pytest.raises(ArgumentError, match="reduction='avg'"):
        loss(backend.asarray(x), backend.asarray(target), reduction="avg")


@pytest.mark.parametrize(
    ("loss", "x", "target", "error", "text"),
    [
        (F.mse_loss, normal(4, 3), normal(4), ShapeError, "must be equal"),
        (F.binary_cross_entropy, PROBABILITY, PROBABILITY[:2], ShapeError, "must be equal"),
        (F.mse_loss, normal(4), normal(4, dtype="float32"), DTypeError, "target is float32"),
        (F.mse_loss, normal(4), np.zeros(4, int), DTypeError, "target is int64"),
        (F.cross_entropy, normal(4, 3), np.zeros(3, int), ShapeError, r"shape \(4,\)"),
        (F.cross_entropy, normal(4), np.zeros(4, int), ShapeError, r"\(N, classes, ...\)"),
        (F.cross_entropy, normal(4, 3), np.zeros(4), DTypeError, "integer class indices"),
        (F.cross_entropy, normal(4, 3), np.zeros((4, 1), int), ShapeError, r"shape \(4,\)"),
        (F.nll_loss, normal(4, 3), probabilities(4, 3), ShapeError, r"shape \(4,\)"),
        (F.nll_loss, normal(4, 3), np.zeros(4, bool), DTypeError, "target is bool"),
    ],
)
def test_errors(backend, loss, x, target, error, text):
    with pytest.raises(error, match=text):
        loss(backend.asarray(x), backend.asarray(target))
