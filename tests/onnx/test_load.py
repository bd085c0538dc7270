"""Reading ONNX files: supported models, and errors for malformed ones."""

import itertools
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import xcnn
from xcnn.errors import FileFormatError, UnsupportedOperatorError, XcnnError
from xcnn.onnx.importer import build
from xcnn.onnx.importer.load import OPSETS
from xcnn.onnx.reader import Source, array_of

from ..conftest import PACKAGE, normal
from .models import model_of

X = normal(2, 3, dtype="float32")
DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64"]
DTYPES += ["uint8", "uint16", "uint32", "uint64", "bool"]
SOURCE = Source(None, 2**20)


def relu_model(**settings):
    node = helper.make_node("Relu", ["x"], ["y"], name="r")
    return model_of([node], {"x": (2, 3)}, ["y"], **settings)


def node_of(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, name="the node", **attributes)


def numbers(dtype):
    top = 2 if dtype == "bool" else 100
    return np.random.default_rng(0).integers(0, top, (2, 3)).astype(dtype)


# -- arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_arrays(dtype, raw, shape):
    array = np.resize(numbers(dtype), shape).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    values = array.tobytes() if raw else array.reshape(-1).tolist()
    tensor = helper.make_tensor("t", kind, shape, values, raw=raw)
    found = array_of(tensor, SOURCE, "t")
    assert (found.dtype, found.shape) == (array.dtype, shape)
    assert found.flags.writeable
    np.testing.assert_array_equal(found, numpy_helper.to_array(tensor))
    np.testing.assert_array_equal(found, array)


def test_negative_and_extreme_values():
    for dtype in ("int8", "int16", "int32", "int64", "uint32", "uint64"):
        limits = np.iinfo(dtype)
        array = np.array([limits.min, limits.max], dtype)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = helper.make_tensor("t", kind, (2,), array.tolist())
        np.testing.assert_array_equal(array_of(tensor, SOURCE, "t"), array)


def test_any_byte_but_zero_is_true():
    tensor = helper.make_tensor("t", TensorProto.BOOL, (3,), bytes([0, 1, 7]), raw=True)
    found = array_of(tensor, SOURCE, "t")
    assert found.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "name", ["BFLOAT16", "FLOAT8E4M3FN", "INT4", "UINT4", "STRING", "COMPLEX64", "UNDEFINED"]
)
def test_unsupported_types(name):
    tensor = TensorProto(name="t", data_type=TensorProto.DataType.Value(name), dims=[1])
    with pytest.raises(
        FileFormatError, match=f"weight 'w' is of type {name}: supported are .'float32'"
    ):
        array_of(tensor, SOURCE, "weight 'w'")


def test_a_type_of_the_future():
    with pytest.raises(FileFormatError, match="type number 999"):
        array_of(TensorProto(data_type=999, dims=[1]), SOURCE, "t")


def test_inputs_and_outputs_of_other_types():
    model = relu_model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(FileFormatError, match="input 'x' is of type STRING"):
        build(model)
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    with pytest.raises(FileFormatError, match="input 'x' is of kind sequence_type"):
        build(model)


def test_sparse_weights():
    model = relu_model()
    model.graph.sparse_initializer.add()
    with pytest.raises(FileFormatError, match="sparse"):
        build(model)


# -- the file -----------------------------------------------------------------------------------


def test_a_file(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(relu_model(), path)
    graph = xcnn.onnx.load(path)
    assert isinstance(graph, xcnn.onnx.Graph)
    assert not graph.training
    np.testing.assert_array_equal(graph(X).numpy(), np.maximum(X, 0))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        xcnn.onnx.load(tmp_path / "none.onnx")


def test_files_of_another_kind(tmp_path):
    xcnn.save(xcnn.nn.Linear(2, 3), tmp_path / "weights")
    cases = {
        "weights": "safetensors file, which xcnn.load reads",
        "zip": "torch.onnx.export",
        "empty": "0 bytes",
        "text": "truncated, damaged",
    }
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(50))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("this is not a model")
    for name, expected in cases.items():
        with pytest.raises(FileFormatError, match=expected):
            xcnn.onnx.load(tmp_path / name)
    with pytest.raises(FileFormatError, match="is not a regular file"):
        xcnn.onnx.load(tmp_path)


def test_a_file_larger_than_protobuf_can_hold(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(FileFormatError, match="2147483648 bytes"):
        xcnn.onnx.load(path)


def test_without_the_package(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
sys.modules["onnx"] = None
import xcnn
import xcnn.onnx
try:
    xcnn.onnx.load("model.onnx")
except xcnn.errors.XcnnError as error:
    print(isinstance(error, ImportError), error)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("True ")
    assert "pip install onnx" in found.stdout


# -- versions -----------------------------------------------------------------------------------


def test_versions_of_the_format():
    model = relu_model()
    for version in (0, -1, onnx.IR_VERSION + 1):
        model.ir_version = version
        with pytest.raises(FileFormatError, match=f"version {version} of the format.*upgrade onnx"):
            build(model)


@pytest.mark.parametrize("version", [5, -1, 1000])
def test_versions_of_the_operators(version):
    with pytest.raises(FileFormatError, match=f"version {version}"):
        build(relu_model(opset=version))


@pytest.mark.parametrize("version", [OPSETS[0], min(OPSETS[1], onnx.defs.onnx_opset_version())])
def test_the_oldest_and_the_newest_operators(version):
    np.testing.assert_array_equal(build(relu_model(opset=version))(X).numpy(), np.maximum(X, 0))


def test_operators_newer_than_the_package(monkeypatch):
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 20)
    with pytest.raises(
        FileFormatError, match="knows only versions up to 20: pip install --upgrade onnx"
    ):
        build(relu_model(opset=21))


def test_no_version_and_two_versions():
    model = relu_model()
    model.opset_import.add(domain="ai.onnx", version=20)
    with pytest.raises(FileFormatError, match="two versions of operator set ''"):
        build(model)
    del model.opset_import[:]
    with pytest.raises(FileFormatError, match="does not import operator set ''"):
        build(model)


# -- the graph ----------------------------------------------------------------------------------


def test_no_graph_and_no_outputs():
    model = relu_model()
    del model.graph.output[:]
    for broken in (onnx.ModelProto(ir_version=10), model):
        with pytest.raises(FileFormatError, match="no graph with outputs"):
            build(broken)


def chain(*pairs, outputs=("y",)):
    nodes = [helper.make_node("Relu", [a], [b], name=f"{a}{b}") for a, b in pairs]
    return model_of(nodes, {"x": (2, 3)}, outputs)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (chain(("a", "y"), ("x", "a")), "node 'ay' (Relu): input 'a' is defined by a later node"),
        (
            chain(("b", "a"), ("a", "b"), ("a", "y")),
            "node 'ba' (Relu): input 'b' is defined by a later",
        ),
        (chain(("y", "y")), "input 'y' is defined by a later node"),
        (chain(("q", "y")), "node 'qy' (Relu): input 'q' is undefined"),
        (chain(("x", "y"), ("x", "y")), "node 'xy' (Relu): output 'y' is defined twice"),
        (chain(("x", "x"), outputs=["x"]), "node 'xx' (Relu): output 'x' is defined twice"),
        (chain(("x", "a")), "output 'y' of the graph is undefined"),
    ],
)
def test_undefined_and_repeated_values(model, text):
    with pytest.raises(FileFormatError) as caught:
        build(model)
    assert text in str(caught.value)


def test_repeated_names():
    model = relu_model(weights={"w": X})
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(FileFormatError, match="weight 'w': expected a unique, non-empty name"):
        build(model)
    model = relu_model()
    model.graph.input.append(model.graph.input[0])
    with pytest.raises(FileFormatError, match="input 'x': expected a unique, non-empty name"):
        build(model)
    constant = helper.make_node("Constant", [], ["x"], value_float=1.0)
    model = relu_model()
    model.graph.node.insert(0, constant)
    with pytest.raises(FileFormatError, match="'x' is defined twice: by a Constant"):
        build(model)
    model.graph.node[0].output[0] = "c"
    model.graph.node.insert(0, model.graph.node[0])
    with pytest.raises(FileFormatError, match=r"node 1.*'c' is defined twice"):
        build(model)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (node_of("Relu", ["x", "x"], ["y"]), "input size 2 not in range"),
        (node_of("Add", ["x"], ["y"]), "input size 1 not in range"),
        (node_of("Relu", ["x"], ["y", "z"]), "output size 2 not in range"),
        (node_of("Relu", [""], ["y"]), "empty string"),
        (node_of("Relu", ["x"], ["y"], slope=1), "Unrecognized attribute: slope"),
        (node_of("Concat", ["x", "x"], ["y"]), "Required attribute 'axis' is missing"),
        (node_of("LeakyRelu", ["x"], ["y"], alpha="a"), "attribute type"),
        (node_of("Flatten", ["x"], ["y"], axis=2**70 // 2**8), "axis"),
    ],
)
def test_invalid_nodes(node, text):
    with pytest.raises(XcnnError, match="node 'the node'") as caught:
        build(model_of([node], {"x": (2, 3)}, ["y"]))(X)
    assert text in str(caught.value)
    assert str(caught.value).count("the node") == 1 + text.count("the node")


def test_attributes_without_or_with_two_values():
    model = model_of([node_of("LeakyRelu", ["x"], ["y"], alpha=0.5)], {"x": (2, 3)}, ["y"])
    (attribute,) = model.graph.node[0].attribute
    attribute.i = 3
    with pytest.raises(FileFormatError, match="node 'the node' \\(LeakyRelu\\)"):
        build(model)
    attribute.ClearField("i")
    attribute.ClearField("f")
    with pytest.raises(FileFormatError, match="attribute alpha of kind FLOAT has no value"):
        build(model)
    attribute.f = 0.5
    model.graph.node[0].attribute.append(attribute)
    with pytest.raises(FileFormatError, match="an attribute is repeated"):
        build(model)


def test_names_that_are_not_utf8():
    content = relu_model(weights={"wwww": X}).SerializeToString()
    for name in (b"wwww", b"Relu"):
        broken = onnx.ModelProto.FromString(content.replace(name, b"\xff\xfe" + name[2:]))
        with pytest.raises(FileFormatError, match="not UTF-8"):
            build(broken)


# -- operators ----------------------------------------------------------------------------------


def test_all_unsupported_operators_at_once():
    body = helper.make_graph([], "body", [], [helper.make_empty_tensor_value_info("x")])
    nodes = [
        helper.make_node("Scan", ["x"], ["a"], num_scan_inputs=1, body=body),
        helper.make_node("Loop", ["", "c"], ["b"], name="a loop", body=body),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("FusedConv", ["x"], ["d"], domain="com.example"),
    ]
    with pytest.raises(UnsupportedOperatorError) as caught:
        build(model_of(nodes, {"x": (2, 3), "c": ()}, ["y"]))
    *listed, last = str(caught.value).splitlines()
    assert listed == [
        "3 nodes of the model have unsupported operators:",
        "  Scan: node 0 (output 'a')",
        "  Loop: node 'a loop'",
        "  com.example.FusedConv: node 3 (output 'd')",
    ]
    assert last.startswith("supported are Abs, ")
    assert ", Constant, " in last


def test_an_unexpected_subgraph():
    body = helper.make_graph([], "body", [], [helper.make_empty_tensor_value_info("x")])
    node = node_of("Relu", ["x"], ["y"], body=body)
    with pytest.raises(FileFormatError, match="attribute body is of kind GRAPH"):
        build(model_of([node], {"x": (2, 3)}, ["y"]))


def function(name, *nodes, version=21):
    imports = [helper.make_opsetid("", version), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], list(nodes), imports)


def with_functions(*functions, call="f"):
    nodes = [helper.make_node(call, ["x"], ["y"], domain="own")]
    model = model_of(nodes, {"x": (2, 3)}, ["y"], {"t": X}, functions=functions)
    model.opset_import.add(domain="own", version=1)
    return model


def test_functions_of_the_model():
    inner = function("g", helper.make_node("Relu", ["a"], ["b"]))
    outer = function(
        "f",
        helper.make_node("g", ["a"], ["t"], domain="own"),
        helper.make_node("LeakyRelu", ["t"], ["b"], alpha=0.5),
    )
    graph = build(with_functions(outer, inner))
    assert [node.type for node in graph.children()] == ["Relu", "LeakyRelu"]
    assert list(graph.state_dict()) == ["t"]  # the inliner does not reuse its name
    np.testing.assert_array_equal(graph(X).numpy(), np.maximum(X, 0))


def test_unsupported_operators_in_functions():
    unknown = function("f", helper.make_node("Nope", ["a"], ["b"]))
    with pytest.raises(UnsupportedOperatorError, match="Nope: node 0"):
        build(with_functions(unknown))


def test_functions_for_other_operators():
    older = function("f", helper.make_node("Relu", ["a"], ["b"]), version=20)
    with pytest.raises(UnsupportedOperatorError, match=r"functions 'f' use other.*convert_version"):
        build(with_functions(older))


def calls(name, count):
    """Nodes that pass ``a`` to ``b`` through ``count`` calls of ``name``."""
    names = ["a", *[f"v{i}" for i in range(count - 1)], "b"]
    return [helper.make_node(name, [a], [b], domain="own") for a, b in itertools.pairwise(names)]


def test_functions_that_expand_without_bound():
    bomb = [function("f0", helper.make_node("Relu", ["a"], ["b"]))]
    bomb += [function(f"f{n}", *calls(f"f{n - 1}", 10)) for n in range(1, 20)]
    with pytest.raises(FileFormatError, match="expand to 10000000000000000000 nodes"):
        build(with_functions(*bomb, call="f19"))
    with pytest.raises(FileFormatError, match="'f' calls itself"):
        build(with_functions(function("f", *calls("f", 2))))
    with pytest.raises(FileFormatError, match="'f' calls itself"):
        build(with_functions(function("f", *calls("g", 2)), function("g", *calls("f", 1))))
    twice = function("f", helper.make_node("Relu", ["a"], ["b"]))
    with pytest.raises(FileFormatError, match="a function twice"):
        build(with_functions(twice, twice))


def test_a_long_chain_of_functions():
    chain = [function("f0", helper.make_node("Relu", ["a"], ["b"]))]
    chain += [function(f"f{n}", *calls(f"f{n - 1}", 1)) for n in range(1, 3000)]
    with pytest.raises(FileFormatError, match=r"malformed: .*recursion"):
        build(with_functions(*chain, call="f2999"))


# -- constants ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_floats": [1.5, 2.0]}, np.float32([1.5, 2.0])),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.int64([3, 4])),
        ({"value": numpy_helper.from_array(X)}, X),
        ({"value": numpy_helper.from_array(np.int8(3))}, np.int8(3)),
    ],
)
def test_constants(attributes, expected):
    graph = build(model_of([helper.make_node("Constant", [], ["y"], **attributes)], {}, ["y"]))
    y = graph().numpy()
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Constant", [], ["y"], value_string="a"),
        helper.make_node("Constant", [], ["y"], value_float=1),
        helper.make_node("Constant", [], ["y"], value=1),
        helper.make_node("Constant", [], ["y"]),
        helper.make_node("Constant", [], ["y"], value_int=1, value_float=1.0),
        helper.make_node("Constant", [], [], value_int=1),
        helper.make_node("Constant", [], [""], value_int=1),
        helper.make_node("Constant", [], ["y", "z"], value_int=1),
        helper.make_node("Constant", ["x"], ["y"], value_int=1),
    ],
)
def test_malformed_constants(node):
    with pytest.raises(FileFormatError, match=r"node 0.*Constant"):
        build(model_of([node], {"x": (2, 3)}, ["y"]))


def test_the_backend_without_the_package(tmp_path):
    """Importing it without the package onnx raises a clear error."""
    (tmp_path / "onnx.py").write_text("raise ImportError('not here')")
    code = "import xcnn.onnx.backend"
    paths = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 1
    assert (
        "MissingPackageError: reading or writing ONNX files needs the package onnx" in done.stderr
    )
    assert "pip install onnx" in done.stderr
