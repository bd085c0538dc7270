"""Reductions, sorting and Einstein's notation, against PyTorch and by hand."""

import math

import numpy as np
import pytest

import xcnn.functional as F
from xcnn import Tensor
from xcnn.errors import ArgumentError, DTypeError, ShapeError

from .conftest import assert_matches, evaluate_on, layouts, normal
from .strict import forbid_float64

INF, NAN = math.inf, math.nan


def ties(*shape):
    """Quarters: many are alike, some are 0."""
    return np.round(normal(*shape) * 2) / 4


X = normal(3, 4, 5)
SPECIAL = np.array([[1, NAN, 2, NAN], [INF, 1, -INF, 2], [-INF] * 4, [0, -0.0, 3, 3]])
ZEROS = np.array([[1.5, 0, -2, 3], [0, 2, 0, 1], [2, 3, 0.5, 1], [0, 0, 0, 0]])

# The same call on F and on torch, and its arrays.
CALLS = {
    "sum": (lambda m, x: m.sum(x, (0, 2), True), [X]),
    "sum of all": (lambda m, x: m.sum(x, ()), [X]),
    "mean": (lambda m, x: m.mean(x, -1), [X]),
    "mean of a number": (lambda m, x: m.mean(x, -1), [X[0, 0, 0]]),
    "nansum": (lambda m, x: m.nansum(x, 1), [SPECIAL[:1]]),
    "nanmean": (lambda m, x: m.nanmean(x, 1), [np.array([[1, NAN, 3], [NAN, NAN, NAN]])]),
    "prod": (lambda m, x: m.prod(x, 1), [ZEROS]),
    "prod of all": (lambda m, x: m.prod(x), [X]),
    "amax": (lambda m, x: m.amax(x, (0, 2)), [ties(3, 4, 5)]),
    "amax of NaN": (lambda m, x: m.amax(x, 1, True), [SPECIAL]),
    "amin": (lambda m, x: m.amin(x), [ties(3, 4, 5)]),
    "max": (lambda m, x: m.max(x), [ties(3, 4, 5)]),
    "max of NaN": (lambda m, x: m.max(x), [SPECIAL]),
    "max along": (lambda m, x: m.max(x, 1), [ties(3, 4, 5)]),
    "max of a number": (lambda m, x: m.max(x, 0, True), [X[0, 0, 0]]),
    "max of two": (lambda m, x, y: m.max(x, y), [ties(3, 4), ties(4)]),
    "min along": (lambda m, x: m.min(x, -2, keepdim=True), [ties(3, 4, 5)]),
    "min of NaN along": (lambda m, x: m.min(x, 1), [SPECIAL]),
    "min of two": (lambda m, x, y: m.min(x, other=y), [ties(3, 4), ties(4)]),
    "argmax": (lambda m, x: m.argmax(x, 1), [X]),
    "argmin of all": (lambda m, x: m.argmin(x, keepdim=True), [X]),
    "all": (lambda m, x: m.all(x, 1), [ZEROS]),
    "any": (lambda m, x: m.any(x, 0, True), [SPECIAL]),
    "any of all": (lambda m, x: m.any(x), [ZEROS]),
    "count_nonzero": (lambda m, x: m.count_nonzero(x, (0, 1)), [ZEROS]),
    "var": (lambda m, x: m.var(x, (0, 2)), [X]),
    "var biased": (lambda m, x: m.var(x, False), [X]),
    "var of one": (lambda m, x: m.var(x, 1, correction=2, keepdim=True), [X[:, :3]]),
    "std": (lambda m, x: m.std(x, 1, False, True), [X]),
    "std of equal numbers": (lambda m, x: m.std(x, 1), [np.ones((2, 3))]),
    "var_mean": (lambda m, x: m.var_mean(x, 1, correction=0), [X]),
    "std_mean": (lambda m, x: m.std_mean(x, dim=(1, 2), keepdim=True), [X]),
    "norm": (lambda m, x: m.norm(x), [X]),
    "norm of zeros": (lambda m, x: m.norm(x, 2, 1), [ZEROS]),
    "logsumexp": (lambda m, x: m.logsumexp(x, (0, 1), True), [X * 100]),
    "logsumexp special": (lambda m, x: m.logsumexp(x, 1), [SPECIAL]),
    "cumsum": (lambda m, x: m.cumsum(x, 1), [X]),
    "cumsum of a number": (lambda m, x: m.cumsum(x, -1), [X[0, 0, 0]]),
    "any along nothing": (lambda m, x: m.any(x, ()), [ZEROS]),
    "median": (lambda m, x: m.median(x), [ties(3, 4)]),
    "median of NaN": (lambda m, x: m.median(x), [SPECIAL]),
    "median along": (lambda m, x: m.median(x, 1), [X]),
    "median of NaN along": (lambda m, x: m.median(x, 1, True), [SPECIAL[:2]]),
    "sort": (lambda m, x: m.sort(x, dim=1, stable=True), [np.tile(ties(3, 4), 2)]),
    "sort down": (
        lambda m, x: m.sort(x, dim=0, descending=True, stable=True),
        [np.tile(ties(3, 4), (2, 1))],
    ),
    "sort of NaN": (lambda m, x: m.sort(x, stable=True, descending=True), [SPECIAL]),
    "argsort": (lambda m, x: m.argsort(x, dim=0, descending=True, stable=True), [ties(5, 4)]),
    "topk": (lambda m, x: m.topk(x, 2, 1), [X]),
    "topk smallest": (lambda m, x: m.topk(x, 3, largest=False), [X]),
    "topk of a number": (lambda m, x: m.topk(x, 1), [X[0, 0, 0]]),
    "matmul vectors": (lambda m, a, b: m.matmul(a, b), [X[0, 0], X[1, 1]]),
    "matmul row": (lambda m, a, b: m.matmul(a, b), [X[0, :, 0], X]),
    "matmul column": (lambda m, a, b: m.matmul(a, b), [X[:, None], X[0, 0]]),
    "outer": (lambda m, a, b: m.outer(a, b), [X[0, 0], X[0, :, 0]]),
}
NORMS = [0, 0.5, 1, 2, 3.5, -1, INF, -INF]
EQUATIONS = {
    "ij->": [(3, 4)],
    "ij->ji": [(3, 4)],
    "ii": [(3, 3)],
    "iji->ij": [(3, 2, 3)],
    "ij,jk": [(3, 4), (4, 2)],
    "ij,ij->ij": [(3, 4), (3, 4)],
    "ij,ij->i": [(3, 4), (1, 4)],
    "i,j->ji": [(3,), (4,)],
    "b i j, b j k -> b k i": [(2, 3, 4), (2, 4, 5)],
    "bhqd,bhkd->bhqk": [(2, 3, 4, 5), (2, 3, 2, 5)],
    "...ij,...jk": [(2, 1, 3, 4), (3, 4, 2)],
    "i...,i...->...": [(3, 2), (3, 2)],
    "ia...,bi->...ab": [(3, 2, 4, 1), (5, 3)],
    "...i->i": [(2, 3, 4)],
    "i,i,i->i": [(4,), (4,), (4,)],
    "ab,bc,cd,de->ea": [(2, 7), (7, 3), (3, 6), (6, 2)],
    "aab,bc,c->a": [(2, 2, 3), (3, 4), (4,)],
    ",i->i": [(), (3,)],
    "i,ij,kj->k": [(0,), (0, 3), (2, 3)],
}


def results(found):
    return list(found) if isinstance(found, tuple | list) else [found]


def compare_with_torch(backend, call, arrays):
    """Values, dtypes and gradients, for contiguous and for batch-last arrays."""
    torch = pytest.importorskip("torch")
    arrays = [np.asarray(a, "float32") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    wanted = results(call(torch, *theirs))
    differentiable = [y for y in wanted if y.requires_grad]
    seeds = [normal(*y.shape, seed=i, dtype="float32") for i, y in enumerate(differentiable)]
    if differentiable:
        torch.autograd.backward(differentiable, [torch.tensor(s) for s in seeds])
    for layout in ("contiguous", "batch-last"):
        moved = [layouts(backend, a) for a in arrays]
        ours = [Tensor(m.get(layout, m["contiguous"]), True) for m in moved]
        with forbid_float64():
            found = results(call(F, *ours))
            for y, seed in zip([y for y in found if y.requires_grad], seeds, strict=False):
                y.backward(backend.asarray(seed), retain_graph=True)
        assert len(found) == len(wanted)
        for y, expected in zip(found, wanted, strict=True):
            expected = expected.detach().numpy()
            assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
            if expected.dtype == "float32":
                assert_matches(y, expected, factor=5)
            else:
                assert (y.numpy() == expected).all()
        for t, their in zip(ours, theirs, strict=True):
            expected = np.zeros(t.shape) if their.grad is None else their.grad.numpy()
            grad = np.zeros(t.shape, "float32") if t.grad is None else Tensor.of(t.grad).numpy()
            assert_matches(grad, expected, factor=5)


@pytest.mark.filterwarnings("ignore:var|std")  # PyTorch's, of too few elements
@pytest.mark.parametrize(("call", "arrays"), CALLS.values(), ids=CALLS)
def test_as_in_pytorch(backend, call, arrays):
    compare_with_torch(backend, call, arrays)


@pytest.mark.parametrize("p", NORMS)
def test_norms_as_in_pytorch(backend, p):
    for x in (X, ties(3, 4, 5), np.zeros((2, 3))):
        compare_with_torch(backend, lambda m, x: m.norm(x, p, 1), [x])


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_as_in_pytorch(backend, equation):
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(EQUATIONS[equation])]
    compare_with_torch(backend, lambda m, *a: m.einsum(equation, *a), arrays)


def test_einsum_of_a_list_and_of_nan_beside_a_diagonal(backend):
    x = np.array([[1, NAN], [INF, 2]], "float32")
    assert_matches(F.einsum("ii->i", [backend.asarray(x)]), [1, 2])


def test_bilinear(backend):
    """Number by number."""
    a, b, w, c = normal(2, 3), normal(2, 4), normal(5, 3, 4), normal(5)
    found = evaluate_on(backend, F.bilinear, a, b, w, c)
    wanted = np.zeros((2, 5))
    for n, o in np.ndindex(2, 5):
        wanted[n, o] = c[o] + sum(a[n, i] * w[o, i, j] * b[n, j] for i, j in np.ndindex(3, 4))
    assert_matches(found.y, wanted)


def test_unique(backend):
    x = np.array([[3.0, 1, NAN], [1, -2, NAN]], "float32")
    values, inverse, counts = F.unique(backend.asarray(x), True, True, True)
    np.testing.assert_array_equal(values.numpy(), np.float32([-2, 1, 3, NAN, NAN]))
    assert counts.numpy().tolist() == [1, 2, 1, 1, 1]
    assert inverse.numpy()[:, :2].tolist() == [[2, 1], [1, 0]]
    rows = F.unique(backend.asarray(np.float32([[2, 1], [0, 5], [2, 1]])), dim=0)
    assert rows.numpy().tolist() == [[0, 5], [2, 1]]


def test_integers_and_bools(backend):
    """Sums are int64, extremes keep the dtype, as in PyTorch; means and moments are refused."""
    for dtype in ("int32", "uint8", "bool"):
        x = backend.asarray(np.array([[1, 0, 1], [1, 1, 1]], dtype))
        for y, wanted in (
            (F.sum(x, 1), [2, 3]),
            (F.prod(x, 1), [0, 1]),
            (F.cumsum(x, 1), [[1, 1, 2], [1, 2, 3]]),
            (F.count_nonzero(x, 1), [2, 3]),
            (F.argmax(x, 1), [0, 0]),
            (F.argsort(x, 1), [[1, 0, 2], [0, 1, 2]]),
        ):
            assert y.dtype == "int64"
            assert y.numpy().tolist() == wanted
        for y in (F.amax(x, 1), F.max(x, 1).values, F.max(x), F.sort(x).values, F.unique(x)):
            assert y.dtype == dtype
        for function in (F.mean, F.var, F.std, F.norm, F.nanmean):
            with pytest.raises(DTypeError, match="astype"):
                function(x)
    product = F.matmul(backend.asarray([[1, 2], [3, 4]]), backend.asarray([5, 6]))
    assert product.numpy().tolist() == [17, 39]


def test_dtype_is_that_of_the_sum(backend):
    half = backend.asarray(np.full(9, 8192.0, "float16"))
    for function in (F.sum, F.nansum):
        assert function(half, dtype="float32").item() == 9 * 8192
    assert F.mean(half, dtype="float64").dtype == "float64"
    assert F.sum(backend.asarray([1, 2]), dtype="int32").dtype == "int32"
    assert F.prod(backend.asarray([True, False]), dtype="bool").dtype == "bool"
    assert F.norm(half, dtype="float32").item() == 3 * 8192
    assert F.cumsum(half, 0, dtype="float32").numpy()[-1] == 9 * 8192


def test_float16_accumulates_in_float32(backend):
    """Each intermediate sum is infinite in float16."""
    x = np.full(200_000, 100.5, "float16")
    on_device = backend.asarray(x)
    assert F.mean(on_device).item() == 100.5
    assert F.var(on_device).item() == F.std(on_device).item() == 0
    assert F.nanmean(on_device).item() == 100.5
    assert F.norm(backend.asarray(x[:10]), 3).dtype == "float16"
    assert_matches(F.norm(backend.asarray(x[:10]), 3), 100.5 * 10 ** (1 / 3), "float16")
    assert_matches(F.logsumexp(on_device, 0), 100.5 + math.log(200_000), "float16")


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda x: F.sum(x, 0), [0, 0]),
        (lambda x: F.prod(x, 0), [1, 1]),
        (lambda x: F.mean(x, 0), [NAN, NAN]),
        (lambda x: F.var(x, 0), [NAN, NAN]),
        (lambda x: F.std(x), NAN),
        (lambda x: F.norm(x, 2, 0), [0, 0]),
        (lambda x: F.logsumexp(x, 0), [-INF, -INF]),
        (lambda x: F.median(x), NAN),
        (lambda x: F.all(x, 0), [True, True]),
        (lambda x: F.any(x, 0), [False, False]),
        (lambda x: F.cumsum(x, 0), np.zeros((0, 2))),
        (lambda x: F.sort(x, 0).values, np.zeros((0, 2))),
        (lambda x: F.topk(x, 0, 0).indices, np.zeros((0, 2))),
        (lambda x: F.amax(x, 1), []),
        (lambda x: F.argmax(x, 1), []),
        (lambda x: F.unique(x), []),
    ],
)
def test_of_nothing(backend, call, wanted):
    y = call(backend.asarray(np.zeros((0, 2), "float32"))).numpy()
    np.testing.assert_array_equal(y, np.asarray(wanted))


EMPTY = np.zeros((0, 2))
ERRORS = {
    "amax of nothing": (lambda a: F.amax(a(EMPTY), 0), ShapeError, "amax.*no elements along"),
    "max of nothing": (lambda a: F.max(a(EMPTY), 0), ShapeError, "max.*no elements along"),
    "argmin of nothing": (lambda a: F.argmin(a(EMPTY)), ShapeError, "min.*no elements along"),
    "median of nothing": (lambda a: F.median(a(EMPTY), 0), ShapeError, "median.*no elements"),
    "norm of nothing": (lambda a: F.norm(a(EMPTY), INF), ShapeError, "norm.*no elements along"),
    "dim": (lambda a: F.max(a(X), 3), ShapeError, "dim=3: there are 3 axes"),
    "dim twice": (lambda a: F.var(a(X), (0, -3)), ShapeError, "each axis once"),
    "dims": (lambda a: F.cumsum(a(X), (0, 1)), ArgumentError, "dim=.*expected an int"),
    "keepdim": (lambda a: F.amax(a(X), 0, "yes"), ArgumentError, "keepdim='yes'"),
    "correction": (lambda a: F.var(a(X), correction="n"), ArgumentError, "correction='n'"),
    "p": (lambda a: F.norm(a(X), "nuc"), ArgumentError, "p='nuc'"),
    "k": (lambda a: F.topk(a(X), 6), ArgumentError, "k=6: expected at most 5"),
    "dot": (lambda a: F.dot(a(X[0]), a(X[0])), ShapeError, "dot: .*expected 1 and 1 axes"),
    "bmm": (lambda a: F.bmm(a(X[:1]), a(X)), ShapeError, "bmm: .*one batch size"),
    "outer": (lambda a: F.outer(a(X), a(X)), ShapeError, "outer: "),
    "sublists": (lambda a: F.einsum(a(X), [0, 1, 2]), ArgumentError, "lists of ints"),
    "equation": (lambda a: F.einsum("i1,j", a(X), a(X)), ArgumentError, "expected letters"),
    "terms": (lambda a: F.einsum("ij,jk->ik", a(X[0])), ShapeError, "does not fit"),
    "axes": (lambda a: F.einsum("ij->i", a(X)), ShapeError, "does not fit"),
    "lengths": (lambda a: F.einsum("ij,ij", a(X[0]), a(X[0, :2])), ShapeError, "4 and 2 differ"),
    "unknown": (lambda a: F.einsum("ij->ik", a(X[0])), ArgumentError, "each letter of the result"),
    "twice": (lambda a: F.einsum("ij->ii", a(X[0])), ArgumentError, "each letter of the result"),
}


@pytest.mark.parametrize(("call", "error", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(backend.asarray)


def test_methods(backend):
    t = Tensor(backend.asarray(np.array([[3.0, 1], [2, 5]])))
    assert t.max().item() == 5
    assert t.max(1).indices.numpy().tolist() == [0, 1]
    assert t.min(dim=0).values.numpy().tolist() == [2, 1]
    assert t.argmax().item() == 3
    assert t.std(0, unbiased=False).numpy().tolist() == [0.5, 2]
    assert t.sort(-1, descending=True)[0].numpy().tolist() == [[3, 1], [5, 2]]
    assert t.mv(backend.asarray(np.ones(2))).numpy().tolist() == [4, 7]
