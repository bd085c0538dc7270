"""Tensor: an array, its gradient, and the Function that made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import backends
from .autograd import Function, walk
from .backends import Backend
from .errors import DTypeError, GradientError, ShapeError

Array = Any

_DLPACK_CPU, _DLPACK_CUDA = 1, (2, 13)  # device kinds; 13 is managed memory


class Tensor:
    """An array that remembers how it was made.

    Parameters
    ----------
    data
        A NumPy or CuPy array (kept as it is, not copied); an array of another library on a GPU,
        such as a PyTorch CUDA tensor, whose memory is used through DLPack; a number, or nested
        lists (which become a float32 NumPy array).
    requires_grad
        Whether ``backward`` shall leave a gradient in ``grad``. Floating-point arrays only.

    Attributes
    ----------
    data : array
    grad : array or None
        Same shape and dtype as ``data``; ``backward`` adds to it.
    creator : Function or None
        None for a leaf.
    """

    __slots__ = ("__weakref__", "creator", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # so that array + tensor asks the tensor

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            data = data.data
        elif backends.find(data) is None:
            data = _to_array(data)
        if requires_grad and data.dtype.kind != "f":
            raise DTypeError(
                f"requires_grad=True needs a floating-point array, got {data.dtype}; convert it "
                "with .astype('float32')"
            )
        self.data: Array = data
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.creator: Function | None = None

    @classmethod
    def of(cls, value: Any) -> Tensor:
        """``value`` itself if it is a Tensor, else a new Tensor around it."""
        return value if isinstance(value, Tensor) else cls(value)

    # -- what it is -------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def backend(self) -> Backend:
        return backends.of(self.data)

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:N"``."""
        return self.backend.device

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        made_by = f", creator={type(self.creator).__name__}" if self.creator else ""
        grad = ", requires_grad=True" if self.requires_grad and not self.creator else ""
        return f"{type(self).__name__}({self.data!r}, device={self.device!r}{grad}{made_by})"

    def numpy(self) -> Any:
        """The values as a NumPy array (shared memory on the CPU); waits for a GPU."""
        return self.backend.to_host(self.data)

    def item(self) -> float:
        """The one value as a Python number; waits for a GPU.

        Raises
        ------
        ShapeError
            Not exactly one element.
        """
        if self.size != 1:
            raise ShapeError(f"item() needs one element, this tensor has shape {self.shape}")
        return self.numpy().item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """For NumPy, on the CPU only: from a GPU, say ``numpy()``."""
        if self.device != "cpu":
            raise DTypeError(
                f"this tensor is on {self.device}: NumPy takes no arrays from there by itself; "
                "call .numpy()"
            )
        return self.backend.xp.array(self.data, dtype, copy=copy)

    def to(self, device: str | Backend) -> Tensor:
        """A new leaf with the same values on ``device``; itself if it is there already.

        Raises
        ------
        DeviceError
            No such device here.
        """
        target = backends.get(device)
        if target is self.backend:
            return self
        return type(self)(target.asarray(self.numpy()), self.requires_grad)

    def detach(self) -> Tensor:
        """The same array outside the graph."""
        return Tensor(self.data)

    # -- gradients --------------------------------------------------------------------------

    def backward(self, grad: Array | None = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to ``grad`` of every leaf that requires one.

        Parameters
        ----------
        grad
            Gradient of this tensor, same shape. May be left out for a single element.
        retain_graph
            Keep what was saved, so that backward can be called again.
        """
        if not self.requires_grad:
            raise GradientError(
                "backward(): this tensor does not depend on anything with requires_grad=True "
                "(or was computed under no_grad)"
            )
        if grad is None:
            grad = self.ones_for_backward()
        grad = Tensor.of(grad).data
        if grad.shape != self.shape:
            raise ShapeError(f"backward(): grad has shape {grad.shape}, the tensor {self.shape}")
        found = walk(self, grad, retain_graph)
        with self.backend.active():
            for leaf, gradient in found:
                leaf.accumulate(gradient)

    def ones_for_backward(self) -> Array:
        """The gradient of this tensor with respect to itself, if it has one element.

        Raises
        ------
        GradientError
            More elements, or none.
        """
        if self.size != 1:
            raise GradientError(
                f"without a gradient to start from, backward needs one element, this tensor has "
                f"shape {self.shape}; pass a gradient, or reduce it, for example with .mean()"
            )
        with self.backend.active():
            return self.backend.xp.ones_like(self.data)

    def accumulate(self, gradient: Array) -> None:
        """Add ``gradient`` to ``grad``."""
        if self.grad is None:
            self.grad = self.backend.xp.zeros_like(self.data)
        self.grad += gradient

    def zero_grad(self) -> None:
        """Set ``grad`` to zero in place, so that its memory stays where it is."""
        if self.grad is not None:
            self.grad.fill(0)

    if TYPE_CHECKING:  # defined by functional/, which lies above this module

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __pow__(self, exponent: Any) -> Tensor: ...
        def __rpow__(self, base: Any) -> Tensor: ...
        def abs(self) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def pow(self, exponent: Any) -> Tensor: ...
        def reciprocal(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __iter__(self) -> Iterator[Tensor]: ...

        T: Tensor

        def reshape(self, *shape: Any) -> Tensor: ...
        def flatten(self, start_dim: int = 0) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def permute(self, *dims: Any) -> Tensor: ...
        def transpose(self, dim0: int, dim1: int) -> Tensor: ...
        def squeeze(self, dim: Any = None) -> Tensor: ...
        def unsqueeze(self, dim: int) -> Tensor: ...
        def split(self, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]: ...
        def clamp(self, min: Any = None, max: Any = None) -> Tensor: ...


class Parameter(Tensor):
    """A Tensor that a Module trains: it requires a gradient unless told otherwise."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


def _from_gpu(data: Any, kind: int, index: int) -> Array:
    """An array of another library on a GPU, without a copy."""
    if kind not in _DLPACK_CUDA:
        raise DTypeError(
            f"{type(data).__name__} is on a device of DLPack's kind {kind}: expected the CPU or a "
            "CUDA GPU; move it to one of them first"
        )
    backend = backends.get(f"cuda:{index}")
    with backend.active():
        return backend.xp.from_dlpack(data)


def _to_array(data: Any) -> Array:
    """Numbers and nested lists of numbers as a NumPy array, floats as float32."""
    device = data.__dlpack_device__() if hasattr(data, "__dlpack_device__") else (_DLPACK_CPU, 0)
    if device[0] != _DLPACK_CPU:
        return _from_gpu(data, *device)
    cpu = backends.get("cpu")
    try:
        array = cpu.asarray(data)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"cannot make an array from {type(data).__name__}: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"expected numbers, got {type(data).__name__} of {array.dtype}")
    from_python = not hasattr(data, "dtype")  # a NumPy scalar keeps its dtype
    return array.astype("float32") if from_python and array.dtype.kind == "f" else array
