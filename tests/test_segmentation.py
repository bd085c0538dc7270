"""Segmentation: networks against torchvision, generated shapes, folders of masks, the task."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import init, models

from .conftest import normal

# -- networks -----------------------------------------------------------------------------------

TORCHVISION = [
    "deeplabv3_resnet50",
    pytest.param("deeplabv3_resnet101", marks=pytest.mark.exhaustive),
    pytest.param("fcn_resnet50", marks=pytest.mark.exhaustive),
    "fcn_resnet101",
]


@pytest.fixture
def torchvision():
    pytest.importorskip("torch")
    from .torchvision_stub import torchvision

    return torchvision


def shake(model):
    from .torchvision_stub import shake

    shake(model)


def shapes_of(model):
    return {n: tuple(t.shape) for n, t in (*model.named_parameters(), *model.named_buffers())}


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("aux_loss", [False, True])
def test_weights_have_the_names_and_shapes_of_torchvision(torchvision, name, aux_loss):
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        make = getattr(torchvision.models.segmentation, name)
        theirs = make(weights=None, weights_backbone=None, aux_loss=aux_loss)
    with init.skipped():
        ours = models.create(name, aux_loss=aux_loss)
    assert shapes_of(ours) == shapes_of(theirs)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def pair(torchvision, name, block, path):
    """A small network of each library with the same weights, in float64 and without dropout."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    from torchvision.models import _utils, resnet, segmentation

    torch.manual_seed(0)
    kind = resnet.Bottleneck if block == "bottleneck" else resnet.BasicBlock
    backbone = resnet.ResNet(kind, [1, 1, 2, 2])
    for stage, before in ((backbone.layer3, 1), (backbone.layer4, 2)):
        for layer_name, layer in stage.named_modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.stride = (1, 1)
                if layer.kernel_size == (3, 3):  # torchvision has no dilated BasicBlock
                    dilation = before if layer_name.startswith("0.") else 2 * before
                    layer.dilation = layer.padding = (dilation, dilation)
    getter = _utils.IntermediateLayerGetter(backbone, {"layer4": "out", "layer3": "aux"})
    channels, module = 512 * kind.expansion, getattr(segmentation, name)
    head, model = {"fcn": ("FCNHead", "FCN"), "deeplabv3": ("DeepLabHead", "DeepLabV3")}[name]
    theirs = getattr(module, model)(
        getter, getattr(module, head)(channels, 4), segmentation.fcn.FCNHead(channels // 2, 4)
    )
    shake(theirs)
    ours = models.PARTS["SegmentationNetwork"](name, block, (1, 1, 2, 2), 3, 4, True)
    safetensors.save_file(theirs.state_dict(), path)
    xcnn.load(path, ours)
    for module in (*theirs.modules(), *ours.modules()):
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    return theirs.double(), ours.to(dtype="float64")


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("deeplabv3", "basic"),
        pytest.param("fcn", "bottleneck", marks=pytest.mark.exhaustive),
        pytest.param("deeplabv3", "bottleneck", marks=pytest.mark.exhaustive),
    ],
)
def test_outputs_and_gradients_of_torchvision(torchvision, name, block, tmp_path):
    torch = pytest.importorskip("torch")
    theirs, ours = pair(torchvision, name, block, tmp_path / "weights.safetensors")
    x = normal(2, 3, 17, 24)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x))["out"]
    np.testing.assert_allclose(ours.eval()(x).data, expected, atol=1e-9)
    expected, found = theirs.train()(torch.tensor(x)), ours.train()(x)
    assert list(found) == ["out", "aux"]
    labels = np.random.default_rng(0).integers(0, 4, (2, 17, 24))
    labels[0, :5] = 255
    ce = torch.nn.functional.cross_entropy
    truth = torch.tensor(labels)
    loss = ce(expected["out"], truth, ignore_index=255)
    (loss + 0.5 * ce(expected["aux"], truth, ignore_index=255)).backward()
    own = F.cross_entropy(found["out"], labels, ignore_index=255)
    (own + F.cross_entropy(found["aux"], labels, ignore_index=255) * 0.5).backward()
    assert own.item() == pytest.approx(loss.item(), rel=1e-9)
    gradients = {n: p.grad for n, p in ours.named_parameters()}
    for key, parameter in theirs.named_parameters():
        reference = parameter.grad.numpy()
        tolerance = 1e-7 * max(1e-6, np.abs(reference).max())
        np.testing.assert_allclose(gradients[key], reference, rtol=0, atol=tolerance, err_msg=key)


def test_torchvisions_files_also_fit_without_the_auxiliary_head(tmp_path):
    xcnn.save(models.fcn_resnet18(3, (3, 32, 32), aux_loss=True), tmp_path / "w.safetensors")
    model = models.fcn_resnet18(3, (3, 32, 32), weights=tmp_path / "w.safetensors")
    assert model.aux_classifier is None
    assert model.train()(normal(2, 3, 33, 40, dtype="float32")).shape == (2, 3, 33, 40)
