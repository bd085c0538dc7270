"""Makes ``digits.npz`` (needs scikit-learn): ``python -m xcnn.data.sources.make_digits PATH``."""

from __future__ import annotations

import sys

import numpy as np

from ..dataset import stratified

SEED = 20240


def write(path: str) -> None:
    """Write scikit-learn's copy of the digits, and the split, to ``path``.

    The split is stored too, so that it does not depend on the version of NumPy.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.uint8)
    images = bunch.images.astype(np.uint8)
    np.savez_compressed(path, images=images, labels=labels, train=stratified(labels, seed=SEED))


if __name__ == "__main__":
    write(sys.argv[1])
