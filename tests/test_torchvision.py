"""The networks that torchvision has too: the same names, shapes and numbers."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import init, models

from .conftest import normal
from .torchvision_stub import one_thread, shake, torch, torchvision  # noqa: F401  (a fixture)

safetensors = pytest.importorskip("safetensors.torch")

NAMES = [
    "efficientnet_b0",
    "googlenet",
    "mobilenet_v2",
    "resnet18",
    "resnet50",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
]
#: without these, torchvision's GoogLeNet has auxiliary classifiers, and warns of slow weights
GOOGLENET = {"aux_logits": False, "init_weights": False}


def peer(name, **settings):
    """Torchvision's network with weights and running averages as after some training."""
    settings = {**(GOOGLENET if name == "googlenet" else {}), **settings}
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None, **settings)
    shake(model)
    return model.eval()


def copied(theirs, ours, path):
    """``ours`` with the weights of ``theirs``, by way of a file."""
    safetensors.save_file(theirs.state_dict(), path)
    return xcnn.load(path, ours)


def shapes_of(model):
    return {name: tuple(t.shape) for name, t in (*model.named_parameters(), *model.named_buffers())}


def assert_near(actual, expected, tolerance):
    """Within ``tolerance`` of the largest expected value; a gradient may be zero but for rounding,
    such as that of a bias before a batch-norm.
    """
    expected = expected.detach().numpy()
    largest = max(1e-6, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes(name):
    with torch.device("meta"):  # of no memory
        theirs = getattr(torchvision.models, name)(
            weights=None, **(GOOGLENET if name == "googlenet" else {})
        )
    with init.skipped():
        ours = models.create(name)
    assert shapes_of(ours) == shapes_of(theirs)
    parameters = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_parameters()] == parameters


def test_every_network_of_torchvision_is_compared():
    known = {n for n in models.names() if hasattr(torchvision.models, n)} - {"unet"}
    assert known == set(NAMES)


@pytest.mark.parametrize("name", [n for n in NAMES if "vgg" not in n])
def test_outputs(name, tmp_path):
    theirs = peer(name, num_classes=10)
    with init.skipped():
        ours = models.create(name, num_classes=10)
    copied(theirs, ours, tmp_path / "weights.safetensors")
    x = normal(2, 3, 75, 49)
    with torch.no_grad():
        single = theirs(torch.tensor(x, dtype=torch.float32))
        double = theirs.double()(torch.tensor(x))
    found = ours(x.astype("float32")).data
    assert found.dtype == np.float32
    assert_near(found, single, 1e-4)
    assert_near(ours.to(dtype="float64")(x).data, double, 1e-11)


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


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_gradients_and_running_averages(name, tmp_path):
    settings = {} if name == "resnet18" else {"dropout": 0.0}
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
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for key, parameter in theirs.named_parameters():
        assert_near(gradients[key], parameter.grad, 1e-7)
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


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
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
