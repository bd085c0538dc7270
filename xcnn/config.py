"""Settings of the library, to be changed at any time: ``xcnn.config.convolution = "im2col"``.

Attributes
----------
convolution : str
    How 2-D convolutions are computed: "auto", the fastest method for each shape by a measured
    rule; or "depthwise", "grouped", "im2col", "mec", "pointwise" or "winograd" wherever that
    method applies, else im2col. First set from the environment variable ``XCNN_CONVOLUTION``.
    "im2col" turns Winograd's rounding off.
"""

from __future__ import annotations

import os

convolution: str = os.environ.get("XCNN_CONVOLUTION", "auto")
