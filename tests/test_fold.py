"""unfold, fold and the sliding windows of Tensor.unfold against naive loops and PyTorch."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import Tensor, nn
from xcnn.errors import ArgumentError, ShapeError

from . import oracles
from .conftest import assert_matches, is_batch_last, layouts, normal

# size of the image, kernel_size, dilation, padding, stride
SETTINGS = [
    ((4, 5), 2, 1, 0, 1),
    ((4, 5), (3, 2), (1, 2), (0, 1), (2, 1)),
    ((1, 3), (1, 3), 1, 0, 1),
    ((5, 4), 3, 2, 2, (1, 3)),
    ((6, 6), 2, 1, 0, 3),
]
settings = pytest.mark.parametrize(("size", "arguments"), [(s, a) for s, *a in SETTINGS], ids=str)


@settings
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unfold(evaluate, size, arguments, dtype):
    x = normal(2, 3, *size, dtype=dtype)
    names = dict(zip(("kernel_size", "dilation", "padding", "stride"), arguments, strict=True))
    found = evaluate(F.unfold, x, **names)
    assert_matches(found.y, oracles.unfold(x, *arguments), dtype)
    assert_matches(found.gradients[0], oracles.fold(found.dy, x.shape, *arguments), dtype)
    assert_matches(F.unfold(x[0], *arguments), oracles.unfold(x, *arguments)[0], dtype)
    assert_matches(nn.Unfold(*arguments)(x), oracles.unfold(x, *arguments), dtype)


@settings
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fold(evaluate, size, arguments, dtype):
    shape = 2, 3, *size
    columns = normal(*oracles.unfold(np.zeros(shape), *arguments).shape, dtype=dtype)
    names = dict(zip(("kernel_size", "dilation", "padding", "stride"), arguments, strict=True))
    found = evaluate(F.fold, columns, output_size=size, **names)
    expected = oracles.fold(columns, shape, *arguments)
    assert_matches(found.y, expected, dtype)
    assert_matches(found.gradients[0], oracles.unfold(found.dy, *arguments), dtype)
    assert_matches(F.fold(columns[1], size, *arguments), expected[1], dtype)
    assert_matches(nn.Fold(size, *arguments)(columns), expected, dtype)


@settings
def test_pytorch(size, arguments):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, *size)
    columns = torch.nn.functional.unfold(torch.tensor(x), *arguments)
    assert_matches(F.unfold(x, *arguments), columns.numpy())
    image = torch.nn.functional.fold(columns, size, *arguments)
    assert_matches(F.fold(columns.numpy(), size, *arguments), image.numpy())


@pytest.mark.parametrize("layout", ["contiguous", "batch-last", "strided", "reversed"])
def test_memory(backend, layout):
    x = normal(3, 2, 4, 5)
    y, pullback = xcnn.vjp(lambda x: F.unfold(x, 2, padding=1), layouts(backend, x)[layout])
    assert_matches(y, oracles.unfold(x, 2, 1, 1, 1))
    assert is_batch_last(y)
    dy = normal(*y.shape, seed=1)
    (dx,) = pullback(layouts(backend, dy)[layout])
    assert_matches(dx, oracles.fold(dy, x.shape, 2, 1, 1, 1))
    assert is_batch_last(dx)


def test_a_batch_of_none(backend):
    x = backend.asarray(np.zeros((0, 2, 4, 5), "float32"))
    y = F.unfold(x, 2)
    assert y.shape == (0, 8, 12)
    assert F.fold(y, (4, 5), 2).shape == x.shape


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.unfold(normal(4, 5), 2), ShapeError, r"expected \(N, C, H, W\)"),
        (lambda: F.unfold(normal(1, 4, 5), 6), ShapeError, "smaller than the kernel"),
        (lambda: F.unfold(normal(1, 4, 5), 2, padding="same"), ArgumentError, "padding='same'"),
        (lambda: F.fold(normal(1, 7, 12), (4, 5), 2), ShapeError, r"\(N, C·4, 12\)"),
        (lambda: F.fold(normal(1, 8, 11), (4, 5), 2), ShapeError, r"\(N, C·4, 12\)"),
        (lambda: nn.Fold(0, 2), ArgumentError, "output_size=0"),
        (lambda: Tensor(normal(3)).unfold(0, 4, 1), ShapeError, "has fewer elements"),
        (lambda: Tensor(normal(3)).unfold(1, 2, 1), ShapeError, "dimension=1"),
        (lambda: Tensor(normal(3)).unfold(0, 2, 0), ArgumentError, "step=0"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("layout", ["contiguous", "batch-last", "strided", "reversed"])
@pytest.mark.parametrize(("dim", "size", "step"), [(0, 2, 1), (1, 3, 2), (-1, 1, 4), (2, 5, 1)])
def test_sliding_windows(backend, layout, dim, size, step):
    x = normal(3, 4, 5)
    array = layouts(backend, x)[layout]
    y, pullback = xcnn.vjp(lambda x: Tensor.of(x).unfold(dim, size, step), array)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, dim)
    index = [slice(None)] * 4
    index[dim % 3] = slice(None, None, step)
    assert_matches(y, windows[tuple(index)])
    dy = normal(*y.shape, seed=1)
    expected = np.zeros(x.shape)
    for place in np.ndindex(dy.shape):
        source = list(place[:3])
        source[dim % 3] = source[dim % 3] * step + place[3]
        expected[tuple(source)] += dy[place]
    assert_matches(pullback(backend.asarray(dy))[0], expected)


def test_sliding_windows_are_a_view_of_any_dtype():
    x = np.arange(6)
    y = Tensor(x).unfold(0, 3, 1)
    assert np.shares_memory(y.data, x)
    assert y.numpy().tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert Tensor(np.array(7.0)).unfold(0, 1, 1).shape == (1,)
