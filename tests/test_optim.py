"""Optimisers step by step against the naive oracle and, where installed, PyTorch."""

import numpy as np
import pytest

import xcnn
from xcnn import nn, optim
from xcnn.errors import ArgumentError, DeviceError, StateDictError

from . import oracles
from .conftest import assert_matches, normal

SHAPES = [(3, 4), (5,), (2, 1, 3, 3)]
STEPS = 6
SGD_CASES = [
    {"lr": 0.1},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "momentum": 0.8, "nesterov": True},
    {"lr": 0.1, "weight_decay": 0.2},
    {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"lr": 0.0, "momentum": 0.5},
]
ADAM_CASES = [
    {},
    {"lr": 0.1, "betas": (0.5, 0.9)},
    {"lr": 0.01, "eps": 0.1},
    {"lr": 0.01, "weight_decay": 0.3},
    {"lr": 0.01, "betas": (0.0, 0.0)},
]
CASES = [(optim.SGD, c) for c in SGD_CASES] + [(optim.Adam, c) for c in ADAM_CASES]
each_case = pytest.mark.parametrize(
    ("kind", "settings"), CASES, ids=lambda v: getattr(v, "__name__", None) or str(v)
)


def starts(dtype="float64"):
    return [normal(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]


def gradients(step, dtype="float64"):
    return [normal(*shape, seed=10 * step + i + 5, dtype=dtype) for i, shape in enumerate(SHAPES)]


def parameters(backend, dtype="float64"):
    return [xcnn.Parameter(backend.asarray(a)) for a in starts(dtype)]


def give(backend, params, step, dtype="float64"):
    for param, gradient in zip(params, gradients(step, dtype), strict=True):
        param.grad = backend.asarray(gradient)


def values(params):
    return [p.numpy().copy() for p in params]


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_the_formula(backend, kind, settings, dtype):
    params = parameters(backend, dtype)
    arrays = [p.data for p in params]
    optimizer = kind(params, **settings)
    rule = oracles.sgd if kind is optim.SGD else oracles.adam
    for step in range(STEPS):
        give(backend, params, step, dtype)
        optimizer.step()
        for i, (param, start) in enumerate(zip(params, starts(dtype), strict=True)):
            history = [gradients(s, dtype)[i].astype(np.float64) for s in range(step + 1)]
            expected = rule(start.astype(np.float64), history, **{"lr": 1e-3, **settings})
            assert_matches(param.numpy(), expected, dtype, factor=5)
    assert set(optimizer.steps) == {STEPS}
    assert all(p.data is a for p, a in zip(params, arrays, strict=True))  # in place


@each_case
def test_against_pytorch(backend, kind, settings):
    torch = pytest.importorskip("torch")
    params = parameters(backend)
    peers = [torch.nn.Parameter(torch.from_numpy(a)) for a in starts()]
    peer = getattr(torch.optim, kind.__name__)(peers, **settings)
    optimizer = kind(params, **settings)
    for step in range(STEPS):
        give(backend, params, step)
        optimizer.step()
        for other, gradient in zip(peers, gradients(step), strict=True):
            other.grad = torch.from_numpy(gradient)
        peer.step()
        for param, other in zip(params, peers, strict=True):
            assert_matches(param.numpy(), other.detach().numpy(), factor=10)


def test_the_learning_rate_may_change(backend):
    (param,) = params = [xcnn.Parameter(backend.asarray(np.zeros(2, np.float32)))]
    optimizer = optim.SGD(params, lr=1.0)
    param.grad = backend.asarray(np.ones(2, np.float32))
    optimizer.step()
    optimizer.lr = 0.5
    optimizer.step()
    assert param.numpy().tolist() == [-1.5, -1.5]


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_without_gradient_or_frozen_is_untouched(backend, kind):
    without, frozen, trained = params = parameters(backend, "float32")
    before = values(params)
    frozen.requires_grad = False
    for param in (frozen, trained):
        param.grad = backend.xp.ones_like(param.data)
    optimizer = kind(params, lr=0.1, weight_decay=0.1)
    optimizer.step()
    after = values(params)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])
    assert (after[2] != before[2]).all()
    assert set(optimizer.state_dict()["arrays"]) <= {"mean.2", "square.2"}
    assert without.grad is None


def test_a_step_without_any_gradient():
    param = xcnn.Parameter(np.ones(2, np.float32))
    optimizer = optim.Adam([param])
    optimizer.step()
    assert param.data.tolist() == [1, 1]
    assert optimizer.steps == [0]


def test_zero_grad_keeps_the_memory(backend):
    params = parameters(backend)
    give(backend, params, 0)
    before = [p.grad for p in params]
    optim.SGD(params).zero_grad()
    for param, grad in zip(params, before, strict=True):
        assert param.grad is grad
        assert not backend.to_host(grad).any()


@each_case
def test_a_saved_state_goes_on_bit_identically(backend, kind, settings):
    def run(params, optimizer, steps):
        for step in steps:
            give(backend, params, step, "float32")
            optimizer.step()

    params = parameters(backend, "float32")
    optimizer = kind(params, **settings)
    run(params, optimizer, range(3))
    state, middle = optimizer.state_dict(), values(params)
    run(params, optimizer, range(3, STEPS))  # must not reach into the saved state

    twins = [xcnn.Parameter(backend.asarray(a)) for a in middle]
    other = kind(twins, **{**settings, "lr": 123.0})
    other.load_state_dict(state)
    assert (set(other.steps), other.lr) == ({3}, optimizer.lr)
    run(twins, other, range(3, STEPS))
    for one, two in zip(values(params), values(twins), strict=True):
        np.testing.assert_array_equal(one, two)


def test_states_that_do_not_fit():
    params = [xcnn.Parameter(np.ones(2, np.float32))]
    adam = optim.Adam(params)
    params[0].grad = np.ones(2, np.float32)
    adam.step()
    good = adam.state_dict()
    bad = {
        **good,
        "arrays": {"mean.0": np.ones(3), "square.0": np.ones(2), "mean.1": 0, "velocity.0": 0},
    }
    with pytest.raises(StateDictError) as caught:
        adam.load_state_dict(bad)
    assert str(caught.value).splitlines() == [
        "the state does not fit Adam:",
        "  shape: mean.0 is (3,)",
        "  unexpected: mean.1",
        "  unexpected: velocity.0",
    ]
    for part in ({}, {"steps": [3]}, {"lr": 1, "arrays": {}}):
        with pytest.raises(StateDictError, match="this is no state of an optimiser"):
            adam.load_state_dict(part)
    with pytest.raises(StateDictError, match="unexpected: mean"):
        optim.SGD(params, momentum=0.9).load_state_dict(good)
    assert adam.steps == [1]
    np.testing.assert_array_equal(adam.state["mean"][0], good["arrays"]["mean.0"])


def test_two_devices_in_one_optimiser(strict):
    params = [xcnn.Parameter(np.ones(1)), xcnn.Parameter(strict.xp.ones(1))]
    for param in params:
        param.grad = param.data
    with pytest.raises(DeviceError, match=r"\['cpu', 'strict'\]: one optimiser per device"):
        optim.SGD(params).step()


WEIGHT = [xcnn.Parameter(np.ones(1, np.float32))]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optim.SGD([]), "SGD: params holds no Tensors: pass model.parameters()"),
        (lambda: optim.Adam(nn.Linear(1, 1)), "Adam: params holds no Tensors"),
        (lambda: optim.Adam([np.ones(2)]), "Adam: params holds no Tensors"),
        (lambda: optim.SGD(WEIGHT[0]), "SGD: params holds no Tensors"),
        (lambda: optim.SGD(WEIGHT, lr=-1), "lr=-1: expected a number >= 0"),
        (lambda: optim.SGD(WEIGHT, lr=float("nan")), "lr=nan: expected a number >= 0"),
        (lambda: optim.SGD(WEIGHT, lr="0.1"), "lr='0.1': expected a number >= 0"),
        (lambda: optim.SGD(WEIGHT, momentum=-0.1), "momentum=-0.1: expected"),
        (lambda: optim.SGD(WEIGHT, weight_decay=None), "weight_decay=None: expected"),
        (lambda: optim.SGD(WEIGHT, nesterov=True), "nesterov=True needs momentum > 0"),
        (lambda: optim.Adam(WEIGHT, betas=0.9), "betas=0.9: expected two numbers"),
        (lambda: optim.Adam(WEIGHT, betas=(0.9, 1.0)), r"betas=\(0.9, 1.0\): expected two numbers"),
        (lambda: optim.Adam(WEIGHT, betas=(0.9, "x")), r"betas=\(0.9, 'x'\): expected two numbers"),
        (lambda: optim.Adam(WEIGHT, eps=-1e-8), "eps=-1e-08: expected"),
    ],
)
def test_arguments_refused(make, text):
    with pytest.raises(ArgumentError, match=f"^{text}"):
        make()


def test_an_optimiser_of_ones_own():
    class Plain(optim.Optimizer):
        slots = ("seen",)

        def update(self, backend, params, grads, state, step, scaler):
            for p, g, seen in zip(params, grads, state["seen"], strict=True):
                seen += 1
                p -= self.lr * g * seen

    param = xcnn.Parameter(np.zeros(1, np.float32))
    optimizer = Plain([param], lr=1.0)
    for expected in (-1, -3, -6):
        param.grad = np.ones(1, np.float32)
        optimizer.step()
        assert param.data == expected
    with pytest.raises(NotImplementedError, match="Optimizer defines no update method"):
        optim.Optimizer([param], lr=1.0).step()


def test_adam_counts_the_steps_of_each_parameter():
    """As PyTorch: the first step of a parameter is lr long, whenever it comes."""
    early, late = (xcnn.Parameter(np.zeros(1, np.float32)) for _ in range(2))
    optimizer = optim.Adam([early, late], lr=0.1)
    for _ in range(5):
        early.grad = np.ones(1, np.float32)
        optimizer.step()
    late.grad = np.full(1, 3, np.float32)
    optimizer.step()
    assert late.data == pytest.approx(-0.1)
    assert early.data == pytest.approx(-0.6)
    assert optimizer.steps == [6, 1]


def test_a_parameter_twice_is_refused():
    param = xcnn.Parameter(np.zeros(1, np.float32))
    with pytest.raises(ArgumentError, match="SGD: params holds a parameter twice"):
        optim.SGD([param, param], lr=0.1)


def test_state_follows_the_dtype():
    module = nn.Linear(2, 2, bias=False)
    optimizer = optim.Adam(module.parameters())
    for dtype in ("float32", "float64"):
        module.to(dtype=dtype)
        module.weight.grad = np.ones((2, 2), dtype)
        optimizer.step()
        assert optimizer.state["mean"][0].dtype == dtype


def test_state_follows_a_model_that_moves(strict):
    """Three steps, the last two on another device, equal three on one."""
    gradients = normal(3, 4, dtype="float32")

    def steps(*devices):
        module = nn.Linear(2, 2, bias=False)
        module.weight.data[...] = 1
        optimizer = optim.Adam(module.parameters(), lr=0.1)
        for gradient, device in zip(gradients, devices, strict=True):
            module.to(device)
            module.weight.zero_grad()
            module.weight.accumulate(module.weight.backend.asarray(gradient.reshape(2, 2)))
            optimizer.step()
        return module.weight.numpy()

    moved, stayed = steps("cpu", strict, "cpu"), steps("cpu", "cpu", "cpu")
    np.testing.assert_allclose(moved, stayed, rtol=1e-6)
