"""Learning-rate schedules, step by step, against PyTorch and, where short, their formulas."""

import inspect
import json
import math

import numpy as np
import pytest

import xcnn
from xcnn import nn, optim, schedules
from xcnn.errors import ArgumentError, StateDictError
from xcnn.schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

STEPS = 60
RATES = [0.1, 0.5]  # of two groups


def parameter():
    return xcnn.Parameter(np.zeros(2, np.float32))


def optimizer(lr=0.1, kind=optim.SGD, **settings):
    return kind([parameter()], lr=lr, **settings)


def two_groups(kind=optim.SGD, **settings):
    return kind([{"params": parameter(), "lr": lr} for lr in RATES], **settings)


def their_groups(kind="SGD", **settings):
    torch = pytest.importorskip("torch")
    groups = [{"params": torch.zeros(2, requires_grad=True), "lr": lr} for lr in RATES]
    return getattr(torch.optim, kind)(groups, **settings)


def theirs():
    return pytest.importorskip("torch").optim.lr_scheduler


def rates(schedule, steps):
    """The rates of the first group, from before the first step on."""
    lrs = [schedule.optimizer.lr]
    for _ in range(steps):
        schedule.step()
        lrs.append(schedule.optimizer.lr)
    return lrs


# -- against PyTorch -----------------------------------------------------------------------

# called with (module of schedules, optimiser)
SCHEDULES = {
    "step": lambda s, o: s.StepLR(o, 3, gamma=0.7),
    "step-default": lambda s, o: s.StepLR(o, 13),
    "multi-step": lambda s, o: s.MultiStepLR(o, [20, 2, 7, 7], gamma=0.5),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "constant": lambda s, o: s.ConstantLR(o),
    "constant-7": lambda s, o: s.ConstantLR(o, factor=0.2, total_iters=7),
    "linear": lambda s, o: s.LinearLR(o),
    "linear-down": lambda s, o: s.LinearLR(o, 1.0, 0.1, total_iters=11),
    "linear-to-zero": lambda s, o: s.LinearLR(o, 0.5, 0.0, total_iters=4),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 30),
    "cosine-and-back": lambda s, o: s.CosineAnnealingLR(o, 7, eta_min=0.01),
    "cosine-1": lambda s, o: s.CosineAnnealingLR(o, 1, eta_min=0.02),
    "cosine-to-more": lambda s, o: s.CosineAnnealingLR(o, 9, eta_min=0.3),
    "lambda": lambda s, o: s.LambdaLR(o, lambda t: 1 / (1 + t)),
    "lambda-each": lambda s, o: s.LambdaLR(o, [lambda t: 0.9**t, lambda t: t // 5]),
    "warm-up": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 20)], [5]
    ),
    "three": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 9), s.ExponentialLR(o, 0.8), s.StepLR(o, 3)], [4, 15]
    ),
    "at-once": lambda s, o: s.SequentialLR(o, [s.StepLR(o, 2), s.ExponentialLR(o, 0.8)], [0]),
    "one-cycle": lambda s, o: s.OneCycleLR(o, 0.8, total_steps=STEPS),
    "one-cycle-linear": lambda s, o: s.OneCycleLR(
        o, [0.3, 1.0], epochs=6, steps_per_epoch=10, pct_start=0.55, anneal_strategy="linear"
    ),
    "one-cycle-three": lambda s, o: s.OneCycleLR(
        o, 0.8, STEPS, three_phase=True, div_factor=10.0, final_div_factor=3.0
    ),
    "one-cycle-momentum": lambda s, o: s.OneCycleLR(
        o, 0.8, 70, base_momentum=[0.5, 0.6], max_momentum=0.7, pct_start=0.21
    ),
    "one-cycle-plain": lambda s, o: s.OneCycleLR(o, 0.8, 61, cycle_momentum=False),
    "polynomial": lambda s, o: s.PolynomialLR(o),
    "polynomial-2": lambda s, o: s.PolynomialLR(o, 50, power=2.0),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, [lambda t: 0.9, lambda t: 0.8 + t / 99]),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    "restarts-longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2, eta_min=0.01),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.1, 1.0, 4, cycle_momentum=False),
    "cyclic-halved": lambda s, o: s.CyclicLR(o, [0.1, 0.2], [1.0, 0.7], 4, 9, mode="triangular2"),
    "cyclic-falling": lambda s, o: s.CyclicLR(
        o, 0.1, 1.0, 6, mode="exp_range", gamma=0.9, base_momentum=0.7, max_momentum=[0.8, 0.85]
    ),
    "cyclic-steps": lambda s, o: s.CyclicLR(
        o, 0.1, 1.0, 6, scale_fn=lambda t: 5 ** (-t / 100), scale_mode="iterations"
    ),
    "cyclic-sine": lambda s, o: s.CyclicLR(
        o, 0.1, 1.0, 6, 3, scale_fn=lambda c: (1 + math.sin(c * math.pi / 2)) / 2
    ),
    "chain-1": lambda s, o: s.ChainedScheduler([s.StepLR(o, 3)]),
    "chain-4": lambda s, o: s.ChainedScheduler(
        [
            *(s.StepLR(o, 3), s.LinearLR(o, 0.4, total_iters=3)),
            *(s.MultiStepLR(o, [4, 8, 10]), s.ExponentialLR(o, 0.9)),
        ]
    ),
    "chain-to-zero": lambda s, o: s.ChainedScheduler(
        [s.PolynomialLR(o, 10, 0.9), s.ConstantLR(o, 0.1, 7)], o
    ),
    "chain-cosine": lambda s, o: s.ChainedScheduler(
        [s.ExponentialLR(o, 0.95), s.CosineAnnealingLR(o, 10, 0.001)]
    ),
    "chain-lambda": lambda s, o: s.ChainedScheduler(
        [
            *(s.LambdaLR(o, lambda t: 0.9**t), s.ExponentialLR(o, 0.95)),
            s.MultiplicativeLR(o, lambda t: 0.97),
        ]
    ),
    "chain-overruled": lambda s, o: s.ChainedScheduler(
        [s.ExponentialLR(o, 0.95), s.LambdaLR(o, lambda t: 0.9**t)]
    ),
    "chain-cycles": lambda s, o: s.ChainedScheduler(
        [s.CyclicLR(o, 0.1, 1.0, 5), s.OneCycleLR(o, 0.7, 80)]
    ),
    "chain-of-sequence": lambda s, o: s.ChainedScheduler(
        [
            s.SequentialLR(o, [s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9)], [6]),
            s.StepLR(o, 5, 0.5),
        ]
    ),
    "chain-of-chain": lambda s, o: s.ChainedScheduler(
        [
            s.ChainedScheduler([s.StepLR(o, 5, 0.5), s.ConstantLR(o, 0.5, 7)]),
            s.ExponentialLR(o, 0.9),
        ]
    ),
    "sequence-restarts": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingWarmRestarts(o, 6, 2)], [5]
    ),
    "sequence-polynomial": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 9), s.PolynomialLR(o, 20)], [5]
    ),
    "sequence-cycles": lambda s, o: s.SequentialLR(
        o, [s.CyclicLR(o, 0.1, 1.0, 3), s.OneCycleLR(o, 0.7, 80)], [20]
    ),
}


def compare(own, peer, ours, others, steps=STEPS):
    """Rates and momenta of all groups, from before the first step on."""
    others.step()
    for step in range(steps + 1):
        if step:
            own.step()
            peer.step()
        assert own.get_last_lr() == [group["lr"] for group in ours.param_groups]
        for group, other in zip(ours.param_groups, others.param_groups, strict=True):
            assert group["lr"] == pytest.approx(other["lr"], rel=1e-9, abs=1e-14), step
            for name in group.keys() & {"momentum", "betas"}:
                assert group[name] == pytest.approx(other[name], rel=1e-12), step


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_step_equals_pytorchs(name):
    make, ours, others = SCHEDULES[name], two_groups(), their_groups()
    compare(make(schedules, ours), make(theirs(), others), ours, others)


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "RMSprop"])
@pytest.mark.parametrize(
    "make", [lambda s, o: s.OneCycleLR(o, 0.8, 30), lambda s, o: s.CyclicLR(o, 0.1, 0.8, 7)]
)
def test_cycles_of_each_momentum(make, kind):
    ours, others = two_groups(getattr(optim, kind)), their_groups(kind)
    compare(make(schedules, ours), make(theirs(), others), ours, others, steps=30)


def test_the_arguments_are_pytorchs():
    """Names, order and defaults."""
    module = theirs()

    def arguments(kind):
        return [(p.name, p.default) for p in inspect.signature(kind).parameters.values()]

    for name in set(module.__all__) - {"LRScheduler"}:
        ours = arguments(getattr(schedules, name))
        assert ours == arguments(getattr(module, name)), name


def test_steps_within_epochs():
    """step(epoch) of warm restarts, as in PyTorch; then it goes on by whole epochs."""
    ours, others = two_groups(), their_groups()
    own, peer = (s.CosineAnnealingWarmRestarts(o, 5, 2, 0.01) for s, o in pairs(ours, others))
    others.step()
    for epoch in [0.25, 0.5, 1.5, None, None, 4.75, 5, 5.25, 12.0, 15, 14.5, 26, None, 35, None]:
        own.step(epoch)
        peer.step(epoch)
        assert own.get_last_lr() == pytest.approx(peer.get_last_lr(), rel=1e-12)
        assert own.last_epoch == peer.last_epoch
    with pytest.raises(ArgumentError, match="epoch=-1: expected a number >= 0"):
        own.step(-1)
    assert own.last_epoch == peer.last_epoch


def pairs(ours, others):
    return (schedules, ours), (theirs(), others)


@pytest.mark.parametrize("done", [1, 9, 23])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("StepLR", (3,)), ("MultiStepLR", ([2, 7, 9],)), ("ExponentialLR", (0.9,))),
        *(("ConstantLR", (0.2, 7)), ("LinearLR", (0.3, 1.0, 8)), ("PolynomialLR", (30, 2.0))),
        *(("CosineAnnealingLR", (9, 0.01)), ("CosineAnnealingWarmRestarts", (5, 2))),
        *(("CyclicLR", (0.1, 1.0, 4)), ("OneCycleLR", (0.8, 60))),
        *((name, (lambda t: 1 / (1 + t),)) for name in ("LambdaLR", "MultiplicativeLR")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_resuming_with_last_epoch(name, arguments, done):
    """The rates are those of a PyTorch schedule that was not interrupted."""
    others = their_groups()
    peer, ours = getattr(theirs(), name)(others, *arguments), two_groups()
    others.step()
    for group, other in zip(ours.param_groups, others.param_groups, strict=True):
        group["initial_lr"] = other["initial_lr"]
    for _ in range(done):
        peer.step()
    own = getattr(schedules, name)(ours, *arguments, last_epoch=done - 1)
    for _ in range(20):
        assert own.get_last_lr() == pytest.approx(peer.get_last_lr(), rel=1e-9)
        assert own.last_epoch == peer.last_epoch
        own.step()
        peer.step()


PLATEAUS = {
    "default": {},
    "patience": {"patience": 2, "factor": 0.5},
    "none": {"patience": 0, "cooldown": 3},
    "max": {"mode": "max", "patience": 1, "factor": 0.3},
    "abs": {"patience": 1, "threshold": 0.3, "threshold_mode": "abs"},
    "max-abs": {"mode": "max", "patience": 1, "threshold": 0.3, "threshold_mode": "abs"},
    "rel": {"patience": 1, "threshold": 0.2, "factor": 0.7},
    "least": {"patience": 0, "min_lr": 0.02, "factor": 0.6},
    "least-each": {"patience": 0, "min_lr": [0.05, 0.001], "eps": 1e-3},
}


@pytest.mark.parametrize("shape", ["falling", "noise", "waves", "nan"])
@pytest.mark.parametrize("name", PLATEAUS)
def test_plateaus_equal_pytorchs(name, shape):
    t = np.arange(80)
    metrics = {
        "falling": np.maximum(1.0 / (1 + t), 0.05),
        "noise": np.random.default_rng(0).standard_normal(80),
        "waves": 2 + np.sin(t / 3),
        "nan": np.where(t % 9 == 4, np.nan, 1 + t % 7),
    }[shape]
    ours, others = two_groups(), their_groups()
    own = ReduceLROnPlateau(ours, **PLATEAUS[name])
    peer = theirs().ReduceLROnPlateau(others, **PLATEAUS[name])
    for metric in metrics:
        own.step(metric)
        peer.step(metric)
        assert own.get_last_lr() == pytest.approx([g["lr"] for g in others.param_groups], rel=1e-12)
        assert own.best == peer.best
        assert own.num_bad_epochs == peer.num_bad_epochs
    if name != "default" or shape != "falling":
        assert own.get_last_lr() != RATES


def test_a_chain_after_a_warm_up_and_back_again():
    """PyTorch steps a chain twice at the start of a sequence. The steps may go back."""
    one = optimizer(1.0)
    chain = schedules.ChainedScheduler([ExponentialLR(one, 0.5), StepLR(one, 2)])
    schedule = SequentialLR(one, [LinearLR(one, 0.25, total_iters=3), chain], [2])
    assert rates(schedule, 5) == pytest.approx([0.25, 0.5, 1, 0.5, 0.025, 0.0125])
    schedule.step(3)
    assert one.lr == pytest.approx(0.5)


# -- formulas ------------------------------------------------------------------------------


def test_cosine_goes_from_the_first_rate_to_the_lowest():
    lrs = rates(CosineAnnealingLR(optimizer(), 4, eta_min=0.02), 4)
    half = 0.08 / 2
    expected = [0.1, 0.06 + half / math.sqrt(2), 0.06, 0.06 - half / math.sqrt(2), 0.02]
    assert lrs == pytest.approx(expected, rel=1e-12)


def test_a_warm_up():
    lrs = rates(LinearLR(optimizer(1.0), 0.25, total_iters=3), 5)
    assert lrs == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_a_sequence_inside_a_sequence():
    """PyTorch accepts one only as the first schedule, with a warning."""
    one = optimizer(1.0)
    inner = SequentialLR(one, [ExponentialLR(one, 0.5), StepLR(one, 1)], [2])
    lrs = rates(SequentialLR(one, [LinearLR(one, 0.25, total_iters=3), inner], [2]), 6)
    assert lrs == pytest.approx([0.25, 0.5, 1, 0.5, 1, 0.1, 0.01])


def test_one_cycle_goes_up_and_down():
    cycle = OneCycleLR(optimizer(momentum=0.9), 1.0, 11, pct_start=0.5, anneal_strategy="linear")
    lrs = rates(cycle, 10)
    assert lrs[0] == pytest.approx(1 / 25)
    assert max(lrs) == pytest.approx(lrs[4] + 0.5 * (1 - 1 / 25) / 4.5, rel=0.2)
    assert lrs[10] == pytest.approx(1 / 25 / 1e4)
    assert cycle.optimizer.param_groups[0]["momentum"] == pytest.approx(0.95)
    cycle.step()  # one more is allowed, as in PyTorch
    with pytest.raises(ArgumentError, match="step 12 of 11: the cycle is over"):
        cycle.step()


def test_one_cycle_that_starts_at_the_top():
    """PyTorch divides by zero."""
    lrs = rates(OneCycleLR(optimizer(), 1.0, 10, pct_start=0.1, cycle_momentum=False), 9)
    assert lrs[0] == 1.0
    assert lrs == sorted(lrs, reverse=True)


def test_plateau_by_hand():
    plateau = ReduceLROnPlateau(optimizer(1.0), factor=0.5, patience=1, cooldown=1)
    lrs = []
    for metric in (3, 2, 2, 2, 2, 2, 2, 1):
        plateau.step(metric)
        lrs.append(plateau.optimizer.lr)
    assert lrs == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_plateau_takes_a_tensor(backend):
    plateau = ReduceLROnPlateau(optimizer(1.0), patience=0)
    for _ in range(2):
        plateau.step(xcnn.Tensor(backend.asarray(np.float32([2.0]))).sum())
    assert plateau.optimizer.lr == pytest.approx(0.1)


def test_a_plateau_lowers_a_rate_set_by_hand():
    plateau = ReduceLROnPlateau(optimizer(1.0), patience=0)
    plateau.step(1)
    plateau.optimizer.lr = 0.5
    plateau.step(2)
    assert plateau.optimizer.lr == pytest.approx(0.05)


def test_a_user_defined_schedule():
    class Halves(schedules.LRScheduler):
        def get_lr(self):
            return [base / 2**self.steps for base in self.base_lrs]

    assert rates(Halves(optimizer(1.0)), 3) == [1, 0.5, 0.25, 0.125]
    with pytest.raises(
        NotImplementedError, match="LRScheduler defines neither factor_at nor get_lr"
    ):
        schedules.LRScheduler(optimizer())


def test_the_number_of_steps_may_be_set():
    schedule = ExponentialLR(optimizer(1.0), 0.5)
    schedule.steps = 3
    schedule.step()
    assert schedule.optimizer.lr == 0.5**4


def test_a_second_schedule_starts_from_the_same_base():
    """As in PyTorch, from initial_lr."""
    one = optimizer(1.0)
    rates(ExponentialLR(one, 0.5), 3)
    assert rates(ExponentialLR(one, 0.9), 1) == [1.0, 0.9]


# -- state ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("done", [0, 3, 17])
def test_resuming_from_a_saved_state(name, done):
    make, first, second = SCHEDULES[name], two_groups(), two_groups()
    schedule = make(schedules, first)
    for _ in range(done):
        schedule.step()
    state = json.loads(json.dumps(schedule.state_dict()))  # numbers and names only
    other = make(schedules, second)
    other.load_state_dict(state)
    settings = [("lr", "momentum")] * (STEPS - done)
    for names in settings:
        for group, twin in zip(first.param_groups, second.param_groups, strict=True):
            assert [group[n] for n in names] == [twin[n] for n in names]
        schedule.step()
        other.step()


def test_resuming_a_plateau():
    def make():
        return ReduceLROnPlateau(optimizer(1.0), patience=1, cooldown=2, factor=0.5)

    metrics = np.random.default_rng(3).standard_normal(30)
    for done in (0, 5, 12):
        one, two = make(), make()
        for metric in metrics[:done]:
            one.step(metric)
        two.load_state_dict(one.state_dict())
        for metric in metrics[done:]:
            one.step(metric)
            two.step(metric)
            assert one.optimizer.lr == two.optimizer.lr
        assert one.state_dict() == two.state_dict()


def test_resuming_a_plateau_with_the_users_rate():
    one, two = (ReduceLROnPlateau(optimizer(1.0), patience=0, factor=0.5) for _ in range(2))
    one.step(1.0)
    one.optimizer.lr = np.float32(0.7)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for schedule in (one, two):
        schedule.step(2.0)
    assert one.optimizer.lr == two.optimizer.lr == 0.5 * float(np.float32(0.7))


def test_nothing_changes_where_a_step_or_a_state_is_refused():
    cycle = OneCycleLR(optimizer(), 1.0, 2, cycle_momentum=False)
    rates(cycle, 2)
    with pytest.raises(ArgumentError, match="the cycle is over"):
        cycle.step()
    assert cycle.steps == 2
    plateau = ReduceLROnPlateau(optimizer())
    before = plateau.state_dict()
    plateau.optimizer.add_param_group({"params": [xcnn.Parameter(np.ones(1))]})
    with pytest.raises(ArgumentError, match="created for 1 parameter groups"):
        plateau.step(1.0)
    assert plateau.num_bad_epochs == before["num_bad_epochs"]
    one, other = (SCHEDULES["warm-up"](schedules, two_groups()) for _ in range(2))
    rates(other, 3)
    state = other.state_dict()
    state["schedulers"][1]["schedule"] = "StepLR"
    before = one.state_dict()
    with pytest.raises(StateDictError, match="expected the state of CosineAnnealingLR"):
        one.load_state_dict(state)
    assert one.state_dict() == before


def test_with_the_optimisers_state():
    """In either order."""
    for optimizer_first in (True, False):
        one = two_groups()
        schedule = StepLR(one, 2)
        rates(schedule, 5)
        states = one.state_dict(), schedule.state_dict()
        two = two_groups()
        other = StepLR(two, 2)
        for part in (0, 1) if optimizer_first else (1, 0):
            (two, other)[part].load_state_dict(states[part])
        assert [g["lr"] for g in two.param_groups] == schedule.get_last_lr()
        schedule.step()
        other.step()
        assert other.get_last_lr() == schedule.get_last_lr()


def test_states_that_do_not_fit():
    schedule = StepLR(two_groups(), 2)
    rates(schedule, 3)
    with pytest.raises(
        StateDictError, match="expected the state of ExponentialLR, got that of StepLR"
    ):
        ExponentialLR(two_groups(), 0.5).load_state_dict(schedule.state_dict())
    with pytest.raises(StateDictError, match="the state of StepLR, got that of something else"):
        schedule.load_state_dict({"steps": 3})
    with pytest.raises(StateDictError, match="for 2 parameter groups, the optimiser has 1"):
        StepLR(optimizer(), 2).load_state_dict(schedule.state_dict())
    assert schedule.steps == 3
    parts = [SCHEDULES[name](schedules, two_groups()) for name in ("warm-up", "three")]
    with pytest.raises(StateDictError, match="the state has 3 schedules, expected 2"):
        parts[0].load_state_dict(parts[1].state_dict())


# -- bad arguments -----------------------------------------------------------------------


ADAGRAD = optim.Adagrad([parameter()])
SGD = optimizer()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: StepLR(nn.ReLU(), 3), "optimizer is ReLU: expected an Optimizer"),
        (lambda: CosineAnnealingLR(SGD, 0), "T_max=0: expected a number of steps >= 1"),
        (lambda: CosineAnnealingLR(SGD, 3, -0.1), "eta_min=-0.1: expected a number >= 0"),
        (lambda: StepLR(SGD, 0), "step_size=0: expected"),
        (lambda: StepLR(SGD, 1.5), "step_size=1.5: expected"),
        (lambda: StepLR(SGD, 1, gamma=-1), "gamma=-1: expected a number >= 0"),
        (lambda: ExponentialLR(SGD, "x"), "gamma='x': expected"),
        (lambda: schedules.MultiStepLR(SGD, 3), "milestones is int: expected a list"),
        (
            lambda: StepLR(optimizer(), 3, last_epoch=4),
            "last_epoch=4: a parameter group has no 'ini",
        ),
        (lambda: StepLR(SGD, 3, last_epoch=-2), "last_epoch=-2: expected an int >= -1"),
        (lambda: StepLR(SGD, 3).step("x"), "epoch='x': expected a number >= 0"),
        (lambda: schedules.PolynomialLR(SGD, 0), "total_iters=0: expected"),
        (lambda: schedules.PolynomialLR(SGD, power=-1), "power=-1: expected"),
        (lambda: schedules.MultiplicativeLR(SGD, 0.9), "lr_lambda=0.9: expected a function"),
        (lambda: schedules.CosineAnnealingWarmRestarts(SGD, 0), "T_0=0: expected"),
        (lambda: schedules.CosineAnnealingWarmRestarts(SGD, 1, 0), "T_mult=0: expected"),
        (lambda: schedules.CyclicLR(SGD, 0.1, 1.0, 0), "step_size_up=0: expected"),
        (lambda: schedules.CyclicLR(SGD, 0.1, 1.0, mode="sine"), "mode='sine': expected one of"),
        (lambda: schedules.CyclicLR(SGD, 0.1, 1.0, scale_fn=3), "scale_fn is int: expected a fun"),
        (lambda: schedules.CyclicLR(SGD, [0.1, 0.2], 1.0), "base_lr has 2 values, the optimiser"),
        (lambda: schedules.CyclicLR(ADAGRAD, 0.1, 1.0), "Adagrad has no momentum to cycle: pass"),
        (lambda: schedules.ChainedScheduler([]), "ChainedScheduler: schedulers is empty"),
        (lambda: schedules.ChainedScheduler([3]), "ChainedScheduler: int is not a schedule"),
        (
            lambda: schedules.ChainedScheduler([StepLR(SGD, 1), StepLR(optimizer(), 1)]),
            "ChainedScheduler: every schedule must be for the same optimiser",
        ),
        (lambda: schedules.MultiStepLR(SGD, [0]), "milestones=0: expected"),
        (lambda: schedules.ConstantLR(SGD, 1.5), "factor=1.5: expected a number from 0 to 1"),
        (lambda: LinearLR(SGD, 0.0), "start_factor=0: expected a number above 0"),
        (lambda: LinearLR(SGD, 0.1, 2.0), "end_factor=2.0: expected a number from 0 to 1"),
        (lambda: LinearLR(SGD, total_iters=0), "total_iters=0: expected"),
        (lambda: schedules.LambdaLR(SGD, 0.9), "lr_lambda=0.9: expected a function"),
        (lambda: schedules.LambdaLR(SGD, [abs, abs]), "lr_lambda has 2 values, the optimiser has"),
        (lambda: OneCycleLR(SGD, 0.1), "OneCycleLR needs total_steps, or epochs and steps_per"),
        (lambda: OneCycleLR(SGD, 0.1, 0), "total_steps=0: expected"),
        (lambda: OneCycleLR(SGD, 0.1, epochs=3), "OneCycleLR needs total_steps"),
        (lambda: OneCycleLR(SGD, 0.1, 9, pct_start=2), "pct_start=2: expected a number from 0 to"),
        (lambda: OneCycleLR(SGD, 0.1, 9, anneal_strategy="sin"), "anneal_strategy='sin': exp"),
        (lambda: OneCycleLR(SGD, 0.1, 9, div_factor=0), "div_factor=0: expected a number > 0"),
        (lambda: OneCycleLR(SGD, [0.1, 0.2], 9), "max_lr has 2 values, the optimiser has 1"),
        (lambda: OneCycleLR(ADAGRAD, 0.1, 9), "Adagrad has no momentum to cycle: pass cycle_mom"),
        (lambda: ReduceLROnPlateau(SGD, "least"), "mode='least': expected"),
        (lambda: ReduceLROnPlateau(SGD, factor=1), "factor=1: expected a number below 1"),
        (lambda: ReduceLROnPlateau(SGD, factor=2), "factor=2: expected a number from 0 to 1"),
        (lambda: ReduceLROnPlateau(SGD, patience=-1), "patience=-1: expected"),
        (lambda: ReduceLROnPlateau(SGD, threshold_mode="x"), "threshold_mode='x': expected"),
        (lambda: ReduceLROnPlateau(SGD, min_lr=-1), "min_lr=-1: expected"),
        (lambda: SequentialLR(SGD, [], []), "SequentialLR: 0 schedules and 0 milestones"),
        (lambda: SequentialLR(SGD, [StepLR(SGD, 1)], [3]), "SequentialLR: 1 schedules and 1"),
        (lambda: SequentialLR(SGD, [StepLR(optimizer(), 1)], []), "SequentialLR: every schedule"),
        (lambda: SequentialLR(SGD, [3], []), "SequentialLR: int is not a schedule"),
        (
            lambda: SequentialLR(SGD, [ReduceLROnPlateau(SGD)], []),
            "SequentialLR: ReduceLROnPlateau is not a schedule that depends only on",
        ),
        (
            lambda: SequentialLR(SGD, [StepLR(SGD, 1) for _ in range(3)], [5, 4]),
            "expected increasing numbers",
        ),
        (
            lambda: SequentialLR(
                SGD, [StepLR(SGD, 1), OneCycleLR(SGD, 0.1, 9, cycle_momentum=False)], [5]
            ),
            "some schedules count batches and some epochs",
        ),
    ],
)
def test_refused(make, text):
    with pytest.raises(ArgumentError, match=text.replace("(", r"\(")):
        make()


def test_a_group_added_later_is_refused():
    one = optimizer()
    schedule = StepLR(one, 2)
    one.add_param_group({"params": parameter()})
    with pytest.raises(ArgumentError, match="StepLR was created for 1 parameter groups, the opti"):
        schedule.step()
