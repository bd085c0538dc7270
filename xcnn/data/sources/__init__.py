"""Datasets by name: the registry, and loading them from the package, from files or the network."""

from .loading import Status, load, status
from .registry import Info, info, names

__all__ = ["Info", "Status", "info", "load", "names", "status"]
