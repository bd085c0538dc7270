"""The house: which module may import which, and what ``import xcnn`` pulls in."""

import ast
import pathlib
import subprocess
import sys

import pytest

from .conftest import PACKAGE, SOURCES

CHECKOUT = pathlib.Path(__file__).parent.parent

# From the ground up; an import goes to the same floor or down.
FLOORS = [
    {"arrays", "config", "errors"},
    {"checks", "tiling"},
    {"geometry", "layout"},
    {"backends"},
    {"random", "tensor", "convolution"},
    {"functional"},
    {"init", "nn", "optim", "schedules"},
    {"amp", "extend"},
    {"models", "data", "serialize", "summary"},
    {"training", "onnx"},
    {"cli", "__main__", "testing"},
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}

# Written against xp, so that they run on every device.
NO_ARRAY_LIBRARY = ["functional", "nn", "convolution", "optim", "tensor", "geometry", "layout"]


def modules():
    """(name as in xcnn.nn.conv, path) of every source file."""
    for path in SOURCES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield ".".join(("xcnn", *parts[: -1 if is_package else None])), path


def imports(name, path):
    """Full names of what a file imports, anywhere in it, ``from x import y`` as x.y."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = [*base, *(node.module or "").split(".")] if node.module else base
            yield from (".".join([*start, alias.name]) for alias in node.names)


def floor_name(full_name):
    """``nn`` of xcnn.nn.conv; empty for what is outside, and for xcnn itself."""
    parts = full_name.split(".")
    return parts[1] if parts[0] == "xcnn" and len(parts) > 1 else ""


MODULES = {name: path for name, path in modules() if floor_name(name)}
each_module = pytest.mark.parametrize("name", MODULES)


def test_the_sources_were_found():
    assert {"xcnn.tensor", "xcnn.backends.base", "xcnn.nn.module"} <= set(MODULES)
    found = set(imports("xcnn.functional.conv", MODULES["xcnn.functional.conv"]))
    assert {"xcnn.convolution.choose", "xcnn.tensor.Tensor", "xcnn.layout.batch_last"} <= found


@each_module
def test_has_a_floor(name):
    assert floor_name(name) in FLOOR_OF, f"put {floor_name(name)} on a floor in this file"


@each_module
def test_imports_go_down(name):
    own = FLOOR_OF[floor_name(name)]
    up = [
        other for other in imports(name, MODULES[name]) if FLOOR_OF.get(floor_name(other), -1) > own
    ]
    assert up == []


@pytest.mark.parametrize("name", [n for n in MODULES if floor_name(n) in NO_ARRAY_LIBRARY])
def test_layers_name_no_array_library(name):
    top = {other.split(".")[0] for other in imports(name, MODULES[name])}
    assert top.isdisjoint({"numpy", "cupy", "scipy", "cupyx"})


def test_only_backends_name_cupy():
    users = {
        name
        for name, path in MODULES.items()
        if {"cupy", "cupyx"} & {other.split(".")[0] for other in imports(name, path)}
    }
    assert users <= {"xcnn.backends", "xcnn.backends.cuda", "xcnn.backends.diagnosis"}


def run(code, cwd):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_import_takes_little_with_it(tmp_path):
    """The rest is imported where it is used."""
    code = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
import xcnn
print(*sorted({{m.split('.')[0] for m in sys.modules}}), *[m for m in sys.modules if "onnx" in m])
assert xcnn.onnx.load and not hasattr(xcnn, "onnxx")
"""
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert "xcnn" in loaded
    assert not loaded & {"scipy", "cupy", "matplotlib", "torch", "tqdm", "PIL", "sklearn", "onnx"}
    assert "xcnn.onnx" not in loaded
    assert not loaded & {"http", "urllib.request", "email", "ssl"}


@pytest.mark.skipif(not (CHECKOUT / "backends").is_dir(), reason="not a checkout")
def test_backends_has_one_import_name():
    """In a checkout the folder lies beside xcnn; importing it there would make a second copy."""
    result = run("import backends", CHECKOUT)
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert (CHECKOUT / "xcnn" / "backends").resolve() == CHECKOUT / "backends"
