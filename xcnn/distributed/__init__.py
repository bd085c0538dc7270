"""Several processes that train one network, each on its share of every batch.

The same script runs on all of them: :func:`init` finds out how many there are.

Examples
--------
>>> from xcnn import distributed
>>> ranks = distributed.init()  # alone, without mpiexec: a single process
>>> ranks.rank, ranks.size
(0, 1)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .. import backends
from ..checks import check_choice, check_number
from ..communicator import SINGLE, Communicator, Work, current, set_current
from ..training import Reducer
from . import diagnosis, environment

__all__ = [
    "Communicator",
    "Reducer",
    "Work",
    "current",
    "device",
    "diagnosis",
    "init",
    "launched",
]

ENGINES = ("mpi", "nccl")
_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"


def init(engine: str = "auto", *, timeout: float = 300.0) -> Communicator:
    """Connect the processes that ``mpiexec``, ``srun`` or ``torchrun`` has started.

    All of them must call it, and from then on make the same collective calls in the same order. A
    process that was started on its own is a single one: so a script runs on a laptop, too. Calling
    it again returns the same.

    From then on, an uncaught exception on one rank is printed once and ends all ranks within about
    a second; so does a rank that is killed.

    Parameters
    ----------
    engine
        "mpi" (``pip install "xcnn[mpi]"``), "nccl" (GPUs), or "auto": NCCL if each process of a
        machine can have a GPU of its own, else MPI.
    timeout
        Seconds: a rank that waits longer in a collective call names the ranks that did not come,
        and ends all. It must be longer than what one rank does while the others wait.

    Returns
    -------
    Communicator
        Which is also :func:`current` from now on. CPU threads are divided among the processes of
        a machine, unless ``OMP_NUM_THREADS`` or the like is set, and "cuda" means the GPU of this
        process.

    Raises
    ------
    CommunicationError
        The processes do not find each other, the environment variables of the launcher are wrong,
        or the ranks have different versions of xcnn, Python or NumPy.
    MissingPackageError
        mpi4py, or what NCCL needs, is not installed.
    """
    check_choice("engine", engine, ("auto", *ENGINES))
    check_number("timeout", timeout, 0, 1e8, above=True)
    if current() is not SINGLE:
        return current()
    launch = _detect()
    if launch is None or launch.size == 1:
        set_current(Communicator())
        return current()
    if engine == "auto":
        gpus = len(backends.cuda_devices())
        # with srun --gpus-per-task, each process sees its own only
        has_own = gpus >= launch.local_size or (gpus and "SLURM_GPUS_PER_TASK" in os.environ)
        engine = "nccl" if has_own else "mpi"
    connect: Callable[..., Any] = import_module(f".{engine}", __name__).connect
    communicator: Communicator = connect(launch, timeout)
    set_current(communicator)
    _divide(communicator)
    return communicator


def launched() -> int:
    """How many processes were started together; 1 without a launcher."""
    launch = _detect()
    return 1 if launch is None else launch.size


def _detect() -> environment.Launch | None:
    """How this process was started; a program that a rank of mpiexec started is on its own."""
    variables = dict(os.environ)
    if "PMI_FD" in variables and not _is_socket(variables["PMI_FD"]):
        inherited = ("PMI_", "MPI_LOCAL")
        variables = {k: v for k, v in variables.items() if not k.startswith(inherited)}
    return environment.detect(variables)


def _is_socket(handle: str) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(int(handle)).st_mode)
    except (OSError, ValueError, OverflowError):
        return False


def device() -> str:
    """The device of this process: "cuda:N" with its rank on the machine as N, or "cpu"."""
    gpus = backends.cuda_devices()
    return gpus[current().local_rank % len(gpus)] if gpus else "cpu"


def _divide(communicator: Communicator) -> None:
    """Give this process its share of the cores, and its GPU; require the same code on all."""
    identities = communicator.gather(diagnosis.identity())
    diagnosis.check_same(identities)
    if not any(name in os.environ for name in _THREADS):
        cpu, mine = backends.get("cpu"), len(identities[communicator.rank]["cores"])
        cpu.limit_threads(max(1, mine // diagnosis.sharing(identities, communicator.rank)))
    if device() != "cpu":
        backends.set_cuda(device())
