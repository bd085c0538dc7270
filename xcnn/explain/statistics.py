"""Numbers and histograms of activations and weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..arrays import Array
from ..checks import check_int
from ..errors import ShapeError
from ..nn import Module
from .scores import (
    CONTAINERS,
    check_layout,
    check_model,
    examples,
    kind,
    on_device,
    parts,
    prepared,
    recording,
    xp,
)

#: kinds of layers whose units can die
_RELUS = {"ReLU", "ReLU6", "Relu"}


@dataclass(frozen=True)
class LayerStatistics:
    """The distribution of the outputs of a layer, or of the values of a parameter.

    Attributes
    ----------
    path : dotted path of the layer or the parameter
    kind : name of the layer's class; of a parameter, that of the layer it belongs to
    mean, std, minimum, maximum : float
    zeros : float
        Fraction of the values that are exactly 0.
    dead : int or None
        Units that are 0 for every example. A unit is a channel of an image or a signal, else a
        feature. None if the layer is not a ReLU, nor a block that ends in one. Of a parameter: the
        outputs whose weights are all 0; None for a vector.
    units : int
    counts, edges : numpy.ndarray (bins,) and (bins + 1,)
        Histogram of the finite values.
    """

    path: str
    kind: str
    mean: float
    std: float
    minimum: float
    maximum: float
    zeros: float
    dead: int | None
    units: int
    counts: Array
    edges: Array


class _Totals:
    """Sums over batches of values, units along one axis; two passes, for the spread is second."""

    def __init__(self, units: int) -> None:
        self.size, self.zeros, self.total, self.squares = 0, 0, 0.0, 0.0
        self.minimum, self.maximum = math.inf, -math.inf
        self.finite = [math.inf, -math.inf]
        self.alive = xp.zeros(units, bool)
        self.edges: Any = None
        self.counts: Any = 0

    def look(self, values: Array, axis: int) -> None:
        """Add the first pass of a batch."""
        self.size += values.size
        self.zeros += values.size - int(xp.count_nonzero(values))
        self.total += float(values.sum(dtype="float64"))
        self.minimum = _worse(min, self.minimum, values.min())
        self.maximum = _worse(max, self.maximum, values.max())
        finite = values[xp.isfinite(values)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            self.finite = [min(self.finite[0], low), max(self.finite[1], high)]
        self.alive |= (values != 0).any(tuple(n for n in range(values.ndim) if n != axis))

    def count(self, values: Array, bins: int) -> None:
        """Add the second pass of a batch."""
        mean = self.total / self.size
        self.squares += float(((values.astype("float64") - mean) ** 2).sum())
        low, high = self.finite if self.finite[0] <= self.finite[1] else (0.0, 1.0)
        finite = values[xp.isfinite(values)].astype("float64")
        counts, self.edges = xp.histogram(finite, bins, (low, high))
        self.counts = self.counts + counts

    def result(self, path: str, kind: str, has_dead: bool) -> LayerStatistics:
        """The numbers of all batches."""
        dead = int((~self.alive).sum()) if has_dead else None
        spread = math.sqrt(self.squares / self.size)
        return LayerStatistics(
            path,
            kind,
            self.total / self.size,
            spread,
            self.minimum,
            self.maximum,
            self.zeros / self.size,
            dead,
            len(self.alive),
            self.counts,
            self.edges,
        )


def _worse(choose: Any, a: float, b: Any) -> float:
    """The smaller or larger number; NaN if one is."""
    return math.nan if math.isnan(a) or math.isnan(b) else choose(a, float(b))


def layer_statistics(model: Module, x: Any, *, bins: int = 50) -> list[LayerStatistics]:
    """The distribution of the outputs of each layer.

    Memory is bounded: examples are evaluated in batches, twice.

    Parameters
    ----------
    model
        Any Module.
    x
        Examples (N, ...), normalised as for training.
    bins
        Bars of each histogram.

    Returns
    -------
    list of LayerStatistics
        Of the layers that contain no others and of the blocks, but not of plain containers, in the
        order of the calls. A layer that is called several times counts with its last call.

    Raises
    ------
    ArgumentError
        ``bins`` is not an int >= 1, or a layer has ``data_format="NHWC"``.
    ShapeError
        There are no examples.
    """
    x, bins = examples(model, x), check_int("bins", bins)
    if not len(x):
        raise ShapeError("layer_statistics: x has no examples; pass at least one")
    check_layout(model)
    layers = {
        path: module
        for path, module in model.named_modules()
        if not (isinstance(module, CONTAINERS) or (not path and [*module.children()]))
    }
    totals: dict[str, _Totals] = {}
    with prepared(model), xp.errstate(invalid="ignore", over="ignore"):
        for path, values in _outputs(model, x, layers):
            values = values.reshape(*values.shape, *(1,) * (2 - values.ndim))  # (N,) as (N, 1)
            totals.setdefault(path, _Totals(values.shape[1])).look(values, 1)
        for path, values in _outputs(model, x, layers):
            totals[path].count(values, bins)
    return [
        of.result(path, kind(layers[path]), _can_die(layers[path], of))
        for path, of in totals.items()
    ]


def _outputs(model: Module, x: Array, layers: dict[str, Module]) -> Iterator[tuple[str, Array]]:
    """(path, values) of every layer with numbers for outputs, for each batch."""
    for part in parts(x):
        with recording(layers.items()) as outputs:
            model(on_device(model, x[part]))
        for path, output in outputs.items():
            if output.dtype.kind == "f" and output.numel():
                yield path, output.numpy()


def _can_die(module: Module, totals: _Totals) -> bool:
    """Whether a layer is a ReLU, or a block whose outputs are never negative."""
    return kind(module) in _RELUS or (bool([*module.children()]) and totals.minimum >= 0)


def weight_statistics(model: Module, *, bins: int = 50) -> list[LayerStatistics]:
    """The distribution of the values of each parameter.

    Parameters
    ----------
    model
        Any Module.
    bins
        Bars of each histogram.

    Returns
    -------
    list of LayerStatistics
        In the order of ``model.named_parameters()``.

    Raises
    ------
    ArgumentError
        ``bins`` is not an int >= 1.
    """
    bins = check_int("bins", bins)
    modules = dict(check_model(model).named_modules())
    return [
        _of_parameter(path, kind(modules.get(path.rpartition(".")[0], model)), values, bins)
        for path, values in _weights(model.named_parameters())
    ]


def _weights(parameters: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Array]]:
    for path, parameter in parameters:
        if parameter.numel():
            yield path, parameter.numpy()


def _of_parameter(path: str, kind: str, values: Array, bins: int) -> LayerStatistics:
    rows = values.reshape(len(values) if values.ndim else 1, -1)
    totals = _Totals(len(rows))
    with xp.errstate(invalid="ignore", over="ignore"):
        totals.look(rows, 0)
        totals.count(rows, bins)
    return totals.result(path, kind, values.ndim > 1)
