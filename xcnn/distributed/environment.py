"""Which rank this process is, from the environment variables of what started it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import CommunicationError

_TORCHRUN = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
#: (rank, size, rank and size on this machine) of launchers that also connect the processes of MPI
_MPIEXEC = {
    "mpiexec of Open MPI": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "mpiexec": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
}


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes
    ----------
    launcher : str
        "mpiexec", "srun" or "torchrun", for messages.
    rank, size, local_rank, local_size : int
        As of :class:`~xcnn.distributed.Communicator`.
    host, port : str, int
        Where rank 0 serves the store; port 0 with mpiexec, whose processes need none.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int = 0
    local_size: int = 1
    host: str = ""
    port: int = 0

    @property
    def connects_mpi(self) -> bool:
        """Whether MPI finds the other processes by itself."""
        return self.port == 0


def detect(variables: Mapping[str, str]) -> Launch | None:
    """How the process with these environment variables was started; None if on its own.

    mpiexec comes first: in a job of Slurm, its processes have the variables of Slurm too.

    Raises
    ------
    CommunicationError
        Variables are missing or contradict each other.
    """
    for launcher, names in _MPIEXEC.items():
        if names[0] in variables and names[1] in variables:
            return _checked(launcher, _numbers(variables, names))
    if "SLURM_STEP_NUM_TASKS" in variables and "SLURM_PROCID" in variables:
        return _of_slurm(variables)
    if "WORLD_SIZE" not in variables and not {"RANK", "MASTER_ADDR"} <= variables.keys():
        return None
    if missing := [name for name in _TORCHRUN if not variables.get(name)]:
        raise CommunicationError(
            f"{', '.join(n for n in _TORCHRUN if n not in missing)} is set, but "
            f"{', '.join(missing)} not: set all of {', '.join(_TORCHRUN)} (and LOCAL_RANK, "
            "LOCAL_WORLD_SIZE), as torchrun does, or none"
        )
    rank, size, port = _numbers(variables, ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    local = _numbers({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"} | dict(variables), _LOCAL)
    # torchrun itself may listen at MASTER_PORT
    port = _checked_port(port + (variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True"))
    return _checked("torchrun", [rank, size, *local], variables["MASTER_ADDR"], port)


_DIGITS = 9  # of Slurm's numbers of jobs, too
_LOCAL = "LOCAL_RANK", "LOCAL_WORLD_SIZE"


def _of_slurm(variables: Mapping[str, str]) -> Launch:
    names = "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"
    rank, size, local_rank = _numbers(variables, names)
    (node,) = _numbers({"SLURM_NODEID": "0"} | dict(variables), ["SLURM_NODEID"])
    counts = tasks_per_node(variables.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    local_size = counts[node] if node < len(counts) else 0  # refused below
    if {"PMI_FD", "PMIX_RANK"} & variables.keys():  # srun --mpi=pmi2 or pmix
        return _checked("srun", [rank, size, local_rank, local_size])
    host = variables.get("MASTER_ADDR") or first_node(
        variables.get("SLURM_STEP_NODELIST", variables.get("SLURM_LAUNCH_NODE_IPADDR", ""))
    )
    # the same on all ranks, and another for each job and step
    of_job = "SLURM_JOB_ID", "SLURM_STEP_ID"
    job, step = _numbers(dict.fromkeys(of_job, "0") | dict(variables), of_job)
    default = {"MASTER_PORT": str(20000 + (job * 16 + step) % 10000)}
    (port,) = _numbers(default | dict(variables), ["MASTER_PORT"])
    return _checked("srun", [rank, size, local_rank, local_size], host, _checked_port(port))


def tasks_per_node(text: str) -> list[int]:
    """``[4, 4, 3]`` for Slurm's "4(x2),3"."""
    counts = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts


def first_node(text: str) -> str:
    """``"node07"`` for Slurm's "node[07-09,12],gpu1"."""
    match = re.match(r"([^\[,]*)(?:\[(\w+)[^\]]*\]([^,]*))?", text)
    return "".join(part or "" for part in match.groups()) if match else ""


def _numbers(variables: Mapping[str, str], names: Iterable[str]) -> list[int]:
    """The values of the variables that are set; those on the machine may be missing."""
    given = [(name, variables[name]) for name in names if name in variables]
    for name, text in given:
        if not text.isdecimal() or len(text) > _DIGITS:
            raise CommunicationError(f"{name}={text!r} in the environment: expected a number")
    return [int(text) for _, text in given]


def _checked_port(port: int) -> int:
    if not 0 < port < 2**16:
        raise CommunicationError(f"MASTER_PORT={port} in the environment: expected 1 to 65535")
    return port


def _checked(launcher: str, numbers: list[int], host: str = "", port: int = 0) -> Launch:
    rank, size, local_rank, local_size = (*numbers, 0, 1)[:4]
    if not (rank < size and local_rank < local_size <= size):
        raise CommunicationError(
            f"started by {launcher} as rank {rank} of {size}, {local_rank} of {local_size} on this "
            "machine, says the environment: ranks count from 0 to below the number of processes"
        )
    return Launch(launcher, rank, size, local_rank, local_size, host, port)
