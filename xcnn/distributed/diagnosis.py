"""What differs between ranks, and how fast they talk to each other."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from .. import backends, fingerprint
from ..communicator import Communicator
from ..errors import CommunicationError

_PACKAGES = "numpy", "mpi4py", "mpich"
_SIZES = (4, 2**12, 2**16, 2**20, 2**24)  # bytes of a sum
_SLOW = 0.05  # seconds for a sum of one number


def identity() -> dict[str, Any]:
    """What should be the same on all ranks: versions, and a hash of xcnn's code and the program's.

    Also the machine and the cores that this process may use, which may differ.
    """
    versions = {"Python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = os.sched_getaffinity(0) if has_affinity else range(os.cpu_count() or 1)
    place = {"machine": socket.gethostname(), "cores": sorted(cores)}
    return {**place, "same": {**versions, "the code": fingerprint.of_code()}}


def check_same(identities: list[dict[str, Any]]) -> None:
    """Require the same versions and code on all ranks.

    Raises
    ------
    CommunicationError
        They differ.
    """
    for name, ranks in fingerprint.differences([one["same"] for one in identities]):
        texts = [
            f"{value} on rank {first} ({identities[first]['machine']})"
            for value, (first, *_) in ranks.items()
        ]
        raise CommunicationError(
            f"the ranks have different versions of {name}: {', '.join(texts)}; "
            "install the same on all machines, or start all from one shared folder"
        )


def sharing(identities: list[dict[str, Any]], rank: int) -> int:
    """How many ranks use the same cores as ``rank``: ``mpiexec -bind-to`` gives each its own."""
    place = [(one["machine"], one["cores"]) for one in identities]
    return place.count(place[rank])


def transfers(communicator: Communicator) -> Iterator[tuple[str, str, str]]:
    """Bytes, time and bandwidth of sums, of which the results are checked.

    The bandwidth counts the 2·(P−1)/P times the bytes of the array that each of P ranks must send.

    Raises
    ------
    CommunicationError
        A result is wrong.
    """
    xp = backends.get("cpu").xp
    ranks, size = communicator, communicator.size
    expected = size * (size + 1) / 2
    for count in _SIZES:
        array = xp.zeros(count // 4, "float32")
        seconds = _time(ranks.all_reduce, array)
        array.fill(ranks.rank + 1)
        ranks.all_reduce(array)
        _require(bool((array == expected).all()), f"a sum of {count} bytes")
        bandwidth = 2 * (size - 1) / size * count / seconds / 1e9
        yield _bytes(count), f"{1e6 * seconds:,.0f} µs", f"{bandwidth:.2f} GB/s"
    for root in range(size):  # from each rank in turn
        array = xp.full(1001, ranks.rank)
        ranks.broadcast(array, root)
        _require(bool((array == root).all()), f"a broadcast from rank {root}")
        _require(ranks.share(f"text of {ranks.rank}", root) == f"text of {root}", "sharing a text")
    _require(ranks.gather(ranks.rank) == list(range(size)), "gathering numbers")


def problems(communicator: Communicator, identities: list[dict[str, Any]]) -> list[str]:
    """What will be slow or fail, in words; on all ranks."""
    xp, found = backends.get("cpu").xp, []
    ranks = communicator
    machines = sorted({one["machine"] for one in identities})
    for machine in machines:
        here = [one for one in identities if one["machine"] == machine]
        cores = {core for one in here for core in one["cores"]}
        if len(here) > len(cores):
            found.append(
                f"{machine}: {len(here)} ranks on {len(cores)} cores wait for each other; start "
                "one for each socket or GPU, or at most one for each core"
            )
    gpus = ranks.gather(len(backends.cuda_devices()))
    if any(gpus) and ranks.engine == "mpi":
        from .mpi import is_cuda_aware

        if not is_cuda_aware():
            found.append(
                "there are GPUs, but this MPI cannot read their memory: arrays are copied through "
                'the host; use distributed.init("nccl"), or an MPI built with CUDA'
            )
    address = ""
    with suppress(OSError):
        address = socket.gethostbyname(socket.gethostname())
    local = [i for i, a in enumerate(ranks.gather(address)) if a.startswith("127.")]
    if len(machines) > 1 and local:
        found.append(
            f"the name of the machine of rank {local[0]} stands for the loopback address on that "
            "machine (/etc/hosts), so others may not reach it"
        )
    one = xp.ones(1)
    seconds = max(ranks.gather(_time(ranks.all_reduce, one)))
    if seconds > _SLOW:
        found.append(
            f"a sum of one number takes {1000 * seconds:.0f} ms: the cores are busy, or the "
            "network is slow or refuses connections (firewall) and others are tried"
        )
    return found


def _time(work: Callable[[Any], None], array: Any) -> float:
    """The median time of a call, in seconds."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        work(array)
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)[2]


def _bytes(count: int) -> str:
    shift, unit = next(u for u in ((20, "MiB"), (10, "KiB"), (0, "B")) if count >> u[0])
    return f"{count >> shift} {unit}"


def _require(is_right: bool, what: str) -> None:
    if not is_right:
        raise CommunicationError(f"{what} came out wrong: the connection or the MPI is broken")
