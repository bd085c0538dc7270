"""SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss, against naive loops."""

import numpy as np
import pytest

from xcnn import Tensor, backends
from xcnn.errors import XcnnError
from xcnn.testing import gradcheck

from .. import oracles
from ..conftest import assert_matches, normal
from .models import graph_of, node_on, run

KINDS = ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"]
kinds = pytest.mark.parametrize("kind", KINDS)
CLASSES = 4


def labels(*shape, ignored=None, dtype="int64"):
    found = np.random.default_rng(2).integers(0, CLASSES, shape)
    if ignored is not None:
        found.reshape(-1)[::3] = ignored
    return found.astype(dtype)


def loss_of(kind, x, target, weight, ignored, reduction):
    """Term by term."""
    log_p = oracles.log_softmax(x, 1) if kind == KINDS[0] else x
    terms, shares = np.zeros(target.shape), np.zeros(target.shape)
    for index in np.ndindex(target.shape):
        c = target[index]
        if c == ignored:
            continue
        shares[index] = 1 if weight is None else weight[c]
        terms[index] = -shares[index] * log_p[(index[0], c, *index[1:])]
    if reduction == "none":
        return terms
    return np.array(terms.sum() / (shares.sum() if reduction == "mean" else 1))


@kinds
@pytest.mark.parametrize("rest", [(), (5,), (3, 2), (2, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 1, -1, 99])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_loss(backend, kind, rest, weighted, ignored, reduction):
    x, target = normal(6, CLASSES, *rest), labels(6, *rest, ignored=ignored)
    weight = np.array([0.5, 1, 2, 3]) if weighted else None
    settings = {} if ignored is None else {"ignore_index": ignored}
    inputs = {"x": x.shape, "target": target.shape, **({"w": (CLASSES,)} if weighted else {})}
    graph = graph_of(kind, inputs, opset=13, reduction=reduction, **settings).to(backend)
    others = [backend.asarray(a) for a in (target, weight) if a is not None]
    expected = loss_of(kind, x, target, weight, ignored, reduction)
    assert_matches(graph(backend.asarray(x), *others).numpy(), expected, "float64")
    assert gradcheck(lambda x: graph(x, *others), backend.asarray(x)) < 1e-6


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_log_probabilities_are_an_output_too(backend, reduction):
    x, target = normal(5, CLASSES, 3), labels(5, 3)
    inputs = {"x": x.shape, "target": target.shape}
    graph = graph_of(KINDS[0], inputs, opset=13, outputs=("y", "log_p"), reduction=reduction)
    loss, log_p = run(graph, backend, x, target)
    assert_matches(loss, loss_of(KINDS[0], x, target, None, None, reduction), "float64")
    assert_matches(log_p, oracles.log_softmax(x, 1), "float64")
    moved = backend.asarray(target)
    assert gradcheck(lambda x: graph(x, moved)[0], backend.asarray(x)) < 1e-6
    assert gradcheck(lambda x: graph(x, moved)[1], backend.asarray(x)) < 1e-6


@kinds
def test_weights_of_classes_are_not_trained(backend, kind):
    weights = {"w": np.array([0.5, 1, 2, 3], "float32")}
    inputs, types = {"x": (3, CLASSES)}, {"x": "float32"}
    graph = graph_of(kind, {**inputs, "t": (3,)}, weights, 13, types={**types, "t": "int64"})
    assert list(graph.parameters()) == []
    x = Tensor(backend.asarray(normal(3, CLASSES, dtype="float32")), requires_grad=True)
    graph.to(backend)(x, backend.asarray(labels(3))).backward()
    assert x.grad is not None


@kinds
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_dtypes(backend, kind, dtype):
    x, target = normal(3, CLASSES, dtype="float32"), labels(3, dtype=dtype)
    y = node_on(kind, backend, x, target, opset=13)
    assert_matches(y, loss_of(kind, np.float64(x), target, None, None, "mean"), "float32")


@kinds
def test_a_batch_of_none(backend, kind):
    x, target = np.zeros((0, CLASSES), "float32"), np.zeros(0, "int64")
    assert node_on(kind, backend, x, target, opset=13, reduction="none").shape == (0,)
    assert node_on(kind, backend, x, target, opset=13, reduction="sum") == 0


@kinds
@pytest.mark.parametrize(
    ("shape", "target", "settings", "text"),
    [
        ((3, 4), (3, 1), {}, "target has shape"),
        ((3, 4, 2), (3,), {}, "target has shape"),
        ((4,), (4,), {}, "target has shape"),
        ((3, 4), (3,), {"reduction": "max"}, "reduction"),
    ],
)
def test_what_does_not_fit(backend, kind, shape, target, settings, text):
    with pytest.raises(XcnnError, match=text):
        node_on(kind, backend, normal(*shape), labels(*target), opset=13, **settings)


@kinds
def test_labels_that_are_no_classes(kind):
    """Nothing is ignored by default, not even -100."""
    cpu = backends.get("cpu")
    for wrong in (-100, CLASSES):
        target = np.array([0, wrong, 1])
        with pytest.raises(XcnnError, match=f"class {wrong}"):
            node_on(kind, cpu, normal(3, CLASSES), target, opset=13)


@kinds
def test_the_loss_stays_on_the_device(strict, kind):
    from ..strict import count_syncs

    types = {"x": "float32", "t": "int64"}
    graph = graph_of(kind, {"x": (3, CLASSES), "t": (3,)}, opset=13, types=types).to(strict)
    x, target = strict.asarray(normal(3, CLASSES, dtype="float32")), strict.asarray(labels(3))
    with count_syncs() as syncs:
        graph(x, target)
    assert syncs == []
