"""Initial weights against the formulas of the papers, by statistics of large tensors."""

import math

import numpy as np
import pytest

import xcnn
from xcnn import init, nn
from xcnn.errors import ArgumentError

SHAPE = (200, 30, 5, 4)  # 120,000 numbers
FAN_IN, FAN_OUT = 30 * 5 * 4, 200 * 5 * 4

# function, settings, variance, whether uniform
CASES = [
    (init.kaiming_normal_, {}, 2 / FAN_IN, False),
    (init.kaiming_normal_, {"nonlinearity": "linear"}, 1 / FAN_IN, False),
    (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, 2 / FAN_OUT, False),
    (init.kaiming_uniform_, {}, 2 / FAN_IN, True),
    (init.kaiming_uniform_, {"a": math.sqrt(5)}, 1 / 3 / FAN_IN, True),
    (init.kaiming_uniform_, {"nonlinearity": "tanh"}, 25 / 9 / FAN_IN, True),
    (init.kaiming_uniform_, {"nonlinearity": "sigmoid"}, 1 / FAN_IN, True),
    (init.xavier_normal_, {}, 2 / (FAN_IN + FAN_OUT), False),
    (init.xavier_normal_, {"gain": 3}, 18 / (FAN_IN + FAN_OUT), False),
    (init.xavier_uniform_, {}, 2 / (FAN_IN + FAN_OUT), True),
    (init.xavier_uniform_, {"gain": 0.5}, 0.5 / (FAN_IN + FAN_OUT), True),
    (init.lecun_normal_, {}, 1 / FAN_IN, False),
    (init.lecun_uniform_, {}, 1 / FAN_IN, True),
    (init.normal_, {}, 1, False),
    (init.normal_, {"std": 0.3}, 0.09, False),
    (init.uniform_, {"a": -1}, 1 / 3, True),
    (init.uniform_, {"a": -6, "b": 6}, 12, True),
    (init.for_activation_, {"nonlinearity": "relu"}, 2 / FAN_IN, False),
    (init.for_activation_, {"nonlinearity": "gelu"}, 2 / FAN_IN, False),
    (init.for_activation_, {"nonlinearity": "leaky_relu"}, 2 / 1.0001 / FAN_IN, False),
    (init.for_activation_, {"nonlinearity": "prelu"}, 2 / 1.0625 / FAN_IN, False),
    (init.for_activation_, {"nonlinearity": "selu"}, 1 / FAN_IN, False),
    (init.for_activation_, {"nonlinearity": "hardsigmoid"}, 2 / (FAN_IN + FAN_OUT), True),
    (init.for_activation_, {"nonlinearity": "tanh"}, 2 / (FAN_IN + FAN_OUT), True),
    (init.for_activation_, {"nonlinearity": "sigmoid"}, 2 / (FAN_IN + FAN_OUT), True),
    (init.for_activation_, {"nonlinearity": "softmax"}, 2 / (FAN_IN + FAN_OUT), True),
    (init.for_activation_, {"nonlinearity": "linear"}, 2 / (FAN_IN + FAN_OUT), True),
]


def empty(*shape):
    return xcnn.Parameter(np.full(shape, np.nan, np.float32))


@pytest.mark.parametrize(
    ("function", "settings", "variance", "uniform"),
    CASES,
    ids=lambda v: getattr(v, "__name__", None) or str(v),
)
def test_distribution(function, settings, variance, uniform):
    weight = empty(*SHAPE)
    array = weight.data
    assert function(weight, generator=np.random.default_rng(0), **settings) is weight
    assert weight.data is array
    assert array.dtype == np.float32
    std = math.sqrt(variance)
    # relative standard error of the variance of n numbers: √(2/n) for normal, √(0.8/n) uniform
    assert array.var(dtype=np.float64) == pytest.approx(variance, rel=6 * math.sqrt(2 / array.size))
    assert abs(array.mean(dtype=np.float64)) < 6 * std / math.sqrt(array.size)
    bound = math.sqrt(3) * std
    largest = np.abs(array).max()
    if uniform:
        assert 0.999 * bound < largest <= bound * (1 + 1e-6)
    else:
        assert largest > 3.5 * std
        assert (np.abs(array) < std).mean() == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((7, 3), (3, 7)), ((8, 2, 3, 5), (30, 120)), ((4, 1, 3), (3, 12))],
    ids=str,
)
def test_fans(shape, expected):
    assert init.fans(shape) == expected


@pytest.mark.parametrize("shape", [(), (3,)])
def test_no_fans(shape):
    with pytest.raises(ArgumentError, match="at least two axes"):
        init.kaiming_normal_(empty(*shape))


def test_gain():
    assert init.gain("relu") == pytest.approx(1.41421356)
    assert init.gain("tanh") == pytest.approx(1.66666667)
    for function in (init.gain, lambda name: init.for_activation_(empty(2, 2), name)):
        with pytest.raises(ArgumentError, match=r"nonlinearity='glu': expected one of celu"):
            function("glu")


def test_an_explicit_generator():
    before = xcnn.random.get_state()
    first, second = empty(3, 3), empty(3, 3)
    for weight in (first, second):
        init.kaiming_uniform_(weight, generator=np.random.default_rng(5))
    np.testing.assert_array_equal(first.data, second.data)
    assert xcnn.random.get_state() == before


def test_manual_seed_repeats():
    def weights(seed):
        xcnn.manual_seed(seed)
        return [p.data for p in nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 5)).parameters()]

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("seed", [-1, 0.5, "1", None, True])
def test_manual_seed_refuses(seed):
    with pytest.raises(ArgumentError, match="expected an int >= 0"):
        xcnn.manual_seed(seed)


def test_the_state_of_the_generator():
    xcnn.manual_seed(4)
    state = xcnn.random.get_state()
    first = init.normal_(empty(3)).data.tolist()
    xcnn.random.set_state(state)
    assert init.normal_(empty(3)).data.tolist() == first


@pytest.mark.parametrize("function", [init.kaiming_normal_, init.xavier_uniform_])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_device_starts_equal(backend, function, dtype):
    here = xcnn.Parameter(np.zeros((4, 3), dtype))
    there = xcnn.Parameter(backend.xp.zeros((4, 3), dtype))
    for weight in (here, there):
        function(weight, generator=np.random.default_rng(0))
    assert type(there.data) is backend.xp.ndarray
    assert there.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(there.numpy(), here.data)


def test_layers_follow_their_activation():
    """nonlinearity selects He or Glorot, with the fans of the layer."""
    xcnn.manual_seed(0)
    he = nn.Linear(300, 200).weight.data
    assert he.var() == pytest.approx(2 / 300, rel=0.05)
    glorot = nn.Linear(300, 200, nonlinearity="tanh").weight.data
    assert np.abs(glorot).max() == pytest.approx(math.sqrt(6 / 500), rel=0.01)
    grouped = nn.Conv2d(64, 64, 5, groups=4).weight.data
    assert grouped.var() == pytest.approx(2 / (16 * 25), rel=0.05)


def test_arrays_and_tensors_are_filled(backend):
    array = backend.xp.zeros((3, 4), "float32")
    assert init.normal_(array, 5, 0.1) is array
    assert abs(float(backend.to_host(array).mean()) - 5) < 0.2
    weight = xcnn.Parameter(backend.xp.zeros((3, 4), "float32"))
    assert init.constant_(weight, 2.5) is weight
    assert set(weight.numpy().ravel()) == {2.5}
    assert not init.zeros_(weight).numpy().any()
    assert init.ones_(weight).numpy().all()
    assert init.eye_(weight).tolist() == np.eye(3, 4).tolist()


def test_truncated_normal():
    weight = empty(300, 200)
    init.trunc_normal_(weight, 1.0, 2.0, a=-1.0, b=2.0, generator=np.random.default_rng(0))
    assert -1 <= weight.data.min() < -0.99 < 1.99 < weight.data.max() <= 2
    stats = pytest.importorskip("scipy.stats").truncnorm(-1, 0.5, 1, 2)
    assert weight.data.mean() == pytest.approx(stats.mean(), abs=0.02)
    assert weight.data.std() == pytest.approx(stats.std(), abs=0.02)
    with pytest.raises(ArgumentError, match="a=3, b=2: expected a < b"):
        init.trunc_normal_(weight, a=3, b=2)


@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 2, 2), (4, 4)])
def test_orthogonal(shape):
    weight = init.orthogonal_(empty(*shape), gain=2).data.reshape(shape[0], -1).astype("float64")
    small = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "groups"), [((4, 4, 3, 3), 1), ((6, 3, 5), 2), ((2, 3, 1, 3, 3), 1)]
)
def test_dirac_returns_the_input(shape, groups):
    torch = pytest.importorskip("torch")
    expected = torch.nn.init.dirac_(torch.empty(shape), groups)
    np.testing.assert_array_equal(init.dirac_(empty(*shape), groups).data, expected.numpy())


@pytest.mark.parametrize(
    "name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
)
def test_gains_as_in_pytorch(name):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    if name == "leaky_relu":
        expected = torch.nn.init.calculate_gain(name, 0.3)
        assert init.calculate_gain(name, 0.3) == pytest.approx(expected)


def test_what_the_initialisers_refuse():
    with pytest.raises(ArgumentError, match="a='relu': expected a slope; pass nonlinearity='relu'"):
        init.kaiming_normal_(empty(2, 2), "relu")
    with pytest.raises(ArgumentError, match="mode='fan': expected one of fan_in, fan_out"):
        init.kaiming_uniform_(empty(2, 2), mode="fan")
    with pytest.raises(ArgumentError, match=r"eye_: the tensor has shape \(2, 2, 2\)"):
        init.eye_(empty(2, 2, 2))
    with pytest.raises(ArgumentError, match=r"dirac_: the weight has shape \(3, 2\)"):
        init.dirac_(empty(3, 2))
