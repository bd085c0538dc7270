"""A page in the browser on which a trained network classifies drawings and pictures."""

from __future__ import annotations
