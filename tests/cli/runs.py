"""Reading a run folder."""

import csv
import json
from pathlib import Path

import numpy as np

FILES = ["config.json", "history.csv", "model.safetensors"]


def history(folder):
    with open(f"{folder}/history.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {name: Path(folder, name).read_bytes() for name in FILES}


def config(folder):
    with open(f"{folder}/config.json") as file:
        return json.load(file)


def inputs(folder, part, count):
    """The first images, normalised independently of xcnn, and their labels."""
    settings = config(folder)
    pixels, labels = (a[:count] for a in part.arrays)
    x = (pixels / 255.0 - settings["mean"][0]) / settings["std"][0]
    return x.astype(np.float32), labels
