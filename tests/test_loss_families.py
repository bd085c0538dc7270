"""The losses of Tensor operations: against PyTorch, and those it lacks against loops."""

import functools
import itertools
import math

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import ArgumentError, DTypeError, GradientError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, normal
from .strict import forbid_float64

X, Y, Z = (normal(5, 4, seed=s) for s in range(3))
SIGNS = np.sign(normal(5, 4, seed=3))
LABELS = np.array([3, 0, 2, 2, 1])
LISTS = np.array([[1, 3, -1, 0], [0, 1, 2, 3], [-1, 2, 2, 2], [2, 2, -1, -1], [3, -1, 0, 0]])
CASES = {  # arguments of the function of this name
    "poisson_nll_loss": ((X, Y), {}),
    "poisson_nll_loss full": ((np.abs(X), 3 * np.abs(Y)), {"log_input": False, "full": True}),
    "gaussian_nll_loss": ((X, Y, Z**2), {"full": True}),
    "gaussian_nll_loss of rows": ((X, Y, Z[:, 0] ** 2), {"eps": 0.3}),
    "gaussian_nll_loss number": ((X, Y, 0.5), {}),
    "margin_ranking_loss": ((X, Y, SIGNS), {"margin": 0.3}),
    "hinge_embedding_loss": ((X, SIGNS), {"margin": 0.7}),
    "soft_margin_loss": ((X, SIGNS), {}),
    "multi_margin_loss": ((X, LABELS), {"weight": np.array([0.5, 2, 0, 1]), "margin": 0.4}),
    "multi_margin_loss squared": ((X, LABELS), {"p": 2}),
    "multi_margin_loss alone": ((X[0], LABELS[:1]), {}),
    "multilabel_margin_loss": ((X, LISTS), {}),
    "multilabel_margin_loss alone": ((X[0], LISTS[0]), {}),
    "multilabel_soft_margin_loss": ((X, (Y > 0) * 1.0), {"weight": np.array([0.5, 2, 0, 1])}),
    "cosine_embedding_loss": ((X, Y, SIGNS[:, 0]), {"margin": 0.1}),
    "triplet_margin_loss": ((X, Y, Z), {"margin": 0.5, "p": 3.0, "swap": True}),
    "triplet_margin_with_distance_loss": ((X, Y, Z), {"margin": 2.0, "swap": True}),
    "mse_loss weight": ((X, Y), {"weight": Z**2}),
    "l1_loss weight": ((X, Y), {"weight": Z**2}),
    "huber_loss weight": ((X, Y), {"weight": Z**2, "delta": 0.5}),
    "cross_entropy alone": ((X[0], np.array(2)), {"weight": Z[0] ** 2, "label_smoothing": 0.1}),
    "cross_entropy alone soft": ((X[0], Y[0] ** 2), {}),
    "nll_loss alone": ((X[0], np.array(2)), {}),
}
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


@reductions
@pytest.mark.parametrize("name", CASES)
def test_as_in_pytorch(backend, name, reduction):
    torch = pytest.importorskip("torch")
    arrays, settings = CASES[name]
    function, peer = (getattr(f, name.split()[0]) for f in (F, torch.nn.functional))
    arrays, numbers = (
        tuple(a for a in arrays if isinstance(a, kind)) for kind in (np.ndarray, float)
    )
    moved = {k: backend.asarray(v) if k == "weight" else v for k, v in settings.items()}
    found = evaluate_on(
        backend, lambda *a: function(*a, *numbers, **moved, reduction=reduction), *arrays
    )
    inputs = [torch.tensor(a, requires_grad=a.dtype == float and a is not SIGNS) for a in arrays]
    converted = {k: torch.tensor(v) if k == "weight" else v for k, v in settings.items()}
    y = peer(*inputs, *numbers, **converted, reduction=reduction)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    for gradient, tensor in zip(found.gradients, inputs, strict=True):
        if tensor.grad is not None:
            assert_matches(gradient, tensor.grad.numpy())


def cast(value, dtype):
    """A value of the table, with floats in ``dtype``."""
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(dtype) if is_float else value


def moved(backend, value):
    return backend.asarray(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", CASES)
def test_half_types_are_computed_in_float32(backend, name):
    """Up to 10: float16 loses digits of squares, and of the sums."""
    arrays, settings = CASES[name]
    halves = [cast(4 * a if a is X or a is Y else a, "float16") for a in arrays]
    call = functools.partial(getattr(F, name.split()[0]), reduction="sum")
    results = []
    for dtype in ("float16", "float32"):
        given = [moved(backend, cast(a, dtype)) for a in halves]
        more = {k: moved(backend, cast(cast(v, "float16"), dtype)) for k, v in settings.items()}
        results.append(call(*given, **more))
    assert results[0].dtype == "float16"
    assert_matches(results[0].numpy(), results[1].numpy().astype("float16"))


def test_no_loss_of_float32_makes_float64(strict):
    for name, (arrays, settings) in CASES.items():
        given = [moved(strict, cast(a, "float32")) for a in arrays]
        more = {k: moved(strict, cast(v, "float32")) for k, v in settings.items()}
        x = xcnn.Tensor(given[0], requires_grad=True)
        with forbid_float64():
            loss = getattr(F, name.split()[0])(x, *given[1:], **more)
            loss.backward()
        assert loss.dtype == x.grad.dtype == "float32"


# -- shapes and settings -------------------------------------------------------------------


@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, F.kl_div, F.poisson_nll_loss])
def test_other_shapes_broadcast_with_a_warning(backend, loss):
    """As in PyTorch: often it is (N, 1) with (N,) by mistake."""
    x, t = np.abs(normal(5, 1)), np.abs(normal(4, seed=1))
    with pytest.warns(UserWarning, match=r"\(5, 1\), target \(4,\).*broadcast to \(5, 4\)"):
        found = evaluate_on(backend, loss, x, t, reduction="none")
    full = [np.broadcast_to(a, (5, 4)).copy() for a in (x, t)]
    expected = evaluate_on(backend, loss, *full, reduction="none")
    assert_matches(found.y, expected.y)
    assert_matches(found.gradients[0], expected.gradients[0].sum(axis=1, keepdims=True))
    assert_matches(found.gradients[1], expected.gradients[1].sum(axis=0))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.mse_loss(X, Y, weight=Z[:, 0]), ShapeError, "weight has shape"),
        (lambda: F.soft_margin_loss(X, Y[:3]), ShapeError, "must be equal"),
        (lambda: F.gaussian_nll_loss(X, Y, Z[:3]), ShapeError, r"var has shape \(3, 4\)"),
        (lambda: F.gaussian_nll_loss(X, Y, Z, eps=0), ArgumentError, "eps=0"),
        (lambda: F.multi_margin_loss(X, LABELS, p=3), ArgumentError, "p=3: expected 1 or 2"),
        (lambda: F.multi_margin_loss(X, LABELS[:3]), ShapeError, "class indices of shape"),
        (lambda: F.multi_margin_loss(X, LABELS + 1), ArgumentError, "class 4"),
        (lambda: F.multi_margin_loss(X, LABELS, weight=X[0, :3]), ShapeError, "each class"),
        (lambda: F.multilabel_margin_loss(X, Y), ShapeError, "integer labels"),
        (lambda: F.multilabel_margin_loss(X, LISTS % 5), ArgumentError, "class 4"),
        (lambda: F.multilabel_soft_margin_loss(X, Y[:3]), ShapeError, "must be equal"),
        (lambda: F.cosine_embedding_loss(X, Y, Z), ShapeError, "cosine_embedding_loss: the shapes"),
        (lambda: F.triplet_margin_loss(X, Y, Z[0]), ShapeError, "number of axes"),
        (lambda: F.triplet_margin_loss(X, Y, Z, margin=0), ArgumentError, "margin=0"),
        (lambda: F.hinge_embedding_loss(LABELS, SIGNS), DTypeError, "input is int64.*astype"),
        (lambda: F.soft_margin_loss(X, SIGNS.astype("float32")), DTypeError, "target is float32"),
        (lambda: F.dice_loss(X, LABELS, "softmax"), ArgumentError, "mode='softmax'"),
        (lambda: F.dice_loss(X, Y[:3], "binary"), ShapeError, r"\(N, C, ...\)"),
        (lambda: F.tversky_loss(X, LABELS, alpha=-1), ArgumentError, "alpha=-1"),
        (lambda: F.lovasz_loss(X, LABELS + 1), ArgumentError, "class 4"),
        (lambda: F.focal_loss(X, Y, gamma=-1), ArgumentError, "gamma=-1"),
        (lambda: nn.MultiMarginLoss(3), ArgumentError, "p=3: expected 1 or 2"),
        (lambda: nn.TripletMarginLoss(-1.0), ArgumentError, "margin=-1.0"),
        (lambda: nn.DiceLoss("softmax"), ArgumentError, "mode='softmax'"),
        (lambda: nn.CTCLoss(-1), ArgumentError, "blank=-1"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_class_that_does_not_exist_is_nan_on_a_gpu(strict):
    x = strict.asarray(X)
    labels, lists = strict.asarray(LABELS + 1), strict.asarray(np.where(LISTS > 2, 4, LISTS))
    terms = F.multi_margin_loss(x, labels, reduction="none").numpy()
    assert np.isnan(terms).tolist() == (LABELS + 1 > 3).tolist()
    terms = F.multilabel_margin_loss(x, lists, reduction="none").numpy()
    assert np.isnan(terms).tolist() == [True, True, False, False, True]
    for loss in (F.dice_loss, F.lovasz_loss):
        assert np.isnan(loss(x, labels).item())


def test_a_negative_variance_is_nan(backend):
    arrays = [backend.asarray(a) for a in (X[0], Y[0], np.array([1.0, -1, 0, 2]))]
    terms = F.gaussian_nll_loss(*arrays, reduction="none").numpy()
    assert np.isnan(terms).tolist() == [False, True, False, False]


def test_a_distance_of_ones_own(backend):
    a, p, n = (backend.asarray(v) for v in (X, Y, Z))
    loss = nn.TripletMarginWithDistanceLoss(
        distance_function=lambda x, y: F.l1_loss(x, y, reduction="none").sum(dim=1), margin=2.0
    )
    near, far = (np.abs(X - other).sum(axis=1) for other in (Y, Z))
    assert_matches(loss(a, p, n), np.maximum(near - far + 2, 0).mean())


def test_weights_of_margins_are_constants():
    weight = xcnn.Tensor(np.ones(4), requires_grad=True)
    with pytest.raises(GradientError, match="weight requires a gradient"):
        F.multi_margin_loss(X, LABELS, weight=weight)


# -- regions -------------------------------------------------------------------------------

LOGITS = normal(3, 4, 3, 2, seed=5)
PIXELS = np.random.default_rng(6).integers(0, 3, (3, 3, 2))  # class 3 is absent
MASKS = (normal(3, 4, 3, 2, seed=7) > 0) * 1.0


def truths(target, ignored=-100):
    """One-hot (N, C, P), NaN where ignored."""
    flat = target.reshape(3, 1, 6)
    return np.where(flat == ignored, np.nan, flat == np.arange(4)[:, None])


REGIONS = {  # mode, probabilities, truths, target, more settings
    "multiclass": (oracles.softmax(LOGITS, 1), truths(PIXELS), PIXELS, {}),
    "ignored": (oracles.softmax(LOGITS, 1), truths(PIXELS, 1), PIXELS, {"ignore_index": 1}),
    "binary": (oracles.sigmoid(LOGITS), MASKS.reshape(3, 4, 6), MASKS, {"mode": "binary"}),
}
regions = pytest.mark.parametrize(("p", "truth", "target", "more"), REGIONS.values(), ids=REGIONS)


@reductions
@regions
def test_overlaps(evaluate, p, truth, target, more, reduction):
    p = p.reshape(3, 4, 6)
    for loss, settings, (alpha, beta, smooth) in (
        (F.tversky_loss, {"alpha": 0.3, "beta": 0.8, "smooth": 0.1}, (0.3, 0.8, 0.1)),
        (F.dice_loss, {}, (0.5, 0.5, 0.5)),
    ):
        terms = oracles.tversky_terms(p, truth, alpha, beta, smooth)
        found = evaluate(loss, LOGITS, target, **more, **settings, reduction=reduction)
        assert_matches(found.y, oracles.reduced(terms, reduction))


def test_dice_is_one_minus_f1_of_certain_predictions(evaluate):
    sure = np.where(MASKS > 0, 50.0, -50.0)
    sure[0] = -sure[0]  # all wrong
    terms = evaluate(F.dice_loss, sure, MASKS, mode="binary", smooth=0, reduction="none").y
    assert_matches(terms, np.repeat([[1.0], [0], [0]], 4, axis=1))


@pytest.mark.parametrize("per_image", [False, True])
@regions
def test_lovasz(evaluate, p, truth, target, more, per_image):
    p = p.reshape(3, 4, 6)
    if more.get("mode") == "binary":
        errors = np.maximum(1 - LOGITS.reshape(3, 4, 6) * (2 * truth - 1), 0)
    else:
        errors = np.abs(truth - p)
    images = [[n] for n in range(3)] if per_image else [[0, 1, 2]]
    terms = []
    for group in images:
        each = []
        for c in range(4):
            e, t = errors[group, c].ravel(), truth[group, c].ravel()
            kept = ~np.isnan(t)
            if more.get("mode") == "binary" or t[kept].any():
                each.append(oracles.lovasz_extension(e[kept], t[kept] > 0))
        terms.append(each if more.get("mode") == "binary" else np.mean(each))
    found = evaluate(F.lovasz_loss, LOGITS, target, per_image=per_image, reduction="none", **more)
    assert_matches(found.y, terms)


@regions
@pytest.mark.parametrize("loss", [F.tversky_loss, F.dice_loss, F.lovasz_loss])
def test_gradient_of_regions(backend, loss, p, truth, target, more):
    target = backend.asarray(target)
    assert gradcheck(lambda x: loss(x, target, **more), backend.asarray(LOGITS)) < 1e-6


@reductions
@pytest.mark.parametrize("settings", [{}, {"alpha": -1, "gamma": 0.5}, {"gamma": 0}], ids=str)
def test_focal(backend, evaluate, settings, reduction):
    p, positive = oracles.sigmoid(X), SIGNS > 0
    right = np.where(positive, p, 1 - p)
    alpha, gamma = settings.get("alpha", 0.25), settings.get("gamma", 2)
    weight = np.where(positive, alpha, 1 - alpha) if alpha >= 0 else 1
    terms = -weight * (1 - right) ** gamma * np.log(right)
    found = evaluate(F.focal_loss, X, positive, **settings, reduction=reduction)
    assert_matches(found.y, oracles.reduced(terms, reduction))
    assert_matches(F.sigmoid_focal_loss(X, positive, **settings), terms)
    target = backend.asarray(positive)
    assert gradcheck(lambda x: F.focal_loss(x, target, **settings), backend.asarray(X)) < 1e-6


@reductions
@pytest.mark.parametrize("gamma", [0, 0.5, 2])
@pytest.mark.parametrize("weight", [None, np.array([0.5, 2.0, 1.0])], ids=["", "weight"])
def test_softmax_focal(backend, evaluate, weight, gamma, reduction):
    x, labels = normal(2, 3, 4), np.array([[0, 1, 255, 2], [2, 2, 1, 0]])
    x[0, 0, 0] = 60  # certain: 1 - p is 0
    kept = labels != 255
    index = np.where(kept, labels, 0)
    p = np.take_along_axis(oracles.softmax(x, 1), index[:, None], 1)[:, 0]
    share = kept * (np.ones(3) if weight is None else weight)[index]
    terms = -share * (1 - p) ** gamma * np.log(p)
    expected = (
        terms.sum() / share.sum() if reduction == "mean" else oracles.reduced(terms, reduction)
    )
    settings = {"gamma": gamma, "ignore_index": 255, "reduction": reduction}
    settings["weight"] = None if weight is None else backend.asarray(weight)
    assert_matches(evaluate(F.softmax_focal_loss, x, labels, **settings).y, expected)
    x[0, 0, 0], target = 1, backend.asarray(labels)
    call = lambda x: F.softmax_focal_loss(x, target, **settings)  # noqa: E731
    assert gradcheck(call, backend.asarray(x)) < 1e-6


# -- ctc -----------------------------------------------------------------------------------


def log_probabilities(steps, batch, classes, seed=9):
    return oracles.log_softmax(normal(steps, batch, classes, seed=seed), 2)


TARGETS = [[1, 1], [2], [], [0, 2, 1, 0], [2, 0]]  # with blank 3; the fourth does not fit 3 steps
TIMES = [5, 4, 3, 3, 1]


def padded(targets):
    width = max(map(len, targets))
    return np.array([t + [7] * (width - len(t)) for t in targets])


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("form", ["padded", "in one"])
def test_ctc_of_every_path(backend, form, zero_infinity):
    log_p = log_probabilities(5, 5, 4)
    targets = padded(TARGETS) if form == "padded" else np.array(list(itertools.chain(*TARGETS)))
    lengths = [len(t) for t in TARGETS]
    terms = F.ctc_loss(
        backend.asarray(log_p),
        backend.asarray(targets),
        TIMES,
        np.array(lengths),
        3,
        "none",
        zero_infinity,
    )
    expected = np.array([oracles.ctc(log_p[: TIMES[n], n], t, 3) for n, t in enumerate(TARGETS)])
    assert math.isinf(expected[3])
    assert_matches(terms, np.where(np.isinf(expected) & zero_infinity, 0, expected))


@reductions
def test_ctc_as_in_pytorch(backend, reduction):
    torch = pytest.importorskip("torch")
    log_p = log_probabilities(20, 4, 6)
    targets = np.random.default_rng(1).integers(1, 6, (4, 7))
    targets[0] = 2  # repeats need blanks between them
    times, lengths = [20, 17, 9, 0], [7, 3, 7, 0]
    found = evaluate_on(
        backend,
        lambda x: F.ctc_loss(
            x, x.backend.asarray(targets), times, lengths, reduction=reduction, zero_infinity=True
        ),
        log_p,
    )
    x = torch.tensor(log_p, requires_grad=True)
    y = torch.nn.functional.ctc_loss(
        x, torch.tensor(targets), times, lengths, reduction=reduction, zero_infinity=True
    )
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    assert_matches(found.gradients[0], x.grad.numpy())


def test_ctc_of_one_example(backend):
    log_p, target = log_probabilities(5, 1, 3), np.array([2, 1])
    expected = oracles.ctc(log_p[:, 0], target, 0)
    on_device = backend.asarray(log_p[:, 0]), backend.asarray(target)
    assert F.ctc_loss(*on_device, 5, 2, reduction="none").shape == ()
    assert_matches(F.ctc_loss(*on_device, 5, 2, reduction="sum"), expected)
    assert_matches(nn.CTCLoss()(*on_device, [5], [2]), expected / 2)


def test_ctc_of_long_sequences(backend):
    """-log of a probability that float32 cannot hold."""
    log_p = np.full((400, 1, 2), np.log(0.5), "float32")
    loss = F.ctc_loss(backend.asarray(log_p), backend.asarray(np.array([[1]])), [400], [1])
    # a run of ones somewhere: 400 · 401 / 2 paths of 2^400
    assert_matches(loss, 400 * math.log(2) - math.log(400 * 401 / 2), "float32")
    x = xcnn.Tensor(backend.asarray(np.full((9, 1, 3), -np.inf)))
    targets = backend.asarray(np.array([[1]]))
    assert F.ctc_loss(x, targets, [9], [1]).item() == math.inf
    assert F.ctc_loss(x, targets, [9], [1], zero_infinity=True).item() == 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((X[None, None], LABELS, [1], [5]), ShapeError, "log_probs has shape"),
        ((X[None], LABELS, [1], [5]), ShapeError, "expected 5 lengths"),
        ((X[None], LABELS, [2] * 5, [1] * 5), ShapeError, "input_lengths=.*from 0 to 1"),
        ((X[None], LABELS[:3], [1] * 5, [1] * 5), ShapeError, "all 5 concatenated"),
        ((X[None], LISTS[:3], [1] * 5, [1] * 5), ShapeError, r"expected \(5, S\)"),
        ((X[None], Y, [1] * 5, [1] * 5), DTypeError, "targets is float64"),
        ((X[None], LABELS, [1.0] * 5, [1] * 5), DTypeError, "input_lengths is float32"),
        ((X[None], LABELS + 1, [1] * 5, [1] * 5), ArgumentError, "class 4"),
        ((X[None], LABELS, [1] * 5, [1] * 5, 4), ArgumentError, "blank=4"),
    ],
)
def test_errors_of_ctc(arguments, error, text):
    with pytest.raises(error, match=text):
        F.ctc_loss(*arguments)
