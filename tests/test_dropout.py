"""Dropout, and the random bits under it: the same on every device."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.backends import Backend
from xcnn.errors import ArgumentError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, is_batch_last, layouts, normal

KEYS = [0, 1, 2**32, 0x9E3779B97F4A7C15, 2**64 - 1]

# Random123's file kat_vectors: philox4x64, 10 rounds; counter, key, result
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    (
        [2**64 - 1] * 4,
        [2**64 - 1] * 2,
        "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
    ),
    (
        [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6C],
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_the_oracle_knows_the_published_answers(counter, key, answer):
    assert " ".join(f"{word:016x}" for word in oracles.philox4x64(counter, key)) == answer


@pytest.mark.parametrize("key", KEYS, ids=hex)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 40])
def test_random_bits_are_philox_blocks(backend, key, count):
    """Counters 1, 2, ..., each word's low half first."""
    blocks = [oracles.philox4x64([i, 0, 0, 0], [key, 0]) for i in range(1, 6)]
    halves = [h for block in blocks for word in block for h in (word & 0xFFFFFFFF, word >> 32)]
    bits = backend.to_host(backend.random_bits(count, key))
    assert bits.dtype == np.uint32
    assert bits.tolist() == halves[:count]


def numpy_bits(count, key):
    """The same from NumPy's own generator."""
    generator = np.random.Philox(key=np.array([key, 0], np.uint64))
    return generator.random_raw(-(-count // 2)).astype("<u8").view("<u4")[:count]


@given(count=st.integers(0, 300), key=st.integers(0, 2**64 - 1))
def test_random_bits_are_numpys(backend, count, key):
    assert (backend.to_host(backend.random_bits(count, key)) == numpy_bits(count, key)).all()


@pytest.mark.parametrize("key", KEYS, ids=hex)
def test_generic_random_bits(key):
    """What a device without an own generator does."""
    assert (Backend(np, "generic").random_bits(101, key) == numpy_bits(101, key)).all()


def expected_mask(shape, p, key):
    """Element by element in batch-last order: dropped where the random word is below p·2³²."""
    keep = numpy_bits(math.prod(shape), key) >= round(p * 2**32)
    return np.moveaxis(keep.reshape(*shape[1:], shape[0]), -1, 0) / (1 - p)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5), (7,), (0, 3)], ids=str)
@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_mask(evaluate, shape, dtype, p):
    x = normal(*shape, dtype=dtype)
    found = evaluate(F.dropout, x, p=p, key=11)
    mask = expected_mask(shape, p, 11)
    assert_matches(found.y, x * mask, dtype)
    assert_matches(found.gradients[0], found.dy * mask, dtype)


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 4, 5)], ids=str)
def test_same_mask_in_any_memory_layout(backend, shape):
    results = [
        F.dropout(x, key=5).numpy() for x in layouts(backend, np.ones(shape, "float32")).values()
    ]
    for y in results:
        assert_matches(y, expected_mask(shape, 0.5, 5))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_statistics(backend, p):
    """Share of zeros and mean within five standard deviations; zeros next to zeros as by chance."""
    n = 100_000
    y = F.dropout(backend.xp.ones((100, n // 100), "float32"), p, key=2024).numpy()
    zero = y == 0
    deviation = math.sqrt(p * (1 - p) / n)
    assert abs(zero.mean() - p) < 5 * deviation
    assert abs(y.mean() - 1) < 5 * deviation / (1 - p)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - p))}
    for axis in (0, 1):
        pairs = (zero & np.roll(zero, 1, axis)).mean()
        assert abs(pairs - p * p) < 10 * math.sqrt(p * p / n)


def test_keys_give_unrelated_masks(backend):
    x = backend.xp.ones(100_000, "float32")
    a, b = (F.dropout(x, 0.5, key=k).numpy() > 0 for k in (1, 2))
    assert abs((a == b).mean() - 0.5) < 5 * 0.5 / math.sqrt(100_000)


def test_seed_repeats_the_masks_and_calls_differ(backend):
    x = backend.xp.ones((8, 8), "float32")
    xcnn.manual_seed(3)
    first, second = F.dropout(x).numpy(), F.dropout(x).numpy()
    xcnn.manual_seed(3)
    assert (F.dropout(x).numpy() == first).all()
    assert (F.dropout(x).numpy() == second).all()
    assert (first != second).any()


def test_nothing_and_everything(backend):
    x = backend.asarray(normal(4, 3))
    assert_matches(F.dropout(x, 0.0), normal(4, 3))
    assert_matches(F.dropout(x, 0.9, training=False), normal(4, 3))
    assert (F.dropout(x, 1.0, key=0).numpy() == 0).all()


def test_gradcheck(backend):
    assert gradcheck(F.dropout, backend.asarray(normal(4, 3, 2, 2)), p=0.4, key=1) < 1e-6


def test_memory_order_stays(backend):
    x = layouts(backend, normal(2, 3, 4, 5))["batch-last"]
    y, pullback = xcnn.vjp(F.dropout, x, key=1)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_probability_out_of_range(backend, p):
    with pytest.raises(ArgumentError, match=f"p={p}"):
        F.dropout(backend.asarray(normal(2)), p)


# -- whole channels --------------------------------------------------------------------------


def expected_channels(images, channels, p, key):
    """One number per channel and image, drawn channel by channel."""
    keep = numpy_bits(images * channels, key) >= round(p * 2**32)
    return (keep.reshape(channels, images).T / (1 - p))[:, :, None, None]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (2, 7, 1, 1), (0, 3, 4, 4), (2, 3, 0, 4)], ids=str)
def test_channels(evaluate, shape, dtype):
    x = normal(*shape, dtype=dtype)
    found = evaluate(F.dropout2d, x, p=0.4, key=11)
    mask = expected_channels(*shape[:2], 0.4, 11)
    assert_matches(found.y, x * mask, dtype)
    assert_matches(found.gradients[0], found.dy * mask, dtype)


def test_channels_in_any_memory_layout(backend):
    for x in layouts(backend, np.ones((5, 4, 3, 2), "float32")).values():
        y = F.dropout2d(x, key=5).numpy()
        assert_matches(y, expected_channels(5, 4, 0.5, 5) * np.ones((5, 4, 3, 2)), "float32")


def test_channels_stay_batch_last(backend):
    x = layouts(backend, normal(2, 3, 4, 5))["batch-last"]
    y, pullback = xcnn.vjp(F.dropout2d, x, key=1)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


def test_share_of_channels(backend):
    n = 100 * 200
    y = F.dropout2d(backend.xp.ones((100, 200, 2, 1), "float32"), 0.3, key=2024).numpy()
    assert (y[..., 0, 0] == y[..., 1, 0]).all()
    assert abs((y == 0).mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / n)


def test_layer_of_channels(backend):
    layer, x = nn.Dropout2d(0.4), backend.asarray(normal(3, 4, 2, 2))
    xcnn.manual_seed(3)
    first, second = layer(x).numpy(), layer(x).numpy()
    xcnn.manual_seed(3)
    assert (layer(x).numpy() == first).all()
    assert (first != second).any()
    assert_matches(layer.eval()(x), normal(3, 4, 2, 2))
    assert_matches(F.dropout2d(x, 0.0), normal(3, 4, 2, 2))
    assert (F.dropout2d(x, 1.0, key=0).numpy() == 0).all()
    assert repr(layer) == "Dropout2d(p=0.4)"


def test_channels_need_images(backend):
    with pytest.raises(ShapeError, match=r"expected \(N, C, H, W\)"):
        F.dropout2d(backend.asarray(normal(3, 4, 5)))
    with pytest.raises(ArgumentError, match="p=2"):
        F.dropout2d(backend.asarray(normal(3, 4, 5, 6)), 2)


# -- signals, volumes, and networks of SELU ----------------------------------------------------


@pytest.mark.parametrize(
    ("function", "shape", "spatial"),
    [
        (F.dropout1d, (4, 3, 5), 1),
        (F.dropout1d, (6, 5), 1),
        (F.dropout3d, (4, 3, 2, 5, 2), 3),
        (F.dropout3d, (6, 2, 5, 2), 3),
    ],
)
def test_channels_of_other_ranks(evaluate, function, shape, spatial):
    x = normal(*shape)
    found = evaluate(function, x, p=0.4, key=11)
    *images, channels = shape[: len(shape) - spatial]
    mask = expected_channels(*(images or [1]), channels, 0.4, 11).reshape(
        *images, channels, *(1,) * spatial
    )
    assert_matches(found.y, x * mask)
    assert_matches(found.gradients[0], found.dy * mask)


@pytest.mark.parametrize(
    ("function", "mask_of"),
    [
        (F.alpha_dropout, expected_mask),
        (F.feature_alpha_dropout, lambda shape, p, key: expected_channels(*shape[:2], p, key)),
    ],
)
def test_alpha_dropout(evaluate, function, mask_of):
    """x where it is kept, else selu(-∞); then scaled and shifted by the paper's a and b."""
    x, p, low = normal(4, 3, 2, 5), 0.3, -1.0507009873554805 * 1.6732632423543772
    keep = (mask_of(x.shape, p, 11) > 0) * 1.0
    a = (1 - p + low**2 * p * (1 - p)) ** -0.5
    found = evaluate(function, x, p=p, training=True, key=11)
    assert_matches(found.y, a * (x * keep + low * (1 - keep)) - a * p * low)
    assert_matches(found.gradients[0], found.dy * keep * a)


def test_alpha_dropout_keeps_mean_and_variance(backend):
    x = normal(400, 250, dtype="float32")
    y = F.alpha_dropout(backend.asarray(x), 0.3, True, key=5).numpy()
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.02


@pytest.mark.parametrize("function", [F.alpha_dropout, F.feature_alpha_dropout])
def test_alpha_dropout_of_all_or_nothing(backend, function):
    x = backend.asarray(normal(3, 4, 2))
    assert_matches(function(x), normal(3, 4, 2))
    assert_matches(function(x, 0.0, True), normal(3, 4, 2))
    assert (function(x, 1.0, True).numpy() == 0).all()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout1d(0.4), (3, 4, 5)),
        (nn.Dropout3d(0.4, inplace=True), (3, 4, 5, 2, 2)),
        (nn.AlphaDropout(0.4), (3, 4)),
        (nn.FeatureAlphaDropout(0.4), (3, 4, 5)),
    ],
    ids=repr,
)
def test_layers(backend, layer, shape):
    x = backend.asarray(normal(*shape))
    first, second = layer.train()(x).numpy(), layer(x).numpy()
    assert (first != second).any()
    assert_matches(layer.eval()(x), normal(*shape))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: F.dropout1d(x[0, 0]), ShapeError, r"\(N, C, L\) or \(C, L\)"),
        (lambda x: F.dropout3d(x), ShapeError, r"\(N, C, D, H, W\) or"),
        (lambda x: F.feature_alpha_dropout(x[0, 0], training=True), ShapeError, "expected .N, C"),
        (lambda x: F.dropout(x, 0.5, True, 7), ArgumentError, "inplace=7: .*pass a key by name"),
        (lambda x: nn.AlphaDropout(2), ArgumentError, "p=2"),
    ],
)
def test_refused(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(backend.asarray(normal(2, 3, 4)))
