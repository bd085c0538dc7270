"""Figures of trainings, predictions and networks, with matplotlib.

Every function returns a ``matplotlib.figure.Figure`` that belongs to no window: save it with
``savefig``, or let a notebook show it. Those with ``ax`` draw into these axes instead, and return
their figure. Text and background take the colours of matplotlib's style; the others can be told
apart by readers who are colour-blind. Names are shown as they are, without mathematics between $,
and cut to 24 characters. NaN and infinity count as 0 in pictures, maps and filters.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from . import backends, explain
from .arrays import Array
from .checks import check_int, check_texts
from .errors import ArgumentError, ShapeError, did_you_mean, missing_package, printable, show
from .nn import Module
from .tensor import Tensor

__all__ = [
    "augmented",
    "confusion",
    "explained",
    "feature_maps",
    "filters",
    "heatmap",
    "history",
    "images",
    "probabilities",
]

_xp = backends.get("cpu").xp  # NumPy
#: Okabe and Ito's colours, without black and yellow, which one of a light and a dark page hides
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_WRONG = _COLOURS[1]
_MARKERS = "osD^vP"
_CELL = 1.3  # inches of a picture in a grid
_NUMBERED = 20  # a confusion matrix of more classes has no numbers
_WIDE = 16  # feature maps in a row
_SIGNED = "PuOr"
_LONGEST = 24  # characters of a name
_LETTER = 0.09  # inches of a letter, about
_PLAIN: dict[str, Any] = {"parse_math": False}  # of every text that contains a name
_SHARE = 99  # percent of the pixels of a map with both signs that are within its colours


@cache
def _figure_type() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("xcnn.plot", "matplotlib", error) from error

    class NotebookFigure(Figure):
        """A Figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    return NotebookFigure


def _grid(
    count: int, columns: int, width: float = _CELL, height: float = _CELL
) -> tuple[Any, list[Any]]:
    """A figure, and its ``count`` axes."""
    rows = max(1, math.ceil(count / columns))
    columns = max(1, min(columns, count))
    size = columns * width + 0.2, rows * height + 0.2
    figure = _figure_type()(figsize=size, layout="constrained")
    axes = [figure.add_subplot(rows, columns, n + 1) for n in range(count)]
    return figure, axes


def _one(ax: Any, width: float, height: float) -> Any:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    return _grid(1, 1, width, height)[1][0]


def _host(name: str, value: Any, ndims: Iterable[int], shape: str) -> Array:
    array = Tensor.of(value).numpy()
    if array.ndim not in ndims or 0 in array.shape[1:]:
        empty = ", not empty" if array.ndim in ndims else ""
        raise ShapeError(f"{name} has shape {array.shape}: expected {shape}{empty}")
    return array


def _finite(values: Array) -> Array:
    return _xp.where(_xp.isfinite(values), values, 0).astype("float64")


def _short(name: str) -> str:
    """A name, each line cut to the length that figures have room for."""
    lines = [printable(line) for line in name.split("\n")]
    cut = (n if len(n) <= _LONGEST else f"{n[: _LONGEST - 1].rstrip()}…" for n in lines)
    return "\n".join(cut)


def _room(names: Iterable[str]) -> float:
    """Inches that names take."""
    return _LETTER * max((len(line) for name in names for line in name.split("\n")), default=0)


# -- training ------------------------------------------------------------------------------------


def history(history: Any, columns: Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """Plot the curves of one training or several.

    Parameters
    ----------
    history
        A :class:`~xcnn.training.History`, such as ``trainer.history``, or a list of dicts of
        numbers; or a dict of several of them by name.
    columns
        Names such as "val_loss" or "lr"; "loss" stands for "train_loss" and "val_loss". None: all
        but the time.
    ax
        Axes for all columns; None: axes of their own for the loss, the accuracy and each metric.

    Returns
    -------
    matplotlib.figure.Figure
        Training is dashed, validation solid.

    Raises
    ------
    ArgumentError
        There is no such column, or ``history`` is none.
    MissingPackageError
        matplotlib is not installed.
    """
    runs = {name: _rows(h) for name, h in _named(history).items()}
    known = list(dict.fromkeys(key for rows in runs.values() for row in rows for key in row))
    known = [name for name in known if name != "epoch"]
    if columns is None:
        wanted = [name for name in known if name != "seconds"]
    else:
        wanted = []
        for name in check_texts("columns", columns):
            found = [k for k in known if name in (k, _base(k))]
            if not found:
                hint = did_you_mean(name, known) or f": expected some of {', '.join(known)}"
                raise ArgumentError(f"columns: there is no {name!r}{hint}")
            wanted += found
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(wanted):
        groups.setdefault(_base(name), []).append(name)
    if ax is None:
        figure, axes = _grid(len(groups), 3, 4.2, 3.0)
    else:
        figure, axes = ax.figure, [ax] * len(groups)
    for of, (base, names) in zip(axes, groups.items(), strict=True):
        for number, (run, rows) in enumerate(runs.items()):
            for name in names:
                _curve(of, rows, name, run, number)
        of.set_xlabel("epoch")
        of.set_ylabel(_short(base) if ax is None else "", **_PLAIN)
        if ax is None:
            of.xaxis.get_major_locator().set_params(integer=True)
        of.grid(alpha=0.3)
        if of.lines:
            for text in of.legend(fontsize="small").get_texts():
                text.set(**_PLAIN)
    return figure


def _named(history: Any) -> Mapping[str, Any]:
    return history if isinstance(history, Mapping) else {"": history}


def _rows(history: Any) -> list[dict[str, Any]]:
    """One dict of numbers per epoch, without empty columns."""
    epochs = getattr(history, "history", history)
    rows = [h.row() if hasattr(h, "row") else h for h in epochs] if _is_list(epochs) else [epochs]
    if not all(isinstance(row, Mapping) for row in rows):
        raise ArgumentError(
            f"history={show(history)}: expected a History, a list of dicts, or a dict of them"
        )
    rows = [{"epoch": n + 1, **row} for n, row in enumerate(rows)]
    return [{k: _number(k, v) for k, v in row.items() if v is not None} for row in rows]


def _is_list(value: Any) -> bool:
    is_single = isinstance(value, str | Mapping) or getattr(value, "ndim", 1) == 0
    return isinstance(value, Iterable | Tensor) and not is_single


def _number(name: str, value: Any) -> float:
    with suppress(TypeError, ValueError):
        if not isinstance(value, str):
            return float(value)
    raise ArgumentError(f"history: {name}={show(value)}: expected a number")


def _base(name: str) -> str:
    return name.removeprefix("train_").removeprefix("val_")


def _curve(ax: Any, rows: list[dict[str, Any]], name: str, run: str, number: int) -> None:
    points = [(row["epoch"], row[name]) for row in rows if name in row]
    if not points:
        return
    is_training = name.startswith("train_")
    colour = number if run else is_training
    label = f"{_short(run)} {_short(name)}".strip()
    ax.plot(
        *zip(*points, strict=True),
        label=f" {label}" if label.startswith("_") else label,  # no legend has names like _a
        color=_COLOURS[colour % len(_COLOURS)],
        linestyle="--" if is_training else "-",
        marker=_MARKERS[colour % len(_MARKERS)],
        markersize=3.5,
        markevery=max(1, len(points) // 20),
    )


# -- predictions ---------------------------------------------------------------------------------


def confusion(matrix: Any, classes: Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """Plot a confusion matrix, coloured by the fraction of each row.

    Parameters
    ----------
    matrix
        Numbers of examples (C, C), actual classes in rows, as ConfusionMatrix of
        :mod:`xcnn.metrics` measures it.
    classes
        Their names; None: numbers.
    ax
        Axes to draw into.

    Raises
    ------
    ShapeError
        ``matrix`` is not square, or ``classes`` does not fit it.
    """
    counts = _host("matrix", matrix, [2], "(C, C)")
    names = (
        [str(n) for n in range(len(counts))] if classes is None else check_texts("classes", classes)
    )
    if counts.shape != (len(names),) * 2:
        raise ShapeError(
            f"matrix has shape {counts.shape}: expected a row and a column for each of "
            f"{len(names)} classes"
        )
    names = [_short(name) for name in names]
    side = min(10, 1.5 + 0.4 * len(names)) + (_room(names) if len(names) <= _NUMBERED else 0)
    ax = _one(ax, side + 0.8, side)
    fractions = counts / _xp.maximum(counts.sum(1, keepdims=True), 1)
    drawn = ax.imshow(fractions, cmap="viridis", vmin=0, vmax=1)
    ax.figure.colorbar(drawn, ax=ax, label="fraction of the actual class", shrink=0.8)
    if len(names) <= _NUMBERED:
        turned = 90 if max(map(len, names)) > 2 else 0
        ax.set_xticks(range(len(names)), names, rotation=turned, **_PLAIN)
        ax.set_yticks(range(len(names)), names, **_PLAIN)
        for (row, column), n in _xp.ndenumerate(counts):
            if n:
                colour = "black" if fractions[row, column] > 0.5 else "white"
                text = f"{n:g}"
                ax.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    ax.set_xlabel("predicted")
    ax.set_ylabel("actual")
    return ax.figure


def probabilities(values: Any, classes: Sequence[str], *, top: int = 5, ax: Any = None) -> Any:
    """Plot the most probable classes of one example as bars.

    Parameters
    ----------
    values
        Probabilities (C,); (1,) is that of the second of two classes.
    classes
        Their names.
    top
        Number of classes to show.
    ax
        Axes to draw into.
    """
    chances = _host("values", values, [1], "(C,)")
    width = max(3, 2.2 + _room(map(_short, check_texts("classes", classes))))
    ax = _one(ax, width, 0.4 + 0.3 * min(check_int("top", top), max(len(chances), 2)))
    _bars(ax, chances, classes, top)
    return ax.figure


def _bars(ax: Any, chances: Array, classes: Sequence[str], top: int) -> None:
    found, names = [float(p) for p in chances], check_texts("classes", classes)
    found = [1 - found[0], found[0]] if len(found) == 1 and len(names) == 2 else found
    if len(found) != len(names):
        raise ShapeError(f"{len(found)} probabilities for {len(names)} classes")
    order = sorted(range(len(found)), key=lambda n: -found[n])[: check_int("top", top)]
    places = range(len(order))
    ax.barh(places, [found[n] for n in order], color=_COLOURS[0], height=0.5)
    for place, n in enumerate(order):
        ax.text(1.02, place, f"{found[n]:.1%}", va="center", fontsize="small")
    ax.set_yticks(places, [_short(names[n]) for n in order], **_PLAIN)
    ax.set_xlim(0, 1)
    ax.set_ylim(max(len(order), 3) - 0.5, -0.5)
    ax.set_xticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def images(
    x: Any,
    labels: Any = None,
    predicted: Any = None,
    probabilities: Any = None,
    *,
    classes: Sequence[str] | None = None,
    normalize: Any = None,
    columns: int = 8,
) -> Any:
    """Plot pictures in a grid, with what they are and what a network takes them for.

    Parameters
    ----------
    x
        Pictures (N, C, H, W) with 1 or 3 channels, or (N, H, W): uint8, or floats. Floats beyond 0
        to 1 are stretched to that range, picture by picture, unless ``normalize`` is given.
    labels, predicted
        Class of each picture, (N,): whole numbers or texts. A wrong prediction is marked with ✗ and
        a frame.
    probabilities
        (N,), of the predicted classes, or (N, C), of which the largest is shown; without
        ``predicted``, the most probable class is the predicted one.
    classes
        Names for labels that are numbers.
    normalize
        The :class:`~xcnn.data.Normalize` that ``x`` was normalised with, to undo it.
    columns
        Pictures in a row.

    Raises
    ------
    ShapeError
        An array does not fit ``x``.
    ArgumentError
        A label is neither a number nor a text, or not one of ``classes``.
    """
    pictures = _pictures(x, normalize)
    chances = None
    if probabilities is not None:
        chances = _host("probabilities", probabilities, [1, 2], "(N,) or (N, C)")
        if chances.ndim == 2:
            predicted = chances.argmax(1) if predicted is None else predicted
            chances = chances.max(1)
    actual, found = (
        None if v is None else _texts(name, v, classes, len(pictures))
        for name, v in (("labels", labels), ("predicted", predicted))
    )
    if chances is not None and len(chances) != len(pictures):
        raise ShapeError(f"{len(chances)} probabilities for {len(pictures)} pictures")
    lines = 1 if actual is None or found is None else 2
    titles = [_short(name) for name in found or actual or [""] * len(pictures)]
    if found and chances is not None:
        titles = [f"{title} {float(p):.0%}" for title, p in zip(titles, chances, strict=True)]
    wrong = {n: name for n, name in enumerate(actual or []) if found and found[n] != name}
    for n, name in wrong.items():
        titles[n] = f"✗ {titles[n]}\nis {_short(name)}"
    width = max(_CELL, 0.75 * _room(titles))  # small letters
    figure, axes = _grid(len(pictures), check_int("columns", columns), width, _CELL + 0.22 * lines)
    for n, ax in enumerate(axes):
        _show(ax, pictures[n])
        if n in wrong:
            ax.spines[:].set(visible=True, color=_WRONG, linewidth=3)
        ax.set_title(titles[n], fontsize="small", **_PLAIN)
    return figure


def _texts(name: str, values: Any, classes: Sequence[str] | None, count: int) -> list[str]:
    """Labels as texts."""
    if not _is_list(values):
        raise ArgumentError(f"{name}={show(values)}: expected a class for each picture")
    values = list(values.numpy() if isinstance(values, Tensor) else values)
    if len(values) != count:
        raise ShapeError(f"{len(values)} {name} for {count} pictures")
    names = None if classes is None else check_texts("classes", classes)
    return [_label(name, value, names) for value in values]


def _label(name: str, value: Any, classes: list[str] | None) -> str:
    if isinstance(value, str):
        return value
    number = -1.0
    with suppress(TypeError, ValueError):
        number = -1.0 if getattr(value, "ndim", 0) else float(value)
    if number.is_integer() and (classes is None or 0 <= number < len(classes)):
        return str(int(number)) if classes is None else classes[int(number)]
    expected = "" if classes is None else f" from 0 to {len(classes) - 1}"
    raise ArgumentError(
        f"{name} contains {show(value)}: expected whole numbers{expected}, or texts"
    )


def _pictures(x: Any, normalize: Any = None) -> list[Array]:
    """Pictures as (H, W) or (H, W, 3), from 0 to 1."""
    x = _host("x", x, [3, 4], "(N, C, H, W) or (N, H, W)")
    x = x[:, None] if x.ndim == 3 else x
    if x.shape[1] not in (1, 3):
        raise ShapeError(f"x has {x.shape[1]} channels: expected 1 (grey) or 3 (colour)")
    if x.dtype == "uint8":
        x = x / 255
    elif normalize is not None:
        mean, std = (_xp.reshape(v, (-1, 1, 1)) for v in (normalize.mean, normalize.std))
        x = x * std + mean
    return [_picture(image) for image in _finite(x)]


def _picture(image: Array) -> Array:
    low, high = (image.min(), image.max()) if image.size else (0, 1)
    tolerance = 1e-3  # of what rounding leaves after a normalisation is undone
    if low < -tolerance or high > 1 + tolerance:
        image = (image - low) / (high - low if high > low else 1)
    image = image.clip(0, 1)
    return image[0] if len(image) == 1 else _xp.moveaxis(image, 0, 2)


def _show(ax: Any, picture: Array, **settings: Any) -> None:
    """Show one picture without ticks and frame."""
    settings = {"vmin": 0, "vmax": 1, "cmap": "gray", "interpolation": "nearest"} | settings
    ax.imshow(picture, **settings)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def augmented(before: Any, after: Any, *, normalize: Any = None, columns: int = 8) -> Any:
    """Plot pictures above what an augmentation makes of them.

    Parameters
    ----------
    before, after
        Pictures (N, C, H, W) each, as for :func:`images`.
    normalize, columns
        As for :func:`images`.
    """
    pairs = _pictures(before, normalize), _pictures(after, normalize)
    if len(pairs[0]) != len(pairs[1]):
        raise ShapeError(f"{len(pairs[0])} pictures before, {len(pairs[1])} after")
    columns = max(1, min(check_int("columns", columns), len(pairs[0])))
    rows = max(1, math.ceil(len(pairs[0]) / columns))
    size = columns * _CELL + 0.5, rows * 2 * _CELL + 0.2
    figure = _figure_type()(figsize=size, layout="constrained")
    for row, side in enumerate(pairs):
        for n, picture in enumerate(side):
            place = (2 * (n // columns) + row) * columns + n % columns + 1
            ax = figure.add_subplot(2 * rows, columns, place)
            _show(ax, picture)
            if n % columns == 0:
                ax.set_ylabel(("before", "after")[row])
    return figure


# -- networks ------------------------------------------------------------------------------------


def filters(weights: Any, layer: Any = None, *, columns: int = 16, ax: Any = None) -> Any:
    """Plot the filters of a convolution as one picture.

    Parameters
    ----------
    weights
        A Module, or filters (F, C, kH, kW).
    layer
        Of a Module; see :func:`xcnn.explain.filters`.
    columns
        Filters in a row.
    ax
        Axes to draw into.

    Returns
    -------
    matplotlib.figure.Figure
        Filters of three channels in colour, 0 being grey; others one channel at a time, one filter
        in each row if there are several, in purple below 0 and orange above.
    """
    if isinstance(weights, Module):
        weights = explain.filters(weights, layer)
    found = _finite(_host("weights", weights, [4], "(F, C, kH, kW)"))
    limit = float(_xp.abs(found).max(initial=0)) or 1.0
    columns = max(1, min(check_int("columns", columns), len(found)))
    if found.shape[1] == 3:
        picture = _mosaic(_xp.moveaxis(found / limit / 2 + 0.5, 1, 3), columns, 1.0)
        settings: dict[str, Any] = {}
    else:
        wide = columns if found.shape[1] == 1 else found.shape[1]
        picture = _mosaic(found.reshape(-1, *found.shape[2:]), wide, math.nan)
        settings = {"cmap": f"{_SIGNED}_r", "vmin": -limit, "vmax": limit}
    ax = _one(ax, 5, 5 * picture.shape[0] / picture.shape[1])
    _show(ax, picture, **settings)
    return ax.figure


def _mosaic(pictures: Array, columns: int, gap: float) -> Array:
    """Pictures (N, H, W) or (N, H, W, 3) as one, with gaps of a pixel."""
    count, height, width, *rest = pictures.shape
    rows = max(1, math.ceil(count / check_int("columns", columns)))
    whole = _xp.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *rest), gap)
    for n, picture in enumerate(pictures):
        top, left = n // columns * (height + 1), n % columns * (width + 1)
        whole[top : top + height, left : left + width] = picture
    return whole


def feature_maps(maps: Any, *, index: int = 0, limit: int = 32) -> Any:
    """Plot the feature maps of layers for one example.

    Parameters
    ----------
    maps
        By path, (N, C, H, W), as :func:`xcnn.explain.feature_maps` returns them.
    index
        The example.
    limit
        Channels to show of each layer.

    Returns
    -------
    matplotlib.figure.Figure
        Each channel in its own range, from dark to bright.
    """
    if not isinstance(maps, Mapping) or not maps:
        found = "empty" if isinstance(maps, Mapping) else type(maps).__name__
        raise ArgumentError(f"maps is {found}: expected a dict of arrays by path")
    pictures = {}
    arrays = {path: _host(f"maps[{path!r}]", m, [4], "(N, C, H, W)") for path, m in maps.items()}
    columns = min(_WIDE, check_int("limit", limit), max(m.shape[1] for m in arrays.values()))
    check_int("index", index, 0)
    for path, of in arrays.items():
        if index >= len(of):
            raise ArgumentError(f"index={index}: there are {len(of)} examples")
        shown = _finite(of[index][:limit])
        low, high = shown.min((1, 2), keepdims=True), shown.max((1, 2), keepdims=True)
        scaled = (shown - low) / _xp.where(high > low, high - low, 1)
        title = f"{path}: {of.shape[1]} maps of {of.shape[2]}×{of.shape[3]}"
        title += f", the first {limit}" if of.shape[1] > limit else ""
        pictures[title] = _mosaic(scaled, columns, math.nan)
    width = 8.0
    heights = [0.35 + width * p.shape[0] / p.shape[1] for p in pictures.values()]
    figure = _figure_type()(figsize=(width, sum(heights) + 0.1), layout="constrained")
    grid = figure.add_gridspec(len(pictures), 1, height_ratios=heights)
    for row, (title, picture) in enumerate(pictures.items()):
        ax = figure.add_subplot(grid[row])
        _show(ax, picture, cmap="viridis")
        ax.set_title(title, fontsize="small", loc="left", **_PLAIN)
    return figure


def heatmap(x: Any, maps: Any, *, normalize: Any = None, columns: int = 8, ax: Any = None) -> Any:
    """Plot pictures in grey with a map over each.

    Parameters
    ----------
    x
        Pictures, as for :func:`images`; for ``ax`` a single one.
    maps
        (N, H, W), as :func:`xcnn.explain.grad_cam` returns them, or (N, C, H, W), of which the
        channels are added. Each is scaled to its maximum; one with
        both signs to the absolute value that 99 % of its pixels do not exceed.
    normalize, columns
        As for :func:`images`.
    ax
        Axes to draw one picture into.

    Returns
    -------
    matplotlib.figure.Figure
        Bright where a map is large; of a map with both signs, orange above 0 and purple below.
    """
    pictures = _pictures(x, normalize)
    maps = _host("maps", maps, [3, 4], "(N, H, W) or (N, C, H, W)")
    maps = _finite(maps.sum(1) if maps.ndim == 4 else maps)
    if [m.shape for m in maps] != [p.shape[:2] for p in pictures]:
        raise ShapeError(
            f"maps of {maps.shape} for {len(pictures)} pictures: expected one map of the same size "
            "for each"
        )
    if ax is None:
        figure, axes = _grid(len(pictures), check_int("columns", columns))
    elif len(pictures) != 1:
        raise ShapeError(f"{len(pictures)} pictures: expected one for ax")
    else:
        figure, axes = ax.figure, [ax]
    for of, picture, found in zip(axes, pictures, maps, strict=True):
        sizes, is_signed = _xp.abs(found), found.min() < 0
        # single pixels of a gradient are far larger than the others
        limit = float(_xp.percentile(sizes, _SHARE) if is_signed else 0) or float(sizes.max()) or 1
        grey = picture if picture.ndim == 2 else picture @ (0.299, 0.587, 0.114)
        _show(of, grey, alpha=0.35 if is_signed else 1)
        settings = {"cmap": f"{_SIGNED}_r" if is_signed else "inferno", "vmax": limit}
        settings |= {"vmin": -limit if is_signed else 0, "alpha": 0.85 * (sizes / limit).clip(0, 1)}
        _show(of, found, **settings)
    return figure


def explained(
    x: Any,
    probabilities: Any,
    maps: Mapping[str, Any],
    classes: Sequence[str],
    *,
    titles: Sequence[str] | None = None,
    normalize: Any = None,
    top: int = 3,
) -> Any:
    """Plot, in a row for each picture, the picture, its most probable classes, and maps over it.

    Parameters
    ----------
    x
        Pictures, as for :func:`images`.
    probabilities
        (N, C), or (N, 1) of the second of two classes.
    maps
        Arrays of :mod:`xcnn.explain` by title, as for :func:`heatmap`.
    classes
        Their names.
    titles
        Above each picture.
    normalize, top
        As for :func:`images` and :func:`probabilities`.
    """
    pictures = _pictures(x, normalize)
    chances = _host("probabilities", probabilities, [2], "(N, C)")
    above = [""] * len(pictures) if titles is None else check_texts("titles", titles)
    if not len(pictures) == len(chances) == len(above):
        raise ShapeError(
            f"{len(pictures)} pictures, {len(chances)} probabilities, {len(above)} titles: "
            "expected as many of each"
        )
    if not len(pictures):
        raise ShapeError("x has no pictures: expected at least one")
    if not isinstance(maps, Mapping):
        raise ArgumentError(f"maps is {type(maps).__name__}: expected a dict of arrays by title")
    found = {
        title: _host(f"maps[{title!r}]", of, [3, 4], "(N, H, W)") for title, of in maps.items()
    }
    for title, of in found.items():
        if len(of) != len(pictures):
            raise ShapeError(f"maps[{title!r}] has shape {of.shape} for {len(pictures)} pictures")
    widths = [1.0, 1.2, *[1.0] * len(found)]
    cell = 1.7
    room = max(0.8, 0.3 + _room(map(_short, check_texts("classes", classes))))
    size = cell * sum(widths) + room, len(pictures) * (cell + 0.25)
    figure = _figure_type()(figsize=size, layout="constrained")
    grid = figure.add_gridspec(max(1, len(pictures)), len(widths), width_ratios=widths)
    for n, picture in enumerate(pictures):
        axes = [figure.add_subplot(grid[n, column]) for column in range(len(widths))]
        _show(axes[0], picture)
        axes[0].set_title(_short(above[n]), fontsize="small", **_PLAIN)
        _bars(axes[1], chances[n], classes, top)
        for ax, (title, of) in zip(axes[2:], found.items(), strict=True):
            heatmap(x[n : n + 1], of[n : n + 1], normalize=normalize, ax=ax)
            ax.set_title(_short(title) if n == 0 else "", fontsize="small", **_PLAIN)
    return figure
