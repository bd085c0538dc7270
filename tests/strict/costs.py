"""How many operations CuPy 14.2 queues for one call; everything that is not listed queues one."""

import numpy as np

from .names import words

_SEVERAL = {"var": 2, "std": 2, "allclose": 4, "isclose": 4, "take_along_axis": 4, "sort": 2}
_SEVERAL |= {"argsort": 3, "argpartition": 3, "partition": 2, "array_equal": 2, "cross": 5}
_BY_ARRAY = words("concatenate stack hstack vstack dstack column_stack")
_PRODUCTS = words("matmul dot")


def cost(name, inputs, outs=()):
    """Operations of a call of ``name`` on NumPy arrays that makes a new array or fills ``outs``."""
    if name in _PRODUCTS and len(inputs) >= 2:
        return _product(*inputs[:2], *outs)
    if name == "pad":  # a fill, the middle, and both ends of each axis
        return 2 + 2 * inputs[0].ndim
    if name in _BY_ARRAY:
        return len(inputs)
    overlapping = sum(any(_overlaps(x, y) for y in outs) for x in inputs)  # is copied first
    return _SEVERAL.get(name, 1) + overlapping


def _overlaps(x, y):
    same = x.ctypes.data == y.ctypes.data and x.strides == y.strides and x.shape == y.shape
    return not same and x.size > 0 and np.may_share_memory(x, y)


def _product(a, b, out=None):
    """A product, and the copies around it.

    In two dimensions, operands may be transposed. Stacks must be contiguous, are computed in
    float32 if they hold float16, and by tables of addresses if they broadcast.
    """
    dtype = np.promote_types(a.dtype, b.dtype)
    if max(a.ndim, b.ndim) <= 2:
        copies = sum(not (x.flags.forc and x.dtype == dtype) for x in (a, b))
        is_direct = out is None or (out.flags.c_contiguous and out.dtype == dtype)
        return 1 + copies + (not is_direct)
    computed = np.dtype("float32") if dtype == "float16" else dtype
    copies = sum(not (x.flags.c_contiguous and x.dtype == computed) for x in (a, b))
    stacks = a.shape[:-2], b.shape[:-2]
    tables = 0 if stacks[0] == stacks[1] else 3 * max(map(len, stacks))
    is_direct = (out is None or out.flags.c_contiguous) and computed == dtype
    return 1 + copies + tables + (not is_direct)
