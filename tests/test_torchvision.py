"""The networks that torchvision has too: the same names, shapes and numbers."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import init, models, nn

from .conftest import normal
from .families import networks
from .torchvision_stub import one_thread, shake, torch, torchvision  # noqa: F401  (a fixture)

safetensors = pytest.importorskip("safetensors.torch")

#: one or two of each family, with few weights: for the others, the shapes of the weights suffice
FORWARD = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    pytest.param("efficientnet_v2_s", marks=pytest.mark.exhaustive),
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    pytest.param("resnext50_32x4d", marks=pytest.mark.exhaustive),
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "squeezenet1_1",
]
#: not in xcnn
MISSING = {"inception_v3", "maxvit_t", "regnet_y_128gf", "vit_h_14"}
MISSING |= {f"swin_{version}{size}" for version in ("", "v2_") for size in "tsb"}
#: the networks that torchvision has too
NAMES = {n for n in models.names() if hasattr(torchvision.models, n)} - {"unet"}
#: without these, torchvision's GoogLeNet has auxiliary classifiers, and warns of slow weights
GOOGLENET = {"aux_logits": False, "init_weights": False}


def peer(name, **settings):
    """Torchvision's network with weights and running averages as after some training."""
    settings = {**(GOOGLENET if name == "googlenet" else {}), **settings}
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None, **settings)
    shake(model)
    for name, parameter in model.named_parameters():
        if "layer_scale" in name:  # of ConvNeXt: 1e-6
            torch.nn.init.normal_(parameter)
    return model.eval()


def copied(theirs, ours, path):
    """``ours`` with the weights of ``theirs``, by way of a file."""
    safetensors.save_file(theirs.state_dict(), path)
    return xcnn.load(path, ours)


def assert_same(theirs, ours, x, classes):
    """Outputs in float32 and float64, and the gradients in float64."""
    with torch.no_grad():
        single = theirs(torch.tensor(x, dtype=torch.float32))
    found = ours(x.astype("float32")).data
    assert found.dtype == np.float32
    assert_near(found, single, 1e-4)
    double, found = theirs.double()(torch.tensor(x)), ours.to(dtype="float64")(x)
    assert_near(found.data, double, 1e-11)
    labels = np.arange(len(x)) % classes
    F.cross_entropy(found, labels).backward()
    torch.nn.functional.cross_entropy(double, torch.tensor(labels)).backward()
    assert_gradients(ours, theirs)


def assert_gradients(ours, theirs):
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for key, parameter in theirs.named_parameters():
        assert_near(gradients[key], parameter.grad, 1e-7)


def shapes_of(model):
    return {name: tuple(t.shape) for name, t in (*model.named_parameters(), *model.named_buffers())}


def assert_near(actual, expected, tolerance):
    """Within ``tolerance`` of the largest expected value; a gradient may be zero but for rounding,
    such as that of a bias before a batch-norm.
    """
    expected = expected.detach().numpy()
    largest = max(1e-6, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


@pytest.fixture
def unallocated(monkeypatch):
    """Networks of torchvision without memory for their weights; RegNet computes its widths."""
    find = torchvision.models.regnet.BlockParams.from_init_params

    def on_cpu(*arguments, **settings):
        with torch.device("cpu"):
            return find(*arguments, **settings)

    monkeypatch.setattr(torchvision.models.regnet.BlockParams, "from_init_params", on_cpu)
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", networks(without=set(models.names()) - NAMES))
def test_names_and_shapes(name, unallocated):
    settings = GOOGLENET if name == "googlenet" else {}
    theirs = getattr(torchvision.models, name)(weights=None, **settings)
    with init.skipped():
        ours = models.create(name)
    assert shapes_of(ours) == shapes_of(theirs)
    parameters = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_parameters()] == parameters
    norms = [(m.eps, m.momentum) for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
    kind = torch.nn.BatchNorm2d
    assert norms == [(m.eps, m.momentum) for m in theirs.modules() if isinstance(m, kind)]


def test_these_are_the_networks_of_torchvision():
    listed = set(torchvision.models.list_models(module=torchvision.models))
    assert listed - NAMES == MISSING
    assert listed >= NAMES


@pytest.mark.parametrize("name", FORWARD)
def test_outputs_and_gradients(name, tmp_path):
    """In evaluation mode, with float32 and float64."""
    theirs = peer(name, num_classes=10)
    with init.skipped():
        ours = models.create(name, num_classes=10)
    copied(theirs, ours, tmp_path / "weights.safetensors")
    x = normal(2, 3, 75, 49)
    assert_same(theirs, ours, x, 10)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_outputs_of_vgg(name, tmp_path):
    """In the form for small images: a twentieth of the weights."""
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None, num_classes=10)
    theirs.avgpool = torch.nn.AdaptiveAvgPool2d(1)
    theirs.classifier[0] = torch.nn.Linear(512, 4096, device="meta")
    torch.manual_seed(0)
    theirs = theirs.to_empty(device="cpu").eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0, 0.2)
        else:
            torch.nn.init.kaiming_uniform_(parameter)
    shake(theirs)
    with init.skipped():
        ours = models.create(name, num_classes=10, input_shape=(3, 32, 32))
    copied(theirs, ours, tmp_path / "weights.safetensors")
    for size in (32, 70):
        x = normal(2, 3, size, size, dtype="float32")
        with torch.no_grad():
            assert_near(ours(x).data, theirs(torch.tensor(x)), 1e-4)


def test_outputs_of_alexnet(tmp_path):
    """In the form for small images, with fewer features."""
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(weights=None, num_classes=10).eval()
    theirs.avgpool = torch.nn.AdaptiveAvgPool2d((1, 2))
    theirs.classifier[1] = torch.nn.Linear(512, 64)
    theirs.classifier[4] = torch.nn.Linear(64, 64)
    theirs.classifier[6] = torch.nn.Linear(64, 10)
    with init.skipped():
        ours = models.alexnet(10, (3, 63, 95))
    for place, inputs, outputs in ((1, 512, 64), (4, 64, 64), (6, 64, 10)):
        ours.classifier[place] = nn.Linear(inputs, outputs)
    copied(theirs, ours, tmp_path / "weights.safetensors")
    assert_same(theirs, ours, normal(2, 3, 63, 95), 10)


def test_outputs_of_the_vision_transformer(tmp_path):
    """A small one."""
    torch.manual_seed(0)
    theirs = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 48, num_classes=5).eval()
    for name, parameter in theirs.named_parameters():
        if "head." in name or "class_token" in name or "bias" in name:
            torch.nn.init.normal_(parameter)
    ours = models.PARTS["VisionTransformer"]((3, 32, 32), 5, 8, 2, 4, 32, 48)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    copied(theirs, ours, tmp_path / "weights.safetensors")
    assert_same(theirs, ours, normal(3, 3, 32, 32), 5)


def test_classifiers_in_the_middle_of_googlenet(tmp_path):
    theirs = peer("googlenet", num_classes=10, aux_logits=True)
    ours = models.googlenet(num_classes=10, aux_logits=True)
    assert shapes_of(ours) == shapes_of(theirs)
    copied(theirs, ours, tmp_path / "weights.safetensors")
    x = normal(2, 3, 64, 64, dtype="float32")
    assert_near(ours(x).data, theirs(torch.tensor(x)), 1e-4)
    for name, channels in (("aux1", 512), ("aux2", 528)):
        x = normal(2, channels, 7, 5, dtype="float32")
        expected = getattr(theirs, name)(torch.tensor(x))
        assert_near(getattr(ours, name)(x).data, expected, 1e-5)
    outputs = ours.train()(normal(2, 3, 64, 64, dtype="float32"))
    assert [y.shape for y in outputs] == [(2, 10)] * 3
    assert sum(p.numel() for p in models.googlenet(aux_logits=True).parameters()) == 13_004_888


TRAINED = {
    "resnet18": {},
    "mobilenet_v2": {"dropout": 0.0},
    "mobilenet_v3_small": {"dropout": 0.0},
    "regnet_y_400mf": {},
    "shufflenet_v2_x0_5": {},
}


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_and_running_averages(name, tmp_path):
    settings = TRAINED[name]
    theirs = peer(name, num_classes=5, **settings).train()
    ours = models.create(name, num_classes=5, **settings)
    copied(theirs, ours, tmp_path / "weights.safetensors")
    theirs, ours = theirs.double(), ours.to(dtype="float64").train()
    x, labels = normal(6, 3, 40, 32), np.arange(6) % 5
    loss = F.cross_entropy(ours(x), labels)
    loss.backward()
    expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert_gradients(ours, theirs)
    buffers = dict(ours.named_buffers())
    for key, buffer in theirs.named_buffers():
        assert_near(buffers[key].data, buffer, 1e-10)


def test_weights_go_back(tmp_path):
    """What xcnn saves, PyTorch reads."""
    ours = models.resnet18(num_classes=5)
    xcnn.save(ours, tmp_path / "weights.safetensors")
    theirs = torchvision.models.resnet18(weights=None, num_classes=5)
    theirs.load_state_dict(safetensors.load_file(tmp_path / "weights.safetensors"))
    x = normal(2, 3, 40, 40, dtype="float32")
    with torch.no_grad():
        assert_near(ours.eval()(x).data, theirs.eval()(torch.tensor(x)), 1e-4)


@pytest.mark.parametrize(
    "name",
    [
        *("densenet121", "efficientnet_b0", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"),
        *("regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_0"),
        pytest.param("convnext_tiny", marks=pytest.mark.exhaustive),
    ],
)
def test_initial_weights(name):
    """Each layer's weights have the spread of torchvision's."""
    torch.manual_seed(0)
    xcnn.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).state_dict()
    for key, weight in models.create(name).state_dict().items():
        if weight.ndim > 1 and weight.size > 10_000:
            expected = theirs[key].numpy()
            assert weight.std() == pytest.approx(expected.std(), rel=0.05), key
            assert abs(weight.mean()) < 0.05 * weight.std(), key
        elif "bn" in key and key.endswith("weight"):
            assert (weight == 1).all()
