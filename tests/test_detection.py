"""Detection: the networks and losses against plain loops, PyTorch and torchvision; the task."""

import json
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose

import xcnn
from xcnn import models, nn, optim, tasks
from xcnn.errors import ArgumentError, DTypeError, FileFormatError, MissingPackageError, ShapeError
from xcnn.models.detection import best_of_overlapping, nms_mask
from xcnn.testing import gradcheck

from .conftest import assert_matches, normal
from .strict import count_syncs, forbid_float64

SIZE = (24, 32)  # height and width of the pictures, in pixels
SSD_SIZE = 96
TARGET = {
    "boxes": np.array(
        [
            [[2, 3, 10, 15], [3.5, 4, 9, 14], [20, 10, 33, 26]],  # two in one cell; one extends out
            [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
            [[5, 1, 6, 2], [0, 0, 0, 0], [1, 1, 30, 20]],
        ],
        "float32",
    ),
    "labels": np.array([[1, 0, 1], [-1, -1, -1], [2, -1, 1]]),
}
NO_OBJECT = {
    "boxes": np.zeros((3, 0, 4), "float32"),
    "labels": np.zeros((3, 0), "int64"),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Many small steps of PyTorch's threads take long on a busy machine."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def placed(backend, target):
    return {name: backend.asarray(value) for name, value in target.items()}


def part_of(target, part):
    return {name: value[part] for name, value in target.items()}


# -- CenterNet -----------------------------------------------------------------------------


def heads(dtype="float64", count=3, classes=3):
    """Outputs of CenterNet for pictures of SIZE."""
    shape = SIZE[0] // 4, SIZE[1] // 4
    channels = enumerate((classes, 2, 2))
    return [normal(count, n, *shape, seed=seed, dtype=dtype) for seed, n in channels]


def loss_by_loops(heatmap, size, offset, target):
    """Sum and divisor of the loss, one cell and one object at a time."""
    total, divisor = 0.0, 0
    _, classes, rows, columns = heatmap.shape
    for n, labels in enumerate(target["labels"]):
        wanted, centres = np.zeros((classes, rows, columns)), set()
        for box, label in zip(target["boxes"][n] / 4.0, labels, strict=True):
            if label < 0:
                continue
            x, y, w, h = (
                (box[0] + box[2]) / 2,
                (box[1] + box[3]) / 2,
                box[2] - box[0],
                box[3] - box[1],
            )
            i, j = min(int(y), rows - 1), min(int(x), columns - 1)
            centres.add((label, i, j))
            for r, c in np.ndindex(rows, columns):
                sy, sx = (0.54 * h + 1) / 6, (0.54 * w + 1) / 6
                g = np.exp(-((r - i) ** 2) / (2 * sy**2) - (c - j) ** 2 / (2 * sx**2))
                wanted[label, r, c] = max(wanted[label, r, c], g)
            total += 0.1 * (abs(size[n, 0, i, j] - w) + abs(size[n, 1, i, j] - h))
            total += abs(offset[n, 0, i, j] - (x - j)) + abs(offset[n, 1, i, j] - (y - i))
        for c, i, j in np.ndindex(classes, rows, columns):
            p = 1 / (1 + np.exp(-heatmap[n, c, i, j]))
            if (c, i, j) in centres:
                total -= (1 - p) ** 2 * np.log(p)
            else:
                total -= (1 - wanted[c, i, j]) ** 4 * p**2 * np.log(1 - p)
        divisor += max(1, (labels >= 0).sum())
    return total, divisor


@pytest.mark.parametrize("target", [TARGET, NO_OBJECT], ids=["objects", "none"])
def test_loss_of_centernet(backend, target):
    loss = models.CenterNetLoss(SIZE)
    output = [xcnn.Tensor(backend.asarray(y), requires_grad=True) for y in heads("float32")]
    with count_syncs() as syncs, forbid_float64():
        value = loss(output, placed(backend, target))
        value.backward()
        total = loss.total(value, output, placed(backend, target))
    assert syncs == []
    expected, divisor = loss_by_loops(*heads(), target)
    assert float(value.item()) == pytest.approx(expected / divisor, rel=1e-5)
    assert [float(part) for part in total] == pytest.approx([expected, divisor], rel=1e-5)


def test_gradients_of_the_loss_of_centernet():
    loss = models.CenterNetLoss(SIZE)
    gradcheck(lambda *output: loss(output, TARGET), *heads())


def test_mean_loss_does_not_depend_on_the_batches():
    loss, output = models.CenterNetLoss(SIZE), heads()
    parts = []
    for part in (slice(0, 1), slice(1, 3)):
        of_part = [xcnn.Tensor(y[part]) for y in output], part_of(TARGET, part)
        parts.append(loss.total(loss(*of_part), *of_part))
    whole = loss([xcnn.Tensor(y) for y in output], TARGET).item()
    sums = [sum(float(x) for x in column) for column in zip(*parts, strict=True)]
    assert sums[0] / sums[1] == pytest.approx(whole, rel=1e-12)


def test_crowds_are_not_learned():
    crowd = TARGET["labels"] == 2
    without = {**TARGET, "labels": np.where(crowd, -1, TARGET["labels"])}
    loss, output = models.CenterNetLoss(SIZE), [xcnn.Tensor(y) for y in heads()]
    assert loss(output, {**TARGET, "crowd": crowd}).item() == loss(output, without).item()


@pytest.mark.parametrize("loss", [models.CenterNetLoss(SIZE), models.SSDLoss(SSD_SIZE)])
def test_wrong_targets(loss):
    output = [xcnn.Tensor(y) for y in heads()]
    if isinstance(loss, models.SSDLoss):
        output = [xcnn.Tensor(normal(3, 312, n)) for n in (4, 4)]
    boxes, labels = TARGET["boxes"], TARGET["labels"]
    with pytest.raises(DTypeError, match="dict of 'boxes' and 'labels'"):
        loss(output, labels)
    with pytest.raises(ShapeError, match=r"labels \(3, 2\): expected \(N, M, 4\)"):
        loss(output, {"boxes": boxes, "labels": labels[:, :2]})
    with pytest.raises(ShapeError, match="N=3 pictures"):
        loss(output, part_of(TARGET, slice(2)))
    with pytest.raises(ArgumentError, match="3"):
        loss(output, {"boxes": boxes, "labels": labels + 1})
    with pytest.raises(DTypeError, match="float32: expected integers"):
        loss(output, {"boxes": boxes, "labels": labels.astype("float32")})


@pytest.mark.parametrize("loss", [models.CenterNetLoss(SIZE), models.SSDLoss(SSD_SIZE)])
@pytest.mark.parametrize(
    "box", [[4, 4, 4, 9], [9, 9, 4, 4], [4, np.nan, 9, 9], [1e8, 1, 1e8 + 2, 3]]
)
def test_boxes_without_area_do_not_count(backend, loss, box):
    output = heads("float32")
    if isinstance(loss, models.SSDLoss):
        output = [normal(3, 312, n, dtype="float32") for n in (4, 4)]
    output = [xcnn.Tensor(backend.asarray(y), requires_grad=True) for y in output]
    boxes, labels = TARGET["boxes"].copy(), TARGET["labels"].copy()
    boxes[0, 1] = box
    found = loss(output, placed(backend, {"boxes": boxes, "labels": labels}))
    found.backward()
    assert all(np.isfinite(y.grad.numpy()).all() for y in output)
    labels[0, 1], boxes[0, 1] = -1, 0
    target = placed(backend, {"boxes": boxes, "labels": labels})
    assert found.item() == loss(output, target).item()
    nothing = [y[:0] for y in output], placed(backend, part_of(TARGET, slice(0)))
    assert loss(*nothing).item() == 0


@pytest.mark.parametrize("network", ["centernet_small", "ssdlite320_mobilenet_v3_large"])
def test_networks_with_equal_scores_are_exported(network, tmp_path):
    """Untrained ones, whose order rounding errors decide."""
    pytest.importorskip("onnx")
    task = tasks.create("detection", classes=["a", "b"], input_shape=(3, 64, 64))
    exported = task.exported(task.create_model(network), True)
    x = np.zeros((2, 3, 64, 64), "float32")
    xcnn.onnx.export(exported.model, x, tmp_path / "model.onnx", output_names=exported.outputs)


def test_one_answer_in_one_place():
    boxes = np.float32([[[0, 0, 8, 8], [0, 0, 8, 7], [20, 20, 30, 30], [0, 0, 8, 3]]])
    found = {"boxes": boxes, "scores": np.float32([[0.9, 0.8, 0.7, 0.6]])}
    found = best_of_overlapping({**found, "labels": np.array([[1, 0, 0, 2]])}, 0.5)
    assert found["labels"].numpy().tolist() == [[1, 0, 2, -1]]
    assert found["boxes"].numpy().tolist() == [[*boxes[0, [0, 2, 3]].tolist(), [0, 0, 0, 0]]]
    assert found["scores"].numpy().tolist() == [[*np.float32([0.9, 0.7, 0.6]).tolist(), 0]]


def test_predictions_of_centernet(backend):
    heatmap, size, offset = heads("float32")
    output = [xcnn.Tensor(backend.asarray(y)) for y in (heatmap, size, offset)]
    loss = models.CenterNetLoss(SIZE, detections=7)
    found = {name: value.numpy() for name, value in loss.prediction(output).items()}
    for n in range(3):
        rows = []
        for c, i, j in np.ndindex(heatmap.shape[1:]):
            near = heatmap[n, c, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            if heatmap[n, c, i, j] == near.max():
                x, y = j + offset[n, 0, i, j], i + offset[n, 1, i, j]
                w, h = np.maximum(size[n, :, i, j], 0) / 2
                box = np.clip(np.array([x - w, y - h, x + w, y + h]) * 4, 0, [*SIZE[::-1]] * 2)
                rows.append((1 / (1 + np.exp(-heatmap[n, c, i, j])), c, box))
        rows.sort(key=lambda row: -row[0])
        for part, name in enumerate(("scores", "labels", "boxes")):
            assert_allclose(found[name][n], [row[part] for row in rows[:7]], rtol=1e-5, atol=1e-4)


def test_places_without_an_object_are_zeros():
    shape = 1, 2, SIZE[0] // 4, SIZE[1] // 4
    heatmap = np.full(shape, -9.0, "float32")
    heatmap[0, 1, 2, 3] = 4
    output = [
        xcnn.Tensor(y) for y in (heatmap, np.full(shape, 2, "float32"), np.zeros(shape, "float32"))
    ]
    found = models.CenterNetLoss(SIZE, detections=5).prediction(output)
    assert found["labels"].tolist() == [[1, -1, -1, -1, -1]]
    assert found["boxes"].tolist() == [[[8, 4, 16, 12], *[[0] * 4] * 4]]


# -- a peer in PyTorch ---------------------------------------------------------------------


def test_training_as_in_pytorch():
    """20 steps of the small network from the same weights on the same batches."""
    torch = pytest.importorskip("torch")
    xcnn.manual_seed(0)
    model = models.centernet_small(3, (1, 32, 32))
    state = {k: torch.tensor(np.asarray(v)) for k, v in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    peer = {k: v.requires_grad_(k in names) for k, v in state.items()}
    theirs = torch.optim.SGD([peer[name] for name in names], 0.02, momentum=0.9)
    trainer = xcnn.Trainer(
        model, optim.SGD(model.parameters(), 0.02, momentum=0.9), loss=models.CenterNetLoss(32)
    )
    rng = np.random.default_rng(0)
    model.train()
    for step in range(20):
        x = rng.standard_normal((4, 1, 32, 32)).astype("float32")
        corners = rng.uniform(0, 20, (4, 3, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(4, 12, (4, 3, 2))], 2)
        target = {"boxes": boxes.astype("float32"), "labels": rng.integers(-1, 3, (4, 3))}
        theirs.zero_grad()
        expected = torch_loss(torch, *torch_centernet(torch, peer, torch.tensor(x)), target)
        expected.backward()
        theirs.step()
        assert trainer.train_step(x, target).loss.item() == pytest.approx(
            expected.item(), rel=1e-3
        ), step


def torch_centernet(torch, p, x):
    """The network, with functions of PyTorch."""
    F = torch.nn.functional

    def norm(x, name):
        return F.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], True)

    def conv(x, name, stride=1):
        weight = p[f"{name}.weight"]
        return F.conv2d(x, weight, p.get(f"{name}.bias"), stride, weight.shape[-1] // 2)

    x = F.relu(norm(conv(x, "backbone.conv1", 2), "backbone.bn1"))
    stages = []
    for i in (1, 2, 3):
        at = f"backbone.layer{i}"
        y = F.relu(norm(conv(x, f"{at}.conv1", 2), f"{at}.bn1"))
        y = norm(conv(y, f"{at}.conv2"), f"{at}.bn2")
        x = F.relu(y + norm(conv(x, f"{at}.downsample.0", 2), f"{at}.downsample.1"))
        stages.append(x)
    x = conv(stages[2], "lateral.2")
    for i in (1, 0):
        x = conv(stages[i], f"lateral.{i}") + F.interpolate(x, scale_factor=2)
    x = F.relu(norm(conv(x, "merge.0"), "merge.1"))
    return conv(x, "heatmap"), conv(x, "size"), conv(x, "offset")


def torch_loss(torch, heatmap, size, offset, target):
    """The loss, one object at a time."""
    wanted, regression = torch.zeros_like(heatmap), 0.0
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in heatmap.shape[2:])
    for n, label in zip(*np.nonzero(target["labels"] >= 0), strict=True):
        box, label = torch.tensor(target["boxes"][n, label]) / 4, target["labels"][n, label]
        (x, y), (w, h) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        j, i = (int(v.floor().clamp(0, 7)) for v in (x, y))
        falls = [
            torch.exp(-0.5 * ((at - centre) * 6 / (0.54 * length + 1)) ** 2)
            for at, centre, length in ((rows, i, h), (columns, j, w))
        ]
        wanted[n, label] = torch.maximum(wanted[n, label], falls[0][:, None] * falls[1])
        regression += 0.1 * (size[n, :, i, j] - torch.stack([w, h])).abs().sum()
        regression += (offset[n, :, i, j] - torch.stack([x - j, y - i])).abs().sum()
    probability = torch.sigmoid(heatmap)
    terms = torch.where(
        wanted == 1,
        (1 - probability) ** 2 * probability.log(),
        (1 - wanted) ** 4 * probability**2 * (1 - probability).log(),
    )
    counts = (target["labels"] >= 0).sum(axis=1)
    return (regression - terms.sum()) / float(np.maximum(counts, 1).sum())


# -- SSDlite -------------------------------------------------------------------------------


def test_suppression_by_loops(backend):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (5, 40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 15, (5, 40, 2))], 2).astype("float32")
    boxes[:, 7] = boxes[:, 3]  # equal ones
    boxes[:, 20:22, 2:] = boxes[:, 20:22, :2]  # without an area
    keep = nms_mask(backend.asarray(boxes), 0.4).numpy()
    for group, kept in zip(boxes.astype("float64"), keep, strict=True):
        chosen = []
        for i, (x1, y1, x2, y2) in enumerate(group):
            for j in chosen:
                a1, b1, a2, b2 = group[j]
                common = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
                if common > 0.4 * ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - common):
                    break
            else:
                chosen.append(i)
        assert np.flatnonzero(kept).tolist() == chosen
        assert len(chosen) < 35
    assert nms_mask(backend.asarray(boxes[:0]), 0.4).shape == (0, 40)


@pytest.fixture(scope="module")
def peer():
    """Torchvision's SSDlite for ten classes, with its suppression."""
    from .torchvision_stub import torch, torchvision

    def nms(boxes, scores, threshold):
        order, chosen = scores.argsort(descending=True, stable=True), []
        while len(order):
            chosen.append(order[0])
            overlaps = torchvision.ops.box_iou(boxes[order[:1]], boxes[order[1:]])[0]
            order = order[1:][~(overlaps > threshold)]
        return torch.stack(chosen) if chosen else order

    torch.manual_seed(0)
    name = "ssdlite320_mobilenet_v3_large"
    model = getattr(torchvision.models.detection, name)(
        weights=None, weights_backbone=None, num_classes=11
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.ops.boxes, "nms", nms)  # the compiled one may be missing
        yield model.eval()


def test_ssdlite_of_torchvision(peer):
    """The same names and shapes of the weights, outputs and default boxes."""
    torch = pytest.importorskip("torch")
    state = {k: v.numpy() for k, v in peer.state_dict().items()}
    model = models.ssdlite320_mobilenet_v3_large(10)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    model.load_state_dict(state)
    x = normal(1, 3, SSD_SIZE, SSD_SIZE, dtype="float32")
    with torch.no_grad():
        maps = list(peer.backbone(torch.tensor(x)).values())
        expected = peer.head(maps)
    with nn.evaluating(model), xcnn.no_grad():
        output = model(x)
    for name in output._fields:
        assert_allclose(getattr(output, name).numpy(), expected[name], rtol=1e-4, atol=1e-5)
    momentum = {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momentum == {0.03}
    anchors = torchvision_anchors(torch, peer, maps)
    ours = models.ssdlite.default_boxes(np, SSD_SIZE, SSD_SIZE)
    assert_allclose(ours, anchors, rtol=1e-5, atol=1e-3)


def torchvision_anchors(torch, peer, maps):
    from torchvision.models.detection.image_list import ImageList

    pictures = ImageList(torch.zeros(1, 3, SSD_SIZE, SSD_SIZE), [(SSD_SIZE, SSD_SIZE)])
    return peer.anchor_generator(pictures, maps)[0]


def ssd_case(classes=11, seed=0):
    """Outputs of the heads for two pictures, the second without objects; targets."""
    anchors = models.ssdlite.default_boxes(np, SSD_SIZE, SSD_SIZE)
    codes = normal(2, len(anchors), 4, seed=seed, dtype="float32")
    logits = normal(2, len(anchors), classes, seed=seed + 1, dtype="float32") * 2
    boxes = np.array([[3, 6, 30, 45], [9, 12, 18, 24], [60, 30, 93, 90], [0, 0, 0, 0]])
    target = {
        "boxes": np.stack([boxes, 0 * boxes]).astype("float32"),
        "labels": np.array([[3, 1, 9, -1], [-1] * 4]),
    }
    return anchors, codes, logits, target


def test_loss_of_ssd(peer, backend):
    torch = pytest.importorskip("torch")
    anchors, codes, logits, target = ssd_case()
    theirs = [torch.tensor(y, requires_grad=True) for y in (codes, logits)]
    outputs = dict(zip(("bbox_regression", "cls_logits"), theirs, strict=True))
    targets, matched = [], []
    for boxes, labels in zip(target["boxes"], target["labels"], strict=True):
        own = {
            "boxes": torch.tensor(boxes[labels >= 0]),
            "labels": torch.tensor(labels[labels >= 0] + 1),
        }
        targets.append(own)
        overlaps = torchvision_iou(own["boxes"], torch.tensor(anchors))
        none = torch.full((len(anchors),), -1)
        matched.append(peer.proposal_matcher(overlaps) if len(overlaps) else none)
    losses = peer.compute_loss(targets, outputs, [torch.tensor(anchors)] * 2, matched)
    expected = sum(losses.values())
    expected.backward()
    loss = models.SSDLoss(SSD_SIZE)
    ours = [xcnn.Tensor(backend.asarray(y), requires_grad=True) for y in (codes, logits)]
    with count_syncs() as syncs, forbid_float64():
        value = loss(ours, placed(backend, target))
        value.backward()
        divisor = loss.divisor(ours, placed(backend, target))
    assert syncs == []
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert int(divisor) == sum((m >= 0).sum().item() for m in matched)
    for y, wanted in zip(ours, theirs, strict=True):
        assert_matches(y.grad, wanted.grad.numpy())


def torchvision_iou(boxes, anchors):
    from torchvision.ops import box_iou

    return box_iou(boxes, anchors)


def test_loss_of_ssd_without_objects():
    logits = normal(2, 312, 3, dtype="float32")
    output = [xcnn.Tensor(y) for y in (normal(2, 312, 4, dtype="float32"), logits)]
    assert models.SSDLoss(SSD_SIZE)(output, part_of(NO_OBJECT, slice(2))).item() == 0


def test_detections_of_ssd(peer):
    torch = pytest.importorskip("torch")
    anchors, codes, logits, _ = ssd_case(seed=5)
    outputs = {"bbox_regression": torch.tensor(codes), "cls_logits": torch.tensor(logits)}
    boxes = [torch.tensor(anchors)] * 2
    expected = peer.postprocess_detections(outputs, boxes, [(SSD_SIZE, SSD_SIZE)] * 2)
    found = models.SSDLoss(SSD_SIZE).prediction([xcnn.Tensor(codes), xcnn.Tensor(logits)])
    for n, wanted in enumerate(expected):
        assert len(wanted["labels"]) == 300
        assert (found["labels"].numpy()[n] + 1 == wanted["labels"].numpy()).all()
        assert_allclose(found["scores"].numpy()[n], wanted["scores"], rtol=1e-4)
        assert_allclose(found["boxes"].numpy()[n], wanted["boxes"], rtol=1e-4, atol=1e-3)


# -- the task ------------------------------------------------------------------------------

PREDICTION = {
    "boxes": np.array([[2.04, 3, 40, 30], [10, 10, 12, 12], [0, 0, 64, 48]], "float32"),
    "scores": np.array([0.98123, 0.4, 0.1], "float32"),
    "labels": np.array([1, 0, 1]),
}


@pytest.fixture
def task():
    return tasks.create("detection", classes=["cat", "dog"], input_shape=(3, 32, 32))


def test_words_and_files(task):
    assert task.describe(PREDICTION) == "2 objects: dog 98.12%, cat 40.00%"
    assert task.describe(PREDICTION, top=1) == "2 objects: dog 98.12%, ..."
    none = {name: value[2:] for name, value in PREDICTION.items()}
    assert task.describe(none) == "0 objects"
    content = json.loads(task.files(PREDICTION)[".json"])
    assert content[0] == {"class": "dog", "score": 0.9812, "box": [2.0, 3.0, 40.0, 30.0]}
    assert len(content) == 2
    strict = tasks.create("detection", classes=["cat", "dog"], score=0.99)
    assert strict.describe(PREDICTION) == "0 objects"
    with pytest.raises(ArgumentError, match="score"):
        tasks.create("detection", classes=["cat"], score=1.5)


def test_drawn_boxes(task, monkeypatch):
    pytest.importorskip("PIL")
    pixels = np.full((1, 48, 64), 200, "uint8")
    drawn = task.draw(pixels, PREDICTION)
    zoom = 4
    assert drawn.shape == (3, 48 * zoom, 64 * zoom)
    changed = (drawn != 200).any(axis=0)
    assert changed[3 * zoom : 30 * zoom, 40 * zoom - 1].all()  # the right side of the first box
    assert not changed[30 * zoom :, 45 * zoom :].any()  # no box of a score below the limit
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackageError, match="pillow"):
        task.draw(pixels, PREDICTION)


def test_truth(task):
    found = task.truth(TARGET)
    assert [len(each["labels"]) for each in found] == [3, 0, 2]
    np.testing.assert_array_equal(found[2]["boxes"], TARGET["boxes"][2, [0, 2]])
    assert found[2]["scores"].tolist() == [1, 1]


class _Fixed(nn.Module):
    """Two classes for one object, in the middle of an input of 32×32 pixels."""

    def __init__(self):
        self.scale = nn.Linear(1, 1)  # the Trainer needs a device

    def forward(self, x):
        self.seen = x.shape
        count = len(x)
        boxes = np.tile(np.float32([8, 8, 24, 24]), (count, 1, 1))
        boxes, scores = boxes.repeat(2, 1), np.float32([[0.5, 0.4]]).repeat(count, 0)
        labels = np.int64([[1, 0]]).repeat(count, 0)
        return tuple(map(xcnn.Tensor, (boxes, scores, labels)))


def test_boxes_are_in_pixels_of_the_picture(task):
    model = _Fixed()
    found = task.predict_one(xcnn.Trainer(model, loss="mse"), np.zeros((3, 64, 128), "uint8"))
    assert model.seen == (1, 3, 32, 32)
    assert found["boxes"].tolist() == [[32, 16, 96, 48]]
    assert found["boxes"].dtype == "float32"
    assert found["labels"].tolist() == [1]  # the most probable one


def test_a_picture_keeps_its_size(task, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (70, 50), "red").save(tmp_path / "a.png")
    pixels = task.read(tmp_path / "a.png")
    assert pixels.shape == (3, 50, 70)
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]


def test_training_from_names():
    """The loss falls, and the metrics get boxes."""
    dataset = xcnn.data.load("digit-boxes", limit=64)
    task = tasks.get("detection").of_data(dataset)
    xcnn.manual_seed(0)
    model = task.create_model("centernet_small")
    trainer = xcnn.Trainer(
        model, optim.Adam(model.parameters(), 2e-3), loss=task.create_loss(), metrics=task.measured
    )
    augment = task.transform(task.defaults["augment"])
    loader = xcnn.data.DataLoader(dataset.train, batch_size=16, transform=augment)
    history = trainer.fit(loader, epochs=4, progress=False)
    assert history[-1].train_loss < 0.75 * history[0].train_loss
    values = trainer.evaluate(loader)
    assert 0 <= values["coco_map"] <= values["map_50"] <= 1
    assert task.result(values, 64).startswith("mAP 0.")


@pytest.mark.parametrize(
    ("network", "shape"),
    [("centernet_small", (1, 40, 48)), ("ssdlite320_mobilenet_v3_large", (3, 64, 64))],
)
def test_exported_file(network, shape, tmp_path):
    """onnxruntime computes the same outputs, and the same boxes."""
    runtime = pytest.importorskip("onnxruntime")
    xcnn.manual_seed(0)
    task = tasks.create("detection", classes=["cat", "dog"], input_shape=shape)
    model = task.create_model(network)
    for parameter in model.parameters():
        parameter.data *= 3 if parameter.ndim == 4 else 1  # few equal scores
    optim.update_batch_norm(model, [normal(16, *shape, dtype="float32")])
    x = normal(3, *shape, seed=1, dtype="float32")
    for inside in (False, True):
        exported, path = task.exported(model.eval(), inside), tmp_path / "model.onnx"
        xcnn.onnx.export(exported.model, x[:2], path, output_names=exported.outputs)
        found = runtime.InferenceSession(path).run(list(exported.outputs), {"input": x})
        for y, wanted in zip(found, exported.model(x), strict=True):
            assert_allclose(y, wanted.numpy(), rtol=1e-3, atol=1e-3 * wanted.abs().max().item())
    assert exported.outputs == ("boxes", "scores", "labels")
    assert (found[2] >= 0).sum() > 50
    loaded = task.predict(xcnn.Trainer(xcnn.onnx.load(path), loss="mse"), x)
    for each, own in zip(
        loaded, task.predict(xcnn.Trainer(model, loss=task.create_loss()), x), strict=True
    ):
        assert each["labels"].tolist() == own["labels"].tolist()
    listed = [labels[labels >= 0].tolist() for labels in found[2]]  # predict leaves none of it out
    assert [each["labels"].tolist() for each in loaded] == listed
    other = tasks.create("detection", classes=["cat"], input_shape=shape)
    with pytest.raises(FileFormatError, match="class 1, but there are 1 classes"):
        other.predict(xcnn.Trainer(xcnn.onnx.load(path), loss="mse"), x)
