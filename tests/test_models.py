"""The networks by name: parameters and shapes, counted by hand."""

import numpy as np
import pytest

from xcnn import models, nn
from xcnn.errors import ArgumentError


def count(model):
    return sum(p.size for p in model.parameters())


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
        (lambda: models.create("alexnet"), "model 'alexnet' is not known: expected one of lenet5"),
        (lambda: models.lenet5(input_shape=(28, 28)), "lenet5 needs images"),
        (lambda: models.lenet5(input_shape=(1, 11, 40)), "lenet5 needs images of 12×12 and more"),
        (lambda: models.lenet5(activation="gelu"), "nonlinearity='gelu': expected one of"),
        (lambda: models.small_cnn(input_shape=(2,)), "small_cnn needs images"),
        (lambda: models.small_cnn(input_shape=(1, 3, 9)), "images of 4×4 and more"),
        (lambda: models.small_cnn(filters=0), "out_channels=0"),
        (lambda: models.mlp(num_classes=0), "out_features=0"),
        (lambda: models.mlp(hidden=(0,)), "out_features=0"),
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
