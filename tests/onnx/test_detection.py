"""Operators with indices or regions, reductions, and If; ONNX's own tests have their values."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import xcnn
from xcnn.errors import XcnnError
from xcnn.onnx import export, load
from xcnn.onnx.importer import build
from xcnn.testing import gradcheck

from ..conftest import assert_matches, normal
from .models import graph_of, model_of, node_on, run_file

X = normal(3, 4, 5)
ROWS = np.array([[0, 2], [1, 1], [0, 2]])


def ints(*values):
    return np.array(values, "int64")


# by name: the operator, its inputs besides x, and attributes
SMOOTH = {
    "gather-elements": ("GatherElements", {"i": ROWS[:, :, None]}, {"axis": 1}),
    "gather-nd": ("GatherND", {"i": ROWS}, {}),
    "scatter-add": ("ScatterND", {"i": ROWS, "u": normal(3, 5)}, {"reduction": "add"}),
    "scatter": ("ScatterND", {"i": ROWS[:2], "u": normal(2, 5)}, {}),
    "scatter-elements": (
        "ScatterElements",
        {"i": ROWS[None, :, :], "u": normal(1, 3, 2)},
        {"axis": 0},
    ),
    "l2": ("ReduceL2", {"axes": ints(1, 2)}, {}),
    "log-sum-exp": ("ReduceLogSumExp", {"axes": ints(-1)}, {"keepdims": 0}),
    "product": ("ReduceProd", {"axes": ints(0)}, {}),
    "sum-square": ("ReduceSumSquare", {}, {}),
    "l1-of-none": ("ReduceL1", {}, {"noop_with_empty_axes": 1}),
    "einsum": ("Einsum", {"w": normal(4, 2, seed=1)}, {"equation": "nij,ik->nkj"}),
    "top": ("TopK", {"k": ints(2)}, {"axis": 1}),
    "cumulative": ("CumSum", {"axis": np.int64(1)}, {"exclusive": 1, "reverse": 1}),
    "tile": ("Tile", {"repeats": ints(1, 2, 1)}, {}),
    "triangle": ("Trilu", {"k": np.int64(-1)}, {"upper": 0}),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(backend, name):
    kind, weights, attributes = SMOOTH[name]
    outputs = ("y", "i") if kind == "TopK" else ("y",)
    graph = graph_of(kind, {"x": (None, None, None)}, weights, outputs=outputs, **attributes)
    graph = graph.to(dtype="float64").to(backend)
    first = (lambda x: graph(x)[0]) if kind == "TopK" else graph
    gradcheck(first, backend.asarray(X))


def test_regions(backend):
    images, grid = normal(2, 3, 6, 7, seed=2), normal(2, 4, 3, 2, seed=3) / 2
    graph = graph_of("GridSample", {"x": images.shape, "g": grid.shape}, opset=20).to(backend)
    gradcheck(graph, backend.asarray(images), backend.asarray(grid))
    regions = np.array([[0.3, 0.2, 5.1, 4.4], [1, 2, 1.5, 9]])
    weights = {"rois": regions, "batch": ints(1, 0)}
    settings = {"output_height": 2, "output_width": 3, "spatial_scale": 0.9}
    graph = graph_of("RoiAlign", {"x": images.shape}, weights, **settings).to(backend)
    gradcheck(graph, backend.asarray(images))


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_no_regions(backend, mode):
    images = normal(2, 3, 6, 7, dtype="float32")
    rois = np.zeros((0, 4), "float32")
    y = node_on("RoiAlign", backend, images, rois, ints(), mode=mode, output_height=2)
    assert y.shape == (0, 3, 2, 1)


def test_equal_elements_keep_their_order(backend):
    x = np.array([[3, 1, 3, 1, 3]], "float32")
    y = node_on("TopK", backend, x, ints(4), outputs=("v", "i"))
    np.testing.assert_array_equal(y[1], [[0, 2, 4, 1]])


@pytest.mark.parametrize(
    ("kind", "arrays", "settings", "text"),
    [
        ("TopK", (X, ints(6)), {}, "K=6: axis 2 has 5"),
        ("GatherElements", (X, ROWS[:, :, None] + 2), {"axis": 1}, "expected ints from -4 to 3"),
        ("ScatterND", (X, ROWS, X), {}, "do not fit data"),
        ("ScatterElements", (X, ROWS, X[0]), {}, "do not fit data"),
        ("Einsum", (X,), {"equation": "ij->i"}, "Einsum"),
        ("Tile", (X, ints(1, 2)), {}, "a number >= 0 for each of 3 axes"),
        ("OneHot", (ints(1), ints(-2), X[0, 0, :2]), {}, "lengths >= 0"),
        ("NonMaxSuppression", (X, X), {}, "expected \\(N, B, 4\\)"),
        ("RoiAlign", (X[None], X[0, :, :4] * np.inf, ints(0, 0, 0, 0)), {}, "finite rois"),
        ("RoiAlign", (X[None], X[0, :, :4], ints(0, 0, 0, 0)), {"output_height": 0}, "ints >= 1"),
        ("RoiAlign", (X[None], X[0, :, :4] * 1e30, ints(0, 0, 0, 0)), {}, "more than the limit"),
    ],
)
def test_errors_name_the_node(kind, arrays, settings, text):
    outputs = ("y", "i") if kind == "TopK" else ("y",)
    with pytest.raises(XcnnError, match=text) as error:
        node_on(kind, xcnn.backends.get("cpu"), *arrays, outputs=outputs, **settings)
    assert f"a {kind}" in str(error.value)


# -- If -----------------------------------------------------------------------------------------


def branch(name, nodes, output, weights=None):
    tensors = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    return helper.make_graph(
        nodes, name, [], [helper.make_empty_tensor_value_info(output)], tensors
    )


def choosing(condition=None):
    """2·x if any element is above 1, else -x or, of one row, x + 1; both use the same names."""
    make = helper.make_node
    inner = make(
        "If",
        ["one"],
        ["n"],
        then_branch=branch("a", [make("Add", ["h", "w"], ["y"])], "y", {"w": np.float32([1])}),
        else_branch=branch("b", [make("Neg", ["h"], ["y"])], "y"),
    )
    chosen = make(
        "If",
        ["c"],
        ["y"],
        then_branch=branch(
            "then",
            [make("Identity", ["x"], ["h"]), make("Mul", ["h", "w"], ["z"])],
            "z",
            {"w": np.float32([2])},
        ),
        else_branch=branch("else", [make("Identity", ["x"], ["h"]), inner], "n"),
    )
    nodes = [
        make("ReduceMax", ["x"], ["m"], keepdims=0),
        make("Greater", ["m", "limit"], ["c" if condition is None else "unused"]),
        make("Shape", ["x"], ["s"], end=1),
        make("Squeeze", ["s"], ["rows"]),
        make("Equal", ["rows", "1"], ["one"]),
        chosen,
    ]
    weights = {"limit": np.float32(1), "1": np.int64(1)}
    weights |= {} if condition is None else {"c": np.array(condition)}
    return model_of(nodes, {"x": (None, 2)}, ["y"], weights)


INPUTS = [np.float32([[1, 3], [0, 1]]), np.float32([[1, 0], [0, 1]]), np.float32([[1, 0]])]


@pytest.mark.parametrize("condition", [None, True, False])
def test_if(backend, path, condition):
    model = choosing(condition)
    onnx.save(model, path)
    graph = build(model).to(backend)
    for x in INPUTS:
        assert_matches(graph(backend.asarray(x)), run_file(path, x)[0])


def test_a_saved_if(path):
    graph = build(choosing())
    xcnn.save(graph, path)
    again = xcnn.load(path)
    for x in INPUTS:
        np.testing.assert_array_equal(again(x).numpy(), graph(x).numpy())


def test_an_exported_if_is_fixed(path):
    """As other Python code that depends on data is."""
    export(build(choosing(False)), INPUTS[1], path)
    assert_matches(load(path)(INPUTS[0]), -INPUTS[0])


def test_a_condition_that_is_no_bool():
    graph = build(
        model_of(
            [
                helper.make_node(
                    "If",
                    ["c"],
                    ["y"],
                    then_branch=branch(
                        "a", [helper.make_node("Neg", ["x"], ["z"], name="inner")], "z"
                    ),
                    else_branch=branch("b", [helper.make_node("Abs", ["x"], ["z"])], "z"),
                )
            ],
            {"x": (2,), "c": (None,)},
            ["y"],
            types={"c": "bool"},
        )
    )
    with pytest.raises(XcnnError, match=r"'inner' \(Neg\): the condition"):
        graph(np.zeros(2, "float32"), np.array([True, False]))


def test_a_branch_without_the_results_of_its_node():
    empty = branch("a", [], "x")
    node = helper.make_node("If", ["c"], ["y", "z"], then_branch=empty, else_branch=empty)
    with pytest.raises(XcnnError, match=r"\(If\): the attribute then_branch"):
        build(model_of([node], {"x": (2,), "c": ()}, ["y"], types={"c": "bool"}))


def test_nested_branches_take_memory_in_proportion():
    graph = branch(
        "last", [helper.make_node("Neg", ["x"], ["z"])], "z", {"w": np.zeros(2**16, "int8")}
    )
    for _ in range(20):
        node = helper.make_node(
            "If", ["c"], ["z"], then_branch=graph, else_branch=branch("e", [], "x")
        )
        graph = branch("next", [node], "z")
    outer = helper.make_node(
        "If", ["c"], ["y"], then_branch=graph, else_branch=branch("e", [], "x")
    )
    graph = build(model_of([outer], {"x": (2,), "c": ()}, ["y"], types={"c": "bool"}))
    for flag, sign in ((True, -1), (False, 1)):
        assert_matches(graph(np.float32([1, 2]), np.array(flag)), np.float32([1, 2]) * sign)
