"""A program that fails in the way that its argument says, for ``test_failures.py``."""

import os
import signal
import sys
import threading
import time

import numpy as np

from xcnn import distributed

what = sys.argv[1]
if what == "never" and os.environ.get("PMI_RANK") == "1":
    time.sleep(20)
ranks = distributed.init("mpi", timeout=2)
last = ranks.rank == ranks.size - 1
ranks.barrier()
if what == "everyone" or (what == "exception" and last):
    raise ValueError("spoilt")
if what == "thread" and last:
    threading.Thread(target=lambda: 1 / 0).start()
    time.sleep(20)
if what == "exit" and last:
    sys.exit()
if what == "order" and last:
    ranks.broadcast(np.zeros(3))
if what == "left a sum":
    work = ranks.start_all_reduce(np.ones(10, "float16"))  # in two steps
    if not last:
        time.sleep(0.5)
        work.wait()
    sys.exit(7)
if what == "a sum and values":
    array = np.ones(10)
    [lambda: ranks.all_reduce(array), lambda: ranks.gather(1)][last]()
if what in ("SIGKILL", "SIGSTOP") and last:
    os.kill(os.getpid(), getattr(signal, what))
if what == "nothing":
    if last:
        time.sleep(2.5)  # longer than the timeout, which is for calls
    sys.exit()
ranks.all_reduce(np.zeros(3))
