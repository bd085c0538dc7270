"""Resize and Upsample."""

import itertools
import math
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from xcnn import Tensor, no_grad
from xcnn.errors import FileFormatError
from xcnn.onnx.importer import build
from xcnn.testing import gradcheck

from ..conftest import assert_matches, layouts, normal
from ..strict import count_syncs
from .models import model_of

MODES = [
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "asymmetric",
    "align_corners",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
]
NEAREST_MODES = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def resize(opset=19, kind="Resize", **given):
    """A Graph with one node: ``given`` has its settings, and inputs by name."""
    inputs = {n: np.asarray(given.pop(n)) for n in ("roi", "scales", "sizes") if n in given}
    inputs = {n: a.astype("int64" if n == "sizes" else "float32") for n, a in inputs.items()}
    order = ("scales",) if opset < 11 else ("roi", "scales", "sizes")
    names = [n if n in inputs else "" for n in order]
    node = helper.make_node(kind, ["x", *names], ["y"], name="the resize", **given)
    return build(model_of([node], {"x": None}, ["y"], inputs, opset))


def run(graph, backend, x):
    with no_grad():
        return graph(backend.asarray(x)).numpy()


# -- the oracle: one axis, one new pixel, one old pixel at a time ----------------------------


HALF = Fraction(1, 2)


def position(x, mode, size, output, scale, roi):
    length, last = scale * size, size - 1
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and output > 1):
        return (x + HALF) / scale - HALF
    if mode == "half_pixel_symmetric":
        return Fraction(size, 2) * (1 - output / length) + (x + HALF) / scale - HALF
    if mode == "asymmetric":
        return x / scale
    if mode == "align_corners" and output > 1:
        return Fraction(x * last, output - 1)
    if mode == "tf_half_pixel_for_nn":
        return (x + HALF) / scale
    if mode == "tf_crop_and_resize" and output > 1:
        return roi[0] * last + x * (roi[1] - roi[0]) * last / (output - 1)
    return HALF * (roi[0] + roi[1]) * last if mode == "tf_crop_and_resize" else 0.0


def kernel(t, mode, a):
    t = abs(t)
    if mode == "linear":
        return max(0.0, 1 - t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def nearest(at, mode):
    return {
        "round_prefer_floor": math.ceil(at - HALF),
        "round_prefer_ceil": math.floor(at + HALF),
        "floor": math.floor(at),
        "ceil": math.ceil(at),
    }[mode]


def weights_at(at, size, scale, settings):
    """Pairs (old pixel, weight) for a position; pixels outside are clipped to the border."""
    mode = settings.get("mode", "nearest")
    if mode == "nearest":
        pairs = [(nearest(at, settings.get("nearest_mode", "round_prefer_floor")), 1.0)]
    else:
        narrow = float(min(1, scale)) if settings.get("antialias") else 1.0
        pairs = [
            (i, kernel(float(i - at) * narrow, mode, settings.get("cubic_coeff_a", -0.75)))
            for i in range(-40, size + 40)
        ]
        total = sum(w for _, w in pairs)
        pairs = [(i, w / total) for i, w in pairs]
    if settings.get("exclude_outside"):
        pairs = [(i, w) for i, w in pairs if 0 <= i < size]
        total = sum(w for _, w in pairs)
        pairs = [(i, w / total) for i, w in pairs] if total else []
    return [(min(max(i, 0), size - 1), w) for i, w in pairs]


def expected(x, outputs, scales, roi=None, **settings):
    """In float64, one axis after the other, with exact positions."""
    mode = settings.get("coordinate_transformation_mode", "half_pixel")
    scales = [Fraction(s) for s in scales]
    fill = settings.get("extrapolation_value", 0.0)
    outside = []
    for axis, (output, scale) in enumerate(zip(outputs, scales, strict=True)):
        size = x.shape[axis]
        part = (0, 1) if roi is None else (Fraction(roi[axis]), Fraction(roi[axis + x.ndim]))
        if output == size and scale == 1 and part == (0, 1):
            continue
        y = np.zeros((*x.shape[:axis], output, *x.shape[axis + 1 :]))
        for new in range(output):
            at = position(new, mode, size, output, scale, part)
            into = np.moveaxis(y, axis, 0)[new : new + 1]
            for old, weight in weights_at(at, size, scale, settings):
                into += weight * np.moveaxis(x, axis, 0)[old : old + 1]
            if mode == "tf_crop_and_resize" and not 0 <= at <= size - 1:
                outside.append((axis, new))
        x = y
    for axis, new in outside:
        np.moveaxis(x, axis, 0)[new] = fill
    return x


def check(backend, x, outputs, scales, graph, roi=None, **settings):
    y = run(graph, backend, x.astype("float32"))
    assert y.dtype == "float32"
    assert_matches(y, expected(x, outputs, scales, roi, **settings), factor=2)


# -- every setting --------------------------------------------------------------------------

SCALES = [((1, 1, 2, 0.5), (2, 3, 10, 3)), ((1, 1, 0.25, 1.5), (2, 3, 1, 10))]
SIZES = [(2, 3, 4, 8), (2, 3, 1, 3)]
ROI = (0, 0, 0.25, -0.25, 1, 1, 0.75, 1.25)


def inputs_of(case):
    """Output sizes, scales and the node's inputs for x (2, 3, 5, 7)."""
    if isinstance(case[0], tuple):
        return case[1], case[0], {"scales": case[0]}
    return case, [Fraction(o, n) for o, n in zip(case, (2, 3, 5, 7), strict=True)], {"sizes": case}


@pytest.mark.parametrize("case", [*SCALES, *SIZES], ids=str)
@pytest.mark.parametrize("coordinates", MODES)
class TestImages:
    def settings(self, coordinates, **others):
        crops = coordinates == "tf_crop_and_resize"
        return {
            "coordinate_transformation_mode": coordinates,
            **({"extrapolation_value": 10.0} if crops else {}),
            **others,
        }

    def check(self, backend, coordinates, case, **others):
        outputs, scales, inputs = inputs_of(case)
        settings = self.settings(coordinates, **others)
        roi = ROI if coordinates == "tf_crop_and_resize" else None
        graph = resize(**inputs, **settings, **({"roi": roi} if roi else {}))
        check(backend, normal(2, 3, 5, 7), outputs, scales, graph, roi, **settings)

    @pytest.mark.parametrize("nearest_mode", NEAREST_MODES)
    def test_nearest(self, backend, coordinates, case, nearest_mode):
        self.check(backend, coordinates, case, mode="nearest", nearest_mode=nearest_mode)

    @pytest.mark.parametrize("antialias", [0, 1])
    @pytest.mark.parametrize("exclude_outside", [0, 1])
    @pytest.mark.parametrize("mode", ["linear", "cubic"])
    def test_weighted(self, backend, coordinates, case, mode, exclude_outside, antialias):
        others = {"exclude_outside": exclude_outside, "antialias": antialias}
        self.check(backend, coordinates, case, mode=mode, cubic_coeff_a=-0.5, **others)


@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((7,), (1.5,)),
        ((3, 4), (2, 0.5)),
        ((2, 3, 7), (1, 1, 2.5)),
        ((2, 3, 7), (1, 2, 1)),
        ((2, 3, 2, 3, 4), (1, 1, 2, 1.5, 0.5)),
        ((2, 3, 4, 5), (1.5, 2, 1, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_any_axes(backend, mode, shape, scales):
    outputs = [int(n * s) for n, s in zip(shape, scales, strict=True)]
    check(backend, normal(*shape), outputs, scales, resize(mode=mode, scales=scales), mode=mode)


def test_axes_name_what_the_inputs_are_of(backend):
    x, settings = normal(2, 3, 5, 7), {"coordinate_transformation_mode": "tf_crop_and_resize"}
    graph = resize(mode="linear", axes=[-1, 2], sizes=[3, 4], roi=[0.25, 0.5, 0.75, 1], **settings)
    roi = (0, 0, 0.5, 0.25, 1, 1, 1, 0.75)
    check(
        backend,
        x,
        (2, 3, 4, 3),
        (1, 1, Fraction(4, 5), Fraction(3, 7)),
        graph,
        roi,
        mode="linear",
        **settings,
    )


@pytest.mark.parametrize(
    ("policy", "outputs", "scale"),
    [("not_larger", (2, 3, 6, 9), Fraction(9, 7)), ("not_smaller", (2, 3, 8, 11), Fraction(8, 5))],
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_keeps_the_aspect_ratio(backend, mode, policy, outputs, scale):
    graph = resize(mode=mode, axes=[2, 3], sizes=[8, 9], keep_aspect_ratio_policy=policy)
    check(backend, normal(2, 3, 5, 7), outputs, (1, 1, scale, scale), graph, mode=mode)


def test_rounds_as_was_meant(backend):
    """0.7 and 1/3 are not exact in float32, but 10 * 0.7 is 7, and pixel 3 of 1/3 is 9."""
    x = np.arange(10, dtype="float32")
    floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    assert run(resize(scales=[0.7], **floor), backend, x).shape == (7,)
    found = run(resize(scales=[1 / 3], **floor), backend, x)
    np.testing.assert_array_equal(found, [0, 3, 6])


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.6, 0.7, 1 / 3, 1.5, 2.3])
@pytest.mark.parametrize("size", [4, 5, 9, 13])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_aligned_corners_as_in_onnxruntime(backend, mode, size, scale):
    x, scales = normal(1, 1, size, size, dtype="float32"), [1, 1, scale, scale]
    given = {"mode": mode, "coordinate_transformation_mode": "align_corners"}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **given)
    inputs = {"scales": np.float32(scales)}
    model = model_of([node], {"x": None}, ["y"], inputs, 19)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (wanted,) = session.run(None, {"x": x})
    y = run(resize(scales=scales, **given), backend, x)
    np.testing.assert_allclose(y, wanted, 1e-5, 1e-5, strict=True)
    np.testing.assert_allclose(y[..., 0, 0], x[..., 0, 0], 1e-6)
    if y.shape[2] > 1:
        np.testing.assert_allclose(y[..., -1, -1], x[..., -1, -1], 1e-6)


def test_an_unchanged_image_is_passed_on(backend):
    x = Tensor(backend.asarray(normal(2, 3, 4, 5, dtype="float32")))
    assert resize(mode="cubic", scales=[1, 1, 1, 1])(x).data is x.data


# -- gradients, layouts, dtypes -------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 3, 5), (2, 2, 3, 2, 3)], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "nearest"},
        {"mode": "linear"},
        {"mode": "cubic", "exclude_outside": 1},
        {"mode": "cubic", "antialias": 1},
    ],
    ids=str,
)
def test_gradients(backend, shape, settings):
    scales = [1, 2, *(1.5, 0.5, 2)[: len(shape) - 2]]
    gradcheck(resize(scales=scales, **settings), backend.asarray(normal(*shape)))


@pytest.mark.parametrize("roi", [(0, 0, -0.5, 0.25, 1, 1, 1.5, 0.75), (0, 0, 2, 0, 1, 1, 3, 1)])
def test_gradients_where_the_image_ends(backend, roi):
    """Pixels outside the image have no gradient."""
    graph = resize(
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        sizes=[2, 2, 6, 5],
        roi=roi,
        extrapolation_value=float("inf") if roi[2] == 2 else 3.0,
    )
    x = Tensor(backend.asarray(normal(2, 2, 3, 4)), requires_grad=True)
    y = graph(x)
    if roi[2] == 2:
        assert np.isinf(y.numpy()).all()
    else:
        gradcheck(graph, x.data)
    y.backward(backend.asarray(np.ones(y.shape)))
    assert np.isfinite(backend.to_host(x.grad.data)).all()
    assert (backend.to_host(x.grad.data) == 0).all() == (roi[2] == 2)


def test_reversed_roi_mirrors(backend):
    x = normal(1, 1, 3, 4, dtype="float32")
    graph = resize(
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        axes=[3],
        sizes=[4],
        roi=[1, 0],
    )
    assert_matches(run(graph, backend, x), x[..., ::-1])


def test_layouts_and_an_empty_batch(backend):
    x = normal(4, 3, 5, 6, dtype="float32")
    graph = resize(mode="linear", scales=[1, 1, 2, 0.5])
    wanted = expected(x.astype("float64"), (4, 3, 10, 3), (1, 1, 2, 0.5), mode="linear")
    for array in layouts(backend, x).values():
        before = backend.to_host(array).copy()
        assert_matches(graph(array).numpy(), wanted)
        np.testing.assert_array_equal(backend.to_host(array), before)
    assert graph(backend.asarray(x[:0])).shape == (0, 3, 10, 3)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_float_types(backend, dtype):
    x = normal(2, 3, 4, 5, dtype=dtype)
    y = run(resize(mode="linear", scales=[1, 1, 2, 2]), backend, x)
    wanted = expected(x.astype("float64"), (2, 3, 8, 10), (1, 1, 2, 2), mode="linear")
    assert_matches(y, wanted, dtype=dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_integers(backend, mode, dtype):
    """Weighted sums are rounded and clipped."""
    x = np.random.default_rng(3).integers(0, 2 if dtype == "bool" else 256, (2, 3, 4, 5))
    y = run(resize(mode=mode, scales=[1, 1, 2, 0.5]), backend, x.astype(dtype))
    wanted = np.rint(expected(x.astype("float64"), (2, 3, 8, 2), (1, 1, 2, 0.5), mode=mode))
    assert y.dtype == ("uint8" if dtype == "bool" and mode != "nearest" else dtype)
    limits = (0, 255) if y.dtype in ("uint8", "bool") else (-(2**31), 2**31 - 1)
    np.testing.assert_array_equal(y, np.clip(wanted, *limits))


def test_no_host_synchronisation(strict):
    graph = resize(mode="cubic", scales=[1, 1, 2, 2]).to("strict")
    x = Tensor(strict.asarray(normal(2, 3, 4, 5, dtype="float32")), requires_grad=True)
    graph(x).sum().backward()
    with count_syncs() as syncs:
        graph(x).sum().backward()
    assert syncs == []


# -- earlier versions -----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "opset"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
def test_first_versions(backend, kind, opset):
    x = normal(2, 3, 4, 5, dtype="float32")
    scales = [1.0, 1.0, 3.0, 2.0]

    def graph(mode):
        if opset > 7:
            return resize(opset, kind, scales=scales, mode=mode)
        node = helper.make_node(kind, ["x"], ["y"], scales=scales, mode=mode)
        return build(model_of([node], {"x": None}, ["y"], opset=opset))

    np.testing.assert_array_equal(
        run(graph("nearest"), backend, x), x.repeat(3, axis=2).repeat(2, axis=3)
    )
    wanted = expected(
        x.astype("float64"),
        (2, 3, 12, 10),
        scales,
        mode="linear",
        coordinate_transformation_mode="asymmetric",
    )
    assert_matches(run(graph("linear"), backend, x), wanted)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [0.34, 0.5, 0.6, 0.8, 1.5, 2.3])
def test_version_10_as_onnxruntime(mode, scale):
    ort = pytest.importorskip("onnxruntime")
    x = normal(2, 3, 8, 7, dtype="float32")
    scales = np.array([1, 1, scale, scale], "float32")
    node = helper.make_node("Resize", ["x", "scales"], ["y"], mode=mode)
    model = model_of([node], {"x": (2, 3, 8, 7)}, ["y"], {"scales": scales}, 10)
    model.ir_version = 5
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, None))
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    assert_matches(build(model)(x).numpy(), wanted)


@pytest.mark.parametrize("opset", [11, 13])
def test_empty_inputs_count_as_left_out(backend, opset):
    x = normal(2, 3, 4, 5)
    graph = resize(opset, mode="linear", roi=[], scales=[], sizes=[2, 3, 8, 3])
    check(backend, x, (2, 3, 8, 3), (1, 1, 2, Fraction(3, 5)), graph, mode="linear")


# -- PyTorch --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 4), (3, 13), (5, 1)])
@pytest.mark.parametrize(
    ("mode", "aligned", "antialias"),
    [
        ("bilinear", False, False),
        ("bilinear", True, False),
        ("bicubic", False, False),
        ("bicubic", True, False),
        ("bilinear", False, True),
        ("bicubic", False, True),
    ],
)
def test_as_pytorch(mode, aligned, antialias, size):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, 5, 7)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x), size=size, mode=mode, align_corners=aligned, antialias=antialias
    )
    graph = resize(
        mode={"bilinear": "linear", "bicubic": "cubic"}[mode],
        sizes=(2, 3, *size),
        coordinate_transformation_mode="align_corners" if aligned else "half_pixel",
        cubic_coeff_a=-0.5 if antialias else -0.75,
        **({"antialias": 1, "exclude_outside": 1} if antialias else {}),
    )
    assert_matches(graph(x).numpy(), wanted.numpy())


@pytest.mark.parametrize("sizes", [*itertools.product([3, 7, 12], [2, 5, 14])], ids=str)
def test_nearest_as_pytorch(sizes):
    torch = pytest.importorskip("torch")
    x = normal(1, 2, 6, 7, dtype="float32")
    settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    found = resize(sizes=(1, 2, *sizes), **settings)(x).numpy()
    wanted = torch.nn.functional.interpolate(torch.from_numpy(x), size=sizes, mode="nearest")
    np.testing.assert_array_equal(found, wanted.numpy())


# -- what is refused ------------------------------------------------------------------------

GOOD = {"scales": [1, 1, 2, 2]}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "either scales or sizes"),
        ({**GOOD, "sizes": [2, 3, 8, 8]}, "either scales or sizes"),
        ({"scales": [2, 2]}, "expected 4 numbers"),
        ({"scales": [1, 1, 0, 2]}, "> 0"),
        ({"scales": [1, 1, -1, 2]}, "> 0"),
        ({"scales": [1, 1, float("nan"), 2]}, "finite"),
        ({"scales": [1, 1, float("inf"), 2]}, "finite"),
        ({"scales": [1, 1, 1e30, 2]}, "finite"),
        ({"scales": [1, 1, 2e9, 2e9]}, "limit"),
        ({"scales": [1, 1, 0.1, 1]}, "no elements"),
        ({"sizes": [2, 3, 0, 4]}, "no elements"),
        ({"sizes": [2, 3, -4, 4]}, "an output of shape"),
        ({"sizes": [2, 3, 2**30, 2**30]}, "limit"),
        ({"sizes": [2, 3, 4, 2**40]}, "finite"),
        ({"axes": [2, 2], "scales": [2, 2]}, "repeated"),
        ({"axes": [4], "scales": [2]}, "axis 4"),
        ({"axes": [2, 3], **GOOD}, "expected 2 numbers"),
        ({"mode": "area", **GOOD}, "expected one of nearest, linear, cubic"),
        ({"nearest_mode": "simple", **GOOD}, "round_prefer_floor"),
        ({"coordinate_transformation_mode": "middle", **GOOD}, "half_pixel"),
        ({"keep_aspect_ratio_policy": "wide", "sizes": [2, 3, 8, 8]}, "not_larger"),
        ({"antialias": 1, **GOOD}, "linear or cubic"),
        ({"exclude_outside": 1, **GOOD}, "linear or cubic"),
        ({"mode": "cubic", "cubic_coeff_a": float("nan"), **GOOD}, "finite"),
        ({"coordinate_transformation_mode": "tf_crop_and_resize", **GOOD}, "roi"),
        (
            {
                "coordinate_transformation_mode": "tf_crop_and_resize",
                "roi": [0, 0, 0, float("nan"), 1, 1, 1, 1],
                **GOOD,
            },
            "finite",
        ),
    ],
    ids=str,
)
def test_refuses(given, text):
    with pytest.raises(FileFormatError, match="the resize") as error:
        resize(**given)(normal(2, 3, 4, 5, dtype="float32"))
    assert text in str(error.value)


def test_refuses_a_table_of_weights_that_is_too_large():
    """The output is small, but the table of weights is large."""
    graph = resize(mode="cubic", sizes=[1, 2**27])
    with pytest.raises(FileFormatError, match="limit"):
        graph(np.ones((1, 2), "float32"))


def test_refuses_cubic_before_version_11():
    with pytest.raises(FileFormatError, match="nearest, linear"):
        resize(10, mode="cubic", **GOOD)(normal(2, 3, 4, 5, dtype="float32"))


def test_an_image_without_pixels_is_refused():
    with pytest.raises(FileFormatError, match="no elements"):
        resize(mode="linear", sizes=[1, 1, 4, 4])(np.ones((1, 1, 0, 4), "float32"))


def test_is_part_of_a_trained_model(backend):
    """Gradients reach the weights before it."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Resize", ["a", "", "scales"], ["y"], mode="linear"),
    ]
    weights = {"w": np.ones((3, 1, 1), "float32"), "scales": np.float32([1, 1, 2, 2])}
    graph = build(model_of(nodes, {"x": None}, ["y"], weights, 19)).to(backend.device)
    x = normal(2, 3, 4, 5, dtype="float32")
    graph(backend.asarray(x)).sum().backward()
    (weight,) = graph.parameters()
    assert_matches(backend.to_host(weight.grad.data), 4 * x.sum(axis=(0, 2, 3)).reshape(3, 1, 1))
