"""Models exported by PyTorch, with both of its exporters."""

import contextlib
import importlib.util
import io

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import models, optim
from xcnn.onnx import export, load

from ..conftest import normal
from ..torchvision_stub import one_thread, shake, torch, torchvision  # noqa: F401  (a fixture)
from .models import run_file

pytest.importorskip("onnxruntime")
from torchvision.models import convnext, swin_transformer

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's, of its exporters
M, CLASSES = torchvision.models, 7


class Segmented(torch.nn.Module):
    """The first output of a network that returns a dict."""

    def __init__(self):
        super().__init__()
        self.network = M.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=4
        )

    def forward(self, x):
        return self.network(x)["out"]


def small_vgg():
    """A small VGG with adaptive pooling, whose windows overlap."""
    nn = torch.nn
    body = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(392, CLASSES))


def small_convnext():
    blocks = [convnext.CNBlockConfig(16, 24, 1), convnext.CNBlockConfig(24, None, 2)]
    return convnext.ConvNeXt(blocks, num_classes=CLASSES)


def small_transformer():
    model = M.VisionTransformer(64, 16, 2, 2, 16, 32, num_classes=CLASSES)
    torch.nn.init.normal_(model.heads.head.weight)  # zeros at the start
    return model


def small_maxvit():
    return M.MaxVit((64, 64), 8, 8, [8, 16], [1, 1], 8, 0.0, num_classes=CLASSES)


def small_swin(**parts):
    model = M.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES, **parts)
    shake(model)
    return model


def small_swin_v2():
    block, merging = swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2
    return small_swin(block=block, downsample_layer=merging)


def of_name(name, **settings):
    return lambda: getattr(M, name)(weights=None, num_classes=CLASSES, **settings)


NETWORKS = {
    "convnext": small_convnext,
    "densenet": lambda: M.DenseNet(8, (2, 3), 16, num_classes=CLASSES),
    "efficientnet_b0": of_name("efficientnet_b0"),
    "googlenet": of_name("googlenet", aux_logits=False, init_weights=False),
    "lraspp": Segmented,
    "maxvit": small_maxvit,
    "mnasnet0_5": of_name("mnasnet0_5"),
    "mobilenet_v2": of_name("mobilenet_v2"),
    "mobilenet_v3_small": of_name("mobilenet_v3_small"),
    "regnet_y_400mf": of_name("regnet_y_400mf"),
    "resnet18": of_name("resnet18"),
    "shufflenet_v2_x0_5": of_name("shufflenet_v2_x0_5"),
    "squeezenet1_1": of_name("squeezenet1_1"),
    "swin": small_swin,
    "swin_v2": small_swin_v2,
    "vgg": small_vgg,
    "vit": small_transformer,
}
#: by the newer exporter, which takes many seconds for deep networks
BY_DYNAMO = ["resnet18", "vgg", "vit", "swin_v2"]  # slow
QUICK = [(name, False) for name in ("convnext", "mobilenet_v3_small", "squeezenet1_1", "vit")]
QUICK += [("vgg", True)]
EXPORTED = [(name, dynamo) for name in NETWORKS for dynamo in (False, True)]
EXPORTED = [
    pytest.param(name, dynamo, marks=[] if (name, dynamo) in QUICK else [pytest.mark.exhaustive])
    for name, dynamo in EXPORTED
    if (name in BY_DYNAMO if dynamo else name != "vgg")  # the older one refuses its windows
]


def made(name):
    """A network in evaluation mode, with random weights and statistics."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    shake(model)
    return model.eval()


def write(model, path, dynamo, **settings):
    """Export with PyTorch, with a variable batch size."""
    dtype = next(model.parameters()).dtype
    if dynamo:
        settings["dynamic_shapes"] = ({0: "batch"},)
    else:
        settings |= {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    x = torch.tensor(normal(2, 3, 64, 64), dtype=dtype)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(model, (x,), str(path), dynamo=dynamo, **settings)


def assert_near(actual, expected, tolerance=1e-5):
    """Within ``tolerance`` of the largest expected value."""
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    largest = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize(("name", "dynamo"), EXPORTED, ids=lambda v: {True: "dynamo"}.get(v))
def test_outputs_and_export_again(path, name, dynamo):
    """With another batch size than the exported one."""
    if dynamo and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("PyTorch's newer exporter needs onnxscript")
    theirs = made(name)
    write(theirs, path, dynamo)
    x = normal(3, 3, 64, 64, seed=1, dtype="float32")
    with torch.no_grad():
        expected = theirs(torch.tensor(x))
    graph = load(path)
    with xcnn.no_grad():
        assert_near(graph(x).numpy(), expected)
    again = path.with_name("again.onnx")
    export(graph, x[:2], again)
    assert_near(run_file(again, x)[0], expected)


def suppressed(boxes, scores, threshold):
    """What torchvision's compiled nms computes, by its definition."""
    left, kept = scores.argsort(descending=True, stable=True).tolist(), []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while left:
        best, *left = left
        kept.append(best)
        rest = boxes[left]
        start = torch.maximum(boxes[best, :2], rest[:, :2])
        stop = torch.minimum(boxes[best, 2:], rest[:, 2:])
        common = (stop - start).clamp(min=0).prod(1)
        near = common > threshold * (areas[best] + areas[left] - common)
        left = [box for box, is_near in zip(left, near.tolist(), strict=True) if not is_near]
    return torch.tensor(kept, dtype=torch.int64)


def _nothing_is_missing() -> None:
    return None


@pytest.mark.exhaustive
def test_detection(path, monkeypatch):
    """The whole of SSD300, with its selection of boxes; onnxruntime computes the expected ones."""
    from torchvision.ops import _register_onnx_ops, boxes

    if not torchvision.extension._has_ops():
        library = torch.library.Library("torchvision", "IMPL")
        library.impl("nms", suppressed, "CPU")
        monkeypatch.setattr(boxes, "_assert_has_ops", _nothing_is_missing)
        _register_onnx_ops._register_custom_op()
    torch.manual_seed(0)
    ssd = M.detection.ssd300_vgg16(
        weights=None,
        weights_backbone=None,
        num_classes=3,
        topk_candidates=30,
        detections_per_img=20,
    )
    shake(ssd)
    images = torch.rand(2, 3, 64, 64)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(ssd.eval(), ([images[0]],), str(path), dynamo=False, opset_version=17)
    graph = load(path)
    for image in images.numpy():
        expected = run_file(path, image)
        assert len(expected[1]) == 20
        with xcnn.no_grad():
            for y, wanted in zip(graph(image), expected, strict=True):
                assert_near(y.numpy(), wanted)


class Mixed(torch.nn.Module):
    """Operators whose form changed between versions; PyTorch exports version 9 and later."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, ceil_mode=True)
        self.slopes = nn.PReLU(8)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.drop = nn.Dropout(0.3)
        self.linear = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.up(self.slopes(self.pool(self.norm(self.conv(x)))))
        x = torch.nn.functional.pad(x, (1, 2, 0, 1), value=0.5).clamp(-2, 2.5)
        first, second = x[:, :, 1:, :-2].split(4, 1)
        x = torch.cat([first.softmax(1), second.squeeze().unsqueeze(1)[:, 0]], 1)
        x = x.sum(3, keepdim=True) + x.amax((2, 3), keepdim=True) / x.shape[2]
        return self.linear(self.drop(x.mean((2, 3)))).log_softmax(1)


OPSETS = [
    pytest.param(n, marks=[] if n in (9, 13, 18) else [pytest.mark.exhaustive])
    for n in range(9, 21)
]


@pytest.mark.parametrize("opset", OPSETS)
def test_older_operator_sets(path, opset):
    torch.manual_seed(0)
    theirs = Mixed().eval()
    shake(theirs)
    write(theirs, path, False, opset_version=opset)
    x = normal(3, 3, 64, 64, seed=1, dtype="float32")
    with torch.no_grad():
        expected = theirs(torch.tensor(x))
    graph = load(path)
    with xcnn.no_grad():
        assert_near(graph(x).numpy(), expected)
    again = path.with_name("again.onnx")
    export(graph, x[:2], again)
    assert_near(run_file(again, x)[0], expected)
    assert_near(load(again)(x).numpy(), expected)


def trainable(model, path):
    """An export that keeps batch-norms and weights unchanged."""
    mode = torch.onnx.TrainingMode.PRESERVE
    write(model, path, False, training=mode, do_constant_folding=False)
    return load(path)


def test_weights_have_their_names(path):
    theirs = made("resnet18")
    state = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    graph = trainable(theirs, path)
    assert set(graph.state_dict()) == set(state)
    assert {n for n, _ in graph.named_parameters()} == {n for n, _ in theirs.named_parameters()}
    for key, weight in graph.state_dict().items():
        np.testing.assert_array_equal(weight, state[key].numpy())
    ours = models.resnet18(num_classes=CLASSES)
    ours.load_state_dict(graph.state_dict(), strict=False)
    x = normal(3, 3, 64, 64, seed=1, dtype="float32")
    with torch.no_grad():
        assert_near(ours.eval()(x).numpy(), theirs(torch.tensor(x)))


def test_a_step_of_training(path):
    """In float64, as batch-norm over few pixels amplifies rounding; settings are float32."""
    theirs = made("resnet18").double()
    graph = trainable(theirs, path).train()
    theirs.train()
    x, labels = normal(4, 3, 64, 64, seed=1), np.arange(4) % CLASSES
    step = optim.SGD(graph.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    peer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        loss = F.cross_entropy(graph(x), labels)
        expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        for optimiser, result in ((step, loss), (peer, expected)):
            optimiser.zero_grad()
            result.backward()
            optimiser.step()
    state = theirs.state_dict()
    for key, weight in graph.state_dict().items():
        assert_near(weight, state[key], 1e-6)
    again = path.with_name("again.onnx")
    export(graph.eval().to(dtype="float32"), x.astype("float32"), again)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x[:3]))
    assert_near(run_file(again, x[:3].astype("float32"))[0], expected, 1e-4)
