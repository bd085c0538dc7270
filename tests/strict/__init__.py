"""A stand-in for CuPy without a GPU: NumPy's arithmetic under CuPy's rules.

Code that is written for NumPy only breaks on it as it would break on a GPU: a NumPy array as an
operand, an implicit conversion to the host, a name or a keyword that CuPy lacks, a Python scalar
expected from a reduction. It also counts the operations that CuPy would queue on the device, the
host synchronisations and the launches of raw kernels, which tests/shim runs on the CPU, and can
forbid float64.

The names and signatures come from ``cupy_names.json``, written from an installed CuPy by
``python -m tests.strict.names``; nothing else here needs CuPy.

Examples
--------
>>> from tests.strict import count_syncs, cupy as xp, forbid_float64
>>> with count_syncs() as syncs, forbid_float64():
...     total = xp.ones((2, 3), dtype=xp.float32).sum()
>>> syncs
[]
"""

from . import cupy
from .watch import (
    LAUNCHES,
    SYNCS,
    count_launches,
    count_operations,
    count_syncs,
    forbid_float64,
)

# fmt: off
__all__ = [
    "LAUNCHES", "SYNCS", "count_launches", "count_operations", "count_syncs", "cupy",
    "forbid_float64",
]
