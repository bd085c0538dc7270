"""The exceptions that xcnn raises, all of them :class:`XcnnError`.

Each is also the built-in exception that it specialises, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

from typing import Any


class XcnnError(Exception):
    """Base of all errors of this library.

    An error that leaves ``Module.__call__`` learns which layer it came from: each module on the
    way out reports itself through :meth:`passed_through`, and the text then starts with the
    dotted path of the innermost one.
    """

    _innermost: Any = None
    _outermost: Any = None

    def passed_through(self, module: Any) -> None:
        """Note that the error left the forward call of ``module`` (innermost call first)."""
        if self._innermost is None:
            self._innermost = module
        self._outermost = module

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""  # KeyError's own would be the repr
        if self._innermost is None:
            return message
        paths = [n for n, m in self._outermost.named_modules() if m is self._innermost]
        path = paths[0] if paths and paths[0] else type(self._innermost).__name__
        return f"layer {path!r} ({self._innermost.describe()}): {message}"


class ArgumentError(XcnnError, ValueError):
    """An argument has a value that cannot work."""


class ShapeError(XcnnError, ValueError):
    """An array has a shape that does not fit the operation."""


class DTypeError(XcnnError, TypeError):
    """An array, or another argument, has a type that the operation does not take."""


class DeviceError(XcnnError, RuntimeError):
    """A device is missing, unusable, or arrays of two devices met."""


class OutOfMemoryError(XcnnError, MemoryError):
    """The memory of a device is used up."""


class GradientError(XcnnError, RuntimeError):
    """A gradient was asked for where there is none."""


class StateDictError(XcnnError, KeyError):
    """A state dict does not fit the module: the text lists every key at once."""


class DataError(XcnnError, ValueError):
    """A data set, image or loader input cannot be used."""


class FileFormatError(XcnnError, ValueError):
    """A file is truncated, damaged, or not what it should be."""


class ExportError(XcnnError, RuntimeError):
    """An exported model would not compute what the model does."""


class UnsupportedOperatorError(XcnnError, NotImplementedError):
    """A model has operations that cannot be read or written: the text lists every one."""


class MissingPackageError(XcnnError, ImportError):
    """A package that is not installed with xcnn itself is needed."""


LINES = "\n"


def printable(text: str, keep: str = "") -> str:
    """``text`` with a question mark for what a terminal would obey and not show.

    Parameters
    ----------
    text
        Anything.
    keep
        Characters to leave as they are.
    """
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)
