"""Malicious and damaged files: sizes, external data, fuzzing."""

import base64
import json
import os
import pathlib
import random
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import xcnn
from xcnn.errors import FileFormatError, XcnnError
from xcnn.onnx.importer import build, load
from xcnn.onnx.importer.load import rebuild
from xcnn.onnx.reader import Source, array_of, parse

from ..conftest import PACKAGE, normal
from .models import model_of

X = normal(2, 3, dtype="float32")
W = normal(4, 3, seed=1, dtype="float32")
LIMIT = 2**20


# -- sizes --------------------------------------------------------------------------------------


def tensor(dims, kind=TensorProto.FLOAT, **fields):
    return TensorProto(name="t", data_type=kind, dims=dims, **fields)


@pytest.mark.parametrize(
    ("proto", "text"),
    [
        (tensor([-1], raw_data=bytes(4)), "dims \\[-1\\]"),
        (tensor([2, -(2**63)], raw_data=bytes(4)), "dims"),
        (tensor([1] * 100, raw_data=bytes(4)), "dims"),
        (tensor([2**40]), "more than the limit of 1048576"),
        (tensor([2**62, 2**62]), "more than the limit"),
        (tensor([2**32, 2**32], raw_data=b""), "more than the limit"),
        (tensor([0, 2**62]), "more than the limit"),
        (tensor([3], raw_data=bytes(8)), "has 8 bytes: expected 12"),
        (tensor([3], raw_data=bytes(13)), "has 13 bytes: expected 12"),
        (tensor([3], float_data=[1, 2]), "has 2 values in float_data: expected 3"),
        (tensor([3], float_data=[1] * 4), "has 4 values in float_data: expected 3"),
        (tensor([3], int32_data=[1, 2, 3]), "has 0 values in float_data: expected 3"),
        (tensor([1], raw_data=bytes(4), float_data=[1]), "has 1 values in float_data: expected 0"),
        (tensor([]), "has 0 values in float_data: expected 1"),
        (tensor([2], TensorProto.INT8, int32_data=[1, 128]), "do not fit int8"),
        (tensor([2], TensorProto.UINT8, int32_data=[-1, 1]), "do not fit uint8"),
        (tensor([1], TensorProto.UINT32, uint64_data=[2**32]), "do not fit uint32"),
        (tensor([1], TensorProto.FLOAT16, int32_data=[-1]), "do not fit uint16"),
        (tensor([1], segment={"begin": 0, "end": 1}, raw_data=bytes(4)), "segments"),
    ],
)
def test_dims_and_data(proto, text):
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=f"^weight 't'.*{text}"):
            array_of(proto, Source(None, LIMIT), "weight 't'")
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()


def test_the_limit_is_the_callers():
    proto = numpy_helper.from_array(np.zeros(100, "float32"))
    assert array_of(proto, Source(None, 400), "t").size == 100
    with pytest.raises(
        FileFormatError, match=r"takes 400 bytes, more than the limit of 399.*limit="
    ):
        array_of(proto, Source(None, 399), "t")


# -- weights in other files ---------------------------------------------------------------------


def external(**entries):
    """A model whose weight is external data with these entries."""
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = model_of([node], {"x": (4, 3)}, ["y"], {"w": W})
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    return model


@pytest.fixture
def folder(tmp_path):
    """A folder with weights at offset 8, and a secret next to the folder."""
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(W.tobytes())
    for name in ("weights", "sub/weights"):
        (tmp_path / "model" / name).write_bytes(bytes(8) + W.tobytes() + bytes(5))
    return tmp_path / "model"


@pytest.mark.parametrize("location", ["weights", "sub/weights", "./weights"])
@pytest.mark.parametrize("length", [{}, {"length": "48"}])
def test_locations_of_external_data(folder, location, length):
    model = external(location=location, offset="8", checksum="ignored", **length)
    onnx.save(model, folder / "m.onnx")
    graph = load(folder / "m.onnx")
    np.testing.assert_array_equal(graph.state_dict()["w"], W)
    assert graph(np.zeros((4, 3), "float32")).numpy().tolist() == W.tolist()
    assert graph.to(dtype="float32").state_dict()["w"].flags.aligned
    for parameter in graph.parameters():
        parameter.data += 1  # does not modify the file
    assert (folder / location).read_bytes()[8:-5] == W.tobytes()


def test_a_link_inside_the_folder(folder):
    (folder / "link").symlink_to("sub/weights")
    graph = build(external(location="link", offset="8"), folder)
    np.testing.assert_array_equal(graph.state_dict()["w"], W)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "../secret",
        "sub/../../secret",
        "sub/../weights",
        "..\\secret",
        "/etc/passwd",
        "\\\\host\\share\\file",
        "C:weights",
        "C:\\weights",
        "a\0b",
        ".",
        "sub",
        "missing",
        "link",
        "linked/secret",
        "circle",
        "weights/x",
        "pipe",
        "device",
        "x" * 5000,
    ],
)
def test_refused_locations(folder, location):
    (folder / "link").symlink_to("../secret")
    (folder / "linked").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    (folder / "device").symlink_to("/dev/zero")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
    started = time.monotonic()
    with pytest.raises(FileFormatError, match=r"^weight 'w'"):
        build(external(location=location), folder)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({}, "without a unique location"),
        ({"offset": "8"}, "without a unique location"),
        ({"location": "weights", "offset": "-8"}, "offset '-8'"),
        ({"location": "weights", "offset": "8.0"}, "offset '8.0'"),
        ({"location": "weights", "offset": "²"}, "offset"),
        ({"location": "weights", "offset": "9" * 10000}, "offset"),
        ({"location": "weights", "offset": "14"}, "bytes 14 to 62 of weights, which has 61"),
        ({"location": "weights", "offset": "9" * 20}, "which has 61"),
        ({"location": "weights", "offset": "8", "length": "47"}, "length 47.*expected 48"),
        ({"location": "weights", "offset": "8", "length": "49"}, "length 49.*expected 48"),
    ],
)
def test_offsets_and_lengths(folder, entries, text):
    with pytest.raises(FileFormatError, match=f"^weight 'w'.*{text}"):
        build(external(**entries), folder)


def test_the_same_key_twice(folder):
    model = external(location="weights")
    model.graph.initializer[0].external_data.add(key="location", value="sub/weights")
    with pytest.raises(FileFormatError, match="without a unique location"):
        build(model, folder)


def test_without_a_folder():
    with pytest.raises(FileFormatError, match="load the model from its file"):
        build(external(location="weights", offset="8"))


def test_dims_of_external_data(folder):
    model = external(location="weights")
    model.graph.initializer[0].dims[:] = [2**40]
    with pytest.raises(FileFormatError, match="more than the limit"):
        build(model, folder)


def test_a_constant_in_another_file(folder):
    model = external(location="weights", offset="8")
    weight = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    graph = build(model, folder)
    np.testing.assert_array_equal(graph.state_dict()["w"], W)


# -- damage -------------------------------------------------------------------------------------


def small_models():
    """Small models that cover loading and several kinds of operators."""
    first = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("BatchNormalization", ["c", "b", "b", "m", "v"], ["n"], epsilon=0.1),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[1, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1, alpha=0.5),
    ]
    ones = np.ones(2, "float32")
    weights = {"w": normal(2, 1, 3, 3, dtype="float32"), "b": ones, "m": ones, "v": ones}
    weights["g"] = normal(3, 12, dtype="float32")
    yield model_of(first, {"x": (1, 1, 5, 6)}, ["y"], weights)
    second = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("Constant", [], ["shape"], value_ints=[-1, 2]),
        helper.make_node("Add", ["x", "zeros"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0]),
        helper.make_node("Concat", ["t", "t"], ["c"], axis=0),
        helper.make_node("Pad", ["c", "pads"], ["y"]),
    ]
    yield model_of(second, {"x": ("N", 4)}, ["y"], {"pads": np.int64([0, 1, 0, 2])})


MODELS = [model.SerializeToString() for model in small_models()]
NUMBERS = [0, 1, -1, 2, 3, 64, -7, 10**5, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, -(2**63)]


def attempt(content, limit=LIMIT):
    """Load and run; only XcnnError may be raised."""
    try:
        model = parse(content, "a file")
        graph = build(model, None, limit)
        inputs = [np.ones([length(n) for n in shape or ()], "float32") for shape in shapes(graph)]
        graph(*inputs)
        repr(graph)
    except XcnnError as error:
        str(error)


def shapes(graph):
    """Inputs of the declared shapes, unless damage made them large."""
    sizes = [
        np.prod([max(length(n), 1) for n in s or ()], dtype=float) for s in graph.inputs.values()
    ]
    if any(size > LIMIT for size in sizes):
        raise xcnn.errors.ShapeError("too large to try")
    return graph.inputs.values()


def length(declared):
    return declared if isinstance(declared, int) else 2


def test_the_models_are_valid():
    for content in MODELS:
        graph = build(parse(content, "a file"))
        graph(*[np.ones([length(n) for n in shape], "float32") for shape in shapes(graph)])


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_truncated_models(number):
    for end in range(len(MODELS[number])):
        attempt(MODELS[number][:end])


@given(st.sampled_from(MODELS), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 7))))
def test_flipped_bits(content, flips):
    damaged = bytearray(content)
    for where, bit in flips:
        damaged[int(where * len(damaged))] ^= 1 << bit
    attempt(bytes(damaged))


@given(st.binary(max_size=200))
def test_garbage(content):
    attempt(content)


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_edited_fields(number):
    """Change, remove or repeat any field of any message of a model."""
    random_numbers = random.Random(number)
    for _ in range(400):
        model = onnx.ModelProto.FromString(MODELS[number])
        for _ in range(random_numbers.choice([1, 1, 2])):
            edit(model, random_numbers)
        started = time.monotonic()
        tracemalloc.start()
        attempt(model.SerializeToString())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 * LIMIT
        assert time.monotonic() - started < 10


def edit(model, random_numbers):
    message, field = random_numbers.choice(list(fields(model)))
    values = getattr(message, field.name)
    if not field.is_repeated:
        if random_numbers.random() < 0.2 or field.type == field.TYPE_MESSAGE:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, other(field, values, model, random_numbers))
        return
    index = random_numbers.randrange(len(values))
    kind = random_numbers.randrange(3)
    if kind == 0:
        del values[index]
    elif kind == 1 or field.type == field.TYPE_MESSAGE:
        values.extend([values[index]])
    else:
        values[index] = other(field, values[index], model, random_numbers)


def fields(message):
    """(message, field) of all fields that are set."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for item in value if field.is_repeated else [value]:
                yield from fields(item)


def other(field, value, model, random_numbers):
    """Another value of the field's type; unchanged if out of range."""
    if field.type == field.TYPE_STRING:
        names = [n for node in model.graph.node for n in (*node.input, *node.output, node.op_type)]
        return random_numbers.choice([*names, "", "nothing"])
    if field.type == field.TYPE_BYTES:
        return value[: random_numbers.randrange(len(value) + 1)]
    if field.type == field.TYPE_ENUM:
        return random_numbers.choice([v.number for v in field.enum_type.values])
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return random_numbers.choice([0.0, -1.0, 1e38, float("nan"), float("inf")])
    number = random_numbers.choice(NUMBERS)
    fits = -(2**31) <= number < 2**31 or field.type == field.TYPE_INT64
    return number if fits and (number >= 0 or field.type != field.TYPE_UINT64) else value


@given(st.lists(st.tuples(st.floats(0, 0.999), st.sampled_from("A/9z=+")), max_size=4))
def test_damaged_descriptions(changes):
    """The description of a saved graph is a model in base64."""
    text = list(build(parse(MODELS[0], "a file"))._init_arguments["model"])
    for where, character in changes:
        text[int(where * len(text))] = character
    try:
        rebuild("".join(text))
    except XcnnError as error:
        str(error)


# -- bombs --------------------------------------------------------------------------------------


def in_little_memory(
    content, tmp_path, call="xcnn.onnx.load('file', 2**27)(np.ones((2, 3), 'f4'))"
):
    """The output of a call in a process limited to 400 MB after imports."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux limits the memory of a process")
    (tmp_path / "file").write_bytes(content)
    code = f"""
import resource, sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
import numpy as np, xcnn, xcnn.onnx, onnx.checker, onnx.inliner
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
try:
    {call}
    print("ran")
except xcnn.errors.XcnnError as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


needs_linux = pytest.mark.skipif(
    not pathlib.Path("/proc/self/statm").exists(), reason="memory is bounded as Linux does it"
)


def one(kind, *more, **attributes):
    node = helper.make_node(kind, ["x", *more], ["y"], **attributes)
    weights = {"shape": np.int64([2**20, 2**20]), "pads": np.int64([0, 0, 2**40, 0])}
    weights["long"] = np.ones((2**17, 1, 1), "float32")
    weights["scales"] = np.float32([1e6, 1e6])
    used = {name: weights[name] for name in more if name in weights}
    return model_of([node], {"x": (2, 3)}, ["y"], used)


@needs_linux
@pytest.mark.parametrize(
    "model",
    [
        one("Expand", "shape"),
        one("Pad", "pads"),
        one("Resize", "", "scales"),
        one("Tile", "shape"),
        model_of([], {"x": (2, 3)}, ["x", "w"], {"w": X}),
    ],
    ids=["expand", "pad", "resize", "tile", "plain"],
)
def test_small_files_with_large_results(model, tmp_path):
    found = in_little_memory(model.SerializeToString(), tmp_path)
    assert found.startswith(("NodeError", "UnsupportedOperatorError", "ran"))


@needs_linux
def test_out_of_memory(tmp_path):
    """Each array is below the limit; together they exceed the memory."""
    weights = {"shape": np.int64([5_000_000, 2, 3])}
    outputs = [f"y{n}" for n in range(9)]
    nodes = [helper.make_node("Expand", ["x", "shape"], ["large"])]
    nodes += [helper.make_node("Relu", ["large"], [y]) for y in outputs]
    model = model_of(nodes, {"x": (2, 3)}, outputs, weights)
    found = in_little_memory(model.SerializeToString(), tmp_path)
    assert found.startswith("OutOfMemoryError layer 'Relu_")


@needs_linux
@pytest.mark.parametrize("dims", [[2**29], [2**40], [10, 10]])
def test_descriptions_of_large_weights(tmp_path, dims):
    """In the description of a saved graph, whose weights are in the state dict."""
    description = external()
    description.graph.initializer[0].dims[:] = dims
    text = base64.b64encode(description.SerializeToString()).decode()
    architecture = json.dumps({"class": "onnx.Graph", "arguments": {"model": text}})
    xcnn.save(xcnn.nn.Linear(2, 3), tmp_path / "saved", {"architecture": architecture})
    content = (tmp_path / "saved").read_bytes()
    assert "cannot be built" in in_little_memory(content, tmp_path, "xcnn.load('file')")


@needs_linux
def test_deep_nesting(tmp_path):
    content = b""
    for _ in range(20_000):  # a graph in an attribute of a node of a graph in ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            content = tag + varint(len(content)) + content
    assert "not a complete ONNX file" in in_little_memory(
        b"\x08\x0a\x3a" + varint(len(content)) + content, tmp_path
    )


def varint(number):
    found = []
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def test_many_copies_of_a_weight():
    """All copies together take at most the limit; the rest stay nodes."""
    nodes = [helper.make_node("Identity", ["w"], [f"w{n}"]) for n in range(1000)]
    model = model_of(nodes, {}, ["w999"], {"w": W})
    graph = build(model, None, 100 * W.nbytes)
    assert len(list(graph.children())) == 900
    assert graph().numpy().tolist() == W.tolist()
    nodes[1].output[0] = "w0"
    with pytest.raises(FileFormatError, match=r"'w0' is defined twice"):
        build(model_of(nodes, {}, ["w999"], {"w": W}))


def test_many_names():
    """Time is linear in the number of nodes."""
    count = 20_000
    nodes = [helper.make_node("Relu", [f"v{n}"], [f"v{n + 1}"]) for n in range(count)]
    model = model_of(nodes, {"v0": (2, 3)}, [f"v{n}" for n in range(0, count, 2)])
    started = time.monotonic()
    graph = build(model)
    assert len(list(graph.children())) == count
    model.graph.initializer.extend([numpy_helper.from_array(X, f"v{n}") for n in range(count)])
    with pytest.raises(FileFormatError, match="is defined twice"):
        build(model)
    assert time.monotonic() - started < 60


# -- a few bytes that stand for much ------------------------------------------------------------


def folded(*nodes, weights=None, limit=2**20):
    """Run a graph without inputs, whose output is y, with arrays of up to ``limit`` bytes."""
    return build(model_of(nodes, {}, ["y"], weights), limit=limit)()


def zeros(shape, dtype="float32"):
    """A node that makes an array z of zeros."""
    value = numpy_helper.from_array(np.zeros(1, dtype))
    shaped = numpy_helper.from_array(np.asarray(shape, "int64"))
    return (
        helper.make_node("Constant", [], ["shape"], value=shaped),
        helper.make_node("ConstantOfShape", ["shape"], ["z"], value=value),
    )


@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean", "ReduceMax"])
def test_reductions_of_empty_arrays_have_the_size_of_the_other_axes(kind):
    axes = {"axes": np.array([0])}
    with pytest.raises(FileFormatError, match="more than the limit"):
        folded(*zeros([0, 2**24]), helper.make_node(kind, ["z", "axes"], ["y"]), weights=axes)
    y = folded(*zeros([0, 5]), helper.make_node(kind, ["z", "axes"], ["y"]), weights=axes)
    assert y.shape == (1, 5)
    x = np.zeros((0, 2**20), "float32")
    reduced = helper.make_node(kind, ["x", "axes"], ["y"])
    graph = build(model_of([reduced], {"x": (None, None)}, ["y"], axes), limit=2**20)
    with pytest.raises(FileFormatError, match="more than the limit"):
        graph(x)


def test_a_wider_type_takes_more_bytes():
    cast = helper.make_node("Cast", ["z"], ["y"], to=TensorProto.DOUBLE)
    assert folded(*zeros([2**17], "uint8"), cast).numel() == 2**17
    with pytest.raises(FileFormatError, match=r"\(Cast\): an output .* more than the limit"):
        folded(*zeros([2**18], "uint8"), cast)


@pytest.mark.parametrize("kind", ["Reshape", "Unsqueeze", "Squeeze", "ReduceSum", "Expand"])
def test_settings_of_many_numbers(kind):
    """They are neither converted nor printed."""
    x = {"x": np.ones(1, "float32")}
    node = helper.make_node(kind, ["x", "z"], ["y"])
    with pytest.raises(FileFormatError, match="65536 numbers for a setting") as caught:
        folded(*zeros([2**16], "int64"), node, weights=x)
    assert len(str(caught.value)) < 300


def test_empty_functions():
    """Ten calls per level, nine levels, of an empty function: a billion calls."""
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    functions = [helper.make_function("f", "f0", [], [], [], sets)]
    for depth in range(1, 10):
        calls = [helper.make_node(f"f{depth - 1}", [], [], domain="f") for _ in range(10)]
        functions.append(helper.make_function("f", f"f{depth}", [], [], calls, sets))
    model = model_of([helper.make_node("f9", [], [], domain="f")], {}, ["y"], {"y": np.ones(1)})
    model.functions.extend(functions)
    model.opset_import.append(sets[1])
    with pytest.raises(FileFormatError, match="the model's functions expand to"):
        build(model)


def test_weights_that_share_bytes(folder):
    """Each is below the limit, but together they are many times the file."""
    proto = external(location="weights", offset="8").graph.initializer[0]
    source = Source(folder, 100)
    for _ in range(2):  # 48 bytes
        np.testing.assert_array_equal(array_of(proto, source, "t"), W)
    with pytest.raises(FileFormatError, match=r"weights in weights overlap: they take 144 bytes"):
        array_of(proto, source, "t")
