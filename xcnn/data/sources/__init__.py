"""Datasets by name: registry, loading and downloading."""

from .loading import Status, load, status
from .registry import Info, info, names

__all__ = ["Info", "Status", "info", "load", "names", "status"]
