"""SyncBatchNorm: parts of a batch on several ranks (threads here) as PyTorch on the whole batch."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import communicator, models, nn
from xcnn.communicator import Communicator
from xcnn.errors import ArgumentError
from xcnn.sharding import Part

from .conftest import normal

torch = pytest.importorskip("torch")


class Thread(Communicator):
    """A rank that is a thread; ``arrays`` is shared by all."""

    def __init__(self, rank, arrays, barrier):
        self.rank, self.size = rank, len(arrays)
        self.arrays, self.wait = arrays, barrier.wait

    def all_reduce(self, array):
        self.arrays[self.rank] = array.copy()
        self.wait(20)
        array[...] = sum(self.arrays)
        self.wait(20)


@pytest.fixture
def on_ranks(monkeypatch):
    """Call ``function(rank)`` on so many ranks at once, and return the results in order."""
    local = threading.local()
    monkeypatch.setattr(communicator, "current", lambda: local.own)

    def run(ranks, function):
        arrays, barrier = [None] * ranks, threading.Barrier(ranks)

        def start(rank):
            local.own = Thread(rank, arrays, barrier)
            try:
                return function(rank)
            except BaseException:
                barrier.abort()
                raise

        with ThreadPoolExecutor(ranks) as pool:
            return list(pool.map(start, range(ranks)))

    return run


def torch_step(layer, x, dy, residual=None, relu=False):
    """The output, the gradients of the inputs and of the layer's parameters."""
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, residual) if a is not None]
    y = layer(inputs[0]) + (inputs[1] if residual is not None else 0)
    y = torch.clamp(y, 0, 1.5) if relu else y
    y.backward(torch.tensor(dy))
    return [y.detach().numpy(), *(a.grad.numpy() for a in (*inputs, *layer.parameters()))]


def step(backend, layer, part, x, dy, residual=None, relu=False):
    own = [xcnn.Tensor(backend.asarray(a[part.rows])) for a in (x, residual) if a is not None]
    for a in own:
        a.requires_grad = True
    y = layer(own[0], *own[1:], relu=relu, ceiling=1.5)
    y.backward(backend.asarray(dy[part.rows]))
    gradients = [a.grad.numpy() for a in (*own, *layer.parameters())]
    return [y.numpy(), *gradients], [b.numpy() for b in layer.buffers()]


def merged(results, inputs):
    """Outputs and gradients of inputs one after the other, those of parameters added."""
    columns = list(zip(*results, strict=True))
    whole = [np.concatenate(c) for c in columns[: 1 + inputs]]
    return whole + [sum(c) for c in columns[1 + inputs :]]


CASES = [  # ranks, shape, settings of the step, of the layer
    (2, (5, 3, 4, 3), {"relu": True, "residual": True}, {}),
    (3, (7, 2, 3, 2, 4), {}, {"momentum": None}),
    (3, (2, 4, 5), {"relu": True}, {"momentum": 0.3}),  # rank 0 has no example
    (4, (4, 3), {}, {"affine": False}),  # one value on each rank
    (2, (6, 2, 2, 3), {"residual": True}, {"bias": False, "eps": 0.1}),
    (2, (6, 2, 2, 3), {}, {"track_running_stats": False}),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("ranks", "shape", "how", "settings"), CASES, ids=str)
def test_several_ranks(on_ranks, backend, ranks, shape, how, settings, dtype):
    """Far from 0 in float32, where sums of squares would cancel."""
    kind = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}
    theirs = kind.get(len(shape), torch.nn.BatchNorm3d)(
        shape[1], **settings, dtype=torch.float64
    ).train()
    x, dy, residual = (normal(*shape, seed=s, dtype=dtype) for s in range(3))
    x = x * 2 + np.asarray(300 if dtype == "float32" else 3, dtype)
    how = {**how, "residual": residual if "residual" in how else None}
    layers = []
    for _ in range(ranks):
        layer = nn.SyncBatchNorm(shape[1], **settings, device=backend, dtype=dtype)
        layers.append(layer)
        for n, (own, other) in enumerate(zip(layer.parameters(), theirs.parameters(), strict=True)):
            values = normal(shape[1], seed=n + 5, dtype=dtype)
            own.data[...] = backend.asarray(values)
            other.data = torch.tensor(values.astype("float64"))
    wide = {
        k: v.astype("float64") if k == "residual" and v is not None else v for k, v in how.items()
    }
    parts = [Part.of(len(x), rank, ranks) for rank in range(ranks)]
    for _ in range(2):
        theirs.zero_grad()
        expected = torch_step(theirs, x.astype("float64"), dy.astype("float64"), **wide)
        for layer in layers:
            layer.zero_grad()
        results = on_ranks(
            ranks, lambda rank: step(backend, layers[rank], parts[rank], x, dy, **how)
        )
    found = merged([outputs for outputs, _ in results], 1 + (residual is how["residual"]))
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        assert a.dtype == dtype
    for _, buffers in results:
        for a, b in zip(buffers, theirs.buffers(), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-9 if dtype == "float64" else 1e-5)


def test_one_process_and_evaluation_are_batch_norm(backend):
    x = xcnn.Tensor(backend.asarray(normal(4, 3, 2, 2, dtype="float32")))
    plain, synced = nn.BatchNorm2d(3), nn.SyncBatchNorm(3)
    for layer in (plain, synced):
        layer.to(backend)
    for _ in range(2):
        assert (plain(x).numpy() == synced(x).numpy()).all()
    assert (plain.eval()(x).numpy() == synced.eval()(x).numpy()).all()
    for a, b in zip(plain.buffers(), synced.buffers(), strict=True):
        assert (a.numpy() == b.numpy()).all()


def test_an_empty_batch_changes_no_statistics(on_ranks):
    def run(rank):
        layer = nn.SyncBatchNorm(3)
        y = layer(np.empty((0, 3, 2, 2), "float32"))
        return y.shape, layer.running_mean.numpy().tolist(), layer.running_var.numpy().tolist()

    assert on_ranks(2, run) == [((0, 3, 2, 2), [0.0] * 3, [1.0] * 3)] * 2


def test_half_types_are_added_in_wide_ones(on_ranks):
    """In PyTorch's float64, from the same rounded input."""
    x, dy = (normal(6, 2, 3, 3, seed=s).astype("float16") for s in (0, 1))
    layers = [nn.SyncBatchNorm(2, dtype="float16") for _ in range(2)]
    cpu = xcnn.backends.get("cpu")
    results = on_ranks(2, lambda rank: step(cpu, layers[rank], Part.of(6, rank, 2), x, dy))
    found = merged([outputs for outputs, _ in results], 1)
    theirs = torch.nn.BatchNorm2d(2, dtype=torch.float64)
    expected = torch_step(theirs, x.astype("float64"), dy.astype("float64"))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3)


def test_a_resnet_on_two_ranks(on_ranks):
    """Blocks with fused ReLU and shortcut, and the same order of collective calls on all ranks."""
    x, y = normal(5, 3, 8, 8), np.array([0, 2, 1, 0, 2])
    xcnn.manual_seed(0)
    network = models.resnet20(3, input_shape=(3, 8, 8)).to(dtype="float64")

    def gradients(model, part):
        loss = F.cross_entropy(model(xcnn.Tensor(x[part.rows])), y[part.rows], reduction="sum")
        loss.backward()
        return [p.grad.numpy() for p in model.parameters()], [b.numpy() for b in model.buffers()]

    copies = [nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network)) for _ in "ab"]
    expected = gradients(network, Part(0, 5, 5))
    results = on_ranks(2, lambda rank: gradients(copies[rank], Part.of(5, rank, 2)))
    for a, b, whole in zip(results[0][0], results[1][0], expected[0], strict=True):
        np.testing.assert_allclose(a + b, whole, rtol=1e-7, atol=1e-9)
    for a, b, whole in zip(results[0][1], results[1][1], expected[1], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, whole, rtol=1e-9)


def test_convert(tmp_path):
    inner = nn.BatchNorm1d(2, momentum=None, affine=False).eval()
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, eps=0.1), nn.ReLU())
    model.extra = [inner, nn.BatchNorm3d(4)]
    parameters, state = list(model.parameters()), model.state_dict()
    assert nn.SyncBatchNorm.convert_sync_batchnorm(model) is model
    kinds = [type(m) for m in model.modules() if hasattr(m, "running_mean")]
    assert kinds == [nn.SyncBatchNorm] * 3
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == list(state)
    assert not inner.training
    assert (model[1].eps, inner.momentum) == (0.1, None)
    xcnn.save(model[:2], tmp_path / "model.safetensors")
    assert type(xcnn.load(tmp_path / "model.safetensors")[1]) is nn.SyncBatchNorm
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(3))) is nn.SyncBatchNorm


def test_refused():
    with pytest.raises(ArgumentError, match="process_group=3"):
        nn.SyncBatchNorm(3, process_group=3)
    with pytest.raises(ArgumentError, match="module is int"):
        nn.SyncBatchNorm.convert_sync_batchnorm(3)
