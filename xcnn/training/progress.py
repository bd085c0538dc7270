"""The progress bar of a training epoch."""

from __future__ import annotations

import time
from typing import Any

from ..notebook import progress_bar, progress_stream

_REFRESH = 0.2  # seconds between readings of the loss, which wait for the GPU


class Bar:
    """A progress bar over examples, replaced by a line of text at the end of the epoch.

    In a notebook the bar is text as well, and a terminal that does not say how wide it is gets the
    line only. Hidden if the output is neither.
    """

    def __init__(self, total: int, title: str) -> None:
        self._stream = progress_stream()
        self._title = title
        self._bar = progress_bar(
            total,
            title,
            leave=False,
            unit=" img",
            unit_scale=True,
            bar_format="{desc}: {percentage:3.0f}%|{bar:10}| {rate_noinv_fmt}{postfix}",
        )
        self._started = self._shown = time.monotonic()
        self._examples = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.leave = True  # an interrupted epoch's bar stays
        self._bar.close()

    def update(self, examples: int) -> bool:
        """Advance; return whether it is time to show new numbers."""
        self._examples += examples
        self._bar.update(examples)
        return not self._bar.disable and time.monotonic() - self._shown > _REFRESH

    def show(self, **numbers: float | None) -> None:
        """Show ``numbers`` next to the bar, except those that are None."""
        self._shown = time.monotonic()
        self._bar.set_postfix_str(_short(numbers))

    def finish(self, **numbers: float | None) -> None:
        """Replace the bar with a line of text, of at most 80 characters for losses below 10."""
        self._bar.close()
        if self._stream is not None:
            seconds = max(time.monotonic() - self._started, 1e-9)
            rate = self._bar.format_sizeof(self._examples / seconds)
            print(f"{self._title}: {rate} img/s, {_short(numbers)}", file=self._stream, flush=True)


def _short(numbers: dict[str, float | None]) -> str:
    shown = {k.replace("accuracy", "acc"): v for k, v in numbers.items() if v is not None}
    return " ".join(f"{name} {value:.4f}" for name, value in shown.items())
