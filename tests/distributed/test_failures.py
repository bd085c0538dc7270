"""One rank fails: all end, soon, with one message."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import launch

#: what happens on rank 1, and what is printed
FAILURES = {
    "everyone": r"rank 0 of 2:\nTraceback (.*\n)*ValueError: spoilt\n",
    "thread": r"rank 1 of 2:\nTraceback (.*\n)*ZeroDivisionError: division by zero\n",
    "exit": r"rank 0 of 2: rank 1 ended before all-reduce number 1, for which this rank waits\n",
    "order": r"rank 0 of 2: the ranks wait for each other: "
    r"rank 0 in all-reduce number 1, rank 1 in broadcast number 1; all ranks must ",
    "SIGSTOP": r"rank 0 of 2: rank 1 did not come to all-reduce number 1 within 2 s \(stopped, ",
    "never": r"Timeout .*\n(.*\n)*.*in _wait_until_all_ranks_connect\n",
    "left a sum": r"$",
    "a sum and values": r"rank \d of 2:\nTraceback (.*\n)*.*made different collective calls",
    "SIGKILL": "",  # mpiexec prints it
}


@pytest.mark.exhaustive
def test_all_end_with_one_message():
    """Several at once: most of the time, their processes start or wait."""

    def end(what):
        begin = time.monotonic()
        ended = launch.mpiexec(2, "-m", "tests.distributed.failing", what, timeout=40)
        return ended, time.monotonic() - begin

    with ThreadPoolExecutor(3) as pool:
        for what, (ended, seconds) in zip(FAILURES, pool.map(end, FAILURES), strict=True):
            assert ended.returncode, what
            assert seconds < 30, what
            assert re.match(FAILURES[what], ended.stderr), (what, ended.stderr)
            if what == "SIGKILL":
                assert re.search("signal:? 9", ended.stdout + ended.stderr, re.I)
            elif what in FAILURES.keys() - {"never", "left a sum"}:
                assert len(re.findall(r"^(?:rank \d|xcnn:)", ended.stderr, re.M)) == 1, what
