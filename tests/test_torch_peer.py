"""The same numbers as PyTorch: every operation, the optimisers, and LeNet-5 in training."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import Tensor, optim

from .conftest import assert_matches, evaluate_on, normal
from .torch_scope import OPERATORS

torch = pytest.importorskip("torch")
T = torch.nn.functional

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def check(backend, function, reference, arrays, dtype):
    """Value and all gradients, for one random gradient of the output."""
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    found = evaluate_on(backend, function, *arrays)
    inputs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = reference(*inputs)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy(), dtype, factor=2)
    for gradient, tensor in zip(found.gradients, inputs, strict=True):
        if tensor.requires_grad and tensor.grad is not None:
            assert_matches(gradient, tensor.grad.numpy(), dtype, factor=2)


def between(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape)


# -- convolution ---------------------------------------------------------------------------

CONVOLUTIONS = {
    "plain": ((2, 3, 9, 7), (5, 3, 3, 3), {}),
    "one-by-one": ((3, 4, 5, 6), (7, 4, 1, 1), {}),
    "wide-kernel": ((2, 2, 8, 11), (3, 2, 2, 5), {"stride": (2, 3)}),
    "padding": ((1, 3, 7, 7), (4, 3, 5, 5), {"padding": (2, 1)}),
    "same": ((2, 3, 7, 6), (4, 3, 4, 3), {"padding": "same"}),
    "same-dilated": ((2, 3, 9, 6), (4, 3, 2, 3), {"padding": "same", "dilation": 2}),
    "valid": ((2, 3, 7, 6), (4, 3, 4, 3), {"padding": "valid"}),
    "dilation": ((2, 2, 11, 9), (3, 2, 3, 2), {"dilation": (3, 2), "padding": 3}),
    "groups": ((2, 6, 7, 5), (4, 3, 3, 3), {"groups": 2, "stride": 2}),
    "depthwise": ((2, 4, 7, 5), (8, 1, 3, 3), {"groups": 4, "padding": 1}),
    "everything": (
        (3, 4, 13, 10),
        (6, 2, 3, 2),
        {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 3), "groups": 2},
    ),
    "kernel-of-image-size": ((2, 3, 4, 5), (2, 3, 4, 5), {}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@dtypes
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(("x", "weight", "settings"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv2d(backend, x, weight, settings, bias, dtype):
    arrays = [normal(*x), normal(*weight, seed=1), normal(weight[0], seed=2)][: 2 + bias]
    check(
        backend,
        lambda *a: F.conv2d(*a, **settings),
        lambda *a: T.conv2d(*a, **settings),
        arrays,
        dtype,
    )


@dtypes
def test_conv2d_with_padding_of_each_side(backend, dtype):
    check(
        backend,
        lambda x, w: F.conv2d(x, w, padding=((2, 0), (1, 3))),
        lambda x, w: T.conv2d(T.pad(x, (1, 3, 2, 0)), w),
        [normal(2, 3, 6, 5), normal(4, 3, 3, 3)],
        dtype,
    )


# -- pooling -------------------------------------------------------------------------------

POOLS = {
    "2x2": (2, {}),
    "overlapping": (3, {"stride": 2}),
    "gaps": (2, {"stride": 3}),
    "rectangle": ((3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    "padding": (4, {"stride": 3, "padding": 2}),
    "ceil": (2, {"ceil_mode": True}),
    "ceil-padding": (3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    "ceil-gaps": (2, {"stride": 4, "padding": 1, "ceil_mode": True}),
}
pools = pytest.mark.parametrize(("kernel", "settings"), POOLS.values(), ids=POOLS)
IMAGE = (2, 3, 9, 7)


@dtypes
@pools
@pytest.mark.parametrize("dilation", [1, 2])
def test_max_pool2d(backend, kernel, settings, dilation, dtype):
    check(
        backend,
        lambda x: F.max_pool2d(x, kernel, dilation=dilation, **settings),
        lambda x: T.max_pool2d(x, kernel, dilation=dilation, **settings),
        [normal(*IMAGE)],
        dtype,
    )


@dtypes
@pools
@pytest.mark.parametrize("include_pad", [True, False])
def test_avg_pool2d(backend, kernel, settings, include_pad, dtype):
    settings = {**settings, "count_include_pad": include_pad}
    check(
        backend,
        lambda x: F.avg_pool2d(x, kernel, **settings),
        lambda x: T.avg_pool2d(x, kernel, **settings),
        [normal(*IMAGE)],
        dtype,
    )


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_every_small_ceil_mode(backend, size, kernel):
    x = normal(1, 1, size, size)
    for stride in range(1, 6):
        for padding in range(kernel // 2 + 1):
            if size + 2 * padding < kernel:
                continue
            settings = {"stride": stride, "padding": padding, "ceil_mode": True}
            expected = T.max_pool2d(torch.tensor(x), kernel, **settings).numpy()
            assert_matches(F.max_pool2d(backend.asarray(x), kernel, **settings), expected)
            expected = T.avg_pool2d(torch.tensor(x), kernel, **settings).numpy()
            assert_matches(F.avg_pool2d(backend.asarray(x), kernel, **settings), expected)


@pytest.mark.parametrize("settings", [{}, {"stride": 1}, {"stride": 2, "padding": 1}], ids=str)
def test_max_pool2d_of_equal_pixels_and_nan(backend, settings):
    """PyTorch too gives a tie to the first pixel, and lets NaN through (one in a window)."""
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 9, 9)).astype("float64")
    x[0, 1, 4, 4] = np.nan
    check(
        backend,
        lambda x: F.max_pool2d(x, 3, **settings),
        lambda x: T.max_pool2d(x, 3, **settings),
        [x],
        "float64",
    )


# -- everything else -----------------------------------------------------------------------

CLASSES = np.random.default_rng(4).integers(0, 5, 7)
PIXELS = np.random.default_rng(4).integers(0, 5, (7, 3, 2))
PEERS = {
    "relu": (F.relu, T.relu, [normal(3, 5, 2)]),
    "relu6": (F.relu6, T.relu6, [9 * normal(3, 5, 2)]),
    "leaky_relu": (
        lambda x: F.leaky_relu(x, 0.2),
        lambda x: T.leaky_relu(x, 0.2),
        [normal(3, 5, 2)],
    ),
    "prelu": (F.prelu, T.prelu, [normal(3, 5, 2), normal(5)]),
    "prelu-one": (F.prelu, T.prelu, [normal(3, 5, 2), normal(1)]),
    "elu": (lambda x: F.elu(x, 0.7), lambda x: T.elu(x, 0.7), [3 * normal(3, 5, 2)]),
    "selu": (F.selu, T.selu, [3 * normal(3, 5, 2)]),
    "gelu": (F.gelu, T.gelu, [3 * normal(3, 5, 2)]),
    "gelu-tanh": (
        lambda x: F.gelu(x, "tanh"),
        lambda x: T.gelu(x, approximate="tanh"),
        [3 * normal(3, 5, 2)],
    ),
    "silu": (F.silu, T.silu, [9 * normal(3, 5, 2)]),
    # T.hardsigmoid itself has a gradient of float32's 1/6 in float64, too
    "hardsigmoid": (F.hardsigmoid, lambda x: T.relu6(x + 3) / 6, [4 * normal(3, 5, 2)]),
    "hardswish": (F.hardswish, T.hardswish, [4 * normal(3, 5, 2)]),
    "softplus": (
        lambda x: F.softplus(x, 2, 3),
        lambda x: T.softplus(x, 2, 3),
        [3 * normal(3, 5, 2)],
    ),
    "sigmoid": (F.sigmoid, torch.sigmoid, [9 * normal(3, 5, 2)]),
    "tanh": (F.tanh, torch.tanh, [3 * normal(3, 5, 2)]),
    "softmax": (F.softmax, lambda x: T.softmax(x, 1), [5 * normal(3, 5, 2)]),
    "softmax-last": (lambda x: F.softmax(x, -1), lambda x: T.softmax(x, -1), [normal(3, 5, 2)]),
    "log_softmax": (F.log_softmax, lambda x: T.log_softmax(x, 1), [5 * normal(3, 5, 2)]),
    "linear": (F.linear, T.linear, [normal(7, 5), normal(3, 5), normal(3)]),
    "linear-rows": (F.linear, T.linear, [normal(2, 3, 5), normal(3, 5), normal(3)]),
    "matmul": (F.matmul, torch.matmul, [normal(2, 1, 3, 5), normal(4, 5, 2)]),
    "add": (F.add, torch.add, [normal(3, 1, 4), normal(5, 1)]),
    "sub": (F.sub, torch.sub, [normal(3, 1, 4), normal(5, 1)]),
    "mul": (F.mul, torch.mul, [normal(3, 1, 4), normal(5, 1)]),
    "div": (F.div, torch.div, [normal(3, 1, 4), between(5, 1)]),
    "abs": (F.abs, torch.abs, [normal(3, 5, 2)]),
    "erf": (F.erf, torch.erf, [2 * normal(3, 5, 2)]),
    "exp": (F.exp, torch.exp, [3 * normal(3, 5, 2)]),
    "log": (F.log, torch.log, [between(3, 5, 2)]),
    "maximum": (F.maximum, torch.maximum, [normal(3, 1, 4), normal(5, 1)]),
    "minimum": (F.minimum, torch.minimum, [normal(3, 1, 4), normal(5, 1)]),
    "pow": (F.pow, torch.pow, [between(3, 1, 4), 2 * normal(5, 1)]),
    "pow-number": (lambda x: F.pow(x, 3), lambda x: torch.pow(x, 3), [normal(3, 5, 2)]),
    "reciprocal": (F.reciprocal, torch.reciprocal, [between(3, 5, 2)]),
    "sqrt": (F.sqrt, torch.sqrt, [between(3, 5, 2)]),
    "threshold": (
        lambda x: F.threshold(x, 0.2, -3),
        lambda x: T.threshold(x, 0.2, -3),
        [normal(3, 5, 2)],
    ),
    "where": (F.where, torch.where, [normal(5, 4) > 0, normal(3, 1, 4), normal(5, 1)]),
    "where-number": (
        lambda x: F.where(Tensor.of(x).data > 0, x, 2),
        lambda x: torch.where(x > 0, x, 2),
        [normal(3, 4)],
    ),
    "operators": (
        lambda a, b: (2 - a) * b / (b + 3) - -a,
        lambda a, b: (2 - a) * b / (b + 3) - -a,
        [normal(3, 4), between(4)],
    ),
    "sum": (lambda x: F.sum(x, (0, 2)), lambda x: x.sum((0, 2)), [normal(3, 4, 5)]),
    "mean": (lambda x: F.mean(x, 1, True), lambda x: x.mean(1, True), [normal(3, 4, 5)]),
    "reshape": (lambda x: F.reshape(x, 6, -1), lambda x: x.reshape(6, -1), [normal(3, 4, 5)]),
    "flatten": (F.flatten, torch.flatten, [normal(3, 4, 5, 2)]),
    "clamp": (
        lambda x: F.clamp(x, -0.4, 0.7),
        lambda x: torch.clamp(x, -0.4, 0.7),
        [normal(3, 5, 2)],
    ),
    "permute": (
        lambda x: F.permute(x, (2, 0, -2)),
        lambda x: torch.permute(x, (2, 0, -2)),
        [normal(3, 4, 5)],
    ),
    "split": (
        lambda x: F.split(x, 3, 1)[2] * F.split(x, [1, 2, 5], 1)[0],
        lambda x: torch.split(x, 3, 1)[2] * torch.split(x, [1, 2, 5], 1)[0],
        [normal(3, 8, 2)],
    ),
    "squeeze": (
        lambda x: F.squeeze(x, (1, 2)),
        lambda x: torch.squeeze(x, (1, 2)),
        [normal(3, 1, 2, 1)],
    ),
    "unsqueeze": (
        lambda x: F.unsqueeze(x, -2),
        lambda x: torch.unsqueeze(x, -2),
        [normal(3, 4)],
    ),
    "index": (
        lambda x: Tensor.of(x)[1:, None, ..., 2] * Tensor.of(x)[0, ..., ::2, 1:2],
        lambda x: x[1:, None, ..., 2] * x[0, ..., ::2, 1:2],
        [normal(3, 4, 3)],
    ),
    "concat": (
        lambda *parts: F.concat(parts, 1),
        lambda *parts: torch.cat(parts, 1),
        [normal(3, 4, 5), normal(3, 1, 5)],
    ),
    "pad": (
        lambda x: F.pad(x, (3, 0, 1, 2), value=1.5),
        lambda x: T.pad(x, (3, 0, 1, 2), value=1.5),
        [normal(2, 3, 4, 5)],
    ),
    "conv1d": (
        lambda x, w, b: F.conv1d(x, w, b, 2, 1, 2, 2),
        lambda x, w, b: T.conv1d(x, w, b, 2, 1, 2, 2),
        [normal(2, 4, 9), normal(6, 2, 3), normal(6)],
    ),
    "conv_transpose1d": (
        lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1, 1, 2, 3),
        lambda x, w, b: T.conv_transpose1d(x, w, b, 2, 1, 1, 2, 3),
        [normal(2, 4, 5), normal(4, 3, 3), normal(6)],
    ),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 3), 1, (1, 2), 2, (1, 2)),
        lambda x, w, b: T.conv_transpose2d(x, w, b, (2, 3), 1, (1, 2), 2, (1, 2)),
        [normal(2, 4, 5, 3), normal(4, 3, 3, 2), normal(6)],
    ),
    "max_pool1d": (
        lambda x: F.max_pool1d(x, 3, 2, 1, ceil_mode=True),
        lambda x: T.max_pool1d(x, 3, 2, 1, ceil_mode=True),
        [normal(2, 3, 8)],
    ),
    "avg_pool1d": (
        lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
        lambda x: T.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
        [normal(2, 3, 8)],
    ),
    "pad-reflect": (
        lambda x: F.pad(x, (3, 0, 1, 2), mode="reflect"),
        lambda x: T.pad(x, (3, 0, 1, 2), mode="reflect"),
        [normal(2, 3, 4, 5)],
    ),
    "mse_loss": (F.mse_loss, T.mse_loss, [normal(7, 3), normal(7, 3, seed=1)]),
    "l1_loss": (F.l1_loss, T.l1_loss, [normal(7, 3), normal(7, 3, seed=1)]),
    "smooth_l1_loss": (F.smooth_l1_loss, T.smooth_l1_loss, [normal(7, 3), normal(7, 3, seed=1)]),
    "huber_loss": (F.huber_loss, T.huber_loss, [normal(7, 3), normal(7, 3, seed=1)]),
    "kl_div": (F.kl_div, T.kl_div, [normal(7, 3), between(7, 3)]),
    "cross_entropy": (F.cross_entropy, T.cross_entropy, [9 * normal(7, 5), CLASSES]),
    "cross_entropy-pixels": (F.cross_entropy, T.cross_entropy, [normal(7, 5, 3, 2), PIXELS]),
    "nll_loss": (F.nll_loss, T.nll_loss, [normal(7, 5), CLASSES]),
    "cross_entropy-soft": (F.cross_entropy, T.cross_entropy, [normal(7, 5), between(7, 5)]),
    "binary_cross_entropy": (
        F.binary_cross_entropy,
        T.binary_cross_entropy,
        [between(7, 3), between(7, 3, seed=1)],
    ),
    "binary_cross_entropy_with_logits": (
        F.binary_cross_entropy_with_logits,
        T.binary_cross_entropy_with_logits,
        [9 * normal(7, 3), between(7, 3)],
    ),
}


LOSSES = {
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "kl_div",
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # of kl_div
@dtypes
@pytest.mark.parametrize(("function", "reference", "arrays"), PEERS.values(), ids=PEERS)
def test_operation(backend, function, reference, arrays, dtype):
    check(backend, function, reference, arrays, dtype)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # of kl_div
@dtypes
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", [n for n in PEERS if n.split("-")[0] in LOSSES])
def test_loss(backend, name, reduction, dtype):
    function, reference, (x, target) = PEERS[name]
    target = target.astype(dtype) if target.dtype.kind == "f" else target
    check(
        backend,
        lambda x: function(x, backend.asarray(target), reduction=reduction),
        lambda x: reference(x, torch.tensor(target), reduction=reduction),
        [x],
        dtype,
    )


def test_every_operation_is_compared():
    """Those that PyTorch has, too: here, or by PyTorch's own samples."""
    compared = {name.split("-")[0] for name in PEERS} | {"conv2d", "max_pool2d", "avg_pool2d"}
    sampled = {name.split(".")[-1] for names in OPERATORS.values() for name in names.split()}
    of_torch = {name for name in F.__all__ if hasattr(T, name) or hasattr(torch, name)}
    assert of_torch - compared - sampled == set()


# -- optimisers ----------------------------------------------------------------------------

OPTIMISERS = {
    "sgd": (optim.SGD, torch.optim.SGD, {}),
    "momentum": (optim.SGD, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (optim.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "decay": (optim.SGD, torch.optim.SGD, {"weight_decay": 0.1}),
    "nesterov-decay": (
        optim.SGD,
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (optim.Adam, torch.optim.Adam, {}),
    "adam-betas": (optim.Adam, torch.optim.Adam, {"betas": (0.7, 0.8), "eps": 1e-3}),
    "adam-decay": (optim.Adam, torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (optim.AdamW, torch.optim.AdamW, {}),
    "rmsprop": (optim.RMSprop, torch.optim.RMSprop, {"momentum": 0.5, "eps": 1e-3}),
    "rmsprop-centered": (optim.RMSprop, torch.optim.RMSprop, {"centered": True, "eps": 1e-2}),
    "adagrad": (optim.Adagrad, torch.optim.Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
}


@dtypes
@pytest.mark.parametrize(("own", "peer", "settings"), OPTIMISERS.values(), ids=OPTIMISERS)
def test_optimiser_step_by_step(backend, own, peer, settings, dtype):
    """Ten steps down a bowl, compared after each; the learning rate changes midway."""
    start, slope = normal(4, 3, dtype=dtype), normal(4, 3, seed=1, dtype=dtype)
    p = xcnn.Parameter(backend.asarray(start.copy()))
    q = torch.nn.Parameter(torch.tensor(start))
    ours, theirs = own([p], lr=0.05, **settings), peer([q], lr=0.05, **settings)
    for step in range(10):
        if step == 5:
            ours.lr = theirs.param_groups[0]["lr"] = 0.01
        ours.zero_grad()
        theirs.zero_grad()
        (p * p + p * backend.asarray(slope)).sum().backward()
        (q * q + q * torch.tensor(slope)).sum().backward()
        ours.step()
        theirs.step()
        assert_matches(p, q.detach().numpy(), dtype, factor=5)


# -- LeNet-5 -------------------------------------------------------------------------------


def torch_lenet5(weights):
    """LeNet-5 out of PyTorch's own layers, with the given weights."""
    nn = torch.nn
    layers = [
        ("conv1", nn.Conv2d(1, 6, 5, padding=2)),
        ("act1", nn.ReLU()),
        ("pool1", nn.MaxPool2d(2)),
        ("conv2", nn.Conv2d(6, 16, 5)),
        ("act2", nn.ReLU()),
        ("pool2", nn.MaxPool2d(2)),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(400, 120)),
        ("act3", nn.ReLU()),
        ("fc2", nn.Linear(120, 84)),
        ("act4", nn.ReLU()),
        ("fc3", nn.Linear(84, 10)),
    ]
    model = nn.Sequential()
    for name, layer in layers:
        model.add_module(name, layer)
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return model


def test_20_training_steps_of_lenet5(backend):
    xcnn.manual_seed(0)
    ours = xcnn.models.create("lenet5").to(backend)
    theirs = torch_lenet5({n: backend.to_host(a) for n, a in ours.state_dict().items()})
    step, peer_step = optim.Adam(ours.parameters(), 1e-3), torch.optim.Adam(theirs.parameters())
    rng = np.random.default_rng(0)
    for _ in range(20):
        images = rng.standard_normal((32, 1, 28, 28)).astype("float32")
        labels = rng.integers(0, 10, 32)
        step.zero_grad()
        loss = F.cross_entropy(ours(backend.asarray(images)), backend.asarray(labels))
        loss.backward()
        step.step()
        peer_step.zero_grad()
        peer = T.cross_entropy(theirs(torch.tensor(images)), torch.tensor(labels))
        peer.backward()
        peer_step.step()
        assert loss.item() == pytest.approx(peer.item(), rel=1e-4)
