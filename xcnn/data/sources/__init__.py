"""Datasets by name: registry, loading and downloading."""

from .download import DownloadError as DownloadError
from .download import fetch as fetch
from .files import Digest as Digest
from .files import cache_dir as cache_dir
from .loading import Status, load, status
from .registry import Info, info, names

__all__ = ["Info", "Status", "info", "load", "names", "status"]
