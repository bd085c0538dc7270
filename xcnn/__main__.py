"""``python -m xcnn``: the same program as ``xcnn``."""

import sys

from .cli import main

sys.exit(main())
