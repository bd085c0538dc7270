"""Sizes, padding and window positions, against windows counted one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcnn.checks import check_padding, pair
from xcnn.errors import ArgumentError, ShapeError, show
from xcnn.geometry import Geometry, window_geometry

from . import oracles

sizes = st.integers(1, 12)
kernels = st.integers(1, 5)
steps = st.integers(1, 4)
pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


def one_axis(size, kernel, stride=1, padding=(0, 0), dilation=1, ceil_mode=False):
    """Output size along an axis: the other axis is 1 pixel, left as it is."""
    padding = padding if isinstance(padding, str) else (padding, (0, 0))
    geometry = window_geometry(
        (size, 1), (kernel, 1), (stride, 1), padding, (dilation, 1), ceil_mode
    )
    return geometry.output[0]


@given(sizes, kernels, steps, pads, st.integers(1, 3))
def test_output_size(size, kernel, stride, padding, dilation):
    expected = oracles.output_size(size, kernel, stride, padding, dilation)
    if expected:
        assert one_axis(size, kernel, stride, padding, dilation) == expected
    else:
        with pytest.raises(ShapeError, match="smaller than the kernel"):
            one_axis(size, kernel, stride, padding, dilation)


@given(sizes, kernels, steps, st.data())
def test_ceil_mode(size, kernel, stride, data):
    side = st.integers(0, kernel // 2)
    padding = data.draw(st.tuples(side, side))
    expected = oracles.output_size(size, kernel, stride, padding, ceil_mode=True)
    if expected:
        assert one_axis(size, kernel, stride, padding, ceil_mode=True) == expected


@given(sizes, kernels, steps, st.integers(1, 3))
def test_same(size, kernel, stride, dilation):
    geometry = window_geometry((size, size), kernel, stride, "same", dilation)
    begin, end = geometry.padding[0]
    assert geometry.output == (-(-size // stride),) * 2
    assert (begin, end) == oracles.same_padding(size, kernel, stride, dilation)
    assert end - begin in (0, 1)
    assert oracles.output_size(size, kernel, stride, (begin, end), dilation) == geometry.output[0]


@given(sizes, kernels, steps, pads, st.integers(1, 3), st.integers(0, 3), st.integers(0, 4))
def test_span_names_the_windows_that_read_a_pixel(
    size, kernel, stride, padding, dilation, start, length
):
    if not oracles.output_size(size, kernel, stride, padding, dilation):
        return
    geometry = window_geometry(
        (size, 1), (kernel, 1), (stride, 1), (padding, (0, 0)), (dilation, 1)
    )
    stop = min(start + length, geometry.output[0])
    start = min(start, stop)
    for k in range(kernel):
        reads = {o - start: o * stride + k * dilation - padding[0] for o in range(start, stop)}
        expected = [(o, p) for o, p in reads.items() if 0 <= p < size]
        found, pixels = geometry.span(0, k, start, stop)
        indices = range(stop - start)[found], range(size)[pixels]
        assert list(zip(*indices, strict=True)) == expected
        assert 0 <= found.start <= found.stop


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 60))
def test_tiles_cover_every_window_once_in_order(height, width, positions):
    geometry = window_geometry((height, width), 1)
    seen = []
    for tile in geometry.tiles(positions):
        rows, columns = range(tile.top, tile.bottom), range(tile.left, tile.right)
        assert 1 <= len(rows) * len(columns) <= max(1, positions)
        assert len(rows) == 1 or len(columns) == width  # one run of memory
        seen += itertools.product(rows, columns)
    assert seen == list(itertools.product(range(height), range(width)))


@given(
    st.tuples(st.integers(3, 7), st.integers(3, 7)),
    st.integers(1, 3),
    st.tuples(pads, pads),
    st.integers(1, 60),
)
def test_elements_pair_windows_with_the_pixels_they_read(size, stride, padding, positions):
    geometry = window_geometry(size, (2, 3), stride, padding)
    for tile in geometry.tiles(positions):
        rows, columns = range(tile.top, tile.bottom), range(tile.left, tile.right)
        for element in geometry.elements(tile):
            i, j = divmod(element.number, 3)
            reads = [
                (window, (y * stride + i - padding[0][0], x * stride + j - padding[1][0]))
                for window, (y, x) in zip(
                    itertools.product(range(len(rows)), range(len(columns))),
                    itertools.product(rows, columns),
                    strict=True,
                )
            ]
            real = [r for r in reads if 0 <= r[1][0] < size[0] and 0 <= r[1][1] < size[1]]
            found = picked(element.windows, (len(rows), len(columns)))
            if real:
                assert list(zip(found, picked(element.pixels, size), strict=True)) == real
            assert element.covers_tile == (len(real) == len(reads))
            assert bool(found) == bool(real)


def picked(index, size):
    """(row, column) of what an index tuple takes of an image; all channels always."""
    channels, *axes = index
    assert channels == slice(None)
    return list(itertools.product(*(range(n)[s] for n, s in zip(size, axes, strict=True))))


@given(sizes, kernels, steps, st.booleans(), st.booleans(), st.data())
def test_counts(size, kernel, stride, include_pad, ceil_mode, data):
    side = st.integers(0, kernel // 2)
    begin, end = data.draw(st.tuples(side, side))
    if not oracles.output_size(size, kernel, stride, (begin, end)):
        return
    geometry = window_geometry(
        (size, 1), (kernel, 1), (stride, 1), ((begin, end), (0, 0)), ceil_mode=ceil_mode
    )
    counted = range(-begin, size + end) if include_pad else range(size)
    starts = [o * stride - begin for o in range(geometry.output[0])]
    expected = [len(set(range(s, s + kernel)) & set(counted)) for s in starts]
    assert geometry.counts(0, include_pad) == expected
    assert min(expected) > 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kernel": 2, "stride": 2}, True),
        ({"kernel": 1}, True),
        ({"kernel": 4, "stride": 4}, False),  # 6 is not a multiple of 4
        ({"kernel": 3}, False),
        ({"kernel": 1, "stride": 2}, False),
        ({"kernel": 2, "stride": 2, "padding": 1}, False),
        ({"kernel": 2, "stride": 2, "dilation": 2}, False),
    ],
)
def test_covers_exactly(settings, expected):
    assert window_geometry((6, 6), **settings).covers_exactly is expected


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        ((1,), ((1, 1), (1, 1))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], [3, 4]], ((1, 2), (3, 4))),
        ("valid", ((0, 0), (0, 0))),
        ("same", "same"),
    ],
    ids=str,
)
def test_padding_forms(padding, expected):
    assert check_padding(padding) == expected


@pytest.mark.parametrize(
    "padding",
    [
        -1,
        1.5,
        True,
        None,
        (1, 2, 3),
        (1, -1),
        ((1, 2), 3),
        ((1, 2), (3, -4)),
        "full",
        "SAME",
        np.array([1, 2]),
    ],
    ids=repr,
)
def test_padding_refused(padding):
    with pytest.raises(ArgumentError, match="padding=") as caught:
        check_padding(padding)
    assert show(padding) in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "value", [0, -1, 1.0, "3", True, (), (1, 0), (1, 2, 3), None, np.array([2, 2])], ids=repr
)
def test_pair_refused(value):
    with pytest.raises(ArgumentError, match="stride="):
        pair(value, "stride")


def test_pair_takes_numpy_integers():
    assert pair(np.int64(3), "stride") == (3, 3)
    assert [type(v) for v in pair((np.int32(3), 2), "stride")] == [int, int]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"kernel": 0}, "kernel_size"), ({"stride": 0}, "stride"), ({"dilation": 0}, "dilation")],
)
def test_settings_out_of_range_are_named(arguments, named):
    with pytest.raises(ArgumentError, match=f"{named}=0"):
        window_geometry((5, 5), **{"kernel": 3, **arguments})


def test_too_small_an_image_names_axis_size_and_kernel():
    with pytest.raises(ShapeError, match=r"height 2 .* covers 5 .*dilation \(2, 2\)"):
        window_geometry((2, 9), 3, dilation=2)
    with pytest.raises(ShapeError, match="width 2 "):
        window_geometry((9, 2), 3)
    with pytest.raises(ShapeError, match="height 0 "):
        window_geometry((0, 3), 1, padding=1)


def test_geometry_is_a_value():
    geometry = window_geometry((5, 6), 3, 2, 1)
    assert geometry == window_geometry((5, 6), (3, 3), (2, 2), (1, 1))
    assert hash(geometry) == hash(window_geometry((5, 6), 3, 2, 1))
    assert isinstance(geometry, Geometry)
    with pytest.raises(AttributeError):
        geometry.kernel = (1, 1)
