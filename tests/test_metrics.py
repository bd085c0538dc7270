"""What a mean loss divides by, and the metrics, over batches of any sizes."""

import itertools
import warnings

import numpy as np
import pytest

import xcnn
from xcnn import nn

from .conftest import normal
from .strict.watch import count_syncs

SPLITS = [[7], [1] * 7, [3, 4], [4, 0, 2, 1]]
splits = pytest.mark.parametrize("sizes", SPLITS, ids=str)


def parts(sizes, *arrays):
    """The arrays in batches of these sizes."""
    edges = np.cumsum([0, *sizes])
    assert edges[-1] == len(arrays[0])
    for start, stop in itertools.pairwise(edges):
        yield [array[start:stop] for array in arrays]


# -- what a mean loss divides by -----------------------------------------------------------


def probabilities(*shape, seed=3, axis=1):
    e = np.exp(normal(*shape, seed=seed))
    return e / e.sum(axis=axis, keepdims=True)


def labels(*shape, classes=4, ignored=None):
    target = np.random.default_rng(5).integers(0, classes, shape)
    if ignored is not None:
        target[::3] = ignored  # the first example entirely
        target.reshape(-1)[-1] = ignored
    return target


CLASS_WEIGHT = np.array([0.5, 0, 2, 1.25])
LOGITS, SPATIAL = normal(7, 4), normal(7, 4, 3, 2)
P = 1 / (1 + np.exp(-LOGITS))
LOSSES = {
    "mse": ("MSELoss", {}, LOGITS, normal(7, 4, seed=1)),
    "l1": ("L1Loss", {}, SPATIAL, normal(7, 4, 3, 2, seed=1)),
    "huber": ("HuberLoss", {"delta": 0.5}, LOGITS, normal(7, 4, seed=1)),
    "smooth_l1": ("SmoothL1Loss", {}, LOGITS[:, 0], LOGITS[:, 1]),
    "kl_div": ("KLDivLoss", {}, np.log(probabilities(7, 4)), probabilities(7, 4, seed=8)),
    "bce": ("BCELoss", {}, P, (LOGITS > 0.3) * 1.0),
    "bce weight": ("BCELoss", {"weight": CLASS_WEIGHT}, P, (LOGITS > 0.3) * 1.0),
    "logits": (
        "BCEWithLogitsLoss",
        {"weight": CLASS_WEIGHT, "pos_weight": CLASS_WEIGHT + 1},
        LOGITS,
        (LOGITS > 0.3) * 1.0,
    ),
    "probabilities": (
        "CrossEntropyLoss",
        {"weight": CLASS_WEIGHT, "label_smoothing": 0.1},
        SPATIAL,
        probabilities(7, 4, 3, 2),
    ),
    **{
        f"{name} {ignored} {'weighted' if weighted else ''} {shape}": (
            name,
            {"ignore_index": ignored, **({"weight": CLASS_WEIGHT} if weighted else {})},
            np.log(probabilities(*shape)),
            labels(shape[0], *shape[2:], ignored=ignored),
        )
        for name in ("CrossEntropyLoss", "NLLLoss")
        for ignored in (-100, 1, 255)
        for weighted in (False, True)
        for shape in ((7, 4), (7, 4, 3, 2))
    },
}
losses = pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES)


def make_loss(backend, name, settings, **more):
    moved = {k: backend.asarray(v) if "weight" in k else v for k, v in settings.items()}
    return getattr(nn, name)(**moved, **more)


def summed(backend, loss, sizes, output, target):
    """The sums of :meth:`Loss.total` over batches, on the host."""
    total = divisor = 0
    for x, y in parts(sizes, output, target):
        x, y = backend.asarray(x), backend.asarray(y)
        found = loss.total(loss(x, y), x, y)
        assert found[0].dtype == output.dtype
        total += float(found[0])
        divisor += float(found[1])
    return total, divisor


def peer_loss(name, settings, reduction, output, target):
    """PyTorch's loss of all examples at once."""
    torch = pytest.importorskip("torch")
    moved = {k: torch.tensor(v) if "weight" in k else v for k, v in settings.items()}
    peer = getattr(torch.nn, name)(**moved, reduction=reduction)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "reduction: 'mean' divides")  # of KLDivLoss
        return peer(torch.tensor(output), torch.tensor(target)).item()


@splits
@losses
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_mean_does_not_depend_on_the_batch_size(backend, row, reduction, sizes):
    name, settings, output, target = row
    loss = make_loss(backend, name, settings, reduction=reduction)
    total, divisor = summed(backend, loss, sizes, output, target)
    expected = peer_loss(name, settings, "mean", output, target)
    assert total / divisor == pytest.approx(expected, rel=1e-9)


@splits
@losses
def test_a_sum_is_a_mean_per_example(backend, row, sizes):
    name, settings, output, target = row
    loss = make_loss(backend, name, settings, reduction="sum")
    total, divisor = summed(backend, loss, sizes, output, target)
    assert total == pytest.approx(peer_loss(name, settings, "sum", output, target), rel=1e-9)
    if target.dtype.kind == "i":
        examples = (target != settings["ignore_index"]).sum()
    else:  # pixels of classes are examples too
        examples = 42 if row is LOSSES["probabilities"] else 7
    assert divisor == examples


@splits
def test_batchmean_does_not_depend_on_the_batch_size(backend, sizes):
    name, settings, output, target = LOSSES["kl_div"]
    total, divisor = summed(backend, nn.KLDivLoss("batchmean"), sizes, output, target)
    expected = peer_loss(name, settings, "batchmean", output, target)
    assert divisor == 7
    assert total / divisor == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
@pytest.mark.parametrize("weight", [None, CLASS_WEIGHT], ids=["plain", "weighted"])
def test_a_batch_of_ignored_labels_counts_for_nothing(backend, name, weight, dtype):
    settings = (
        {"ignore_index": 255, "weight": weight} if weight is not None else {"ignore_index": 255}
    )
    loss = make_loss(backend, name, settings)
    x = xcnn.Tensor(backend.asarray(SPATIAL), requires_grad=True)
    y = backend.asarray(np.full((7, 3, 2), 255, dtype))
    mean = loss(x, y)
    mean.backward()
    assert not backend.to_host(x.grad).any()
    assert np.isnan(mean.item())
    total, divisor = loss.total(mean, x, y)
    assert float(total) == 0 == float(divisor)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
def test_a_batch_of_ignored_labels_has_no_gradient_in_pytorch_either(name):
    torch = pytest.importorskip("torch")
    x = torch.tensor(SPATIAL, requires_grad=True)
    mean = getattr(torch.nn, name)()(x, torch.full((7, 3, 2), -100))
    mean.backward()
    assert torch.isnan(mean)
    assert not x.grad.any()


def test_a_diverged_loss_stays_nan(backend):
    x, y = backend.asarray(np.full((2, 3), np.nan)), backend.asarray(np.array([0, 1]))
    loss = nn.CrossEntropyLoss()
    assert np.isnan(float(loss.total(loss(x, y), x, y)[0]))


def test_other_losses_count_examples(backend):
    class Worst(nn.Loss):
        target = "custom"

        def __init__(self):  # as a wrapper of a function: no reduction
            pass

    x = backend.asarray(normal(5, 3, 2))
    total, divisor = Worst().total(backend.xp.asarray(2.5), x, backend.asarray(normal(5, 9)))
    assert (float(total), divisor) == (12.5, 5)


def test_totals_of_losses_do_not_wait_for_the_device(strict):
    for name, settings, output, target in LOSSES.values():
        loss = make_loss(strict, name, settings)
        x, y = strict.asarray(output), strict.asarray(target)
        with count_syncs() as syncs:
            loss.total(loss(x, y), x, y)
        assert syncs == []
