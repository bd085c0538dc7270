import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcnn.data import Compose, Normalize
from xcnn.errors import ArgumentError, DataError


def batch(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16, np.int64])
@pytest.mark.parametrize("shape", [(5, 3, 4, 2), (1, 3, 1, 1), (0, 3, 4, 4), (4, 3)])
def test_values_type_and_memory(dtype, shape):
    x = batch(shape, dtype)
    kept = x.copy()
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.4, 0.8]
    out = Normalize(mean, std)(x)
    axes = (1, 3) + (1,) * (len(shape) - 2)
    wanted = (x.astype(np.float64) / 255 - np.reshape(mean, axes)) / np.reshape(std, axes)
    assert out.shape == shape
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x, kept)
    last = np.moveaxis(out, 0, -1)
    assert last.flags.c_contiguous
    assert out.flags.writeable


def test_input_layout_does_not_change_the_result():
    x = batch((6, 3, 4, 5))
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    normalize = Normalize(0.3, 0.2)
    np.testing.assert_array_equal(normalize(x), normalize(last))
    np.testing.assert_array_equal(normalize(x[::2]), normalize(x)[::2])


@given(st.floats(-2, 2), st.floats(0.01, 10), st.sampled_from([1, 255]))
def test_one_number_for_all_channels(mean, std, scale):
    x = batch((2, 2, 3, 3))
    wanted = (x / scale - mean) / std
    np.testing.assert_allclose(Normalize(mean, std, scale)(x), wanted, rtol=1e-4, atol=1e-4 / std)


@pytest.mark.parametrize("shape", [(4, 2, 5, 5), (4,)])
def test_wrong_channels(shape):
    with pytest.raises(DataError, match=r"C = 3, got \(4,"):
        Normalize([0, 0, 0], [1, 1, 1])(batch(shape))


@pytest.mark.parametrize(
    "arguments", [([0, 0], [1]), ([0], [0]), (0, -1), (0, np.nan), (np.inf, 1), (0, 1, 0)]
)
def test_bad_arguments(arguments):
    with pytest.raises(ArgumentError, match="mean"):
        Normalize(*arguments)


def test_compose():
    both = Compose([Normalize(0, 1), lambda x: x * 2])
    assert both(np.full((1, 1, 1, 1), 255, np.uint8)).item() == 2
    assert repr(both).startswith("Compose([Normalize(mean=0, std=1, scale=255)")
    with pytest.raises(ArgumentError, match="int"):
        Compose([5])
