"""Inputs at the edge of what an operation takes: PyTorch's result, or an error of xcnn's."""

import copy
import pickle

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import Tensor, nn
from xcnn.errors import ArgumentError, DTypeError, GradientError

torch = pytest.importorskip("torch")

NOT_FINITE = np.array([[np.inf, -np.inf, 1.0], [np.nan, 2.0, 0.0], [1.0, 3.0, -1.0]], "float32")


@pytest.mark.parametrize(
    ("own", "peer"),
    [
        (lambda x: x.sum(0), lambda x: x.sum(0)),
        (lambda x: x.mean(0), lambda x: x.mean(0)),
        (lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
        (lambda x: x @ x, lambda x: x @ x),
        (lambda x: (x * 1e6).half(), lambda x: (x * 1e6).half()),
        (
            lambda x: F.div(x, 0.0, rounding_mode="trunc"),
            lambda x: torch.div(x, 0.0, rounding_mode="trunc"),
        ),
    ],
)
def test_not_finite_without_a_warning(backend, own, peer):
    x, other = Tensor(backend.asarray(NOT_FINITE), True), torch.tensor(NOT_FINITE).requires_grad_()
    y, expected = own(x), peer(other)
    np.testing.assert_array_equal(y.numpy(), expected.detach().numpy())
    y.float().sum().backward()
    expected.float().sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), other.grad.numpy())


@pytest.mark.parametrize("kinds", [("int16", "int64"), ("uint8", "int32"), ("int8", "bool")])
@pytest.mark.parametrize("shapes", [((3,), ()), ((), (2, 3)), ((3,), (3,)), ((), ())])
@pytest.mark.parametrize("function", ["add", "mul", "maximum", "remainder"])
def test_a_number_does_not_widen_an_array_of_ints(backend, function, shapes, kinds):
    a, b = (np.full(shape, 1, kind) for shape, kind in zip(shapes, kinds, strict=True))
    own = getattr(F, function)(backend.asarray(a), backend.asarray(b))
    peer = getattr(torch, function)(torch.tensor(a), torch.tensor(b))
    np.testing.assert_array_equal(own.numpy(), peer.numpy(), strict=True)


def test_a_reshape_that_keeps_the_batch_shares_memory(backend):
    x = Tensor(backend.asarray(np.arange(24.0).reshape(4, 3, 2)))
    x.view(4, 6).zero_()
    x.flatten(1)[0] = 5
    assert x.numpy().sum() == 30


@pytest.mark.parametrize("p", [np.inf, -np.inf])
def test_lp_pool_of_infinite_power(backend, p):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7))
    own = F.lp_pool2d(backend.asarray(x), p, 3, 2, ceil_mode=True)
    peer = torch.nn.functional.lp_pool2d(torch.tensor(x), p, 3, 2, ceil_mode=True)
    np.testing.assert_array_equal(own.numpy(), peer.numpy())


def test_empty_or_single(backend):
    one = backend.asarray(np.array(3.0, "float32"))
    assert F.unique(one, dim=0).tolist() == [3]
    _, inverse = F.unique(one, return_inverse=True)
    _, expected = torch.unique(torch.tensor(3.0), return_inverse=True)
    np.testing.assert_array_equal(inverse.numpy(), expected.numpy(), strict=True)
    image, grid = np.ones((2, 0, 5, 5), "float32"), np.zeros((2, 3, 4, 2), "float32")
    assert F.grid_sample(*map(backend.asarray, (image, grid))).shape == (2, 0, 3, 4)
    x, weight = np.ones((1, 0, 5), "float32"), np.ones((0, 8, 3), "float32")
    assert F.conv_transpose1d(*map(backend.asarray, (x, weight))).shape == (1, 8, 7)


def test_nan_to_num_copies_ints():
    x = xcnn.tensor([1, 2])
    F.nan_to_num(x).zero_()
    assert x.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: F.group_norm(x[:, :0], 2**31), ArgumentError),
        (lambda x: F.batch_norm(x, *np.ones((2, 3), int), training=True), DTypeError),
        (lambda x: xcnn.full((2,), "1"), ArgumentError),
        (lambda x: xcnn.full((2,), ()), ArgumentError),
        (lambda x: xcnn.multinomial(x[0, 0, 0], 1), ArgumentError),
        (lambda x: xcnn.multinomial(x[0, 0, :0], 1), ArgumentError),
    ],
)
def test_refused(call, error):
    with pytest.raises(error):
        call(xcnn.zeros(2, 3, 4))


def test_filled_arrays_are_made_in_their_dtype(monkeypatch):
    made = []
    full = np.full
    monkeypatch.setattr(np, "full", lambda *args: made.append(full(*args)) or made[-1])
    xcnn.zeros(5, 7)
    assert [str(a.dtype) for a in made if a.size == 35] == ["float32"]


def test_a_computed_tensor_is_not_copied_with_its_graph():
    x = Tensor(np.ones(3), True)
    for duplicate in (copy.deepcopy, pickle.dumps):
        with pytest.raises(GradientError, match="detach"):
            duplicate(x * 2)
    assert copy.deepcopy((x * 2).detach()).tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss", "BCEWithLogitsLoss"])
def test_class_weights_are_saved_with_a_loss(tmp_path, name):
    loss = getattr(nn, name)(weight=np.array([1, 2, 4], "float32"))
    xcnn.save(nn.Sequential(loss), tmp_path / "loss")
    (loaded,) = xcnn.load(tmp_path / "loss")
    assert loaded.weight.tolist() == [1, 2, 4]
    assert isinstance(loaded.weight, nn.Buffer)
