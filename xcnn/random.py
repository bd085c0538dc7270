"""The one random generator of the library, on the host, so that every device starts equal.

Weights are drawn from it, and keys for dropout masks. :func:`manual_seed` makes both repeat.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import is_int
from .errors import ArgumentError

_generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Start the generator anew: the same seed gives the same weights and dropout masks.

    Raises
    ------
    ArgumentError
        Not an int >= 0.
    """
    global _generator
    if not is_int(seed) or seed < 0:
        raise ArgumentError(f"seed={seed!r}: expected an int >= 0")
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator that initialisers draw from unless they are given one."""
    return _generator


def next_key() -> int:
    """A fresh 64-bit key for one random mask."""
    return int(_generator.integers(2**64, dtype=np.uint64))


def get_state() -> dict[str, Any]:
    """The generator's state, as JSON can hold it."""
    return dict(_generator.bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Go on from a state that :func:`get_state` gave."""
    _generator.bit_generator.state = state
