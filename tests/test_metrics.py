"""What a mean loss divides by, and the metrics, over batches of any sizes."""

import copy
import itertools
import warnings

import numpy as np
import pytest

import xcnn
from xcnn import metrics, nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError, StateDictError

from .conftest import layouts, normal
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
    "poisson": ("PoissonNLLLoss", {"full": True}, LOGITS, np.abs(normal(7, 4, seed=1))),
    "hinge": ("HingeEmbeddingLoss", {"margin": 0.5}, SPATIAL, np.sign(normal(7, 4, 3, 2, seed=1))),
    "soft_margin": ("SoftMarginLoss", {}, LOGITS, np.sign(normal(7, 4, seed=1))),
    "multi_margin": ("MultiMarginLoss", {"p": 2, "weight": CLASS_WEIGHT}, LOGITS, labels(7)),
    "multilabel_margin": ("MultiLabelMarginLoss", {}, LOGITS, labels(7, 4) - 1),
    "multilabel_soft_margin": (
        "MultiLabelSoftMarginLoss",
        {"weight": CLASS_WEIGHT},
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
    if "ignore_index" in settings:
        examples = (target != settings["ignore_index"]).sum()
    else:  # pixels of classes are examples too
        examples = 42 if row is LOSSES["probabilities"] else 7
    assert divisor == examples


@splits
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("mode", ["multiclass", "binary"])
@pytest.mark.parametrize("name", ["DiceLoss", "TverskyLoss", "LovaszLoss"])
def test_a_mean_over_regions_does_not_depend_on_the_batch_size(
    backend, name, mode, reduction, sizes
):
    settings = {"mode": mode, **({"per_image": True} if name == "LovaszLoss" else {})}
    target = labels(7, 3, 2) if mode == "multiclass" else (SPATIAL > 0.3) * 1.0
    expected = getattr(nn, name)(**settings)(SPATIAL, target).item()
    loss = getattr(nn, name)(**settings, reduction=reduction)
    assert loss.target == {"multiclass": "classes", "binary": "binary"}[mode]
    total, divisor = summed(backend, loss, sizes, SPATIAL, target)
    assert total / divisor == pytest.approx(expected, rel=1e-9)
    if mode == "multiclass":  # pictures count alike, however many of their pixels are ignored
        target = labels(7, 3, 2, ignored=255)
        loss = getattr(nn, name)(**settings, ignore_index=255, reduction=reduction)
        expected = loss(SPATIAL, target).numpy().mean()
        total, divisor = summed(backend, loss, sizes, SPATIAL, target)
        assert total / divisor == pytest.approx(expected, rel=1e-9)


@splits
def test_batchmean_does_not_depend_on_the_batch_size(backend, sizes):
    name, settings, output, target = LOSSES["kl_div"]
    total, divisor = summed(backend, nn.KLDivLoss(reduction="batchmean"), sizes, output, target)
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
    assert not backend.to_host(x.grad.data).any()
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


# -- metrics -------------------------------------------------------------------------------


def computed(backend, metric, sizes, prediction, target):
    """The metric of batches of these sizes."""
    metric.reset()
    for x, y in parts(sizes, prediction, target):
        metric.update(backend.asarray(x), backend.asarray(y))
    return metric.compute()


def sklearn_metrics():
    return pytest.importorskip("sklearn.metrics")


def binary(*shape):
    """Probabilities, with ties, and zeros and ones."""
    scores = np.round(1 / (1 + np.exp(-normal(*shape))), 1)
    return scores, (normal(*shape, seed=4) + scores > 0.7).astype("float64")


AVERAGES = ["macro", "micro", "weighted", None]
COUNTS = {"precision": "precision_score", "recall": "recall_score", "f1": "f1_score"}
# 9 classes: some occur only in targets, only in predictions, or nowhere
MANY = probabilities(7, 9, 2, 3, seed=2), labels(7, 2, 3, classes=3)


def counts_of(prediction, target, classes, ignore_index=-100):
    """Right, predicted and actual examples of each class, by loops."""
    counts = np.zeros((3, classes))
    flat = np.moveaxis(prediction, 1, -1).reshape(-1, classes)
    for scores, label in zip(flat, target.reshape(-1), strict=True):
        if label != ignore_index:
            guess = max(range(classes), key=lambda c: (scores[c], -c))
            counts[:, guess] += [guess == label, 1, 0]
            counts[2, label] += 1
    return counts


def naive_counts(name, average, counts, drop_absent=True):
    """Precision, recall, F1, IoU or Dice by their formulas."""
    if average == "micro":
        counts = counts.sum(axis=1, keepdims=True)
    each, support = [], []
    for right, predicted, actual in counts.T:
        if predicted + actual == 0 and drop_absent and average:
            continue
        above, below = {
            "precision": (right, predicted),
            "recall": (right, actual),
            "f1": (2 * right, predicted + actual),
            "dice": (2 * right, predicted + actual),
            "iou": (right, predicted + actual - right),
        }[name]
        absent = np.nan if name in ("iou", "dice") else 0
        each.append(above / below if below else absent if predicted + actual == 0 else 0)
        support.append(actual)
    if average is None:
        return np.array(each)
    return np.average(each, weights=support if average == "weighted" else None)


@splits
@pytest.mark.parametrize("ignore_index", [-100, 1])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", [*COUNTS, "iou", "dice"])
def test_counts_of_classes(backend, name, average, ignore_index, sizes):
    metric = metrics.create(name, average=average, ignore_index=ignore_index)
    found = computed(backend, metric, sizes, *MANY)
    counts = counts_of(*MANY, 9, ignore_index)
    np.testing.assert_allclose(found, naive_counts(name, average, counts), rtol=1e-12)
    assert isinstance(found, float if average else np.ndarray)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_classes_as_in_scikit_learn(backend, name, average):
    found = computed(backend, metrics.create(name, average=average), [3, 4], *MANY)
    flat = MANY[1].reshape(-1), MANY[0].argmax(axis=1).reshape(-1)
    every = {"labels": range(9)} if average is None else {}
    function = getattr(sklearn_metrics(), COUNTS[name])
    expected = function(*flat, average=average, zero_division=0, **every)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@splits
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_labels_as_in_scikit_learn(backend, name, average, sizes):
    scores, target = binary(7, 4)
    scores[:, 3], target[:, 3] = 0.2, 0  # in neither
    found = computed(backend, metrics.create(name, average=average), sizes, scores, target)
    function = getattr(sklearn_metrics(), COUNTS[name])
    expected = function(target, scores > 0.5, average=average, zero_division=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("average", AVERAGES[:3])
def test_labels_of_nothing(backend, average):
    """Without ones in predictions or targets, scikit-learn's F1 is 0; an IoU is undefined."""
    target, found, nothing = np.zeros((4, 2)), np.eye(4, 2), np.zeros((4, 2))
    for name in COUNTS:
        assert computed(backend, metrics.create(name, average=average), [4], found, target) == 0
        assert computed(backend, metrics.create(name, average=average), [4], nothing, target) == 0
    assert computed(backend, metrics.IoU(average), [4], found, target) == 0
    assert np.isnan(computed(backend, metrics.IoU(average), [4], nothing, target))


@pytest.mark.parametrize("shapes", [((7,), (7,)), ((7, 1), (7,)), ((7, 1), (7, 1))], ids=str)
@pytest.mark.parametrize("name", [*COUNTS, "iou", "accuracy", "auroc", "average_precision"])
def test_one_label_as_in_scikit_learn(backend, name, shapes):
    scores, target = binary(7)
    x, y = scores.reshape(shapes[0]), target.reshape(shapes[1]).astype("int64")
    settings = {} if name in RANKINGS else {"threshold": 0.6}
    found = computed(backend, metrics.create(name, **settings), [3, 4], x, y)
    peers = sklearn_metrics()
    expected = {
        "iou": lambda: peers.jaccard_score(target, scores > 0.6),
        "accuracy": lambda: peers.accuracy_score(target, scores > 0.6),
        "auroc": lambda: peers.roc_auc_score(target, scores),
        "average_precision": lambda: peers.average_precision_score(target, scores),
    }.get(name) or (lambda: getattr(peers, COUNTS[name])(target, scores > 0.6))
    assert found == pytest.approx(expected(), rel=1e-12)


@splits
def test_accuracy(backend, sizes):
    prediction, target = SPATIAL, labels(7, 3, 2, ignored=255)
    found = computed(backend, metrics.Accuracy(ignore_index=255), sizes, prediction, target)
    right, _, actual = counts_of(prediction, target, 4, 255)
    assert found == right.sum() / actual.sum()
    soft = probabilities(7, 4, 3, 2, seed=9)
    metric = metrics.create("accuracy", nn.CrossEntropyLoss())
    found = computed(backend, metric, sizes, prediction, soft)
    assert found == (prediction.argmax(axis=1) == soft.argmax(axis=1)).mean()


@splits
@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_top_k(backend, k, sizes):
    prediction, target = np.round(SPATIAL), labels(7, 3, 2, ignored=-100)  # with ties
    found = computed(backend, metrics.create(f"top{k}"), sizes, prediction, target)
    right = []
    for index in zip(*np.nonzero(target >= 0), strict=True):
        scores = prediction[index[0], :, *index[1:]]
        best = sorted(range(4), key=lambda c: (-scores[c], c))[:k]
        right.append(target[index] in best)
    assert found == np.mean(right)
    if k == 1:
        assert found == computed(backend, metrics.Accuracy(), sizes, prediction, target)


def test_top_k_as_in_scikit_learn(backend):
    target = labels(7)
    found = computed(backend, metrics.TopKAccuracy(2), [7], LOGITS, target)
    peer = sklearn_metrics().top_k_accuracy_score(target, LOGITS, k=2, labels=range(4))
    assert found == peer


@splits
def test_confusion_matrix(backend, sizes):
    peers = sklearn_metrics()
    prediction, target = MANY
    found = computed(backend, metrics.ConfusionMatrix(ignore_index=2), sizes, prediction, target)
    keep = target != 2
    expected = peers.confusion_matrix(
        target[keep], prediction.argmax(axis=1)[keep], labels=range(9)
    )
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == "int64"
    scores, target = binary(7, 3)
    found = computed(backend, metrics.ConfusionMatrix(), sizes, scores, target)
    np.testing.assert_array_equal(found, peers.multilabel_confusion_matrix(target, scores > 0.5))
    found = computed(backend, metrics.ConfusionMatrix(), sizes, scores[:, 0], target[:, 0])
    expected = peers.confusion_matrix(target[:, 0], scores[:, 0] > 0.5)
    np.testing.assert_array_equal(found, expected)


def naive_auroc(scores, labels):
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    return np.mean(pairs) if pairs else np.nan


def naive_average_precision(scores, labels):
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = labels[scores >= threshold]
        area += (found.sum() / labels.sum() - recall) * found.mean()
        recall = found.sum() / labels.sum()
    return area


RANKINGS = {"auroc": naive_auroc, "average_precision": naive_average_precision}


@splits
@pytest.mark.parametrize("name", RANKINGS)
def test_rankings_of_classes(backend, name, sizes):
    prediction, target = (
        np.round(probabilities(7, 3, 2, 2), 1),
        labels(7, 2, 2, classes=3, ignored=255),
    )
    rows, flat = np.moveaxis(prediction, 1, -1).reshape(-1, 3), target.reshape(-1)
    rows, flat = rows[flat != 255], flat[flat != 255]
    expected = [RANKINGS[name](rows[:, c], flat == c) for c in range(3)]
    settings = {"ignore_index": 255}
    found = computed(backend, metrics.create(name, **settings), sizes, prediction, target)
    assert found == pytest.approx(np.mean(expected), rel=1e-12)
    metric = metrics.create(name, average=None, **settings)
    found = computed(backend, metric, sizes, prediction, target)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@splits
def test_rankings_as_in_scikit_learn(backend, sizes):
    peers = sklearn_metrics()
    scores, target = binary(7, 3)
    for name, peer in (("auroc", "roc_auc_score"), ("map", "average_precision_score")):
        found = computed(backend, metrics.create(name), sizes, scores, target)
        expected = getattr(peers, peer)(target, scores, average="macro")
        assert found == pytest.approx(expected, rel=1e-12)
    prediction, classes = probabilities(7, 3), np.array([0, 1, 2, 2, 1, 0, 0])
    found = computed(backend, metrics.AUROC(), sizes, prediction, classes)
    expected = peers.roc_auc_score(classes, prediction, multi_class="ovr")
    assert found == pytest.approx(expected, rel=1e-12)
    found = computed(backend, metrics.AveragePrecision(), sizes, prediction, classes)
    assert found == pytest.approx(peers.average_precision_score(classes, prediction), rel=1e-12)


def test_rankings_of_absent_classes(backend):
    prediction = probabilities(4, 3)
    target = np.array([0, 1, 0, 1])
    each = computed(backend, metrics.AUROC(None), [4], prediction, target)
    assert np.isnan(each).tolist() == [False, False, True]
    assert computed(backend, metrics.AUROC(), [4], prediction, target) == each[:2].mean()
    assert np.isnan(computed(backend, metrics.AUROC(), [4], prediction[:, 0], np.ones(4)))
    assert computed(backend, metrics.create("map"), [4], prediction[:, 0], np.ones(4)) == 1
    assert np.isnan(computed(backend, metrics.create("map"), [4], prediction[:, 0], np.zeros(4)))
    ignored = np.full(4, -100)
    assert np.isnan(computed(backend, metrics.AUROC(), [4], prediction, ignored))
    assert np.isnan(computed(backend, metrics.create("map"), [4], prediction, ignored))


# -- values and images ---------------------------------------------------------------------


@splits
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3)], ids=str)
@pytest.mark.parametrize("name", ["mae", "mse", "r2"])
def test_values_as_in_scikit_learn(backend, name, shape, dtype, sizes):
    peers = sklearn_metrics()
    target = normal(*shape, dtype=dtype) + np.asarray(100, dtype)
    prediction = target + normal(*shape, seed=2, dtype=dtype)
    function = {
        "mae": peers.mean_absolute_error,
        "mse": peers.mean_squared_error,
        "r2": peers.r2_score,
    }[name]
    exact = target.astype("float64"), prediction.astype("float64")
    found = computed(backend, metrics.create(name), sizes, prediction, target)
    assert found == pytest.approx(function(*exact), rel=1e-6 if dtype == "float32" else 1e-9)


def test_values_by_loops(backend):
    prediction, target = np.array([[1.0, 2], [3, 5], [0, 5]]), np.array([[2.0, 2], [3, 1], [1, 0]])
    for name, expected in {
        "mae": (1 + 4 + 1 + 5) / 6,
        "mse": (1 + 16 + 1 + 25) / 6,
        "r2": ((1 - 2 / 2) + (1 - 41 / 2)) / 2,
    }.items():
        assert computed(backend, metrics.create(name), [1, 2], prediction, target) == (
            pytest.approx(expected)
        )


def test_r2_of_a_small_variance(backend):
    target = 1e9 + np.arange(7.0)
    prediction = target + np.array([1, -1, 0, 0, 0, 0, 0])
    found = computed(backend, metrics.R2(), [3, 4], prediction, target)
    assert found == pytest.approx(1 - 2 / 28, rel=1e-12)


def test_r2_of_constant_targets(backend):
    target = np.full((5, 2), 0.1)
    prediction = target + np.array([0, 0.5])
    assert computed(backend, metrics.R2(), [2, 3], prediction, target) == 0.5  # (1 + 0) / 2
    assert np.isnan(computed(backend, metrics.R2(), [1], prediction[:1], target[:1]))


def test_bytes_do_not_overflow(backend):
    a, b = np.array([[250, 3]], "uint8"), np.array([[3, 250]], "uint8")
    assert computed(backend, metrics.create("mae"), [1], a, b) == 247
    assert computed(backend, metrics.create("mse"), [1], a, b) == 247**2


IMAGES = np.clip(0.5 + 0.2 * normal(7, 2, 13, 17), 0, 1)
NOISY = np.clip(IMAGES + 0.1 * normal(7, 2, 13, 17, seed=1), 0, 1)


def naive_ssim(x, y, data_range=1.0):
    """SSIM of two images (H, W) by loops, in float64."""
    i = np.arange(-5, 6)
    window = np.exp(-(i[:, None] ** 2 + i**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (image[top : top + 11, left : left + 11] for image in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            cov = (window * (a - mean_a) * (b - mean_b)).sum()
            above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
            values.append(above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return np.mean(values)


@splits
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ssim(backend, sizes, dtype):
    expected = np.mean(
        [
            naive_ssim(x, y)
            for a, b in zip(NOISY, IMAGES, strict=True)
            for x, y in zip(a, b, strict=True)
        ]
    )
    found = computed(backend, metrics.SSIM(), sizes, NOISY.astype(dtype), IMAGES.astype(dtype))
    assert found == pytest.approx(expected, rel=1e-4 if dtype == "float32" else 1e-10)
    again = computed(backend, metrics.SSIM(255), sizes, 255 * NOISY, 255 * IMAGES)
    assert again == pytest.approx(expected, rel=1e-10)


def test_images_as_in_scikit_image(backend):
    peers = pytest.importorskip("skimage.metrics")
    settings = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1.0}
    pairs = list(zip(NOISY, IMAGES, strict=True))
    expected = [peers.structural_similarity(*pair, channel_axis=0, **settings) for pair in pairs]
    found = computed(backend, metrics.create("ssim"), [3, 4], NOISY, IMAGES)
    assert found == pytest.approx(np.mean(expected), rel=1e-9)
    expected = [peers.peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in pairs]
    found = computed(backend, metrics.create("psnr"), [3, 4], NOISY, IMAGES)
    assert found == pytest.approx(np.mean(expected), rel=1e-12)


def test_psnr(backend):
    x = np.zeros((2, 1, 2, 2))
    y = x + np.array([1, 10]).reshape(2, 1, 1, 1)
    found = computed(backend, metrics.PSNR(data_range=100), [1, 1], x, y)
    assert found == pytest.approx((40 + 20) / 2)
    assert computed(backend, metrics.PSNR(), [2], x, x) == np.inf


@splits
@losses
def test_mean_loss(backend, row, sizes):
    name, settings, output, target = row
    metric = metrics.create("loss", make_loss(backend, name, settings))
    assert metric.takes_output
    found = computed(backend, metric, sizes, output, target)
    assert found == pytest.approx(peer_loss(name, settings, "mean", output, target), rel=1e-9)


# -- all metrics ---------------------------------------------------------------------------

EXAMPLES = {  # predictions and targets for each name
    **dict.fromkeys(
        ["accuracy", *COUNTS, "iou", "dice", "confusion_matrix", "auroc", "average_precision"],
        (probabilities(7, 4, 3), labels(7, 3)),
    ),
    "top_5_accuracy": (probabilities(7, 9, 3), labels(7, 3, classes=9)),
    **dict.fromkeys(["mae", "mse", "r2", "psnr", "ssim", "loss"], (NOISY, IMAGES)),
    "pck": (normal(7, 4, 2), normal(7, 4, 2, seed=1)),
}
examples = pytest.mark.parametrize(
    ("name", "prediction", "target"), [(n, *e) for n, e in EXAMPLES.items()], ids=EXAMPLES
)


def made(name):
    return metrics.create(name, nn.MSELoss() if name == "loss" else None)


def test_every_metric_has_an_example():
    own = {
        name
        for name, cls in metrics.metric.BY_NAME.items()
        if cls.__module__.startswith("xcnn.") and cls.targets != ("boxes",)  # dicts of arrays
    }
    assert own == set(EXAMPLES)
    assert own <= set(metrics.names())


@examples
def test_no_update_waits_for_the_device(strict, name, prediction, target):
    metric, x, y = made(name), strict.asarray(prediction), strict.asarray(target)
    with count_syncs() as syncs:
        metric.update(x, y)
        metric.update(x, y)
    assert syncs == []
    metric.compute()


@examples
def test_memory_layouts_and_half_types(backend, name, prediction, target):
    expected = computed(backend, made(name), [7], prediction, target)
    for x in layouts(backend, prediction).values():
        metric = made(name)
        metric.update(x, backend.asarray(target))
        np.testing.assert_allclose(metric.compute(), expected, rtol=1e-12)
    if name != "loss":  # losses take equal types
        found = computed(backend, made(name), [7], prediction.astype("float16"), target)
        np.testing.assert_allclose(found, expected, rtol=0.01)


@examples
def test_inputs_are_kept_and_may_be_overwritten(backend, name, prediction, target):
    """A Trainer reuses the memory of its batches."""
    metric, x, y = made(name), backend.asarray(prediction.copy()), backend.asarray(target.copy())
    metric.update(x, y)
    np.testing.assert_array_equal(backend.to_host(x), prediction)
    np.testing.assert_array_equal(backend.to_host(y), target)
    expected = metric.compute()
    x[...], y[...] = 0, 0
    np.testing.assert_array_equal(metric.compute(), expected)


@examples
def test_no_examples(backend, name, prediction, target):
    metric = made(name)
    assert np.isnan(metric.compute())
    metric.update(backend.asarray(prediction[:0]), backend.asarray(target[:0]))
    assert np.isnan(metric.compute())
    metric.update(backend.asarray(prediction), backend.asarray(target))
    assert np.isfinite(metric.compute()).all()
    metric.reset()
    assert np.isnan(metric.compute())


@examples
def test_the_state_continues_exactly(backend, name, prediction, target):
    one, other = made(name), made(name)
    for metric, (x, y) in zip((one, other), parts([3, 4], prediction, target), strict=True):
        if metric is other:
            other.load_state_dict(one.state_dict())
            assert other.state_dict().keys() == one.state_dict().keys()
            np.testing.assert_array_equal(other.compute(), one.compute())
        metric.update(backend.asarray(x), backend.asarray(y))
    whole = computed(backend, made(name), [3, 4], prediction, target)
    np.testing.assert_array_equal(other.compute(), whole)
    for value in other.state_dict().values():
        assert isinstance(value, np.ndarray)
    fresh = made(name)
    fresh.load_state_dict(made(name).state_dict())
    assert np.isnan(fresh.compute())
    with pytest.raises(StateDictError, match="has no state other"):
        fresh.load_state_dict({"other": 1})


@examples
def test_merged_states_are_those_of_all_examples(backend, name, prediction, target):
    """Each part has a slice of every batch, as the processes of a distributed training."""
    expected = computed(backend, made(name), [7], prediction, target)
    for count in (1, 2, 3, 5):
        states = []
        for k in range(count):
            metric = made(name)
            for x, y in parts([4, 1, 2], prediction, target):
                own = slice(k * len(x) // count, (k + 1) * len(x) // count)
                metric.update(backend.asarray(x[own]), backend.asarray(y[own]))
            states.append(metric.state_dict())
        for ordered in (states, states[::-1]):
            merged, before = made(name), copy.deepcopy(ordered)
            merged.load_state_dict(merged.merge(ordered))
            np.testing.assert_allclose(merged.compute(), expected, rtol=1e-12)
            np.testing.assert_equal(ordered, before)
    assert merged.merge([{}, {}]) == {} == made(name).state_dict()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_merged_r2_of_a_small_variance(dtype):
    """As scikit-learn in float64, although the parts' first targets differ by far."""
    target = (np.repeat([1e6, 1e6 + 64], 8)[:, None] + np.arange(16).reshape(-1, 1)).astype(dtype)
    prediction = target + np.asarray([[1], [0]] * 8, dtype)
    states = []
    for own in (slice(0, 5), slice(5, 8), slice(8, 16)):
        metric = metrics.R2()
        metric.update(prediction[own], target[own])
        states.append(metric.state_dict())
    metric.load_state_dict(metric.merge([{}, *states]))
    peer = sklearn_metrics().r2_score(target.astype(float), prediction.astype(float))
    assert metric.compute() == pytest.approx(peer, rel=1e-12)


@examples
def test_nan_predictions(backend, name, prediction, target):
    x = prediction.copy()
    x[2, 0, 1] = np.nan
    found = computed(backend, made(name), [3, 4], x, target)
    assert np.isnan(found).all()
    if target.dtype.kind == "i":  # what is ignored may be NaN
        ignored = target.copy()
        ignored[2, 1] = -100
        found = computed(backend, made(name), [3, 4], x, ignored)
        assert np.isfinite(found).all()
        flat = np.moveaxis(prediction, 1, -1).reshape(21, -1), target.reshape(21)
        kept = np.delete(flat[0], 7, axis=0), np.delete(flat[1], 7)
        expected = computed(backend, made(name), [20], *kept)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "f1", "confusion_matrix", "auroc", "top2"])
def test_labels_out_of_range(backend, name):
    metric = metrics.create(name)
    x, y = backend.asarray(LOGITS), backend.asarray(np.array([0, 1, 2, 3, 4, 0, 1]))
    if backend.device == "cpu":
        with pytest.raises(ArgumentError, match=r"class 4.*0 to 3, or ignore_index=-100"):
            metric.update(x, y)
    else:
        metric.update(x, y)
        assert np.isnan(metric.compute()).all()


@pytest.mark.parametrize("name", ["accuracy", "f1", "iou", "precision_weighted", "top1"])
def test_nothing_but_ignored_labels(backend, name):
    x = probabilities(7, 4)
    assert np.isnan(computed(backend, metrics.create(name), [3, 4], x, np.full(7, -100)))


def test_counts_beyond_32_bits(backend):
    metric = metrics.Accuracy()
    metric.load_state_dict({"total": np.int64(2**40), "count": np.int64(2**41), "invalid": [0]})
    metric.update(backend.asarray(LOGITS), backend.asarray(LOGITS.argmax(axis=1)))
    assert metric.state_dict()["total"] == 2**40 + 7
    assert metric.state_dict()["count"] == 2**41 + 7


def test_prediction_and_target_on_two_devices(backend):
    metric = metrics.MeanAbsoluteError()
    metric.update(xcnn.Tensor(backend.asarray(LOGITS)), LOGITS + 2)
    assert metric.compute() == pytest.approx(2)


# -- names and losses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cls", "own"),
    [
        ("top5", metrics.TopKAccuracy, "top_5_accuracy"),
        ("top_3_accuracy", metrics.TopKAccuracy, "top_3_accuracy"),
        ("f1", metrics.F1, "f1"),
        ("f1_macro", metrics.F1, "f1"),
        ("precision_micro", metrics.Precision, "precision_micro"),
        ("roc_auc", metrics.AUROC, "auroc"),
        ("miou", metrics.IoU, "iou"),
    ],
)
def test_names(name, cls, own):
    metric = metrics.create(name)
    assert (type(metric), metric.name) == (cls, own)
    assert metrics.create(metric) is metric


def test_higher_is_better():
    lower = {name for name in metrics.names() if not metrics.metric.BY_NAME[name].higher_is_better}
    assert lower == {"mae", "mse", "loss"}


def test_scalars():
    assert metrics.F1().is_scalar
    assert not metrics.F1(None).is_scalar
    assert not metrics.ConfusionMatrix().is_scalar


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: metrics.create("f2"), ArgumentError, "metric='f2': expected one of"),
        (lambda: metrics.create("acuracy"), ArgumentError, r'one of .*auroc.*; did you mean "acc'),
        (lambda: metrics.create("loss"), ArgumentError, r"needs a loss: create"),
        (lambda: metrics.create("f1", nn.MSELoss()), ArgumentError, "'f1' is for targets that"),
        (lambda: metrics.create("psnr", nn.BCELoss()), ArgumentError, "those of BCELoss are bin"),
        (lambda: metrics.create("top5", nn.BCELoss()), ArgumentError, "are binary: choose another"),
        (lambda: metrics.F1("mean"), ArgumentError, "average='mean': expected one of macro"),
        (lambda: metrics.AUROC("micro"), ArgumentError, "average='micro': expected one of macro"),
        (lambda: metrics.F1(ignore_index=0.5), ArgumentError, "ignore_index=0.5"),
        (lambda: metrics.Accuracy(threshold="x"), ArgumentError, "threshold='x'"),
        (lambda: metrics.TopKAccuracy(0), ArgumentError, "k=0: expected an int >= 1"),
        (lambda: metrics.PSNR(0), ArgumentError, "data_range=0"),
        (
            lambda: metrics.F1().update(LOGITS, np.zeros((7, 3), int)),
            ShapeError,
            r"'f1': prediction has shape \(7, 4\), target \(7, 3\): they must be equal",
        ),
        (
            lambda: metrics.TopKAccuracy().update(LOGITS, np.zeros(7)),
            ShapeError,
            r"top_5_accuracy.*target \(7,\) \(float64\): expected .*integer class indices",
        ),
        (
            lambda: metrics.F1().update(np.zeros(7, int), np.zeros(7, int)),
            DTypeError,
            r"prediction is int64\(7,\): expected floating-point scores",
        ),
        (lambda: metrics.MeanSquaredError().update(LOGITS, LOGITS[:6]), ShapeError, "'mse'"),
        (lambda: metrics.SSIM().update(SPATIAL, SPATIAL), ShapeError, "at least 11×11 pixels"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_metric_reads_targets_as_the_loss_does(backend):
    metric = metrics.create("accuracy", nn.CrossEntropyLoss(ignore_index=2))
    assert metric.ignore_index == 2
    assert metrics.create(metrics.F1(ignore_index=1), nn.NLLLoss()).ignore_index == 1
    binary_metric = metrics.create("accuracy", nn.BCELoss())
    x, y = P[:, :2], np.zeros((7, 2))
    assert computed(backend, binary_metric, [7], x, y) == (P[:, :2] <= 0.5).mean()
    found = computed(backend, metrics.create("accuracy", nn.CrossEntropyLoss()), [7], x, y)
    assert found == (x.argmax(axis=1) == 0).mean()  # probabilities of two classes


def test_any_metric_fits_a_loss_of_unknown_targets(backend):
    class Custom(nn.Loss):
        target = "custom"

    target = labels(7)
    found = computed(backend, metrics.create("top1", Custom()), [7], LOGITS, target)
    assert found == computed(backend, metrics.create("accuracy", Custom()), [7], LOGITS, target)
    assert metrics.create("psnr", Custom()).target is None


def test_a_metric_of_ones_own(backend):
    class Largest(metrics.Metric):
        name = "mean_largest"

        def measure(self, backend, prediction, target):
            return {"total": prediction.max(axis=1).sum(), "count": len(prediction)}

    found = computed(backend, metrics.create("mean_largest"), [3, 4], LOGITS, LOGITS)
    assert found == pytest.approx(LOGITS.max(axis=1).mean())


def test_merging_metrics_of_ones_own():
    class Peak(metrics.StoringMetric):
        """The largest value: stored, since sums cannot say it."""

        def measure(self, backend, prediction, target):
            return {"peaks": prediction.max(axis=1)}

        def result(self, peaks):
            return peaks.max()

    class Counting(metrics.Metric):
        def reset(self):
            self.seen = 0

    metric, other = Peak(), Peak()
    metric.update(LOGITS[:2], LOGITS[:2])
    other.update(LOGITS[2:], LOGITS[2:])
    metric.load_state_dict(metric.merge([other.state_dict(), {}, metric.state_dict()]))
    assert metric.compute() == LOGITS.max()
    with pytest.raises(StateDictError, match="Counting has its own reset; define merge"):
        Counting().merge([])
    pair = [{"matrix": np.zeros((n, n))} for n in (2, 3)]
    with pytest.raises(StateDictError, match=r"matrix has shape \(3, 3\) in one state, \(2, 2\)"):
        metrics.ConfusionMatrix().merge(pair)
