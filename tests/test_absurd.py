"""Absurd arguments: each call returns within a second or raises an XcnnError."""

import inspect
import random
import signal
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest

import xcnn.functional as F
from xcnn import Parameter, Tensor, data, init, nn, optim, schedules
from xcnn.errors import XcnnError

resource = pytest.importorskip("resource")  # to limit memory; not on Windows

SECONDS, MEMORY = 1.0, 2 * 1024**3
IMAGES, SIGNALS, ROWS = (
    np.linspace(-1, 1, int(np.prod(shape)), dtype="float32").reshape(shape)
    for shape in ((2, 4, 6, 6), (2, 4, 6), (3, 4))
)
ABSURD = [
    None, "x", "", b"x", -1, 0, 1, 2, 2**31, 2**40, 2**70, -(2**70), 0.5, 1e300, -1e300, float("nan"),
    float("inf"), True, False, 1j, [], {}, (), object(), [1, 2], (1, 2), ("a", "b"), (2**31, 2**31),
    (2**40, 1), ((1, 2), (3, 4)), ((2**31, 0), (0, 0)), [None], {"a": 1}, np.zeros(3), np.ones((2, 2)),
    np.zeros((0, 3), "float32"), np.array(["a"]), np.array([None]), np.array(2**40), np.float32(0.5),
    np.int64(-3), ROWS, SIGNALS, IMAGES, IMAGES.astype("int64"), IMAGES[:0], Tensor(IMAGES),
    "float32", "mean", "same", "cpu", slice(None), range(3), lambda *x, **k: None,
]  # fmt: skip
#: a value that makes sense, by the name of the parameter
SENSIBLE = {
    **dict.fromkeys(("input", "a", "b", "x", "tensor", "images", "condition"), IMAGES),
    **dict.fromkeys(("in_channels", "num_features", "num_channels", "in_features", "features"), 4),
    **dict.fromkeys(("out_channels", "out_features", "normalized_shape", "num_parameters"), 4),
    **dict.fromkeys(("kernel_size", "output_size", "size", "upscale_factor", "downscale_factor"), 2),
    **dict.fromkeys(("stride", "dilation", "groups", "num_groups", "step_size", "batch_size"), 1),
    **dict.fromkeys(("padding", "output_padding", "dim", "dim0", "start_dim", "seed"), 0),
    **dict.fromkeys(("running_mean", "running_var", "bias", "scale_factor", "generator"), None),
    **dict.fromkeys(("lr", "max_lr", "p", "alpha", "eps", "momentum", "gamma", "factor"), 0.5),
    "weight": np.ones((4, 4, 3, 3), "float32"),
    "tensors": [IMAGES, IMAGES],
    "dims": (0, 2, 3, 1),
    "dtype": "float32",
    "reduction": "mean",
    "shape": (2, -1),
    "dim1": 1,
    "unflattened_size": (2, 2),
    "total_steps": 10,
    "mean": [0.5] * 4,
    "std": [0.5] * 4,
    "device": "cpu",
}  # fmt: skip


@contextmanager
def limits():
    """At most 2 GiB of new memory, and an alarm that interrupts endless loops."""

    def stop(*_):
        raise TimeoutError(f"longer than {SECONDS} s")

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def fresh():
    """New objects whose methods are called."""
    model = nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    return {"Tensor": Tensor(IMAGES.copy(), True), "Module": model}


def parameters_of(function):
    return list(inspect.signature(function).parameters.values())


def draw(rng, parameters):
    """Positional and keyword arguments, most of them sensible."""
    share = rng.choice((0.0, 0.2, 0.5, 1.0))
    positional, named = [], {}
    replaced = rng.choice(parameters).name if parameters else None
    for parameter in parameters:
        absurd = parameter.name == replaced or rng.random() < share
        if not absurd and parameter.default is not parameter.empty:
            continue
        known = not absurd and parameter.name in SENSIBLE
        value = SENSIBLE[parameter.name] if known else rng.choice(ABSURD)
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += rng.choices(ABSURD, k=rng.randrange(3))
        elif parameter.kind is parameter.VAR_KEYWORD:
            named["surplus"] = value
        elif parameter.kind is parameter.POSITIONAL_ONLY or not named and rng.random() < 0.5:
            positional.append(value)
        else:
            named[parameter.name] = value
    return positional, named


def shown(value):
    if isinstance(value, np.ndarray | Tensor):
        return f"{type(value).__name__}{value.shape}"
    return repr(value)[:60]
