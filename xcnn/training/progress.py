"""The progress bar of a training epoch."""

from __future__ import annotations

import time
from typing import Any

_REFRESH = 0.2  # seconds between readings of the loss, which wait for the GPU


class Bar:
    """A progress bar over examples; hidden if the output is not a terminal."""

    def __init__(self, total: int, title: str) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=total,
            desc=title,
            disable=None,  # hidden if the output is not a terminal
            unit=" img",
            unit_scale=True,
            bar_format="{desc}: {percentage:3.0f}%|{bar:10}| {rate_noinv_fmt}{postfix}",
        )
        self._shown = time.monotonic()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()

    def update(self, examples: int) -> bool:
        """Advance; return whether it is time to show new numbers."""
        self._bar.update(examples)
        return not self._bar.disable and time.monotonic() - self._shown > _REFRESH

    def show(self, **numbers: float | None) -> None:
        """Show ``numbers`` next to the bar, except those that are None."""
        if self._bar.disable:
            return
        self._shown = time.monotonic()
        self._bar.set_postfix_str(_short(numbers))

    def finish(self, **numbers: float | None) -> None:
        """Show ``numbers`` instead of the bar, to fit a line of 80 characters."""
        self._bar.bar_format = "{desc}: {rate_noinv_fmt}{postfix}"
        self.show(**numbers)


def _short(numbers: dict[str, float | None]) -> str:
    shown = {k.replace("accuracy", "acc"): v for k, v in numbers.items() if v is not None}
    return " ".join(f"{name} {value:.4f}" for name, value in shown.items())
