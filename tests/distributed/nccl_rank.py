"""One rank of a training on the stand-in for NCCL: ``FOLDER CASE`` in a process of its own.

It has a GPU of the stand-in, and finds the others through the store, as without mpi4py.
"""

import json
import pathlib
import sys
import time

import numpy as np

import xcnn
from tests.strict import count_syncs, nccl
from tests.strict import cupy as strict_cupy
from xcnn import backends, distributed, nn, optim
from xcnn.backends.cuda import CudaBackend
from xcnn.distributed import nccl as engine


def prepare(folder):
    """Offer two GPUs to this process."""
    gpus = [backends.add_device(CudaBackend(strict_cupy, index)) for index in range(2)]
    backends.register(strict_cupy.ndarray, lambda array: gpus[array.device.id])
    backends.cuda_devices = lambda: [gpu.device for gpu in gpus]
    strict_cupy.cuda._devices = len(gpus)
    nccl.Processes.folder = folder
    engine.find_spec = lambda name: None  # mpi4py


def train(device, **settings):
    """The weights after a training, and how the host waited for the GPU."""
    xcnn.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3)
    model = nn.Sequential(*layers, nn.Linear(36, 10)).to(device)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 1, 8, 8), "float32"), rng.integers(0, 10, 50)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    trainer = xcnn.Trainer(model, optimizer, loss="cross_entropy", **settings)
    with count_syncs() as syncs:
        trainer.fit(x, y, epochs=2, batch_size=16, progress=False)
    return [p.numpy() for p in model.parameters()], syncs


def compare():
    """The largest difference of two ranks on GPUs from one process on the CPU."""
    ranks = distributed.init("nccl")
    weights, syncs = train("cuda", distributed=True)
    expected, _ = train("cpu")
    pairs = zip(weights, expected, strict=True)
    return {
        "engine": ranks.engine,
        "device": backends.get("cuda").device,
        "error": max(float(abs(a - b).max() / abs(b).max()) for a, b in pairs),
        "values": ranks.gather(ranks.rank),
        "waits": sorted({line.split(" at ")[1].split(":")[0] for line in syncs}),
    }


def hang():
    """Rank 1 goes another way, and never comes to the sum."""
    ranks = distributed.init("nccl", timeout=1.0)
    if ranks.rank == 1:
        time.sleep(60)
    array = xcnn.ones(3, device="cuda").data
    ranks.all_reduce(array)
    backends.get("cuda").to_host(array)


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1])
    prepare(path)
    result = {"compare": compare, "hang": hang}[sys.argv[2]]()
    (path / f"{distributed.current().rank}.json").write_text(json.dumps(result))
