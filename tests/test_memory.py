"""Memory of freed arrays is kept for the next ones, on Linux with glibc."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import xcnn
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.empty(750_000, np.float32) for _ in range(8)]  # 3 MB each: 732 pages
    for array in arrays:
        array.fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""

pytest.importorskip("resource", reason="Windows counts no page faults")


def faults_of_the_second_round(**variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    environment.pop("GLIBC_TUNABLES", None)
    found = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or os.confstr("CS_GNU_LIBC_VERSION") is None, reason="needs glibc"
)
class TestFreedMemory:
    def test_is_reused(self):
        assert faults_of_the_second_round() < 100

    @pytest.mark.parametrize(
        "variables", [{"XCNN_KEEP_MEMORY": "0"}, {"MALLOC_ARENA_MAX": "2"}], ids=str
    )
    def test_the_user_can_refuse(self, variables):
        assert faults_of_the_second_round(**variables) > 4_000  # of 5,856
