"""Losses with every reduction, against their formulas in float64."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.backends import Backend
from xcnn.errors import ArgumentError, DTypeError, GradientError, ShapeError
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


# -- classes: weights, ignored examples, smoothing ------------------------------------------

SHAPES = [(7, 5), (1, 5), (4, 5, 3), (4, 5, 3, 2)]
WEIGHT = np.array([0.5, 2, 0, 1, 3])
weights = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
ignored = pytest.mark.parametrize("ignore_index", [-100, 1, 255])
smoothings = pytest.mark.parametrize("smoothing", [0, 0.1, 1], ids=lambda s: f"smooth-{s}")


def classes_with(ignore_index, shape):
    target = labels(shape[0], *shape[2:], classes=shape[1])
    target.reshape(-1)[::3] = ignore_index
    return target


def mean_of(found, terms, slopes, total, reduction, dtype):
    """Like ``check``; the mean divides by ``total``, and is NaN where that is 0."""
    dy = found.dy[:, None] if reduction == "none" else found.dy
    with np.errstate(invalid="ignore"):
        mean = np.float64(terms.sum()) / total
    assert_matches(found.y, {"mean": mean, "sum": terms.sum(), "none": terms}[reduction], dtype)
    scale = 1 / total if reduction == "mean" and total else 1
    assert_matches(found.gradients[0], slopes * dy * scale, dtype)


@reductions
@dtypes
@weights
@ignored
@smoothings
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy_settings(
    backend, evaluate, shape, smoothing, ignore_index, weight, dtype, reduction
):
    x, target = normal(*shape, dtype=dtype), classes_with(ignore_index, shape)
    settings = {"ignore_index": ignore_index, "label_smoothing": smoothing}
    given = None if weight is None else backend.asarray(weight.astype(dtype))
    found = evaluate(F.cross_entropy, x, target, weight=given, reduction=reduction, **settings)
    mean_of(
        found,
        *oracles.weighted_classes(x, target, weight, ignore_index, smoothing),
        reduction,
        dtype,
    )


@reductions
@dtypes
@weights
@ignored
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nll_settings(backend, evaluate, shape, ignore_index, weight, dtype, reduction):
    x, target = normal(*shape, dtype=dtype), classes_with(ignore_index, shape)
    settings = {"ignore_index": ignore_index, "reduction": reduction}
    given = None if weight is None else backend.asarray(weight.astype(dtype))
    found = evaluate(F.nll_loss, x, target, weight=given, **settings)
    mean_of(
        found,
        *oracles.weighted_classes(x, target, weight, ignore_index, logits=False),
        reduction,
        dtype,
    )


@reductions
@weights
@smoothings
@pytest.mark.parametrize("ignore_index", [None, 1, 255])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "probabilities"])
@pytest.mark.parametrize("shape", SHAPES[::3], ids=str)
def test_classes_as_in_pytorch(
    backend, evaluate, shape, name, ignore_index, smoothing, weight, reduction
):
    torch = pytest.importorskip("torch")
    x, soft = normal(*shape), name == "probabilities"
    target = probabilities(*shape) if soft else classes_with(ignore_index or -100, shape)
    settings = {"reduction": reduction}
    if name != "nll_loss":
        settings["label_smoothing"] = smoothing
    if ignore_index and not soft:
        settings["ignore_index"] = ignore_index
    name = "cross_entropy" if soft else name
    given = None if weight is None else backend.asarray(weight)
    found = evaluate(getattr(F, name), x, target, weight=given, **settings)
    inputs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in (x, target)]
    peer_weight = None if weight is None else torch.tensor(weight)
    y = getattr(torch.nn.functional, name)(*inputs, weight=peer_weight, **settings)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    for gradient, tensor in zip(found.gradients, inputs, strict=True):
        if gradient is not None:
            assert_matches(gradient, tensor.grad.numpy())


@weights
@smoothings
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss], ids=lambda f: f.__name__)
def test_nothing_but_ignored(backend, evaluate, loss, smoothing, weight):
    """The mean of nothing is NaN, as in PyTorch; there is no gradient."""
    x, target = normal(2, 5, 3, dtype="float32"), np.full((2, 3), 255, "uint8")
    settings = {"ignore_index": 255}
    if loss is F.cross_entropy:
        settings["label_smoothing"] = smoothing
    if weight is not None:
        settings["weight"] = backend.asarray(weight.astype("float32"))
    for reduction in REDUCTIONS:
        found = evaluate(loss, x, target, reduction=reduction, **settings)
        expected = {"mean": np.nan, "sum": 0, "none": np.zeros((2, 3))}[reduction]
        assert_matches(found.y, expected, "float32")
        assert not found.gradients[0].any()


def test_targets_of_8_bits_ignore_nothing_by_default(evaluate):
    """-100 is 156 in 8 bits."""
    x, target = normal(2, 160), np.array([156, 3], "uint8")
    terms, _, _ = oracles.weighted_classes(x, target)
    assert_matches(evaluate(F.cross_entropy, x, target, reduction="none").y, terms)
    assert_matches(evaluate(F.nll_loss, x, target).y, -(x[0, 156] + x[1, 3]) / 2)


def test_what_is_ignored_may_be_nan(evaluate):
    x, target = normal(3, 4), np.array([2, -100, 0])
    x[1] = np.nan
    for loss in (F.cross_entropy, F.nll_loss):
        found = evaluate(loss, x, target)
        terms, _, total = oracles.weighted_classes(
            x[::2], target[::2], logits=loss is F.cross_entropy
        )
        assert_matches(found.y, terms.sum() / total)
        assert not found.gradients[0][1].any()
        assert np.isfinite(found.gradients[0]).all()


def test_the_generic_cross_entropy_ignores_too():
    x, target = normal(5, 9), np.array([0, 1, 2, 3, 4, 2, 2, 9, -1])
    terms, slope = Backend(np, "generic").cross_entropy(x, target, True, 2)
    expected = oracles.class_cross_entropy(x, target, 2)
    assert_matches(terms, expected[0])
    assert_matches(slope, expected[1])


@smoothings
@weights
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_smoothing_of_large_logits(backend, evaluate, dtype, weight, smoothing):
    x = np.array([[1e4, -1e4, 0, 1, 2], [-1e4, 1e4, 1e4, 0, 0]], dtype)
    target = np.array([1, 4])
    given = None if weight is None else backend.asarray(weight.astype(dtype))
    found = evaluate(F.cross_entropy, x, target, weight=given, label_smoothing=smoothing)
    with np.errstate(under="ignore"):
        expected = oracles.weighted_classes(x, target, weight, smoothing=smoothing)
    mean_of(found, *expected, "mean", dtype)


@pytest.mark.parametrize("bad", [-1, 3, 2**40])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"weight": [1, 1, 1]}], ids=str)
def test_class_that_neither_exists_nor_is_ignored(backend, settings, bad):
    x, target = backend.asarray(normal(3, 3)), backend.asarray(np.array([0, bad, 255]))
    settings = {"ignore_index": 255, "reduction": "none", **settings}
    if "weight" in settings:
        settings["weight"] = backend.asarray(np.array(settings["weight"], "float64"))
    for loss in (F.cross_entropy, F.nll_loss):
        if loss is F.nll_loss and "label_smoothing" in settings:
            continue
        if backend.device == "cpu":
            with pytest.raises(ArgumentError, match=f"class {bad},.*0 to 2, or ignore_index=255"):
                loss(x, target, **settings)
        else:
            terms = loss(x, target, **settings).numpy()
            assert np.isnan(terms).tolist() == [False, True, False]
            mean = loss(x, target, **{**settings, "reduction": "mean"})
            assert np.isnan(mean.numpy())


# -- elementwise ---------------------------------------------------------------------------


def absolute(x, t):
    return abs(x - t), np.sign(x - t), -np.sign(x - t)


def huber_of(delta, divisor=1.0):
    def loss(x, t):
        pairs = [oracles.huber(float(d), delta) for d in np.ravel(x - t)]
        terms, slopes = (np.reshape([p[i] for p in pairs], x.shape) / divisor for i in (0, 1))
        return terms, slopes, -slopes

    return loss


def kl(x, t):
    return oracles.kl_divergence(x, t), -t, np.log(t) + 1 - x


def kl_of_logarithms(x, t):
    p = np.exp(t)
    return oracles.kl_divergence(x, p), -p, p * (t + 1 - x)


DISTANCES = {
    "l1": (F.l1_loss, {}, absolute),
    "smooth_l1": (F.smooth_l1_loss, {}, huber_of(1.0)),
    "smooth_l1 beta": (F.smooth_l1_loss, {"beta": 0.3}, huber_of(0.3, 0.3)),
    "smooth_l1 beta 0": (F.smooth_l1_loss, {"beta": 0}, absolute),
    "huber": (F.huber_loss, {}, huber_of(1.0)),
    "huber delta": (F.huber_loss, {"delta": 0.3}, huber_of(0.3)),
    "kl_div": (F.kl_div, {}, kl),
    "kl_div log": (F.kl_div, {"log_target": True}, kl_of_logarithms),
}


@reductions
@dtypes
@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 3, 2, 2), ()], ids=str)
@pytest.mark.parametrize(("loss", "settings", "oracle"), DISTANCES.values(), ids=DISTANCES)
def test_distances(evaluate, loss, settings, oracle, shape, dtype, reduction):
    x = normal(*shape).astype(dtype)
    target = oracles.sigmoid(normal(*shape, seed=1)).astype(dtype)
    found = evaluate(loss, x, target, reduction=reduction, **settings)
    terms, slopes, target_slopes = (
        np.asarray(a) for a in oracle(np.float64(x), np.float64(target))
    )
    check(found, terms, slopes, reduction, dtype)
    expected = oracles.reduced_gradient(target_slopes, found.dy, reduction, terms.size)
    assert_matches(found.gradients[1], expected, dtype)


def test_batchmean_divides_by_the_batch(evaluate):
    x, target = normal(4, 3, 2), probabilities(4, 3, 2)
    found = evaluate(F.kl_div, x, target, reduction="batchmean")
    assert_matches(found.y, oracles.kl_divergence(x, target).sum() / 4)
    assert_matches(found.gradients[0], -target * found.dy / 4)
    alone = F.kl_div(x[0, 0, 0], target[0, 0, 0], reduction="batchmean")
    assert_matches(alone, oracles.kl_divergence(x[:1, 0, 0], target[:1, 0, 0]).sum())


def test_kl_div_of_no_probability(evaluate):
    x, target = np.array([[-1e4, -1.0]]), np.array([[0.0, 1.0]])
    assert_matches(evaluate(F.kl_div, x, target, reduction="none").y, [[0, 1]])
    assert np.isnan(evaluate(F.kl_div, x, -target).y)


@dtypes
def test_distances_far_and_at_the_kinks(evaluate, dtype):
    x = np.array([-1e4, -1, 0, -0.0, 1, 1e4], dtype)
    zero = np.zeros(6, dtype)
    slopes = [-1, -1, 0, 0, 1, 1]
    for loss, terms in (
        (F.l1_loss, abs(x)),
        (F.smooth_l1_loss, [9999.5, 0.5, 0, 0, 0.5, 9999.5]),
        (F.huber_loss, [9999.5, 0.5, 0, 0, 0.5, 9999.5]),
    ):
        found = evaluate(loss, x, zero, reduction="none")
        assert_matches(found.y, terms, dtype)
        assert_matches(found.gradients[0], found.dy * slopes, dtype)
    huge = np.array([3e38, -3e38], "float32")  # whose square is none
    assert_matches(evaluate(F.huber_loss, huge, 0 * huge, reduction="none").y, abs(huge))


# -- weights of yes and no -----------------------------------------------------------------


@reductions
@dtypes
@pytest.mark.parametrize("shape", [None, (4, 3), (3,), (4, 1), (1,), ()], ids=str)
def test_weight_of_binary_cross_entropy(backend, evaluate, shape, dtype, reduction):
    p = oracles.sigmoid(normal(4, 3)).astype(dtype)
    target = oracles.sigmoid(normal(4, 3, seed=1)).astype(dtype)
    weight = 1.0 if shape is None else np.abs(normal(*shape, seed=2))
    given = None if shape is None else backend.asarray(np.asarray(weight, dtype))
    found = evaluate(F.binary_cross_entropy, p, target, weight=given, reduction=reduction)
    p, t = np.float64(p), np.float64(target)
    terms = weight * oracles.binary_cross_entropy_terms(p, t)
    check(found, terms, weight * (-t / p + (1 - t) / (1 - p)), reduction, dtype)
    slopes = oracles.reduced_gradient(
        weight * (np.log(1 - p) - np.log(p)), found.dy, reduction, t.size
    )
    assert_matches(found.gradients[1], slopes, dtype)


@reductions
@dtypes
@pytest.mark.parametrize("pos_weight", [None, (3,), (4, 3), ()], ids=str)
@pytest.mark.parametrize("weight", [None, (4, 1)], ids=str)
def test_weights_of_logits(backend, evaluate, weight, pos_weight, dtype, reduction):
    x = (3 * normal(4, 3)).astype(dtype)
    target = oracles.sigmoid(normal(4, 3, seed=1)).astype(dtype)
    w = 1.0 if weight is None else np.abs(normal(*weight, seed=2))
    pw = 1.0 if pos_weight is None else np.abs(normal(*pos_weight, seed=3))
    settings = {
        "weight": None if weight is None else backend.asarray(np.asarray(w, dtype)),
        "pos_weight": None if pos_weight is None else backend.asarray(np.asarray(pw, dtype)),
        "reduction": reduction,
    }
    found = evaluate(F.binary_cross_entropy_with_logits, x, target, **settings)
    p, t = oracles.sigmoid(np.float64(x)), np.float64(target)
    terms = -w * (pw * t * np.log(p) + (1 - t) * np.log(1 - p))
    check(found, terms, w * (-pw * t * (1 - p) + (1 - t) * p), reduction, dtype)
    slopes = w * (np.log(1 - p) - pw * np.log(p))
    expected = oracles.reduced_gradient(slopes, found.dy, reduction, t.size)
    assert_matches(found.gradients[1], expected, dtype, factor=5)


@reductions
def test_binary_weights_as_in_pytorch(backend, evaluate, reduction):
    torch = pytest.importorskip("torch")
    x, target = np.array([[-1e4, 1e4, 0.3], [1e4, -1e4, -2]]), np.array([[1, 0, 1], [1, 0, 0.5]])
    constants = {"weight": np.array([[2.0], [0.5]]), "pos_weight": np.array([3.0, 1, 0.5])}
    found = evaluate(
        F.binary_cross_entropy_with_logits,
        x,
        target,
        reduction=reduction,
        **{name: backend.asarray(a) for name, a in constants.items()},
    )
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, target)]
    y = torch.nn.functional.binary_cross_entropy_with_logits(
        *inputs, reduction=reduction, **{name: torch.tensor(a) for name, a in constants.items()}
    )
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    for gradient, tensor in zip(found.gradients, inputs, strict=True):
        assert_matches(gradient, tensor.grad.numpy())


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
    "l1": (F.l1_loss, normal(4, 3), normal(4, 3, seed=1)),
    "smooth_l1": (F.smooth_l1_loss, normal(4, 3), normal(4, 3, seed=1)),
    "huber": (F.huber_loss, normal(4, 3), normal(4, 3, seed=1)),
    "kl_div": (F.kl_div, normal(4, 3), PROBABILITY),
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
        (
            F.binary_cross_entropy,
            PROBABILITY,
            PROBABILITY.astype(int),
            DTypeError,
            "target is int64",
        ),
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


ONES = np.ones((4, 3))


@pytest.mark.parametrize(
    ("loss", "target", "settings", "error", "text"),
    [
        (F.cross_entropy, np.zeros(4, int), {"weight": [1, 1]}, ShapeError, r"weight has .*\(3,\)"),
        (F.nll_loss, np.zeros(4, int), {"weight": ONES}, ShapeError, "one number for each class"),
        (F.cross_entropy, ONES, {"weight": [1, 1]}, ShapeError, "one number for each class"),
        (F.cross_entropy, ONES, {"ignore_index": 0}, ArgumentError, "target holds probabilities"),
        (F.cross_entropy, ONES, {"label_smoothing": 1.5}, ArgumentError, "from 0 to 1"),
        (F.cross_entropy, ONES, {"label_smoothing": "no"}, ArgumentError, "expected a number"),
        (F.cross_entropy, ONES, {"ignore_index": 1.0}, ArgumentError, "ignore_index=1.0: expected"),
        (F.nll_loss, ONES, {"ignore_index": 2**63}, ArgumentError, "expected a 64-bit int"),
        (F.binary_cross_entropy, ONES, {"weight": [1, 1]}, ShapeError, "weight has.*broadcasts"),
        (
            F.binary_cross_entropy_with_logits,
            ONES,
            {"pos_weight": np.ones((2, 4, 3))},
            ShapeError,
            "pos_weight has shape",
        ),
        (F.huber_loss, ONES, {"delta": 0}, ArgumentError, "delta=0: expected a number > 0"),
        (F.smooth_l1_loss, ONES, {"beta": -1}, ArgumentError, "beta=-1: expected a number >= 0"),
        (
            F.kl_div,
            ONES,
            {"reduction": "batch"},
            ArgumentError,
            "expected one of mean, batchmean, sum, none",
        ),
        (
            F.l1_loss,
            ONES,
            {"reduction": "batchmean"},
            ArgumentError,
            "expected one of mean, sum, none",
        ),
    ],
)
def test_errors_of_settings(backend, loss, target, settings, error, text):
    for name in ("weight", "pos_weight"):
        if name in settings:
            settings = {**settings, name: backend.asarray(np.array(settings[name], float))}
    with pytest.raises(error, match=text):
        loss(backend.asarray(0.5 * ONES), backend.asarray(target), **settings)


def test_weights_are_constants(backend):
    x, target = backend.asarray(0.5 * ONES), backend.asarray(np.zeros(4, int))
    weight = xcnn.Tensor(backend.xp.ones(3), requires_grad=True)
    with pytest.raises(GradientError, match=r"weight requires a gradient.*weight.detach\(\)"):
        F.cross_entropy(x, target, weight)
    with pytest.raises(GradientError, match=r"in xcnn\.vjp pass pos_weight as a keyword"):
        F.binary_cross_entropy_with_logits(x, x, pos_weight=weight)
    assert math.isfinite(F.cross_entropy(x, target, weight.detach()).item())


def test_weights_have_the_dtype_of_the_input(backend):
    x, target = backend.xp.ones((4, 3), "float32"), backend.xp.zeros(4, "int64")
    with pytest.raises(DTypeError, match="input is float32, weight is float64"):
        F.cross_entropy(x, target, backend.xp.ones(3))


@pytest.mark.parametrize(
    ("settings", "reduction"),
    [
        ({"size_average": True}, "mean"),
        ({"size_average": False}, "sum"),
        ({"reduce": False}, "none"),
        ({"size_average": "sum"}, "sum"),
    ],
)
def test_the_old_names_of_a_reduction_are_refused_with_the_new_one(settings, reduction):
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(ArgumentError, match=f"use reduction='{reduction}' instead"):
            loss(ONES, np.zeros(4, int), **settings)
    for function in (F.l1_loss, F.soft_margin_loss, F.kl_div, F.binary_cross_entropy):
        with pytest.raises(ArgumentError, match=f"use reduction='{reduction}' instead"):
            function(ONES, ONES, **settings)
    for kind in (nn.MSELoss, nn.CrossEntropyLoss, nn.TripletMarginLoss, nn.KLDivLoss):
        with pytest.raises(ArgumentError, match=f"use reduction='{reduction}' instead"):
            kind(**settings)


# -- modules -------------------------------------------------------------------------------

HALF = np.array([0.5, 2, 1], "float32")
X, INDICES = normal(4, 3, dtype="float32"), np.array([0, 2, 1, 1])
P = PROBABILITY.astype("float32")
MODULES = {
    "cross_entropy": (
        lambda w: nn.CrossEntropyLoss(w, ignore_index=1, reduction="sum", label_smoothing=0.2),
        lambda x, t, w: F.cross_entropy(
            x, t, w, ignore_index=1, reduction="sum", label_smoothing=0.2
        ),
        (X, INDICES),
    ),
    "nll": (
        lambda w: nn.NLLLoss(w, ignore_index=1, reduction="none"),
        lambda x, t, w: F.nll_loss(x, t, w, ignore_index=1, reduction="none"),
        (X, INDICES),
    ),
    "bce": (
        lambda w: nn.BCELoss(w, reduction="sum"),
        lambda x, t, w: F.binary_cross_entropy(x, t, w, reduction="sum"),
        (P, P[::-1].copy()),
    ),
    "bce_with_logits": (
        lambda w: nn.BCEWithLogitsLoss(w, reduction="none", pos_weight=w),
        lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, w, reduction="none", pos_weight=w),
        (X, P),
    ),
}


@pytest.mark.parametrize(("make", "function", "arrays"), MODULES.values(), ids=MODULES)
def test_modules_with_weights(backend, make, function, arrays):
    arrays = [backend.asarray(a) for a in arrays]
    loss = make(HALF).to(backend)
    assert loss.weight.device == backend.device
    assert_matches(loss(*arrays), function(*arrays, backend.asarray(HALF)).numpy())
    assert "weight" in loss.state_dict()
    assert list(loss.parameters()) == []
    assert "weight" not in repr(loss)  # an array is state, not a setting
    assert not make(None).state_dict()


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.L1Loss(reduction="sum"), lambda x, t: F.l1_loss(x, t, reduction="sum")),
        (
            nn.SmoothL1Loss(reduction="sum", beta=0.3),
            lambda x, t: F.smooth_l1_loss(x, t, reduction="sum", beta=0.3),
        ),
        (nn.HuberLoss(delta=0.3), lambda x, t: F.huber_loss(x, t, delta=0.3)),
        (
            nn.KLDivLoss(reduction="batchmean", log_target=True),
            lambda x, t: F.kl_div(x, t, reduction="batchmean", log_target=True),
        ),
    ],
    ids=["l1", "smooth_l1", "huber", "kl_div"],
)
def test_modules(module, function):
    assert module(X, P).item() == function(X, P).item()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.HuberLoss(delta=-1), "delta=-1: expected a number > 0"),
        (lambda: nn.SmoothL1Loss(beta=-1), "beta=-1: expected a number >= 0"),
        (lambda: nn.KLDivLoss(reduction="batch"), "batchmean"),
        (lambda: nn.L1Loss(reduction="batchmean"), "reduction='batchmean'"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2), "label_smoothing=2: expected"),
        (lambda: nn.NLLLoss(ignore_index="void"), "ignore_index='void': expected a 64-bit int"),
    ],
)
def test_errors_of_modules(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


KINDS = {  # what the target is, and the prediction for an output
    "cross_entropy": ("classes", lambda x: oracles.softmax(x, 1)),
    "nll": ("classes", np.exp),
    "binary_cross_entropy": ("binary", lambda x: x),
    "binary_cross_entropy_with_logits": ("binary", oracles.sigmoid),
    "mse": ("values", lambda x: x),
    "l1": ("values", lambda x: x),
    "smooth_l1": ("values", lambda x: x),
    "huber": ("values", lambda x: x),
    "kl_div": ("values", lambda x: x),
    "poisson_nll": ("values", np.exp),
    "hinge_embedding": ("values", lambda x: x),
    "soft_margin": ("values", lambda x: x),
    "multi_margin": ("classes", lambda x: x),
    "multilabel_margin": ("labels", lambda x: x),
    "multilabel_soft_margin": ("binary", oracles.sigmoid),
    "focal": ("binary", oracles.sigmoid),
    "softmax_focal": ("classes", lambda x: oracles.softmax(x, 1)),
    "dice": ("classes", lambda x: oracles.softmax(x, 1)),
    "tversky": ("classes", lambda x: oracles.softmax(x, 1)),
    "lovasz": ("classes", lambda x: oracles.softmax(x, 1)),
}


def test_every_loss_has_a_name():
    assert list(nn.LOSSES) == list(KINDS)
    public = [getattr(nn, name) for name in nn.__all__]
    own = {c for c in public if isinstance(c, type) and issubclass(c, nn.Loss)} - {nn.Loss}
    assert set(nn.LOSSES.values()) == own


@pytest.mark.parametrize("name", KINDS)
def test_what_a_loss_says_of_targets_and_outputs(backend, name):
    target, prediction = KINDS[name]
    loss, logits = nn.LOSSES[name](), normal(5, 3, dtype="float32")
    assert loss.target == target
    assert_matches(loss.prediction(xcnn.Tensor(backend.asarray(logits))), prediction(logits))


def test_a_yes_begins_where_the_probability_is_one_half():
    assert oracles.sigmoid(np.float64(nn.BCEWithLogitsLoss.threshold)) == 0.5
    assert nn.BCELoss.threshold == 0.5


# -- beyond the range of a type -----------------------------------------------------------------

INF = math.inf


def test_an_impossible_class_counts_nothing(evaluate):
    """0 · log(0) is 0: a logit of -inf where the target is 0; PyTorch gives NaN."""
    x, target = np.array([[1.0, 2, -INF], [0, -INF, 0]]), np.array([[0.5, 0.5, 0], [1, 0, 0]])
    log_p = oracles.log_softmax(np.where(np.isinf(x), -1e9, x), 1)
    for smoothed, weight in ((False, None), (True, np.array([1.0, 0, 0]))):
        settings = {"label_smoothing": 0.3, "weight": weight} if smoothed else {}
        if smoothed:
            x = np.array([[1.0, -INF, -INF], [0, -INF, -INF]])
            log_p = oracles.log_softmax(np.where(np.isinf(x), -1e9, x), 1)
        found = evaluate(lambda a, b, s=settings: F.cross_entropy(a, b, **_moved(a, s)), x, target)
        q = 0.7 * target + 0.1 if smoothed else target
        q = q * (1 if weight is None else weight)
        assert_matches(found.y, -(q * log_p).sum(axis=1).mean())
        assert all(np.isfinite(g).all() for g in found.gradients)


def _moved(like, settings):
    """Settings with their arrays on the device of a Tensor."""
    arrays = {k: like.backend.asarray(v) for k, v in settings.items() if isinstance(v, np.ndarray)}
    return {**settings, **arrays}


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_an_infinite_term_of_weight_zero_counts_nothing(evaluate, loss):
    x = np.array([[-1.0, -2, -INF], [-3, -1, -INF]])
    target, weight = np.array([1, 2]), np.array([1.0, 2, 0])
    found = evaluate(lambda x, t: loss(x, t, x.backend.asarray(weight)), x, target)
    log_p = np.log(np.exp(-2) / (np.exp(-1) + np.exp(-2))) if loss is F.cross_entropy else -2.0
    assert_matches(found.y, -log_p)
    assert np.isfinite(found.gradients[0]).all()


@pytest.mark.parametrize("pos_weight", [None, np.array([3.0])])
def test_infinite_logits_on_the_right_side(evaluate, pos_weight):
    x, target = np.array([INF, -INF, 0.5]), np.array([1.0, 0, 1])
    found = evaluate(
        lambda x, t: F.binary_cross_entropy_with_logits(
            x, t, **_moved(x, {"pos_weight": pos_weight}), reduction="none"
        ),
        *(x, target),
    )
    factor = 1 if pos_weight is None else 3
    assert_matches(found.y, [0, 0, factor * math.log1p(math.exp(-0.5))])
    slopes = [0, 0, -factor / (1 + math.exp(0.5))]
    assert_matches(found.gradients[0], found.dy * slopes)


def test_infinite_logits_on_the_wrong_side(evaluate):
    x, target = np.array([INF, -INF]), np.array([0.0, 1])
    found = evaluate(F.binary_cross_entropy_with_logits, x, target, reduction="none")
    assert found.y.tolist() == [INF, INF]
    assert_matches(found.gradients[0], found.dy * [1, -1])


@pytest.mark.parametrize("log_target", [False, True])
def test_divergence_of_what_is_impossible(evaluate, log_target):
    x, p = np.log([[0.3, 0.7, 1e-300]]), np.array([[0.5, 0.5, 0]])
    x[0, 2] = -INF
    with np.errstate(divide="ignore"):
        target = np.log(p) if log_target else p
    found = evaluate(F.kl_div, x, target, reduction="sum", log_target=log_target)
    assert_matches(found.y, 0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.7))
    assert all(np.isfinite(g).all() for g in found.gradients)


def test_kl_div_keeps_nan(evaluate):
    found = evaluate(F.kl_div, np.array([np.nan, -1.0]), np.array([0.0, 1]), reduction="none")
    assert np.isnan(found.y).tolist() == [True, False]


@pytest.mark.parametrize("scale", [1e-300, 1e-42, 1e300])
def test_settings_beyond_the_range_of_float32(evaluate, scale):
    x, target = np.float32([0, 1, -2, 5]), np.float32([0, 3, 1, 4])
    d = np.float64(x) - target
    smooth = np.where(abs(d) < scale, d / scale * d / 2, abs(d) - scale / 2)
    found = evaluate(F.smooth_l1_loss, x, target, reduction="none", beta=scale)
    assert_matches(found.y, smooth, "float32")
    assert_matches(found.gradients[0], found.dy * np.clip(d / scale, -1, 1), "float32")
    huber = np.where(abs(d) < scale, d * d / 2, scale * (abs(d) - min(scale, 9) / 2))
    found = evaluate(F.huber_loss, x, target, reduction="none", delta=scale)
    assert_matches(found.y, huber, "float32")
    assert_matches(found.gradients[0], found.dy * np.clip(d, -scale, scale), "float32")


HALVES = {  # losses of 20,000 examples, whose sums float16 cannot hold
    "mse_loss": lambda r: (r.normal(0, 2, 20_000), r.normal(0, 2, 20_000)),
    "l1_loss": lambda r: (r.normal(0, 9, 20_000), r.normal(0, 9, 20_000)),
    "smooth_l1_loss": lambda r: (r.normal(0, 9, 20_000), r.normal(0, 9, 20_000)),
    "huber_loss": lambda r: (r.normal(0, 9, 20_000), r.normal(0, 9, 20_000)),
    "cross_entropy": lambda r: (20 * r.normal(size=(20_000, 10)), r.integers(0, 10, 20_000)),
    "nll_loss": lambda r: (-40 * r.random((20_000, 10)), r.integers(0, 10, 20_000)),
    "kl_div": lambda r: (-60 * r.random(20_000), r.random(20_000)),
    "binary_cross_entropy": lambda r: (r.random(20_000) ** 3, r.random(20_000)),
    "binary_cross_entropy_with_logits": lambda r: (r.normal(0, 20, 20_000), r.random(20_000)),
}


@pytest.mark.parametrize("name", HALVES)
def test_half_types_are_summed_in_float32(evaluate, name):
    arrays = HALVES[name](np.random.default_rng(0))
    halves = [a.astype("float16") if a.dtype.kind == "f" else a for a in arrays]
    wide = [a.astype("float64") if a.dtype.kind == "f" else a for a in halves]
    loss = getattr(F, name)
    found, expected = evaluate(loss, *halves), evaluate(loss, *wide)
    assert found.y.dtype == found.gradients[0].dtype == np.float16
    np.testing.assert_allclose(found.y, expected.y, rtol=1e-3)
    slope = np.float64(found.dy) / expected.dy * expected.gradients[0]
    np.testing.assert_allclose(found.gradients[0], slope, rtol=2e-3, atol=1e-7)


def test_text_as_classes_is_refused():
    with pytest.raises(DTypeError, match=r"got one of <U1 .*np\.unique\(names, return_inverse"):
        F.cross_entropy(normal(4, 3), np.array(list("abca")))
