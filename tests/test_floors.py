"""Import rules: which module may import which, and what ``import xcnn`` loads."""

import ast
import functools
import importlib
import pathlib
import subprocess
import sys

import pytest

from .conftest import PACKAGE, SOURCES

CHECKOUT = pathlib.Path(__file__).parent.parent

# From the bottom up; a module imports only from its own floor or below.
FLOORS = [
    {"arrays", "config", "errors", "interrupt", "notebook", "sharding", "threads"},
    {"checks", "communicator", "files", "hints", "tiling"},
    {"geometry", "layout"},
    {"backends"},
    {"random", "tensor", "convolution"},
    {"creation", "cuda", "functional"},
    {"init", "nn", "optim", "schedules"},
    {"amp", "extend", "metrics"},
    {"models", "data", "fingerprint", "serialize", "summary", "torch_file"},
    {"explain", "training", "onnx"},
    {"distributed", "tasks"},
    {"callbacks", "plot"},
    {"report"},
    {"demo"},
    {"cli", "sklearn", "__main__", "testing"},
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}

# These use only backend.xp, so that they run on every device.
NO_ARRAY_LIBRARY = ["functional", "nn", "convolution", "optim", "tensor", "geometry", "layout"]


def modules():
    """(dotted name, path) of every source file."""
    for path in SOURCES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield ".".join(("xcnn", *parts[: -1 if is_package else None])), path


def statements(tree, later):
    """Every node of a file; without ``later``, only those that run on import."""
    for node in ast.iter_child_nodes(tree):
        type_checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if later or not (type_checking or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield node
            yield from statements(node, later)


def imports(name, path, later=True):
    """Full names of what a file imports; ``from x import y`` is x.y."""
    return _imports(name, path, later)


@functools.cache
def _imports(name, path, later):
    package, names = package_of(name, path), []
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), later):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = [*base, *(node.module or "").split(".")] if node.module else base
            names += [".".join([*start, alias.name]) for alias in node.names]
    return names


def package_of(name, path):
    """The package of a file, as a list of names."""
    return name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]


def floor_name(full_name):
    """``nn`` for xcnn.nn.conv; empty for other packages and for xcnn itself."""
    parts = full_name.split(".")
    return parts[1] if parts[0] == "xcnn" and len(parts) > 1 else ""


ALL_MODULES = dict(modules())
MODULES = {name: path for name, path in ALL_MODULES.items() if floor_name(name)}


def test_the_sources_were_found():
    assert {"xcnn.tensor", "xcnn.backends.base", "xcnn.nn.module"} <= set(MODULES)
    names = set(imports("xcnn.functional.conv", MODULES["xcnn.functional.conv"]))
    assert {"xcnn.convolution.choose", "xcnn.tensor.Tensor", "xcnn.layout.batch_last"} <= names


def test_every_module_has_a_floor():
    """Add new modules to FLOORS."""
    assert {floor_name(name) for name in MODULES} <= set(FLOOR_OF)


def test_imports_go_down():
    up = [
        (name, other)
        for name, path in MODULES.items()
        for other in imports(name, path)
        if FLOOR_OF.get(floor_name(other), -1) > FLOOR_OF[floor_name(name)]
    ]
    assert up == []


def test_layers_import_no_array_library():
    imported = [
        (name, other)
        for name, path in MODULES.items()
        for other in imports(name, path)
        if floor_name(name) in NO_ARRAY_LIBRARY
        and other.split(".")[0] in {"numpy", "cupy", "scipy", "cupyx"}
    ]
    assert imported == []


# -- cycles and inner modules --------------------------------------------------------------


def module_of(full_name):
    """The module that an imported name is or belongs to; None outside xcnn."""
    while full_name and full_name not in ALL_MODULES:
        full_name = full_name.rpartition(".")[0]
    return full_name or None


def in_cycles(later):
    """Modules that import themselves through others."""
    graph = {
        name: {module_of(other) for other in imports(name, path, later)} - {None, "xcnn"}
        for name, path in MODULES.items()
    }

    def reached(name):
        seen, waiting = set(), [name]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    return {name for name in graph if name in reached(name)}


@functools.cache
def exports(package):
    """Names that a package exports: its ``__all__``, and the public names that it binds."""
    names = set(getattr(importlib.import_module(package), "__all__", ()))
    for node in ast.parse(ALL_MODULES[package].read_text(encoding="utf-8")).body:
        names.update(ast.unparse(target) for target in getattr(node, "targets", []))
        names.update(alias.asname or alias.name for alias in getattr(node, "names", []))
        names.add(getattr(node, "name", "_"))
    return frozenset(name for name in names if not name.startswith("_"))


def is_inner(full_name, importer):
    """Whether a name of xcnn is internal to another package than ``importer``."""
    parts = full_name.split(".")
    for depth in range(2, len(parts)):  # xcnn.nn.conv._pad: in xcnn.nn, then in xcnn.nn.conv
        holder = ".".join(parts[:depth])
        if holder not in ALL_MODULES or parts[:depth] == importer[:depth]:
            continue
        is_package = ALL_MODULES[holder].name == "__init__.py"
        exported = {"*", *exports(holder)} if is_package else {parts[depth]}
        if parts[depth].startswith("_") or parts[depth] not in exported:
            return True
    return False


@pytest.mark.parametrize("later", [False, True], ids=["at import", "in functions or for types"])
def test_no_import_cycle(later):
    assert in_cycles(later) == set()


def test_no_import_from_inside_another_package():
    inner = [
        (name, other)
        for name, path in MODULES.items()
        for other in imports(name, path)
        if is_inner(other, package_of(name, path))
    ]
    assert inner == []


def test_inner_names():
    nn = ["xcnn", "nn"]
    assert not is_inner("xcnn.nn.conv.Conv2d", nn)
    assert is_inner("xcnn.nn.conv.Conv2d", ["xcnn"])
    assert not is_inner("xcnn.nn.Conv2d", ["xcnn"])
    assert is_inner("xcnn.tensor._unwrap", nn)
    assert not is_inner("numpy.core._multiarray", nn)


def test_only_backends_import_cupy():
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


def test_import_loads_few_modules(tmp_path):
    """Optional packages, and what operations and layers do not need, are imported on first use."""
    code = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
import xcnn
print(*sorted({{m.split('.')[0] for m in sys.modules}}), *[m for m in sys.modules if "." in m])
assert xcnn.onnx.load and xcnn.Trainer and xcnn.save and not hasattr(xcnn, "onnxx")
"""
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert "xcnn" in loaded
    assert not loaded & {"scipy", "cupy", "matplotlib", "torch", "tqdm", "PIL", "sklearn", "onnx"}
    later = (
        "callbacks",
        "data",
        "distributed",
        "explain",
        "metrics",
        "models",
        "onnx",
        "plot",
        "serialize",
        "training",
    )
    assert not loaded & {"numpy.random", *(f"xcnn.{name}" for name in later)}
    assert not loaded & {"http", "urllib.request", "email", "ssl"}


@pytest.mark.skipif(not (CHECKOUT / "backends").is_dir(), reason="not a checkout")
def test_backends_has_one_import_name():
    """A checkout has the folder next to xcnn; importing it from there would load a second copy."""
    result = run("import backends", CHECKOUT)
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert (CHECKOUT / "xcnn" / "backends").resolve() == CHECKOUT / "backends"
