"""Optimisers step by step against the naive oracle and, where installed, PyTorch."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import hints, nn, optim
from xcnn.amp import GradScaler
from xcnn.errors import ArgumentError, DeviceError, GradientError, StateDictError

from . import oracles
from .conftest import assert_matches, normal, through_json
from .strict import count_syncs, forbid_float64

SHAPES = [(3, 4), (5,), (2, 1, 3, 3)]
STEPS = 10
SGD_CASES = [
    {"lr": 0.1},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "momentum": 0.8, "nesterov": True},
    {"lr": 0.1, "weight_decay": 0.2},
    {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"lr": 0.0, "momentum": 0.5},
    {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
    {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
    {"lr": 0.05, "dampening": 0.5},
]
ADAM_CASES = [
    {},
    {"lr": 0.1, "betas": (0.5, 0.9)},
    {"lr": 0.01, "eps": 0.1},
    {"lr": 0.01, "weight_decay": 0.3},
    {"lr": 0.01, "betas": (0.0, 0.0)},
]
RMSPROP_CASES = [
    {},
    {"lr": 0.02, "alpha": 0.7, "eps": 1e-3},
    {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1},
    {"lr": 0.01, "centered": True},
    {"lr": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.2, "eps": 0.1},
]
ADAGRAD_CASES = [
    {},
    {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1},
    {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 0.1},
]
ADAMW_CASES = [*ADAM_CASES, {"lr": 0.5, "weight_decay": 0.0}]
LARS_CASES = [{}, {"lr": 3.0, "weight_decay": 0.1, "nesterov": True, "trust_coefficient": 0.02}]
LION_CASES = [{"lr": 0.01}, {"lr": 0.02, "betas": (0.5, 0.8), "weight_decay": 0.3}]
CASES = [
    *((optim.SGD, case) for case in SGD_CASES),
    *((optim.Adam, case) for case in ADAM_CASES),
    *((optim.AdamW, case) for case in ADAMW_CASES),
    *((optim.RMSprop, case) for case in RMSPROP_CASES),
    *((optim.Adagrad, case) for case in ADAGRAD_CASES),
    *((optim.LARS, case) for case in LARS_CASES),
    *((optim.Lion, case) for case in LION_CASES),
]
#: their oracle is PyTorch
PEER_CASES = [
    (optim.Adam, {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1}),
    (optim.NAdam, {"lr": 0.05, "weight_decay": 0.1, "momentum_decay": 6e-3}),
    (optim.RAdam, {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (optim.Adamax, {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    (optim.Adadelta, {"rho": 0.7, "eps": 1e-3, "weight_decay": 0.1}),
    (optim.Rprop, {"lr": 0.05, "etas": (0.4, 1.4), "step_sizes": (0.01, 0.08)}),
]
#: more settings, of which only the numbers are compared
MORE_PEER_CASES = [
    (optim.AdamW, {"amsgrad": True, "betas": (0.5, 0.6)}),
    (optim.Adam, {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    *((kind, {}) for kind, _ in PEER_CASES),
    (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (optim.RAdam, {"lr": 0.1, "betas": (0.9, 0.6), "eps": 1e-6}),
    (optim.RAdam, {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.3}),
]
KINDS = list(dict.fromkeys(kind for kind, _ in [*CASES, *PEER_CASES]))
PEERS = [kind for kind in KINDS if kind not in (optim.LARS, optim.Lion)]
kinds = pytest.mark.parametrize("kind", KINDS)
RULES = {  # the oracle of each, and the defaults that it does not know
    optim.SGD: (oracles.sgd, {"lr": 1e-3}),
    optim.Adam: (oracles.adam, {"lr": 1e-3}),
    optim.AdamW: (oracles.adam, {"lr": 1e-3, "weight_decay": 0.01, "decoupled": True}),
    optim.RMSprop: (oracles.rmsprop, {"lr": 1e-2}),
    optim.Adagrad: (oracles.adagrad, {"lr": 1e-2}),
    optim.LARS: (oracles.lars, {"lr": 1.0}),
    optim.Lion: (oracles.lion, {}),
}


def each(cases):
    ids = [f"{kind.__name__}-{settings}" for kind, settings in cases]
    return pytest.mark.parametrize(("kind", "settings"), cases, ids=ids)


each_formula = each(CASES)
each_case = each([*CASES, *PEER_CASES])
each_peer = each([case for case in [*CASES, *PEER_CASES] if case[0] in PEERS])


@pytest.fixture
def torch():
    """PyTorch, which counts steps and products in float64 too."""
    module = pytest.importorskip("torch")
    before = module.get_default_dtype()
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(before)


def decay(kind):
    return {} if kind is optim.Rprop else {"weight_decay": 0.1}


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


@each_formula
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_the_formula(backend, kind, settings, dtype):
    params = parameters(backend, dtype)
    arrays = [p.data for p in params]
    optimizer = kind(params, **settings)
    rule, defaults = RULES[kind]
    for step in range(STEPS):
        give(backend, params, step, dtype)
        optimizer.step()
        for i, (param, start) in enumerate(zip(params, starts(dtype), strict=True)):
            history = [gradients(s, dtype)[i].astype(np.float64) for s in range(step + 1)]
            expected = rule(start.astype(np.float64), history, **{**defaults, **settings})
            assert_matches(param.numpy(), expected, dtype, factor=20)
    assert set(optimizer.steps) == {STEPS}
    assert all(p.data is a for p, a in zip(params, arrays, strict=True))  # in place


@each([case for case in [*CASES, *PEER_CASES, *MORE_PEER_CASES] if case[0] in PEERS])
def test_against_pytorch(backend, torch, kind, settings):
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


@kinds
def test_without_gradient_or_frozen_is_untouched(backend, kind):
    without, frozen, trained = params = parameters(backend, "float32")
    before = values(params)
    frozen.requires_grad = False
    for param in (frozen, trained):
        param.grad = backend.xp.ones_like(param.data)
    optimizer = kind(params, lr=0.1, **decay(kind))
    optimizer.step()
    after = values(params)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])
    assert (after[2] != before[2]).all()
    assert {name.split(".")[1] for name in optimizer.state_dict()["arrays"]} <= {"2"}
    assert without.grad is None


def test_a_step_without_any_gradient():
    param = xcnn.Parameter(np.ones(2, np.float32))
    optimizer = optim.Adam([param])
    optimizer.step()
    assert param.data.tolist() == [1, 1]
    assert optimizer.steps == [0]


def test_zero_grad(backend):
    params = parameters(backend)
    give(backend, params, 0)
    before = [p.grad for p in params]
    optimizer = optim.SGD(params)
    optimizer.zero_grad(set_to_none=False)
    for param, grad in zip(params, before, strict=True):
        assert param.grad is grad
        assert not backend.to_host(grad.data).any()
    optimizer.zero_grad()
    assert all(param.grad is None for param in params)


@each_peer
def test_heads_trained_in_turn(backend, torch, kind, settings):
    """The idle head neither decays nor moves with its momentum; its steps are counted apart."""
    weights = [normal(3, 4, seed=i) for i in range(3)]
    x = normal(5, 3, seed=7)
    body, *heads = (xcnn.Parameter(backend.asarray(w.copy())) for w in (x[:3, :3] + 1, *weights))
    peer_body, *peer_heads = (torch.nn.Parameter(torch.tensor(p.numpy())) for p in (body, *heads))
    ours = kind([body, *heads], **settings)
    theirs = getattr(torch.optim, kind.__name__)([peer_body, *peer_heads], **settings)
    inputs, peer_inputs = xcnn.Tensor(backend.asarray(x)), torch.tensor(x)
    for turn in (0, 1, 1, 0, 2, 1):
        ours.zero_grad()
        theirs.zero_grad()
        y = inputs @ body @ heads[turn]
        (y * y).sum().backward()
        optim.clip_grad_norm_(ours.params, 5.0)
        ours.step()
        (peer_inputs @ peer_body @ peer_heads[turn]).square().sum().backward()
        torch.nn.utils.clip_grad_norm_([peer_body, *peer_heads], 5.0)
        theirs.step()
        for param, peer in zip(ours.params, (peer_body, *peer_heads), strict=True):
            assert_matches(param.numpy(), peer.detach().numpy(), factor=100)


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
    for part in ({}, {"steps": [3]}, {"param_groups": [{"params": [0]}]}):
        with pytest.raises(StateDictError, match="not the state of Adam: KeyError"):
            adam.load_state_dict(part)
    with pytest.raises(StateDictError, match="unexpected: mean"):
        optim.SGD(params, momentum=0.9).load_state_dict(good)
    assert adam.steps == [1]
    np.testing.assert_array_equal(adam.state["mean"][0], good["arrays"]["mean.0"])


def test_two_devices_in_one_optimiser(strict):
    params = [xcnn.Parameter(np.ones(1)), xcnn.Parameter(strict.xp.ones(1))]
    for param in params:
        param.grad = param.data
    with pytest.raises(DeviceError, match=r"\['cpu', 'strict'\]: use one optimiser per device"):
        optim.SGD(params).step()


WEIGHT = [xcnn.Parameter(np.ones(1, np.float32))]
MATRIX = [xcnn.Parameter(np.ones((2, 2), np.float32))]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optim.SGD([]), "SGD: params contains no Tensors: pass model.parameters()"),
        (lambda: optim.Adam(nn.Linear(1, 1)), "Adam: params is a Linear: pass model.parameters()"),
        (lambda: optim.SGD([{"params": nn.Linear(1, 1)}]), "SGD: params is a Linear: pass model."),
        (lambda: optim.Adam([np.ones(2)]), "Adam: params contains no Tensors"),
        (lambda: optim.SGD(WEIGHT[0]), "SGD: params contains no Tensors"),
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
        (lambda: optim.AdamW(WEIGHT, weight_decay=-1), "weight_decay=-1: expected"),
        (lambda: optim.SGD(WEIGHT, dampening=-1), "dampening=-1: expected"),
        (
            lambda: optim.SGD(WEIGHT, momentum=0.9, dampening=0.1, nesterov=True),
            "nesterov=True needs momentum > 0 and dampening=0",
        ),
        (lambda: optim.RMSprop(WEIGHT, alpha=1.1), "alpha=1.1: expected a number from 0 to 1"),
        (lambda: optim.RMSprop(WEIGHT, momentum=-1), "momentum=-1: expected"),
        (lambda: optim.Adagrad(WEIGHT, lr_decay=-1), "lr_decay=-1: expected"),
        (lambda: optim.Adagrad(WEIGHT, initial_accumulator_value="a"), "initial_accumulator_v"),
        (lambda: optim.Adam(WEIGHT, amsgrad=2.5), "amsgrad=2.5: expected True or False"),
        (lambda: optim.Adam(WEIGHT, capturable=True), "capturable=True is not supported, steps ar"),
        (lambda: optim.SGD(WEIGHT, differentiable=True), "differentiable=True is not supported"),
        (lambda: optim.SGD(WEIGHT, foreach="yes"), "foreach='yes': expected True or False"),
        (lambda: optim.NAdam(WEIGHT, momentum_decay=-1), "momentum_decay=-1: expected"),
        (lambda: optim.Adadelta(WEIGHT, rho=1.1), "rho=1.1: expected a number from 0 to 1"),
        (lambda: optim.Rprop(WEIGHT, etas=(1.2, 0.5)), r"etas=\(1.2, 0.5\): expected two numbers"),
        (lambda: optim.Rprop(WEIGHT, step_sizes=(1, "x")), "step_sizes=.*: expected two numbers"),
        (lambda: optim.LARS(WEIGHT, trust_coefficient=-1), "trust_coefficient=-1: expected"),
        (lambda: optim.Muon(WEIGHT), r"Muon: a parameter has shape \(1,\): expected matrices only"),
        (lambda: optim.Muon(MATRIX, ns_coefficients=(1, 2)), "ns_coefficients=.*: expected three"),
        (lambda: optim.Muon(MATRIX, adjust_lr_fn="mine"), "adjust_lr_fn='mine': expected one of"),
        (lambda: optim.Muon(MATRIX, ns_steps=-1), "ns_steps=-1: expected an int"),
        (lambda: optim.LBFGS(WEIGHT, max_iter=0), "max_iter=0: expected"),
        (lambda: optim.LBFGS(WEIGHT, line_search_fn="armijo"), "line_search_fn='armijo': expected"),
        (lambda: optim.LBFGS(WEIGHT, tolerance_grad=-1), "tolerance_grad=-1: expected"),
        (
            lambda: optim.LBFGS(WEIGHT).step(),
            r"LBFGS evaluates the loss several times per step: ca",
        ),
        (
            lambda: optim.LBFGS([{"params": WEIGHT}, {"params": MATRIX}]),
            "LBFGS takes one parameter group only",
        ),
        (lambda: optim.SGD(WEIGHT).step(3), "closure is int: expected a function"),
    ],
)
def test_arguments_refused(make, text):
    with pytest.raises(ArgumentError, match=f"^{text}"):
        make()


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'momentum'"):
        optim.Adam(WEIGHT, momentum=0.9)


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
    with pytest.raises(NotImplementedError, match="Optimizer defines no rule method"):
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


@each_case
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_resuming_from_files_gives_the_same_bits(backend, kind, settings, dtype):
    """Also for a learning rate of NumPy's, a parameter of one number and one without steps."""
    shapes = [(), (3, 2), (5,)]

    def make(start):
        params = [xcnn.Parameter(backend.asarray(a)) for a in start]
        groups = [{"params": params[:1], "lr": np.float32(0.1)}, {"params": params[1:]}]
        return params, kind(groups, **settings)

    def steps(params, optimizer, numbers):
        for step in numbers:
            for i in range(2) if step < 6 else range(3):
                gradient = normal(*shapes[i], seed=10 * step + i, dtype=dtype)
                gradient[...] = np.nan if i == 1 and step == 2 else gradient
                params[i].grad = backend.asarray(np.asarray(gradient, dtype))
            optimizer.lr = np.float32(0.1) / (1 + step)
            optimizer.step()

    start = [np.asarray(normal(*shape, seed=i), dtype) for i, shape in enumerate(shapes)]
    params, optimizer = make(start)
    steps(params, optimizer, range(4))
    later, resumed = make([p.numpy().copy() for p in params])
    resumed.load_state_dict(through_json(optimizer.state_dict()))
    for each in ((params, optimizer), (later, resumed)):
        steps(*each, range(4, 8))
    assert [p.numpy().tobytes() for p in later] == [p.numpy().tobytes() for p in params]
    assert str(through_json(resumed.state_dict())) == str(through_json(optimizer.state_dict()))


@each_formula
def test_half_types_are_updated_in_float32(backend, kind, settings):
    """Their squares and eps are below what float16 holds; the state has float32."""
    start, rows = np.float16([1, -2, 3, 4]), np.float16([1e-4, -3e-5, 300, 0])
    param = xcnn.Parameter(backend.asarray(start.copy()))
    optimizer = kind([param], **settings)
    rule, defaults = RULES[kind]
    for _ in range(3):
        before = param.numpy().astype(np.float64)
        param.grad = backend.asarray(rows)
        optimizer.step()
    assert param.dtype == np.float16
    assert all(a.dtype == np.float32 for a in optimizer.state_dict()["arrays"].values())
    history, settings = [np.float64(rows)] * 3, {**defaults, **settings}
    expected = rule(start.astype(np.float64), history, **settings)
    assert np.isfinite(before).all()
    np.testing.assert_allclose(param.numpy(), expected, rtol=4e-3, atol=4e-3)


def test_a_setting_out_of_range_in_a_state():
    optimizer = optim.SGD(WEIGHT, lr=0.5)
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = -1
    with pytest.raises(ArgumentError, match="lr=-1"):
        optimizer.load_state_dict(state)
    assert optimizer.lr == 0.5


def test_a_parameter_twice_is_refused():
    param = xcnn.Parameter(np.zeros(1, np.float32))
    with pytest.raises(ArgumentError, match="SGD: params contains a parameter twice"):
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


def test_a_parameter_of_one_number(backend):
    for kind in KINDS:
        param = xcnn.Parameter(backend.asarray(np.array(1.0, np.float32)))
        param.grad = backend.asarray(np.array(2.0, np.float32))
        kind([param], lr=0.5).step()
        assert param.shape == ()
        assert param.item() < 1


def test_large_parameters_are_changed_in_pieces(monkeypatch):
    """The result does not depend on the size of a piece."""
    cpu = xcnn.backends.get("cpu")

    def result(kind, size):
        monkeypatch.setattr(cpu, "optimizer_piece", size)
        param = xcnn.Parameter(normal(7, 30, dtype="float32"))
        optimizer = kind([param], lr=0.1, **decay(kind))
        for seed in (1, 2):
            param.grad = normal(7, 30, seed=seed, dtype="float32")
            optimizer.step()
        return param.data

    for kind in KINDS:
        np.testing.assert_array_equal(result(kind, 13), result(kind, 1000))


def test_centred_rmsprop_stays_a_number(backend):
    """The same gradient again and again has no variance, but for rounding."""
    param = xcnn.Parameter(backend.asarray(np.zeros(3, np.float32)))
    param.grad = backend.asarray(np.float32([0.1, 3.3, 1e-5]))
    optimizer = optim.RMSprop([param], lr=1e-3, alpha=0.5, eps=1e-3, centered=True)
    for _ in range(60):
        optimizer.step()
    assert np.isfinite(param.numpy()).all()


# -- as PyTorch is called -------------------------------------------------------------------


def test_the_arguments_are_pytorchs(torch):
    """Names, order and defaults, but for those that every optimiser takes by name."""
    flags = {"maximize", "foreach", "fused", "capturable", "differentiable", "flags"}

    def arguments(kind):
        parameters = inspect.signature(kind).parameters.values()
        return [(p.name, p.default) for p in parameters if p.name not in flags]

    names = {name for name in dir(torch.optim) if name[0].isupper()} - {"Optimizer", *hints.OPTIM}
    assert names <= set(optim.__all__)
    for name in names - {"AdamW"}:
        assert arguments(getattr(optim, name)) == arguments(getattr(torch.optim, name)), name
    assert arguments(optim.AdamW)[:-1] == arguments(torch.optim.AdamW)


def test_pytorchs_modes_change_nothing(torch):
    results, peer = [], torch.zeros(1)
    for modes in ({}, {"foreach": True}, {"fused": True, "capturable": False}, {"foreach": None}):
        param = xcnn.Parameter(np.ones(3, np.float32))
        param.grad = np.float32([1, -2, 3])
        lr = xcnn.Tensor(np.float64([0.1])) if modes else 0.1
        optimizer = optim.Adam([{"params": [param], **modes}], lr, **modes)
        optimizer.step()
        assert optimizer.param_groups[0].keys() <= torch.optim.Adam([peer]).param_groups[0].keys()
        results.append(param.data.tolist())
    assert results == [results[0]] * 4


def test_the_loss_of_a_closure_is_returned(backend):
    param = xcnn.Parameter(backend.asarray(np.float32([3, -4])))
    optimizer = optim.SGD([param], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (param * param).sum()
        loss.backward()
        return loss

    with xcnn.no_grad():
        assert optimizer.step(closure).item() == 25
    assert param.numpy().tolist() == [1.5, -2]
    assert optimizer.step() is None


def copied_by_pickle(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("copied", [copy.deepcopy, copied_by_pickle])
def test_a_copied_training_goes_on_alike(copied):
    def train(model, optimizer, scaler):
        optimizer.zero_grad()
        scaler.backward((model(x) * model(x)).sum())
        scaler.step(optimizer)
        return model.weight.numpy().tolist()

    x, model = normal(4, 3, dtype="float32"), nn.Linear(3, 2)
    optimizer = optim.NAdam(model.parameters(), lr=0.1)
    whole = model, optimizer, GradScaler("cpu", init_scale=4.0)
    before = train(*whole)
    twin = copied(whole)
    assert twin[1].params[0] is twin[0].weight
    assert twin[1].group is twin[1].param_groups[0]
    assert before != train(*whole) == train(*twin)


def test_settings_are_attributes():
    optimizer = optim.Adam([{"params": WEIGHT, "lr": 0.5}, {"params": MATRIX}], betas=(0.5, 0.6))
    assert (optimizer.lr, optimizer.betas) == (0.5, (0.5, 0.6))
    optimizer.betas = 0.1, 0.2
    assert [group["betas"] for group in optimizer.param_groups] == [(0.1, 0.2)] * 2
    assert isinstance(inspect.signature(optim.Adam).parameters["betas"].default, tuple)


def test_named_parameters():
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    assert [id(p) for p in optimizer.params] == [id(p) for p in model.parameters()]
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    other = optim.SGD([{"params": model.named_parameters()}], lr=0.5)
    other.load_state_dict(through_json(optimizer.state_dict()))
    assert (other.lr, other.param_groups[0]["param_names"]) == (0.1, ["weight", "bias"])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lr": 0.02, "weight_decay": 0.0, "nesterov": False, "momentum": 0.8},
        {"lr": 0.1, "ns_steps": 3, "ns_coefficients": (3.4, -4.7, 2.0), "eps": 0.1},
        {"adjust_lr_fn": "match_rms_adamw"},
    ],
    ids=str,
)
def test_muon_against_pytorch(backend, torch, monkeypatch, settings):
    """PyTorch's iterations are in bfloat16, unless that is replaced."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    arrays = [normal(*shape, seed=i) for i, shape in enumerate([(5, 3), (2, 7), (1, 1), (0, 3)])]
    params = [xcnn.Parameter(backend.asarray(a)) for a in arrays]
    peers = [torch.nn.Parameter(torch.tensor(a)) for a in arrays[:3]]
    optimizer, peer = optim.Muon(params, **settings), torch.optim.Muon(peers, **settings)
    for step in range(STEPS):
        for i, param in enumerate(params):
            gradient = normal(*param.shape, seed=10 * step + i)
            param.grad = backend.asarray(gradient)
            if i < 3:
                peers[i].grad = torch.tensor(gradient)
        optimizer.step()
        peer.step()
        for param, other in zip(params[:3], peers, strict=True):
            assert_matches(param.numpy(), other.detach().numpy(), factor=100)


def rosenbrock(x, y):
    """Summed over the elements; smallest, 0, where all are 1."""
    return ((x - 1) * (x - 1) + 10 * ((y - x * x) * (y - x * x))).sum()


LBFGS_CASES = [
    {},
    {"lr": 0.1, "max_iter": 7, "history_size": 3},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "lr": 0.3, "max_iter": 5, "max_eval": 9},
    {"line_search_fn": "strong_wolfe", "history_size": 1, "tolerance_change": 1e-3},
]


@pytest.mark.parametrize("settings", LBFGS_CASES, ids=str)
def test_lbfgs_against_pytorch(backend, torch, settings):
    """Rosenbrock's function is hard enough that all branches of the search are used."""
    arrays = [normal(3, seed=1), normal(1, 3, seed=2)]
    params = [xcnn.Parameter(backend.asarray(a)) for a in arrays]
    peers = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    optimizer, peer = optim.LBFGS(params, **settings), torch.optim.LBFGS(peers, **settings)
    for _ in range(4):
        losses = []
        for each_, own in ((optimizer, params), (peer, peers)):

            def closure(each_=each_, own=own):
                each_.zero_grad()
                loss = rosenbrock(*own)
                loss.backward()
                return loss.detach()

            losses.append(float(each_.step(closure)))
        assert losses[0] == pytest.approx(losses[1], rel=1e-7, abs=1e-12)
        for param, other in zip(params, peers, strict=True):
            np.testing.assert_allclose(param.numpy(), other.detach().numpy(), rtol=1e-7)
    assert optimizer.steps == [peer.state[peers[0]]["n_iter"]] * 2


def test_lbfgs_fits_a_network_in_float32_and_goes_on_from_its_state(backend):
    x = backend.asarray(normal(20, 3, dtype="float32"))

    def make():
        xcnn.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(backend)
        model[0].bias.requires_grad = False
        return model, optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=4)

    def steps(model, optimizer, count):
        def closure():
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), x[:, :1] * x[:, 1:2])
            loss.backward()
            return loss

        return [optimizer.step(closure).item() for _ in range(count)]

    (model, whole), (twin, resumed) = make(), make()
    bias = model[0].bias.numpy().copy()
    losses = steps(model, whole, 4)
    twin.load_state_dict(model.state_dict())
    resumed.load_state_dict(through_json(whole.state_dict()))
    losses += steps(model, whole, 4)
    assert steps(twin, resumed, 4) == losses[4:]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(model[0].bias.numpy(), bias)
    before = resumed.state_dict()
    for wrong in ({"arrays": {"move": np.ones(3)}}, {"length": "x"}, {"steps": [1]}):
        with pytest.raises(StateDictError, match="LBFGS"):
            resumed.load_state_dict({**before, **wrong})
    assert str(through_json(resumed.state_dict())) == str(through_json(before))


# -- groups of parameters ------------------------------------------------------------------

GROUPS = {
    optim.SGD: [{"lr": 0.3, "momentum": 0.9}, {}, {"weight_decay": 0.1, "maximize": True}],
    optim.Adam: [{"lr": 0.3}, {"betas": (0.5, 0.6)}, {"weight_decay": 0.1, "maximize": True}],
    optim.AdamW: [{"weight_decay": 0.5}, {"betas": (0.5, 0.6), "eps": 0.1}, {"maximize": True}],
    optim.RMSprop: [{"centered": True}, {"momentum": 0.9, "alpha": 0.5}, {"maximize": True}],
    optim.Adagrad: [{"lr_decay": 0.1}, {"weight_decay": 0.3, "eps": 0.1}, {"maximize": True}],
    optim.LARS: [{"trust_coefficient": 0.0}, {"momentum": 0.5}, {"maximize": True}],
    optim.Lion: [{"lr": 0.3}, {"betas": (0.5, 0.6)}, {"maximize": True}],
    optim.NAdam: [{"momentum_decay": 0.1}, {"betas": (0.5, 0.6)}, {"maximize": True}],
    optim.RAdam: [{"betas": (0.5, 0.6)}, {"weight_decay": 0.1}, {"maximize": True}],
    optim.Adamax: [{"betas": (0.5, 0.6)}, {"weight_decay": 0.1}, {"maximize": True}],
    optim.Adadelta: [{"rho": 0.5}, {"weight_decay": 0.1}, {"maximize": True}],
    optim.Rprop: [{"lr": 0.3}, {"etas": (0.3, 2.0)}, {"maximize": True}],
}


def grouped(kind, params):
    settings = zip(GROUPS[kind], params, strict=True)
    return [{"params": [param], **more} for more, param in settings]


@pytest.mark.parametrize("kind", PEERS)
def test_groups_against_pytorch(backend, torch, kind):
    params = parameters(backend)
    peers = [torch.nn.Parameter(torch.from_numpy(a)) for a in starts()]
    optimizer = kind(grouped(kind, params), lr=0.02)
    peer = getattr(torch.optim, kind.__name__)(grouped(kind, peers), lr=0.02)
    for step in range(STEPS):
        if step == 5:
            optimizer.param_groups[1]["lr"] = peer.param_groups[1]["lr"] = 0.007
        give(backend, params, step)
        optimizer.step()
        for other, gradient in zip(peers, gradients(step), strict=True):
            other.grad = torch.from_numpy(gradient)
        peer.step()
        for param, other in zip(params, peers, strict=True):
            assert_matches(param.numpy(), other.detach().numpy(), factor=10)
    for group, other in zip(optimizer.param_groups, peer.param_groups, strict=True):
        assert {k: v for k, v in group.items() if k != "params"}.items() <= other.items()


def test_each_group_has_its_own_first_sum():
    """PyTorch takes that of the constructor for all."""
    one, two = (xcnn.Parameter(np.zeros(1)) for _ in range(2))
    groups = [{"params": one}, {"params": two, "initial_accumulator_value": 5.0}]
    one.grad, two.grad = np.full(1, 2.0), np.full(1, 2.0)
    optim.Adagrad(groups, lr=0.6, initial_accumulator_value=12.0).step()
    assert (one.data, two.data) == (pytest.approx(-0.6 * 2 / 4), pytest.approx(-0.6 * 2 / 3))


def test_groups_and_the_learning_rate():
    first, second, third = params = parameters(xcnn.backends.get("cpu"))
    optimizer = optim.SGD(
        [{"params": first}, {"params": iter([second]), "lr": 0.5}], lr=0.1, momentum=0.9
    )
    assert optimizer.params == params[:2]
    assert optimizer.lr == 0.1
    optimizer.add_param_group({"params": [third], "lr": 0.7})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.7]
    assert [g["momentum"] for g in optimizer.param_groups] == [0.9, 0.9, 0.9]
    optimizer.lr = 0.2
    assert [g["lr"] for g in optimizer.param_groups] == [0.2, 0.2, 0.2]


def test_a_group_may_come_later(backend):
    """It starts from the first step, as PyTorch's."""
    torch = pytest.importorskip("torch")
    params = parameters(backend)
    peers = [torch.nn.Parameter(torch.from_numpy(a)) for a in starts()]
    optimizer, peer = optim.Adam(params[:1], lr=0.1), torch.optim.Adam(peers[:1], lr=0.1)
    for step in range(6):
        if step == 3:
            optimizer.add_param_group({"params": params[1:], "lr": 0.01})
            peer.add_param_group({"params": peers[1:], "lr": 0.01})
        give(backend, params, step)
        optimizer.step()
        for other, gradient in zip(peers, gradients(step), strict=True):
            other.grad = torch.from_numpy(gradient)
        peer.step()
    assert optimizer.steps == [6, 3, 3]
    for param, other in zip(params, peers, strict=True):
        assert_matches(param.numpy(), other.detach().numpy(), factor=10)


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([{"params": []}], "SGD: params contains no Tensors"),
        ([{"params": WEIGHT}, {"params": WEIGHT}], "SGD: params contains a parameter twice"),
        ([{"params": WEIGHT, "lr": -1}], "lr=-1: expected a number >= 0"),
        (
            [{"params": WEIGHT, "momentun": 0.9}],
            "SGD: unknown setting 'momentun' in a parameter group",
        ),
        ([{"lr": 0.1}], r"SGD: a parameter group must be a dict .*, got \['lr'\]"),
        ([{"params": WEIGHT}, WEIGHT[0]], "SGD: params contains no Tensors"),
        ([{"params": WEIGHT, "nesterov": True}], "nesterov=True needs momentum"),
    ],
)
def test_groups_refused(groups, text):
    with pytest.raises(ArgumentError, match=f"^{text}"):
        optim.SGD(groups)


def test_an_optimiser_of_ones_own_with_groups():
    class Plain(optim.Optimizer):
        power: int = 1

        def update(self, backend, params, grads, state, step, scaler):
            for p, g in zip(params, grads, strict=True):
                p -= self.lr * g**self.power

    one, two = (xcnn.Parameter(np.zeros(1, np.float32)) for _ in range(2))
    optimizer = Plain([{"params": one}, {"params": two, "lr": 0.5, "power": 3}], lr=1.0)
    one.grad, two.grad = np.full(1, 2, np.float32), np.full(1, 2, np.float32)
    optimizer.step()
    assert (one.data, two.data) == (-2, -4)
    assert optimizer.lr == 1.0  # of the first group again


@kinds
def test_a_saved_state_has_the_groups(backend, kind):
    def run(params, optimizer, steps):
        for step in steps:
            give(backend, params, step, "float32")
            optimizer.step()

    params = parameters(backend, "float32")
    optimizer = kind(grouped(kind, params), lr=0.01)
    run(params, optimizer, range(3))
    optimizer.param_groups[2]["lr"] = 0.2
    state, middle = optimizer.state_dict(), values(params)
    assert [group["params"] for group in state["param_groups"]] == [[0], [1], [2]]
    run(params, optimizer, range(3, 6))

    twins = [xcnn.Parameter(backend.asarray(a)) for a in middle]
    other = kind([{"params": twin} for twin in twins])  # the settings come from the state
    other.load_state_dict(state)
    run(twins, other, range(3, 6))
    for one, two in zip(values(params), values(twins), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(
        StateDictError, match=r"param_groups: \[1, 1, 1\] parameters, expected \[3\]"
    ):
        kind(params).load_state_dict(state)


def test_a_state_without_a_setting():
    params = [xcnn.Parameter(np.ones(2, np.float32))]
    state = optim.Adagrad(params).state_dict()
    with pytest.raises(StateDictError, match="does not fit SGD:\n  missing: dampening of a group"):
        optim.SGD(params).load_state_dict(state)


# -- loss scaling --------------------------------------------------------------------------

SCALED = [
    (optim.SGD, {"momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    (optim.AdamW, {"weight_decay": 0.3}),
    (optim.RMSprop, {"centered": True, "momentum": 0.9}),
    (optim.Adagrad, {"lr_decay": 0.5, "initial_accumulator_value": 0.1}),
    *((kind, decay(kind)) for kind, _ in PEER_CASES[1:]),
    (optim.Adam, {"amsgrad": True}),
    (optim.LARS, {"weight_decay": 0.1, "momentum": 0.9}),
    (optim.Lion, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "settings"), SCALED, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("bad", [{0}, {1, 2, 4}], ids=str)
def test_a_scaled_training_is_the_plain_one_without_its_overflows(backend, kind, settings, bad):
    plain, scaled = ([xcnn.Parameter(backend.asarray(normal(4, 3, dtype="float32")))] for _ in "ab")
    one, two = kind(plain, lr=0.1, **settings), kind(scaled, lr=0.1, **settings)
    scaler = GradScaler(backend, init_scale=8.0, growth_interval=2)
    with np.errstate(invalid="ignore"):
        for step in range(7):
            gradient = normal(4, 3, seed=step + 1, dtype="float32")
            if step in bad:
                before = scaled[0].numpy().copy()
                scaled[0].grad = backend.asarray(np.where(gradient > 0, np.inf, gradient))
                scaler.step(two)
                np.testing.assert_array_equal(scaled[0].numpy(), before)
                continue
            scaled[0].grad = backend.asarray(gradient * np.float32(scaler.scale))
            scaler.step(two)
            plain[0].grad = backend.asarray(gradient)
            one.step()
    assert scaler.skipped == len(bad)
    np.testing.assert_allclose(scaled[0].numpy(), plain[0].numpy(), rtol=2e-6, atol=1e-6)


def test_gradients_are_unscaled_once(backend):
    scaler = GradScaler(backend, init_scale=4.0)
    param = xcnn.Parameter(backend.asarray(np.ones(2, np.float32)))
    optimizer = optim.SGD([param], lr=1.0)
    for _ in range(2):
        param.grad = backend.asarray(np.full(2, 4, np.float32))
        scaler.unscale_(optimizer)
        assert param.grad.data[0] == 1
        with pytest.raises(GradientError, match="the gradients are already unscaled"):
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
    assert param.numpy().tolist() == [-1, -1]
    scaler.unscale_(optimizer)  # and the step fails
    param.zero_grad()
    scaler.backward((param * backend.asarray(np.ones(2, np.float32))).sum())
    scaler.step(optimizer)
    assert param.numpy().tolist() == [-2, -2]


# -- clipping ------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.0, 0.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.7, 3, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clip_grad_norm_equals_pytorch(backend, max_norm, norm_type, dtype):
    torch = pytest.importorskip("torch")
    params = parameters(backend, dtype)
    give(backend, params, 0, dtype)
    arrays = [p.grad.data for p in params]
    without = xcnn.Parameter(backend.asarray(np.ones(2, dtype)))
    peers = [torch.nn.Parameter(torch.from_numpy(a)) for a in starts(dtype)]
    for peer, gradient in zip(peers, gradients(0, dtype), strict=True):
        peer.grad = torch.from_numpy(gradient)
    norm = optim.clip_grad_norm_(iter([*params, without]), max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(peers, max_norm, norm_type)
    assert isinstance(norm, xcnn.Tensor)
    assert (norm.shape, norm.dtype, norm.backend) == ((), np.dtype(dtype), backend)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    for param, peer, array in zip(params, peers, arrays, strict=True):
        assert param.grad.data is array  # in place
        assert_matches(param.grad.data, peer.grad.numpy(), dtype)
    assert without.grad is None


def test_clip_grad_norm_by_hand(backend):
    param = xcnn.Parameter(backend.asarray(np.zeros(2, np.float32)))
    assert optim.clip_grad_norm_(param, 1.0).item() == 0  # no gradient yet
    param.grad = backend.asarray(np.float32([3, -4]))
    assert optim.clip_grad_norm_(param, 1.0).item() == 5
    np.testing.assert_allclose(backend.to_host(param.grad.data), [0.6, -0.8], rtol=1e-6)
    assert optim.clip_grad_norm_([param], 2.0).item() == pytest.approx(1)
    np.testing.assert_allclose(backend.to_host(param.grad.data), [0.6, -0.8], rtol=1e-6)


def test_clipping_takes_any_memory_order_and_no_elements(backend):
    wide = backend.asarray(normal(4, 6, dtype="float32"))
    params = [xcnn.Parameter(backend.asarray(np.ones(s, np.float32))) for s in ((3, 4), (0, 2))]
    params[0].grad, params[1].grad = wide[:, ::2].T, backend.xp.zeros((0, 2), "float32")
    used = backend.to_host(wide)[:, ::2].T.copy()
    norm = optim.clip_grad_norm_(params, 0.5)
    assert norm.item() == pytest.approx(np.linalg.norm(used), rel=1e-6)
    np.testing.assert_allclose(
        backend.to_host(params[0].grad.data), used * 0.5 / np.linalg.norm(used), rtol=1e-5
    )
    params[0].grad.data = params[0].grad.data[:0]
    assert optim.clip_grad_norm_(params, 0.5, math.inf).item() == 0


def test_clip_grad_value(backend):
    param, without = (xcnn.Parameter(backend.asarray(np.zeros(4, np.float32))) for _ in range(2))
    gradient = param.grad = backend.asarray(np.float32([-3, -0.5, 0.25, 7]))
    assert optim.clip_grad_value_([param, without], 0.5) is None
    assert param.grad.data is gradient
    assert backend.to_host(gradient).tolist() == [-0.5, -0.5, 0.25, 0.5]
    optim.clip_grad_value_(param, 0)
    assert not backend.to_host(gradient).any()


def test_clipping_does_not_wait(strict):
    params = parameters(strict, "float32")
    give(strict, params, 0, "float32")
    with count_syncs() as syncs, forbid_float64():
        for norm_type in (2.0, 1.5, math.inf):
            optim.clip_grad_norm_(params, 0.1, norm_type)
        optim.clip_grad_value_(params, 0.01)
    assert syncs == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_limit_beyond_the_range_of_the_type(backend, dtype):
    param = xcnn.Parameter(backend.asarray(np.ones(2, dtype)))
    param.grad = backend.asarray(np.full(2, 3, dtype))
    optim.clip_grad_value_([param], 1e300)
    optim.clip_grad_norm_([param], 1e300)
    assert backend.to_host(param.grad.data).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: optim.clip_grad_norm_(nn.ReLU(), 1.0), "clip_grad_norm_: parameters is a ReLU: p"),
        (lambda: optim.clip_grad_norm_([], 1.0), "clip_grad_norm_: parameters contains no Tensors"),
        (lambda: optim.clip_grad_norm_(WEIGHT, -1), "max_norm=-1: expected a number >= 0"),
        (lambda: optim.clip_grad_norm_(WEIGHT, 1.0, 0), "norm_type=0: expected a number > 0"),
        (lambda: optim.clip_grad_norm_(WEIGHT, 1.0, "inf"), "norm_type='inf': expected"),
        (lambda: optim.clip_grad_value_([], 1.0), "clip_grad_value_: parameters contains no"),
        (lambda: optim.clip_grad_value_(WEIGHT, None), "clip_value=None: expected a number >= 0"),
    ],
)
def test_clipping_refused(call, text):
    with pytest.raises(ArgumentError, match=text):
        call()


def test_clipping_on_two_devices(strict):
    params = [xcnn.Parameter(np.ones(1)), xcnn.Parameter(strict.xp.ones(1))]
    with pytest.raises(DeviceError, match=r"\['cpu', 'strict'\]"):
        optim.clip_grad_norm_(params, 1.0)


@kinds
def test_a_clipped_step_does_not_wait_and_stays_in_float32(strict, kind):
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)
    model = nn.Sequential(*layers).to(strict)
    optimizer = kind(model.parameters(), **decay(kind))
    x, y = strict.asarray(normal(3, 1, 5, 5, dtype="float32")), strict.asarray(np.arange(3))
    average = optim.EMA(model)
    with count_syncs() as syncs, forbid_float64():
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update()
    assert syncs == []


# -- averages ------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(3, 2)
        self.seen = nn.Buffer(np.zeros(1, np.float32))
        self.count = nn.Buffer(np.zeros((), np.int64))

    def forward(self, x):
        return self.layer(x)


def train(net, step):
    """As if an optimiser had changed it."""
    for i, param in enumerate(net.parameters()):
        param.data[...] = param.backend.asarray(normal(*param.shape, seed=10 * step + i))
    net.seen.data[...] = step
    net.count.data[...] = step


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_averages_equal_pytorchs(backend, decay):
    torch = pytest.importorskip("torch")
    swa = torch.optim.swa_utils
    net, peer = Net().to(backend), torch.nn.Linear(3, 2)
    average = optim.EMA(net, decay)
    averaged = swa.AveragedModel(peer, multi_avg_fn=swa.get_ema_multi_avg_fn(decay))
    for step in range(1, 11):
        train(net, step)
        peer.load_state_dict({k: torch.from_numpy(p.numpy().copy()) for k, p in layer(net)})
        average.update()
        averaged.update_parameters(peer)
    assert average.updates == int(averaged.n_averaged) == 10
    with average.applied() as model:
        assert model is net
        for (_, ours), theirs in zip(layer(net), averaged.module.parameters(), strict=True):
            assert_matches(ours.numpy(), theirs.detach().numpy(), "float32")
        assert net.seen.numpy().tolist() == [10]  # buffers are the last ones
        assert net.count.numpy() == 10


def test_mean_of_weights_against_pytorch(backend):
    torch = pytest.importorskip("torch")
    net, peer = Net().to(backend), torch.nn.Linear(3, 2)
    average, averaged = optim.SWA(net), torch.optim.swa_utils.AveragedModel(peer)
    for step in range(1, 6):
        train(net, step)
        peer.load_state_dict({k: torch.from_numpy(p.numpy().copy()) for k, p in layer(net)})
        average.update()
        averaged.update_parameters(peer)
    with average.applied():
        for (_, ours), theirs in zip(layer(net), averaged.module.parameters(), strict=True):
            assert_matches(ours.numpy(), theirs.detach().numpy(), "float32")


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_statistics_of_averages(backend, momentum):
    torch = pytest.importorskip("torch")

    def layers(lib):
        yield from (lib.Linear(4, 3), lib.BatchNorm1d(3, momentum=momentum))
        yield from (lib.Unflatten(1, (1, 3, 1, 1)), lib.BatchNorm3d(1, momentum=momentum))

    here = nn.Sequential(*layers(nn)).to(backend)
    peer = torch.nn.Sequential(*layers(torch.nn))
    peer.load_state_dict({k: torch.tensor(p.numpy()) for k, p in here._state()})
    here(backend.asarray(normal(5, 4, dtype="float32")))  # what is not to count
    batches = [normal(6, 4, seed=i, dtype="float32") + i for i in range(3)]
    here.eval()
    optim.update_batch_norm(here, ((x, None) for x in batches))
    torch.optim.swa_utils.update_bn(map(torch.tensor, batches), peer)
    assert not any(m.training for m in here.modules())
    assert [here[1].momentum, here[3].momentum] == [momentum] * 2
    for name, tensor in here._state():
        np.testing.assert_allclose(tensor.numpy(), peer.state_dict()[name], rtol=2e-6, atol=2e-6)


def test_averages_of_half_types_are_float32(backend):
    """Changes below the precision of float16 count."""
    net = nn.Linear(1, 1).to(backend, dtype="float16")
    average = optim.EMA(net, 0.999)
    net.weight.data[...] = 1
    average.update()
    net.weight.data[...] = 2
    for _ in range(100):
        average.update()
    average.load_state_dict(through_json(average.state_dict()))
    average.copy_to()
    assert net.weight.item() == pytest.approx(2 - 0.999**100, rel=1e-3)


def layer(net):
    return list(net.layer.named_parameters())


def test_an_average_by_hand(backend):
    net = Net().to(backend)
    average = optim.EMA(net, 0.75)
    for value in (4, 8, 0):  # 4; 0.75 · 4 + 0.25 · 8 = 5; 0.75 · 5 + 0 = 3.75
        net.layer.weight.data[...] = value
        average.update()
    bias = net.layer.bias.data
    with average.applied():
        assert (net.layer.weight.numpy() == 3.75).all()
        assert net.layer.bias.data is bias  # in place
    assert (net.layer.weight.numpy() == 0).all()
    other = Net().to(backend)
    average.copy_to(other)
    assert (other.layer.weight.numpy() == 3.75).all()
    assert (net.layer.weight.numpy() == 0).all()
    average.copy_to()
    assert (net.layer.weight.numpy() == 3.75).all()


def test_the_weights_come_back_after_an_error(backend):
    net = Net().to(backend)
    average = optim.EMA(net)
    before = net.layer.weight.numpy().copy()
    train(net, 1)
    with average.applied():
        np.testing.assert_array_equal(net.layer.weight.numpy(), before)
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    np.testing.assert_array_equal(
        net.layer.weight.numpy(), np.float32(normal(*net.layer.weight.shape, seed=10))
    )


def test_an_average_goes_on_from_its_state(backend):
    net, twin = Net().to(backend), Net().to(backend)
    average, other = optim.EMA(net, 0.5), optim.EMA(twin, 0.5)
    train(net, 1)
    average.update()
    state = average.state_dict()
    other.load_state_dict(state)
    for step in (2, 3):
        for each, one in ((net, average), (twin, other)):
            train(each, step)
            one.update()
    assert other.updates == 3
    for name, array in average.state_dict()["arrays"].items():
        np.testing.assert_array_equal(
            backend.to_host(array), backend.to_host(other.state_dict()["arrays"][name])
        )
    assert state["updates"] == 1  # not changed by what came after
    with pytest.raises(StateDictError, match="not the state of EMA"):
        average.load_state_dict({"arrays": {}})
    with pytest.raises(StateDictError, match=r"another model: bias, count, .*, weight missing"):
        optim.EMA(nn.Linear(3, 2)).load_state_dict(state)


def test_an_average_follows_a_model_that_moves(strict):
    net = nn.Linear(2, 2)
    average = optim.EMA(net, 0.5)
    average.update()
    start = net.weight.data.copy()
    net.to(strict)
    net.weight.data[...] = 1
    average.update()
    with average.applied():
        np.testing.assert_allclose(net.weight.numpy(), (start + 1) / 2, rtol=1e-6, atol=1e-6)


def test_shared_weights_are_averaged_once(backend):
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared).to(backend)
    average = optim.EMA(net, 0.5)
    for value in (2, 4):
        shared.weight.data[...] = value
        average.update()
    with average.applied():
        assert (shared.weight.numpy() == 3).all()


@pytest.mark.parametrize("decay", [-0.1, 1.1, None, "0.9", math.nan])
def test_decays_refused(decay):
    with pytest.raises(ArgumentError, match=r"decay=.*: expected a number from 0 to 1"):
        optim.EMA(nn.Linear(1, 1), decay)


def test_averages_are_of_modules():
    with pytest.raises(ArgumentError, match="model is list: expected a Module"):
        optim.EMA([xcnn.Parameter(np.ones(1))])
