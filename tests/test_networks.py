"""The blocks of the networks against plain loops and PyTorch; training on every device."""

import copy
import itertools

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import models, nn, optim
from xcnn.data import arrays_of
from xcnn.errors import ShapeError
from xcnn.summary import layers

from . import oracles
from .conftest import assert_matches, normal
from .strict import count_syncs, forbid_float64

# -- LeNet-5 of 1998 -----------------------------------------------------------------------


def test_parameters_of_each_layer_of_the_paper():
    model = models.lenet5_1998()
    counts = {
        name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()
    }
    assert {name: n for name, n in counts.items() if n} == {
        "c1": 156,
        "s2": 12,
        "c3": 1_516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
    }
    assert sum(counts.values()) == 60_000


@pytest.mark.parametrize("size", [28, 32])
def test_shapes_and_connections_of_the_paper(size):
    model = models.lenet5_1998(input_shape=(1, size, size))
    rows = layers(model, (1, size, size))
    shapes = {row.path: row.output_shape for row in rows}
    assert shapes["c1"] == (6, 28, 28)
    assert shapes["s2"] == (6, 14, 14)
    assert shapes["c3"] == (16, 10, 10)
    assert shapes["s4"] == (16, 5, 5)
    assert shapes["c5"] == (120, 1, 1)
    assert shapes["output"] == (10,)
    c3 = next(row for row in rows if row.path == "c3")
    assert c3.multiply_adds == 151_600 - 16 * 100  # the paper counts biases too


def test_the_connections_of_c3():
    """Table I: contiguous threes, contiguous fours, fours with gaps, all six."""
    connected = models.lenet5_1998().c3.places.data.sum(axis=1).reshape(16, 6)
    threes = [{i, (i + 1) % 6, (i + 2) % 6} for i in range(6)]
    fours = [{(i + k) % 6 for k in range(4)} for i in range(6)]
    gaps = [{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}]
    assert [set(np.flatnonzero(row)) for row in connected] == [
        *threes,
        *fours,
        *gaps,
        set(range(6)),
    ]


def test_partial_convolution(backend):
    table = ((0, 2), (1,), (0, 1, 2))
    layer = models.PARTS["PartialConv2d"](3, table, 3).to(backend).to(dtype="float64")
    layer.bias.data[...] = backend.asarray(normal(3, seed=1))
    weight, kernels = np.zeros((3, 3, 3, 3)), iter(layer.kernels.numpy())
    for o, seen in enumerate(table):
        for i in seen:
            weight[o, i] = next(kernels)
    x = normal(2, 3, 7, 6)
    y = layer(backend.asarray(x))
    assert_matches(y, oracles.conv2d(x, weight, layer.bias.numpy()))
    dy = normal(*y.shape, seed=2)
    y.backward(backend.asarray(dy))
    _, expected, _ = oracles.conv2d_gradients(dy, x, weight)
    pairs = [(o, i) for o, seen in enumerate(table) for i in seen]
    assert_matches(layer.kernels.grad, np.stack([expected[pair] for pair in pairs]))


def test_subsampling(backend):
    layer = models.PARTS["Subsampling"](3).to(backend).to(dtype="float64")
    weight, bias, x = normal(3), normal(3, seed=1), normal(2, 3, 5, 4, seed=2)
    layer.weight.data[...] = backend.asarray(weight)
    layer.bias.data[...] = backend.asarray(bias)
    expected = np.zeros((2, 3, 2, 2))
    for n, c, i, j in np.ndindex(expected.shape):
        window = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        a = window.sum() / 4 * weight[c] + bias[c]
        expected[n, c, i, j] = 1.7159 * np.tanh(2 * a / 3)
    assert_matches(layer(backend.asarray(x)), expected)


def test_scaled_tanh_maps_one_to_one():
    assert models.PARTS["ScaledTanh"]()(np.array([-1.0, 0, 1])).data == pytest.approx(
        [-1, 0, 1], abs=1e-4
    )


def test_gaussian_outputs(backend):
    layer = models.PARTS["RBF"](10).to(backend)
    codes = layer.codes.numpy()
    assert set(np.unique(codes)) == {-1, 1}
    x = normal(3, 84, dtype="float32")
    expected = [[-sum((row - code) ** 2) for code in codes] for row in x.astype("float64")]
    assert_matches(layer(backend.asarray(x)), np.array(expected), dtype="float32")


@pytest.mark.parametrize(("classes", "least"), [(10, 40), (63, 32), (127, 20)])
def test_codes_are_far_apart(classes, least):
    codes = models.PARTS["RBF"](classes).codes.data
    assert codes.shape == (classes, 84)
    distances = [(a != b).sum() for a, b in itertools.combinations(codes, 2)]
    assert min(distances) >= least


# -- blocks --------------------------------------------------------------------------------

#: constructor arguments for images of four channels
PARTS = {
    "ASPP": (4, (1, 2), 3),
    "BasicBlock": (4, 6, 2),
    "Bottleneck": (4, 2, 1),
    "CenterNet": (nn.Sequential({"layer1": nn.Conv2d(4, 6, 4, 4)}), [6], 3, 5),
    "ConvBNReLU": (4, 2, 3),
    "ConvNeXtBlock": (4, 0.5, 0.5),
    "DCGAN": ((4, 16, 16), 3, 2),
    "DenseLayer": (4, 2),
    "EDSR": (4, 4, 2, 2, 0.5),
    "EDSRBlock": (4, 0.5),
    "Features": (nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU()), (0.5,) * 4, (0.2,) * 4),
    "Fire": (4, 2, 3),
    "FusedMBConv": (4, 4, 3, 1, 2, 0.5),
    "GoogLeNet": (4, 3, True, 0.1),
    "Hourglass": (4, 3, 6, 2),
    "HourglassBlock": (4,),
    "Inception": (4, 2, (1, 2), (1, 2), 3),
    "InceptionAux": (4, 3),
    "InvertedResidual": (4, 4, 1, 2),
    "InvertedResidualV3": (4, 8, 4, 5, 1, True, "hardswish"),
    "LayerNorm2d": (4,),
    "MBConv": (4, 4, 3, 1, 2, 0.5),
    "MnasBlock": (4, 4, 5, 1, 2),
    "PartialConv2d": (4, ((0, 1), (1, 2, 3)), 3),
    "Permute": ((0, 2, 3, 1),),
    "PlainShortcutBlock": (4, 6, 2),
    "RBF": (5,),
    "RegNetBlock": (4, 6, 2, 2, 3),
    "SSDLite": (4, 3),
    "ScaledTanh": (),
    "SegmentationNetwork": ("fcn", "basic", (1, 1, 1, 1), 4, 3, True),
    "ShuffleUnit": (4, 4, 1),
    "SqueezeExcitation": (4, 2),
    "StochasticDepth": (0.5,),
    "StyleConv": (4, 3, 3, 2, 2),
    "StyleResidual": (4,),
    "Subsampling": (4,),
    "TransformerNet": (4, 2),
    "UNet": (4, 3, 2),
    "VAE": ((4, 16, 16), 3),
    "ViTBlock": (8, 2, 6, 0.1),
    "ViTEncoder": (5, 2, 2, 8, 6, 0.1),
    "VisionTransformer": ((4, 16, 16), 3, 8, 1, 2, 6, 5),
}
SHAPES = {"RBF": (84,), "ViTEncoder": (5, 8), "ViTBlock": (5, 8)}


def create(part):
    return models.PARTS[part](*copy.deepcopy(PARTS[part]))


def image_of(part, batch=2):
    return normal(batch, *SHAPES.get(part, (4, 16, 16)), dtype="float32")


@pytest.mark.parametrize("name", models.PARTS)
def test_round_trip(name, tmp_path):
    model = create(name)
    xcnn.save(model, tmp_path / "model.safetensors")
    loaded = xcnn.load(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    x = image_of(name)
    for one, other in zip(arrays_of(loaded(x)), arrays_of(model.eval()(x)), strict=True):
        np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.parametrize("name", models.PARTS)
@pytest.mark.parametrize("batch", [0, 2])
def test_forward_and_backward(name, batch, backend):
    """In float32 and without waiting for a GPU; nothing is learnt from an empty batch."""
    if (
        name in ("GoogLeNet", "SSDLite", "SegmentationNetwork")
        and batch
        and backend.device == "strict"
    ):
        pytest.skip("its convolutions take long in the shim; they are tested there one by one")
    model = create(name).to(backend).train()
    x = xcnn.Tensor(backend.asarray(image_of(name, batch)), requires_grad=True)
    with count_syncs() as syncs, forbid_float64():
        total = sum(y.sum() for y in arrays_of(model(x)))
        total.backward()
    assert syncs == []
    assert x.grad.shape == x.shape
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert {grad.dtype.name for grad in grads} <= {"float32"}
    assert batch or not any(grad.numpy().any() for grad in grads)


def test_stochastic_depth(backend):
    xcnn.manual_seed(0)
    layer = models.PARTS["StochasticDepth"](0.25)
    x = backend.asarray(normal(2000, 2, 3, 1, dtype="float32"))
    tensor = xcnn.Tensor(x, requires_grad=True)
    y = layer(tensor)
    factors = (y.numpy() / backend.to_host(x)).reshape(2000, -1)
    assert factors.max(axis=1) == pytest.approx(factors.min(axis=1), rel=1e-5)
    survived = factors[:, 0] > 0
    assert factors[survived] == pytest.approx(1 / 0.75, rel=1e-5)
    assert survived.mean() == pytest.approx(0.75, abs=0.04)
    y.backward(backend.xp.ones_like(x))
    slopes = backend.to_host(tensor.grad.data).reshape(2000, -1)
    np.testing.assert_allclose(
        slopes, np.where(survived, 1 / 0.75, 0)[:, None].repeat(6, 1), rtol=1e-6
    )
    assert layer.eval()(tensor) is tensor
    assert models.PARTS["StochasticDepth"](0.0)(tensor) is tensor
    assert layer.train()(backend.xp.zeros((0, 2), "float32")).shape == (0, 2)


def test_stochastic_depth_grows_with_the_blocks():
    model = models.efficientnet_b0(10)
    drops = [m.p for m in model.modules() if type(m).__name__ == "StochasticDepth"]
    assert drops == pytest.approx([0.2 * i / 16 for i in range(16)])


def test_shortcuts_without_weights(backend):
    """Every second pixel, and zeros for the channels that are missing (option A)."""
    block = models.PARTS["PlainShortcutBlock"](3, 5, 2).to(backend).eval()
    block.bn2.weight.data.fill(0)
    x = np.abs(normal(2, 3, 5, 4, dtype="float32"))
    expected = np.concatenate([x[:, :, ::2, ::2], np.zeros((2, 2, 3, 2), "float32")], axis=1)
    np.testing.assert_array_equal(block(backend.asarray(x)).numpy(), expected)
    inner = models.PARTS["PlainShortcutBlock"](3, 3).to(backend).eval()
    inner.bn2.weight.data.fill(0)
    np.testing.assert_array_equal(inner(backend.asarray(x)).numpy(), x)


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 9), ("resnet56", 27)])
def test_layers_of_the_cifar_networks(name, blocks):
    model = models.create(name)
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == int(name[6:]) == 2 * blocks + 2
    rows = layers(model, (3, 32, 32))
    shapes = {row.path: row.output_shape for row in rows}
    assert shapes["layer1.0.bn2"] == (16, 32, 32)
    assert shapes["layer2.0.bn2"] == (32, 16, 16)
    assert shapes["layer3.0.bn2"] == (64, 8, 8)


def test_parameters_of_unet():
    def double(i, o):
        return 9 * i * o + 9 * o * o + 2 * 2 * o

    widths = [64, 128, 256, 512, 1024]
    expected = sum(double(i, o) for i, o in zip([3, *widths], widths, strict=False))
    expected += sum(double(2 * w, w) + 4 * 2 * w * w + w for w in widths[:-1])
    assert expected + (64 + 1) * 2 == 31_037_698
    thin = models.unet(5, (1, 16, 16), width=2)
    assert thin.head.weight.shape == (5, 2, 1, 1)
    assert thin.down[4][0].weight.shape == (32, 16, 3, 3)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (45, 16)], ids=str)
def test_unet_takes_every_size(size, backend):
    model = models.unet(3, (2, 16, 16), width=2).to(backend)
    assert model(backend.xp.ones((2, 2, *size), "float32")).shape == (2, 3, *size)


def test_unet_sees_the_same_size_twice():
    """Distant pixels influence the output through the deeper levels."""
    xcnn.manual_seed(0)
    model = models.unet(1, (1, 64, 64), width=8).eval()
    x = np.zeros((1, 1, 64, 64), np.float32)
    before = model(x).data
    x[0, 0, 32, 32] = 100
    changed = np.abs(model(x).data - before)[0, 0] > 0
    assert changed[32, 32]
    assert changed[32, 12]  # beyond the 8 pixels that the full-size convolutions reach


def test_vision_transformer_takes_one_size():
    model = models.PARTS["VisionTransformer"]((3, 16, 24), 5, 8, 1, 2, 6, 5)
    assert model(np.ones((2, 3, 16, 24), np.float32)).shape == (2, 5)
    text = r"images of shape \(2, 3, 24, 16\): expected \(N, 3, 16, 24\), as there is a weight per"
    with pytest.raises(ShapeError, match=text):
        model(np.ones((2, 3, 24, 16), np.float32))


def test_autoencoder():
    shape = (3, 32, 24)
    model = models.autoencoder(input_shape=shape, code=7)
    x = normal(2, *shape, dtype="float32")
    code = model.encoder(x)
    assert code.shape == (2, 7)
    y = model.decoder(code)
    assert y.shape == x.shape
    assert 0 < y.data.min() < y.data.max() < 1
    np.testing.assert_array_equal(model(x).data, y.data)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_espcn(factor):
    model = models.espcn(input_shape=(3, 8, 8), upscale_factor=factor)
    by_hand = (75 + 1) * 64 + (576 + 1) * 32 + (288 + 1) * 3 * factor**2
    assert sum(p.numel() for p in model.parameters()) == by_hand
    assert model(np.ones((2, 3, 9, 7), np.float32)).shape == (2, 3, 9 * factor, 7 * factor)


# -- against PyTorch functions ----------------------------------------------------------


class Peer:
    """PyTorch functions with the weights of an xcnn model, by name."""

    def __init__(self, torch, state):
        self.functional = torch.nn.functional
        self.state = {name: torch.tensor(array) for name, array in state.items()}

    def conv(self, x, name, **settings):
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return self.functional.conv2d(x, weight, bias, **settings)

    def norm(self, x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return self.functional.batch_norm(x, *(self.state[f"{name}.{k}"] for k in names))


def resnet20(torch, peer, x):
    x = torch.relu(peer.norm(peer.conv(x, "conv1", padding=1), "bn1"))
    for stage, block in itertools.product((1, 2, 3), (0, 1, 2)):
        name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
        y = peer.conv(x, f"{name}.conv1", padding=1, stride=stride)
        y = torch.relu(peer.norm(y, f"{name}.bn1"))
        y = peer.norm(peer.conv(y, f"{name}.conv2", padding=1), f"{name}.bn2")
        if stride == 2:
            x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], 1)
        x = torch.relu(y + x)
    return x.mean((2, 3)) @ peer.state["fc.weight"].T + peer.state["fc.bias"]


def unet(torch, peer, x):
    def double(x, name):
        for i in (0, 3):
            x = peer.norm(peer.conv(x, f"{name}.{i}", padding=1), f"{name}.{i + 1}")
            x = torch.relu(x)
        return x

    skips = [x := double(x, "down.0")]
    for i in range(1, 5):
        x = double(torch.max_pool2d(x, 2), f"down.{i}")
        skips.append(x)
    for i, same in enumerate(skips[3::-1]):
        weight, bias = peer.state[f"up.{i}.weight"], peer.state[f"up.{i}.bias"]
        x = torch.conv_transpose2d(x, weight, bias, stride=2)
        missing = (0, same.shape[3] - x.shape[3], 0, same.shape[2] - x.shape[2])
        x = double(torch.cat([same, peer.functional.pad(x, missing)], 1), f"merge.{i}")
    return peer.conv(x, "head")


@pytest.mark.parametrize(
    ("ours", "theirs", "channels"),
    [(lambda: models.resnet20(7), resnet20, 3), (lambda: models.unet(3, width=4), unet, 3)],
    ids=["resnet20", "unet"],
)
def test_networks_equal_pytorch_functions(ours, theirs, channels, backend):
    torch = pytest.importorskip("torch")
    model = ours().to(dtype="float64").eval()
    for i, (name, tensor) in enumerate((*model.named_parameters(), *model.named_buffers())):
        if tensor.dtype.kind == "f" and tensor.ndim == 1:  # variances and batch-norms' weights > 0
            drawn = normal(*tensor.shape, seed=i)
            tensor.data[...] = drawn if name.endswith("bias") else 0.5 + np.abs(drawn)
    x = normal(2, channels, 37, 50)
    expected = theirs(torch, Peer(torch, model.state_dict()), torch.tensor(x)).numpy()
    assert_matches(model.to(backend)(backend.asarray(x)), expected)


# -- training ------------------------------------------------------------------------------

#: name: settings, shape of an example, shape of its output if that is an image
TRAINED = {
    "autoencoder": ({"input_shape": (1, 8, 12)}, (1, 8, 12), (1, 8, 12)),
    "espcn": ({"upscale_factor": 2}, (1, 6, 5), (1, 12, 10)),
    "edsr_small": ({"upscale_factor": 2}, (3, 6, 5), (3, 12, 10)),
    "hourglass": ({"num_classes": 2, "width": 4, "depth": 2}, (3, 9, 7), (2, 9, 7)),
    "lenet5_1998": ({"input_shape": (1, 28, 28)}, (1, 28, 28), None),
    "resnet20": ({"num_classes": 10}, (3, 8, 8), None),
    "mobilenet_v2": ({"num_classes": 10, "dropout": 0.0}, (3, 32, 32), None),
    "unet": ({"width": 2, "input_shape": (2, 16, 16)}, (2, 16, 16), (2, 16, 16)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training(name, backend):
    """The loss of one batch falls, in float32 and without waiting for a GPU."""
    if name == "mobilenet_v2" and backend.device == "strict":
        pytest.skip("its depthwise kernels take two minutes in the shim; test_kernels has them")
    settings, shape, output = TRAINED[name]
    xcnn.manual_seed(0)
    model = models.create(name, **settings).to(backend)
    x = backend.asarray(normal(8, *shape, dtype="float32"))
    labels = backend.asarray(np.arange(8) % 10)
    images = output and backend.asarray(normal(8, *output, seed=1, dtype="float32") / 4 + 0.5)
    optimizer = optim.Adam(model.parameters(), lr=0.002)
    losses = []
    with count_syncs() as syncs, forbid_float64():
        for _ in range(4):
            optimizer.zero_grad()
            y = model(x)
            loss = F.cross_entropy(y, labels) if output is None else F.mse_loss(y, images)
            loss.backward()
            optimizer.step()
            losses.append(loss)
    assert syncs == []
    assert all(p.grad is not None and p.grad.dtype == np.float32 for p in model.parameters())
    assert losses[-1].item() < losses[0].item()
