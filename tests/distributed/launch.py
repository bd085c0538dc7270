"""Runs checks in several processes of MPI: ``run("tests.distributed.checks", ranks=2)``.

The functions of a module named ``check_*`` take the communicator, and return something that JSON
holds. All of them run, in their order, in one call of mpiexec, which takes a second to start.
"""

import contextlib
import fcntl
import importlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

import pytest

ROOT = pathlib.Path(__file__).parents[2]
_BESIDE = pathlib.Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_BESIDE) if _BESIDE.exists() else shutil.which("mpiexec")
REASON = "no mpiexec" if not MPIEXEC else ""
if importlib.util.find_spec("mpi4py") is None:
    REASON = "needs: pip install mpi4py mpich"


def run_once(folder, module, ranks, **settings):
    """:func:`run` in one of pytest's processes, for all: more ranks than cores are slow."""
    with open(folder / f"{ranks}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / f"{ranks}.json"
        if not path.exists():
            path.write_text(json.dumps(run(module, ranks, **settings)))
        return json.loads(path.read_text())


def run(module, ranks, timeout=60, checks=(), **settings):
    """The values of each check of a module, a list by rank, by the name of the check.

    ``checks`` are the names of those to run; by default all. Fails with the tracebacks of all ranks
    if a check raised an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-m", __name__, module, folder, *checks]
        process = mpiexec(ranks, *arguments, timeout=timeout, **settings)
        outcomes = {}  # by check and rank
        for rank in range(ranks):
            path = pathlib.Path(folder, f"{rank}.jsonl")
            for line in path.read_text().splitlines() if path.exists() else ():
                name, outcome = json.loads(line)
                outcomes.setdefault(name, {})[rank] = outcome
    errors = [
        f"{name} on rank {rank} of {ranks}:\n{outcome['error']}"
        for name, by_rank in outcomes.items()
        for rank, outcome in by_rank.items()
        if "error" in outcome
    ]
    if errors or process.returncode:
        pytest.fail("\n".join([*errors, f"status {process.returncode}", process.stderr]))
    return {
        name: [by_rank[rank]["value"] for rank in range(ranks)]
        for name, by_rank in outcomes.items()
    }


def mpiexec(ranks, *arguments, options=(), **settings):
    """The completed ``mpiexec -n RANKS python ARGUMENTS``; the test is skipped without MPI."""
    if REASON:
        pytest.skip(REASON)
    command = [MPIEXEC, *options, "-n", str(ranks), sys.executable, *map(str, arguments)]
    return finish(start(command, **settings), settings.get("timeout", 60))


def torchrun(ranks, *arguments, variables, timeout=60):
    """The completed processes, started each on its own with ``variables(rank)``."""
    if REASON:
        pytest.skip(REASON)
    command = [sys.executable, *map(str, arguments)]
    processes = [start(command, variables=variables(rank)) for rank in range(ranks)]
    return [finish(process, timeout) for process in processes]


def start(command, variables=(), timeout=None):
    """A process in a group of its own, with one thread of BLAS; ``timeout`` is for ``finish``."""
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        **dict(variables),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def finish(process, timeout):
    """The result of a process; its group is killed after ``timeout`` seconds."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        errors += f"\nkilled after {timeout} s"
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _main(module, folder, *names):
    from xcnn import distributed

    ranks = distributed.init("mpi", timeout=20)
    checks = importlib.import_module(module)
    with open(pathlib.Path(folder, f"{ranks.rank}.jsonl"), "w", encoding="utf-8") as file:
        for name, check in vars(checks).items():
            if name in names or (name.startswith("check_") and not names):
                try:
                    outcome = {"value": check(ranks)}
                except Exception:
                    outcome = {"error": traceback.format_exc()}
                file.write(json.dumps([name, outcome]) + "\n")
                file.flush()
                if "error" in outcome:  # the others would wait
                    ranks.fail(f"{name} failed")


if __name__ == "__main__":
    _main(*sys.argv[1:])
