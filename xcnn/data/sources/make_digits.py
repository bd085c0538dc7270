"""Write ``digits.npz`` (needs scikit-learn): ``python -m xcnn.data.sources.make_digits PATH``."""

from __future__ import annotations

import sys

import numpy as np

from ..splits import stratified_split

SEED = 20240


def write(path: str) -> None:
    """Write scikit-learn's copy of the digits to ``path``.

    The split is stored too, so that it does not depend on the NumPy version.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    train = stratified_split(labels, seed=SEED)
    np.savez_compressed(path, images=images, labels=labels, train=train)


if __name__ == "__main__":
    write(sys.argv[1])
