"""The results of training: one Epoch per pass over the data, and all of them in a History."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .. import backends
from ..checks import loads_state
from ..errors import ArgumentError, did_you_mean, show
from ..notebook import html_table

_ENDS = 5  # epochs shown at the start and at the end

_host = backends.get("cpu").xp


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch of training; the columns of ``history.csv``.

    Losses are means over all examples, weighted by what the loss divides by; accuracies are
    fractions from 0 to 1 (None if the loss has no classes, or without validation). ``seconds`` is
    training and validation together. ``metrics`` has further columns by name, such as "val_f1".
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return all columns as a dict."""
        return {**{name: getattr(self, name) for name in _COLUMNS}, **self.metrics}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Epoch:
        """Create the Epoch from the result of :meth:`row`."""
        own = {name: row[name] for name in _COLUMNS}
        return cls(**own, metrics={k: v for k, v in row.items() if k not in own})

    def value(self, name: str) -> float:
        """Return the number in a column.

        Raises
        ------
        ArgumentError
            There is no such number; the message lists those there are.
        """
        row = {k: v for k, v in self.row().items() if v is not None}
        if name not in row:
            names = [column for column in row if column != "epoch"]
            is_missing = name.startswith("val_") and "val_loss" not in row
            hint = "; pass validation data to fit" if is_missing else did_you_mean(name, names)
            raise ArgumentError(f"monitor={show(name)}: expected one of {', '.join(names)}{hint}")
        return row[name]


_COLUMNS = tuple(f.name for f in fields(Epoch) if f.name != "metrics")


class History(list[Epoch]):
    """The epochs trained so far."""

    @property
    def columns(self) -> list[str]:
        """The names of all columns."""
        rows = [dict.fromkeys(_COLUMNS), *(epoch.row() for epoch in self)]
        return list(dict.fromkeys(name for row in rows for name in row))

    def to_csv(self) -> str:
        """Return the table as text: a header, then one line per epoch."""
        table = io.StringIO()
        writer = csv.DictWriter(table, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(epoch.row() for epoch in self)
        return table.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """The table as arrays: a hundred thousand epochs would be too much for JSON."""
        rows = [epoch.row() for epoch in self]
        table = [[row.get(name) for name in self.columns] for row in rows]
        values = [[math.nan if v is None else float(v) for v in row] for row in table]
        known = [[v is not None for v in row] for row in table]
        shape = len(rows), len(self.columns)
        return {
            "columns": self.columns,
            "values": _host.asarray(values, "float64").reshape(shape),
            "known": _host.asarray(known, bool).reshape(shape),
        }

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.clear()
        for values, known in zip(state["values"].tolist(), state["known"].tolist(), strict=True):
            row = {
                name: value if is_known else None
                for name, value, is_known in zip(state["columns"], values, known, strict=True)
                if is_known or name in _COLUMNS
            }
            row["epoch"] = int(row["epoch"] or 0)
            self.append(Epoch.from_row(row))

    def __repr__(self) -> str:
        if not self:
            return "History()"
        rows = self._shown()
        columns = [[name, *(row[name] for row in rows)] for name in rows[0]]
        padded = [[cell.rjust(max(map(len, column))) for cell in column] for column in columns]
        return "\n".join(map("  ".join, zip(*padded, strict=True)))

    def _repr_html_(self) -> str:
        return html_table(self._shown())

    def _shown(self) -> list[dict[str, str]]:
        """Text of the non-empty columns, with four digits; of a long history, the two ends."""
        rows = [epoch.row() for epoch in self]
        names = [name for name in self.columns if any(row.get(name) is not None for row in rows)]
        cells = [{name: _cell(row.get(name)) for name in names} for row in rows]
        if len(cells) > 2 * _ENDS + 1:
            cells[_ENDS:-_ENDS] = [dict.fromkeys(names, "...")]
        return cells


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"
