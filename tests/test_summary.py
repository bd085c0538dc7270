"""The table of a model's layers, against numbers computed by hand."""

import numpy as np
import pytest

import xcnn
from xcnn import models, nn
from xcnn.errors import ShapeError
from xcnn.summary import layers

# path, kind, output shape, parameters, multiply-adds; an output pixel of a convolution sums
# channels * 5 * 5 products, a unit of a linear layer one product per input
LENET5 = [
    ("conv1", "Conv2d", (6, 28, 28), 6 * 25 + 6, 6 * 28 * 28 * 25),
    ("act1", "ReLU", (6, 28, 28), 0, 0),
    ("pool1", "MaxPool2d", (6, 14, 14), 0, 0),
    ("conv2", "Conv2d", (16, 10, 10), 16 * 6 * 25 + 16, 16 * 10 * 10 * 6 * 25),
    ("act2", "ReLU", (16, 10, 10), 0, 0),
    ("pool2", "MaxPool2d", (16, 5, 5), 0, 0),
    ("flatten", "Flatten", (400,), 0, 0),
    ("fc1", "Linear", (120,), 400 * 120 + 120, 48_000),
    ("act3", "ReLU", (120,), 0, 0),
    ("fc2", "Linear", (84,), 120 * 84 + 84, 10_080),
    ("act4", "ReLU", (84,), 0, 0),
    ("fc3", "Linear", (10,), 84 * 10 + 10, 840),
]


def test_the_layers_of_lenet5(backend):
    rows = layers(models.lenet5().to(backend), (1, 28, 28))
    values = [(r.path, r.kind, r.output_shape, r.parameters, r.multiply_adds) for r in rows]
    assert values == LENET5
    assert LENET5[0][4] == 117_600
    assert LENET5[3][4] == 240_000
    assert [r.memory for r in rows] == [4 * int(np.prod(shape)) for _, _, shape, _, _ in LENET5]


def test_the_table_of_lenet5():
    text = xcnn.summary(models.lenet5(), (1, 28, 28))
    lines = text.splitlines()
    assert len({len(line) for line in lines[:-1]}) == 1  # the columns are aligned
    words = [" ".join(line.split()) for line in lines]
    assert words[0] == "layer kind output shape parameters multiply-adds memory"
    assert set(words[1]) == {"─"}
    assert words[2] == "input 1×28×28 3.1 KiB"
    assert words[3] == "conv1 Conv2d 6×28×28 156 117,600 18.4 KiB"
    assert words[14] == "fc3 Linear 10 850 840 40 B"
    # outputs: 2·4704 + 1176 + 2·1600 + 400 + 400 + 2·120 + 2·84 + 10 = 15,002 of 4 bytes
    assert words[-2] == "total 61,706 416,520 58.6 KiB"
    assert words[-1] == ("weights 241.0 KiB; per example: multiply-adds 416,520, memory 58.6 KiB")


def test_attention_counts_what_it_computes_itself():
    """torchvision states 4.409 billion for ViT-B/32; 2·50²·768 of a layer are its attention."""
    rows = layers(models.create("vit_b_32"), (3, 224, 224))
    assert sum(row.multiply_adds for row in rows) == pytest.approx(4.409e9, rel=1e-3)
    (attention,) = (r for r in rows if r.path == "encoder.layers.encoder_layer_3.self_attention")
    assert attention.parameters == 3 * 768 * 768 + 3 * 768
    assert attention.multiply_adds == 50 * 3 * 768**2 + 2 * 50**2 * 768


def test_inner_modules_and_other_dtypes():
    block = nn.Sequential(nn.Conv2d(2, 3, 1, groups=1, bias=False), nn.AvgPool2d(2))
    model = nn.Sequential({"block": block, "flat": nn.Flatten()}).to(dtype="float64")
    rows = layers(model, (2, 4, 6))
    assert [(r.path, r.output_shape, r.parameters, r.multiply_adds, r.memory) for r in rows] == [
        ("block.0", (3, 4, 6), 6, 2 * 72, 8 * 72),
        ("block.1", (3, 2, 3), 0, 0, 8 * 18),
        ("flat", (18,), 0, 0, 8 * 18),
    ]


def test_groups_divide_the_multiply_adds():
    (row,) = layers(nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, padding="same")), (4, 5, 5))
    assert row.multiply_adds == 8 * 25 * 2 * 9


def test_the_training_mode_is_restored():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 1))
    model[0].eval()
    xcnn.summary(model, (2,))
    assert [m.training for m in model.modules()] == [True, False, True]
    with pytest.raises(ShapeError, match="layer '1'"):
        xcnn.summary(model, (3,))
    assert [m.training for m in model.modules()] == [True, False, True]
    assert all(p.grad is None for p in model.parameters())
