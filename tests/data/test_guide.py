"""The examples in docs/data.md run, in order, in one namespace."""

import re
from pathlib import Path

import numpy as np
import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.mark.skipif(not GUIDE.is_file(), reason="not a checkout")
def test_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            np.save(tmp_path / "photos" / name / f"{i}.npy", np.full((3, 64, 64), i, np.uint8))
    names = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S):
        exec(block, names)
    assert names["batch"]["image"].shape == (8, 1, 16, 16)
    assert names["iris"].classes == ["setosa", "versicolor"]
    assert names["iris"].arrays[1].tolist() == [0, 1]
    assert len(names["rest"]) == 45 - 20
    assert names["weights"].shape == (10,)
