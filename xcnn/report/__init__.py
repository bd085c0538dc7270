"""Reports of trainings, as one HTML file."""

from __future__ import annotations
