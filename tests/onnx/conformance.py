"""ONNX's own backend tests: which are in scope for xcnn, and how many pass.

``python -m tests.onnx.conformance --write`` runs all of them, and writes docs/conformance.md and
tests/onnx/cases.txt, the list of cases that the test suite runs.
"""

from __future__ import annotations

import argparse
import contextlib
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
from onnx.backend.test.case import base
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

import xcnn
from xcnn.onnx.backend import Backend
from xcnn.onnx.importer import OPERATORS

ROOT = pathlib.Path(__file__).parent.parent.parent
CASES = pathlib.Path(__file__).with_name("cases.txt")
REPORT = ROOT / "docs" / "conformance.md"

#: operators of neural networks and their training
_SCOPE = """
Abs Acos Acosh Adagrad Adam Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
BatchNormalization BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Compress Concat
Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace Div Dropout Einsum Elu
Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity If
InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
MatMul Max MaxPool Min Mish Mod Momentum Mul Neg NegativeLogLikelihoodLoss NonMaxSuppression NonZero
OneHot Or PRelu Pad Pow Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RoiAlign Round Scatter
ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
"""
SCOPE = frozenset(_SCOPE.split())
KINDS = {
    "node": ("Node", "one operator"),
    "pytorch-converted": ("PyTorchConverted", "layers of PyTorch"),
    "pytorch-operator": ("PyTorchOperator", "operations of PyTorch"),
    "simple": ("Simple", "small graphs"),
    "real": ("Real", "the light models"),
}
#: light models whose logits are at least 9e9, where float32 numbers are at least 1,024 apart
HUGE_LOGITS = frozenset(
    f"test_{name}"
    for name in ("bvlc_alexnet", "inception_v1", "resnet50", "squeezenet", "vgg19", "zfnet512")
)
#: cases whose expected output does not keep the corners in place
MOVED_CORNERS = frozenset(
    f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")
)
#: element types that both NumPy and CuPy have
TYPES = {
    *("FLOAT", "DOUBLE", "FLOAT16", "BOOL"),
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
}


class Case(NamedTuple):
    """One of ONNX's tests; ``reason`` says why it is out of scope, empty if it is in scope."""

    kind: str
    name: str
    operators: frozenset
    reason: str


class OnDevice(Backend):
    """The backend under test, on the device set in ``device``."""

    device = "cpu"

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
        return super().prepare(model, cls.device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"  # ONNX's runner skips the tests of other devices


@contextlib.contextmanager
def _without_snippets() -> Iterator[None]:
    """Leave out the source text of the tests, which is for ONNX's documentation and takes long."""
    original = base.process_snippet
    base.process_snippet = lambda operator, name, export: (name, "")
    try:
        yield
    finally:
        base.process_snippet = original


@functools.cache
def suite() -> dict[str, Any]:
    """ONNX's own test classes by kind, created by its runner for our backend."""
    with warnings.catch_warnings(), _without_snippets():
        warnings.simplefilter("ignore")  # its cases overflow and divide by zero on purpose
        cases = BackendTest(OnDevice, __name__).test_cases
    return {kind: cases[f"OnnxBackend{name}ModelTest"] for kind, (name, _) in KINDS.items()}


def run(kind: str, name: str, device: str) -> None:
    """Run one case; raises if it fails.

    ONNX's runner compares outputs, shapes and types, except for ``HUGE_LOGITS`` and
    ``MOVED_CORNERS``.
    """
    OnDevice.device = device
    if name in HUGE_LOGITS:
        _compare_logits(name)
    elif name in MOVED_CORNERS:
        _compare_with_onnxruntime(name)
    else:
        case = suite()[kind]
        getattr(case, f"{name}_cpu")(case)


def _compare_logits(name: str) -> None:
    """Compare the input of a light model's last Softmax with onnxruntime's, by relative error.

    All filters of a light model are equal, and so are its 1,000 logits. If one of them differed in
    its last bit, the softmax would be 1 for some classes and 0 for the others instead of 1/1000.
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


def _compare_with_onnxruntime(name: str) -> None:
    """Compare a case of one operator with onnxruntime instead of the expected output."""
    test = next(test for test in load_model_tests(kind="node") if test.name == name)
    ((inputs, _),) = test.data_sets
    model = _model(test)
    names = (value.name for value in model.graph.input)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, dict(zip(names, inputs, strict=True)))
    (actual,) = OnDevice.prepare(model).run(inputs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, strict=True)


def cases() -> Iterator[Case]:
    """Every case in the onnx package."""
    with warnings.catch_warnings(), _without_snippets():
        warnings.simplefilter("ignore")
        tests = [(kind, test) for kind in KINDS for test in load_model_tests(kind=kind)]
    for kind, test in tests:
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
    """Why a model is out of scope; empty if it is in scope."""
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
    """(kind, name) of the cases in scope, from cases.txt."""
    lines = CASES.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split()) for line in lines if not line.startswith("#")]  # type: ignore[misc]


def listed_version() -> str:
    """The version of ONNX that cases.txt was generated with."""
    return CASES.read_text(encoding="utf-8").split(maxsplit=3)[2]


def main(argv: list[str] | None = None) -> int:
    """Run the tests in scope, and those out of scope whose operators xcnn supports."""
    from ..conftest import DEVICES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the report and the list")
    parser.add_argument("--match", default="", help="run only cases whose names contain this")
    arguments = parser.parse_args(argv)
    selected = [case for case in cases() if arguments.match in case.name]
    failed, extra = [], Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNX_MODELS"] = folder
        for case in selected:
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
    text = report(selected, failed, extra, DEVICES)
    print(text, end="")
    if arguments.write and not arguments.match:
        REPORT.write_text(text, encoding="utf-8")
        lines = [f"{case.kind} {case.name}" for case in selected if not case.reason]
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
    except Exception as error:  # any error means that the test did not pass
        return traceback.format_exception_only(error)[-1].strip().replace("\n", " ")[:300]
    return ""


def report(selected: list[Case], failed: list, extra: Counter, devices: list[str]) -> str:
    """The text of docs/conformance.md."""
    lines = [
        "# Conformance with ONNX",
        "",
        f"ONNX's own backend tests (`onnx.backend.test`, ONNX {onnx.__version__}), run by its own "
        f"runner through `xcnn.onnx.backend` (xcnn {xcnn.__version__}). A test is in scope if its "
        "graph uses only the operators below, with element types that xcnn's arrays have. "
        "`strict` is the stand-in for CuPy that the test suite uses without a GPU. Generated by "
        "`python -m tests.onnx.conformance --write`; the test suite runs the same cases.",
        "",
        "For six light models, the input of the last Softmax (the logits) is compared with "
        "onnxruntime's, with a relative tolerance: "
        + ", ".join(f"`{name}`" for name in sorted(HUGE_LOGITS))
        + ". All filters in these files are equal, so their 1,000 logits are equal too, at values "
        "between 9e9 and 4e31, where neighbouring float32 numbers are 1,024 or more apart. The "
        "expected output, 1/1000 for each class, requires 1,000 sums to agree to the last bit, "
        "which depends on the kernel that the BLAS picks for the CPU; and any 1,000 equal logits "
        "produce it, right or wrong.",
        "",
        ", ".join(f"`{name}`" for name in sorted(MOVED_CORNERS)) + " are compared with "
        "onnxruntime's output. ONNX's text divides by the length of the resized axis, less one, as "
        "onnxruntime and PyTorch do, but the expected output divides by scale · length before it "
        "is rounded to whole pixels: the last pixel of 4, at scale 0.6, would be 3.14 instead of "
        "4.",
        "",
        f"| tests | in the package | in scope | {' | '.join(f'passed on {d}' for d in devices)} |",
        f"|---|---|---|{'---|' * len(devices)}",
    ]
    rows = [(kind, text) for kind, (_, text) in KINDS.items()]
    for kind, text in (*rows, ("", "**all**")):
        of_kind = [case for case in selected if kind in ("", case.kind)]
        count = sum(not case.reason for case in of_kind)
        passed = [
            count - sum(d == device and kind in ("", c.kind) for c, d in failed)
            for device in devices
        ]
        cells = " | ".join(map(str, [count, *passed]))
        lines.append(f"| {text} | {len(of_kind):,} | {cells} |")
    lines += ["", "Operators in scope: " + ", ".join(sorted(SCOPE)) + ".", ""]
    known = ", ".join(sorted({"Constant", *(name for _, name in OPERATORS)} - SCOPE))
    lines += [f"Other operators that xcnn supports: {known}.", ""]
    lines += [
        "NonMaxSuppression, NonZero, Compress and Unique run on the host, since the shape of their "
        "result depends on values. The indices of Gather, Scatter and the like, the regions of "
        "RoiAlign and the condition of If are read by the host: a GPU waits for those that depend "
        "on an input. ScatterElements and ScatterND that multiply, or take the larger or smaller "
        "number, run on the host too, and have no gradient.",
        "",
    ]
    lines += _beyond(selected, extra, devices) + _exclusions(selected)
    if failed:
        lines += ["## Failing", "", *(f"- `{c.name}` on {d}" for c, d in failed), ""]
    return "\n".join(lines)


def _beyond(selected: list[Case], extra: Counter, devices: list[str]) -> list[str]:
    outside = sum(bool(case.reason) for case in selected)
    counts = ", ".join(f"{extra[d]} on {d}" for d in devices)
    return [f"Of the {outside:,} tests out of scope, these pass too: {counts}.", ""]


def _exclusions(selected: list[Case]) -> list[str]:
    reasons: dict[str, list[Case]] = {}
    for case in selected:
        if case.reason:
            reasons.setdefault(case.reason, []).append(case)
    by_type = {r: c for r, c in reasons.items() if not r.startswith("operator ")}
    lines = ["## Out of scope: types", "", "| reason | tests |", "|---|---|"]
    for reason, excluded in sorted(by_type.items()):
        lines.append(f"| {reason} | {', '.join(f'`{c.name}`' for c in excluded)} |")
    lines += [
        "",
        "## Out of scope: operators",
        "",
        "Tests whose graphs use an operator that is not in scope, by the out-of-scope operators "
        "they use. xcnn supports some of these operators (see above), but does not claim to pass "
        "all of ONNX's tests of them.",
        "",
        "| tests | operators out of scope |",
        "|---|---|",
    ]
    by_operator = [(len(c), r) for r, c in reasons.items() if r.startswith("operator ")]
    for count, reason in sorted(by_operator, key=lambda row: (-row[0], row[1])):
        lines.append(f"| {count} | {reason.removeprefix('operator ')} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
