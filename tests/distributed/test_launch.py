"""How processes are started, and how they meet without mpiexec."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from xcnn import distributed
from xcnn.communicator import SINGLE, set_current
from xcnn.distributed import environment, failures, server
from xcnn.distributed.diagnosis import check_same
from xcnn.distributed.environment import Launch
from xcnn.distributed.store import Store
from xcnn.errors import ArgumentError, CommunicationError

from . import launch

HYDRA = {"PMI_RANK": "3", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN |= {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "3,2(x2),1",
    "SLURM_STEP_NODELIST": "node[07-09],gpu1",
    "SLURM_JOB_ID": "123",
}
NUMBERS = 3, 8, 1, 2


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "7"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # in the script of sbatch
        (HYDRA, Launch("mpiexec", *NUMBERS)),
        (SLURM | HYDRA, Launch("mpiexec", *NUMBERS)),
        (OPEN_MPI, Launch("mpiexec of Open MPI", *NUMBERS)),
        (TORCHRUN, Launch("torchrun", *NUMBERS, "node1", 29500)),
        (
            TORCHRUN | {"TORCHELASTIC_USE_AGENT_STORE": "True"},
            Launch("torchrun", *NUMBERS, "node1", 29501),
        ),
        (SLURM, Launch("srun", *NUMBERS, "node07", 20000 + 123 * 16)),
        (SLURM | {"PMI_FD": "9"}, Launch("srun", *NUMBERS)),
        (
            SLURM | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "5000"},
            Launch("srun", *NUMBERS, "10.0.0.1", 5000),
        ),
    ],
)
def test_environment(variables, expected):
    assert environment.detect(variables) == expected


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set, but RANK, MASTER_ADDR, MASTER_PORT not: set all"),
        (TORCHRUN | {"RANK": "8"}, "rank 8 of 8"),
        (TORCHRUN | {"RANK": "x"}, "RANK='x' in the environment: expected a number"),
        (HYDRA | {"MPI_LOCALRANKID": "2"}, "2 of 2 on this machine"),
        (HYDRA | {"PMI_SIZE": "9" * 5000}, "expected a number"),
        ({"RANK": "1", "MASTER_ADDR": "a"}, "MASTER_ADDR is set, but WORLD_SIZE, MASTER_PORT not"),
        (TORCHRUN | {"MASTER_PORT": "65536"}, "MASTER_PORT=65536 in the environment"),
        (TORCHRUN | {"MASTER_PORT": "0"}, "MASTER_PORT=0 in the environment"),
        (SLURM | {"MASTER_PORT": "-1"}, "MASTER_PORT='-1' in the environment"),
        (SLURM | {"SLURM_NODEID": "4"}, "1 of 0 on this machine"),
    ],
)
def test_wrong_environment(variables, message):
    with pytest.raises(CommunicationError, match=re.escape(message)):
        environment.detect(variables)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("n[1,3]", "n1"),
        ("n[01-03]-x,m", "n01-x"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_first_node(text, node):
    assert environment.first_node(text) == node


def test_alone(monkeypatch):
    for name in (*HYDRA, *TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    try:
        ranks = distributed.init()
        assert (ranks.rank, ranks.size, ranks.engine) == (0, 1, "single")
        assert distributed.init() is ranks is distributed.current()
    finally:
        set_current(SINGLE)
    with pytest.raises(ArgumentError, match="engine"):
        distributed.init("gloo")
    with pytest.raises(ArgumentError, match="timeout=-1: expected a number > 0"):
        distributed.init(timeout=-1)
    for name, text in (HYDRA | {"PMI_FD": "999"}).items():  # inherited from a rank, but closed
        monkeypatch.setenv(name, text)
    assert distributed.launched() == 1


def test_different_versions():
    one = {"machine": "a", "same": {"numpy": "2.4.0"}}
    two = {"machine": "b", "same": {"numpy": "2.3.0"}}
    check_same([one, one])
    with pytest.raises(
        CommunicationError,
        match=r"numpy: 2\.4\.0 on rank 0 \(a\), 2\.3\.0 on rank 2 \(b\)",
    ):
        check_same([one, one, two])


#: what others may send to the port of the store
STRANGERS = b"GET / HTTP/1.1\r\n\r\n", b"cmd=initack pmiid=9\n", b"\xff=\n", b"\n"
STRANGERS += (bytes(server.LONGEST + 2**17),)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_store():
    """Three ranks in threads, with a stranger on the port."""
    port = free_port()

    def work(rank):
        store = Store("127.0.0.1", port, rank, 3, 10)
        if rank == 0:
            for said in STRANGERS:
                address = "127.0.0.1", port
                with socket.create_connection(address) as one, suppress(ConnectionError):
                    one.sendall(said)
                    one.settimeout(5)
                    assert one.recv(10) == b""  # closed
        if rank == 2:
            store.put("key", "é value=1\n")
        assert store.get("key") == "é value=1\n"
        store.barrier()
        assert store.look("none") is None
        store.barrier()
        if rank == 1:
            store.remove("key")
        store.barrier()
        assert store.look("key") is None
        with pytest.raises(ArgumentError, match="at most"):
            store.put("key", "x" * server.LONGEST)
        channel = failures.StoreChannel(store)
        channel.tell(f"from {rank}")
        store.barrier()
        heard = channel.told()
        store.close()
        return sorted(heard)

    with ThreadPoolExecutor(3) as pool:
        heard = [*pool.map(work, range(3))]
    texts = [(rank, f"from {rank}") for rank in range(3)]
    assert heard == [[text for text in texts if text[0] != rank] for rank in range(3)]


def test_nobody_at_the_store():
    with pytest.raises(CommunicationError, match=r"rank 0 of 2 has waited 0\.5 s .*barrier"):
        Store("127.0.0.1", 0, 0, 2, 0.5).barrier()
    with pytest.raises(CommunicationError, match=r"cannot reach rank 0 at 127.*firewall"):
        Store("127.0.0.1", free_port(), 1, 2, 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommunicationError, match="cannot listen on 127"):
            Store("127.0.0.1", port, 0, 2, 0.1)


def torchrun(what, **others):
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    variables = lambda rank: {"RANK": str(rank), **shared, **others}  # noqa: E731
    return launch.torchrun(2, "-m", "tests.distributed.failing", what, variables=variables)


def test_torchrun_and_mpi():
    """MPICH finds the other processes through our store; the failure is printed once."""
    ended = torchrun("exception", LOCAL_WORLD_SIZE="2")
    assert [process.returncode for process in ended] == [1, 1]
    assert ended[0].stderr == ""
    assert re.fullmatch(r"rank 1 of 2:\nTraceback (.*\n)*ValueError: spoilt\n", ended[1].stderr)


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", ["nothing", "SIGKILL"])
def test_ends_with_torchrun(what):
    ended = torchrun(what)
    printed = "".join(process.stderr for process in ended)
    expected = {
        "nothing": ([0, 0], ""),
        "SIGKILL": ([1, -9], "xcnn: rank 1 of 2 was killed or has crashed; all ranks end\n"),
    }[what]
    assert [process.returncode for process in ended] == expected[0]
    assert printed == expected[1]


@pytest.mark.exhaustive
def test_hosts_file(tmp_path):
    (tmp_path / "hosts").write_text("localhost:2\n")
    options = ["-launcher", "fork", "-f", tmp_path / "hosts"]
    ended = launch.mpiexec(2, "-m", "xcnn", "doctor", "--distributed", options=options)
    assert ended.returncode == 0 or "are busy" in ended.stdout, ended.stderr
    assert re.match(r"processes +2, connected by mpi\nrank 0 ", ended.stdout)
    assert re.search(r"^16 MiB .* GB/s$", ended.stdout, re.M)


@pytest.mark.exhaustive
def test_another_mpiexec_is_noticed():
    """The variables of another MPI: each process is alone for this one."""
    variables = lambda rank: {**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0"}  # noqa: E731
    (ended,) = launch.torchrun(1, "-m", "tests.distributed.failing", "x", variables=variables)
    assert "started 8 processes, but MPI sees 1: its mpiexec is not of the MPI" in ended.stderr
