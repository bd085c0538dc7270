"""What stands in for ``cupyx.scipy.ndimage``: scipy's functions, on the stand-in's arrays only."""

import scipy.ndimage

from .array import finish, ndarray


def affine_transform(
    input,
    matrix,
    offset=0.0,
    output_shape=None,
    output=None,
    order=3,
    mode="constant",
    cval=0.0,
    prefilter=True,
    *,
    texture_memory=False,
):
    """Read ``input`` at ``matrix @ place + offset`` for each place of the result."""
    for array in (input, matrix):
        if not isinstance(array, ndarray):
            raise TypeError(f"Unsupported type {type(array)}")
    if texture_memory or output is not None:
        raise NotImplementedError("the stand-in offers neither texture_memory nor output")
    settings = {"order": order, "mode": mode, "cval": cval, "prefilter": prefilter}
    arguments = (input._a, matrix._a, offset, output_shape)
    return finish(scipy.ndimage.affine_transform(*arguments, **settings), "affine_transform")
