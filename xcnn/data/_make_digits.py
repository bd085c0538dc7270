"""Makes ``digits.npz`` (needs scikit-learn): ``python -m xcnn.data._make_digits digits.npz``."""

from __future__ import annotations

import sys

import numpy as np

SEED = 20240
TEST_SHARE = 0.2


def stratified(labels: np.ndarray, share: float = TEST_SHARE, seed: int = SEED) -> np.ndarray:
    """Draw a training mask that holds back the same share of every class.

    Parameters
    ----------
    labels : numpy.ndarray
        Integers (N,).
    share : float, default 0.2
        Part that is held back for testing. The total is rounded up, and the classes that are
        nearest to one more image get one more.
    seed : int, default 20240

    Returns
    -------
    numpy.ndarray
        bool (N,), true for training.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    classes, counts = np.unique(labels, return_counts=True)
    quotas = np.floor(counts * share).astype(int)
    missing = int(np.ceil(len(labels) * share)) - quotas.sum()
    quotas[np.argsort(quotas - counts * share, kind="stable")[:missing]] += 1
    train = np.ones(len(labels), bool)
    for label, quota in zip(classes, quotas, strict=True):
        train[rng.permutation(np.flatnonzero(labels == label))[:quota]] = False
    return train


def write(path: str) -> None:
    """Write scikit-learn's copy of the digits, and the split, to ``path``.

    The split is stored too, so that it does not depend on the version of NumPy.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.uint8)
    images = bunch.images.astype(np.uint8)
    np.savez_compressed(path, images=images, labels=labels, train=stratified(labels))


if __name__ == "__main__":
    write(sys.argv[1])
