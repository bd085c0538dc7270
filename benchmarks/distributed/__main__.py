"""``python -m benchmarks.distributed`` is ``python -m benchmarks distributed``."""

import sys

from benchmarks.__main__ import main

sys.exit(main(["distributed", *sys.argv[1:]]))
