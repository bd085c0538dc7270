"""The kernels compile for GPUs as they are: no warnings, no spills, no stack frames."""

import pytest

from xcnn.backends import kernels
from xcnn.backends.kernels import Variant

from . import kernel_table

pytestmark = pytest.mark.skipif(bool(kernel_table.missing()), reason=kernel_table.missing())

OF_64_REGISTERS = 65536 // (256 * 4)  # what __launch_bounds__(256, 4) leaves each thread


@pytest.mark.parametrize("file", kernels.FILES)
def test_every_variant_compiles_without_warnings_spills_and_stack(file):
    architectures = kernel_table.ARCHITECTURES  # in turn: all of them take minutes
    variants = [variant for variant in kernels.variants() if variant.file == file]
    for number, variant in enumerate(variants):
        architecture = architectures[number % len(architectures)]
        usages = kernel_table.compile_variant(variant, architecture)
        assert max(usage.registers for usage in usages.values()) <= OF_64_REGISTERS


def refused(monkeypatch, body):
    """What is said about a kernel file with ``body`` as its kernel's."""
    source = 'extern "C" __global__ void update_scale(float* x, int n) {' + body + "}"
    monkeypatch.setattr(kernels, "source", lambda file: source)
    monkeypatch.setattr(kernels, "entry_points", lambda file: ("update_scale",))
    with pytest.raises(kernel_table.KernelError) as caught:
        kernel_table.compile_variant(Variant("optim"), "sm_80")
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("x[0] = no_such_name;", "does not compile"),
        ("int unused; x[0] = 1;", "compiles with a warning"),
        ("float a[99]; for (int i = 0; i < n; ++i) a[i * 7 % 99] = i; x[0] = a[n];", "of stack"),
    ],
)
def test_what_would_be_refused(monkeypatch, body, complaint):
    text = refused(monkeypatch, body)
    assert "file='optim'" in text
    assert "for sm_80" in text
    assert complaint in text


def test_another_set_of_entry_points_is_refused(monkeypatch):
    monkeypatch.setattr(kernels, "entry_points", lambda file: ("random_bits", "dropout_mask", "x"))
    with pytest.raises(kernel_table.KernelError, match="has the entry points"):
        kernel_table.compile_variant(Variant("random"), "sm_80")
