"""New tensors, on every device, beside NumPy; random ones by their seed and statistics."""

import numpy as np
import pytest

import xcnn
from xcnn import Tensor, hints
from xcnn.errors import ArgumentError, DeviceError, DTypeError

MADE = {
    "zeros": (lambda **d: xcnn.zeros(2, 0, 3, **d), np.zeros((2, 0, 3), "float32")),
    "zeros of a tuple": (lambda **d: xcnn.zeros((2, 3), **d), np.zeros((2, 3), "float32")),
    "ones": (lambda **d: xcnn.ones(3, dtype="int64", **d), np.ones(3, "int64")),
    "full": (lambda **d: xcnn.full((2, 2), 1.5, **d), np.full((2, 2), 1.5, "float32")),
    "full of ints": (lambda **d: xcnn.full([3], 7, **d), np.full(3, 7)),
    "full of bools": (lambda **d: xcnn.full((), True, **d), np.array(True)),
    "arange": (lambda **d: xcnn.arange(5, **d), np.arange(5)),
    "arange down": (lambda **d: xcnn.arange(5, -1, -2, **d), np.arange(5, -1, -2)),
    "arange of floats": (
        lambda **d: xcnn.arange(0, 1, 0.25, **d),
        np.float32([0, 0.25, 0.5, 0.75]),
    ),
    "arange dtype": (lambda **d: xcnn.arange(3, dtype="float64", **d), np.arange(3.0)),
    "arange of ints": (lambda **d: xcnn.arange(-0.9, 2.1, 2.0, dtype="int64", **d), np.array([0])),
    "linspace of ints": (
        lambda **d: xcnn.linspace(4.3, -3, 4, dtype="int64", **d),
        np.array([4, 1, 0, -3]),
    ),
    "linspace": (lambda **d: xcnn.linspace(-1, 1, 5, **d), np.float32([-1, -0.5, 0, 0.5, 1])),
    "eye": (lambda **d: xcnn.eye(2, 3, **d), np.eye(2, 3, dtype="float32")),
    "tensor": (lambda **d: xcnn.tensor([[1, 2.5]], **d), np.float32([[1, 2.5]])),
    "tensor of ints": (lambda **d: xcnn.tensor([1, 2], **d), np.array([1, 2])),
    "as_tensor": (lambda **d: xcnn.as_tensor([1, 0], dtype="bool", **d), np.array([True, False])),
}


@pytest.mark.parametrize("name", MADE)
def test_values(backend, name):
    make, expected = MADE[name]
    made = make(device=backend)
    assert made.device == backend.device
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(made.numpy(), expected)
    assert not made.requires_grad


@pytest.mark.parametrize("name", ["zeros_like", "ones_like", "empty_like"])
@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_like_another(backend, name, dtype):
    like = Tensor(backend.asarray(np.full((3, 2), 9, dtype)))
    made = getattr(xcnn, name)(like)
    assert (made.shape, made.dtype, made.device) == ((3, 2), dtype, backend.device)
    if name != "empty_like":
        assert made.tolist() == [[name == "ones_like"] * 2] * 3
    assert xcnn.full_like(like, 4, dtype="float32").tolist() == [[4.0] * 2] * 3
    assert getattr(xcnn, name)(like, device="cpu", dtype="float32").dtype == "float32"


def test_random_numbers(backend):
    xcnn.manual_seed(3)
    first = [
        xcnn.rand(50, 40, device=backend),
        xcnn.randn(50, 40, device=backend, dtype="float64"),
        xcnn.randint(2, 6, (50, 40), device=backend),
        xcnn.randint(3, (5,), device=backend),
        xcnn.randperm(9, device=backend),
        xcnn.rand_like(xcnn.zeros(2, 2, device=backend)),
        xcnn.randn_like(xcnn.zeros(2, device=backend), dtype="float64"),
        xcnn.randint_like(xcnn.zeros(4, device=backend), 1, 3),
    ]
    uniform, normal, ints, below, order, *likes = (t.numpy() for t in first)
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() < 1
    assert abs(normal.mean()) < 0.1
    assert abs(normal.std() - 1) < 0.1
    assert sorted(set(ints.ravel())) == [2, 3, 4, 5]
    assert set(below) <= {0, 1, 2}
    assert sorted(order) == list(range(9))
    assert [a.dtype.name for a in (uniform, normal, ints, order)] == [
        "float32",
        "float64",
        "int64",
        "int64",
    ]
    assert [a.dtype.name for a in likes] == ["float32", "float64", "float32"]
    assert set(likes[2]) <= {1, 2}
    xcnn.manual_seed(3)
    np.testing.assert_array_equal(xcnn.rand(50, 40).numpy(), uniform)  # the same on every device


def test_gradients_and_memory():
    x = xcnn.ones(2, requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2, 2]
    array = np.zeros(3)
    assert xcnn.from_numpy(array).data is xcnn.as_tensor(array).data is array
    assert xcnn.tensor(array).data is not array
    assert xcnn.linspace(0, 1, 2, requires_grad=True).requires_grad


def test_operations_are_reachable():
    assert xcnn.add is xcnn.functional.add
    with pytest.raises(AttributeError, match=r"xcnn has no attribute 'adds' .did you mean 'add'"):
        xcnn.adds  # noqa: B018


def test_what_is_refused():
    with pytest.raises(ArgumentError, match=r"size=\(-1,\): expected ints >= 0"):
        xcnn.zeros(-1)
    with pytest.raises(ArgumentError, match="size="):
        xcnn.zeros(2**40)
    with pytest.raises(
        ArgumentError, match="arange: start=0, end=3, step=-1: expected a step towards"
    ):
        xcnn.arange(0, 3, -1)
    with pytest.raises(ArgumentError, match="randint: low=3, high=3"):
        xcnn.randint(3, 3, (2,))
    with pytest.raises(DTypeError, match="dtype='complex64': expected one of float16"):
        xcnn.ones(2, dtype="complex64")


@pytest.mark.parametrize(
    ("owner", "name", "text"),
    [
        (xcnn.nn, "LSTM", "xcnn.nn has no attribute 'LSTM'; recurrent networks are not part"),
        (xcnn.nn, "Conv2D", "xcnn.nn has no attribute 'Conv2D' .did you mean 'Conv2d'"),
        (xcnn.functional, "upsample", "no attribute 'upsample'; use F.interpolate"),
        (xcnn, "jit", "xcnn has no attribute 'jit'; use xcnn.onnx.export"),
        (xcnn.optim, "swa_utils", "xcnn.optim has no .* 'swa_utils'; use optim.EMA"),
        (xcnn.zeros(1), "grad_fn", "Tensor has no attribute 'grad_fn'; use tensor.creator"),
        (
            xcnn.nn.ReLU(),
            "register_full_backward_hook",
            "; use register_forward_hook",
        ),
        (xcnn.nn.ReLU(), "relu", "'ReLU' object has no attribute 'relu'"),
        (xcnn.zeros(1), "argmix", "Tensor has no attribute 'argmix'"),
    ],
)
def test_a_missing_name_says_what_to_use(owner, name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(owner, name)
    assert not hasattr(owner, name)


@pytest.mark.parametrize("owner", ["NN", "FUNCTIONAL", "OPTIM", "TENSOR", "TOP"])
def test_hints_are_for_names_that_are_missing(owner):
    place = {"NN": xcnn.nn, "FUNCTIONAL": xcnn.functional, "OPTIM": xcnn.optim}
    place |= {"TENSOR": xcnn.zeros(1), "TOP": xcnn}
    there = [n for n in getattr(hints, owner) if hasattr(place[owner], n)]
    assert not there


def test_dtypes_by_name():
    assert xcnn.zeros(1, dtype=xcnn.float64).dtype == xcnn.double
    assert xcnn.zeros(1).to(xcnn.long).dtype == xcnn.int64
    with xcnn.inference_mode():
        assert not (xcnn.ones(1, requires_grad=True) * 2).requires_grad


def test_random_in_place():
    xcnn.manual_seed(0)
    x = xcnn.zeros(4000)
    assert abs(x.normal_(2, 3).numpy().mean() - 2) < 0.2
    assert abs(x.numpy().std() - 3) < 0.2
    assert -1 <= x.uniform_(-1, 3).numpy().min() < -0.9
    assert abs(x.bernoulli_(0.25).numpy().mean() - 0.25) < 0.05


def test_the_device_of_a_script(backend):
    device = xcnn.device("cuda" if xcnn.cuda.is_available() else "cpu")
    assert xcnn.zeros(2, device=device).to(device).device == device
    assert xcnn.device(backend.device) == backend.device
    assert xcnn.cuda.device_count() == len(xcnn.backends.cuda_devices())
    with pytest.raises(DeviceError, match="device='tpu'"):
        xcnn.device("tpu")


def test_synchronize(strict):
    xcnn.cuda.synchronize("strict")
    assert xcnn.cuda.memory_allocated("strict") >= 0
    xcnn.cuda.manual_seed_all(5)
    first = xcnn.rand(2).tolist()
    xcnn.manual_seed(5)
    assert xcnn.rand(2).tolist() == first


def test_draws(backend):
    xcnn.manual_seed(0)
    chance = Tensor(backend.asarray(np.array([0, 0.25, 1] * 2000, "float32")))
    drawn = xcnn.bernoulli(chance)
    assert drawn.device == backend.device
    found = drawn.numpy().reshape(-1, 3).mean(0)
    np.testing.assert_allclose(found, [0, 0.25, 1], atol=0.05)
    assert xcnn.bernoulli(chance, 1.0).numpy().all()
    numbers = xcnn.normal(2.0, 3.0, (4000,), device=backend).numpy()
    assert abs(numbers.mean() - 2) < 0.3
    assert abs(numbers.std() - 3) < 0.3
    assert xcnn.normal(xcnn.zeros(3, device=backend), 2.0).device == backend.device
    weights = Tensor(backend.asarray(np.array([[1.0, 0, 3], [0, 2, 2]])))
    indices = xcnn.multinomial(weights, 4000, replacement=True)
    assert (indices.dtype, indices.shape, indices.device) == ("int64", (2, 4000), backend.device)
    assert set(indices.numpy()[0]) == {0, 2}
    assert abs((indices.numpy()[0] == 2).mean() - 0.75) < 0.05
    assert sorted(xcnn.multinomial(weights[0], 2).tolist()) == [0, 2]
    with pytest.raises(ArgumentError, match=r"multinomial: input has shape \(3,\), num_samples=3"):
        xcnn.multinomial(weights[0], 3)


def test_new_tensors_of_the_same_kind(backend):
    like = Tensor(backend.asarray(np.ones((2, 2), "float64")))
    assert like.new_zeros(3, 2).tolist() == [[0.0, 0.0]] * 3
    assert like.new_ones((2,)).dtype == "float64"
    assert like.new_full((2,), 7, dtype="int64").tolist() == [7, 7]
    assert like.new_tensor([1, 2]).device == backend.device
    assert like.new_empty(0).shape == (0,)


def test_the_places_of_pytorch():
    assert xcnn.optim.lr_scheduler.StepLR is xcnn.schedules.StepLR
    assert xcnn.nn.utils.clip_grad_norm_ is xcnn.optim.clip_grad_norm_
