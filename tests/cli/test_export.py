"""``xcnn export`` and the other commands on ONNX files."""

import json
import re
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

import xcnn
from xcnn import data

from ..onnx.models import model_of
from .runs import inputs


@pytest.fixture
def exported(run, trained):
    """What exporting ``trained`` to model.onnx printed."""
    done = run(f"export {trained} model.onnx")
    assert (done.status, done.err) == (0, "")
    return done.out


def save_image(name, number=0):
    """Write an image of the dataset that the network was trained on."""
    Image.fromarray(data.load("digits").test.arrays[0][number, 0]).save(name)


def test_export_prints_inputs_and_outputs(exported):
    lines = exported.splitlines()
    assert lines[0].startswith("model.onnx: ")
    assert " parameters, " in lines[0]
    assert lines[1].startswith("  input: float32 (batch, 1, 32, 32), (x / 255 - mean) / std with")
    assert lines[2] == "  output: scores, softmax gives the probabilities; 10 classes"


def test_onnxruntime_gives_the_same_numbers(exported, trained):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    x, _ = inputs(trained, data.load("digits").test, 5)
    (outputs,) = session.run(None, {"input": np.ascontiguousarray(x)})
    expected = xcnn.load(trained / "model.safetensors")(x).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_metadata(exported, trained):
    metadata = {p.key: json.loads(p.value) for p in onnx.load("model.onnx").metadata_props}
    config = json.loads((trained / "config.json").read_text())
    for key in ("classes", "input_shape", "loss", "mean", "std", "scale", "data"):
        assert metadata[key] == config[key]
    assert metadata["crop"] is False


@pytest.mark.parametrize("command", ["predict {} a.png b.png --top 4", "evaluate {} --limit 99"])
def test_predict_and_evaluate(run, exported, trained, command):
    save_image("a.png")
    save_image("b.png", 1)
    from_run, from_file = (run(command.format(name)) for name in (trained, "model.onnx"))
    assert (from_file.status, from_file.err) == (0, "")
    assert from_file.out == from_run.out


def test_summary(run, exported):
    done = run("summary model.onnx")
    assert (done.status, done.err) == (0, "")
    assert "Gemm" in done.out
    assert "132,490" in done.out


@pytest.mark.parametrize("model", ["mlp", "resnet20"])
def test_training_starts_from_a_file(run, trained, resnet, model):
    folder = trained if model == "mlp" else resnet / "run"
    assert run(f"export {folder} first.onnx").status == 0
    line = f"train {model} --limit 20 --epochs 1 --quiet --device cpu --lr 0 --out second"
    done = run(f"{line} --init first.onnx")
    assert (done.status, done.err) == (0, "")
    first, second = (
        dict(xcnn.load(f"{run}/model.safetensors").named_parameters()) for run in (folder, "second")
    )
    assert first
    for name, parameter in first.items():
        np.testing.assert_array_equal(second[name].data, parameter.data)


def save_classifier(path, classes=3, end="Softmax"):
    """Write a file without metadata: the mean of each colour times a matrix."""
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
        onnx.helper.make_node("Flatten", ["means"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "matrix"], ["scores"]),
        onnx.helper.make_node(end, ["scores"], ["y"]),
    ]
    matrix = 4 * np.eye(3, classes, dtype="float32")
    onnx.save(model_of(nodes, {"pixels": [2, 3, 8, 6]}, ["y"], {"matrix": matrix}), path)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("end", ["Softmax", "Identity"])
def test_predict_without_metadata(run, end):
    save_classifier("rgb.onnx", end=end)
    Image.fromarray(np.full((8, 6, 3), (255, 0, 51), "uint8")).save("pink.png")
    warning = "xcnn: warning: rgb.onnx does not say how its inputs are normalised"
    done = run("predict rgb.onnx pink.png")
    assert done.status == 0
    assert done.err.startswith(warning)
    scores = np.exp([4.0, 0.0, 0.8])
    p = scores / scores.sum()
    assert done.out == f"pink.png  0 {p[0]:.2%}  2 {p[2]:.2%}  1 {p[1]:.2%}\n"
    with open("names.txt", "w") as file:
        file.write("red\ngreen\nblue\n")
    done = run("predict rgb.onnx pink.png --mean 1,0,0 --std 1,1,0.1 --classes names.txt --top 1")
    scores = np.exp([0.0, 0.0, 8.0])
    assert (done.status, done.err) == (0, "")
    assert done.out == f"pink.png  blue {scores[2] / scores.sum():.2%}\n"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("export nowhere model.onnx", "nowhere is not a run folder"),
        ("export {trained} model.pt", "model.pt: expected a file name that ends in .onnx"),
        ("export {trained} no/folder/model.onnx", "no such folder: no/folder"),
        ("predict missing.onnx a.png", "no such file: missing.onnx"),
        ("predict empty.onnx a.png", "empty.onnx"),
        (
            "predict {trained} a.png --mean 0.5",
            "--mean is for ONNX files without metadata: {trained} has its own",
        ),
        ("evaluate rgb.onnx --data digits", "was not written by xcnn export"),
        (
            "predict rgb.onnx a.png --classes names.txt",
            "numbers per image, which does not fit 2 classes",
        ),
        ("predict rgb.onnx a.png --classes a.png", "--classes a.png is not a text in UTF-8"),
        ("predict rgb.onnx a.png --mean 1,2 --std 1,1", "mean"),
        ("predict rgb.onnx a.png --mean 1,2,3", "--mean and --std belong together"),
        ("predict last.onnx a.png", "pixels (2, 8, 6, 3): expected one input (N, C, H, W) with 1"),
        ("predict maps.onnx a.png", "maps.onnx outputs (3, 8, 6) numbers per image: expected one"),
        ("summary missing.onnx", "no such file: missing.onnx"),
        ("summary rgb.onnx --classes 3", "--classes applies to a model name"),
        (
            "summary two.onnx",
            "two.onnx takes a (?, 2), b (?, 2): a summary requires a network with",
        ),
        ("summary open.onnx", "open.onnx takes x (?, h): pass the shape of one example"),
        ("train mlp --init rgb.onnx --out run", "the file must be for the same model"),
    ],
)
def test_errors(run, trained, line, text):
    save_classifier("rgb.onnx")
    save_image("a.png")
    open("empty.onnx", "w").close()
    with open("names.txt", "w") as file:
        file.write("one\ntwo\n")
    relu = onnx.helper.make_node("Relu", ["pixels"], ["y"])
    onnx.save(model_of([relu], {"pixels": [2, 8, 6, 3]}, ["y"]), "last.onnx")
    onnx.save(model_of([relu], {"pixels": [2, 3, 8, 6]}, ["y"]), "maps.onnx")
    add = onnx.helper.make_node("Add", ["a", "b"], ["y"])
    onnx.save(model_of([add], {"a": [1, 2], "b": [None, 2]}, ["y"]), "two.onnx")
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    onnx.save(model_of([relu], {"x": ["N", "h"]}, ["y"]), "open.onnx")
    done = run(line.format(trained=trained))
    assert (done.status, done.out) == (2, "")
    assert text.format(trained=trained) in done.err


def test_a_file_made_for_one_batch_size(run):
    """A Reshape may hold the batch size, as in files of PyTorch."""
    nodes = [
        onnx.helper.make_node("Reshape", ["pixels", "shape"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "matrix"], ["y"]),
    ]
    weights = {"shape": np.array([4, 12]), "matrix": np.eye(12, 3, dtype="float32")}
    onnx.save(model_of(nodes, {"pixels": [4, 3, 2, 2]}, ["y"], weights), "four.onnx")
    pixels = np.arange(12, dtype="uint8").reshape(3, 2, 2) * 20
    np.save("image.npy", pixels)
    done = run("predict four.onnx image.npy --mean 0,0,0 --std 1,1,1")
    scores = np.exp(np.array([0, 20, 40]) / 255)
    p = scores / scores.sum()
    assert (done.status, done.err) == (0, "")
    assert done.out == f"image.npy  2 {p[2]:.2%}  1 {p[1]:.2%}  0 {p[0]:.2%}\n"


def test_weights_of_a_file_without_batch_norms(run, resnet):
    """Exporters fold them in inference."""
    model = onnx.load(resnet / "run.onnx")
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.input[1:]
            node.op_type = "Identity"
            del node.attribute[:]
    weights = [t for t in model.graph.initializer if "bn" not in t.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    onnx.save(model, "folded.onnx")
    done = run("train resnet20 --init folded.onnx --limit 20 --out second")
    assert done.status == 2
    assert "exporters fold them into the preceding convolutions" in done.err
    assert "num_batches_tracked" not in done.err


def test_damaged_metadata(run, exported):
    save_image("a.png")
    for value in ("no json", "[]", '"x"'):
        model = onnx.load("model.onnx")
        next(p for p in model.metadata_props if p.key == "mean").value = value
        onnx.save(model, "damaged.onnx")
        done = run("predict damaged.onnx a.png")
        assert done.status == 2
        assert "damaged.onnx: the metadata is damaged" in done.err


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("classes", "[" * 100_000, "the metadata is damaged"),
        ("mean", "[1" + "0" * 400 + "]", "wrong: mean"),
        ("mean", "[NaN]", "wrong: mean"),
        ("scale", "1" + "0" * 400, "wrong: scale"),
        ("std", "[Infinity]", "wrong: std"),
        ("input_shape", "[3, 40000, 40000]", "the metadata says images of [3, 40000, 40000], but"),
        ("data", '"../photos"', "was trained on '../photos', which is not the name of a dataset"),
    ],
)
def test_untrusted_metadata(run, exported, key, value, text):
    save_image("a.png")
    model = onnx.load("model.onnx")
    next(p for p in model.metadata_props if p.key == key).value = value
    onnx.save(model, "strange.onnx")
    done = run("evaluate strange.onnx" if key == "data" else "predict strange.onnx a.png")
    assert done.status == 2
    assert text in done.err


def test_control_characters_in_names(run, exported):
    save_image("a.png")
    model = onnx.load("model.onnx")
    names = [f"\x1b[31m{n}\nb.png  {n}\ud800" for n in range(10)]
    next(p for p in model.metadata_props if p.key == "classes").value = json.dumps(names)
    onnx.save(model, "loud.onnx")
    done = run("predict loud.onnx a.png --top 1")
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"a\.png  \?\[31m\d\?b\.png  \d\? \d+\.\d\d%\n", done.out)
    node = onnx.helper.make_node("No\x1b[31mthing", ["x"], ["y"], name="\x07")
    onnx.save(model_of([node], {"x": [1, 3, 8, 6]}, ["y"]), "loud.onnx")
    done = run("summary loud.onnx")
    assert done.status == 2
    assert "\x1b" not in done.err
    assert "\x07" not in done.err


@pytest.mark.filterwarnings("default")
def test_networks_that_are_not_classifiers(run):
    save_image("a.png")
    mean = onnx.helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)
    onnx.save(model_of([mean], {"x": [1, 3, 8, 6]}, ["y"]), "mean.onnx")
    done = run("predict mean.onnx a.png")
    assert (done.status, done.out) == (2, "")
    assert "the model returns () for a batch of 1: expected (N, ...)" in done.err
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    onnx.save(model_of([relu], {"x": ["N", 3, 2**40, 2**40]}, ["y"]), "large.onnx")
    for command in ("predict large.onnx a.png", "summary large.onnx"):
        assert run(command).status == 2


def test_without_the_package(monkeypatch, run, exported):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = run("summary model.onnx")
    assert done.status == 2
    assert "pip install onnx" in done.err
