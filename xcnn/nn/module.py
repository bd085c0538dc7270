"""Module, the base class of layers and networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .. import backends, hints
from ..arrays import Array
from ..checks import check_callable, check_flag, check_size, check_text, check_texts, is_int
from ..errors import (
    ArgumentError,
    DTypeError,
    StateDictError,
    UnknownNameError,
    XcnnError,
    did_you_mean,
    show,
)
from ..notebook import html_table
from ..tensor import (
    Buffer,
    Hook,
    Parameter,
    RemovableHandle,
    Tensor,
    current_tracer,
    destination,
    no_grad,
    zero_grads,
)

_OWN = ("_hooks", "_init_arguments", "_pre_hooks")
_PLAIN = {type(None), bool, float, int, str}  # most attributes: neither members nor lists of them
_FLOATS = ("float16", "float32", "float64")


class IncompatibleKeys(NamedTuple):
    """The keys of a state dict that :meth:`Module.load_state_dict` did not use, or lacked."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of all layers and networks.

    Subclass it, assign parameters and layers to attributes in ``__init__`` (lists and dicts of them
    work too), and define ``forward``. The arguments of ``__init__`` are recorded: ``repr`` shows
    them, and saved files use them to describe the architecture.

    Examples
    --------
    >>> class Block(nn.Module):
    ...     def __init__(self, channels):
    ...         self.conv = nn.Conv2d(channels, channels, 3, padding="same")
    ...
    ...     def forward(self, x):
    ...         return x + F.relu(self.conv(x))
    """

    training = True
    _as_defined: tuple[Any, ...]
    _init_arguments: dict[str, Any]
    _hooks: list[Hook]
    _pre_hooks: tuple[Hook, ...] | list[Hook] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._as_defined = _behaviour(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from None
        arguments = list(bound.arguments.items())[1:]
        # device and dtype are no part of the architecture
        self._init_arguments = {n: v for n, v in arguments if n not in ("device", "dtype")}
        self._hooks = []
        return self

    def __init__(self) -> None:
        """By default a module takes no arguments."""

    if not TYPE_CHECKING:  # a type checker that saw it would accept every name

        def __getattr__(self, name: str) -> Any:
            if name in hints.MODULE:
                raise hints.no_attribute(type(self).__name__, name, hints.MODULE, ())
            return object.__getattribute__(self, name)  # raises, with Python's text

    def __reduce__(self) -> tuple[Any, ...]:  # copy and pickle create it without arguments
        return object.__new__, (type(self),), vars(self)

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        """Compute the output; defined by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward method")

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        for hook in self._pre_hooks:
            replacement = hook(self, inputs)
            if replacement is not None:
                inputs = replacement if isinstance(replacement, tuple) else (replacement,)
        try:
            output = self.forward(*inputs, **settings)
        except XcnnError as error:
            error.passed_through(self)
            raise
        for hook in self._hooks:
            replacement = hook(self, inputs, output)
            output = output if replacement is None else replacement
        return output

    # -- members ----------------------------------------------------------------------------

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Tensors and modules among the attributes, including those in lists, tuples and dicts."""
        for name, value in vars(self).items():
            if type(value) not in _PLAIN and name not in _OWN:
                yield from _members_of(name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for each direct child."""
        for name, value in self._members():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """Yield each direct child."""
        for _, module in self.named_children():
            yield module

    def add_module(self, name: str, module: Module | None) -> None:
        """Set the attribute ``name``, as ``setattr`` does."""
        setattr(self, self._checked_name(name), module)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set the attribute ``name`` to a :class:`Buffer` of this array, or to None.

        Parameters
        ----------
        persistent
            Whether ``state_dict`` contains it.
        """
        value = None if tensor is None else Buffer(tensor, persistent=persistent)
        setattr(self, self._checked_name(name), value)

    def register_parameter(self, name: str, param: Any) -> None:
        """Set the attribute ``name`` to a Parameter, or to None."""
        is_parameter = param is None or isinstance(param, Parameter)
        setattr(self, self._checked_name(name), param if is_parameter else Parameter(param))

    def _checked_name(self, name: Any) -> str:
        if not isinstance(name, str) or not name or "." in name or hasattr(type(self), name):
            raise ArgumentError(
                f"{type(self).__name__}: {show(name)} is not a valid name for a member: expected a "
                "str without dots that is not the name of a method"
            )
        return name

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; this one at "".

        Raises
        ------
        UnknownNameError, also an AttributeError
            There is none.
        """
        return self._at(target, dict(self.named_modules()), "module")

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path; see :meth:`get_submodule`."""
        return self._at(target, dict(self._named_tensors(Parameter)), "parameter")

    def get_buffer(self, target: str) -> Buffer:
        """The buffer at a dotted path; see :meth:`get_submodule`."""
        return self._at(target, dict(self.named_buffers()), "buffer")

    def _at(self, target: str, members: Mapping[str, Any], what: str) -> Any:
        if check_text("target", target) not in members:
            hint = did_you_mean(target, members)
            raise UnknownNameError(f"{type(self).__name__} has no {what} {target!r}{hint}")
        return members[target]

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (dotted path, module) for this module, with path "", and all its descendants."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all its descendants."""
        for _, module in self.named_modules():
            yield module

    def _named_tensors(
        self, kind: type[Tensor], prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        modules = self.named_modules(prefix) if recurse else iter([(prefix, self)])
        for path, module in modules:
            for name, value in module._members():
                if isinstance(value, kind):
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted path, parameter); a shared parameter only under its first path.

        Parameters
        ----------
        prefix
            Path of this module.
        recurse
            Whether to visit the modules inside it too.
        """
        seen = set()
        for name, tensor in self._named_tensors(Parameter, prefix, recurse):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor  # type: ignore[misc]

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield every parameter once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """Yield (dotted path, buffer); see :meth:`named_parameters`."""
        yield from self._named_tensors(Buffer, prefix, recurse)  # type: ignore[misc]

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Yield every buffer."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # -- state ------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Array]:
        """Return copies of all parameters and buffers by dotted path, on the module's device.

        Parameters
        ----------
        prefix
            Put in front of every path, such as "encoder.".
        """
        return {f"{prefix}{name}": backends.copy(t.data) for name, t in self._state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy the arrays of ``state`` (on the host or the device) into the module.

        If anything does not fit, nothing is changed.

        Parameters
        ----------
        state
            Arrays by dotted path.
        strict
            Whether missing and unexpected keys are errors. Wrong shapes always are. A batch norm's
            ``num_batches_tracked`` may be missing on either side: it does not affect the output,
            and ONNX files do not store it.

        Returns
        -------
        IncompatibleKeys
            The keys that are missing and unexpected.

        Raises
        ------
        StateDictError
            Lists all missing and unexpected keys and wrong shapes; or a shared parameter has
            different values under its paths.
        """
        if not isinstance(state, Mapping):
            raise StateDictError(f"state is {type(state).__name__}: expected arrays by dotted path")
        tensors = dict(self._state())
        missing = [k for k in tensors if k not in state and not is_batch_count(k)]
        unexpected = [k for k in state if k not in tensors and not is_batch_count(k)]
        problems = []
        if check_flag("strict", strict):
            problems += [f"missing: {k} {tensors[k].shape}" for k in missing]
            problems += [f"unexpected: {k} {_shape(state[k])}" for k in unexpected]
        problems += [
            f"shape: {k} is {_shape(state[k])}, the module's is {tensor.shape}"
            for k, tensor in tensors.items()
            if k in state and _shape(state[k]) != tensor.shape
        ]
        if problems:
            raise StateDictError(
                f"the state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems)
            )
        arrays: dict[Tensor, Array] = {}
        for key, t in tensors.items():
            if key in state:
                array = _convert(state[key], t.backend, t.dtype).astype(t.dtype, copy=False)
                known = arrays.setdefault(t, array)
                if known is not array and known.tobytes() != array.tobytes():
                    raise StateDictError(
                        f"{key} is shared by several modules of {type(self).__name__}, but the "
                        "state has other values for each: untie them before loading it"
                    )
        for tensor, array in arrays.items():
            with tensor.backend.active():
                tensor.data[...] = array
        return IncompatibleKeys(missing, unexpected)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules():  # in PyTorch's order
            yield from module._named_tensors(Parameter, path, recurse=False)
            for name, buffer in module.named_buffers(path, recurse=False):
                if buffer.persistent:
                    yield name, buffer

    def _all_tensors(self) -> Iterator[Tensor]:
        yield from self.parameters()
        yield from self.buffers()

    # -- mode, device and dtype --------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout, batch statistics) in all modules; returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode in all modules; returns self."""
        return self.train(False)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call ``function`` on every module, inner ones first; returns self.

        Raises
        ------
        ArgumentError
            It is not callable.
        """
        check_callable("function", function)
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, *args: Any, device: Any = None, dtype: Any = None) -> Self:
        """Move or convert all parameters and buffers in place; returns self.

        ``to(device)``, ``to(dtype)`` or ``to(device, dtype)``.

        Parameters
        ----------
        device
            ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"auto"``; None: unchanged.
        dtype
            Floating-point type of all floating-point arrays; None: unchanged.

        Raises
        ------
        DeviceError
            There is no such device.
        DTypeError
            ``dtype`` is not a floating-point type.
        """
        device, dtype = destination(args, device, dtype)
        target = None if device is None else backends.get(device)
        if dtype is not None:
            _check_float(dtype)
        for tensor in self._all_tensors():
            tensor.data = _convert(tensor.data, target, dtype)
            if tensor.grad is not None:
                tensor.grad.data = _convert(tensor.grad.data, target, dtype)
        return self

    def cpu(self) -> Self:
        """``to("cpu")``."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """``to("cuda")``, or to the GPU with this number."""
        return self.to("cuda" if device is None else f"cuda:{device}")

    def float(self) -> Self:
        """``to("float32")``."""
        return self.to("float32")

    def double(self) -> Self:
        """``to("float64")``."""
        return self.to("float64")

    def half(self) -> Self:
        """``to("float16")``."""
        return self.to("float16")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set all gradients to None or, with ``set_to_none=False``, to zero in place."""
        zero_grads(self.parameters(), set_to_none)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze (True) all parameters; returns self."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    @property
    def device(self) -> str:
        """The device of the first parameter or buffer; "cpu" if there is none."""
        return self.backend.device

    @property
    def dtype(self) -> Any:
        """The floating-point type of the first parameter; float32 if there is none."""
        return next((p.dtype for p in self.parameters()), "float32")

    @property
    def backend(self) -> backends.Backend:
        """The backend of the first parameter or buffer; the CPU's if there is none."""
        for tensor in self._all_tensors():
            return tensor.backend
        return backends.get("cpu")

    # -- inspection -------------------------------------------------------------------------

    def register_forward_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, inputs, output)`` after each forward.

        Unless it returns None, its result replaces the output.

        Returns
        -------
        RemovableHandle
            Its ``remove()`` removes the hook.
        """
        self._hooks.append(check_callable("hook", hook))
        return RemovableHandle(self._hooks, hook)

    def register_forward_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, inputs)`` before each forward.

        Unless it returns None, its result replaces the inputs: a tuple, or a single one.

        Returns
        -------
        RemovableHandle
            Its ``remove()`` removes the hook.
        """
        self._pre_hooks = [*self._pre_hooks, check_callable("hook", hook)]
        return RemovableHandle(self._pre_hooks, hook)

    @property
    def is_observed(self) -> bool:
        """Whether the module must be called for itself, not fused with its neighbours.

        A hook or a tracer needs its output, or its ``forward`` was replaced, on the instance or on
        the class.
        """
        is_patched = "forward" in vars(self) or _behaviour(type(self)) != self._as_defined
        return is_patched or bool(self._hooks or self._pre_hooks) or current_tracer() is not None

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """Count the multiply-adds of one forward pass to this output shape, without children."""
        return 0

    @property
    def is_layer(self) -> bool:
        """Whether the module computes: it has no children, or multiply-adds of its own."""
        return not list(self.children()) or type(self).multiply_adds is not Module.multiply_adds

    def describe(self) -> str:
        """Return the class and its non-default arguments, on one line."""
        signature = inspect.signature(type(self).__init__)
        arguments = []
        for name, value in self._init_arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                arguments += [show(v) for v in value]
            elif parameter.default is parameter.empty:
                arguments.append(show(value))
            elif hasattr(value, "dtype") or value != parameter.default:
                arguments.append(f"{name}={show(value)}")
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __repr__(self) -> str:
        children = list(self.named_children())
        if not children:
            return self.describe()
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in children]
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    def _repr_html_(self) -> str:
        """Show the layers as a table in a notebook."""
        rows = [
            {"layer": path, "module": module.describe(), "parameters": _size(module)}
            for path, module in self.named_modules()
            if not list(module.children())
        ]
        return html_table(rows, f"{type(self).__name__}: {_size(self):,} parameters")


def _size(module: Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _behaviour(cls: type[Module]) -> tuple[Any, ...]:
    """What runs when a module of this class is called."""
    return cls.__call__, cls.forward, getattr(cls, "function", None)


def _members_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) for the tensors and modules in ``value``."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Tensor | Module):
        yield name, value
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif isinstance(value, Mapping):
        items = value.items()
    for key, item in items:
        if type(item) not in _PLAIN:
            yield from _members_of(f"{name}.{key}", item)


def _check_float(dtype: Any) -> None:
    try:
        name = backends.get("cpu").xp.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in _FLOATS:
        raise DTypeError(f"dtype={dtype!r}: expected one of {', '.join(_FLOATS)}")


def full(shape: Any, value: float = 0.0, dtype: str = "float32") -> Array:
    """An array of ``value`` on the CPU, for a parameter or a buffer.

    Raises
    ------
    ArgumentError, OutOfMemoryError
        It is too large.
    """
    check_size("shape", shape, (shape,) if is_int(shape) else shape)
    array = backends.get("cpu").run(lambda cpu: cpu.xp.zeros(shape, dtype))
    if value:
        array.fill(value)
    return array


def is_batch_count(key: str) -> bool:
    """Whether a key of a state dict is a batch norm's ``num_batches_tracked``."""
    return str(key).rpartition(".")[2] == "num_batches_tracked"


def _shape(value: Any) -> tuple[int, ...] | str:
    """The shape of an array of numbers; for anything else, the name of its type."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "f") not in "fiub":
        return f"an array of {dtype}"
    return tuple(value.shape) if hasattr(value, "shape") else type(value).__name__


def _convert(array: Array, target: backends.Backend | None, dtype: Any) -> Array:
    target = target or backends.of(array)
    source = backends.find(array)
    if source is None:  # an array of another library
        return target.asarray(array, dtype)
    wanted = dtype if dtype is not None and array.dtype.kind == "f" else array.dtype
    if target is source:
        return array.astype(wanted, copy=False)
    return target.asarray(source.to_host(array), wanted)


@contextmanager
def record_activations(module: Module) -> Iterator[dict[str, Array]]:
    """Record the outputs of all modules inside ``module`` during a ``with`` block.

    Yields
    ------
    dict
        Dotted path to array, in the order of the calls; "" is ``module`` itself. If a module is
        called again, its entry is overwritten.

    Examples
    --------
    >>> model = xcnn.models.create("lenet5")
    >>> with nn.record_activations(model) as activations:
    ...     output = model(np.zeros((2, 1, 28, 28), "float32"))
    >>> activations["conv1"].shape
    (2, 6, 28, 28)
    """
    activations: dict[str, Array] = {}

    def recorder(path: str) -> Hook:
        def hook(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                activations[path] = output.data

        return hook

    with hooked((m, recorder(path)) for path, m in module.named_modules()):
        yield activations


@contextmanager
def hooked(hooks: Iterable[tuple[Module, Hook]]) -> Iterator[None]:
    """Register hooks for the duration of a ``with`` block."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Evaluation mode without gradients; restores the mode of every module afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with no_grad():
            yield
    finally:
        for inner, mode in modes:
            inner.training = mode


_SHOWN = 10  # names in an error message


def matching_parameters(
    module: Module, patterns: str | Sequence[str], argument: str = "patterns"
) -> dict[str, Parameter]:
    """Select parameters by name, to freeze them or to train them at another learning rate.

    Parameters
    ----------
    module
        Whose parameters.
    patterns
        A pattern, such as ``"features.*"``, or several: ``*`` stands for anything, ``?`` for any
        character, ``[0-3]`` for one of these.
    argument
        What an error message calls the patterns.

    Returns
    -------
    dict of str to Parameter
        Those that match a pattern, in the order of the patterns.

    Raises
    ------
    ArgumentError
        A pattern matches nothing.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> for parameter in nn.matching_parameters(layers, "0.*").values():
    ...     parameter.requires_grad = False
    """
    if not isinstance(module, Module):
        raise DTypeError(f"module is {type(module).__name__}: expected a Module")
    parameters = dict(module.named_parameters())
    found: dict[str, Parameter] = {}
    for pattern in check_texts(argument, [patterns] if isinstance(patterns, str) else patterns):
        matches = {k: p for k, p in parameters.items() if fnmatchcase(k, pattern)}
        if not matches:
            shown = [*list(parameters)[:_SHOWN], "..."] if len(parameters) > _SHOWN else parameters
            hint = did_you_mean(pattern, parameters) or f"; choose from: {', '.join(shown)}"
            raise ArgumentError(f"{argument} {pattern!r} matches no parameter{hint}")
        found |= matches
    return found
