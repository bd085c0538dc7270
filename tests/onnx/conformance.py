"""ONNX's own backend tests: which of them are xcnn's, and how many pass.

``python -m tests.onnx.conformance --write`` runs all of them and writes docs/conformance.md and the
list of cases that the test suite takes, tests/onnx/cases.txt.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

import xcnn
from xcnn.onnx.backend import Backend
from xcnn.onnx.importer import OPERATORS

ROOT = pathlib.Path(__file__).parent.parent.parent
CASES = pathlib.Path(__file__).with_name("cases.txt")
REPORT = ROOT / "docs" / "conformance.md"

#: the operators of convolutional networks, of their training, and of reshaping between them
_SCOPE = """
Adagrad Adam Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv
ConvTranspose DepthToSpace Div Dropout Elu Flatten Gelu Gemm GlobalAveragePool GlobalMaxPool
GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization
LeakyRelu LogSoftmax MatMul MaxPool Momentum Mul NegativeLogLikelihoodLoss PRelu Pad ReduceMean
Relu Reshape Resize Selu Shape Sigmoid Slice Softmax SoftmaxCrossEntropyLoss Softplus
SpaceToDepth Split Squeeze Sub Sum Tanh Transpose Unsqueeze
"""
SCOPE = frozenset(_SCOPE.split())
KINDS = {
    "node": ("Node", "one operator"),
    "pytorch-converted": ("PyTorchConverted", "layers of PyTorch"),
    "pytorch-operator": ("PyTorchOperator", "operations of PyTorch"),
    "simple": ("Simple", "small graphs"),
    "real": ("Real", "the light models"),
}
#: light models whose logits are 9e9 and more, where a step of float32 is 1,024 and more
HUGE_LOGITS = frozenset(
    f"test_{name}"
    for name in ("bvlc_alexnet", "inception_v1", "resnet50", "squeezenet", "vgg19", "zfnet512")
)
#: element types that arrays have in NumPy and in CuPy
TYPES = {
    *("FLOAT", "DOUBLE", "FLOAT16", "BOOL"),
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
}


class Case(NamedTuple):
    """One of ONNX's tests; ``reason`` says why it is out of scope, and is empty if it is not."""

    kind: str
    name: str
    operators: frozenset
    reason: str


class OnDevice(Backend):
    """The backend under test, on the device of the moment."""

    device = "cpu"

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
        return super().prepare(model, cls.device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"  # the name under which ONNX's runner calls it


@functools.cache
def suite() -> dict[str, Any]:
    """ONNX's own test classes by kind, made by its runner for our backend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its cases overflow and divide by zero on purpose
        cases = BackendTest(OnDevice, __name__).test_cases
    return {kind: cases[f"OnnxBackend{name}ModelTest"] for kind, (name, _) in KINDS.items()}


def run(kind: str, name: str, device: str) -> None:
    """Run one case; raises if it fails.

    ONNX's runner compares outputs, shapes and types, except for ``HUGE_LOGITS``.
    """
    OnDevice.device = device
    if name in HUGE_LOGITS:
        _compare_logits(name)
    else:
        case = suite()[kind]
        getattr(case, f"{name}_cpu")(case)


def _compare_logits(name: str) -> None:
    """Compare the input of a light model's last Softmax with onnxruntime's, relative to its size.

    All filters of a light model are equal and so are its 1,000 logits. Were one of them off by its
    last bit, the softmax would be 1 for some classes and 0 for the others instead of 1/1000.
    """
    model = _model(next(test for test in load_model_tests(kind="real") if test.name == name))
    softmax = model.graph.node.pop()
    assert softmax.op_type == "Softmax"
    model.graph.output[0].name = softmax.input[0]  # of the same shape
    weights = {initializer.name for initializer in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in weights)
    x = Runner.generate_dummy_data(value)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of unused weights
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (expected,) = session.run(None, {value.name: x})
    (actual,) = OnDevice.prepare(model).run([x])
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def cases() -> Iterator[Case]:
    """Every case that is in the wheel of ONNX."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [(kind, test) for kind in KINDS for test in load_model_tests(kind=kind)]
    for kind, test in found:
        model = _model(test)
        operators = frozenset(n.op_type for n in model.graph.node)
        yield Case(kind, test.name, operators, _reason(model, operators))


def _model(test: Any) -> Any:
    if test.model is not None:
        return test.model
    if test.model_dir is not None:
        return onnx.load(os.path.join(test.model_dir, "model.onnx"))
    return onnx.load(os.path.join(os.path.dirname(onnx.__file__), "..", test.url))


def _reason(model: Any, operators: frozenset) -> str:
    """Why xcnn does not claim to compute a model; empty if it does."""
    outside = sorted(operators - SCOPE)
    if outside:
        return "operator " + ", ".join(outside)
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return f"{kind.removesuffix('_type')} values"
        dtype = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        if dtype not in TYPES:
            return f"element type {dtype}"
    return ""


def read_list() -> list[tuple[str, str]]:
    """(kind, name) of the cases in scope, as the list beside this file has them."""
    lines = CASES.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split()) for line in lines if not line.startswith("#")]  # type: ignore[misc]


def listed_version() -> str:
    """The version of ONNX that the list was made with."""
    return CASES.read_text(encoding="utf-8").split(maxsplit=3)[2]


def main(argv: list[str] | None = None) -> int:
    """Run the tests in scope, and outside of it those whose operators xcnn happens to compute."""
    from ..conftest import DEVICES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the report and the list")
    parser.add_argument("--match", default="", help="only cases with this in their names")
    arguments = parser.parse_args(argv)
    found = [case for case in cases() if arguments.match in case.name]
    failed, extra = [], Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNX_MODELS"] = folder
        for case in found:
            if case.reason and not _may_pass(case):
                continue
            for device in DEVICES:
                problem = _problem(case, device)
                if not problem and case.reason:
                    extra[device] += 1
                elif problem and not case.reason:
                    failed.append((case, device))
                if problem and (arguments.match or not case.reason):
                    print(f"FAILED {case.kind} {case.name} on {device}: {problem}", flush=True)
    text = report(found, failed, extra, DEVICES)
    print(text, end="")
    if arguments.write and not arguments.match:
        REPORT.write_text(text, encoding="utf-8")
        lines = [f"{case.kind} {case.name}" for case in found if not case.reason]
        CASES.write_text("\n".join([f"# ONNX {onnx.__version__} :", *lines, ""]), encoding="utf-8")
    return 1 if failed else 0


def _may_pass(case: Case) -> bool:
    domains = ("", "ai.onnx.preview.training")
    return all(any((d, o) in OPERATORS for d in domains) or o == "Constant" for o in case.operators)


def _problem(case: Case, device: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(case.kind, case.name, device)
    except Exception as error:  # whatever it is, the test did not pass
        return traceback.format_exception_only(error)[-1].strip().replace("\n", " ")[:300]
    return ""


def report(found: list[Case], failed: list, extra: Counter, devices: list[str]) -> str:
    """docs/conformance.md."""
    lines = [
        "# Conformance with ONNX",
        "",
        f"ONNX's own backend tests (`onnx.backend.test`, ONNX {onnx.__version__}), run by its own "
        f"runner through `xcnn.onnx.backend` (xcnn {xcnn.__version__}). In scope is every test "
        "whose graph uses nothing but the operators below, with element types that xcnn's arrays "
        "have. `strict` is the stand-in for CuPy that the test suite uses where there is no GPU. "
        "Made by `python -m tests.onnx.conformance --write`; the test suite runs the same cases.",
        "",
        "Six light models are compared one layer earlier, by the input of their last Softmax (the "
        "logits), with onnxruntime and relative to its size: "
        + ", ".join(f"`{name}`" for name in sorted(HUGE_LOGITS))
        + ". All filters of these files are equal, so their 1,000 logits are equal too, and "
        "between 9e9 and 4e31, where neighbouring float32 numbers are 1,024 or more apart. The "
        "expected output, 1/1000 for each class, comes out only if 1,000 sums are equal to the "
        "last bit, which depends on the kernel that a BLAS picks for the CPU; and it comes out "
        "for any 1,000 equal logits, right or wrong.",
        "",
        f"| tests | in the wheel | in scope | {' | '.join(f'passed on {d}' for d in devices)} |",
        f"|---|---|---|{'---|' * len(devices)}",
    ]
    rows = [(kind, text) for kind, (_, text) in KINDS.items()]
    for kind, text in (*rows, ("", "**all**")):
        own = [case for case in found if kind in ("", case.kind)]
        inside = sum(not case.reason for case in own)
        passed = [
            inside - sum(d == device and kind in ("", c.kind) for c, d in failed)
            for device in devices
        ]
        lines.append(f"| {text} | {len(own):,} | {inside} | {' | '.join(str(n) for n in passed)} |")
    lines += ["", "Operators in scope: " + ", ".join(sorted(SCOPE)) + ".", ""]
    known = ", ".join(sorted({"Constant", *(name for _, name in OPERATORS)} - SCOPE))
    lines += [f"Operators that xcnn computes beside them: {known}.", ""]
    lines += _beyond(found, extra, devices) + _exclusions(found)
    if failed:
        lines += ["## Failing", "", *(f"- `{c.name}` on {d}" for c, d in failed), ""]
    return "\n".join(lines)


def _beyond(found: list[Case], extra: Counter, devices: list[str]) -> list[str]:
    outside = sum(bool(case.reason) for case in found)
    counts = ", ".join(f"{extra[d]} on {d}" for d in devices)
    return [f"Of the {outside:,} tests out of scope, these pass too: {counts}.", ""]


def _exclusions(found: list[Case]) -> list[str]:
    reasons: dict[str, list[Case]] = {}
    for case in found:
        if case.reason:
            reasons.setdefault(case.reason, []).append(case)
    by_type = {r: c for r, c in reasons.items() if not r.startswith("operator ")}
    lines = ["## Out of scope: types", "", "| reason | tests |", "|---|---|"]
    for reason, held in sorted(by_type.items()):
        lines.append(f"| {reason} | {', '.join(f'`{c.name}`' for c in held)} |")
    lines += [
        "",
        "## Out of scope: operators",
        "",
        "Tests whose graphs use an operator that is not in the list of the scope, by what they use "
        "beside it. xcnn computes some of these too (see above), but does not claim all of ONNX's "
        "tests of them.",
        "",
        "| tests | operators outside |",
        "|---|---|",
    ]
    by_operator = [(len(c), r) for r, c in reasons.items() if r.startswith("operator ")]
    for count, reason in sorted(by_operator, key=lambda row: (-row[0], row[1])):
        lines.append(f"| {count} | {reason.removeprefix('operator ')} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
