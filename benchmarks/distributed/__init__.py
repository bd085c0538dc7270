"""Training on several processes: measured on this machine, and modelled for larger ones.

| module | contents |
|---|---|
| ``measure`` | the command ``distributed``: steps of several ranks against one process |
| ``rank`` | what each of its processes runs |
| ``model`` | the time of a step, from its computation and the cost of messages |
| ``plan`` | the command ``scaling``: ResNet-50 on 8 to 1,024 GPUs by the model |
"""
