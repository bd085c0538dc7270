"""Save and load models as safetensors files: weights, with the architecture as metadata.

The architecture is JSON, {"class": "Conv2d", "arguments": {...}}, nested where an argument is a
module. Only classes of ``xcnn.nn`` and those registered with ``xcnn.extend.register_layer`` (the
blocks of ``xcnn.models``, the graphs of ``xcnn.onnx``, and user-defined ones) are built from a
file, so loading never runs code from the file.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from . import backends, init, nn, torch_file
from .arrays import Array
from .errors import ArgumentError, DTypeError, FileFormatError
from .extend import layer_builder, layer_name
from .files import MAX_JSON, AnyPath, open_file, parse_json, reading, write_atomically
from .tensor import Buffer, Parameter, Tensor

#: by NumPy type: its name in safetensors files
_CODES = {
    **{f"float{n}": f"F{n}" for n in (16, 32, 64)},
    **{f"{kind}{n}": f"{kind[0].upper()}{n}" for kind in ("int", "uint") for n in (8, 16, 32, 64)},
    "bool": "BOOL",
}
_MAX_NDIM = 64  # of a NumPy array
#: by type in a file: how its values are stored
_STORED = {code: np.dtype(name).newbyteorder("<") for name, code in _CODES.items()}
_STORED |= {"BOOL": np.dtype("u1"), "BF16": np.dtype("<u2")}


def save(model: Any, path: AnyPath, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``model`` to a safetensors file.

    The write is atomic: a temporary file in the same folder is renamed when it is complete.

    Parameters
    ----------
    model
        Any Module. If it has unregistered classes, :func:`load` needs a model to load into. Only
        constructor arguments are saved, not attributes changed later. Or a ``state_dict()``, which
        :func:`load_state` reads.
    path
        Usually ends in ``.safetensors``.
    metadata
        Additional strings to store in the file.

    Raises
    ------
    OSError
        The file cannot be written (no space, no permission); an existing file is left unchanged.
    DTypeError
        ``model`` is neither.
    """
    write_atomically(path, model_parts(model, metadata))


def model_parts(model: Any, metadata: Mapping[str, str] | None = None) -> list[Any]:
    """The content of the file that :func:`save` writes, as a list of buffers."""
    strings = {"format": "xcnn", **(metadata or {})}
    if isinstance(model, nn.Module):
        strings = {"architecture": json.dumps(describe(model)), **strings}
        state: Mapping[str, Any] = model.state_dict()
    elif isinstance(model, Mapping) and all(
        isinstance(name, str) and hasattr(value, "dtype") for name, value in model.items()
    ):
        state = {name: Tensor.of(value).data for name, value in model.items()}
    else:
        raise DTypeError(
            f"save: model is {type(model).__name__}: expected a Module or its "
            "state_dict(), as in save(model, path); Trainer.save saves a training"
        )
    arrays = {name: backends.of(a).to_host(a) for name, a in state.items()}
    return parts(arrays, strings)


def parts(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> list[Any]:
    """The content of a safetensors file, as a list of buffers: the header, then the arrays.

    Parameters
    ----------
    arrays
        NumPy arrays of float16, float32, float64, integers or bool. Every bit and shape is kept.
    metadata
        Strings to store with them.

    Returns
    -------
    list
        Equal for equal input: arrays and metadata are sorted.

    Raises
    ------
    ArgumentError
        An array has another type or the name ``__metadata__``, or a metadata value is not a str.
    """
    if "__metadata__" in arrays:
        raise ArgumentError(
            "a weight is named '__metadata__', which the format reserves: rename it"
        )
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ArgumentError(f"metadata[{key!r}]={value!r}: expected a str")
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    contents: list[Any] = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):  # aligned
        array = arrays[name]
        code = _CODES.get(array.dtype.name)
        if code is None:
            raise ArgumentError(f"{name} is of {array.dtype}; expected {', '.join(_CODES)}")
        # a 0-d array stays 0-d, unlike with ascontiguousarray
        contents.append(np.asarray(array, array.dtype.newbyteorder("<"), order="C"))
        start, end = end, end + array.nbytes
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *contents]


def load(path: AnyPath, model: nn.Module | None = None) -> Any:
    """Read a model written by :func:`save`, on the CPU and in evaluation mode.

    Parameters
    ----------
    path
        The file.
    model
        Load the weights into this model instead of building one. Weights that are tied in the file
        become tied in it.

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
        with reading(path, "cannot be loaded", "Save it again"):
            _tie(model, _tied(metadata))
        return model.eval()
    hint = "build the model yourself and call xcnn.load(path, model)"
    if "architecture" not in metadata:
        raise FileFormatError(
            f"{path} holds weights but no architecture; {hint}, or "
            "model.load_state_dict(xcnn.load_state(path))"
        )
    try:
        return _rebuild(metadata["architecture"], arrays)
    except Exception as error:  # a tampered description can make a constructor raise anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise FileFormatError(
            f"{path}: the architecture cannot be built: {text}; {hint}"
        ) from error


def _tied(metadata: Mapping[str, str]) -> Any:
    """The names of tied weights; none if the architecture, not needed otherwise, is unreadable."""
    try:
        description = parse_json(metadata.get("architecture", "{}"))
    except ValueError:
        return {}
    return description.get("tied", {}) if isinstance(description, dict) else {}


def _rebuild(architecture: str, arrays: Mapping[str, Array]) -> nn.Module:
    """Build the model that ``architecture`` (JSON) describes, in the precision of ``arrays``."""
    with init.skipped():
        model = build(parse_json(architecture))
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"it describes {model!r}, not a module")
    modules = dict(model.named_modules())
    for path, array in arrays.items():  # the weights of a loss are its arguments, but not in JSON
        owner, _, name = path.rpartition(".")
        loss = modules.get(owner)
        if isinstance(loss, nn.Loss) and getattr(loss, name, 0) is None:
            setattr(loss, name, nn.Buffer(array))
    model.load_state_dict(arrays)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if arrays[name].dtype.kind == "f" and arrays[name].dtype != tensor.dtype:
            tensor.data = arrays[name].copy()
    return model.eval()


def load_state(path: AnyPath) -> dict[str, Array]:
    """Read the weights in a safetensors file or a PyTorch file, for ``model.load_state_dict``.

    PyTorch is not needed. A file of ``torch.save`` is a pickle, a program; it is not run, but read
    as data: tensors in dicts and lists, and anything else is an error.

    Parameters
    ----------
    path
        A safetensors file, or a ``.pth`` or ``.pt`` file that contains a state dict, or a dict of
        which exactly one value is a state dict, such as {"epoch": 3, "model": state}.

    Returns
    -------
    dict
        NumPy arrays by name; bfloat16 becomes float32.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Truncated, damaged, of another format, or with something else in it.
    """
    return read(path)[0]


def read(path: AnyPath, mapped: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays and the metadata of a file, as :func:`load_state` does.

    With ``mapped``, the arrays of a safetensors file stay in the file, mapped into memory.

    Raises
    ------
    FileNotFoundError, FileFormatError
        As :func:`load`, or an array has a type that NumPy lacks, such as F8_E4M3.
    """
    with reading(path), open_file(path) as file:
        is_torch = torch_file.is_torch_file(file.read(32))
    if is_torch:
        stored = torch_file.read(path, _STORED)
        return {name: _decode(*array) for name, array in stored.items()}, {}
    hint = "It may be truncated: copy or download it again"
    if str(path).endswith(".onnx"):
        hint = "xcnn.onnx.load reads ONNX files"
    with reading(path, "is not a complete safetensors file", hint), open_file(path) as file:
        left = os.fstat(file.fileno()).st_size - 8
        length = int.from_bytes(file.read(8), "little")
        if length > left:
            raise ValueError(f"a header of {length} bytes, {left} left")
        header = parse_json(file.read(min(length, MAX_JSON + 1)))
        metadata = header.pop("__metadata__", None) or {}
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("the metadata are not strings")
        entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"])
        arrays, end = {}, 0
        array: Array
        for name, entry in entries:
            code, shape = entry["dtype"], entry["shape"]
            if code not in _STORED:
                raise FileFormatError(f"{name!r} is of type {code}: expected {', '.join(_STORED)}")
            size = math.prod(shape[:_MAX_NDIM])  # NumPy rejects more axes below
            start, end = end, end + size * _STORED[code].itemsize
            if entry["data_offsets"] != [start, end] or not 0 <= start <= end <= left - length:
                raise ValueError(f"{name!r}, {code} {shape}, is at {entry['data_offsets']}")
            if mapped and size:
                array = np.memmap(file, _STORED[code], "r", 8 + length + start, tuple(shape))
                array = array.view(np.ndarray)  # items of a memmap take longer to read
                file.seek(8 + length + end)
            else:
                array = np.fromfile(file, _STORED[code], size).reshape(shape)
            arrays[name] = _decode(array, code)
        if end != left - length:
            raise ValueError(f"{left - length} bytes of arrays, expected {end}")
        return arrays, metadata


def _decode(stored: Array, code: str) -> Array:
    """The values of an array as it is stored, in the byte order of this machine."""
    if code == "BF16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    native = stored.dtype.newbyteorder("=")
    return stored != 0 if code == "BOOL" else stored.astype(native, copy=False)


def describe(value: Any, seen: dict[int, int] | None = None) -> Any:
    """Convert a module or a constructor argument to JSON data.

    A shared module is described once: ``seen`` numbers the modules in the order in which they are
    completed, and later uses become {"same": number}. Parameters shared by different modules are
    listed in "tied" of the outermost one, {"decoder.weight": "encoder.weight"}.
    """
    tied = _ties(value) if seen is None and isinstance(value, nn.Module) else {}
    seen = {} if seen is None else seen
    if isinstance(value, nn.Module):
        if id(value) in seen:
            return {"same": seen[id(value)]}
        key, inner = "arguments", value._init_arguments
        if type(value) in (nn.Sequential, nn.ModuleDict, nn.ModuleList):
            key, inner = "layers", dict(value.named_children())
        described = {name: describe(v, seen) for name, v in inner.items()}
        seen[id(value)] = len(seen)
        result = {"class": _class_name(type(value)), key: described}
        return {**result, "tied": tied} if tied else result
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
    _tie(module, description.get("tied", {}))
    built.append(module)
    return module


def _tensors(model: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, str], Tensor]]:
    """Yield (path, (module, name inside it), tensor); shared ones under each of their paths."""
    for path, module in model.named_modules():
        for name, value in module._members():
            if isinstance(value, Parameter | Buffer):
                yield f"{path}.{name}" if path else name, (module, name), value


def _ties(model: nn.Module) -> dict[str, str]:
    """By path of a tensor that another module has too: its first path."""
    first: dict[int, tuple[str, tuple[nn.Module, str]]] = {}
    ties = {}
    for path, place, tensor in _tensors(model):
        original, first_place = first.setdefault(id(tensor), (path, place))
        if place != first_place:  # the same place has two paths if the module is shared
            ties[path] = original
    return ties


def _tie(model: nn.Module, ties: Mapping[str, str]) -> None:
    """Let the module at each path of ``ties`` share the tensor at the other path."""
    places = {path: (place, tensor) for path, place, tensor in _tensors(model)} if ties else {}
    for path, original in ties.items():
        if not places.keys() >= {path, original}:
            raise FileFormatError(f"tied weights {path!r} and {original!r}: the model lacks one")
        (owner, name), tensor = places[path]
        shared = places[original][1]
        if tensor.shape != shared.shape:
            raise FileFormatError(f"tied weights {path!r} and {original!r} differ in shape")
        *keys, last = name.split(".")  # "weights.0" is in a list
        holder: Any = vars(owner)
        for key in keys:
            holder = holder[int(key) if isinstance(holder, list | tuple) else key]
        holder[int(last) if isinstance(holder, list) else last] = shared


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
