"""A graph as a module: inputs, outputs, weights, hooks, training, copies and files."""

import copy
import itertools
import json
import pickle

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import xcnn
from xcnn import nn
from xcnn.errors import ArgumentError, FileFormatError, ShapeError, XcnnError
from xcnn.onnx.importer import build, load
from xcnn.serialize import describe
from xcnn.tensor import Function
from xcnn.testing import assert_close, gradcheck

from ..conftest import normal
from .models import model_of

X = normal(4, 3, dtype="float32")
W = normal(5, 3, seed=1, dtype="float32")
B = normal(5, seed=2, dtype="float32")
V = normal(2, 5, seed=3, dtype="float32")


def perceptron(batch="N"):
    """Two linear layers, with a scaling by the constant 0.5 between them."""
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], name="fc1", transB=1),
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.float32(0.5))),
        helper.make_node("Mul", ["h", "half"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"], name="the.relu"),
        helper.make_node("Gemm", ["r", "fc2.weight"], ["y"], name="fc2", transB=1),
    ]
    weights = {"fc1.weight": W, "fc1.bias": B, "fc2.weight": V}
    return model_of(nodes, {"x": (batch, 3)}, ["y"], weights)


def expected(x):
    return np.maximum((x @ W.T + B) / 2, 0) @ V.T


def given(backend, *arrays):
    return [backend.asarray(a) for a in arrays]


# -- running ------------------------------------------------------------------------------------


def test_running_and_gradients(backend):
    graph = build(perceptron()).to(backend)
    x = xcnn.Tensor(backend.asarray(X), requires_grad=True)
    y = graph(x)
    assert y.device == backend.device
    assert_close(y.numpy(), expected(X))
    y.sum().backward()
    active = (X @ W.T + B > 0).astype("float32") / 2
    assert_close(backend.to_host(x.grad.data), (np.ones((4, 2), "float32") @ V * active) @ W)
    slope = backend.to_host(dict(graph.named_parameters())["fc1.bias"].grad.data)
    assert_close(slope, (np.ones((4, 2), "float32") @ V * active).sum(0))
    assert graph(backend.asarray(X[:0])).shape == (0, 2)


def test_names_and_state(backend):
    graph = build(perceptron()).to(backend)
    assert (graph.input_names, graph.output_names) == (["x"], ["y"])
    assert graph.inputs == {"x": ("N", 3)}
    assert list(dict(graph.named_parameters())) == ["fc1.weight", "fc1.bias", "fc2.weight"]
    assert list(dict(graph.named_buffers())) == ["half"]
    assert list(dict(graph.named_children())) == ["fc1", "Mul_2", "the_relu", "fc2"]
    graph.load_state_dict({"fc1.bias": np.zeros(5)}, strict=False)
    assert_close(graph(backend.asarray(X)).numpy(), np.maximum(X @ W.T / 2, 0) @ V.T)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_another_precision(backend, dtype):
    graph = build(perceptron()).to(backend, dtype)
    y = graph(backend.asarray(X.astype(dtype)))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), expected(X), rtol=2e-2, atol=2e-2)


def test_wrong_inputs():
    graph = build(perceptron(batch=4))
    with pytest.raises(ArgumentError, match=r"2 inputs: this graph takes 1: \['x'\]"):
        graph(X, X)
    with pytest.raises(ShapeError, match=r"shape \(2, 3\): expected \(4, 3\).*graph.inputs"):
        graph(X[:2])
    graph.inputs["x"] = (None, 3)
    assert_close(graph(X[:2]).numpy(), expected(X[:2]))
    with pytest.raises(ShapeError, match="expected \\(any, 3\\)"):
        graph(X[:, :2])
    with pytest.raises(XcnnError, match="node 'fc1' \\(Gemm\\): input 0 is omitted"):
        graph(None)


def test_optional_inputs(backend):
    clip = helper.make_node("Clip", ["x", "low"], ["y"])
    graph = build(model_of([clip], {"x": (4, 3), "low": ()}, ["y"])).to(backend)
    assert_close(graph(*given(backend, X, np.float32(0))).numpy(), np.maximum(X, 0))
    assert_close(graph(backend.asarray(X), None).numpy(), X)


def test_a_weight_that_is_also_an_input():
    """Before 2019 files listed all weights as inputs; now it marks a weight as a default."""
    model = perceptron()
    model.graph.input.append(helper.make_tensor_value_info("fc1.bias", 1, (5,)))
    graph = build(model)
    assert graph.input_names == ["x"]
    assert_close(graph(X).numpy(), expected(X))


def test_outputs_without_a_node(backend):
    relu = helper.make_node("Relu", ["x"], ["y"])
    weights = {"w": W, "n": np.int64([1, 2]), "unused": B}
    model = model_of([relu], {"x": (4, 3)}, ["x", "w", "n", "y", "y"], weights)
    graph = build(model).to(backend)
    found = graph(backend.asarray(X))
    assert all(y.device == backend.device for y in found)
    for y, array in zip(
        found, (X, W, weights["n"], np.maximum(X, 0), np.maximum(X, 0)), strict=True
    ):
        assert_close(y.numpy(), array)
    assert set(graph.state_dict()) == {"w", "unused"}
    with pytest.raises(XcnnError, match="input 0 is omitted"):
        graph(None)


def test_an_input_that_is_an_output():
    graph = build(model_of([], {"x": (4, 3)}, ["x"]))
    assert_close(graph(X).numpy(), X)
    with pytest.raises(ArgumentError, match="input 'x' is None"):
        graph(None)


def test_without_inputs(backend):
    relu = helper.make_node("Relu", ["w"], ["y"])
    graph = build(model_of([relu], {}, ["y"], {"w": W})).to(backend)
    y = graph()
    assert_close(y.numpy(), np.maximum(W, 0))
    y.sum().backward()
    (parameter,) = graph.parameters()
    assert_close(backend.to_host(parameter.grad.data), (W > 0).astype("float32"))


def test_host_values_are_moved_to_the_device(backend):
    shape = helper.make_node("Shape", ["x"], ["y"])
    y = build(model_of([shape], {"x": None}, ["y"]))(backend.asarray(X))
    assert y.device == backend.device
    assert y.numpy().tolist() == [4, 3]


def test_weights_of_several_nodes(backend):
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["y"]),
    ]
    weights = {"w": B[:3]}
    graph = build(model_of(nodes, {"x": (4, 3)}, ["y"], weights)).to(backend)
    assert len(list(graph.parameters())) == 1
    graph(backend.asarray(X)).sum().backward()
    (parameter,) = graph.parameters()
    assert_close(backend.to_host(parameter.grad.data), (2 * X * B[:3]).sum(0))


def test_equal_weights_stored_once():
    """PyTorch stores equal weights once; they are loaded as separate weights."""
    nodes = [
        helper.make_node("Identity", ["bn.weight"], ["bn.running_var"]),
        helper.make_node("Identity", ["bn.running_var"], ["again"]),
        helper.make_node(
            "BatchNormalization",
            ["x", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"],
            ["y"],
        ),
    ]
    weights = {"bn.weight": np.ones(3, "float32"), "bn.bias": B[:3], "bn.running_mean": B[:3]}
    graph = build(model_of(nodes, {"x": (4, 3)}, ["y", "again"], weights))
    assert set(graph.state_dict()) == {*weights, "bn.running_var", "again"}
    assert set(dict(graph.named_parameters())) == {"bn.weight", "bn.bias"}
    graph.train()(X)
    np.testing.assert_array_equal(graph.state_dict()["bn.weight"], 1)
    assert (graph.state_dict()["bn.running_var"] != 1).all()
    copied = xcnn.serialize.build(describe(graph))
    assert copied.state_dict().keys() == graph.state_dict().keys()


# -- looking inside -----------------------------------------------------------------------------


def test_repr():
    assert str(build(perceptron())).splitlines() == [
        "Graph(x -> y)(",
        "  (fc1): Gemm(transB=1): x, fc1.weight, fc1.bias -> h",
        "  (Mul_2): Mul(): h, half -> s",
        "  (the_relu): Relu(): s -> r",
        "  (fc2): Gemm(transB=1): r, fc2.weight -> y",
        ")",
    ]


def test_control_characters_in_names():
    node = helper.make_node("Relu", ["x"], ["y\n\x1b[2J"], name="\x1b[31m\n")
    text = str(build(model_of([node], {"x": (4, 3)}, ["y\n\x1b[2J"])))
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3


def test_nodes_of_the_same_name():
    names = ["a", "a", "a#2", "a#1", "a", "a.b", "a_b"]
    values = ["x", *[f"v{n}" for n in range(len(names))]]
    pairs = itertools.pairwise(values)
    nodes = [
        helper.make_node("Relu", [i], [o], name=n) for (i, o), n in zip(pairs, names, strict=True)
    ]
    graph = build(model_of(nodes, {"x": (4, 3)}, [values[-1]]))
    assert len(dict(graph.named_children())) == len(names)
    assert_close(graph(X).numpy(), np.maximum(X, 0))


def test_the_summary():
    rows = xcnn.summary(build(perceptron()), (3,)).splitlines()
    assert [row.split()[:2] for row in rows[3:7]] == [
        ["fc1", "Gemm"],
        ["Mul_2", "Mul"],
        ["the_relu", "Relu"],
        ["fc2", "Gemm"],
    ]
    assert rows[3].split()[2:5] == ["5", "20", "15"]
    assert rows[8].split()[:3] == ["total", "30", "25"]


def test_the_summary_of_several_outputs():
    split = helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2)
    add = helper.make_node("Add", ["a", "b"], ["y"])
    rows = xcnn.summary(build(model_of([split, add], {"x": (1, 4)}, ["y"])), (4,)).splitlines()
    assert rows[3].split() == ["Split_0", "Split", "2", "0", "0", "16", "B"]


@pytest.mark.parametrize(
    ("kind", "x", "w", "products"),
    [
        ("Conv", (1, 4, 5, 5), (6, 2, 3, 3), 6 * 3 * 3 * 2 * 9),
        ("MatMul", (1, 4), (4, 3), 12),
        ("Gemm", (1, 4), (4, 3), 12),
    ],
)
def test_multiply_adds(kind, x, w, products):
    settings = {"group": 2} if kind == "Conv" else {}
    node = helper.make_node(kind, ["x", "w"], ["y"], **settings)
    graph = build(model_of([node], {"x": x}, ["y"], {"w": np.ones(w, "float32")}))
    (only,) = graph.children()
    assert only.multiply_adds(graph(np.ones(x, "float32")).shape) == products


def test_activations_and_hooks():
    graph = build(perceptron())
    with nn.record_activations(graph) as activations:
        graph(X)
    assert list(activations) == ["fc1", "Mul_2", "the_relu", "fc2", ""]
    assert_close(activations["Mul_2"], (X @ W.T + B) / 2)
    relu = dict(graph.named_modules())["the_relu"]
    handle = relu.register_forward_hook(lambda module, inputs, output: inputs[0])
    assert_close(graph(X).numpy(), (X @ W.T + B) / 2 @ V.T)
    handle.remove()
    assert_close(graph(X).numpy(), expected(X))


def linear_relu(*more, outputs=("y",)):
    """y = max(x Wᵀ + B, 0), and further nodes."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="fc", transB=1),
        helper.make_node("Relu", ["h"], ["y"], name="relu"),
        *more,
    ]
    return build(model_of(nodes, {"x": (None, 3)}, outputs, {"w": W, "b": B}))


@pytest.fixture
def operations(monkeypatch):
    """Names of the Functions that are called."""
    names, call = [], Function.__call__

    def recorded(self, *inputs):
        names.append(type(self).__name__)
        return call(self, *inputs)

    monkeypatch.setattr(Function, "__call__", recorded)
    return names


def test_a_relu_is_fused_with_the_node_before(backend, operations):
    graph, h = linear_relu(), X @ W.T + B
    assert_close(graph(X).numpy(), np.maximum(h, 0))
    assert operations == ["Linear"]
    graph.to(backend.device, "float64")
    gradcheck(graph, backend.asarray(X, "float64"))


@pytest.mark.parametrize(
    ("more", "outputs"),
    [
        ([], ("y", "h")),
        ([helper.make_node("Add", ["h", "y"], ["z"])], ("y", "z")),
        ([helper.make_node("Relu", ["h"], ["z"])], ("y", "z")),
    ],
)
def test_a_relu_is_not_fused_if_its_input_has_other_uses(operations, more, outputs):
    h = X @ W.T + B
    found = linear_relu(*more, outputs=outputs)(X)
    assert operations[:2] == ["Linear", "ReLU"]
    assert_close(found[0].numpy(), np.maximum(h, 0))
    wanted = {"h": h, "z": h + np.maximum(h, 0) if "Add" in operations else np.maximum(h, 0)}
    assert_close(found[1].numpy(), wanted[outputs[1]])


@pytest.mark.parametrize("path", ["fc", "relu"])
def test_a_relu_is_not_fused_past_a_hook(operations, path):
    graph, seen = linear_relu(), []
    handle = dict(graph.named_modules())[path].register_forward_hook(
        lambda module, inputs, output: seen.append(output.numpy())
    )
    graph(X)
    assert operations == ["Linear", "ReLU"]
    assert (seen[0] < 0).any() == (path == "fc")
    handle.remove()
    graph(X)
    assert operations[2:] == ["Linear"]


def test_errors_name_the_node_once():
    add = helper.make_node("Add", ["x", "b"], ["y"], name="the sum")
    graph = build(model_of([add], {"x": (4, 3)}, ["y"], {"b": B}))
    for model in (graph, nn.Sequential(graph)):
        with pytest.raises(XcnnError, match="the sum") as caught:
            model(X)
        assert str(caught.value).count("the sum") == 1
        assert str(caught.value).count("Add") == 1


def test_inside_other_modules():
    model = nn.Sequential(nn.Linear(6, 3), build(perceptron()), nn.ReLU())
    assert "1.fc1.weight" in model.state_dict()
    assert model(normal(4, 6, dtype="float32")).shape == (4, 2)


# -- training, copies, files --------------------------------------------------------------------


def test_training(backend):
    graph = build(perceptron()).to(backend)
    trainer = xcnn.Trainer(graph, xcnn.optim.SGD(graph.parameters(), 0.1))
    x = normal(64, 3, dtype="float32")
    y = (x[:, 0] > x[:, 1]).astype("int64")
    history = trainer.fit(x, y, epochs=4, batch_size=16)
    assert history[-1].train_loss < history[0].train_loss


def test_the_mode():
    graph = build(perceptron())
    assert not any(module.training for module in graph.modules())
    assert all(module.training for module in graph.train().modules())


def duplicates(graph, path):
    yield copy.deepcopy(graph)
    yield pickle.loads(pickle.dumps(graph))
    xcnn.save(graph, path)
    yield xcnn.load(path)
    xcnn.save(xcnn.load(path), path)
    yield xcnn.load(path)


def test_copies(tmp_path):
    graph = build(perceptron())
    for other in duplicates(graph, tmp_path / "model.safetensors"):
        assert str(other) == str(graph)
        assert other.inputs == graph.inputs
        assert other.metadata == graph.metadata
        assert_close(other(X).numpy(), expected(X))
        before = graph.state_dict()
        for parameter in other.parameters():
            parameter.data[...] = 0
        assert all(np.array_equal(a, before[k]) for k, a in graph.state_dict().items())
        kinds = {n: type(t) for n, t in graph._state()}
        assert {n: type(t) for n, t in other._state()} == kinds


def test_trained_weights_come_back(tmp_path, backend):
    path = tmp_path / "model.safetensors"
    graph = build(perceptron()).to(backend, "float64")
    for parameter in graph.parameters():
        parameter.data += 1
    xcnn.save(nn.Sequential(graph, nn.ReLU()), path)
    loaded = xcnn.load(path)
    y = loaded(X.astype("float64"))
    assert y.dtype == "float64"
    assert_close(y.numpy(), np.maximum(graph(backend.asarray(X.astype("float64"))).numpy(), 0))


def test_saved_description(tmp_path):
    """A saved graph holds nodes and settings; the weights come from the state dict."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Clip", ["r", "low"], ["c"]),
        helper.make_node("Mul", ["c", "w"], ["y"]),
    ]
    w = normal(4000, dtype="float32")
    weights = {"shape": np.int64([1, -1]), "low": np.float32(0.25), "w": w}
    model = model_of(nodes, {"x": (4000,)}, ["y"], weights)
    model.metadata_props.add(key="author", value="a test")
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights")
    onnx.save(model, tmp_path / "model.onnx")
    graph = load(tmp_path / "model.onnx")
    assert set(graph.settings) == {"shape", "low"}
    text = json.dumps(describe(graph))
    assert len(text) < 2000
    xcnn.save(graph, tmp_path / "model.safetensors")
    for path in tmp_path.glob("*onnx*"):
        path.unlink()
    loaded = xcnn.load(tmp_path / "model.safetensors")
    assert loaded.metadata == {"author": "a test"}
    assert_close(loaded(w).numpy(), np.maximum(w, 0.25)[None] * w)


def test_a_graph_of_functions_is_saved(tmp_path):
    body = helper.make_function(
        "own",
        "f",
        ["a"],
        ["b"],
        [helper.make_node("Relu", ["a"], ["b"])],
        [helper.make_opsetid("", 21)],
    )
    node = helper.make_node("f", ["x"], ["y"], domain="own")
    model = model_of([node], {"x": (4, 3)}, ["y"], functions=[body])
    model.opset_import.add(domain="own", version=1)
    xcnn.save(build(model), tmp_path / "model.safetensors")
    assert_close(xcnn.load(tmp_path / "model.safetensors")(X).numpy(), np.maximum(X, 0))


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", 3, ["a"], {"class": "ReLU", "arguments": {}}])
def test_invalid_descriptions(tmp_path, text):
    path = tmp_path / "model.safetensors"
    architecture = json.dumps({"class": "onnx.Graph", "arguments": {"model": text}})
    xcnn.save(nn.ReLU(), path, {"architecture": architecture})
    with pytest.raises(FileFormatError, match="architecture cannot be built"):
        xcnn.load(path)


def test_weights_without_data_are_for_saved_graphs_only():
    model = perceptron()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    with pytest.raises(FileFormatError, match=r"weight 'fc1.weight' has external data"):
        build(model)
