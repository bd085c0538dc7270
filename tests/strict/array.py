"""The stand-in's array, its ufuncs, and the one way from a CuPy call to NumPy's."""

import functools

import numpy as np

from . import dlpack, memory, names
from .stream import LastUse
from .watch import check_float64, record_operation, record_sync, syncs

_SUPPORTED = "?bhilqBHILQefdFD"  # NumPy's type characters that CuPy can hold
_MISSING = object()

# Parameters that are arrays, whatever the function: CuPy takes no list for them.
_ARRAY_PARAMETERS = names.words(
    """
    a a1 a2 a_max a_min arr array ary b condition dst m max min prototype src v val values
    x x1 x2 y
    """
)

# Parameters that the host must know: CuPy takes no array for them, NumPy would take a 0-d one.
_HOST_PARAMETERS = names.words(
    "M N axes axis axis1 axis2 decimals k n ndim newshape num pad_width reps shape"
)

# These keep or choose the memory order; everything else that CuPy computes is C-contiguous.
_ORDERED = names.words(
    """
    asfortranarray astype byteswap copy empty_like eye full full_like ones ones_like pad require
    reshape zeros zeros_like empty
    """
)

# Answers about arrays that NumPy gives as Python objects and CuPy as 0-d arrays.
_ZERO_D = frozenset(["allclose", "array_equal", "array_equiv", "count_nonzero"])

# Questions about host objects too: nothing is computed.
_METADATA = names.words(
    """
    can_cast common_type iscomplexobj isrealobj isscalar min_scalar_type ndim result_type shape
    size
    """
)


def _unsupported(value):
    return TypeError(f"Unsupported type {type(value)}")


def is_scalar(value):
    """Whether CuPy takes ``value`` as a scalar operand."""
    if isinstance(value, np.generic):
        return value.dtype.char in _SUPPORTED
    return type(value) in (bool, int, float, complex)


def unwrap(value, host=False):
    """Return ``value`` with NumPy arrays for the stand-in's; refuse NumPy's own unless ``host``."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray) and not host:
        raise _unsupported(value)
    if type(value) in (list, tuple):
        return type(value)(unwrap(item, host) for item in value)
    if isinstance(value, dict):
        return {key: unwrap(item, host) for key, item in value.items()}
    return value


def _arrays(value):
    """Yield the stand-in's arrays in nested arguments."""
    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _arrays(item)


def finish(result, operation, inputs=(), ordered=False, operands=None):
    """Return NumPy's ``result`` as CuPy would have made it.

    NumPy scalars become 0-d arrays. A new array is C-contiguous, as CuPy allocates it, unless
    ``ordered``; a view of one of the ``inputs`` stays a view, and an input itself stays itself.
    ``operands`` are what is computed with, if not those.
    """
    if isinstance(result, (tuple, list)):
        parts = (finish(part, operation, inputs, ordered) for part in result)
        return list(parts) if isinstance(result, list) else tuple(parts)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    array = np.asarray(result)
    for other in inputs:
        if other._a is array:
            return other
    if array.dtype.char not in _SUPPORTED:
        raise ValueError(f"Unsupported dtype {array.dtype}")
    check_float64(array.dtype, operation)
    for other in inputs:
        if np.may_share_memory(array, other._a):  # a view: new memory never overlaps
            return wrap(array, other._last_use)
    if array.size:
        use(*inputs)
        if not operation.startswith("empty"):
            uploads = operation == "array" and not inputs
            name = "to device" if uploads else operation
            record_operation(name, inputs if operands is None else operands)
    if not (ordered or array.flags.c_contiguous):
        array = array.copy("C")
    memory.allocate(array.nbytes)
    return wrap(array)


def wrap(array, last_use=None):
    """Return the stand-in's array over a NumPy array's memory."""
    wrapped = object.__new__(ndarray)
    wrapped._a = array
    wrapped._last_use = last_use or LastUse()
    return wrapped


def use(*values, stream=None):
    """Use those of the values that are arrays, on a stream or on this thread's current one."""
    for value in values:
        if isinstance(value, ndarray) and value.size:
            value._last_use.update(stream)


def call(numpy_function, name, parameters, args, kwargs, array=None):
    """Call a NumPy function, or a method of ``array``, under CuPy's rules.

    Parameters
    ----------
    numpy_function : callable
        What computes.
    name : str
        CuPy's name of the function, for messages and for the rules above.
    parameters : str
        CuPy's parameter list; an argument outside it is a TypeError.
    """
    try:
        arguments = names.signature(parameters).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"cupy.{name}(): {error}") from None
    if name in _METADATA:
        return numpy_function(*unwrap(args, host=True), **unwrap(kwargs, host=True))
    for parameter, value in arguments.items():
        if parameter in _ARRAY_PARAMETERS and isinstance(value, (list, tuple)):
            raise _unsupported(value)
        if parameter in _HOST_PARAMETERS and any(_arrays(value)):
            raise TypeError(f"cupy.{name}(): {parameter} must be known on the host")
    if syncs(name, arguments):
        record_sync(name)
    if array is not None:
        args = (array, *args)
    with np.errstate(all="ignore"):  # a GPU warns of nothing
        result = numpy_function(*unwrap(args), **unwrap(kwargs))
    out = arguments.get("out")
    if out is not None:
        use(out, *_arrays(args))
        if out.size:
            record_operation(name, [*_arrays(args)], [out])
        return out
    if name in _ZERO_D:
        result = np.asarray(result)
    inputs = [*_arrays(args), *_arrays(tuple(kwargs.values()))]
    return finish(result, name, inputs, ordered=name in _ORDERED)


class ufunc:
    """A CuPy ufunc: only its keywords, only the methods that work, only arrays and scalars."""

    def __init__(self, name):
        keywords, methods = names.load()["modules"][""]["ufuncs"][name]
        self.name = self.__name__ = name
        self._numpy = getattr(np, name)
        self._keywords = set(keywords.split())
        self._methods = methods.split()
        # fix, i0 and sinc are plain functions in NumPy
        self.nin = getattr(self._numpy, "nin", 1)
        self.nout = getattr(self._numpy, "nout", 1)
        self.nargs = self.nin + self.nout

    def __repr__(self):
        return f"<ufunc 'cupy_{self.name}'>"

    def __call__(self, *args, out=None, **kwargs):
        wrong = {key: value for key, value in kwargs.items() if key not in self._keywords}
        if wrong:
            raise TypeError(f"Wrong arguments {wrong}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.name!r}: {len(args)}")
        inputs, outs = args[: self.nin], args[self.nin :]
        if out is not None:
            if outs:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            outs = out if isinstance(out, tuple) else (out,)
        for value in inputs:
            if not isinstance(value, ndarray) and not is_scalar(value):
                raise _unsupported(value)
        for value in outs:
            if not isinstance(value, (ndarray, type(None))):
                raise TypeError("Output arguments type must be cupy.ndarray")
        if isinstance(self._numpy, np.ufunc):
            kwargs["order"] = "C"
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            if outs:
                kwargs["out"] = unwrap(outs) if self.nout > 1 else unwrap(outs[0])
            result = self._numpy(*unwrap(inputs), **kwargs)
        use(*args, *outs)
        if outs:
            if any(value is not None and value.size for value in outs):
                record_operation(self.name, [*_arrays(inputs)], outs)
            given = [*outs, *[None] * (self.nout - len(outs))]
            made = result if self.nout > 1 else [result]
            pairs = zip(given, made, strict=True)
            result = tuple(finish(m, self.name) if g is None else g for g, m in pairs)
            return result if self.nout > 1 else result[0]
        return finish(result, self.name, operands=_arrays(inputs))

    def _method(self, name, parameters, *args, **kwargs):
        if name not in self._methods:
            raise NotImplementedError(f"`cupy_{self.name}.{name}` is not supported yet")
        return call(getattr(self._numpy, name), f"{self.name}.{name}", parameters, args, kwargs)

    accumulate = functools.partialmethod(
        _method, "accumulate", "array, axis=..., dtype=..., out=..."
    )
    reduce = functools.partialmethod(
        _method, "reduce", "array, axis=..., dtype=..., out=..., keepdims=..."
    )
    reduceat = functools.partialmethod(
        _method, "reduceat", "array, indices, axis=..., dtype=..., out=..."
    )
    outer = functools.partialmethod(_method, "outer", "A, B, **kwargs")

    def at(self, a, indices, b=None):
        """Apply in place at ``indices``, as `numpy.ufunc.at`; on a GPU by atomics."""
        if "at" not in self._methods:
            raise NotImplementedError(f"`cupy_{self.name}.at` is not supported yet")
        record_operation(f"{self.name}.at")
        self._numpy.at(unwrap(a), _index(indices)[0], unwrap(b))


@functools.cache
def get_ufunc(name):
    """Return CuPy's ufunc of that name, always the same object."""
    return ufunc(name)


def _index(key):
    """Return an index that NumPy understands, and whether it holds arrays; note its syncs."""
    items, advanced = [], False
    for item in key if isinstance(key, tuple) else (key,):
        if isinstance(item, (np.ndarray, list, tuple)):
            record_sync("host index array")  # CuPy uploads it
            advanced = True
        elif isinstance(item, ndarray):
            advanced = True
            if item.dtype == bool:
                record_sync("boolean mask index")  # the host asks how many are true
        items.append(unwrap(item, host=True))
    return tuple(items), advanced


class Flags:
    """The memory flags that CuPy has."""

    def __init__(self, flags):
        self.c_contiguous = flags.c_contiguous
        self.f_contiguous = flags.f_contiguous
        self.owndata = flags.owndata
        self.fnc = flags.fnc
        self.forc = flags.forc

    def __getitem__(self, name):
        if name not in ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA"):
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return getattr(self, name.lower())


class ndarray:
    """`cupy.ndarray` over a NumPy array that nothing but this package may touch.

    Methods that are not written out here come from the list of CuPy's names and compute with
    NumPy's method.
    """

    __slots__ = ("__weakref__", "_a", "_last_use")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("cupy.ndarray over given memory is not in the stand-in")
        self._a = poison(np.empty(shape, dtype, order))
        self._last_use = LastUse()
        memory.allocate(self._a.nbytes)
        check_float64(self._a.dtype, "ndarray")

    def __getattr__(self, name):
        listed = names.load()["classes"]["ndarray"]
        if name in listed["methods"] or name in listed["attributes"]:
            raise AttributeError(f"cupy.ndarray.{name} exists, but the stand-in does not offer it")
        raise AttributeError(f"cupy.ndarray has no attribute {name!r}")

    # Attributes

    flags = property(lambda self: Flags(self._a.flags))

    @property
    def shape(self):
        """Lengths of the axes."""
        return self._a.shape

    @shape.setter
    def shape(self, shape):
        self._a.shape = shape

    @property
    def base(self):
        """The array whose memory this one views, or None."""
        base = self._a.base
        return wrap(base, self._last_use) if isinstance(base, np.ndarray) else None

    @property
    def data(self):
        """Where the first element is."""
        return memory.pointer(self)

    @property
    def device(self):
        """The device that holds it."""
        from .cuda import Device

        return Device(self._last_use.device)

    # To other libraries

    def __dlpack_device__(self):
        return dlpack.CUDA, 0

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("the stand-in exports to its own device only")
        return dlpack.Capsule(self._a.copy() if copy else self._a)

    # To and from the host

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def _to_host(self, what, order="C", stream=None, blocking=True):
        if blocking:
            record_sync(what)
        record_operation("to host")
        with self.device:
            use(self, stream=stream)
        return self._a.copy(order)

    def get(self, stream=None, order="C", out=None, blocking=True):
        """Return a copy on the host, or write it into ``out``."""
        host = self._to_host("get", order, stream, blocking)
        if out is None:
            return host
        if (out.dtype, out.shape) != (host.dtype, host.shape):
            raise TypeError(f"{out.dtype}{out.shape} cannot take {host.dtype}{host.shape}")
        out[...] = host
        return out

    def set(self, arr, stream=None):
        """Copy a NumPy array of the same dtype and shape to the device."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        with self.device:
            use(self, stream=stream)
        record_operation("to device")
        self._a[...] = arr

    def item(self):
        """Return the only element as a Python scalar."""
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._to_host("item").item()

    def tolist(self):
        """Return nested Python lists."""
        return self._to_host("tolist").tolist()

    def __format__(self, spec):
        return format(self._to_host("format"), spec)

    # Copies

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        """Return the array in another dtype; itself where nothing changes and not ``copy``."""
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            result = self._a.astype(dtype, order=order, copy=copy)
        return finish(result, "astype", [self], ordered=True)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        from .cupy import array

        return array, (self.get(order="A"),)

    # Elements

    def __getitem__(self, key):
        index, advanced = _index(key)
        if not advanced and not any(item is Ellipsis for item in index):
            index = (*index, Ellipsis)  # CuPy gives a 0-d view where NumPy gives a scalar
        result = self._a[index]
        return finish(np.array(result, order="C") if advanced else result, "getitem", [self])

    def __setitem__(self, key, value):
        index, _ = _index(key)
        use(self, value)
        record_operation("setitem")
        if isinstance(value, ndarray):
            with np.errstate(all="ignore"):
                self._a[index] = value._a
        elif np.ndim(value):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        else:
            self._a[index] = value

    def fill(self, value):
        """Set every element to a scalar or to a 0-d array."""
        self[...] = value

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._a)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._a)))

    # NumPy's functions on this array go to CuPy's

    def __array_ufunc__(self, function, method, *inputs, **kwargs):
        if function.__name__ not in names.load()["modules"][""]["ufuncs"]:
            return NotImplemented
        outs = kwargs.get("out", ())
        for value in (*inputs, *outs):
            # NumPy arrays go on, to be refused by name below.
            if not isinstance(value, (ndarray, np.ndarray)) and not is_scalar(value):
                return NotImplemented
        if len(outs) == 1:
            kwargs["out"] = outs[0]
        own = get_ufunc(function.__name__)
        return (own if method == "__call__" else getattr(own, method))(*inputs, **kwargs)

    def __array_function__(self, function, classes, args, kwargs):
        from . import cupy

        try:
            path = function.__module__.split(".")[1:]
            own = getattr(functools.reduce(getattr, path, cupy), function.__name__)
        except AttributeError:
            return NotImplemented
        if own is function or not all(issubclass(c, (ndarray, np.ndarray)) for c in classes):
            return NotImplemented
        return own(*args, **kwargs)

    def __pow__(self, other, modulo=None):
        # CuPy's own short cuts (14.2), and NumPy's: the values equal NumPy's to the last bit.
        shortcut = {2: "square", 0.5: "sqrt", -1.0: "reciprocal"}
        if type(other) in (int, float) and self.dtype.kind in "fc" and other in shortcut:
            return get_ufunc(shortcut[other])(self)
        return _operate("power", self, other)


def _operate(name, left, right):
    """Apply a binary operator as CuPy does: defer to other classes, else ask NumPy's ufunc."""
    if isinstance(right, ndarray):
        return get_ufunc(name)(left, right)
    protocol = getattr(right, "__array_ufunc__", _MISSING)
    if protocol is None:
        return NotImplemented
    if protocol is _MISSING and getattr(right, "__array_priority__", 0) > 100:
        return NotImplemented
    return getattr(np, name)(left, right)


def _compare(name, left, right):
    if name in ("equal", "not_equal") and (right is None or type(right).__eq__ is object.__eq__):
        return finish(np.full(left.shape, name == "not_equal"), name)
    if isinstance(right, np.ndarray) and right.ndim == 0:
        right = right.item()
    return _operate(name, left, right)


_BINARY = """
    add:add sub:subtract mul:multiply truediv:true_divide floordiv:floor_divide mod:remainder
    pow:power lshift:left_shift rshift:right_shift and:bitwise_and or:bitwise_or xor:bitwise_xor
    matmul:matmul divmod:divmod
"""
_COMPARISONS = "lt:less le:less_equal gt:greater ge:greater_equal eq:equal ne:not_equal"
_UNARY = "neg:negative pos:positive abs:absolute invert:invert"


def _add_operators():
    """Give `ndarray` Python's operators and conversions."""

    def pairs(text):
        return (pair.split(":") for pair in text.split())

    for short, name in pairs(_BINARY):
        if short != "pow":
            setattr(ndarray, f"__{short}__", lambda x, y, name=name: _operate(name, x, y))
        setattr(ndarray, f"__r{short}__", lambda x, y, name=name: get_ufunc(name)(y, x))
        if short not in ("matmul", "divmod"):  # CuPy has no in-place form of these
            setattr(ndarray, f"__i{short}__", lambda x, y, name=name: get_ufunc(name)(x, y, x))
    for short, name in pairs(_COMPARISONS):
        setattr(ndarray, f"__{short}__", lambda x, y, name=name: _compare(name, x, y))
    for short, name in pairs(_UNARY):
        setattr(ndarray, f"__{short}__", lambda x, name=name: get_ufunc(name)(x))
    for convert in (bool, int, float, complex, repr, str):
        what = convert.__name__
        setattr(ndarray, f"__{what}__", lambda x, f=convert, w=what: f(x._to_host(w)))


def _add_members():
    """Give `ndarray` the attributes and methods that both CuPy and NumPy have."""
    for name in ["dtype", "itemsize", "nbytes", "ndim", "size", "strides"]:
        setattr(ndarray, name, property(lambda self, name=name: getattr(self._a, name)))
    for name in ["T", "mT", "real", "imag"]:
        view = property(lambda self, name=name: finish(getattr(self._a, name), name, [self]))
        setattr(ndarray, name, view)
    for name, parameters in names.load()["classes"]["ndarray"]["methods"].items():
        numpy_method = getattr(np.ndarray, name, None)
        if numpy_method is None or name in vars(ndarray):
            continue

        def method(self, *args, _call=(numpy_method, name, parameters), **kwargs):
            return call(*_call, args, kwargs, array=self)

        method.__name__ = name
        setattr(ndarray, name, method)


def poison(array):
    """Fill uninitialised memory with what no test expects: a GPU's holds old values, not zeros."""
    array.fill(np.nan if array.dtype.kind in "fc" else 113 if array.dtype.kind in "iu" else True)
    return array


_add_operators()
_add_members()
