"""Files of earlier versions, which later ones must read.

``python -m tests.saved_files`` writes those of this version to ``tests/saved/VERSION``; it is one
of the steps of a release.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

import xcnn
from xcnn.cli import main

FOLDER = Path(__file__).parent / "saved"
TRAIN = "train --data moons --limit 60 --epochs 3 --ema 0.9 --metrics auroc --device cpu --quiet"
X = np.linspace(-1, 1, 20, dtype=np.float32).reshape(10, 2)


def write(folder: Path) -> None:
    """Write a run folder and what its network predicts."""
    shutil.rmtree(folder, ignore_errors=True)
    assert main([*TRAIN.split(), "--keep", "1", "--out", str(folder / "run")]) == 0
    model = xcnn.load(folder / "run" / "model.safetensors")
    expected = {"predictions": xcnn.Trainer(model).predict(X).tolist()}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    write(FOLDER / xcnn.__version__)
