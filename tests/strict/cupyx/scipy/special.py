"""`cupyx.scipy.special`: functions of one array of the device."""

import numpy as np
from scipy import special

from ...array import _unsupported, finish, ndarray


def _of_one_array(name):
    function = getattr(special, name)

    def on_device(x, /, out=None):
        for array in (x,) if out is None else (x, out):
            if not isinstance(array, ndarray):
                raise _unsupported(array)
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            if x._a.dtype == np.float16:  # double loops only
                result = function(x._a.astype("float64"))
            else:
                result = function(x._a)
        if out is not None:
            np.copyto(out._a, result, casting="same_kind")
            return out
        return finish(result, f"special.{name}")

    on_device.__name__ = on_device.__qualname__ = name
    return on_device


erf = _of_one_array("erf")
erfc = _of_one_array("erfc")
ndtr = _of_one_array("ndtr")
