"""The exceptions that xcnn raises, all subclasses of :class:`XcnnError`.

Each also derives from the built-in exception it specialises, so ``except ValueError`` works.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# fmt: off
__all__ = [
    "ArgumentError", "CommunicationError", "DTypeError", "DataError", "DeviceError",
    "DivergenceError", "ExportError", "FileFormatError", "GradientError", "MissingPackageError",
    "OutOfMemoryError", "OutOfRangeError", "ShapeError", "StateDictError", "UnknownNameError",
    "UnsupportedOperatorError", "XcnnError",
]
# fmt: on


class XcnnError(Exception):
    """Base class of all errors that xcnn raises.

    When an error propagates through ``Module.__call__``, each module records itself with
    :meth:`passed_through`; the message then starts with the dotted path of the innermost layer.
    """

    _innermost: Any = None
    _outermost: Any = None

    def passed_through(self, module: Any) -> None:
        """Record that the error left the forward call of ``module`` (innermost call first)."""
        if self._innermost is None:
            self._innermost = module
        self._outermost = module

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""  # KeyError.__str__ would return the repr
        if self._innermost is None:
            return message
        paths = [n for n, m in self._outermost.named_modules() if m is self._innermost]
        path = paths[0] if paths and paths[0] else type(self._innermost).__name__
        return f"layer {path!r} ({self._innermost.describe()}): {message}"


class ArgumentError(XcnnError, ValueError):
    """An argument has an invalid value."""


class ShapeError(XcnnError, ValueError):
    """The shape of an array does not fit the operation."""


class OutOfRangeError(ShapeError, IndexError):
    """Too many indices, or an index out of range."""


class DTypeError(XcnnError, TypeError):
    """An array, or another argument, has a type that the operation does not accept."""


class DeviceError(XcnnError, RuntimeError):
    """A device is missing or unusable, or arrays are on different devices."""


class CommunicationError(XcnnError, RuntimeError):
    """The processes of a training cannot reach or understand each other."""


class OutOfMemoryError(XcnnError, MemoryError):
    """A device is out of memory."""


class GradientError(XcnnError, RuntimeError):
    """A gradient was requested where none exists."""


class DivergenceError(XcnnError, ArithmeticError):
    """A training has diverged: a loss or a weight is infinite or NaN."""


class UnknownNameError(XcnnError, AttributeError):
    """There is no member, function or class of that name."""


class StateDictError(XcnnError, KeyError):
    """A state dict does not fit the module; the message lists every wrong key."""


class DataError(XcnnError, ValueError):
    """A dataset, image or loader input cannot be used."""


class FileFormatError(XcnnError, ValueError):
    """A file is truncated, damaged, or of another format."""


class ExportError(XcnnError, RuntimeError):
    """An exported model would give different results from the original."""


class UnsupportedOperatorError(XcnnError, NotImplementedError):
    """A model has operations that cannot be read or written; the message lists all of them."""


class MissingPackageError(XcnnError, ImportError):
    """An optional package is needed but not installed."""


def missing_package(what: str, package: str, error: ImportError) -> MissingPackageError:
    """The error for an optional package that cannot be imported."""
    quoted = f'"{package}"' if "[" in package else package  # for zsh
    return MissingPackageError(
        f"{what} needs the package {package} ({error}): pip install {quoted}"
    )


def did_you_mean(name: Any, names: Iterable[str]) -> str:
    """The end of an error message about an unknown name: a question, or nothing."""
    from difflib import get_close_matches  # seldom needed

    spelled = {known.lower(): known for known in names}
    text = str(name).lower()
    begin = [k for k in spelled if text and k.startswith(text)]
    near = begin[:3] or get_close_matches(text, spelled, 1, 0.7)
    return f" (did you mean {' or '.join(repr(spelled[k]) for k in near)}?)" if near else ""


def show(value: Any) -> str:
    """A value in an error message: arrays and tensors by dtype and shape, others by their repr."""
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        return f"{type(value).__name__} of {value.dtype} {tuple(shape)}" if shape else str(value)
    if isinstance(value, list | tuple) and any(hasattr(item, "dtype") for item in value):
        return f"[{', '.join(map(show, value[:8]))}{', ...' if len(value) > 8 else ''}]"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({type(value).__name__})"


LINES = "\n"


def printable(text: str, keep: str = "") -> str:
    """Replace control characters, which a terminal would interpret, with question marks.

    Parameters
    ----------
    text
        Untrusted text.
    keep
        Characters to leave unchanged.
    """
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)
