"""A process may have no example of a batch: what it computes then adds nothing to the others'."""

import copy

import numpy as np
import pytest

import xcnn
from xcnn import init, models, nn, tasks
from xcnn.data import arrays_of, map_arrays

from .conftest import normal
from .families import COUNTS
from .test_serialize import LAYERS


def check_that_nothing_is_learnt(model, loss, before):
    """A mean over nothing is NaN; its gradients are zeros, also after it is scaled by 0."""
    for scale in (1, 0.0):
        (loss() * scale).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or not parameter.grad.numpy().any(), name
    for name, array in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # PyTorch counts it too
            np.testing.assert_array_equal(xcnn.Tensor.of(array).numpy(), before[name], name)


def state(model):
    return {k: xcnn.Tensor.of(v).numpy().copy() for k, v in model.state_dict().items()}


def mean_of(outputs):
    return sum(y.mean() for y in arrays_of(outputs) if y.dtype.kind == "f")


def check_layer(backend, layer, inputs):
    layer = copy.deepcopy(layer).to(backend).train()
    axis = int(isinstance(layer, nn.CTCLoss))  # of the examples of its first input
    arrays = [np.asarray(a) for a in inputs]
    arrays = [a[:, :0] if axis and n == 0 else a[:0] for n, a in enumerate(arrays)]
    given = [xcnn.Tensor(backend.asarray(a), requires_grad=a.dtype.kind == "f") for a in arrays]
    with backend.active():
        if given[0].requires_grad or list(layer.parameters()):
            check_that_nothing_is_learnt(layer, lambda: mean_of(layer(*given)), state(layer))
    assert all(a.grad is None or a.grad.shape == a.shape for a in given)


def test_layers(backend):
    """Blocks of networks: in test_networks."""
    for layer, inputs in LAYERS:
        check_layer(backend, layer, inputs)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.exhaustive] * (count > 1.3e6))
        for n, count in COUNTS.items()
        if count < 6e6
    ],
)
def test_networks(name):
    with init.skipped():
        model = models.create(name).train()
    for parameter in model.parameters():
        parameter.data[...] = 0.1
    x = np.zeros((0, *models.default(name, "input_shape")), "float32")
    check_that_nothing_is_learnt(model, lambda: mean_of(model(x)), state(model))


# -- losses of tasks: targets of three pictures, of which the second has nothing to learn --------

SIZE = 16
MASK = np.random.default_rng(1).integers(0, 3, (3, SIZE, SIZE))
MASK[1], MASK[2, :5] = 255, 255
BOXES = np.float32([[[2, 2, 10, 9], [4, 1, 15, 15]]] * 3)
POINTS = np.random.default_rng(2).uniform(2, 14, (3, 3, 3)) * [1, 1, 0] + [0, 0, 1]
POINTS[1, :, 2] = 0
SMALL = np.clip(normal(3, 3, SIZE, SIZE) / 4 + 0.5, 0, 1)
TARGETS = {
    "classification": np.array([1, 0, 2]),
    "multi-label": (normal(3, 3) > 0) * 1.0,
    "regression": normal(3, 3),
    "segmentation": MASK,
    "detection": {"boxes": BOXES, "labels": np.array([[0, 2], [-1, -1], [1, -1]])},
    "keypoints": POINTS,
    "super-resolution": np.clip(normal(3, 3, 2 * SIZE, 2 * SIZE) / 4 + 0.5, 0, 1),
    **dict.fromkeys(["autoencoder", "denoising", "vae"], SMALL),
    "gan": np.zeros(3, int),
}
NETWORKS = dict.fromkeys(["classification", "multi-label", "regression"], "small_cnn")
NETWORKS["super-resolution"] = "espcn"
CASES = [(task, loss, NETWORKS.get(task)) for task in TARGETS for loss in tasks.get(task).losses]
SSD = "detection", "detection", "ssdlite320_mobilenet_v3_large"
CASES.append(pytest.param(*SSD, marks=pytest.mark.exhaustive))  # takes 5 s


@pytest.mark.parametrize(("task", "loss", "network"), CASES, ids=str)
def test_losses_of_tasks(task, loss, network):
    """Sums over slices of a batch, weighted by their divisors, are those of the batch."""
    kind = tasks.get(task)
    binary = loss.startswith("binary") and task == "classification"
    names = ["a", "b"] if binary else ["a", "b", "c"]
    created = tasks.create(task, classes=names, input_shape=SMALL.shape[1:], loss=loss)
    model = created.create_model(network or kind.default_network("images"))
    model = model.to(dtype="float64")
    trainer = xcnn.Trainer(model, "sgd", created.create_loss())
    target = TARGETS[task] % 2 if binary else TARGETS[task]

    def part(rows):
        return trainer._forward(SMALL[rows], map_arrays(lambda a: a[rows], target))

    nothing = slice(0, 0)
    before = state(model)
    check_that_nothing_is_learnt(model, lambda: part(nothing).loss, before)
    step = part(nothing)
    assert [float(v) for v in trainer.loss.total(*step[:3])] == [0, 0]
    if task in ("vae", "gan"):  # draw numbers for each batch
        return
    model.eval()

    def gradients(slices):
        model.zero_grad()
        steps = [part(rows) for rows in slices]
        divisors = [float(trainer.loss.divisor(s.output, s.target)) for s in steps]
        for one, divisor in zip(steps, divisors, strict=True):
            (one.loss * (divisor / sum(divisors))).backward()
        totals = [trainer.loss.total(*s[:3]) for s in steps]
        mean = sum(float(t) for t, _ in totals) / sum(float(d) for _, d in totals)
        grads = [p.grad.numpy().ravel() for p in model.parameters() if p.grad is not None]
        return mean, np.concatenate(grads)

    mean, whole = gradients([slice(3)])
    found, parts = gradients([slice(0, 1), nothing, slice(1, 2), slice(2, 3)])
    assert found == pytest.approx(mean, rel=1e-12)
    np.testing.assert_allclose(parts, whole, rtol=1e-8, atol=1e-11 * abs(whole).max())
