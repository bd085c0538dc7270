"""Attention beside PyTorch, and by hand where it is not installed."""

import math

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import ArgumentError, ShapeError

from .conftest import assert_matches, normal


def by_hand(q, k, v, allowed, scale):
    """One query at a time."""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in np.ndindex(*q.shape[:-1]):
        rows = k[i[:-1]]
        scores = np.array(
            [sum(a * b for a, b in zip(q[i], row, strict=True)) * scale for row in rows]
        )
        use = np.broadcast_to(allowed, (*q.shape[:-1], len(rows)))[i]
        if use.any():
            e = np.exp(scores[use] - scores[use].max())
            y[i] = (e / e.sum()) @ v[i[:-1]][use]
    return y


@pytest.mark.parametrize("case", ["plain", "mask", "causal", "scale", "no axes before"])
def test_attention_by_hand(backend, case):
    lead = () if case == "no axes before" else (2, 3)
    q, k, v = normal(*lead, 4, 5), normal(*lead, 6, 5, seed=1), normal(*lead, 6, 2, seed=2)
    allowed = np.ones((4, 6), bool)
    settings = {}
    if case == "mask":
        allowed = normal(4, 6, seed=3) > 0
        allowed[2] = False  # a query that reads nothing
        settings["attn_mask"] = backend.asarray(allowed)
    if case == "causal":
        allowed = np.tri(4, 6, dtype=bool)
        settings["is_causal"] = True
    if case == "scale":
        settings["scale"] = 0.3
    y = F.scaled_dot_product_attention(*map(backend.asarray, (q, k, v)), **settings)
    scale = settings.get("scale", 1 / math.sqrt(5))
    assert_matches(y.data, by_hand(q, k, v, allowed, scale))


def test_grouped_heads(backend):
    q, k, v = normal(2, 6, 4, 3), normal(2, 2, 5, 3, seed=1), normal(2, 2, 5, 3, seed=2)
    y = F.scaled_dot_product_attention(*map(backend.asarray, (q, k, v)), enable_gqa=True)
    repeated = F.scaled_dot_product_attention(
        *map(backend.asarray, (q, k.repeat(3, axis=1), v.repeat(3, axis=1)))
    )
    assert_matches(y.data, backend.to_host(repeated.data))


def test_what_attention_refuses(backend):
    q = backend.xp.ones((2, 3))
    with pytest.raises(ArgumentError, match="is_causal=True and attn_mask: pass one"):
        F.scaled_dot_product_attention(q, q, q, backend.xp.ones((2, 2), bool), is_causal=True)
    with pytest.raises(ShapeError, match=r"query, key and value have shapes \(2, 3\), \(2, 2\)"):
        F.scaled_dot_product_attention(q, q[:, :2], q)
    with pytest.raises(ArgumentError, match="num_heads=3: expected a divisor of embed_dim=4"):
        nn.MultiheadAttention(4, 3)
    with pytest.raises(ArgumentError, match="is_causal=True needs attn_mask"):
        nn.MultiheadAttention(4, 2)(*[backend.xp.ones((2, 4), "float32")] * 3, is_causal=True)


LAYERS = {
    "plain": ({}, {}),
    "batch first": ({"batch_first": True}, {"average_attn_weights": False}),
    "other sizes": ({"kdim": 5, "vdim": 7, "bias": False}, {}),
    "appended": ({"add_bias_kv": True, "add_zero_attn": True}, {"padding": True}),
    "masks": ({}, {"padding": True, "mask": True}),
    "masks per head": ({"batch_first": True}, {"mask": "heads", "padding": True}),
    "one example": ({}, {"batch": None}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_multihead_attention(backend, name):
    torch = pytest.importorskip("torch")
    settings, use = LAYERS[name]
    theirs = torch.nn.MultiheadAttention(6, 3, dtype=torch.float64, **settings)
    ours = nn.MultiheadAttention(6, 3, dtype="float64", device=backend, **settings)
    state = {n: normal(*p.shape, seed=i) for i, (n, p) in enumerate(theirs.named_parameters())}
    ours.load_state_dict(state)
    theirs.load_state_dict({n: torch.tensor(v) for n, v in state.items()})
    batch = () if use.get("batch", 2) is None else (2,)

    def sequence(length, size, seed):
        shape = (*batch, length, size) if settings.get("batch_first") else (length, *batch, size)
        return normal(*shape, seed=seed)

    q, k, v = (
        sequence(4, 6, 11),
        sequence(5, settings.get("kdim", 6), 12),
        sequence(5, settings.get("vdim", 6), 13),
    )
    masks = {}
    if use.get("padding"):
        masks["key_padding_mask"] = np.array([[False] * 4 + [True], [False, True] + [False] * 3])
    if use.get("mask"):
        masks["attn_mask"] = np.triu(np.ones((4, 5), bool), 2)
        if use["mask"] == "heads":
            masks["attn_mask"] = normal(6, 4, 5)  # numbers to add
            masks["key_padding_mask"] = np.where(masks["key_padding_mask"], -np.inf, 0.0)
    average = use.get("average_attn_weights", True)
    x = xcnn.Tensor(backend.asarray(q), requires_grad=True)
    y, weights = ours(
        x,
        backend.asarray(k),
        backend.asarray(v),
        average_attn_weights=average,
        **{n: backend.asarray(m) for n, m in masks.items()},
    )
    peer = torch.tensor(q, requires_grad=True)
    expected, expected_weights = theirs(
        peer,
        torch.tensor(k),
        torch.tensor(v),
        average_attn_weights=average,
        **{n: torch.tensor(m) for n, m in masks.items()},
    )
    assert_matches(y.data, expected.detach().numpy(), factor=4)
    assert_matches(weights.data, expected_weights.detach().numpy(), factor=4)
    dy = normal(*q.shape, seed=20)
    y.backward(backend.asarray(dy))
    expected.backward(torch.tensor(dy))
    assert_matches(x.grad.data, peer.grad.numpy(), factor=4)
    for key, parameter in theirs.named_parameters():
        assert_matches(ours.get_parameter(key).grad.data, parameter.grad.numpy(), factor=4)


def test_dropout_and_dtype_of_attention(backend):
    layer = nn.MultiheadAttention(4, 2, dropout=0.5, device=backend)
    x = backend.asarray(normal(3, 2, 4, dtype="float32"))
    y, weights = layer(x, x, x, need_weights=False)
    assert y.dtype == np.float32
    assert weights is None
    assert layer.eval()(x, x, x)[0].tolist() == layer(x, x, x)[0].tolist()


def test_a_saved_layer(tmp_path):
    layer = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, bias=False, batch_first=True).eval()
    xcnn.save(layer, tmp_path / "layer.safetensors")
    loaded = xcnn.load(tmp_path / "layer.safetensors")
    arrays = [normal(2, 3, size, dtype="float32") for size in (4, 3, 5)]
    for found, expected in zip(loaded(*arrays), layer(*arrays), strict=True):
        np.testing.assert_array_equal(found.data, expected.data)
