"""The tape: who gets which gradient, how often, and what the errors say."""

import copy
import gc
import threading
import weakref

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import Function, Parameter, Tensor, backends, checks, nn
from xcnn.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    OutOfMemoryError,
    ShapeError,
    XcnnError,
)

from .conftest import assert_matches, normal


@pytest.fixture
def leaf(backend):
    """``leaf([1, 2])``: a Tensor on the device that wants a gradient."""

    def make(values, requires_grad=True):
        return Tensor(backend.asarray(np.array(values, "float64")), requires_grad)

    return make


# -- who gets what -------------------------------------------------------------------------


def test_an_input_used_twice_gets_both_gradients(leaf):
    x = leaf([3.0, -2.0])
    (x * x + x).sum().backward()
    assert_matches(x.grad, [7, -3])


def test_both_arguments_the_same_tensor(leaf):
    x = leaf([3.0])
    (x - x).sum().backward()
    assert_matches(x.grad, [0])
    y = leaf([[1.0, 2.0], [3.0, 4.0]])
    F.matmul(y, y).sum().backward()
    assert_matches(y.grad, [[7, 11], [9, 13]])  # 1 yᵀ + yᵀ 1


def test_diamond(leaf):
    """x feeds two branches of different length that meet: each Function is visited once."""
    x = leaf([2.0])
    shared = x * x
    left, right = shared * 3, (shared + 1) * shared
    (left * right).sum().backward()
    # 3s · (s² + s) = 3s³ + 3s², s = x² = 4: (9s² + 6s) · 2x
    assert_matches(x.grad, [(9 * 16 + 6 * 4) * 4])


def test_each_function_is_visited_once(leaf):
    visits = []

    class Counted(Function):
        def forward(self, backend, x):
            return x * 1

        def backward(self, backend, dy):
            visits.append(1)
            return dy

    x = leaf([1.0])
    y = Counted()(x)
    for _ in range(10):
        y = y + y
    y.sum().backward()
    assert_matches(x.grad, [2.0**10])
    assert len(visits) == 1


def test_one_function_object_called_twice(leaf):
    """Each call is a node of its own."""

    class Square(Function):
        def forward(self, backend, x):
            self.save(x=x)
            return x * x

        def backward(self, backend, dy):
            return 2 * self.saved.x * dy

    square, x = Square(), leaf([3.0])
    square(square(x)).sum().backward()
    assert_matches(x.grad, [4 * 3.0**3])


def test_a_chain_of_5000_needs_no_recursion(leaf):
    x = leaf([1.0])
    y = x
    for _ in range(5000):
        y = y + x
    y.sum().backward()
    assert_matches(x.grad, [5001])


def test_only_what_asks_gets_a_gradient(leaf):
    x, y, z = leaf([2.0]), leaf([3.0], requires_grad=False), leaf([5.0])
    out = x * y
    assert out.requires_grad
    out.sum().backward()
    assert_matches(x.grad, [3])
    assert y.grad is None
    assert z.grad is None


def test_no_input_asks_nothing_is_recorded(leaf):
    y = F.relu(leaf([1.0], requires_grad=False))
    assert not y.requires_grad
    assert y.creator is None


def test_detach_stops(leaf):
    x = leaf([2.0])
    (x * (x * x).detach()).sum().backward()
    assert_matches(x.grad, [4])


def test_a_frozen_input_saves_the_work(leaf):
    x, weight = leaf(normal(2, 3)), leaf(normal(4, 3), requires_grad=False)
    y = F.linear(x, weight)
    assert y.creator.needs_grad == (True, False, False)


def test_backward_with_a_gradient(backend, leaf):
    x = leaf([1.0, 2.0])
    (x * x).backward(backend.asarray(np.array([10.0, 100.0])))
    assert_matches(x.grad, [20, 400])


def test_backward_of_a_leaf(leaf):
    x = leaf([2.0])
    x.backward()
    assert_matches(x.grad, [1])


def test_the_gradient_passed_in_is_neither_kept_nor_changed(backend, leaf):
    x = leaf([1.0, 2.0])
    dy = backend.asarray(np.array([1.0, 1.0]))
    for _ in range(2):
        (x + 0).backward(dy)
    assert_matches(dy, [1, 1])
    assert_matches(x.grad, [2, 2])


def test_gradient_has_the_leafs_dtype_and_shape(backend):
    x = Tensor(backend.xp.ones((3, 1), "float32"), requires_grad=True)
    (x * backend.xp.ones((2, 1, 4), "float32")).sum().backward()
    assert_matches(x.grad, np.full((3, 1), 8), "float32")


# -- accumulation --------------------------------------------------------------------------


def test_gradients_add_up_in_one_buffer(leaf):
    x = leaf([3.0])
    (x * x).sum().backward()
    buffer = x.grad
    (x * x).sum().backward()
    assert x.grad is buffer
    assert_matches(x.grad, [12])


def test_a_new_gradient_is_kept_as_it_is(backend):
    """Without a copy, and without sharing memory with anything."""
    x = Tensor(backend.xp.ones((3, 2), "float32"))
    w = Tensor(backend.xp.ones((4, 2), "float32"), requires_grad=True)
    made, original = [], F.linear(x, w).creator.backward

    def backward(backend, dy):
        made.append(original(backend, dy))
        return made[-1]

    y = F.linear(x, w)
    y.creator.backward, original = backward, y.creator.backward
    y.sum().backward()
    assert w.grad.data is made[0][1]
    y = F.linear(x, w) + F.linear(x, w)
    w.zero_grad()
    y.sum().backward()
    assert_matches(w.grad, np.full((4, 2), 6.0), "float32")


@pytest.mark.parametrize("part", [..., slice(0, 1)])
def test_zero_grad_leaves_a_gradient_that_is_kept_elsewhere(part):
    """As in PyTorch: an array, or a view of one, that the user kept does not change."""
    x = xcnn.Tensor(np.full(2, 3.0), requires_grad=True)
    (x * x).sum().backward()
    kept = x.grad[part]
    x.zero_grad()
    (x * x * x).sum().backward()
    assert_matches(kept, np.full(2, 6.0)[part])
    assert_matches(x.grad, [27, 27])


def test_zero_grad_to_zero(leaf):
    x = leaf([3.0])
    (x * x).sum().backward()
    buffer = x.grad
    x.zero_grad(set_to_none=False)
    assert x.grad is buffer
    assert_matches(buffer, [0])


def test_a_gradient_after_the_data_changed(leaf):
    x = leaf([3.0])
    (x * x).sum().backward()
    x.zero_grad()
    x.data = x.data.astype("float32")
    (x * x).sum().backward()
    assert x.grad.dtype == "float32"
    assert_matches(x.grad, [6], "float32")


def test_zero_grad_without_a_gradient(leaf):
    x = leaf([3.0])
    x.zero_grad()
    assert x.grad is None


def test_two_leaves_never_share_a_buffer(leaf):
    a, b = leaf([1.0]), leaf([1.0])
    (a + b).sum().backward()
    a.zero_grad()
    assert_matches(b.grad, [1])


# -- modes ---------------------------------------------------------------------------------


def test_no_grad(leaf):
    x = leaf([1.0])
    assert xcnn.is_grad_enabled()
    with xcnn.no_grad():
        assert not xcnn.is_grad_enabled()
        y = x * x
        with xcnn.enable_grad():
            z = x * x
        assert not xcnn.is_grad_enabled()
    assert xcnn.is_grad_enabled()
    assert (y.requires_grad, y.creator) == (False, None)
    z.sum().backward()
    assert_matches(x.grad, [2])


def test_no_grad_ends_with_an_error(leaf):
    with pytest.raises(KeyError), xcnn.no_grad():
        raise KeyError
    assert xcnn.is_grad_enabled()


def test_no_grad_as_a_decorator(leaf):
    @xcnn.no_grad()
    def evaluate(x):
        return x * x

    for _ in range(2):
        assert not evaluate(leaf([1.0])).requires_grad


def test_no_grad_is_per_thread():
    seen = []
    with xcnn.no_grad():
        thread = threading.Thread(target=lambda: seen.append(xcnn.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_nothing_is_saved_without_need(leaf):
    class Probe(Function):
        def forward(self, backend, x):
            self.save(x=x)
            return x * 2

        def backward(self, backend, dy):
            return dy * 2

    for wants in (True, False):
        probe = Probe()
        probe(leaf([1.0], requires_grad=wants))
        assert (probe.saved is not None) == wants


# -- graphs end ----------------------------------------------------------------------------


def test_a_second_backward_says_what_to_do(leaf):
    y = F.relu(leaf([1.0])).sum()
    y.backward()
    with pytest.raises(GradientError, match="retain_graph=True"):
        y.backward()


def test_retain_graph(leaf):
    x = leaf([3.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert_matches(x.grad, [12])
    with pytest.raises(GradientError, match="already called"):
        y.backward()


def test_a_part_of_a_finished_graph(leaf):
    x = leaf([3.0])
    part = x * x
    (part * 2).sum().backward()
    with pytest.raises(GradientError, match=r"Mul: backward was already called"):
        (part * 3).sum().backward()


def test_a_graph_keeps_only_the_arrays_that_backward_needs(leaf):
    x = leaf([3.0])
    part = x * 2
    array = weakref.ref(part.data)
    y = (part + 1).sum()
    del part
    assert array() is None
    y.backward()
    assert_matches(x.grad, [2])


def test_a_leaf_that_no_longer_requires_a_gradient(leaf):
    x, w = leaf([3.0]), leaf([2.0])
    y = (x * w).sum()
    w.requires_grad = False
    y.backward()
    assert_matches(x.grad, [2])
    assert w.grad is None


def test_backward_frees_what_was_saved(leaf):
    y = F.relu(leaf([1.0]))
    y.backward()
    assert y.creator.saved is None
    assert y.creator.inputs is None


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda x: x.detach().backward(), GradientError, "requires_grad=True"),
        (lambda x: x.sum().backward(create_graph=True), GradientError, "first order only"),
        (lambda x: x.backward(), GradientError, r"needs one element.*\(2,\)"),
        (lambda x: x.backward(np.ones(3)), ShapeError, r"\(3,\), the output \(2,\)"),
        (lambda x: x.item(), ShapeError, r"one element, but this tensor has shape \(2,\)"),
    ],
    ids=["no-graph", "second-order", "not-a-scalar", "grad-shape", "item"],
)
def test_backward_errors(act, error, text):
    with pytest.raises(error, match=text):
        act(Tensor(np.ones(2), requires_grad=True))


def test_a_function_with_too_few_gradients(leaf):
    class Wrong(Function):
        def forward(self, backend, a, b):
            return a + b

        def backward(self, backend, dy):
            return dy

    with pytest.raises(GradientError, match=r"Wrong.backward returned 1 gradients for 2 inputs"):
        Wrong()(leaf([1.0]), leaf([1.0])).backward()


def test_a_function_without_its_methods(leaf):
    with pytest.raises(NotImplementedError, match=r"Function\.forward"):
        Function()(leaf([1.0]))


# -- vjp -----------------------------------------------------------------------------------


def test_vjp_gives_arrays_in_the_order_of_the_inputs(backend):
    a, b = backend.asarray(normal(2, 3)), backend.asarray(normal(2, 3, seed=1))
    y, pullback = xcnn.vjp(F.mul, a, b)
    da, db = pullback(backend.xp.ones_like(y))
    assert backends.of(y) is backends.of(da) is backend
    assert_matches(y, normal(2, 3) * normal(2, 3, seed=1))
    assert_matches(da, normal(2, 3, seed=1))
    assert_matches(db, normal(2, 3))


def test_pullback_may_be_called_repeatedly(backend):
    x, w = backend.asarray(normal(2, 3)), backend.asarray(normal(4, 3))
    y, pullback = xcnn.vjp(F.linear, x, w, None)
    ones = backend.xp.ones_like(y)
    first = [None if g is None else backend.to_host(g).copy() for g in pullback(ones)]
    twice = pullback(2 * ones)
    again = pullback(ones)
    for a, b, c in zip(first[:2], twice, again, strict=False):
        assert_matches(b, 2 * a)
        assert_matches(c, a)
    assert first[2] is twice[2] is None


def test_vjp_with_none_and_integers(backend):
    logits, classes = backend.asarray(normal(2, 3)), backend.asarray(np.array([0, 2]))
    y, pullback = xcnn.vjp(F.cross_entropy, logits, classes)
    dx, dtarget = pullback(backend.xp.ones_like(y))
    assert dx.shape == (2, 3)
    assert dtarget is None


def test_vjp_of_an_unused_input_is_zero(backend):
    _, pullback = xcnn.vjp(lambda a, b: F.relu(a), backend.xp.ones(2), backend.xp.ones(3))
    assert_matches(pullback(backend.xp.ones(2))[1], np.zeros(3))


def test_vjp_records_under_no_grad_and_leaves_no_mark(backend):
    x = backend.xp.ones(2)
    with xcnn.no_grad():
        _, pullback = xcnn.vjp(F.mul, x, x)
        assert not xcnn.is_grad_enabled()
    assert [g.tolist() for g in map(backend.to_host, pullback(x))] == [[1, 1], [1, 1]]


def test_vjp_errors(backend):
    _, pullback = xcnn.vjp(F.relu, backend.xp.ones(2))
    with pytest.raises(ShapeError, match=r"dy has shape \(3,\), the output \(2,\)"):
        pullback(backend.xp.ones(3))
    with pytest.raises(DTypeError, match="expected a NumPy or CuPy array, got list"):
        xcnn.vjp(F.relu, [1.0, 2.0])


# -- what does not mix ---------------------------------------------------------------------


def test_mixed_dtypes(backend):
    a, b = backend.xp.ones(2, "float32"), backend.xp.ones(2, "float64")
    with pytest.raises(
        DTypeError, match=r"Add: input is float32, other is float64.*astype"
    ) as caught:
        F.add(a, b)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_are_not_converted_silently(backend, dtype):
    with pytest.raises(DTypeError, match=rf"ReLU: input is {dtype}, expected a floating"):
        F.relu(backend.asarray(np.ones(2, dtype)))
    with pytest.raises(DTypeError, match=f"got {dtype}"):
        Tensor(backend.asarray(np.ones(2, dtype)), requires_grad=True)


def test_mixed_devices(strict):
    here, there = np.ones(2), strict.xp.ones(2)
    with pytest.raises(DeviceError, match=r'input is on cpu, other on strict.*to."cpu"') as caught:
        F.add(here, there)
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(DeviceError, match=r"input is on strict, weight on cpu"):
        F.linear(strict.xp.ones((1, 2)), np.ones((3, 2)))


@pytest.mark.parametrize(
    "value", ["text", {"a": 1}, [[1], [1, 2]], object()], ids=["str", "dict", "ragged", "object"]
)
def test_what_is_no_array(value):
    with pytest.raises(DTypeError) as caught:
        F.relu(value)
    assert isinstance(caught.value, XcnnError)


# -- Tensor --------------------------------------------------------------------------------


def test_arrays_are_kept_and_lists_become_float32(backend):
    array = backend.xp.ones(2)
    assert Tensor(array).data is array
    assert Tensor([1.0, 2.0]).dtype == np.float32
    assert Tensor(2.5).dtype == np.float32
    assert Tensor([1, 2]).dtype.kind == "i"
    assert Tensor(np.float64(2)).dtype == np.float64


def test_tensor_of_a_tensor_shares_the_array(leaf):
    x = leaf([1.0])
    assert Tensor.of(x) is x
    copy = Tensor(x)
    assert copy.data is x.data
    assert not copy.requires_grad


def test_tensor_tells_what_it_is(backend, leaf):
    x = leaf(normal(2, 3))
    assert (x.shape, x.ndim, x.numel(), len(x)) == ((2, 3), 2, 6, 2)
    assert (x.device, x.backend) == (backend.device, backend)
    assert x.dtype == np.float64
    assert isinstance(x.numpy(), np.ndarray)
    assert leaf([[7.0]]).item() == 7.0
    assert "requires_grad=True" in repr(x)
    assert "creator=ReLU" in repr(F.relu(x))


def test_parameter_asks_for_a_gradient_unless_told(backend):
    assert Parameter(backend.xp.ones(2)).requires_grad
    assert not Parameter(backend.xp.ones(2), requires_grad=False).requires_grad


def test_gradients_of_a_pullback_are_separate_arrays(backend):
    a, b = (backend.asarray(np.ones((2, 3))) for _ in range(2))
    dy = backend.asarray(np.ones((2, 3)))
    da, db = xcnn.vjp(F.add, a, b)[1](dy)
    da += 1
    assert backend.to_host(db).tolist() == backend.to_host(dy).tolist() == [[1] * 3] * 2
    (dx,) = xcnn.vjp(F.sum, a)[1]()
    dx += 1  # not a read-only view of one number
    assert backend.to_host(dx).tolist() == [[2] * 3] * 2


def test_one_element_converts_like_a_number():
    one = xcnn.Tensor(np.array([0.25], np.float32))
    assert (float(one), bool(one), f"{one:.2f}") == (0.25, True, "0.25")
    assert not xcnn.Tensor([0.0])
    with pytest.raises(ShapeError, match="one element"):
        bool(xcnn.Tensor([1.0, 2.0]))


def test_numpy_takes_tensors_of_the_cpu_only(strict):
    tensor = xcnn.Tensor([1.0, 2.0])
    assert np.asarray(tensor).tolist() == [1, 2]
    assert np.shares_memory(np.asarray(tensor), tensor.data)
    with pytest.raises(DTypeError, match=r"on strict.*call \.numpy\(\)"):
        np.asarray(xcnn.Tensor(strict.asarray([1.0])))


def test_backward_takes_a_tensor():
    x = xcnn.Tensor(np.ones(3), requires_grad=True)
    (x * 2).backward(xcnn.Tensor(np.ones(3)))
    assert x.grad.tolist() == [2, 2, 2]


class Watched:
    """A namespace that only answers while its device is active."""

    def __init__(self, xp):
        self.xp, self.depth, self.used = xp, 0, set()

    def __enter__(self):
        self.depth += 1

    def __exit__(self, *error):
        self.depth -= 1

    def __getattr__(self, name):
        if callable(getattr(self.xp, name)) and not isinstance(getattr(self.xp, name), type):
            assert self.depth, f"{name} was called on whatever device is current"
            self.used.add(name)
        return getattr(self.xp, name)


def test_arrays_are_made_while_their_device_is_active(strict, monkeypatch):
    """With several GPUs a new array lands on the current one."""
    watched = Watched(strict.xp)
    model = xcnn.models.lenet5(input_shape=(1, 16, 16)).to(strict)
    trainer = xcnn.Trainer(model, xcnn.optim.Adam(model.parameters()))
    images = np.ones((4, 1, 16, 16), np.float32)
    monkeypatch.setattr(strict, "xp", watched)
    monkeypatch.setattr(strict, "active", lambda: watched)
    trainer.fit(images, [0, 1, 2, 3], epochs=1, validation=(images, [0, 1, 2, 3]))
    trainer.predict(images)
    loss = F.cross_entropy(model(strict.asarray(images)), strict.asarray([0, 1, 2, 3]))
    loss.backward()
    trainer.optimizer.step()
    assert {"empty", "empty_like", "matmul", "asarray"} <= watched.used


# -- what users of PyTorch type --------------------------------------------------------------


def test_a_gradient_is_a_tensor(leaf):
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    assert isinstance(x.grad, Tensor)
    assert x.grad is x.grad
    assert x.grad.shape == (2,)
    x.grad = x.grad * 0.5
    assert_matches(x.grad.data, [1, 2])
    with pytest.raises(ShapeError, match=r"grad: shape \(3,\) for a tensor of shape \(2,\)"):
        x.grad = leaf([1.0, 2.0, 3.0])


def test_a_step_by_hand(backend, leaf):
    weight = leaf([1.0, 2.0])
    array = weight.data
    (weight * weight).sum().backward()
    with pytest.raises(GradientError, match="__isub__ on a leaf that requires a gradient"):
        weight -= 0.1 * weight.grad
    with xcnn.no_grad():
        weight -= 0.25 * weight.grad
    assert weight.data is array  # in place
    assert_matches(weight, [0.5, 1])
    weight.data = weight.data - 0.5 * weight.grad.data
    assert_matches(weight, [-0.5, -1])
    weight.data = weight * 2  # a Tensor is unwrapped
    assert type(weight.data) is type(array)


def test_augmented_assignment_in_a_forward(leaf):
    """The operands that backward needs do not change: x += y is x = x + y."""
    x, y = leaf([3.0]), leaf([5.0])
    z = kept = x * y
    z += x
    z *= y
    z.sum().backward()
    assert_matches(kept, [15])
    assert_matches(z, [90])
    assert_matches(x.grad, [30])  # d(xy + x)y/dx = y² + y
    assert_matches(y.grad, [33])  # 2xy + x


def test_in_place_methods(backend, leaf):
    x = leaf([4.0, 9.0], requires_grad=False)
    array = x.data
    assert x.sqrt_().add_(1).mul_(2) is x
    assert x.data is array
    assert_matches(x, [6, 8])
    assert_matches(x.copy_(leaf([1.0, 2.0])), [1, 2])
    assert_matches(x.fill_(7), [7, 7])
    assert_matches(x.zero_(), [0, 0])
    with pytest.raises(GradientError, match="add_: this tensor requires a gradient"):
        leaf([1.0]).add_(1)
    with pytest.raises(ShapeError, match=r"add_: the result has shape \(3, 2\)"):
        x.add_(leaf(normal(3, 2)))
    with pytest.raises(DTypeError, match="add_: the result is float32, the tensor int64"):
        Tensor(backend.asarray(np.arange(2))).add_(0.5)


def test_a_buffer_counts_in_place(backend):
    class Counter(nn.Module):
        def __init__(self):
            self.count = nn.Buffer(np.zeros(1))

        def forward(self, x):
            self.count += 1
            return x

    model = Counter()
    model(np.ones(1))
    model(np.ones(1))
    assert model.state_dict()["count"].tolist() == [2]


def test_retain_grad(leaf):
    x = leaf([2.0])
    y = x * 3
    y.retain_grad()
    x.retain_grad()  # of a leaf: nothing to do
    (y * y).sum().backward()
    assert_matches(y.grad, [12])
    assert_matches(x.grad, [36])
    y = x * 3
    y.retain_grad()
    y.retain_grad()  # again: nothing to do
    y.register_hook(lambda gradient: gradient * 2)
    y.sum().backward()
    assert_matches(y.grad, [2])  # what the hooks return, as in PyTorch
    with pytest.raises(GradientError, match="retain_grad: this tensor does not require"):
        leaf([1.0], requires_grad=False).retain_grad()


def test_hooks_on_tensors(leaf):
    x = leaf([2.0, 3.0])
    y = x * 3
    seen = []
    handle = y.register_hook(seen.append)
    y.register_hook(lambda grad: grad * 2)
    doubled = x.register_hook(lambda grad: grad.data + 1)
    y.sum().backward(retain_graph=True)
    assert_matches(seen[0], [1, 1])
    assert_matches(x.grad, [7, 7])
    handle.remove()
    doubled.remove()
    y.sum().backward()
    assert len(seen) == 1
    assert_matches(x.grad, [13, 13])
    y = x * 1
    y.register_hook(lambda grad: grad.sum())
    with pytest.raises(ShapeError, match=r"a hook returned a gradient of shape \(\) for one of"):
        y.sum().backward()
    with pytest.raises(GradientError, match="register_hook: this tensor does not require"):
        x.detach().register_hook(print)


def test_a_retained_gradient_does_not_keep_the_graph(leaf):
    y = leaf([2.0]) * 3
    y.retain_grad()
    reference = weakref.ref(y)
    del y
    gc.collect()
    assert reference() is None


def test_requires_grad(backend, leaf):
    x = leaf([1.0], requires_grad=False)
    assert x.requires_grad_() is x
    assert x.requires_grad
    assert x.is_leaf
    assert not (x * 2).is_leaf
    assert not x.requires_grad_(False).requires_grad
    with pytest.raises(
        DTypeError, match="requires_grad=True needs a floating-point array, got int"
    ):
        Tensor(backend.asarray(np.arange(2))).requires_grad = True
    with pytest.raises(ArgumentError, match="requires_grad='yes'"):
        x.requires_grad = "yes"
    x.requires_grad = True
    with pytest.raises(GradientError, match=r"requires_grad=False: this tensor is the result"):
        (x * 2).requires_grad = False


@pytest.mark.parametrize("decorate", [xcnn.no_grad, xcnn.no_grad(), xcnn.set_grad_enabled(False)])
def test_a_decorator_stops_recording(leaf, decorate):
    @decorate
    def double(x):
        """Its documentation."""
        return x * 2

    assert not double(leaf([1.0])).requires_grad
    assert not double(leaf([1.0])).requires_grad
    assert double.__doc__ == "Its documentation."
    assert xcnn.is_grad_enabled()


def test_sizes_and_conversions(backend, leaf):
    x = leaf(normal(2, 3))
    assert (x.size(), x.size(-1), x.numel(), x.dim()) == ((2, 3), 3, 6, 2)
    with pytest.raises(ShapeError, match="dim=2"):
        x.size(2)
    assert [
        getattr(x, n)().dtype.name for n in ("float", "double", "half", "int", "long", "bool")
    ] == [
        "float32",
        "float64",
        "float16",
        "int32",
        "int64",
        "bool",
    ]
    assert x.to("float32").dtype == np.float32
    assert x.to(backend, "float32").device == backend.device
    assert x.to(x.float()).dtype == np.float32
    assert x.to(dtype=np.float64) is x
    assert x.float().type_as(x).dtype == np.float64
    assert x.tolist() == x.numpy().tolist()
    y = x.float()
    y.sum().backward()
    assert_matches(x.grad, np.ones((2, 3)), "float64")
    with pytest.raises(DTypeError, match="dtype='complex64': expected one of float16"):
        x.astype("complex64")
    with pytest.raises(AttributeError, match="Tensor has no attribute 'no_such_'"):
        x.no_such_  # noqa: B018


def test_python_numbers(backend):
    three = Tensor(backend.asarray(np.array([3])))
    assert int(three) == 3
    assert list(range(three)) == [0, 1, 2]
    assert f"{three * 1.5:.2f}" == "4.50"
    with pytest.raises(DTypeError, match="an index must be a whole number, this tensor is float"):
        range(three * 1.5)


def test_a_large_tensor_is_shown_briefly(backend, leaf):
    x = leaf(np.arange(3 * 64 * 64).reshape(3, 64, 64))
    assert repr(x) == (
        "Tensor([0, 1, 2, 3, 4, 5, 6, 7, ...], shape=(3, 64, 64), dtype=float64, "
        f"device={backend.device!r}, requires_grad=True)"
    )


@pytest.mark.parametrize("value", [np.arange(5000.0), Tensor(np.zeros((2, 3))), [np.ones(3)] * 20])
def test_no_error_text_prints_an_array(value):
    with pytest.raises(ArgumentError) as caught:
        checks.check_number("momentum", value)
    assert len(str(caught.value)) < 400
    assert "float64" in str(caught.value)
    assert "0." not in str(caught.value)


# -- functions and arrays that are used again ----------------------------------------------


class Double(Function):
    def forward(self, backend, x):
        return 2 * x

    def backward(self, backend, dy):
        return 2 * dy


def test_a_function_that_is_called_again_has_a_graph_of_its_own():
    double = Double()
    x, z = (Tensor(normal(3), requires_grad=True) for _ in range(2))
    y = double(x)
    y.register_hook(lambda gradient: 100 * gradient)
    double(z).sum().backward()
    np.testing.assert_array_equal(z.grad.data, [2, 2, 2])
    y.sum().backward()
    double(z)
    with pytest.raises(GradientError, match="already called"):
        y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [200, 200, 200])


def test_no_memory_in_backward():
    class Greedy(Double):
        def backward(self, backend, dy):
            raise MemoryError("no room")

    y = Greedy()(Tensor(normal(3), requires_grad=True)).sum()
    with pytest.raises(OutOfMemoryError, match="cpu is out of memory: no room"):
        y.backward()


def test_arrays_in_the_other_byte_order():
    x, weight = normal(2, 3, 5, 4, dtype="float32"), normal(4, 3, 3, 3, seed=1, dtype="float32")
    target = np.array([1, 2])
    swapped = [a.astype(a.dtype.newbyteorder()) for a in (x, weight, target)]
    y = F.conv2d(*swapped[:2])
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y.data, F.conv2d(x, weight).data)
    loss = F.cross_entropy(swapped[0][:, :, 0, 0], swapped[2])
    assert loss.item() == F.cross_entropy(x[:, :, 0, 0], target).item()
    assert Tensor(swapped[0]).dtype.isnative


def test_hooks_run_as_soon_as_a_gradient_is_complete(leaf):
    first, shared, last = leaf([2.0]), leaf([3.0]), leaf([5.0])
    seen = []
    handles = [
        x.register_post_accumulate_grad_hook(lambda x: seen.append((x.item(), x.grad.item())))
        for x in (first, shared, last)
    ]
    y = first * shared  # the product rule by hand: 2 * 3 * 5 * 3
    z = y * last * shared
    y.register_hook(lambda gradient: seen.append("y"))
    z.backward()
    assert seen == [(5, 18), "y", (2, 45), (3, 60)]
    handles[0].remove()
    copy.deepcopy(shared).backward()  # a copy has none
    (first * shared).backward()
    assert seen[4:] == [(3, 62)]
    shared.backward()
    assert seen[5:] == [(3, 63)]
    with pytest.raises(GradientError, match="expected a leaf"):
        y.register_post_accumulate_grad_hook(print)
