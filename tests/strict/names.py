"""The names that CuPy has: write the list from a real CuPy, and read it back.

``python -m tests.strict.names`` writes ``cupy_names.json`` from the installed CuPy. It needs
CuPy's wheel, but no GPU and no driver; without NCCL's wheel, it keeps what is listed of NCCL.
"""

import functools
import inspect
import json
import pathlib
import re
import warnings

COMMUNICATOR = "cuda.nccl.NcclCommunicator"
_PATH = pathlib.Path(__file__).with_name("cupy_names.json")


def words(text):
    """Return the set of the words in ``text``."""
    return frozenset(text.split())


@functools.cache
def load():
    """Return the checked-in list.

    Returns
    -------
    dict
        ``cupy`` and ``numpy``: the versions it was written from. ``modules``: a dictionary per
        module with ``functions`` (name to parameter list), ``ufuncs`` (name to keywords and
        methods), ``same`` (NumPy's own objects: dtypes, constants) and ``other``. ``classes``:
        ``methods`` (name to parameter list) and ``attributes`` of each class.
    """
    return json.loads(_PATH.read_text())


@functools.cache
def signature(parameters):
    """Return the `inspect.Signature` of a parameter list such as ``"a, axis=..., *, out=..."``."""
    return inspect.signature(eval(f"lambda {parameters}: None"))


def _parameters(function, method=False):
    """Return a callable's parameter list as text, without ``self``, every default ``...``."""
    try:
        found = inspect.signature(function)
    except ValueError:  # compiled: Cython writes the signature in the docstring's first line
        first_line = (function.__doc__ or "").split("\n")[0]
        items = re.search(r"\((.*?)\)( ->|$)", first_line)[1].split(",")
        # "int axis=-1" becomes "axis=...": no C type, no default value
        names = [re.sub(r"=.*", "=...", item).split()[-1] for item in items]
        return ", ".join(names[method:])
    plain = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else ...)
        for p in found.parameters.values()
    ]
    text = inspect.Signature(plain[method:])
    return str(text)[1:-1].replace("Ellipsis", "...")


def _ufunc(cupy, function):
    """Return the keywords and the methods of a CuPy ufunc.

    The ufunc object offers every method, but the source lets only these work.
    """
    if not isinstance(function, cupy.ufunc):  # a generalised ufunc: matmul
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        parameters = inspect.signature(function).parameters.values()
        return [" ".join(p.name for p in parameters if p.kind is keyword_only), ""]
    keywords = " ".join(re.findall(r"(\w+)=", function.__doc__.split("\n")[0]))
    methods = ["outer"]
    if function._scatter_op is not None:
        methods.append("at")
    if function.name in ("cupy_add", "cupy_multiply"):
        methods += ["reduce", "accumulate"]
    if function.name == "cupy_add":
        methods.append("reduceat")
    return [keywords, " ".join(methods)]


def _describe_module(cupy, module, numpy_module):
    """Return the ``modules`` entry of one module."""
    found = {"functions": {}, "ufuncs": {}, "same": [], "other": []}
    for name in sorted(n for n in dir(module) if not n.startswith("_")):
        value = getattr(module, name)
        if name in ("annotations", "ndarray"):
            continue
        if value is getattr(numpy_module, name, module):
            found["same"].append(name)
        elif isinstance(value, cupy.ufunc) or (name == "matmul" and module is cupy):
            found["ufuncs"][name] = _ufunc(cupy, value)
        elif callable(value) and not isinstance(value, type) and hasattr(numpy_module, name):
            found["functions"][name] = _parameters(value)
        else:
            found["other"].append(name)
    return found


def _describe_class(cls):
    """Return the ``classes`` entry of one class."""
    found = {"methods": {}, "attributes": []}
    for name in sorted(n for n in dir(cls) if not n.startswith("_")):
        value = inspect.getattr_static(cls, name)
        if callable(value):
            found["methods"][name] = _parameters(value, method=True)
        else:
            found["attributes"].append(name)
    return found


def write(path=_PATH):
    """Write the list of the installed CuPy to ``path``."""
    import cupy
    import numpy

    with warnings.catch_warnings(action="ignore"):
        from cupy.cuda import nccl
    listed = {"cupy": cupy.__version__, "numpy": numpy.__version__, "modules": {}, "classes": {}}
    modules = {"": (cupy, numpy), "cuda": (cupy.cuda, None)}
    for name in ("linalg", "random", "fft"):
        modules[name] = getattr(cupy, name), getattr(numpy, name)
    modules["lib.stride_tricks"] = cupy.lib.stride_tricks, numpy.lib.stride_tricks
    for name, (module, numpy_module) in modules.items():
        listed["modules"][name] = _describe_module(cupy, module, numpy_module)
    listed["classes"]["ndarray"] = _describe_class(cupy.ndarray)
    if nccl.available:
        listed["modules"]["cuda.nccl"] = _describe_module(cupy, nccl, None)
        listed["classes"][COMMUNICATOR] = _describe_class(nccl.NcclCommunicator)
    else:
        listed["modules"]["cuda.nccl"] = load()["modules"]["cuda.nccl"]
        listed["classes"][COMMUNICATOR] = load()["classes"][COMMUNICATOR]
    listed["classes"]["random.Generator"] = _describe_class(cupy.random.Generator)
    path.write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    write()
