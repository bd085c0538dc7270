"""xcnn beside PyTorch on a CPU, and how its cost grows, measured by one command.

    python -m benchmarks.cpu [--list] [--case NAME...] [--json FILE] [--plot FILE.png]

| module | what |
|---|---|
| ``__main__`` | the command |
| ``cases``, ``peers``, ``resnet`` | what is timed: one line each, the same calls for both peers |
| ``turns``, ``worker`` | a process of each peer serves all cases, the peers taking turns |
| ``footprint`` | peak memory and import time, in processes of their own |
| ``growth`` | time and memory of xcnn's step as the work doubles |
| ``table``, ``plot`` | what is printed and drawn |
"""
