"""Small ONNX models for tests, and running them."""

import numpy as np
import onnx
import pytest
from onnx import helper

from xcnn.onnx.importer import build


def model_of(nodes, inputs, outputs, weights=None, opset=21, types=None, **settings):
    """A ``ModelProto``: ``inputs`` maps names to shapes, ``weights`` to arrays, and ``types`` the
    names of inputs that are not float32 to their dtypes.
    """
    graph = helper.make_graph(
        nodes,
        "test",
        [_declared(n, s, (types or {}).get(n, "float32")) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **settings
    )


def _declared(name, shape, dtype):
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def graph_of(kind, inputs, weights=None, opset=21, outputs=("y",), types=None, **attributes):
    """A Graph with one node, whose inputs are ``inputs`` (shapes by name) and then ``weights``."""
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        pytest.skip(f"ONNX {onnx.__version__} knows operator sets up to {newest}, not {opset}")
    names = [*inputs, *(weights or {})]
    node = helper.make_node(kind, names, list(outputs), name=f"a {kind}", **attributes)
    return build(model_of([node], inputs, outputs, weights, opset, types))


def run(graph, backend, *arrays):
    """The outputs on ``backend`` for NumPy arrays: an array, or a list of several."""
    found = graph.to(backend)(*[None if a is None else backend.asarray(a) for a in arrays])
    return [y.numpy() for y in found] if isinstance(found, tuple) else found.numpy()


def run_file(path, *inputs):
    """The outputs that onnxruntime computes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def shapes_of(*arrays):
    """Inputs called a, b, ... for :func:`graph_of`: their shapes, and their dtypes."""
    named = dict(zip("abcdefgh", arrays, strict=False))
    return {n: a.shape for n, a in named.items()}, {n: a.dtype for n, a in named.items()}


def node_on(kind, backend, *arrays, **settings):
    """The outputs of one node whose inputs are these arrays."""
    inputs, types = shapes_of(*arrays)
    return run(graph_of(kind, inputs, types=types, **settings), backend, *arrays)


def assert_same(actual, expected, dtype):
    """Of that dtype, and equal in every element: for integers and booleans."""
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, expected)
