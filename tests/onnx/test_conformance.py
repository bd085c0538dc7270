"""ONNX's own backend tests, by ONNX's own runner; see docs/conformance.md."""

import warnings
from collections import Counter

import onnx
import pytest

from ..conftest import DEVICES
from . import conformance

LISTED = conformance.read_list()
PER_OPERATOR = 4
SLOW = "test_vgg19", "test_zfnet512"  # with the operators of test_bvlc_alexnet


def sample():
    """The cases, those after the first ones of an operator marked exhaustive."""
    count = Counter()
    for kind, name in LISTED:
        operator = kind, *name.split("_")[1:3]
        count[operator] += 1
        is_more = kind == "node" and count[operator] > PER_OPERATOR
        marks = [pytest.mark.exhaustive] * (is_more or name in SLOW)
        yield pytest.param(kind, name, id=f"{kind}-{name}", marks=marks)


ON_DEVICES = [
    pytest.param(device, marks=[pytest.mark.exhaustive] if device == "strict" else [])
    for device in DEVICES
]


def minor(version):
    return version.split(".")[:2]


@pytest.fixture(scope="session", autouse=True)
def _models(tmp_path_factory):
    """Where the runner puts what it makes for the light models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


same_version = pytest.mark.skipif(
    minor(onnx.__version__) != minor(conformance.listed_version()),
    reason=f"the list is of ONNX {conformance.listed_version()}: other versions than its patches "
    "correct and add tests",
)


@same_version
@pytest.mark.parametrize(("kind", "name"), list(sample()))
@pytest.mark.parametrize("device", ON_DEVICES)
def test_case(device, kind, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some overflow on purpose
        conformance.run(kind, name, device)


@same_version
def test_every_case_in_scope_is_listed():
    found = {(case.kind, case.name) for case in conformance.cases() if not case.reason}
    assert found == set(LISTED)
    assert {kind for kind, _ in LISTED} == set(conformance.KINDS)


@pytest.mark.parametrize(("kind", "name"), [("node", "test_relu"), ("real", "test_squeezenet")])
def test_a_wrong_result_fails(monkeypatch, kind, name):
    rep = conformance.OnDevice.prepare
    monkeypatch.setattr(
        conformance.OnDevice, "prepare", classmethod(lambda cls, *a, **k: _Wrong(rep(*a, **k)))
    )
    with pytest.raises(AssertionError):
        conformance.run(kind, name, "cpu")


class _Wrong:
    def __init__(self, rep):
        self.rep = rep

    def run(self, inputs):
        return tuple(1.001 * y + 0.001 for y in self.rep.run(inputs))
