"""Normalisation against naive loops and against PyTorch."""

import copy
import math
import sys

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import backends, nn, optim
from xcnn.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from xcnn.testing import assert_close

from . import oracles
from .conftest import assert_matches, is_batch_last, layouts, normal
from .strict import count_syncs, forbid_float64

SHAPES = [(5, 4), (3, 4, 7), (3, 4, 5, 2), (2, 1, 1, 3), (1, 4, 2, 3)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# name: groups of an input of a shape, the function, shape of its weight and bias
KINDS = {
    "batch": (
        oracles.batch_groups,
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        lambda shape: shape[1:2],
    ),
    "layer": (
        lambda shape: oracles.layer_groups(shape, 1),
        lambda x, w, b: F.layer_norm(x, x.shape[-1], w, b),
        lambda shape: shape[-1:],
    ),
    "layer of all axes but the batch": (
        lambda shape: oracles.layer_groups(shape, len(shape) - 1),
        lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b),
        lambda shape: shape[1:],
    ),
    "layer of all axes": (
        lambda shape: oracles.layer_groups(shape, len(shape)),
        lambda x, w, b: F.layer_norm(x, list(x.shape), w, b),
        lambda shape: shape,
    ),
    "one group": (
        lambda shape: oracles.channel_groups(shape, 1),
        lambda x, w, b: F.group_norm(x, 1, w, b),
        lambda shape: shape[1:2],
    ),
    "instance": (
        lambda shape: oracles.channel_groups(shape, shape[1]),
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
        lambda shape: shape[1:2],
    ),
}


def spread(shape, weight_shape, kind):
    """A weight or bias so that it meets the axes it belongs to."""
    if weight_shape == shape[1:2] and not kind.startswith("layer"):
        return weight_shape + (1,) * (len(shape) - 2)
    return weight_shape


@pytest.mark.parametrize("kind", KINDS)
@shapes
@dtypes
def test_against_loops(evaluate, kind, shape, dtype):
    groups, function, weights = KINDS[kind]
    if kind == "instance" and len(shape) == 2:
        shape = (3, 4, 6)  # it needs pixels
    groups, eps = groups(shape), 1e-5
    x = normal(*shape) * 3 + 5
    w, b = normal(*weights(shape), seed=1) + 1, normal(*weights(shape), seed=2)
    wide = spread(shape, w.shape, kind)
    found = evaluate(function, x.astype(dtype), w.astype(dtype), b.astype(dtype))
    inside = oracles.normalized(x, groups, eps)
    assert_matches(found.y, inside * w.reshape(wide) + b.reshape(wide), dtype, factor=20)
    dx, dw, db = found.gradients
    dy = np.float64(found.dy)
    expected = oracles.normalized_gradient(dy * w.reshape(wide), x, groups, eps)
    assert_matches(dx, expected, dtype, factor=50)
    assert_matches(dw, oracles.summed_to(dy * inside, wide).reshape(w.shape), dtype, factor=50)
    assert_matches(db, oracles.summed_to(dy, wide).reshape(b.shape), dtype, factor=20)


@shapes
@dtypes
def test_batch_norm_with_running_statistics(evaluate, backend, shape, dtype):
    x, w, b = normal(*shape), normal(shape[1], seed=1), normal(shape[1], seed=2)
    mean, var = normal(shape[1], seed=3), np.abs(normal(shape[1], seed=4)) + 0.5
    kept = [backend.asarray(a.astype(dtype)) for a in (mean, var)]

    def function(x, w, b):
        return F.batch_norm(x, *kept, w, b, eps=1e-3)

    found = evaluate(function, *(a.astype(dtype) for a in (x, w, b)))
    wide = (-1,) + (1,) * (len(shape) - 2)
    mean, var, w, b = (a.reshape(wide) for a in (mean, var, w, b))
    inside, dy = (x - mean) / np.sqrt(var + 1e-3), np.float64(found.dy)
    assert_matches(found.y, inside * w + b, dtype, factor=5)
    dx, dw, db = found.gradients
    assert_matches(dx, dy * w / np.sqrt(var + 1e-3), dtype, factor=5)
    channels = (shape[1], *(1,) * (len(shape) - 2))
    assert_matches(dw, oracles.summed_to(dy * inside, channels).ravel(), dtype, factor=5)
    assert_matches(db, oracles.summed_to(dy, channels).ravel(), dtype, factor=5)
    assert_matches(kept[0], mean.ravel(), dtype)  # they are read only


@dtypes
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("ceiling", [math.inf, 0.7])
def test_residual_and_relu_in_the_same_pass(
    evaluate, backend, training, with_residual, dtype, ceiling
):
    """Equal to the three operations, outputs and all gradients; NaN stays NaN."""
    x, residual = normal(3, 4, 5, 2, dtype=dtype), normal(3, 4, 5, 2, seed=1, dtype=dtype)
    w, b = normal(4, seed=2, dtype=dtype), normal(4, seed=3, dtype=dtype)
    running = [backend.asarray(np.full(4, v, dtype)) for v in (0.1, 2.0)]

    def fused(x, w, b, r=None):
        settings = {"residual": r, "relu": True, "ceiling": ceiling}
        return F.batch_norm(x, *running, w, b, training, **settings)

    def single(x, w, b, r=None):
        y = F.batch_norm(x, *running, w, b, training)
        return F.hardtanh(y if r is None else y + r, 0, ceiling)

    arrays = x, w, b, *[residual] * with_residual
    found, expected = evaluate(fused, *arrays), evaluate(single, *arrays)
    assert_matches(found.y, expected.y, dtype, factor=5)
    for a, e in zip(found.gradients, expected.gradients, strict=True):
        assert_matches(a, e, dtype, factor=20)
    residual[1, 2, 3, 1] = np.nan
    y = fused(*(backend.asarray(a) for a in (x, w, b, residual))).numpy()
    assert np.argwhere(np.isnan(y)).tolist() == [[1, 2, 3, 1]]


# of the compiled kernels' vectors and blocks; (C, H, W) of images, channels per group
@pytest.mark.parametrize("batch", [1, 2, 3, 16, 17, 33, 64, 65])
@pytest.mark.parametrize(
    ("image", "count"), [((6, 5, 7), 2), ((4, 1, 1), 4), ((2, 40, 41), 1), ((6, 1, 3), 1)], ids=str
)
def test_any_number_of_examples(evaluate, image, count, batch):
    """Batch, group and layer norm beside PyTorch."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    x, channels = normal(batch, *image) * 3 + 20, image[0]
    weights = [normal(channels, seed=s) for s in (1, 2)]
    own = [normal(*image, seed=s) for s in (3, 4)]
    functions = {
        lambda F, x, w, b: F.group_norm(x, channels // count, w, b): weights,
        lambda F, x, w, b: F.layer_norm(x, image, w, b): own,
    }
    if batch * image[1] * image[2] > 1:
        functions[lambda F, x, w, b: F.batch_norm(x, None, None, w, b, True)] = weights
    for function, arrays in functions.items():
        found = evaluate(lambda *a, f=function: f(F, *a), x, *arrays)
        tensors = [torch.tensor(np.asarray(a), requires_grad=True) for a in (x, *arrays)]
        y = function(torch.nn.functional, *tensors)
        y.backward(torch.tensor(np.ascontiguousarray(found.dy)))
        assert_matches(found.y, y.detach().numpy(), factor=20)
        for a, e in zip(found.gradients, tensors, strict=True):
            assert_matches(a, e.grad.numpy(), factor=1000)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 20])
@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 5, 3, 2)], ids=str)
def test_local_response_norm(evaluate, shape, size):
    x = normal(*shape)
    found = evaluate(F.local_response_norm, x, size=size, alpha=2.0, beta=0.6, k=1.5)
    assert_matches(found.y, oracles.local_response_norm(x, size, 2.0, 0.6, 1.5))


# -- beside PyTorch ----------------------------------------------------------------------------


def pair(layer, torch, dtype="float64"):
    """A copy of the layer, and PyTorch's of the same name and settings with the same state."""
    torch.set_num_threads(1)  # the arrays are tiny
    layer = copy.deepcopy(layer)
    kind = getattr(torch.nn, type(layer).__name__)
    peer = kind(**layer._init_arguments).to(getattr(torch, dtype))
    layer.to(dtype=dtype)
    for i, (_, parameter) in enumerate(layer.named_parameters()):
        parameter.data[...] = normal(*parameter.shape, seed=i + 5)
    state = {k: torch.tensor(np.asarray(v)) for k, v in layer.state_dict().items()}
    peer.load_state_dict(state)
    return layer, peer


LAYERS = {
    "batch 2-d": (nn.BatchNorm2d(4), (3, 4, 5, 2)),
    "batch 1-d": (nn.BatchNorm1d(4), (6, 4)),
    "batch signals": (nn.BatchNorm1d(4, eps=0.1, momentum=0.3), (6, 4, 5)),
    "batch cumulative": (nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 2)),
    "batch momentum 0": (nn.BatchNorm2d(4, momentum=0.0), (3, 4, 5, 2)),
    "batch momentum 1": (nn.BatchNorm2d(4, momentum=1), (3, 4, 5, 2)),
    "batch without weights": (nn.BatchNorm2d(4, affine=False), (3, 4, 5, 2)),
    "batch without bias": (nn.BatchNorm2d(4, bias=False), (3, 4, 5, 2)),
    "batch untracked": (nn.BatchNorm2d(4, track_running_stats=False), (3, 4, 5, 2)),
    "instance": (nn.InstanceNorm2d(4), (3, 4, 5, 2)),
    "instance full": (
        nn.InstanceNorm2d(4, 1e-3, 0.2, affine=True, track_running_stats=True),
        (3, 4, 5, 2),
    ),
    "instance no momentum": (
        nn.InstanceNorm2d(4, momentum=None, track_running_stats=True),
        (3, 4, 5, 2),
    ),
    "layer": (nn.LayerNorm(6), (3, 5, 6)),
    "layer images": (nn.LayerNorm([4, 5, 2], eps=1e-3), (3, 4, 5, 2)),
    "layer without bias": (nn.LayerNorm(6, bias=False), (3, 6)),
    "layer without weights": (nn.LayerNorm((5, 6), elementwise_affine=False), (3, 5, 6)),
    "group": (nn.GroupNorm(2, 6), (3, 6, 5, 2)),
    "group one": (nn.GroupNorm(1, 6, eps=1e-2), (3, 6)),
    "group each": (nn.GroupNorm(6, 6, bias=False), (3, 6, 4)),
    "group without weights": (nn.GroupNorm(3, 6, affine=False), (3, 6, 4)),
    "local response": (nn.LocalResponseNorm(3, 0.5, 0.7, 2.0), (3, 6, 4, 2)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers_beside_pytorch(layer, shape):
    """Three training steps, then evaluation: outputs, all gradients and all state."""
    torch = pytest.importorskip("torch")
    ours, theirs = pair(layer, torch)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for step in range(5):
        training = step < 3
        ours.train(training)
        theirs.train(training)
        x, dy = normal(*shape, seed=step) * 2 + 3, normal(*shape, seed=step + 9)
        mine = xcnn.Tensor(x, requires_grad=True)
        his = torch.tensor(x, requires_grad=True)
        y, expected = ours(mine), theirs(his)
        assert_matches(y, expected.detach().numpy())
        ours.zero_grad()
        theirs.zero_grad()
        y.backward(dy)
        expected.backward(torch.tensor(dy))
        assert_matches(mine.grad, his.grad.numpy())
        named = dict(theirs.named_parameters())
        assert {k for k, _ in ours.named_parameters()} == set(named)
        for name, parameter in ours.named_parameters():
            assert_matches(parameter.grad, named[name].grad.numpy())
        for name, array in theirs.state_dict().items():
            mine_now = ours.state_dict()[name]
            assert mine_now.shape == tuple(array.shape)
            assert mine_now.dtype == array.numpy().dtype
            assert_close(mine_now, array.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers_are_the_same_on_every_device(backend, layer, shape):
    """In float32, with three steps of running statistics; no float64, no wait."""
    here, there = copy.deepcopy(layer), copy.deepcopy(layer)
    here.to("cpu", "float32").train()
    there.to(backend, "float32").train()
    for step in range(3):
        x = normal(*shape, seed=step, dtype="float32") + 2
        expected, y = here(x), there(backend.asarray(x))
        assert y.dtype == np.float32
        assert_matches(y.numpy(), expected.numpy(), factor=10)
    there.eval()
    here.eval()
    assert_matches(there(backend.asarray(x)).numpy(), here(x).numpy(), factor=10)
    for name, array in here.state_dict().items():
        assert_close(backend.to_host(there.state_dict()[name]), array, rtol=1e-4, atol=1e-5)


def test_loads_the_state_of_pytorch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm2d(3)
    for seed in range(2):
        theirs(torch.tensor(normal(4, 3, 5, 5, seed=seed, dtype="float32")))
    ours = nn.BatchNorm2d(3)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    assert ours.num_batches_tracked.data == 2
    x = normal(2, 3, 4, 4, seed=9, dtype="float32")
    expected = theirs.eval()(torch.tensor(x)).detach().numpy()
    assert_matches(ours.eval()(x), expected, "float32")


@pytest.mark.parametrize("mean", [0, 1e4, -3e5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_that_is_large_beside_the_spread(evaluate, kind, mean):
    """Values near 10,000 with a spread of 0.1: PyTorch is off by 0.02, its gradient by 1e-4."""
    groups, function, _ = KINDS[kind]
    x = (mean + 0.1 * normal(6, 10, 7, 3)).astype("float32")
    x[0] = mean  # an eighth of the values tells little of the rest
    found = evaluate(lambda x: function(x, None, None), x)
    expected = np.empty(x.shape)
    for index in groups(x.shape):
        values = x[index].astype("float64")
        expected[index] = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
    np.testing.assert_allclose(found.y, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bias_without_a_weight(evaluate, kind):
    _, function, weights = KINDS[kind]
    x, bias = normal(3, 4, 5, 2), normal(*weights((3, 4, 5, 2)), seed=1)
    expected = evaluate(function, x, np.ones_like(bias), bias)
    found = evaluate(lambda x, b: function(x, None, b), x, bias)
    assert_matches(found.y, expected.y)
    for i, j in ((0, 0), (1, 2)):
        assert_matches(found.gradients[i], expected.gradients[j])


@pytest.mark.parametrize("eps", [0.0, 1e-300, 1e300])
def test_an_eps_beyond_the_range_of_float32(backend, eps):
    """A constant group is 0 without a division of 0 by 0; a huge eps makes all 0."""
    x = np.float32([[2, 2, 2, 2], [1, 2, 3, 4]])
    y = F.layer_norm(backend.asarray(x), 4, eps=eps).numpy()
    assert (y[0] == 0).all()
    values = np.arange(4) - 1.5
    np.testing.assert_allclose(y[1], values / np.sqrt(1.25) if eps < 1 else 0, rtol=1e-6, atol=1e-9)


# -- running statistics ------------------------------------------------------------------------


def test_running_statistics_change_in_place_in_training_only(backend):
    layer = nn.BatchNorm2d(3).to(backend)
    arrays = [b.data for b in layer.buffers()]
    x = backend.asarray(normal(2, 3, 4, 4, dtype="float32"))
    layer.eval()(x)
    assert backend.to_host(layer.num_batches_tracked.data) == 0
    layer.train()(x)
    assert all(b.data is a for b, a in zip(layer.buffers(), arrays, strict=True))
    host = [backend.to_host(a) for a in arrays]
    values = normal(2, 3, 4, 4).astype("float32").astype("float64")
    assert_matches(host[0], 0.1 * values.mean((0, 2, 3)), "float32")
    assert_matches(host[1], 0.9 + 0.1 * values.var((0, 2, 3), ddof=1), "float32")
    assert host[2] == 1
    with nn.evaluating(layer):
        layer(x)
    assert backend.to_host(layer.num_batches_tracked.data) == 1


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_that_is_refused_changes_nothing(backend, momentum):
    layer = nn.BatchNorm1d(3, momentum=momentum).to(backend)
    layer(backend.asarray(normal(4, 3, dtype="float32")))
    before = layer.state_dict()
    for shape in [(1, 3), (2, 4), (2, 3, 4, 5)]:
        with pytest.raises(ShapeError):
            layer(backend.asarray(normal(*shape, dtype="float32")))
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(backend.to_host(array), backend.to_host(before[name]))


def test_no_step_waits_for_the_device_or_makes_float64(strict):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, momentum=None),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.LocalResponseNorm(3),
        nn.Flatten(),
        nn.LayerNorm(16),
        nn.BatchNorm1d(16),
    ).to(strict)
    optimiser = optim.SGD(model.parameters(), 0.1)
    x = strict.asarray(normal(3, 1, 4, 4, dtype="float32"))
    with count_syncs() as syncs, forbid_float64():
        for _ in range(2):
            optimiser.zero_grad()
            model(x).sum().backward()
            optimiser.step()
    assert syncs == []


def test_a_large_mean_leaves_the_variance(backend):
    """The mean of the squares less the square of the mean would have no digit left."""
    x = normal(64, 2, 8, 8) + 1e4
    layer = nn.BatchNorm2d(2, momentum=1.0).to(backend)
    y = layer(backend.asarray(x.astype("float32"))).numpy()
    exact = x.astype("float32").astype("float64")
    assert_close(
        backend.to_host(layer.running_var.data),
        exact.var((0, 2, 3), ddof=1).astype("float32"),
        rtol=1e-3,
        atol=0,
    )
    expected = oracles.normalized(exact, oracles.batch_groups(x.shape), 1e-5)
    assert np.abs(y - expected).max() < 5e-3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 1, 5), (2, 128, 3), (2, 300, 4), (1, 0, 3), (2, 257, 1)])
def test_column_sums(backend, shape, dtype):
    a = normal(*shape, dtype=dtype)
    exact = a.astype("float64").sum(axis=1)
    whole = backend.asarray(np.concatenate([a, a], axis=1))
    for x in (backend.asarray(a), whole[:, : shape[1]]):
        sums = backend.column_sums(x)
        assert_matches(sums, exact, "float64" if dtype == "float64" else "float32", factor=5)


@pytest.mark.parametrize("length", [1, 8191, 8192, 8193, 30000])
def test_row_sums(backend, length):
    """Long rows are cut for BLAS."""
    a, b = normal(3, length, dtype="float32"), normal(3, length, seed=1, dtype="float32")
    on_device = backend.asarray(a), backend.asarray(b)
    exact = np.float64(a), np.float64(b)
    assert_matches(backend.row_sums(on_device[0]), exact[0].sum(1), "float32", factor=5)
    assert_matches(backend.row_sums(*on_device), (exact[0] * exact[1]).sum(1), "float32", factor=5)
    halves = backend.asarray(a.astype("float16"))
    sums = backend.row_sums(halves)
    assert_matches(sums, np.float64(a.astype("float16")).sum(1), "float32", factor=5)


@pytest.mark.parametrize(("piece", "line"), [(1, 6), (40, 15), (2**20, 1)])
def test_pieces_change_nothing(backend, evaluate, monkeypatch, piece, line):
    """Of groups, or of a row of 8 pixels: 2, 4 or 1 of them in a line."""
    inputs = normal(3, 5, 4, 2), normal(5, seed=1), normal(5, seed=2)
    for _, function, weights in KINDS.values():
        arrays = (inputs[0], *(normal(*weights((3, 5, 4, 2)), seed=s) for s in (1, 2)))
        expected = evaluate(function, *arrays)
        with monkeypatch.context() as patch:
            patch.setattr(backend, "norm_piece", piece)
            patch.setattr(sys.modules["xcnn.backends.norm"], "_INNER_LOOP", line)
            patch.setattr(backend, "channels", lambda x: [slice(i, i + 1) for i in range(len(x))])
            found = evaluate(function, *arrays)
        assert_matches(found.y, expected.y)
        for got, wanted in zip(found.gradients, expected.gradients, strict=True):
            assert_matches(got, wanted)


def test_float16_has_statistics_in_float32(backend):
    x = (normal(64, 2, 16, 16) * 3 + 20).astype("float16")
    layer = nn.BatchNorm2d(2, momentum=1.0).to(backend)
    with xcnn.amp.autocast():
        y = layer(backend.asarray(x))
        loss = y.astype("float32").sum()
    loss.backward()
    assert y.dtype == np.float16
    exact = x.astype("float64")
    inside = oracles.normalized(exact, oracles.batch_groups(x.shape), 1e-5)
    assert np.abs(y.numpy() - inside).max() < 5e-3
    mean = backend.to_host(layer.running_mean.data)
    assert_close(mean, exact.mean((0, 2, 3)).astype("float32"), rtol=1e-5, atol=0)
    assert layer.weight.grad.dtype == np.float32


def test_no_gradient_for_the_input(backend):
    """A first layer needs those of its weights only."""
    layer = nn.BatchNorm2d(3).to(backend)
    x = normal(2, 3, 4, 4)
    layer(backend.asarray(x.astype("float32"))).backward(backend.asarray(x.astype("float32")))
    inside = oracles.normalized(x, oracles.batch_groups(x.shape), 1e-5)
    assert_matches(backend.to_host(layer.weight.grad.data), (x * inside).sum((0, 2, 3)), "float32")


# -- layouts, empty batches --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_any_layout(backend, kind):
    _, function, weights = KINDS[kind]
    shape = (3, 4, 5, 2)
    w, b = (backend.asarray(normal(*weights(shape), seed=s)) for s in (1, 2))
    expected = function(backend.asarray(normal(*shape)), w, b).numpy()
    for x in layouts(backend, normal(*shape)).values():
        y, pullback = xcnn.vjp(function, x, w, b)
        assert_matches(y, expected)
        if kind != "layer of all axes":
            assert is_batch_last(y)
            assert is_batch_last(pullback(y)[0])


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_an_empty_batch_leaves_the_statistics(backend, layer, shape):
    layer = copy.deepcopy(layer).to(backend, "float32")
    before = layer.state_dict()
    x = xcnn.Tensor(backend.xp.empty((0, *shape[1:]), "float32"), requires_grad=True)
    for training in (True, False):
        layer.train(training)
        y = layer(x)
        assert y.shape == x.shape
        y.backward(y.data)
    assert x.grad.shape == x.shape
    for name, parameter in layer.named_parameters():
        assert (backend.to_host(parameter.grad.data) == 0).all(), name
    for name, array in layer.state_dict().items():
        if name != "num_batches_tracked":
            assert (backend.to_host(array) == backend.to_host(before[name])).all()


# -- in models ---------------------------------------------------------------------------------


def small_network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4, momentum=None),
        nn.ReLU(),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True, bias=False, track_running_stats=True),
        nn.LocalResponseNorm(3, k=2.0),
        nn.Dropout2d(0.2),
        nn.Flatten(),
        nn.LayerNorm(16),
        nn.Linear(16, 2),
        nn.BatchNorm1d(2),
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_is_fused_unless_its_layers_are_observed(training):
    model = nn.Sequential(*xcnn.models.resnet18().layer2).train(training)
    x, seen = normal(2, 64, 5, 5, dtype="float32"), []
    y = model(x)
    assert type(y.creator).__name__ == "Normalize"
    for module in model.modules():
        module.register_forward_hook(lambda module, inputs, output: seen.append(module))
    observed = model(x)
    assert type(observed.creator).__name__ == "ReLU"
    assert len(seen) == len(list(model.modules()))
    assert_matches(observed.numpy(), y.numpy(), "float32", factor=20)


def test_a_replaced_norm_of_a_residual_block():
    block = xcnn.models.resnet18().layer1[0]
    block.bn1, block.bn2 = nn.Identity(), nn.GroupNorm(4, 64)
    x = normal(2, 64, 5, 5, dtype="float32")
    y = block.conv2(F.relu(block.conv1(x)))
    assert_matches(block(x).numpy(), F.relu(block.bn2(y) + x).numpy(), "float32", factor=5)


def test_save_and_load(tmp_path):
    model = small_network()
    model(normal(5, 1, 4, 4, dtype="float32"))
    xcnn.save(model, tmp_path / "model.safetensors")
    loaded = xcnn.load(tmp_path / "model.safetensors")
    x = normal(3, 1, 4, 4, seed=2, dtype="float32")
    assert (loaded(x).numpy() == model.eval()(x).numpy()).all()
    assert repr(loaded) == repr(model)
    count = loaded.state_dict()["1.num_batches_tracked"]
    assert count.shape == ()
    assert count.dtype == np.int64
    assert count == 1


def test_the_count_stays_an_integer(backend):
    layer = nn.BatchNorm2d(3).to(backend, dtype="float64")
    assert layer.running_mean.dtype == np.float64
    assert layer.num_batches_tracked.dtype == np.int64
    layer(backend.asarray(normal(2, 3, 4, 4)))
    assert layer.num_batches_tracked.dtype == np.int64
    assert layer.num_batches_tracked.shape == ()


def test_a_trainer_trains_it():
    """Stripes across or along; the running statistics serve in prediction."""
    xcnn.manual_seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    stripes = np.where(np.arange(8) % 2 == 0, 1.0, -1.0)
    across, along = stripes[None, :] + np.zeros((8, 1)), stripes[:, None] + np.zeros((1, 8))
    x = np.where(labels[:, None, None], across, along) + 0.5 * rng.standard_normal((200, 8, 8))
    x = x[:, None].astype("float32")
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), 0.01), loss="cross_entropy")
    trainer.fit(x[:160], labels[:160], epochs=3, batch_size=32)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 15
    found = trainer.predict(x[160:]).argmax(1)
    assert (found == labels[160:]).mean() > 0.95
    assert int(model.state_dict()["1.num_batches_tracked"]) == 15  # predicting counts nothing


# -- errors ------------------------------------------------------------------------------------

ERRORS = {
    "one value": (
        lambda a: F.batch_norm(a(1, 3), training=True),
        ShapeError,
        "more than one value per channel",
    ),
    "one pixel": (lambda a: F.instance_norm(a(2, 3, 1, 1)), ShapeError, "more than one pixel"),
    "one in a group": (lambda a: F.group_norm(a(1, 3), 3), ShapeError, "more than one value"),
    "axes": (lambda a: nn.BatchNorm2d(3)(a(2, 3)), ShapeError, r"expected \(N, C, H, W\)"),
    "axes 1d": (
        lambda a: nn.BatchNorm1d(3)(a(2, 3, 4, 5)),
        ShapeError,
        r"expected \(N, C\) or \(N, C, L\)",
    ),
    "no channels": (lambda a: F.batch_norm(a(3), training=True), ShapeError, r"\(N, C\)"),
    "channels": (lambda a: nn.BatchNorm2d(3)(a(2, 4, 5, 5)), ShapeError, "3 channels"),
    "group channels": (lambda a: nn.GroupNorm(1, 3)(a(2, 4, 5)), ShapeError, "3 channels"),
    "weight": (
        lambda a: F.batch_norm(a(2, 3), weight=a(4), training=True),
        ShapeError,
        r"weight has shape \(4,\)",
    ),
    "no statistics": (lambda a: F.batch_norm(a(2, 3)), ArgumentError, "training=True"),
    "one statistic": (
        lambda a: F.batch_norm(a(2, 3), a(3), training=True),
        ArgumentError,
        "both or neither",
    ),
    "statistics": (
        lambda a: F.batch_norm(a(2, 3), a(3), a(4)),
        ShapeError,
        r"running_var has shape \(4,\)",
    ),
    "momentum": (
        lambda a: F.batch_norm(a(2, 3), a(3), a(3), training=True, momentum="x"),
        ArgumentError,
        "momentum='x'",
    ),
    "last axes": (lambda a: F.layer_norm(a(2, 3), 4), ShapeError, r"last axes to be \(4,\)"),
    "few axes": (lambda a: F.layer_norm(a(3), (2, 3)), ShapeError, "last axes"),
    "normalized_shape": (lambda a: nn.LayerNorm(()), ArgumentError, "normalized_shape"),
    "groups": (lambda a: F.group_norm(a(2, 3), 2), ArgumentError, "divides the 3 channels"),
    "layer groups": (lambda a: nn.GroupNorm(2, 3), ArgumentError, "must divide"),
    "eps": (lambda a: nn.BatchNorm2d(3, eps=-1), ArgumentError, "eps=-1"),
    "layer momentum": (lambda a: nn.BatchNorm2d(3, momentum="x"), ArgumentError, "momentum='x'"),
    "features": (lambda a: nn.BatchNorm2d(0), ArgumentError, "num_features=0"),
    "size": (lambda a: F.local_response_norm(a(2, 3, 4), 0), ArgumentError, "size=0"),
    "layer size": (lambda a: nn.LocalResponseNorm(1.5), ArgumentError, "size=1.5"),
    "response axes": (lambda a: F.local_response_norm(a(2, 3), 3), ShapeError, "three axes"),
    "residual": (
        lambda a: F.batch_norm(a(2, 3), training=True, residual=a(1, 3)),
        ShapeError,
        r"residual has shape \(1, 3\): expected \(2, 3\)",
    ),
    "relu": (
        lambda a: F.batch_norm(a(2, 3), training=True, relu="x"),
        ArgumentError,
        "relu=.x.",
    ),
    "ceiling": (
        lambda a: F.batch_norm(a(2, 3), training=True, relu=True, ceiling=0),
        ArgumentError,
        "ceiling=0",
    ),
    "integers": (
        lambda a: F.batch_norm(a(2, 3).astype("int32"), training=True),
        DTypeError,
        "floating-point",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(lambda *shape: backend.xp.ones(shape, "float32"))


def test_statistics_elsewhere(strict):
    cpu = backends.get("cpu").xp
    with pytest.raises(DeviceError, match="running_mean is on cpu"):
        F.batch_norm(strict.xp.ones((2, 3), "float32"), cpu.zeros(3), cpu.ones(3))
