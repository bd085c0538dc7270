"""docs/library.md: its examples run, and it names what there is."""

import re

import pytest

from xcnn import nn, optim

from .conftest import PACKAGE

GUIDE = PACKAGE.parent / "docs" / "library.md"
if not GUIDE.exists():
    pytest.skip("needs a checkout", allow_module_level=True)
TEXT = GUIDE.read_text(encoding="utf-8")


def test_examples(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), names)


def test_every_layer_is_listed():
    layers = {n for n in nn.__all__ if isinstance(getattr(nn, n), type)}
    layers -= {"Buffer", "Loss", "Module", "Parameter"}
    listed = set(re.findall(r"`(\w+)`", TEXT))
    missing = {
        n for n in layers - listed if n[:-2] not in listed or n[-2:] not in ("1d", "2d", "3d")
    }
    assert not missing


def test_every_optimiser_is_listed():
    kinds = [n for n in optim.__all__ if isinstance(getattr(optim, n), type)]
    for name in {*kinds} - {"EMA", "Optimizer", "SWA"}:
        assert re.search(rf"\b{name}\b", TEXT), name
