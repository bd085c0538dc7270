"""Values as they are, in another type, and what is known about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .... import functional as F
from ....tensor import Tensor
from ...reader.read import DTYPES
from ..node import Node, as_ints, operator


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    wanted = DTYPES.get(node.integer("to"))
    if wanted is None:
        raise node.error(
            f"to={node.integer('to')}: expected the number of one of {', '.join(DTYPES.values())}"
        )
    node.check_size(x.shape, wanted)
    if x.dtype.kind == "f" and wanted.startswith("float"):
        return F.astype(x, wanted)
    with x.backend.active():
        return Tensor(x.data.astype(wanted))


@operator("Shape")
def shape(node: Node, x: Tensor) -> Any:
    return np.array(x.shape[node.integer("start", 0) : node.integer("end")], "int64")


@operator("Size")
def size(node: Node, x: Tensor) -> Any:
    return np.array(x.size, "int64")


@operator("ConstantOfShape", static=(0,))
def constant_of_shape(node: Node, shape: Any) -> Any:
    value = node.attributes.get("value", np.zeros(1, "float32"))
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise node.error("attribute value: expected an array of one element")
    lengths = as_ints(shape)
    node.check_size(lengths, value.dtype)
    return np.full(lengths, value.reshape(()))
