"""The CPU's compiled kernels: how they are found, chosen and run on several threads."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest

from xcnn.backends.native import Library, load
from xcnn.backends.native.library import KERNELS, PATH, VARIANTS
from xcnn.errors import ArgumentError

pytestmark = pytest.mark.skipif(not PATH.exists(), reason="the kernels are not compiled")


def output(code, **environment):
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    return run.stdout.strip() if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


SHOW = "import xcnn; print(type(xcnn.backends.get('cpu')).__name__, xcnn.backends.kernels_of_cpu)"


def test_off():
    assert output(SHOW, XCNN_NATIVE="0") == "CpuBackend off: XCNN_NATIVE=0"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_chosen_instruction_set(variant):
    if Library()._has(variant):
        assert output(SHOW, XCNN_NATIVE=variant) == f"NativeBackend {variant}"
    else:
        assert f"XCNN_NATIVE={variant}: expected" in output(SHOW, XCNN_NATIVE=variant)


def test_an_unknown_instruction_set():
    with pytest.raises(ArgumentError, match=r"XCNN_NATIVE=mmx: expected 0, 1 or .*baseline"):
        Library("mmx")


def test_every_instruction_set_has_every_kernel():
    for variant in filter(Library()._has, VARIANTS):
        library = Library(variant)
        names = {name for name, _ in library.functions}
        assert names == set(KERNELS)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [("missing.so", None, "not compiled"), ("broken.so", b"no library", "cannot be loaded")],
)
def test_without_a_library(tmp_path, monkeypatch, name, content, expected):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr("xcnn.backends.native.library.PATH", path)
    library, text = load()
    assert library is None
    assert expected in text


def test_a_library_of_another_version(monkeypatch):
    monkeypatch.setitem(KERNELS, "gone", "p")
    library, text = load()
    assert library is None
    assert "cannot be loaded, install xcnn again: it is of another version of xcnn" in text


def test_the_library_is_newer_than_its_sources():
    sources = [*PATH.parent.glob("*.cpp"), *PATH.parent.glob("*.h")]
    newest = max(path.stat().st_mtime for path in sources)
    assert PATH.stat().st_mtime >= newest, "compile the kernels again: pip install -e ."


# -- threads -------------------------------------------------------------------------------

WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


def run_parallel(threads, parts, work):
    library = ctypes.CDLL(str(PATH))
    library.xcnn_parallel.argtypes = [ctypes.c_int64, ctypes.c_int64, WORK, ctypes.c_void_p]
    library.xcnn_parallel(threads, parts, WORK(lambda _, part: work(part)), None)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("parts", [0, 1, 2, 7, 100])
def test_each_part_runs_once(threads, parts):
    for _ in range(20):
        ran = []
        run_parallel(threads, parts, ran.append)
        assert sorted(ran) == list(range(parts))


def test_parts_run_at_the_same_time():
    both = threading.Barrier(2, timeout=30)
    run_parallel(2, 2, lambda part: both.wait())
    assert not both.broken


def test_work_inside_work():
    ran = []
    run_parallel(2, 3, lambda i: run_parallel(2, 4, lambda j: ran.append((i, j))))
    assert sorted(ran) == [(i, j) for i in range(3) for j in range(4)]


def test_callers_at_the_same_time():
    ran = []

    def call(number):
        for _ in range(50):
            run_parallel(2, 3, lambda part: ran.append((number, part)))

    callers = [threading.Thread(target=call, args=[n]) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(ran) == sorted((n, p) for n in range(4) for p in range(3) for _ in range(50))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_starts_its_own_threads():
    code = """
import os, sys
sys.path.insert(0, {path!r})
from tests.test_native import run_parallel
run_parallel(2, 4, lambda part: None)
child = os.fork()
ran = []
run_parallel(2, 4, ran.append)
assert sorted(ran) == [0, 1, 2, 3]
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    assert output(code.format(path=folder)).endswith("0")
