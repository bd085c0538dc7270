"""Everything worth knowing about xcnn on a GPU, measured by one command: ``benchmarks.gpu``.

    python -m benchmarks.gpu --out DIR

| module | what |
|---|---|
| ``__main__``, ``parts`` | the command; each part is a process of its own with a time limit |
| ``child``, ``outcome`` | that process: what a part gave or how it failed, in a JSON file |
| ``suite``, ``plugin`` | the tests that run on ``cuda`` |
| ``ceilings``, ``clock`` | bandwidth of a copy, speed of a matrix product; CUDA events |
| ``kernels``, ``primitives`` | each primitive beside the bandwidth of a copy |
| ``training``, ``worker``, ``peers``, ``nets`` | training steps beside PyTorch |
| ``determinism``, ``mnist`` | the same run twice; LeNet-5 on MNIST |
| ``machine``, ``table`` | what it ran on; what is printed last |
"""
