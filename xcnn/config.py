"""Global settings, changeable at any time: ``xcnn.config.convolution = "im2col"``.

Attributes
----------
convolution : str
    How 2-D convolutions are computed: "auto" chooses the fastest method for each shape by a
    measured rule; the name of a method in ``xcnn.convolution.METHODS``, such as "winograd", uses it
    wherever it applies and im2col elsewhere. "im2col" avoids the rounding errors of Winograd's
    method. Initialised from the environment variable ``XCNN_CONVOLUTION``.
"""

from __future__ import annotations

import os

convolution: str = os.environ.get("XCNN_CONVOLUTION", "auto")
