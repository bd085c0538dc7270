"""The library's random generator; on the host, so that all devices use the same numbers.

It draws initial weights and the keys of dropout masks; :func:`manual_seed` makes both
reproducible.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .checks import is_int
from .errors import ArgumentError, show

_generator: np.random.Generator | None = None  # importing numpy.random takes a while


def manual_seed(seed: int) -> None:
    """Reseed the generator: equal seeds give equal weights and dropout masks.

    Raises
    ------
    ArgumentError
        Not an int >= 0.
    """
    global _generator
    if not is_int(seed) or seed < 0:
        raise ArgumentError(f"seed={show(seed)}: expected an int >= 0")
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator that initialisers use by default."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context with a generator of its own; afterwards the library's goes on where it was.

    Raises
    ------
    ArgumentError
        Not an int >= 0.
    """
    global _generator
    before = generator()
    manual_seed(seed)
    try:
        yield
    finally:
        _generator = before


def next_key() -> int:
    """A new 64-bit key for a random mask."""
    return int(generator().integers(2**64, dtype=np.uint64))


def get_state() -> dict[str, Any]:
    """The generator's state, JSON-serialisable."""
    return dict(generator().bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Restore a state from :func:`get_state`."""
    generator().bit_generator.state = state
