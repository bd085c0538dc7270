"""Models in safetensors files: the weights, and in the metadata how to build the model.

The architecture is JSON, {"class": "Conv2d", "arguments": {...}}, nested where an argument is a
module. Only classes of ``xcnn.nn`` and those registered with ``xcnn.extend.register_layer``
(the blocks of ``xcnn.models``, the graphs of ``xcnn.onnx``, and yours) are built from a file, so
loading one runs no code from the file.
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
from .errors import ArgumentError, FileFormatError, XcnnError
from .extend import layer_builder, layer_name

_FORMAT = "xcnn"
#: what a description that somebody tampered with can lead to
_NOT_BUILT = (
    XcnnError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def save(model: nn.Module, path: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``model`` to a safetensors file.

    The file appears complete or not at all: it is written under another name in the same folder
    and then renamed.

    Parameters
    ----------
    model
        Any Module. One of a class of your own is saved too, but :func:`load` then needs the model
        to load it into. What a layer was made with is written, not attributes changed since.
    path
        Usually ends in ``.safetensors``.
    metadata
        Further strings to keep in the file.

    Raises
    ------
    OSError
        The file cannot be written (no space, no permission); an older one is left as it was.
    """
    from safetensors.numpy import save as to_bytes

    xp = backends.get("cpu").xp
    arrays = {
        name: xp.asarray(backends.of(a).to_host(a), order="C")  # 0-d stays 0-d
        for name, a in model.state_dict().items()
    }
    if "__metadata__" in arrays:
        raise ArgumentError("a weight is called '__metadata__', which the format keeps for itself")
    notes = {"format": _FORMAT, "architecture": json.dumps(describe(model)), **(metadata or {})}
    write_atomically(path, _in_order(to_bytes(arrays, notes)))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in random order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def load(path: Any, model: nn.Module | None = None) -> Any:
    """Read a model that :func:`save` wrote, on the CPU, in evaluation mode.

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
        Truncated or damaged, not a safetensors file, or without an architecture that can be built.
    StateDictError
        The weights do not fit ``model``.
    """
    arrays, metadata = read(path)
    if model is None:
        if "architecture" not in metadata:
            raise FileFormatError(
                f"{path} holds weights but no architecture; build the model yourself and call "
                "xcnn.load(path, model)"
            )
        try:
            return _rebuild(metadata["architecture"], arrays)
        except _NOT_BUILT as error:
            raise FileFormatError(
                f"{path}: the architecture cannot be built: {error or type(error).__name__}; build "
                "the model yourself and call xcnn.load(path, model)"
            ) from error
    model.load_state_dict(arrays)
    return model.eval()


def _rebuild(architecture: str, arrays: Mapping[str, Any]) -> Any:
    """The model that ``architecture`` (JSON) describes, with ``arrays`` in their own precision."""
    with init.skipped():
        model = build(json.loads(architecture))
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"it describes {model!r}, no module")
    model.load_state_dict(arrays)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        kept = arrays[name]
        if kept.dtype.kind == "f" and kept.dtype != tensor.dtype:
            tensor.data = kept.copy()
    return model.eval()


def read(path: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays (NumPy) and the metadata of a safetensors file.

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
            names = file.keys()  # safe_open is no dict
            return {k: file.get_tensor(k) for k in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, TypeError) as error:
        how = "it may be truncated: copy or download it again"
        if str(path).endswith(".onnx"):
            how = "xcnn.onnx.load reads ONNX files"
        raise FileFormatError(
            f"{path} is not a complete safetensors file ({error}); {how}"
        ) from error


def write_atomically(path: Any, content: bytes) -> None:
    """Put ``content`` at ``path``, all or nothing."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder: expected the name of a file")
    # named before it is made, so that Ctrl-C at any moment leaves nothing
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # it names the temporary file
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def describe(value: Any, seen: dict[int, int] | None = None) -> Any:
    """A module, or an argument of one, as JSON can hold it.

    A module that stands in two places is described once: ``seen`` numbers the modules as they are
    completed, and the second place is {"same": number}.
    """
    seen = {} if seen is None else seen
    if isinstance(value, nn.Module):
        if id(value) in seen:
            return {"same": seen[id(value)]}
        found = _describe_module(value, seen)
        seen[id(value)] = len(seen)
        return found
    if isinstance(value, tuple | list):
        return [describe(v, seen) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Integral):  # NumPy's
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return {"class": _class_name(type(value))}  # build refuses it by name


def _describe_module(module: nn.Module, seen: dict[int, int]) -> dict[str, Any]:
    if type(module) is nn.Sequential:
        layers = {name: describe(child, seen) for name, child in module.named_children()}
        return {"class": "Sequential", "layers": layers}
    arguments = {k: describe(v, seen) for k, v in module._init_arguments.items()}
    return {"class": _class_name(type(module)), "arguments": arguments}


def build(description: Any, built: list[Any] | None = None) -> Any:
    """A new module from what :func:`describe` gave; ``built`` has the modules completed so far.

    Raises
    ------
    ArgumentError
        A class that is neither one of ``xcnn.nn`` nor registered.
    """
    built = [] if built is None else built
    if isinstance(description, list):
        return tuple(build(v, built) for v in description)
    if not isinstance(description, dict):
        return description
    if "same" in description:
        return built[description["same"]]
    kind = _find_class(description["class"])
    module: nn.Module
    if "layers" in description:
        module = nn.Sequential({k: build(v, built) for k, v in description["layers"].items()})
    else:
        module = kind(**{k: build(v, built) for k, v in description["arguments"].items()})
    built.append(module)
    return module


def _find_class(name: Any) -> Callable[..., nn.Module]:
    """What makes a module of the class that :func:`_class_name` named."""
    registered = layer_builder(name) if isinstance(name, str) else None
    if registered is not None:
        return registered
    known = getattr(nn, name, None) if name in nn.__all__ else None
    if not (inspect.isclass(known) and issubclass(known, nn.Module)) or known is nn.Module:
        raise ArgumentError(
            f"class {name!r} is not one of xcnn.nn or xcnn.models, nor registered with "
            "xcnn.extend.register_layer"
        )
    return known


def _class_name(kind: type) -> str:
    if getattr(nn, kind.__name__, None) is kind:
        return kind.__name__
    return layer_name(kind) or f"{kind.__module__}.{kind.__qualname__}"
