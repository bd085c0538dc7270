"""The networks by name; parameters and shapes are computed by hand."""

import inspect

import numpy as np
import pytest

from xcnn import init, models, nn
from xcnn.errors import ArgumentError

from .families import COUNTS, networks


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", networks())
def test_parameters(name):
    with init.skipped():  # memory that is not written to costs nothing
        assert count(models.create(name)) == COUNTS[name]


def test_each_is_a_function_of_its_name():
    for name in models.names():
        function = getattr(models, name)
        assert function.__name__ == function.__qualname__ == name
        assert name in models.__all__
        assert f"{COUNTS[name]:,}" in function.__doc__ or name == "small_cnn"
        parameters = inspect.signature(function).parameters
        assert list(parameters)[:2] == ["num_classes", "input_shape"]
        assert parameters["weights"].default is None


def test_the_table_of_the_tests_is_complete():
    assert set(COUNTS) == set(models.names())


def test_settings_of_a_family():
    """They are no arguments of the functions; other defaults differ."""
    with pytest.raises(TypeError, match="resnet34: got an unexpected keyword argument 'counts'"):
        models.resnet34(counts=(1, 1, 1, 1))
    with pytest.raises(TypeError, match="vgg13: got an unexpected keyword argument 'depth'"):
        models.vgg13(depth=3)
    assert models.default("efficientnet_b3", "dropout") == 0.3
    assert models.default("efficientnet_b3", "input_shape") == (3, 300, 300)
    assert models.densenet121(7, (1, 32, 32)).classifier.weight.shape == (7, 1024)


def test_every_network_takes_classes_and_shape():
    for name in models.names():
        assert len(models.default(name, "input_shape")) == 3
        assert models.default(name, "num_classes") in (None, 2, 10, 16, 21, 80, 90, 1000)
    others = set(models.names()) - set(models.classifiers())
    assert {"autoencoder", "dcgan", "espcn", "fcn_resnet50", "hourglass", "unet", "vae"} <= others


def test_names():
    assert {"lenet5", "mlp", "small_cnn"} <= set(models.names())
    assert models.names() == sorted(models.names())


@pytest.mark.parametrize("name", ["lenet5", "mlp", "small_cnn"])
def test_create(name, backend):
    model = models.create(name, num_classes=7, input_shape=(3, 20, 24)).to(backend)
    x = backend.xp.ones((2, 3, 20, 24), "float32")
    assert model(x).shape == (2, 7)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: models.create("nothing"),
            "unknown model 'nothing': expected one of alexnet, autoenc",
        ),
        (lambda: models.lenet5(input_shape=(28, 28)), "lenet5 needs images"),
        (lambda: models.lenet5(input_shape=(1, 11, 40)), "lenet5 needs images of at least 12×12"),
        (lambda: models.lenet5(activation="swish"), "nonlinearity='swish': expected one of"),
        (lambda: models.small_cnn(input_shape=(2,)), "small_cnn needs images"),
        (lambda: models.small_cnn(input_shape=(1, 3, 9)), "images of at least 4×4"),
        (lambda: models.small_cnn(filters=0), "out_channels=0"),
        (lambda: models.mlp(num_classes=0), "out_features=0"),
        (lambda: models.mlp(hidden=(0,)), "out_features=0"),
        (lambda: models.default("lexnet", "input_shape"), "unknown model 'lexnet'"),
        (lambda: models.vgg11(input_shape=(3, 31, 32)), "vgg11 needs images of at least 32"),
        (lambda: models.vgg16_bn(input_shape=(3, 40, 9)), "vgg16_bn needs images of at least"),
        (lambda: models.resnet18(input_shape=(3, 32)), "resnet18 needs images"),
        (lambda: models.resnet56(input_shape=(5,)), "resnet56 needs images"),
        (lambda: models.googlenet(input_shape=(5,)), "googlenet needs images"),
        (lambda: models.mobilenet_v2(input_shape=(5,)), "mobilenet_v2 needs images"),
        (lambda: models.efficientnet_b0(input_shape=(5,)), "efficientnet_b0 needs images"),
        (lambda: models.unet(input_shape=(1, 64, 15)), "unet needs images of at least 16×16"),
        (lambda: models.unet(input_shape=(64, 64)), "unet needs images"),
        (lambda: models.autoencoder(input_shape=(1, 28, 30)), "width divisible by 4"),
        (lambda: models.dcgan(input_shape=(1, 30, 28)), "dcgan halves images twice"),
        (lambda: models.vae(input_shape=(28, 28)), "vae needs images"),
        (lambda: models.espcn(input_shape=(1, 28)), "espcn needs images"),
        (lambda: models.espcn(upscale_factor=0), "upscale_factor=0"),
        (lambda: models.lenet5_1998(input_shape=(1, 30, 30)), "takes 28×28 and 32×32 pixels"),
        (lambda: models.lenet5_1998(1), "num_classes=1: lenet5_1998 has codes for 2 to 127"),
        (lambda: models.lenet5_1998(128), "num_classes=128: lenet5_1998 has codes for 2"),
        (lambda: models.resnet20(0), "out_features=0"),
        (lambda: models.alexnet(input_shape=(3, 62, 63)), "alexnet needs images of at least 63"),
        (lambda: models.densenet121(input_shape=(3, 28, 28)), "densenet121 needs images of at l"),
        (lambda: models.squeezenet1_1(input_shape=(3, 16, 16)), "squeezenet1_1 needs images of"),
        (lambda: models.convnext_tiny(input_shape=(3, 31, 31)), "convnext_tiny needs images of"),
        (lambda: models.vit_b_16(input_shape=(3, 32, 40)), "a height and a width divisible by 16"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()
    with pytest.raises(TypeError, match="depth"):
        models.create("mlp", depth=3)


@pytest.mark.parametrize("size", [28, 32])
def test_lenet5(size):
    model = models.lenet5(input_shape=(1, size, size))
    by_hand = (25 + 1) * 6 + (6 * 25 + 1) * 16 + (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    assert by_hand == 61_706
    assert count(model) == by_hand
    with nn.record_activations(model) as activations:
        model(np.zeros((2, 1, size, size), np.float32))
    assert [(name, a.shape[1:]) for name, a in activations.items() if name] == [
        ("conv1", (6, 28, 28)),
        ("act1", (6, 28, 28)),
        ("pool1", (6, 14, 14)),
        ("conv2", (16, 10, 10)),
        ("act2", (16, 10, 10)),
        ("pool2", (16, 5, 5)),
        ("flatten", (400,)),
        ("fc1", (120,)),
        ("act3", (120,)),
        ("fc2", (84,)),
        ("act4", (84,)),
        ("fc3", (10,)),
    ]


@pytest.mark.parametrize("shape", [(1, 12, 12), (2, 13, 27), (3, 31, 33), (1, 34, 36)], ids=str)
def test_lenet5_of_other_sizes(shape):
    model = models.lenet5(num_classes=3, input_shape=shape)
    assert model(np.zeros((1, *shape), np.float32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("activation", "kind"), [("relu", nn.ReLU), ("tanh", nn.Tanh), ("sigmoid", nn.Sigmoid)]
)
def test_activations(activation, kind):
    for model, expected in (
        (models.lenet5(activation=activation), 4),
        (models.mlp(hidden=(5, 4), activation=activation), 2),
    ):
        assert sum(type(layer) is kind for layer in model) == expected


def test_mlp():
    model = models.mlp()
    assert count(model) == (784 + 1) * 128 + (128 + 1) * 10 == 101_770
    assert [type(layer) for layer in model] == [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear]
    assert count(models.mlp(2, (2,), hidden=(16, 8))) == 3 * 16 + 17 * 8 + 9 * 2
    assert count(models.mlp(3, (5,), hidden=())) == 6 * 3


def test_small_cnn():
    # 28 - 2 = 26 pixels, pooled 13
    assert count(models.small_cnn()) == (9 + 1) * 16 + (16 * 13 * 13 + 1) * 10 == 27_210
    # 9 - 2 = 7 pixels, pooled 3; 4 - 2 = 2, pooled 1
    model = models.small_cnn(2, (3, 9, 4), filters=5)
    assert count(model) == (3 * 9 + 1) * 5 + (5 * 3 * 1 + 1) * 2
    assert model(np.zeros((1, 3, 9, 4), np.float32)).shape == (1, 2)
