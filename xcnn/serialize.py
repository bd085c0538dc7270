"""Save and load models as safetensors files: weights, with the architecture as metadata.

The architecture is JSON, {"class": "Conv2d", "arguments": {...}}, nested where an argument is a
module. Only classes of ``xcnn.nn`` and those registered with ``xcnn.extend.register_layer`` (the
blocks of ``xcnn.models``, the graphs of ``xcnn.onnx``, and user-defined ones) are built from a
file, so loading never runs code from the file.
"""

from __future__ import annotations

import inspect
import json
import os
import secrets
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from . import backends, init, nn
from .arrays import Array
from .errors import ArgumentError, FileFormatError
from .extend import layer_builder, layer_name

_Path = str | os.PathLike[str]


def save(model: nn.Module, path: _Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``model`` to a safetensors file.

    The write is atomic: a temporary file in the same folder is renamed when it is complete.

    Parameters
    ----------
    model
        Any Module. If it has unregistered classes, :func:`load` needs a model to load into. Only
        constructor arguments are saved, not attributes changed later.
    path
        Usually ends in ``.safetensors``.
    metadata
        Additional strings to store in the file.

    Raises
    ------
    OSError
        The file cannot be written (no space, no permission); an existing file is left unchanged.
    """
    from safetensors.numpy import save as to_bytes

    xp = backends.get("cpu").xp
    arrays = {
        name: xp.asarray(backends.of(a).to_host(a), order="C")  # 0-d stays 0-d
        for name, a in model.state_dict().items()
    }
    if "__metadata__" in arrays:
        raise ArgumentError(
            "a weight is named '__metadata__', which the format reserves: rename it"
        )
    strings = {"format": "xcnn", "architecture": json.dumps(describe(model)), **(metadata or {})}
    write_atomically(path, _sort_metadata(to_bytes(arrays, strings)))


def _sort_metadata(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file; safetensors writes it in random order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def load(path: _Path, model: nn.Module | None = None) -> Any:
    """Read a model written by :func:`save`, on the CPU and in evaluation mode.

    Parameters
    ----------
    path
        The file.
    model
        Load the weights into this model instead of building one.

    Returns
    -------
    Module
        ``model``, or a new one.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Truncated, damaged or not a safetensors file, or its architecture cannot be built.
    StateDictError
        The weights do not fit ``model``.
    """
    arrays, metadata = read(path)
    if model is not None:
        model.load_state_dict(arrays)
        return model.eval()
    hint = "build the model yourself and call xcnn.load(path, model)"
    if "architecture" not in metadata:
        raise FileFormatError(f"{path} holds weights but no architecture; {hint}")
    try:
        return _rebuild(metadata["architecture"], arrays)
    except Exception as error:  # a tampered description can make a constructor raise anything
        raise FileFormatError(
            f"{path}: the architecture cannot be built: {error or type(error).__name__}; {hint}"
        ) from error


def _rebuild(architecture: str, arrays: Mapping[str, Array]) -> nn.Module:
    """Build the model that ``architecture`` (JSON) describes, in the precision of ``arrays``."""
    with init.skipped():
        model = build(json.loads(architecture))
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"it describes {model!r}, not a module")
    model.load_state_dict(arrays)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if arrays[name].dtype.kind == "f" and arrays[name].dtype != tensor.dtype:
            tensor.data = arrays[name].copy()
    return model.eval()


def read(path: _Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays (NumPy) and the metadata of a safetensors file.

    Raises
    ------
    FileNotFoundError, FileFormatError
        As :func:`load`.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()  # safe_open is not iterable
            return {k: file.get_tensor(k) for k in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, TypeError) as error:
        hint = "it may be truncated: copy or download it again"
        if str(path).endswith(".onnx"):
            hint = "xcnn.onnx.load reads ONNX files"
        raise FileFormatError(
            f"{path} is not a complete safetensors file ({error}); {hint}"
        ) from error


def write_atomically(path: _Path, content: bytes) -> None:
    """Write ``content`` to ``path``, all or nothing."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder: expected the name of a file")
    # named before it is created, so an interrupt at any point leaves no file behind
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # it names the temporary file
            raise OSError(error.errno, f"cannot write: {error.strerror}", str(target)) from error
        raise


def describe(value: Any, seen: dict[int, int] | None = None) -> Any:
    """Convert a module or a constructor argument to JSON data.

    A shared module is described once: ``seen`` numbers the modules in the order in which they are
    completed, and later uses become {"same": number}.
    """
    seen = {} if seen is None else seen
    if isinstance(value, nn.Module):
        if id(value) in seen:
            return {"same": seen[id(value)]}
        inner = value._init_arguments
        if type(value) is nn.Sequential:
            inner = dict(value.named_children())
        key = "layers" if type(value) is nn.Sequential else "arguments"
        described = {name: describe(v, seen) for name, v in inner.items()}
        seen[id(value)] = len(seen)
        return {"class": _class_name(type(value)), key: described}
    if isinstance(value, tuple | list):
        return [describe(v, seen) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Real):  # a NumPy scalar
        return int(value) if isinstance(value, Integral) else float(value)
    return {"class": _class_name(type(value))}  # build() reports it


def build(description: Any, built: list[nn.Module] | None = None) -> Any:
    """Build a module from the result of :func:`describe`.

    ``built`` lists the modules completed so far.

    Raises
    ------
    ArgumentError
        A class that is neither in ``xcnn.nn`` nor registered.
    """
    built = [] if built is None else built
    if isinstance(description, list):
        return tuple(build(v, built) for v in description)
    if not isinstance(description, dict):
        return description
    if "same" in description:
        return built[description["same"]]
    builder = _builder(description["class"])
    key = "layers" if "layers" in description else "arguments"
    inner = {name: build(v, built) for name, v in description[key].items()}
    module = builder(inner) if key == "layers" else builder(**inner)
    built.append(module)
    return module


def _builder(name: Any) -> Callable[..., nn.Module]:
    """Look up the class or function for a name from :func:`_class_name`."""
    builder = layer_builder(name) if isinstance(name, str) else None
    if builder is None and name in nn.__all__:
        builder = getattr(nn, name)
        if not (inspect.isclass(builder) and issubclass(builder, nn.Module)):
            builder = None
    if builder is None or builder is nn.Module:
        raise ArgumentError(
            f"class {name!r} is neither in xcnn.nn or xcnn.models nor registered with "
            "xcnn.extend.register_layer"
        )
    return builder


def _class_name(cls: type) -> str:
    if getattr(nn, cls.__name__, None) is cls:
        return cls.__name__
    return layer_name(cls) or f"{cls.__module__}.{cls.__qualname__}"
