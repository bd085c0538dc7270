"""xcnn.explain: compared with captum on the same network in PyTorch, loops and closed forms."""

import itertools
import sys
import threading
import warnings

import numpy as np
import pytest

import xcnn
from xcnn import explain, nn
from xcnn import functional as F
from xcnn.errors import ArgumentError, GradientError, OutOfRangeError, ShapeError
from xcnn.testing import assert_close

from .conftest import normal


class Block(nn.Module):
    """A residual block with a ReLU that is no module."""

    def __init__(self, channels):
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = x + 0
        y += self.norm(self.conv(x))
        return F.relu(y)


def network(backend, dtype="float64", last=()):
    """A convolution fused with ReLU and an overlapping pool, a block, and a classifier."""
    model = nn.Sequential(
        {
            "conv": nn.Conv2d(2, 4, 3),
            "relu": nn.ReLU(),
            "pool": nn.MaxPool2d(3, 2),
            "block": Block(4),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(4 * 4 * 4, 6),
            "relu2": nn.ReLU(),
            "out": nn.Linear(6, 3),
            **{str(n): layer for n, layer in enumerate(last)},
        }
    )
    norm = model.block.norm
    norm.running_mean.data[...] = [0.1, -0.2, 0.3, 0]
    norm.running_var.data[...] = [0.5, 2, 1, 1.5]
    return model.to(backend, dtype=dtype)


X = normal(3, 2, 11, 11)


def peer(model):
    """The same network in PyTorch, with a module for each ReLU."""
    torch = pytest.importorskip("torch")

    class TorchBlock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(4)
            self.relu = torch.nn.ReLU()

        def forward(self, x):
            return self.relu(x + self.norm(self.conv(x)))

    layers = torch.nn.Sequential()
    for name, layer in {
        "conv": torch.nn.Conv2d(2, 4, 3),
        "relu": torch.nn.ReLU(),
        "pool": torch.nn.MaxPool2d(3, 2),
        "block": TorchBlock(),
        "flatten": torch.nn.Flatten(),
        "fc": torch.nn.Linear(64, 6),
        "relu2": torch.nn.ReLU(),
        "out": torch.nn.Linear(6, 3),
    }.items():
        layers.add_module(name, layer)
    state = {k: torch.tensor(model.backend.to_host(v)) for k, v in model.state_dict().items()}
    layers.double().eval().load_state_dict(state)
    return torch, layers


@pytest.mark.parametrize("target", [None, 2, [2, 0, 1]])
def test_same_numbers_as_captum(backend, target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attr = pytest.importorskip("captum.attr")
    model = network(backend)
    torch, layers = peer(model)
    x = torch.tensor(X, requires_grad=True)
    classes = layers(x).argmax(1) if target is None else torch.tensor(target)

    def same(ours, theirs, tolerance=1e-9):
        assert_close(ours, theirs.detach().numpy(), rtol=tolerance, atol=tolerance / 10)

    for path in ("conv", "relu", "pool", "block"):
        cam = attr.LayerGradCam(layers, layers.get_submodule(path))
        maps = cam.attribute(x, classes, relu_attributions=True)
        same(explain.grad_cam(model, X, path, target, resize=False), maps[:, 0])
        large = torch.nn.functional.interpolate(maps, (11, 11), mode="bilinear")
        same(explain.grad_cam(model, X, path, target), large[:, 0])
    plain = attr.Saliency(layers).attribute(x, classes, abs=False)
    same(explain.saliency(model, X, target), plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns that it sets hooks
        guided = attr.GuidedBackprop(layers).attribute(x, classes)
    same(explain.saliency(model, X, target, method="guided"), guided)
    start = torch.tensor(normal(1, 2, 11, 11, seed=1))
    along = attr.IntegratedGradients(layers).attribute(x, start, classes, n_steps=20)
    ours = explain.integrated_gradients(model, X, target, baseline=start.numpy(), steps=20)
    same(ours, along, 1e-6)  # captum's points are in float32
    settings = {"sliding_window_shapes": (2, 4, 3), "strides": (2, 2, 3), "baselines": 0.5}
    covered = attr.Occlusion(layers).attribute(x, target=classes, **settings)
    ours = explain.occlusion(model, X, target, window=(4, 3), stride=(2, 3), value=0.5)
    same(ours, covered[:, 0], 1e-6)  # captum divides in float32


def test_a_linear_model_is_explained_by_its_weight(backend):
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3)).to(backend, dtype="float64")
    weight = model[1].weight.numpy().reshape(3, 2, 2, 2)
    x = normal(4, 2, 2, 2)
    classes = [2, 0, 1, 1]
    assert_close(explain.saliency(model, x, classes), weight[classes])
    smooth = explain.saliency(model, x, classes, method="smooth", samples=7)
    assert_close(smooth, weight[classes])
    along = explain.integrated_gradients(model, x, classes, baseline=0.5, steps=3)
    assert_close(along, weight[classes] * (x - 0.5))
    drops = explain.occlusion(model, x, classes, window=1, stride=1)
    assert_close(drops, (weight[classes] * x).sum(1))


def test_integrated_gradients_sum_to_the_difference_of_the_scores(backend):
    model = network(backend, "float32")
    x = X.astype("float32")
    found = explain.integrated_gradients(model, x, 1, steps=300)
    model.eval()
    scores = [model(backend.asarray(a)).numpy()[:, 1] for a in (x, 0 * x)]
    assert found.dtype == np.float32
    assert_close(found.sum((1, 2, 3)), scores[0] - scores[1], rtol=0, atol=5e-3)


class Squares(nn.Module):
    def forward(self, x):
        return (x * x).sum((1, 2, 3)) / 2


def test_the_noise_of_smooth_gradients():
    """The gradient of x²/2 at a noisy copy is x plus its noise."""
    x = normal(2, 1, 100, 100)
    found = explain.saliency(Squares(), x.astype("float32"), method="smooth", samples=4, noise=0.2)
    for noisy, clean in zip(found, x, strict=True):
        sigma = 0.2 * (clean.max() - clean.min()) / 2  # the mean of four copies
        assert (noisy - clean).std() == pytest.approx(sigma, rel=0.03)
    again = explain.saliency(Squares(), x[:1], method="smooth", samples=4, noise=0.2)
    assert_close(again, found[:1])  # whatever the other pictures
    other = explain.saliency(Squares(), x, method="smooth", samples=4, noise=0.2, seed=1)
    assert not np.allclose(other, found)


def test_guided_gradients_through_relu6_and_fused_layers(backend):
    """2·relu6(x) - relu(x): the negative gradient stops at the second, 6 caps the first."""

    class Difference(nn.Module):
        def forward(self, x):
            y = F.relu6(x) * 2 - F.relu(x)
            return y.flatten(1)

    x = np.array([[[[-1.0, 3.0, 7.0]]]])
    gradients = [
        explain.saliency(Difference(), x, n, method="guided")[0, 0, 0, n] for n in range(3)
    ]
    assert gradients == [0, 2, 0]

    class Fused(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.fc = nn.Linear(36, 8)
            self.out = nn.Linear(8, 2)

        def forward(self, x):
            y = self.norm(self.conv(x, relu=True), relu=True)
            return self.out(self.fc(y.flatten(1), relu=True))

    class Apart(Fused):
        def forward(self, x):
            y = F.relu(self.norm(F.relu(self.conv(x))))
            return self.out(F.relu(self.fc(y.flatten(1))))

    fused, apart = Fused().to(backend, dtype="float64"), Apart().to(backend, dtype="float64")
    apart.load_state_dict(fused.state_dict())
    x = normal(2, 1, 5, 5)
    guided = explain.saliency(fused, x, 0, method="guided")
    assert not np.allclose(guided, explain.saliency(fused, x, 0))
    assert_close(guided, explain.saliency(apart, x, 0, method="guided"))


def test_scores_before_a_final_activation(backend):
    """Softmax, LogSoftmax and Sigmoid at the end do not change what is explained."""
    plain = network(backend)
    for last in (nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()):
        model = network(backend, last=[last])
        model.load_state_dict(plain.state_dict())
        assert_close(explain.grad_cam(model, X), explain.grad_cam(plain, X))
        assert_close(explain.occlusion(model, X, 1), explain.occlusion(plain, X, 1))


@pytest.mark.parametrize("shape", [(1,), ()])
def test_models_with_one_output(backend, shape):
    class One(nn.Module):
        def __init__(self):
            self.inner = network(backend)

        def forward(self, x):
            return self.inner(x)[:, :1].reshape(len(x), *shape)

    model = One()
    expected = explain.saliency(model.inner, X, 0)
    for target in (None, 0):
        assert_close(explain.saliency(model, X, target), expected)
    with pytest.raises(OutOfRangeError, match="one output"):
        explain.saliency(model, X, 1)


def test_occlusion_by_a_loop():
    model = network(xcnn.backends.get("cpu")).eval()
    found = explain.occlusion(model, X, 1, batch_size=5)  # windows 2×2, steps of 1
    drops = np.zeros((3, 11, 11))
    covers = np.zeros((11, 11))
    for i, j in itertools.product(range(10), repeat=2):
        covered = X.copy()
        covered[:, :, i : i + 2, j : j + 2] = 0
        drop = (model(X).numpy() - model(covered).numpy())[:, 1]
        drops[:, i : i + 2, j : j + 2] += drop[:, None, None]
        covers[i : i + 2, j : j + 2] += 1
    assert_close(found, drops / covers)


def test_feature_maps(backend):
    model = network(backend)
    maps = explain.feature_maps(model, X)
    assert list(maps) == ["conv", "relu", "pool", "block.conv", "block.norm"]
    model.eval()
    with nn.record_activations(model) as expected:
        model(backend.asarray(X))
    for path, values in maps.items():
        assert_close(values, backend.to_host(expected[path]))
    assert_close(maps["relu"], np.maximum(maps["conv"], 0))
    stages = explain.feature_maps(model, X, "stages")
    assert {path: values.shape for path, values in stages.items()} == {
        "relu": (3, 4, 9, 9),
        "block": (3, 4, 4, 4),
    }
    assert_close(stages["block"], np.maximum(maps["pool"] + maps["block.norm"], 0))
    chosen = explain.feature_maps(model, X, [model.block, "conv"])
    assert list(chosen) == ["conv", "block"]  # in the order of the calls


def test_no_feature_maps():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    x = np.zeros((1, 1, 2, 2), "float32")
    assert explain.feature_maps(model, x) == explain.feature_maps(model, x, "stages") == {}


def test_stages_of_residual_networks():
    model = xcnn.models.resnet20(num_classes=10, input_shape=(3, 32, 32))
    x = normal(1, 3, 32, 32, dtype="float32")
    assert list(explain.feature_maps(model, x, "stages")) == ["layer1.2", "layer2.2", "layer3.2"]
    last = explain.grad_cam(model, x, "layer3.2")
    assert_close(explain.grad_cam(model, x), last)


def test_filters(backend):
    model = network(backend, "float32")
    assert_close(explain.filters(model), model.conv.weight.numpy())
    assert_close(explain.filters(model, "block.conv"), model.block.conv.weight.numpy())
    explain.filters(model)[...] = 0  # a copy
    assert np.abs(model.conv.weight.numpy()).max() > 0


def test_statistics_of_layers(backend):
    model = network(backend)
    bias = np.array([-100.0, 0, 0, 0])  # the first channel is always negative
    model.conv.bias.data[...] = backend.asarray(bias)
    x = normal(150, 2, 11, 11)  # several batches
    found = explain.layer_statistics(model, x, bins=10)
    paths = ["conv", "relu", "pool", "block.conv", "block.norm", "block", "flatten", "fc"]
    assert [s.path for s in found] == [*paths, "relu2", "out"]
    model.eval()
    with nn.record_activations(model) as expected:
        model(backend.asarray(x))
    for s in found:
        values = backend.to_host(expected[s.path])
        assert s.mean == pytest.approx(values.mean(), abs=1e-12)
        assert s.std == pytest.approx(values.std())
        assert (s.minimum, s.maximum) == pytest.approx((values.min(), values.max()))
        assert s.zeros == (values == 0).mean()
        assert s.units == values.shape[1]
        counts, edges = np.histogram(values, 10)
        assert_close(s.edges, edges)
        assert s.counts.sum() == values.size
        assert np.abs(s.counts - counts).sum() <= 2  # a value at an edge may move
    by_path = {s.path: s for s in found}
    assert by_path["relu"].kind == "ReLU"
    dead = {path: s.dead for path, s in by_path.items() if s.dead is not None}
    block = (backend.to_host(expected["block"]) == 0).all((0, 2, 3)).sum()
    relu2 = (backend.to_host(expected["relu2"]) == 0).all(0).sum()
    assert dead == {"relu": 1, "block": block, "relu2": relu2}


def test_statistics_of_weights(backend):
    model = network(backend, "float32")
    model.fc.weight.data[2] = 0
    found = {s.path: s for s in explain.weight_statistics(model, bins=7)}
    assert list(found) == [name for name, _ in model.named_parameters()]
    fc, weight = found["fc.weight"], model.fc.weight.numpy()
    assert (fc.kind, fc.units, fc.dead) == ("Linear", 6, 1)
    assert (fc.mean, fc.std) == pytest.approx((weight.mean(), weight.std()), rel=1e-5)
    assert fc.zeros == pytest.approx(1 / 6)
    assert fc.counts.tolist() == np.histogram(weight.astype("f8"), 7)[0].tolist()
    assert found["fc.bias"].dead is None
    model.conv.bias.data[0] = np.nan
    bias = explain.weight_statistics(model)[1]
    assert np.isnan([bias.mean, bias.std, bias.minimum, bias.maximum]).all()
    assert bias.counts.sum() == 3


METHODS = {
    "grad_cam": lambda m, x: explain.grad_cam(m, x),
    "guided": lambda m, x: explain.saliency(m, x, method="guided"),
    "integrated_gradients": lambda m, x: explain.integrated_gradients(m, x, steps=2),
    "occlusion": lambda m, x: explain.occlusion(m, x),
    "feature_maps": lambda m, x: explain.feature_maps(m, x)["conv"],
    "layer_statistics": lambda m, x: explain.layer_statistics(m, x)[0].counts,
}


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method):
    """Also after an error, and whatever mode it is called in."""
    model = network(xcnn.backends.get("cpu"), "float32").train()
    x = X.astype("float32")
    model(x).sum().backward()
    model.conv.requires_grad_(False)
    model.block.eval()
    seen = []
    model.pool.register_forward_hook(lambda *call: seen.append(call))

    def state():
        return (
            [(m.training, list(m._hooks), list(m._pre_hooks)) for m in model.modules()],
            [(p.requires_grad, id(p.grad), p.grad.numpy().tobytes()) for p in model.parameters()],
            {name: a.tobytes() for name, a in model.state_dict().items()},
        )

    before, given = state(), x.copy()
    found = METHODS[method](model, x)
    with xcnn.no_grad():
        assert_close(METHODS[method](model, x), found)
    for wrong in (x[:, :1], x[:, :, :5]):
        with pytest.raises(ShapeError):
            METHODS[method](model, wrong)
    assert seen
    assert state() == before
    assert_close(x, given, rtol=0, atol=0)


def test_two_threads_explain_one_model():
    model = network(xcnn.backends.get("cpu"), "float32").train()
    x, found = X.astype("float32"), []
    expected = explain.saliency(model, x)

    def work():
        found.extend(explain.saliency(model, x) for _ in range(20))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(found) == 40
    for gradient in found:
        assert_close(gradient, expected)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_large_images_are_covered_few_at_a_time():
    sizes = []

    class Mean(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return x.mean((2, 3))

    x = np.zeros((1, 1, 1024, 512), "float32")
    explain.occlusion(Mean(), x, 0, window=(512, 256))
    assert max(sizes) == 2
    explain.occlusion(Mean(), x, 0, window=(512, 256), batch_size=5)
    assert max(sizes) == 5


def test_infinite_pixels_and_targets_that_are_arrays():
    """No warning, which pytest would raise; an array of no axes is an int."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x = np.array([[[1, np.inf], [-np.inf, 2]]] * 2)
    for target in (1, np.array(1), xcnn.Tensor(np.array(1)), [1, 1]):
        found = explain.saliency(model, x, target)
        assert_close(found, np.stack([model[1].weight.numpy()[1].reshape(2, 2)] * 2))


def test_an_empty_batch():
    model = network(xcnn.backends.get("cpu"), "float32")
    x = np.zeros((0, 2, 11, 11), "float32")
    assert explain.grad_cam(model, x).shape == (0, 11, 11)
    assert explain.saliency(model, x, method="smooth").shape == x.shape
    assert explain.integrated_gradients(model, x).shape == x.shape
    assert explain.occlusion(model, x).shape == (0, 11, 11)
    assert explain.feature_maps(model, x)["pool"].shape == (0, 4, 4, 4)
    with pytest.raises(ShapeError, match="no examples"):
        explain.layer_statistics(model, x)


ERRORS = [
    (lambda m: explain.grad_cam(m, X, "blok"), ArgumentError, "did you mean 'block'"),
    (lambda m: explain.grad_cam(m, X, "xyz"), ArgumentError, "its layers are conv, relu, pool"),
    (lambda m: explain.grad_cam(m, X, nn.ReLU()), ArgumentError, "not part of the model"),
    (lambda m: explain.grad_cam(m, X, "fc"), ShapeError, "output of .3, 6.: expected"),
    (lambda m: explain.grad_cam(m, X, target=3), OutOfRangeError, "target=3: expected from 0 to 2"),
    (lambda m: explain.grad_cam(m, X, target=-1), OutOfRangeError, "target=-1"),
    (lambda m: explain.grad_cam(m, X, target=[0, 1]), ArgumentError, "3 ints, one per example"),
    (lambda m: explain.grad_cam(m, X, target=0.5), ArgumentError, "target=0.5"),
    (lambda m: explain.grad_cam(m, X[0]), ShapeError, r"pass x\[None\]"),
    (lambda m: explain.saliency(m, X[0]), ShapeError, r"pass x\[None\]"),
    (lambda m: explain.feature_maps(m, X[0]), ShapeError, r"pass x\[None\]"),
    (lambda m: explain.saliency(m, X[:, :, :0], method="smooth"), ShapeError, "not empty"),
    (lambda m: explain.grad_cam(m, X, target=np.array(True)), ArgumentError, "target="),
    *(
        (
            lambda m, call=call: call(nn.Sequential(nn.Conv2d(11, 3, 3, data_format="NHWC")), X),
            ArgumentError,
            "layer '0' has data_format='NHWC'",
        )
        for call in (
            explain.grad_cam,
            explain.occlusion,
            explain.feature_maps,
            explain.layer_statistics,
        )
    ),
    (lambda m: explain.grad_cam(nn.Flatten(), X), ArgumentError, "no layer .* spatial"),
    (lambda m: explain.grad_cam(print, X), ArgumentError, "expected a Module"),
    (lambda m: explain.saliency(m, X, method="guide"), ArgumentError, "did you mean 'guided'"),
    (lambda m: explain.saliency(m.conv, X), ShapeError, "expected scores"),
    (lambda m: explain.saliency(Constant(), X), GradientError, "do not depend on x"),
    (lambda m: explain.integrated_gradients(m, X, baseline=X[:2]), ShapeError, "broadcasts"),
    (lambda m: explain.occlusion(m, X, window=12), ArgumentError, "at most the image's size"),
    (lambda m: explain.occlusion(m, X, window=2, stride=3), ArgumentError, "at most the window"),
    (lambda m: explain.feature_maps(m, X, "fc"), ShapeError, "its layers are conv"),
    (lambda m: explain.feature_maps(m, X, 5), ArgumentError, "layers is int"),
    (lambda m: explain.filters(m, "fc"), ArgumentError, "Linear, which has no filters"),
    (lambda m: explain.filters(nn.Linear(2, 2)), ArgumentError, "no convolution"),
    (lambda m: explain.layer_statistics(m, X, bins=0), ArgumentError, "bins=0"),
]


class Constant(nn.Module):
    def forward(self, x):
        return xcnn.zeros(len(x), 2, dtype="float64")


@pytest.mark.parametrize(("call", "error", "text"), ERRORS)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(network(xcnn.backends.get("cpu")))
