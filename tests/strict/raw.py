"""`cupy.RawModule` and `cupy.RawKernel`: CUDA C run on the CPU by tests/shim."""

import functools

import numpy as np

from tests import shim

from . import compiler
from .array import is_scalar, ndarray, use
from .stream import Stream
from .watch import record_launch


class RawModule:
    """CUDA C source, compiled when a kernel is asked for.

    As in CuPy, except that binaries, templates by name expressions, Jitify and cooperative groups
    are not there.
    """

    def __init__(
        self,
        code=None,
        *,
        path=None,
        options=(),
        backend="nvrtc",
        translate_cucomplex=False,
        enable_cooperative_groups=False,
        name_expressions=None,
        jitify=None,
    ):
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path or name_expressions or jitify or enable_cooperative_groups or translate_cucomplex:
            raise NotImplementedError('the stand-in compiles extern "C" kernels from code only')
        if not isinstance(code, str) or not isinstance(options, tuple):
            raise TypeError("code must be a str and options a tuple")
        if backend not in ("nvrtc", "nvcc"):
            raise ValueError(f"unknown backend {backend!r}")
        self.code, self.options, self.backend = code, options, backend
        self.name_expressions = name_expressions

    @functools.cached_property
    def _compiled(self):
        try:
            return shim.CpuModule(self.code, self.options)
        except shim.CompileError as error:
            arguments = str(error), self.code, "kernel.cu", self.options, self.backend
            raise compiler.CompileException(*arguments) from error

    def compile(self, log_stream=None):
        """Compile now."""
        self._compiled  # noqa: B018

    def get_function(self, name):
        """Return the kernel of that name."""
        kernel = object.__new__(RawKernel)
        kernel._set(self, name)
        kernel._kernel  # noqa: B018  CuPy, too, finds a wrong name here
        return kernel


class RawKernel:
    """A kernel: ``kernel(grid, block, args)`` launches it."""

    def __init__(
        self,
        code,
        name,
        options=(),
        backend="nvrtc",
        translate_cucomplex=False,
        *,
        enable_cooperative_groups=False,
        jitify=None,
    ):
        module = RawModule(
            code,
            options=options,
            backend=backend,
            translate_cucomplex=translate_cucomplex,
            enable_cooperative_groups=enable_cooperative_groups,
            jitify=jitify,
        )
        self._set(module, name)

    def _set(self, module, name):
        self._module = module
        self.name, self.code = name, module.code
        self.options, self.backend = module.options, module.backend

    @functools.cached_property
    def _kernel(self):
        return self._module._compiled.get_function(self.name)

    def compile(self, log_stream=None):
        """Compile now."""
        self._kernel  # noqa: B018

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        """Launch it on device arrays and scalars."""
        for what in (grid, block):
            if not isinstance(what, tuple):
                raise TypeError(f"Expected tuple, got {type(what).__name__}")
        if not isinstance(stream, (Stream, type(None))):
            raise TypeError(f"{type(stream).__name__} is not a stream")
        arguments = [_argument(self.name, i, value, stream) for i, value in enumerate(args)]
        record_launch(self.name)
        self._kernel(grid, block, arguments, shared_mem)


def _argument(name, position, value, stream):
    if isinstance(value, ndarray):
        use(value, stream=stream)
        return value._a
    if is_scalar(value) or isinstance(value, np.void):
        return value
    # CuPy would copy a NumPy array's bytes into the parameter, whatever that is.
    raise TypeError(f"{name}: argument {position} has unsupported type {type(value)}")
