"""CuPy's modules: NumPy's, cut down to the names and keywords that CuPy has."""

import numpy as np

from . import names
from .array import call, get_ufunc, poison


class Namespace:
    """One module of CuPy.

    Parameters
    ----------
    name : str
        Its path below ``cupy``: ``""``, ``"linalg"``, ...
    source : object
        Where NumPy's functions come from.
    """

    def __init__(self, name, source):
        self._name = name
        self._source = source
        self._listed = names.load()["modules"][name]

    def __dir__(self):
        return [name for names_of_kind in self._listed.values() for name in names_of_kind]

    def __getattr__(self, name):
        path = ".".join(filter(None, ["cupy", self._name, name]))
        if not any(name in names_of_kind for names_of_kind in self._listed.values()):
            raise AttributeError(f"{path} does not exist in CuPy {names.load()['cupy']}")
        if name in self._listed["other"] or not hasattr(self._source, name):
            raise AttributeError(f"{path} exists, but the stand-in without a GPU does not offer it")
        value = getattr(self._source, name)
        if name in self._listed["ufuncs"]:
            value = get_ufunc(name)
        elif name in self._listed["functions"]:
            value = self._function(name, value)
        setattr(self, name, value)  # so that this runs once per name
        return value

    def _function(self, name, numpy_function):
        label = f"{self._name}.{name}".lstrip(".")
        parameters = self._listed["functions"][name]

        def function(*args, **kwargs):
            result = call(numpy_function, label, parameters, args, kwargs)
            if name.startswith("empty"):
                poison(result._a)
            return result

        function.__name__ = function.__qualname__ = name
        return function


def _with_dtype(numpy_function):
    """Let a NumPy sampler take CuPy's ``dtype``, and give arrays only."""

    def sample(*args, dtype=None, **kwargs):
        result = numpy_function(*args, **kwargs)
        if isinstance(result, (int, float, np.ndarray)):
            return np.asarray(result, dtype)
        return result

    return sample


class RandomNamespace(Namespace):
    """`cupy.random`: other numbers than CuPy's, from a state of its own."""

    def __init__(self):
        # Not numpy.random itself: seeding one must not seed the other.
        super().__init__("random", np.random.RandomState())

        self.default_rng = self.Generator = Generator

    def _function(self, name, numpy_function):
        return super()._function(name, _with_dtype(numpy_function))


class Generator:
    """`cupy.random.Generator`: only the distributions that CuPy has."""

    _takes_dtype = names.words(
        "integers random standard_exponential standard_gamma standard_normal"
    )

    def __init__(self, seed=None):
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name):
        methods = names.load()["classes"]["random.Generator"]["methods"]
        if name not in methods:
            raise AttributeError(f"cupy.random.Generator has no {name!r}")
        sampler = getattr(self._rng, name)
        if name not in self._takes_dtype:
            sampler = _with_dtype(sampler)
        label = f"random.Generator.{name}"
        return lambda *args, **kwargs: call(sampler, label, methods[name], args, kwargs)
