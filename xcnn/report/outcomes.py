"""What a network makes of some test examples, as its task draws it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data import DataLoader, Subset
from ..tasks import Task
from ..training import Trainer
from .examples import Examples
from .pictures import photo
from .run import Run

#: test examples, and pixels of their pictures in height and width
SHOWN, SIZE = 12, 192


def outcomes(run: Run, trainer: Trainer, task: Task, shown: Examples, epoch: int) -> dict[str, Any]:
    """Pictures of test examples, evenly spaced, with their targets and predictions.

    Returns
    -------
    dict
        "examples": for each "index", "text", "file" (if it has one) and "pictures", pairs of a
        title and a picture; "legend": pairs of a name and a colour; "samples": a picture of new
        examples, or None; "used" and "total": numbers of examples; "epoch" as given.
    """
    test = run.test
    total = len(test.dataset)
    at = np.unique(np.linspace(0, total - 1, min(SHOWN, total)).round().astype(np.int64))
    loader = DataLoader(Subset(test.dataset, at), len(at), transform=test.transform, prefetch=0)
    x, y = next(iter(loader))[:2]
    found, targets = task.predict(trainer, x), task.truth(y)
    files = shown.show(at.tolist()) if shown.are_pictures else [{}] * len(at)
    examples = []
    for number, (index, pixels) in enumerate(zip(at.tolist(), shown.read(at), strict=True)):
        drawn: Mapping[str, Any] = {}
        if shown.are_pictures:
            drawn = task.show(pixels, np.asarray(x)[number], targets[number], found[number])
        example = {"index": index, "text": task.compare(found[number], targets[number])}
        example["pictures"] = [[title, photo(p, (0, 255), SIZE)] for title, p in drawn.items()]
        examples.append({**example, **{k: v for k, v in files[number].items() if k == "file"}})
    samples = task.samples(trainer)
    return {
        "examples": examples,
        "legend": list(task.legend().items()),
        "samples": None if samples is None else photo(samples, (0, 255), 4 * SIZE),
        "used": len(at),
        "total": total,
        "epoch": epoch,
    }
