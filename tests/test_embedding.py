"""Embedding and one-hot vectors, norms and distances."""

import math

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError, XcnnError

from .conftest import assert_matches, evaluate_on, layouts, normal
from .strict import count_syncs

TABLE = normal(7, 3)
INDICES = np.array([[0, 6, 2, 2], [2, 5, 0, 2]])


def row_sums(dy, indices, rows, left_out=None):
    """The gradient of a table, row by row."""
    dx = np.zeros((rows, dy.shape[-1]))
    for position in np.ndindex(*indices.shape):
        if indices[position] != left_out:
            dx[indices[position]] += dy[position]
    return dx


@pytest.mark.parametrize("padding_idx", [None, 2, -5])
@pytest.mark.parametrize("indices", [INDICES, INDICES[0], np.array(3), INDICES[:, :0]], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_embedding(evaluate, indices, padding_idx, dtype):
    found = evaluate(lambda i, w: F.embedding(i, w, padding_idx), indices.astype(dtype), TABLE)
    assert_matches(found.y, TABLE[indices])
    left_out = None if padding_idx is None else 2
    assert_matches(found.gradients[1], row_sums(found.dy, indices, 7, left_out))
    assert found.gradients[0] is None


def test_the_gradient_of_many_uses(backend):
    """The same bits each time, and without waiting for a GPU."""
    indices = np.random.default_rng(0).integers(0, 30, (8, 65))
    table, moved = normal(40, 6, dtype="float32"), backend.asarray(indices)
    dy = normal(8, 65, 6, seed=1, dtype="float32")
    gradients = []
    for layout in layouts(backend, table).values():
        weight = xcnn.Tensor(layout, requires_grad=True)
        with count_syncs() as syncs:
            F.embedding(moved, weight).backward(backend.asarray(dy))
        assert syncs == []
        gradients.append(weight.grad.numpy())
    assert_matches(gradients[0], row_sums(dy.astype("float64"), indices, 40), "float32")
    assert all((gradient == gradients[0]).all() for gradient in gradients)


def test_an_index_out_of_range(backend):
    for bad in (-1, 7):
        indices = backend.asarray(np.array([0, bad]))
        if backend.device == "cpu":
            with pytest.raises(XcnnError, match="0 to 6"):
                F.embedding(indices, TABLE)
        else:
            rows = F.embedding(indices, backend.asarray(TABLE)).numpy()
            assert np.isnan(rows).all(axis=1).tolist() == [False, True]


def test_embedding_layer(backend):
    layer = nn.Embedding(7, 3, padding_idx=-1).to(backend)
    assert layer.padding_idx == 6
    assert not backend.to_host(layer.weight.data[6]).any()
    assert_matches(
        layer(backend.asarray(INDICES)), backend.to_host(layer.weight.data)[INDICES], "float32"
    )
    frozen = nn.Embedding.from_pretrained(TABLE)
    assert not frozen.weight.requires_grad
    assert frozen.weight.data is TABLE
    assert nn.Embedding.from_pretrained(TABLE, freeze=False).weight.requires_grad
    weights = np.concatenate([nn.Embedding(100, 100).weight.data for _ in range(2)])
    assert abs(weights.mean()) < 0.05
    assert abs(weights.std() - 1) < 0.05


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_norm": 1.0}, "max_norm=1.0 is not supported.*rescale"),
        ({"scale_grad_by_freq": True}, "scale_grad_by_freq=True is not supported"),
        ({"sparse": True}, "gradients are dense"),
    ],
)
def test_what_embedding_refuses(settings, text):
    with pytest.raises(ArgumentError, match=text):
        F.embedding(INDICES, TABLE, **settings)
    with pytest.raises(ArgumentError, match=text):
        nn.Embedding(7, 3, **settings)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.embedding(TABLE, TABLE), DTypeError, "input is float64: expected integer"),
        (lambda: F.embedding(INDICES, TABLE[0]), ShapeError, r"weight has shape \(3,\)"),
        (lambda: F.embedding(INDICES, TABLE, 7), ShapeError, "padding_idx=7"),
        (lambda: nn.Embedding(0, 3), ArgumentError, "num_embeddings=0"),
        (lambda: nn.Embedding(3, 3, 3), ShapeError, "padding_idx=3"),
        (lambda: nn.Embedding.from_pretrained(TABLE[0]), ShapeError, r"\(rows, features\)"),
        (lambda: F.one_hot(TABLE), DTypeError, "tensor is float64"),
        (lambda: F.one_hot(INDICES, 6), ArgumentError, "class 6"),
        (lambda: F.one_hot(-INDICES), ArgumentError, "class -6"),
        (lambda: F.one_hot(INDICES[:, :0]), ShapeError, "pass num_classes"),
        (lambda: F.one_hot(INDICES, 0), ArgumentError, "num_classes=0"),
        (lambda: F.normalize(TABLE, out=TABLE), ArgumentError, "out is not supported"),
        (lambda: F.normalize(TABLE, dim=2), ShapeError, "dim=2"),
        (lambda: F.normalize(TABLE[:, :0], math.inf), ShapeError, "inf"),
        (lambda: F.cosine_similarity(TABLE, TABLE, eps="x"), ArgumentError, "eps='x'"),
        (lambda: F.pairwise_distance(TABLE, TABLE[:5]), ShapeError, "do not broadcast"),
        (lambda: F.cdist(TABLE, TABLE[:, :2]), ShapeError, r"\(..., P, M\)"),
        (lambda: F.cdist(TABLE, TABLE, -1), ArgumentError, "p=-1"),
        (lambda: F.cdist(TABLE, TABLE, compute_mode="fast"), ArgumentError, "compute_mode='fast'"),
        (lambda: F.pdist(TABLE[0]), ShapeError, r"expected \(N, M\)"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("num_classes", [-1, 9])
def test_one_hot(backend, num_classes):
    found = F.one_hot(backend.asarray(INDICES), num_classes)
    assert found.dtype == "int64"
    classes = 7 if num_classes == -1 else 9
    assert found.numpy().tolist() == np.eye(classes, dtype=int)[INDICES].tolist()


# -- distances -----------------------------------------------------------------------------

WITH_ZEROS = normal(5, 4, seed=2) * (normal(5, 4, seed=3) > -0.7)
WITH_ZEROS[2] = 0
OTHERS = normal(5, 4, seed=4)
EXPONENTS = [2.0, 1.0, 0.0, 3.5, 1.5, 0.5, math.inf, -1.0, -math.inf]


def check_with_torch(backend, name, *arrays, **settings):
    torch = pytest.importorskip("torch")
    found = evaluate_on(backend, getattr(F, name), *arrays, **settings)
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = getattr(torch if name == "cdist" else torch.nn.functional, name)(*inputs, **settings)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    for gradient, tensor in zip(found.gradients, inputs, strict=True):
        assert_matches(gradient, 0 * tensor.detach() if tensor.grad is None else tensor.grad)


@pytest.mark.parametrize("p", EXPONENTS)
def test_norms_and_distances(backend, p):
    check_with_torch(backend, "normalize", WITH_ZEROS, p=p)
    check_with_torch(backend, "pairwise_distance", WITH_ZEROS, OTHERS, p=p)
    if p >= 0:
        check_with_torch(backend, "cdist", WITH_ZEROS, WITH_ZEROS[1:], p=p)
        check_with_torch(backend, "pdist", WITH_ZEROS, p=p)


def test_settings_of_distances(backend):
    check_with_torch(backend, "normalize", normal(2, 3, 4), dim=-1, eps=2.0)
    check_with_torch(backend, "normalize", np.array(3.0), dim=0)
    check_with_torch(backend, "pairwise_distance", OTHERS, OTHERS[0], eps=0.1, keepdim=True)
    check_with_torch(backend, "cdist", normal(2, 1, 5, 3), normal(4, 2, 3, seed=1))
    for settings in ({}, {"dim": 0}, {"dim": -1, "eps": 1.5}):
        check_with_torch(backend, "cosine_similarity", WITH_ZEROS, OTHERS, **settings)
    check_with_torch(backend, "cosine_similarity", normal(1, 2, 3), normal(2, 1, 3), dim=-2)
    check_with_torch(backend, "cosine_similarity", np.array(-2.0), np.array(3.0), dim=0)


def test_layers_of_distances():
    assert_matches(
        nn.CosineSimilarity(0)(WITH_ZEROS, OTHERS), F.cosine_similarity(WITH_ZEROS, OTHERS, 0).data
    )
    layer = nn.PairwiseDistance(1.0, 0.5, keepdim=True)
    expected = np.abs(WITH_ZEROS - OTHERS + 0.5).sum(axis=1, keepdims=True)
    assert_matches(layer(WITH_ZEROS, OTHERS), expected)
