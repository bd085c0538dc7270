"""Figures of trainings, predictions and networks, with matplotlib."""

from __future__ import annotations
