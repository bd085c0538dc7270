"""A pytest plugin that selects the tests of the ``backend`` fixture on one device.

pytest -p benchmarks.gpu.plugin --only-backend cuda
"""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--only-backend", metavar="DEVICE", required=True)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    device = config.getoption("only_backend")
    config.hook.pytest_deselected(items=[item for item in items if not runs_on(item, device)])
    items[:] = [item for item in items if runs_on(item, device)]


def runs_on(item: Any, device: str) -> bool:
    """Whether the test's parameter ``backend`` is ``device``, whatever its name and id."""
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("backend") == device
