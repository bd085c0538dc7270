"""grid_sample and affine_grid against naive loops and PyTorch."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, layouts, normal

PADDINGS = ["zeros", "border", "reflection"]
# spatial axes of the input and of the grid, and modes
IMAGES = ((3, 4), (2, 5)), ((1, 3), (4, 1)), ((2, 1), (3, 2))
VOLUMES = (((2, 3, 2), (2, 1, 3)),)
CASES = [
    *((mode, *sizes) for mode in ("bilinear", "nearest", "bicubic") for sizes in IMAGES),
    *((mode, *sizes) for mode in ("bilinear", "nearest") for sizes in VOLUMES),
]
cases = pytest.mark.parametrize(("mode", "size", "output"), CASES, ids=str)
paddings = pytest.mark.parametrize("padding", PADDINGS)


def positions(*shape, dtype="float64"):
    """Positions inside and outside, some beyond the second reflection."""
    return np.random.default_rng(3).uniform(-2.8, 2.8, shape).astype(dtype)


@cases
@paddings
@pytest.mark.parametrize("corners", [False, True])
def test_naive_loop(backend, mode, size, output, padding, corners):
    x, grid = normal(2, 3, *size), positions(2, *output, len(size))
    y = F.grid_sample(backend.asarray(x), backend.asarray(grid), mode, padding, corners)
    assert_matches(y, oracles.grid_sample(x, grid, mode, padding, corners))


@cases
@paddings
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pytorch(backend, mode, size, output, padding, corners, dtype):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, *size, dtype=dtype)
    grid = positions(2, *output, len(size), dtype=dtype)
    settings = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    found = evaluate_on(backend, F.grid_sample, x, grid, **settings)
    peers = [torch.tensor(a, requires_grad=True) for a in (x, grid)]
    y = torch.nn.functional.grid_sample(*peers, **settings)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy(), dtype, factor=4)
    for gradient, peer in zip(found.gradients, peers, strict=True):
        assert_matches(gradient, peer.grad.numpy(), dtype, factor=20)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@paddings
def test_gradcheck(backend, mode, padding):
    x, grid = backend.asarray(normal(2, 2, 3, 4)), backend.asarray(positions(2, 3, 2, 2))
    assert gradcheck(F.grid_sample, x, grid, mode=mode, padding_mode=padding) < 1e-6


@pytest.mark.parametrize("corners", [None, True])
def test_the_identity_samples_every_pixel(evaluate, corners):
    x = normal(2, 3, 4, 5)
    theta = np.tile(np.eye(2, 3), (2, 1, 1))
    grid = F.affine_grid(theta, x.shape, corners).numpy()
    found = evaluate(F.grid_sample, x, grid, padding_mode="border", align_corners=corners)
    assert_matches(found.y, x)
    assert_matches(found.gradients[0], found.dy)


def test_pixels_outside_do_not_meet_infinite_ones(backend):
    x = np.full((1, 1, 2, 2), np.inf)
    y = F.grid_sample(backend.asarray(x), backend.asarray(np.full((1, 1, 1, 2), 5.0)))
    assert y.numpy().item() == 0


@pytest.mark.parametrize("layout", ["contiguous", "batch-last", "strided", "reversed"])
def test_any_layout(backend, layout):
    x, grid = normal(3, 2, 4, 5), positions(3, 2, 4, 2)
    y, pullback = xcnn.vjp(F.grid_sample, *(layouts(backend, a)[layout] for a in (x, grid)))
    assert is_batch_last(y)
    assert_matches(y, oracles.grid_sample(x, grid, "bilinear", "zeros", False))
    dy = normal(*y.shape, seed=1)
    plain = evaluate_on(backend, lambda *a: F.grid_sample(*a) * backend.asarray(dy), x, grid)
    dx, dgrid = pullback(layouts(backend, plain.dy * dy)[layout])
    assert_matches(dx, plain.gradients[0])
    assert_matches(dgrid, plain.gradients[1])


def test_a_batch_of_none(backend):
    x, grid = backend.asarray(normal(0, 2, 3, 4)), backend.asarray(normal(0, 5, 6, 2))
    y, pullback = xcnn.vjp(F.grid_sample, x, grid)
    assert y.shape == (0, 2, 5, 6)
    assert [d.shape for d in pullback(y)] == [x.shape, grid.shape]


@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 1, 1, 3), (2, 3, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("corners", [False, True])
def test_affine_grid(evaluate, size, corners):
    axes = len(size) - 2
    theta = normal(2, axes, axes + 1)
    found = evaluate(F.affine_grid, theta, size=size, align_corners=corners)
    expected, gradient = np.zeros((2, *size[2:], axes)), np.zeros(theta.shape)
    for place in np.ndindex(*size[2:]):
        reach = [0 if n == 1 else 1 if corners else (n - 1) / n for n in size[2:]]
        steps = zip(place, size[2:], reach, strict=True)
        point = [r * (2 * i / max(1, n - 1) - 1) for i, n, r in steps]
        point = np.array([*point[::-1], 1])
        for n in range(2):
            expected[(n, *place)] = theta[n] @ point
            gradient[n] += np.outer(found.dy[(n, *place)], point)
    assert_matches(found.y, expected)
    assert_matches(found.gradients[0], gradient)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x, g: F.grid_sample(x[0], g[0]), ShapeError, "expected"),
        (lambda x, g: F.grid_sample(x, g[:1]), ShapeError, "expected"),
        (lambda x, g: F.grid_sample(x, g[..., :1]), ShapeError, "expected"),
        (lambda x, g: F.grid_sample(x[:, :, :0], g), ShapeError, "at least one pixel"),
        (lambda x, g: F.grid_sample(x, g, "cubic"), ArgumentError, "mode='cubic'"),
        (lambda x, g: F.grid_sample(x, g, "nearest", "wrap"), ArgumentError, "padding_mode='wrap'"),
        (lambda x, g: F.grid_sample(x, g, align_corners="x"), ArgumentError, "align_corners='x'"),
        (lambda x, g: F.grid_sample(x, g.astype("float32")), DTypeError, "float32"),
        (
            lambda x, g: F.grid_sample(normal(1, 1, 2, 2, 2), normal(1, 1, 1, 1, 3), "bicubic"),
            ArgumentError,
            "volumes",
        ),
        (lambda x, g: F.affine_grid(normal(2, 2, 3), (1, 1, 2, 2)), ShapeError, "theta has shape"),
        (lambda x, g: F.affine_grid(normal(2, 2, 3), (2, 1, 2)), ShapeError, "theta has shape"),
        (lambda x, g: F.affine_grid(normal(1, 2, 3), (1, 1, 2.0, 2)), ArgumentError, "size="),
        (lambda x, g: F.affine_grid(np.ones((1, 2, 3), int), (1, 1, 2, 2)), DTypeError, "floats"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(normal(2, 3, 4, 5), positions(2, 3, 2, 2))
