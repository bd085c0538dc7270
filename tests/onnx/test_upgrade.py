"""Exporting loaded models of any operator set version."""

import functools
import glob
import warnings

import numpy as np
import pytest

from xcnn.errors import UnsupportedOperatorError
from xcnn.onnx import export, load
from xcnn.onnx.exporter.upgrade import can_upgrade, is_current
from xcnn.onnx.importer import OPERATORS, Node, build

from ..conftest import assert_matches, normal
from . import conformance
from .models import model_of, run_file

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

RANDOM = {"training_dropout", "training_dropout_mask"}
RANDOM |= {"training_dropout_default", "training_dropout_default_mask"}
CASES = [
    (kind, name)
    for kind, name in conformance.read_list()
    if kind != "real"  # large, and without other operators
    and name.removeprefix("test_") not in RANDOM  # random outputs
]


@functools.cache
def found():
    """ONNX's tests by kind and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = [(k, t) for k in {k for k, _ in CASES} for t in load_tests(k)]
    return {(kind, test.name): test for kind, test in tests}


def load_tests(kind):
    return conformance.load_model_tests(kind=kind)


def arrays(test):
    """The inputs and outputs of a test's first data set."""
    if test.data_sets:
        return [[_array(v) for v in values] for values in test.data_sets[0]]
    folder = f"{test.model_dir}/test_data_set_0"
    return [_stored(f"{folder}/{kind}") for kind in ("input", "output")]


def _array(value):
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _stored(stem):
    count = len(glob.glob(f"{stem}_*.pb"))
    return [_array(onnx.load_tensor(f"{stem}_{n}.pb")) for n in range(count)]


def outputs_of(graph, inputs):
    y = graph(*inputs)
    return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]


IN_PLACE = [case for case in CASES if case[1] not in conformance.MOVED_CORNERS]


def thinned(cases):
    """By default the first case of each operator: test_conv_..., test_Conv2d_..."""
    operators = set()
    for kind, name in cases:
        operator = name.split("_")[1]
        marks = [pytest.mark.exhaustive] if operator in operators else []
        operators.add(operator)
        yield pytest.param(kind, name, marks=marks, id=f"{kind}-{name}")


@pytest.mark.parametrize(("kind", "name"), [*thinned(IN_PLACE)])
def test_cases_of_onnx(path, kind, name):
    if (kind, name) not in found():
        pytest.skip(f"ONNX {onnx.__version__} has no such test")
    test = found()[kind, name]
    inputs, outputs = arrays(test)
    model = conformance._model(test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some overflow on purpose
        export(build(model), tuple(inputs), path, dynamic_batch=False)
        y = outputs_of(load(path), inputs)
    onnx.checker.check_model(str(path), full_check=True)
    for actual, expected in zip(y, outputs, strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)
    assert onnx.load(path).opset_import[0].version >= 21


def written_again(path, kind, shape, opset, weights=None, outputs=("y",), **attributes):
    """Export a node of an old operator set to ``path``, and return the old model."""
    node = onnx.helper.make_node(kind, ["x", *(weights or {})], list(outputs), "old", **attributes)
    named = [name for name in outputs if name]
    old = model_of([node], {"x": ["n", *shape[1:]]}, named, weights, opset)
    export(build(old), normal(*shape, dtype="float32"), path)
    onnx.checker.check_model(str(path), full_check=True)
    return old


FACTORS = np.array([1, 1, 2, 3], "float32")
MIXED = np.array([1, 1, 0.5, 1.5], "float32")
OLD = {
    "clip": ("Clip", 6, {}, {"min": -0.5, "max": 0.7}),
    "clip-half": ("Clip", 10, {}, {"min": -0.5}),
    "dropout": ("Dropout", 7, {}, {"ratio": 0.3}),
    "dropout-default": ("Dropout", 10, {}, {}),
    "pad": ("Pad", 7, {}, {"pads": [0, 0, 1, 0, 0, 0, 2, 3], "value": 1.5}),
    "pad-crop": ("Pad", 7, {}, {"pads": [0, 0, -1, 0, 0, 0, 2, 3]}),
    "pad-reflect": ("Pad", 10, {}, {"pads": [0, 0, 1, 0, 0, 0, 2, 3], "mode": "reflect"}),
    "reduce-sum": ("ReduceSum", 12, {}, {"axes": [1, -1], "keepdims": 0}),
    "reduce-all": ("ReduceSum", 7, {}, {}),
    "reduce-mean": ("ReduceMean", 17, {}, {"axes": [2]}),
    "reduce-max": ("ReduceMax", 13, {}, {"axes": [1]}),
    "reduce-min": ("ReduceMin", 7, {}, {"axes": [1], "keepdims": 0}),
    "slice": ("Slice", 9, {}, {"starts": [1, 0], "ends": [9, 99], "axes": [2, 0]}),
    "slice-first": ("Slice", 7, {}, {"starts": [0, 1], "ends": [99, 3]}),
    "softmax": ("Softmax", 11, {}, {}),
    "softmax-2": ("Softmax", 12, {}, {"axis": 2}),
    "softmax-last": ("Softmax", 7, {}, {"axis": -1}),
    "log-softmax": ("LogSoftmax", 12, {}, {"axis": -2}),
    "unsqueeze": ("Unsqueeze", 11, {}, {"axes": [1, 4]}),
    "squeeze": ("Squeeze", 11, {}, {"axes": [3]}),
    "squeeze-all": ("Squeeze", 11, {}, {}),
    "depth-to-space": ("DepthToSpace", 10, {}, {"blocksize": 2}),
    "space-to-depth": ("SpaceToDepth", 12, {}, {"blocksize": 2}),
    "upsample-7": ("Upsample", 7, {}, {"scales": [1.0, 1.0, 2.0, 3.0]}),
    "upsample-7-linear": ("Upsample", 7, {}, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "linear"}),
    "upsample": ("Upsample", 9, {"s": FACTORS}, {}),
    "upsample-linear": ("Upsample", 9, {"s": FACTORS}, {"mode": "linear"}),
    "resize": ("Resize", 10, {"s": FACTORS}, {"mode": "nearest"}),
    "resize-mixed": ("Resize", 10, {"s": MIXED}, {}),
    "resize-linear": ("Resize", 10, {"s": MIXED}, {"mode": "linear"}),
}
SHAPES = {"squeeze": (2, 4, 6, 1), "squeeze-all": (2, 4, 1, 1)}


@pytest.mark.parametrize("name", OLD)
def test_a_node_of_an_older_operator_set(path, name):
    kind, opset, weights, attributes = OLD[name]
    shape = SHAPES.get(name, (2, 4, 6, 4))
    old = written_again(path, kind, shape, opset, weights, **attributes)
    x = normal(3, *shape[1:], seed=1, dtype="float32")  # another batch
    before = path.with_name("old.onnx")
    onnx.save(old, before)
    assert_matches(run_file(path, x)[0], run_file(before, x)[0])


def test_every_old_form_is_known():
    """Written unchanged or upgraded; what is left is written as the calls that compute it."""
    left = set()
    for domain, kind in OPERATORS:
        for opset in range(6, 21) if not domain else ():
            if onnx.defs.has(kind, opset):
                node = Node(kind, "", "", {}, ["x"], ["y"], opset, 1)
                if not is_current(node, 21) and not can_upgrade(node):
                    left.add(kind)
    assert left == {"GroupNormalization", "PRelu"}


@pytest.mark.parametrize("others", [(), ("", "", "", "")], ids=["one", "empty"])
@pytest.mark.parametrize("opset", [6, 7, 12])
def test_a_batch_norm_stays_one(path, opset, others):
    """Upgraded batch-norm trains like the original."""
    names = ["scale", "bias", "mean", "var"]
    weights = {n: np.abs(normal(4, seed=i, dtype="float32")) for i, n in enumerate(names)}
    settings = {"is_test": 1} if opset == 6 else {}
    shape, outputs = (2, 4, 3, 3), ("y", *others)
    old = written_again(path, "BatchNormalization", shape, opset, weights, outputs, **settings)
    x = normal(3, 4, 5, 2, seed=1, dtype="float32")
    graphs = build(old), load(path)
    graphs[0].inputs["x"] = graphs[1].inputs["x"] = None
    assert [n.type for n in graphs[1]._nodes.values()] == ["BatchNormalization"]
    for first, second in zip(*(outputs_of(g.train(), [x]) for g in graphs), strict=True):
        assert_matches(second, first)
    for first, second in zip(*(g.state_dict().values() for g in graphs), strict=True):
        assert_matches(second, first)


@pytest.mark.parametrize("kind", ["Add", "Equal", "Less", "Or"])
@pytest.mark.parametrize(
    ("shape", "settings", "lies"),
    [
        ((3,), {"broadcast": 1, "axis": 1}, (3, 1)),
        ((3, 4), {"broadcast": 1}, (3, 4)),
        ((4,), {"broadcast": 1, "axis": -1}, (4,)),
        ((2, 3, 4), {}, (2, 3, 4)),
    ],
    ids=str,
)
def test_the_broadcasting_of_old(path, kind, shape, settings, lies):
    dtype = "bool" if kind == "Or" else "int64" if kind == "Add" else "int32"
    a = np.random.default_rng(0).integers(0, 2, (2, 3, 4)).astype(dtype)
    b = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    node = onnx.helper.make_node(kind, ["a", "b"], ["y"], **settings)
    types = {"a": dtype, "b": dtype}
    old = model_of([node], {"a": a.shape, "b": shape}, ["y"], opset=6, types=types)
    export(build(old), (a, b), path, dynamic_batch=False)
    ufunc = {"Add": np.add, "Equal": np.equal, "Less": np.less, "Or": np.logical_or}[kind]
    np.testing.assert_array_equal(run_file(path, a, b)[0], ufunc(a, b.reshape(lies)))


@pytest.mark.parametrize(("opset", "sizes"), [(11, None), (11, [3, 2, 1]), (13, [1, 2, 3])])
def test_splits(path, opset, sizes):
    old = {"split": sizes} if sizes and opset < 13 else {}
    weights = {"sizes": np.array(sizes)} if sizes and opset >= 13 else None
    names = ["a", "b", "c"]
    written_again(path, "Split", (2, 6), opset, weights, names, axis=1, **old)
    x = normal(5, 6, dtype="float32")
    ends = np.cumsum(sizes or [2, 2, 2])[:-1]
    for y, expected in zip(run_file(path, x), np.split(x, ends, 1), strict=True):
        assert_matches(y, expected)


def test_gemm_of_old(path):
    weights = {"b": normal(4, 3, dtype="float32"), "c": normal(3, dtype="float32")}
    written_again(path, "Gemm", (2, 4), 6, weights, broadcast=1, alpha=0.5)
    x = normal(5, 4, dtype="float32")
    assert_matches(run_file(path, x)[0], 0.5 * x @ weights["b"] + weights["c"])


@pytest.mark.parametrize("opset", [7, 9])
def test_a_mask_that_nobody_takes(path, opset):
    nodes = [
        onnx.helper.make_node("Dropout", ["x"], ["h", "mask"], "drop"),
        onnx.helper.make_node("Relu", ["h"], ["y"]),
    ]
    x = normal(2, 3, dtype="float32")
    export(build(model_of(nodes, {"x": ["n", 3]}, ["y"], opset=opset)), x, path)
    assert_matches(run_file(path, x)[0], np.maximum(x, 0))


def test_what_functions_do_not_compute_is_refused(path):
    """A mask of numbers, which no current version has."""
    with pytest.raises(UnsupportedOperatorError, match=r"'old' \(Dropout.*an output that"):
        written_again(path, "Dropout", (2, 3), 7, outputs=("y", "mask"))
