"""Random detections and what pycocotools measures of them.

``python -m tests.coco_cases`` writes the cases of ``tests/data/coco_cases.json`` anew; it needs
pycocotools.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("data") / "coco_cases.json"
SEEDS = (1, 3, 9, 10)


def case(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A prediction and a target: objects of all sizes, most with several detections.

    Some have equal scores, coordinates on a grid, so that many overlaps are equal, more detections
    than count, crowds, areas, or no detections or objects at all.
    """
    rng = np.random.default_rng(seed)
    pictures, classes = rng.integers(1, 7), rng.integers(1, 4)
    found, objects = int(rng.integers(0, 30)) if seed % 7 else 130, int(rng.integers(0, 12))
    sides = rng.choice([12, 30, 40, 120], (pictures, objects, 1))
    sides = sides * rng.uniform(0.5, 1.5, (pictures, objects, 2))
    start = rng.uniform(0, 300, (pictures, objects, 2))
    if seed % 3 == 0:
        sides, start = np.round(sides / 16) * 16 + 8, np.round(start / 16) * 16
    truth = np.concatenate([start, start + sides], -1).round(2)
    labels = rng.integers(0, classes, (pictures, objects))
    labels[rng.random(labels.shape) < 0.2] = -1
    base, guess = (
        np.full((pictures, found, 4), (10.0, 10, 60, 60)),
        np.zeros((pictures, found), int),
    )
    if objects:
        picked = rng.integers(0, objects, (pictures, found))
        base = np.take_along_axis(truth, picked[..., None], 1)
        guess = np.maximum(np.take_along_axis(labels, picked, 1), 0)
    spread = np.tile(base[..., 2:] - base[..., :2], 2) * rng.integers(0, 2, (pictures, found, 1))
    shift = rng.normal(0, 0.12, base.shape) * spread
    boxes = base + (np.round(shift / 8) * 8 if seed % 3 == 0 else shift).round(2)
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 1)
    is_other = rng.random(guess.shape) < 0.2
    guess = np.where(is_other, rng.integers(0, classes + 1, guess.shape), guess)
    guess[rng.random(guess.shape) < 0.1] = -1
    scores = rng.random(guess.shape) if seed % 2 else rng.integers(0, 5, guess.shape) / 5
    prediction = {"boxes": boxes, "scores": scores.round(4), "labels": guess}
    target = {"boxes": truth, "labels": labels}
    if seed % 4 < 2:
        target["crowd"] = rng.random(labels.shape) < 0.2
    if seed % 5 < 2:
        target["area"] = (sides.prod(-1) * rng.uniform(0.5, 1, labels.shape)).round(2)
    return prediction, target


def measured(prediction: dict[str, Any], target: dict[str, Any]) -> np.ndarray:
    """The twelve numbers of pycocotools' COCOeval, NaN for -1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entries(given: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        for n, j in np.argwhere(given["labels"] >= 0).tolist():
            x1, y1, x2, y2 = given["boxes"][n, j].tolist()
            box = [x1, y1, x2 - x1, y2 - y1]
            area = given["area"][n, j].item() if "area" in given else box[2] * box[3]
            found.append({
                "id": len(found) + 1, "image_id": n, "category_id": given["labels"][n, j].item(),
                "bbox": box, "area": area, "iscrowd": int(given.get("crowd", {(n, j): 0})[n, j]),
                "score": given["scores"][n, j].item() if "scores" in given else 1,
            })  # fmt: skip
        return found

    def dataset(things: list[dict[str, Any]]) -> Any:
        coco = COCO()
        images = [{"id": n} for n in range(len(target["labels"]))]
        categories = [{"id": n} for n in range(4)]
        coco.dataset = {"images": images, "annotations": things, "categories": categories}
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset(entries(target)), dataset(entries(prediction)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.where(evaluation.stats < 0, np.nan, evaluation.stats)


if __name__ == "__main__":
    rows = []
    for seed in SEEDS:
        parts = case(seed)
        plain = [{name: of.tolist() for name, of in part.items()} for part in parts]
        numbers = [None if np.isnan(v) else v for v in measured(*parts).tolist()]
        rows.append({"prediction": plain[0], "target": plain[1], "measured": numbers})
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
