"""Speed and memory of xcnn compared with other libraries: ``python -m benchmarks COMMAND``.

| module | contents |
|---|---|
| ``__main__``, ``run`` | the commands; ``cpu`` and ``gpu`` measure cases and write a report |
| ``cases``, ``nets``, ``peers`` | what is timed, through the same calls for every library |
| ``session``, ``worker`` | one process per library, taking turns |
| ``floor`` | the least time of each training step |
| ``machine``, ``outcome`` | versions and hardware; failures |
| ``table`` | the report as text and as a plot |
| ``gpu`` | checks that need a GPU: test suite, bandwidth, determinism |
| ``shards`` | reading a data set of the size of ImageNet from tar shards |
| ``distributed`` | several processes: measured, modelled, and planned on paper |
| ``methods``, ``choices``, ``accuracy``, ``curves`` | the measurements behind docs/ |
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
