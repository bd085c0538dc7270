"""Operations on signals, images and volumes from one definition for all of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ..tensor import operation, takes_one

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FORMATS = {1: "NCL", 2: "NCHW", 3: "NCDHW"}
_INPUTS = {
    1: "(N, C, L)",
    2: '(N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``',
    3: "(N, C, D, H, W)",
}
_OF_IMAGES = ("data_format", "relu")


def of_rank(function: Callable[_P, _R], ndim: int) -> Callable[_P, _R]:
    """The operation on signals, images or volumes, or on one of them without a batch axis.

    ``function`` takes their ``data_format``, which users may pass for images only, and only if it
    has a default there. INPUT in the docstring stands for the input's shape.
    """
    signature = inspect.signature(function)
    shown = [
        p
        for p in signature.parameters.values()
        if p.name not in _OF_IMAGES or (ndim == 2 and p.default is not p.empty)
    ]
    is_fixed = "data_format" not in [p.name for p in shown]
    fixed: Any = {"data_format": _FORMATS[ndim]} if is_fixed else {}
    function.__qualname__ = function.__name__.strip("_")  # in a TypeError
    one: Any = functools.partial(function, **fixed)
    functools.update_wrapper(one, function)
    one.__name__ = one.__qualname__ = f"{function.__qualname__}{ndim}d"
    one.__signature__ = signature.replace(parameters=shown)
    one.__doc__ = (function.__doc__ or "").replace("INPUT", _INPUTS[ndim])
    return takes_one(ndim + 2)(operation(one))


def family(
    function: Callable[_P, _R],
) -> tuple[Callable[_P, _R], Callable[_P, _R], Callable[_P, _R]]:
    """The operations on signals, images and volumes."""
    return of_rank(function, 1), of_rank(function, 2), of_rank(function, 3)
