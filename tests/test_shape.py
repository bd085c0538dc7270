"""Functions that move, repeat, select or sum elements, against NumPy on their numbers."""

import itertools

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import Tensor, backends
from xcnn.backends.base import Backend
from xcnn.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    OutOfRangeError,
    ShapeError,
)

from .conftest import assert_matches, evaluate_on, layouts, normal
from .strict import count_syncs

X = (2, 3, 4)
I = np.array([2, 0, 2])  # noqa: E741
MASK = np.array([True, False, True])
MASKS = np.arange(6).reshape(2, 3) % 4 == 1


def of(call):
    """A call of Tensor's methods as a function that also takes an array."""
    return lambda x: call(Tensor.of(x))


# the call, and the same in NumPy on the numbers of the elements, where -1 is a zero
MOVES = {
    "view": (of(lambda x: x.view(4, -1)), lambda n: n.reshape(4, -1)),
    "view_as": (of(lambda x: x.view_as(np.ones(24))), lambda n: n.reshape(24)),
    "reshape": (lambda x: F.reshape(x, [3, 8]), lambda n: n.reshape(3, 8)),
    "ravel": (F.ravel, np.ravel),
    "flatten": (lambda x: F.flatten(x, 0, 1), lambda n: n.reshape(6, 4)),
    "unflatten": (lambda x: F.unflatten(x, -1, (2, -1)), lambda n: n.reshape(2, 3, 2, 2)),
    "clone": (F.clone, np.copy),
    "contiguous": (F.contiguous, np.copy),
    "expand": (of(lambda x: x[:, :1].expand(5, 2, 3, -1)), lambda n: n[None, :, [0] * 3][[0] * 5]),
    "repeat": (of(lambda x: x.repeat(2, 1, 3, 2)), lambda n: np.tile(n, (2, 1, 3, 2))),
    "tile": (of(lambda x: x.tile(3, 2)), lambda n: np.tile(n, (3, 2))),
    "repeat_interleave": (lambda x: F.repeat_interleave(x, 2), lambda n: n.repeat(2)),
    "repeat_interleave dim": (
        lambda x: F.repeat_interleave(x, np.array([2, 0, 1]), 1),
        lambda n: n.repeat([2, 0, 1], axis=1),
    ),
    "movedim": (lambda x: F.movedim(x, (0, 1), (-1, 0)), lambda n: np.moveaxis(n, (0, 1), (-1, 0))),
    "transpose": (lambda x: F.transpose(x, 0, -1), lambda n: n.swapaxes(0, -1)),
    "t": (of(lambda x: x[0].t()), lambda n: n[0].T),
    "T": (of(lambda x: x[0].T), lambda n: n[0].T),
    "mT": (of(lambda x: x.mT), lambda n: n.swapaxes(1, 2)),
    "permute": (of(lambda x: x.permute(2, 0, 1)), lambda n: n.transpose(2, 0, 1)),
    "flip": (of(lambda x: x.flip(0, -1)), lambda n: n[::-1, :, ::-1]),
    "fliplr": (F.fliplr, np.fliplr),
    "flipud": (F.flipud, np.flipud),
    "roll": (lambda x: F.roll(x, (1, -5), (0, 2)), lambda n: np.roll(n, (1, -5), (0, 2))),
    "roll all": (lambda x: F.roll(x, 27), lambda n: np.roll(n, 27)),
    "rot90": (lambda x: F.rot90(x, 1, (1, 2)), lambda n: np.rot90(n, 1, (1, 2))),
    "rot90 twice": (lambda x: F.rot90(x, -2), lambda n: np.rot90(n, -2)),
    "rot90 back": (lambda x: F.rot90(x, -1), lambda n: np.rot90(n, -1)),
    "narrow": (lambda x: F.narrow(x, 2, -3, 2), lambda n: n[:, :, 1:3]),
    "select": (lambda x: F.select(x, 1, -1), lambda n: n[:, -1]),
    "unbind": (lambda x: F.unbind(x, 2)[3], lambda n: n[..., 3]),
    "chunk": (lambda x: F.chunk(x, 3, 2)[1], lambda n: n[..., 2:4]),
    "tril": (lambda x: F.tril(x, -1), lambda n: np.tril(n + 1, -1) - 1),
    "triu": (lambda x: F.triu(x, 1), lambda n: np.triu(n + 1, 1) - 1),
    "diagonal": (lambda x: F.diagonal(x, -1, 2, 0), lambda n: n.diagonal(-1, 2, 0)),
    "diag of a matrix": (of(lambda x: F.diag(x[0], 1)), lambda n: np.diag(n[0], 1)),
    "diag of a vector": (of(lambda x: F.diag(x[0, 0], -2)), lambda n: np.diag(n[0, 0] + 1, -2) - 1),
    "stack": (of(lambda x: F.stack([x[0], x[1], x[0]], -1)), lambda n: np.stack([*n, n[0]], -1)),
    "cat": (of(lambda x: F.cat([x, x[:, :1]], 1)), lambda n: np.concatenate([n, n[:, :1]], 1)),
    "cat with nothing": (of(lambda x: F.cat([np.zeros(0, x.dtype), x[0]])), lambda n: n[0]),
    "hstack": (of(lambda x: F.hstack([x, x[:, :1]])), lambda n: np.hstack([n, n[:, :1]])),
    "hstack vectors": (of(lambda x: F.hstack(x[0].unbind())), lambda n: n[0].reshape(-1)),
    "vstack": (of(lambda x: F.vstack([x[0, 0], x[1]])), lambda n: np.vstack([n[0, 0], n[1]])),
    "meshgrid": (
        of(lambda x: F.meshgrid(x[0, 0], x[0, :, 0])[1]),
        lambda n: np.meshgrid(n[0, 0], n[0, :, 0], indexing="ij")[1],
    ),
    "meshgrid xy": (
        of(lambda x: F.meshgrid([x[0, 0], x[0, :, 0], x[:, 0, 0]], indexing="xy")[0]),
        lambda n: np.meshgrid(n[0, 0], n[0, :, 0], n[:, 0, 0])[0],
    ),
    "broadcast_tensors": (
        of(lambda x: F.broadcast_tensors(x[:, :1], x[0])[0]),
        lambda n: n[:, [0] * 3],
    ),
    # indexing: ints first, as in PyTorch; the axes of arrays in place if they are adjacent
    "list": (of(lambda x: x[[1, 0, 1]]), lambda n: n[[1, 0, 1]]),
    "array": (of(lambda x: x[:, I]), lambda n: n[:, I]),
    "negative": (of(lambda x: x[..., I - 3]), lambda n: n[..., I - 3]),
    "matrix": (of(lambda x: x[:, [[0, 2], [1, 1]]]), lambda n: n[:, [[0, 2], [1, 1]]]),
    "adjacent": (of(lambda x: x[None, :, I, [3, 3, 0]]), lambda n: n[None, :, I, [3, 3, 0]]),
    "apart": (of(lambda x: x[[1, 0, 1], :, I]), lambda n: n[[1, 0, 1], :, I]),
    "broadcast": (of(lambda x: x[[[1], [0]], 1:, I]), lambda n: n[[[1], [0]], 1:, I]),
    "int beside": (of(lambda x: x[1, :, [0, 3]]), lambda n: n[1][:, [0, 3]]),
    "int between": (of(lambda x: x[[0, 1], 2, [0, 3]]), lambda n: n[:, 2][[0, 1], [0, 3]]),
    "slices": (of(lambda x: x[1:, ::-2, I]), lambda n: n[1:, ::-2, I]),
    "number": (of(lambda x: x[:, np.array(1)]), lambda n: n[:, 1]),
    "nothing": (of(lambda x: x[:, []]), lambda n: n[:, :0]),
    "mask": (of(lambda x: x[:, MASK]), lambda n: n[:, MASK]),
    "mask of bools": (of(lambda x: x[[False, True], 1:]), lambda n: n[[False, True], 1:]),
    "wide mask": (of(lambda x: x[MASKS, 1:]), lambda n: n[MASKS, 1:]),
    "mask and array": (of(lambda x: x[:, MASK, [1, 1]]), lambda n: n[:, MASK, [1, 1]]),
    "masked_select": (lambda x: F.masked_select(x, MASKS[..., None]), lambda n: n[MASKS].ravel()),
    "index_select": (lambda x: F.index_select(x, 1, I), lambda n: n.take(I, 1)),
    "gather": (
        lambda x: F.gather(x, 1, I.reshape(1, 3, 1)[:, [0, 1, 2, 0]]),
        lambda n: n[:1, I[[0, 1, 2, 0]], :1],
    ),
}


@pytest.mark.parametrize(("call", "numbers"), MOVES.values(), ids=MOVES)
def test_each_element_comes_from_its_place(backend, call, numbers):
    """And its gradient goes there, once for each copy; whatever the memory order and the type."""
    x = normal(*X)
    found = evaluate_on(backend, call, x)
    places = numbers(np.arange(24).reshape(X))
    assert_matches(found.y, np.where(places < 0, 0, x.reshape(-1)[places]), "float64")
    dx = np.zeros(24)
    np.add.at(dx, places[places >= 0], found.dy[places >= 0])
    assert_matches(found.gradients[0], dx.reshape(X), "float64")
    y, pullback = xcnn.vjp(call, layouts(backend, x)["batch-last"])
    assert_matches(y, found.y)
    assert_matches(pullback(backend.asarray(found.dy))[0], dx.reshape(X))
    for dtype in ("int32", "bool"):
        whole = (np.arange(24).reshape(X) % 3).astype(dtype)
        y = call(backend.asarray(whole))
        assert y.dtype == dtype
        expected = np.where(places < 0, 0, whole.reshape(-1)[places])
        np.testing.assert_array_equal(y.numpy(), expected)


VIEWS = "view expand movedim transpose flip narrow select unbind chunk rot90"


@pytest.mark.parametrize("name", VIEWS.split())
def test_views(backend, name):
    x = backend.asarray(np.zeros(X))
    y = MOVES[name][0](x)
    x[...] = 1
    assert (y.numpy() == 1).all()


def test_copies(backend):
    x = layouts(backend, normal(2, 3, 4))["batch-last"]
    t = Tensor(x)
    assert t.clone().data.strides == x.strides
    assert t.contiguous().data.flags.c_contiguous
    assert t.contiguous().contiguous().data is not x
    plain = Tensor(backend.asarray(normal(3)))
    assert plain.contiguous() is plain
    assert plain.clone().data is not plain.data


# -- what several functions return -----------------------------------------------------------


def shapes(parts):
    return [p.shape for p in parts]


def test_numbers_of_parts(backend):
    x = Tensor(backend.asarray(normal(7, 2)))
    assert shapes(x.chunk(3)) == [(3, 2), (3, 2), (1, 2)]
    assert shapes(x.chunk(6)) == [(2, 2), (2, 2), (2, 2), (1, 2)]
    assert shapes(x[:0].chunk(3)) == [(0, 2)] * 3
    assert shapes(x.unbind(1)) == [(7,)] * 2
    assert shapes(F.meshgrid(x[:, 0], 3.0, indexing="xy")) == [(1, 7)] * 2
    assert shapes(F.broadcast_tensors(x, x[:1], 2.0)) == [(7, 2)] * 3


def test_of_a_number(backend):
    x = Tensor(backend.asarray(normal()))
    one = [x.flatten(), x.ravel(), x.reshape(-1), x.expand(1), x.repeat(1), F.hstack([x])]
    assert shapes(one) == [(1,)] * 6
    for y in (x.squeeze(0), x.transpose(0, -1), x.t(), x.roll(3), x.gather(0, 0)):
        assert y.shape == ()
    assert x.repeat_interleave(3).shape == x.expand(3).shape == (3,)


def test_nonzero(backend):
    x = np.arange(24).reshape(X) % 3
    t = Tensor(backend.asarray(x))
    for found in (t.nonzero(), F.argwhere(t), F.argwhere(x > 0)):
        assert found.dtype == "int64"
        np.testing.assert_array_equal(found.numpy(), np.argwhere(x))
    parts = F.nonzero(t, as_tuple=True)
    np.testing.assert_array_equal(t[parts].numpy(), x[x > 0])
    np.testing.assert_array_equal(np.stack([p.numpy() for p in F.where(t > 0)]), np.nonzero(x))
    assert Tensor(backend.asarray(np.array(2))).nonzero().shape == (1, 0)
    with xcnn.no_grad():
        assert not F.nonzero(normal(3)).requires_grad


# -- scatter and its kind --------------------------------------------------------------------


def scattered(x, dim, index, source, add):
    y = x.copy()
    for place in np.ndindex(index.shape):
        target = list(place)
        target[dim] = index[place]
        y[tuple(target)] = source[place] + (y[tuple(target)] if add else 0)
    return y


@pytest.mark.parametrize(
    ("function", "add"),
    [
        (F.scatter, False),
        (F.scatter_add, True),
        (lambda *a: F.scatter(*a, reduce="add"), True),
    ],
    ids=["scatter", "scatter_add", "reduce"],
)
@pytest.mark.parametrize("dim", [0, -1])
def test_scatter(backend, function, add, dim):
    x, source = normal(3, 4, 2), normal(3, 3, 2, seed=1)
    index = np.random.default_rng(2).permuted(np.tile([[0], [1], [2]], (1, 3))[..., None], axis=0)
    index = np.concatenate([index, index[::-1]], 2) if dim == 0 else index[:, :, :1] % 2
    index = index % 2 if add else index
    found = evaluate_on(backend, lambda a, b: function(a, dim, index, b), x, source)
    expected = scattered(x, dim, index, source, add)
    assert_matches(found.y, expected)
    replaced = scattered(np.zeros(x.shape), dim, index, np.ones(source.shape), False) > 0
    assert_matches(found.gradients[0], found.dy if add else np.where(replaced, 0, found.dy))
    along = np.zeros(source.shape)
    for place in np.ndindex(index.shape):
        target = list(place)
        target[dim] = index[place]
        along[place] = found.dy[tuple(target)]
    assert_matches(found.gradients[1], along)


def test_numbers_are_scattered(backend):
    x = backend.asarray(np.zeros((2, 3)))
    index = np.array([[2], [0]])
    for y in (F.scatter(x, 1, index, 5), F.scatter(x, 1, index, value=5.0)):
        assert_matches(y, [[0, 0, 5], [5, 0, 0]])
    assert_matches(F.masked_fill(x, backend.asarray(MASK), 3), [[3, 0, 3]] * 2)
    assert_matches(F.index_put(x, ([1, 0], [0, 2]), 4), [[0, 0, 4], [4, 0, 0]])
    assert_matches(F.index_put(x, ([0, 0], [1, 1]), 4, accumulate=True), [[0, 8, 0], [0] * 3])


def test_the_value_that_fills_gets_each_element_once(backend):
    x, value = normal(2, 3), np.array(0.5)
    found = evaluate_on(backend, lambda a, b: F.masked_fill(a, backend.asarray(MASK), b), x, value)
    assert_matches(found.gradients[1], found.dy[:, [0, 2]].sum())
    assert_matches(found.gradients[0], found.dy * [0, 1, 0])


# -- sums of rows ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
@pytest.mark.parametrize(
    ("rows", "width", "count"), [(0, 2, 3), (1, 1, 1), (37, 3, 5), (64, 0, 2), (50, 2, 200)]
)
def test_sum_rows(backend, dtype, rows, width, count):
    rng = np.random.default_rng(0)
    places, values = rng.integers(0, count, rows), rng.integers(0, 9, (rows, width)).astype(dtype)
    expected = np.zeros((count, width), dtype)
    np.add.at(expected, places, values)
    arguments = backend.asarray(values), backend.asarray(places), count
    for sums in (backend.sum_rows(*arguments), Backend.sum_rows(backend, *arguments)):
        assert sums.dtype == dtype
        np.testing.assert_array_equal(backend.to_host(sums), expected)


def test_gradients_of_half_types_are_summed_in_float32(evaluate):
    """4096 is the last number to which float16 can add 1; here all fall on one element."""
    index = np.zeros(5000, "int64")
    found = evaluate(lambda x: F.index_select(x, 0, index), np.ones((1, 1), "float16"))
    assert_matches(found.gradients[0], [[found.dy.sum(dtype="float64")]], "float16")


# -- tensor[index] = value -------------------------------------------------------------------

ASSIGNMENTS = {
    "int": (1, lambda a: a.__setitem__(1, 7)),
    "slices": (np.s_[:, ::-2], lambda a: a.__setitem__(np.s_[:, ::-2], 7)),
    "array": (np.s_[:, I[:2]], lambda a: a.__setitem__(np.s_[:, [2, 0]], 7)),
    "apart": (np.s_[[0, 1], :, [3, 3]], lambda a: a.__setitem__(np.s_[[0, 1], :, [3, 3]], 7)),
    "mask": (MASKS, lambda a: a.__setitem__(MASKS, 7)),
    "int beside": (np.s_[1, :, [0, 3]], lambda a: a[1].__setitem__(np.s_[:, [0, 3]], 7)),
}


@pytest.mark.parametrize(("index", "assign"), ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_assignment(backend, index, assign):
    x = normal(*X, dtype="float32")
    t = Tensor(backend.asarray(x.copy()))
    t[index] = 7
    assign(x)
    assert_matches(t, x, "float32")
    part = normal(*t[index].shape, seed=1)
    t[index] = backend.asarray(part)
    assert_matches(t[index], part, "float32")


def test_assignment_of_rows_that_broadcast(backend):
    """To the shape that reading with the same index has."""
    t = Tensor(backend.asarray(np.zeros(X)))
    t[:, [0, 2]] = backend.asarray(np.arange(4.0))
    np.testing.assert_array_equal(
        t.numpy(), np.arange(4) * np.array([1, 0, 1])[None, :, None] * np.ones(X)
    )
    with pytest.raises(ShapeError, match=r"\(3,\): expected one that broadcasts"):
        t[:, [0, 2]] = backend.asarray(np.arange(3.0))


def test_a_mask_of_all_axes_is_filled_without_a_wait(strict):
    t = Tensor(strict.asarray(normal(*X)))
    mask = Tensor(strict.asarray(normal(*X) > 0))
    with count_syncs() as syncs:
        t[mask] = 0
        xcnn.functional.masked_fill(t, mask, 1)
    assert syncs == []
    assert_matches(t, np.minimum(normal(*X), 0))


def test_what_cannot_be_assigned(backend):
    leaf = xcnn.Parameter(backend.asarray(normal(3)))
    plain = Tensor(backend.asarray(normal(3)))
    for target, value in ((leaf, 0), (leaf * 2, 0), (plain, leaf[0])):
        with pytest.raises(GradientError, match="masked_fill, where, index_put"):
            target[0] = value
    with xcnn.no_grad():
        leaf[0] = 5
    assert leaf[0].item() == 5
    with pytest.raises(ArgumentError, match=r"share memory.*clone"):
        plain.expand(2, 3)[0] = 1
    with pytest.raises(OutOfRangeError, match=r"shape \(3,\)"):
        plain[5] = 1


# -- errors ----------------------------------------------------------------------------------

ERRORS = [
    (lambda x: x.view("int64"), ArgumentError, "astype"),
    (lambda x: x.view(np.dtype("int64")), ArgumentError, "astype"),
    (lambda x: x.reshape(2.0, 3), ArgumentError, "shape="),
    (lambda x: x.unflatten(1, (2, 2)), ShapeError, "3 elements.*does not fit"),
    (lambda x: x.unflatten(0, (-1, -1)), ShapeError, "does not fit"),
    (lambda x: x.expand(3, 3), ShapeError, r"\(2, 3\) does not broadcast to \(3, 3\)"),
    (lambda x: x.expand(3), ShapeError, "does not broadcast"),
    (lambda x: x.expand(-1, 2, 3), ShapeError, "does not broadcast"),
    (lambda x: x.repeat(2), ShapeError, "one for each axis"),
    (lambda x: x.tile(-1), ArgumentError, "dims="),
    (lambda x: x.movedim((0, 1), 0), ShapeError, "as many of each"),
    (lambda x: x.unsqueeze(0).t(), ShapeError, "at most two axes"),
    (lambda x: F.stack([x, x[0]]), ShapeError, "differ"),
    (lambda x: F.stack([]), ShapeError, "stack: tensors is empty"),
    (lambda x: F.hstack(x), ArgumentError, "list or a tuple"),
    (lambda x: F.meshgrid(x), ShapeError, "one axis at most"),
    (lambda x: F.meshgrid(x[0], indexing="yx"), ArgumentError, "indexing="),
    (lambda x: F.broadcast_tensors(x, x[:, :2]), ShapeError, "do not broadcast"),
    (lambda x: x.narrow(1, 2, 2), OutOfRangeError, "start=2, length=2.*length 3"),
    (lambda x: x.select(1, 3), OutOfRangeError, r"shape \(2, 3\)"),
    (lambda x: x.chunk(0), ArgumentError, "chunks=0"),
    (lambda x: x.roll((1, 2), 0), ArgumentError, "as many of each"),
    (lambda x: x.rot90(1, (0,)), ArgumentError, "two axes"),
    (lambda x: x.repeat_interleave([1, 2], 1), ShapeError, "2 repeats"),
    (lambda x: x.repeat_interleave(2, 1, output_size=5), ShapeError, "output_size=5"),
    (lambda x: x.repeat_interleave(-1), ArgumentError, "repeats=-1: expected ints"),
    (lambda x: x[0].tril(), ShapeError, "expected a matrix"),
    (lambda x: x.diagonal(0, 1, 1), ShapeError, "each axis once"),
    (lambda x: F.diag(x[None]), ShapeError, "one axis or two"),
    (lambda x: x.gather(1, np.zeros((3, 1), int)), ShapeError, "gather: index has shape"),
    (lambda x: x.gather(1, np.zeros((2, 1))), DTypeError, "gather: an index is float64"),
    (lambda x: x.index_select(0, [[0]]), ShapeError, "index_select"),
    (lambda x: x.scatter(1, [[0]], x, reduce="multiply"), ArgumentError, "reduce='multiply'"),
    (lambda x: x.scatter(1, [[0]]), ArgumentError, "either src or value"),
    (lambda x: x.scatter(1, [[0, 1]], x[:, :1]), ShapeError, "too small"),
    (lambda x: x.index_put([0], 1), ArgumentError, "tuple of arrays"),
    (lambda x: x.index_put(([0, 1],), x[0, :2]), ShapeError, "index_put: values"),
    (lambda x: x.masked_fill([True, False, True], x), ShapeError, "expected a number"),
    (lambda x: x.masked_select(x), DTypeError, "expected bool"),
    (
        lambda x: (x > 0).nonzero().masked_fill(x[0, :2] > 9, 0.5),
        DTypeError,
        "value would make it float32",
    ),
    (lambda x: (x > 0).nonzero().scatter(0, [[0]], np.inf), DTypeError, "values is float32"),
    (lambda x: (x > 0).nonzero().scatter(0, [[0]], 2**70), DTypeError, "too large for int64"),
]


@pytest.mark.parametrize(("call", "error", "text"), ERRORS)
def test_errors(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(Tensor(backend.asarray(normal(2, 3))))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: x[[0, 3]], "indexing: index 3 is out of range for an axis of length 3"),
        (lambda x: x[:, [-3]], "indexing: index -3.*length 2: expected -2 to 1"),
        (lambda x: x.gather(0, [[-1]]), "gather: index -1.*length 3: expected 0 to 2"),
        (lambda x: x.scatter(1, [[2]], 1), "scatter: index 2.*length 2"),
        (lambda x: x.index_select(0, [3]), "index_select: index 3.*length 3"),
        (lambda x: x.index_put(([0, 5],), 1), "index 5"),
    ],
)
def test_indices_out_of_range(call, text):
    """On the CPU; a GPU would have to wait for the check."""
    with pytest.raises(OutOfRangeError, match=text):
        call(Tensor(normal(3, 2)))


def test_an_index_on_another_device(strict):
    on_host, on_device = Tensor(normal(3)), Tensor(strict.asarray(np.array([0, 2])))
    with pytest.raises(DeviceError, match="the index is on strict, the input on cpu"):
        on_host[on_device]
    assert on_device[np.array([1, 1])].numpy().tolist() == [2, 2]
    assert backends.of(on_device[[1]].data) is strict


def test_a_tensor_as_a_sequence(backend):
    t = Tensor(backend.asarray(np.arange(6.0).reshape(3, 2)))
    assert len(t) == 3
    assert [row.numpy().tolist() for row in t] == [[0, 1], [2, 3], [4, 5]]
    pairs = itertools.pairwise(t.unbind())
    assert [(b - a).numpy().tolist() for a, b in pairs] == [[2, 2], [2, 2]]
