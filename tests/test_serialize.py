"""Models in files: round trips, damaged files and hostile files."""

import contextlib
import errno
import io
import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import xcnn
from xcnn import init, models, nn
from xcnn.errors import ArgumentError, DTypeError, FileFormatError, StateDictError, XcnnError
from xcnn.serialize import build, describe, parts, read, write_atomically

from .conftest import normal
from .families import networks

IMAGES = normal(2, 4, 6, 6, dtype="float32")
ROWS = normal(3, 5, dtype="float32")
VOLUMES = np.stack([IMAGES, IMAGES + 1], axis=2)
WHERE = np.arange(IMAGES[0, 0].size).reshape(IMAGES[0, 0].shape) + np.zeros(IMAGES.shape, int)
TOKENS = normal(2, 3, 4, dtype="float32")
CLASSES = np.array([0, 2, 4])

LAYERS = [
    (nn.Conv2d(4, 6, (3, 2), 2, ((1, 0), (2, 1)), (1, 2), 2, bias=False), (IMAGES,)),
    (nn.Conv2d(6, 2, 3, padding="same", data_format="NHWC", nonlinearity="tanh"), (IMAGES,)),
    (nn.Conv2d(np.int64(4), np.uint8(3), np.prod([1, 3])), (IMAGES,)),
    (nn.Linear(5, 3, nonlinearity="softmax"), (ROWS,)),
    (nn.Linear(5, 3, bias=False), (ROWS,)),
    (nn.Bilinear(5, 5, 2, bias=False), (ROWS, ROWS)),
    (nn.MaxPool2d(2, stride=(1, 2), padding=1, ceil_mode=True), (IMAGES,)),
    (nn.AvgPool2d((2, 3), count_include_pad=False, padding=(1, 0)), (IMAGES,)),
    (nn.AdaptiveAvgPool2d((2, None)), (IMAGES,)),
    (nn.AdaptiveMaxPool2d(3), (IMAGES,)),
    (nn.Conv3d(4, 2, (1, 2, 3), padding=((0, 0), (1, 0), (1, 2)), groups=2), (VOLUMES,)),
    (nn.ConvTranspose3d(4, 2, 2, stride=2, output_padding=(1, 0, 1), bias=False), (VOLUMES,)),
    (nn.MaxPool3d((1, 2, 2), ceil_mode=True), (VOLUMES,)),
    (nn.AvgPool3d(2, stride=1, divisor_override=3), (VOLUMES,)),
    (nn.LPPool1d(2, 2), (IMAGES[:, :, 0],)),
    (nn.LPPool2d(2, (1, 2), ceil_mode=True), (IMAGES,)),
    (nn.LPPool3d(2, 2, 1), (VOLUMES,)),
    (nn.AdaptiveAvgPool1d(3), (IMAGES[:, :, 0],)),
    (nn.AdaptiveAvgPool3d((1, None, 2)), (VOLUMES,)),
    (nn.AdaptiveMaxPool1d(2), (IMAGES[:, :, 0],)),
    (nn.AdaptiveMaxPool3d(2), (VOLUMES,)),
    (nn.FractionalMaxPool2d(2, 1), (IMAGES,)),
    (nn.FractionalMaxPool3d((1, 2, 3), output_ratio=0.2), (VOLUMES,)),
    (nn.MaxUnpool1d(2), (IMAGES[:, :, 0], WHERE[:, :, 0])),
    (nn.MaxUnpool2d(2, stride=(2, 1)), (IMAGES, WHERE)),
    (nn.MaxUnpool3d((1, 2, 2)), (IMAGES[:, :, None], WHERE[:, :, None])),
    (nn.BatchNorm3d(4), (VOLUMES,)),
    (nn.SyncBatchNorm(4, 1e-3), (VOLUMES,)),
    (nn.InstanceNorm1d(4, affine=True), (IMAGES[:, :, 0],)),
    (nn.InstanceNorm3d(4, track_running_stats=True), (VOLUMES,)),
    (nn.RMSNorm(5, eps=0.1), (ROWS,)),
    (nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True), (IMAGES,)),
    (nn.Upsample((5, 9)), (IMAGES,)),
    (nn.Upsample(None, 1.3, "bilinear", recompute_scale_factor=True), (IMAGES,)),
    (nn.UpsamplingNearest2d(scale_factor=2), (IMAGES,)),
    (nn.UpsamplingBilinear2d((5, 9)), (IMAGES,)),
    (nn.ChannelShuffle(2), (IMAGES,)),
    (nn.Unfold(2, padding=(0, 1)), (IMAGES,)),
    (nn.Fold((4, 5), (1, 2), stride=2), (np.ones((2, 8, 4), "float32"),)),
    (nn.PixelShuffle(2), (IMAGES,)),
    (nn.ConstantPad1d((1, 2), 1.5), (IMAGES[:, :, 0],)),
    (nn.ConstantPad2d((0, 1, -1, 2), np.float32(0.5)), (IMAGES,)),
    (nn.ConstantPad3d(1, 2), (IMAGES[:, None],)),
    (nn.ZeroPad1d((1, 2)), (IMAGES[:, :, 0],)),
    *((pad(np.int64(1)), (IMAGES,)) for pad in (nn.ZeroPad2d, nn.ReflectionPad2d)),
    *((pad(1), (IMAGES,)) for pad in (nn.ReplicationPad2d, nn.CircularPad2d)),
    (nn.ReflectionPad1d((2, 0)), (IMAGES[:, :, 0],)),
    (nn.ReplicationPad1d((2, 0)), (IMAGES[:, :, 0],)),
    (nn.CircularPad1d((2, 0)), (IMAGES[:, :, 0],)),
    (nn.ZeroPad3d(1), (IMAGES[:, None],)),
    (nn.ReflectionPad3d(1), (IMAGES[:, None],)),
    (nn.ReplicationPad3d((0, 1, 2, 3, 4, 5)), (IMAGES[:, None],)),
    (nn.CircularPad3d(1), (IMAGES[:, None],)),
    (nn.PixelUnshuffle(2), (IMAGES,)),
    (nn.Conv2d(4, 2, 3, padding=((1, 0), (0, 2)), padding_mode="reflect"), (IMAGES,)),
    (
        nn.ConvTranspose2d(4, 2, 3, (2, 1), padding=((1, 0), (0, 2)), output_padding=(1, 0)),
        (IMAGES,),
    ),
    (nn.Conv1d(4, 2, 3, padding=(2, 0), padding_mode="replicate"), (IMAGES[:, :, 0],)),
    (nn.ConvTranspose1d(4, 2, 3, stride=2, bias=False), (IMAGES[:, :, 0],)),
    (nn.MaxPool1d(2, padding=(1,)), (IMAGES[:, :, 0],)),
    (nn.AvgPool1d(3, count_include_pad=False, padding=(1, 0)), (IMAGES[:, :, 0],)),
    (nn.ReLU(), (ROWS,)),
    (nn.Sigmoid(), (ROWS,)),
    (nn.ReLU6(), (ROWS,)),
    (nn.LeakyReLU(0.2), (ROWS,)),
    (nn.PReLU(4, init=0.1), (IMAGES,)),
    (nn.ELU(alpha=0.5), (ROWS,)),
    (nn.SELU(), (ROWS,)),
    (nn.GELU("tanh"), (ROWS,)),
    (nn.SiLU(), (ROWS,)),
    (nn.Hardswish(), (ROWS,)),
    (nn.Hardsigmoid(), (ROWS,)),
    (nn.Softplus(2, threshold=3), (ROWS,)),
    (nn.Identity(54, unused=[1]), (ROWS,)),
    (nn.Tanh(), (ROWS,)),
    (nn.Softmax(dim=0), (ROWS,)),
    (nn.LogSoftmax(), (ROWS,)),
    (nn.Dropout(np.float32(0.25)), (ROWS,)),
    (nn.Dropout2d(0.25), (IMAGES,)),
    (nn.BatchNorm1d(5, momentum=None, bias=False), (ROWS,)),
    (nn.BatchNorm2d(4, 1e-3, affine=False), (IMAGES,)),
    (nn.GroupNorm(2, 4, eps=0.1), (IMAGES,)),
    (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (IMAGES,)),
    (nn.LayerNorm(5, bias=False), (ROWS,)),
    (nn.LocalResponseNorm(3, k=2.0), (IMAGES,)),
    (nn.Flatten(2), (IMAGES,)),
    (nn.Unflatten(1, (2, 2)), (IMAGES,)),
    (nn.MSELoss(reduction="sum"), (ROWS, ROWS + 1)),
    (nn.CrossEntropyLoss(reduction="none"), (ROWS, CLASSES)),
    (nn.NLLLoss(ignore_index=1), (ROWS, CLASSES)),
    (nn.L1Loss(), (ROWS, ROWS + 1)),
    (nn.SmoothL1Loss(beta=0.5), (ROWS, ROWS + 1)),
    (nn.HuberLoss("sum", 0.5), (ROWS, ROWS + 1)),
    (nn.KLDivLoss(reduction="batchmean", log_target=True), (ROWS, ROWS + 1)),
    (nn.PoissonNLLLoss(full=True), (ROWS, ROWS)),
    (nn.HingeEmbeddingLoss(0.5), (ROWS, np.sign(ROWS))),
    (nn.SoftMarginLoss(reduction="sum"), (ROWS, np.sign(ROWS))),
    (nn.MultiMarginLoss(2, 0.5), (ROWS, CLASSES)),
    (nn.MultiLabelMarginLoss(), (ROWS[:, :3], np.array([[0, -1, 1]] * len(ROWS)))),
    (nn.MultiLabelSoftMarginLoss(), (ROWS, ROWS > 0)),
    (nn.FocalLoss(gamma=1.5), (ROWS, ROWS > 0)),
    (nn.SoftmaxFocalLoss(gamma=1.5), (IMAGES, IMAGES[:, 0].astype("int64") * 0)),
    (nn.DiceLoss("binary", 0.5), (IMAGES, IMAGES > 0)),
    (nn.TverskyLoss(alpha=0.3, beta=0.7), (IMAGES, IMAGES[:, 0].astype("int64") * 0)),
    (nn.LovaszLoss(per_image=True), (IMAGES, IMAGES[:, 0].astype("int64") * 0)),
    (nn.GaussianNLLLoss(full=True), (ROWS, ROWS + 1, ROWS**2 + 1)),
    (nn.MarginRankingLoss(0.1), (ROWS, ROWS[::-1], np.sign(ROWS))),
    (nn.CosineEmbeddingLoss(0.1), (ROWS, ROWS[::-1], np.sign(ROWS[:, 0]))),
    (nn.TripletMarginLoss(0.5, swap=True), (ROWS, ROWS[::-1], ROWS + 1)),
    (nn.TripletMarginWithDistanceLoss(margin=0.5), (ROWS, ROWS[::-1], ROWS + 1)),
    (
        nn.CTCLoss(1, zero_infinity=True),
        (np.log(np.full((4, 1, 3), 1 / 3, "float32")), np.array([[0, 2]]), [4], [2]),
    ),
    (nn.CosineSimilarity(-1), (ROWS, ROWS[::-1])),
    (nn.PairwiseDistance(1.0, keepdim=True), (ROWS, ROWS[::-1])),
    (nn.Embedding(7, 3, padding_idx=-1), (CLASSES,)),
    (nn.MultiheadAttention(4, 2, bias=False, batch_first=True), (TOKENS, TOKENS, TOKENS)),
    (nn.BCELoss(), (ROWS * 0 + np.float32(0.3), ROWS)),
    (nn.BCEWithLogitsLoss(), (ROWS, ROWS)),
    (nn.Mish(inplace=True), (ROWS,)),
    (nn.Hardtanh(-2, 0.5), (ROWS,)),
    (nn.CELU(0.5), (ROWS,)),
    (nn.RReLU(0.1, 0.2), (ROWS,)),
    (nn.Hardshrink(0.3), (ROWS,)),
    (nn.Softshrink(), (ROWS,)),
    (nn.LogSigmoid(), (ROWS,)),
    (nn.Softsign(), (ROWS,)),
    (nn.Tanhshrink(), (ROWS,)),
    (nn.Threshold(0.1, np.float32(20)), (ROWS,)),
    (nn.GLU(dim=1), (IMAGES,)),
    (nn.Softmin(None), (ROWS,)),
    (nn.Softmax2d(), (IMAGES,)),
    (nn.Dropout1d(0.25, inplace=True), (ROWS,)),
    (nn.Dropout3d(), (IMAGES,)),
    (nn.AlphaDropout(), (ROWS,)),
    (nn.FeatureAlphaDropout(0.25), (ROWS,)),
    (nn.Sequential(), (ROWS,)),
    (
        nn.Sequential(
            {
                "block": nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU()),
                "flatten": nn.Flatten(),
                "last": nn.Sequential({"fc": nn.Linear(48, 2), "empty": nn.Sequential()}),
            }
        ),
        (IMAGES,),
    ),
]


def pack(arrays, metadata):
    """The bytes of a safetensors file."""
    return b"".join(parts(arrays, metadata))


def output(model, *arrays):
    y = model(*arrays)
    y = y[0] if isinstance(y, tuple) else y
    return getattr(y, "data", y)


def plain(model):
    """repr with NumPy numbers as Python's, and without {}."""
    return re.sub(r"np\.\w+\(([\d.]+)\)", r"\1", repr(model)).replace("{}", "")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("model", "arrays"),
    LAYERS,
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_round_trip(path, model, arrays):
    for parameter in model.parameters():  # biases too
        parameter.data[...] = normal(*parameter.shape, seed=9)
    xcnn.save(model, path)
    loaded = xcnn.load(path)
    assert type(loaded) is type(model)
    assert plain(loaded) == plain(model)
    assert not loaded.training
    np.testing.assert_array_equal(output(loaded, *arrays), output(model.eval(), *arrays))


def test_every_layer_is_tried():
    tried = {type(model) for model, _ in LAYERS}
    public = {getattr(nn, name) for name in nn.__all__}
    layers = {c for c in public if isinstance(c, type) and issubclass(c, nn.Module)}
    # a ParameterList is part of a user's module, whose constructor makes it again
    assert layers - tried == {
        *(nn.Module, nn.Loss, nn.ModuleDict, nn.ModuleList, nn.ParameterList),
    }


#: smallest images, where 16×16 are too small
SIZES = {"lenet5_1998": 28, "squeezenet1_0": 21, "squeezenet1_1": 17}


#: networks with several outputs: test_networks has these
SEVERAL = ("centernet_small", "dcgan", "ssdlite320_mobilenet_v3_large", "vae")


@pytest.mark.parametrize(
    "name", networks(largest=30_000_000, without=SEVERAL, variants=False)
)  # others take seconds
def test_round_trip_of_networks(path, name):
    size = 32 if name.startswith(("densenet", "convnext")) else SIZES.get(name, 16)
    shape = (1, size, size)
    model = models.create(name, num_classes=3, input_shape=shape)
    xcnn.save(model, str(path))
    x = normal(2, *shape, dtype="float32")
    np.testing.assert_array_equal(xcnn.load(str(path))(x).data, model.eval()(x).data)


@pytest.mark.parametrize("name", networks())
def test_networks_are_described(name):
    with init.skipped():
        model = models.create(name)
        again = build(json.loads(json.dumps(describe(model))))
    assert repr(again) == repr(model)
    tensors = [
        {key: tensor.shape for key, tensor in (*m.named_parameters(), *m.named_buffers())}
        for m in (model, again)
    ]
    assert tensors[0] == tensors[1]


def test_a_loaded_model_trains(path):
    xcnn.save(nn.Sequential(nn.Linear(5, 3)), path)
    model = xcnn.load(path)
    trainer = xcnn.Trainer(model, xcnn.optim.SGD(model.parameters(), lr=0.1))
    first, *_, last = trainer.fit(ROWS, CLASSES % 3, epochs=5)
    assert last.train_loss < first.train_loss
    assert len(read(path)[0]) == 2


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_precision_stays(path, dtype):
    model = nn.Linear(5, 3).to(dtype=dtype)
    xcnn.save(model, path)
    loaded = xcnn.load(path)
    assert loaded.weight.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(loaded.weight.data, model.weight.data)
    single = nn.Linear(5, 3)
    assert xcnn.load(path, single) is single
    assert not single.training
    assert single.weight.dtype == np.float32


def test_from_a_device_to_the_cpu(backend, path):
    model = models.small_cnn(2, (4, 6, 6)).to(backend)
    xcnn.save(model, path)
    loaded = xcnn.load(path)
    assert loaded.device == "cpu"
    assert type(loaded[0].weight.data) is np.ndarray
    np.testing.assert_array_equal(loaded[0].weight.data, model[0].weight.numpy())
    assert xcnn.load(path, model).device == backend.device


def test_loading_draws_no_random_numbers(path):
    xcnn.save(models.lenet5(), path)
    before = xcnn.random.get_state()
    xcnn.load(path)
    assert xcnn.random.get_state() == before
    assert init.normal_(xcnn.Parameter(np.zeros(3, np.float32))).data.all()  # skipped() has ended


def nested(depth):
    model = nn.Linear(2, 2)
    for _ in range(depth):
        model = nn.Sequential(model)
    return model


def test_the_depth_of_a_network_is_limited(path):
    xcnn.save(nested(99), path)
    loaded = xcnn.load(path)
    x = normal(3, 2, dtype="float32")
    assert loaded(x).shape == (3, 2)
    xcnn.save(nested(100), path)
    with pytest.raises(FileFormatError, match="nested more than 200 levels deep; build the model"):
        xcnn.load(path)
    xcnn.load(path, nested(100))


def test_bfloat16_becomes_float32_exactly(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    every = bits.view(torch.bfloat16).reshape(256, 256)
    save_torch({"all": every, "scalar": every[70, 3].clone(), "f": torch.ones(3)}, path)
    arrays, _ = read(path)
    assert arrays["all"].dtype == np.float32
    expected = every.float().numpy()
    np.testing.assert_array_equal(arrays["all"].view(np.uint32), expected.view(np.uint32))
    assert arrays["scalar"].shape == ()
    assert arrays["f"].tolist() == [1, 1, 1]
    layer = nn.Linear(256, 256, bias=False)
    save_torch({"weight": torch.full((256, 256), 0.3).bfloat16()}, path)
    assert xcnn.load(path, layer).weight.data[0, 0] == np.float32(0.30078125)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "complex64"])
def test_types_that_numpy_lacks_are_named(path, name):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    save_torch({"w": torch.ones(4).to(getattr(torch, name))}, path)
    code = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64"}[name]
    with pytest.raises(FileFormatError, match=f"'w' is of type {code}: expected F16, F32"):
        read(path)


# User-defined modules


class Doubling(nn.Module):
    def __init__(self, size=5):
        self.inner = nn.Linear(size, size)

    def forward(self, x):
        return self.inner(x) * 2


class Backwards(nn.Sequential):
    """A subclass of Sequential must not be loaded as a plain Sequential."""

    def forward(self, x):
        for module in reversed(list(self)):
            x = module(x)
        return x


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Doubling, "tests.test_serialize.Doubling"),
        (lambda: nn.Sequential(nn.Linear(5, 5), Doubling()), "tests.test_serialize.Doubling"),
        (lambda: Backwards(nn.ReLU(), nn.Linear(5, 5)), "tests.test_serialize.Backwards"),
    ],
)
def test_unregistered_classes_need_the_model(path, make, name):
    model = make()
    xcnn.save(model, path)
    with pytest.raises(FileFormatError) as caught:
        xcnn.load(path)
    assert f"class {name!r} is neither in xcnn.nn" in str(caught.value)
    assert "xcnn.load(path, model)" in str(caught.value)
    other = make()
    assert not np.array_equal(other(ROWS).data, model(ROWS).data)
    assert xcnn.load(path, other) is other
    np.testing.assert_array_equal(other(ROWS).data, model(ROWS).data)


def test_weights_that_do_not_fit_the_model(path):
    xcnn.save(nn.Linear(5, 3), path)
    model = nn.Linear(4, 3)
    before = model.weight.data.copy()
    with pytest.raises(StateDictError, match=r"shape: weight is \(3, 5\), the module's is \(3, 4"):
        xcnn.load(path, model)
    np.testing.assert_array_equal(model.weight.data, before)


# Files


def test_other_programs_can_read_the_file(path):
    model = nn.Sequential({"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU()})
    xcnn.save(model, path, {"note": "trained on a Monday"})
    arrays = load_file(path)
    assert {name: (a.shape, a.dtype.name) for name, a in arrays.items()} == {
        "conv.weight": ((2, 1, 3, 3), "float32"),
        "conv.bias": ((2,), "float32"),
    }
    np.testing.assert_array_equal(arrays["conv.weight"], model[0].weight.data)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["note"] == "trained on a Monday"
    assert json.loads(metadata["architecture"]) == {
        "class": "Sequential",
        "layers": {
            "conv": {
                "class": "Conv2d",
                "arguments": {"in_channels": 1, "out_channels": 2, "kernel_size": 3},
            },
            "act": {"class": "ReLU", "arguments": {}},
        },
    }


def test_pytorch_can_read_the_file(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch

    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(48, 2))
    xcnn.save(model, path)
    peer = torch.nn.Sequential(torch.nn.Conv2d(4, 3, 3), torch.nn.Flatten(), torch.nn.Linear(48, 2))
    peer.load_state_dict(load_torch(path))
    expected = peer(torch.from_numpy(IMAGES)).detach().numpy()
    np.testing.assert_allclose(model(IMAGES).data, expected, rtol=1e-4, atol=1e-5)


def test_the_same_model_gives_the_same_bytes(path):
    model = models.mlp()
    files = set()
    for _ in range(10):
        xcnn.save(model, path, {"b": "2", "a": "1"})
        files.add(path.read_bytes())
        model = xcnn.load(path)
    assert len(files) == 1


def test_packed_arrays_keep_every_bit(path):
    rng = np.random.default_rng(3)
    kinds = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"]
    arrays = {f"a{i}": rng.integers(0, 2, (3, i, 2)).astype(k) for i, k in enumerate(kinds)}
    arrays["nan"] = np.array([0x7FC00001, 0xFF800000, 0x80000000], np.uint32).view(np.float32)
    arrays["scalar"] = np.array(1.5)
    arrays["columns"] = np.asfortranarray(normal(3, 4))[::2]
    path.write_bytes(pack(arrays, {"b": "2", "a": "\u00e9\n"}))
    loaded = load_file(path)  # by safetensors itself
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
        native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        assert loaded[name].tobytes() == native.tobytes()
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"a": "\u00e9\n", "b": "2"}
    backwards = dict(reversed(arrays.items()))
    assert pack(backwards, {"a": "\u00e9\n", "b": "2"}) == path.read_bytes()


@pytest.mark.parametrize(
    ("arrays", "metadata", "message"),
    [
        ({"a": np.ones(2, complex)}, {}, "a is of complex128; expected float16"),
        ({"__metadata__": np.ones(2)}, {}, "'__metadata__', which the format reserves"),
        ({}, {"epoch": 3}, r"metadata\['epoch'\]=3: expected a str"),
    ],
)
def test_what_cannot_be_packed(arrays, metadata, message):
    with pytest.raises(ArgumentError, match=message):
        pack(arrays, metadata)


def test_files_are_as_readable_as_others(path):
    umask = os.umask(0o027)
    try:
        xcnn.save(nn.Linear(1, 1), path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("call", [xcnn.load, lambda p: xcnn.load(p, nn.ReLU()), read])
def test_a_missing_file(tmp_path, call):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing\.safetensors"):
        call(tmp_path / "nothing.safetensors")


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere$"):
        xcnn.save(nn.ReLU(), tmp_path / "nowhere" / "model.safetensors")


def test_truncated_files(path):
    xcnn.save(nn.Sequential(nn.Linear(5, 3), nn.ReLU()), path)
    whole = path.read_bytes()
    model = nn.Sequential(nn.Linear(5, 3))
    for length in {*range(0, len(whole), 7), *range(len(whole) - 9, len(whole))}:
        path.write_bytes(whole[:length])
        for call in (lambda: xcnn.load(path), lambda: xcnn.load(path, model)):
            with pytest.raises(FileFormatError, match="is not a complete safetensors file"):
                call()


def test_flipped_bytes_never_crash(path):
    xcnn.save(nn.Sequential(nn.Linear(5, 3), nn.ReLU()), path)
    whole = path.read_bytes()
    survived = 0
    for position in range(0, len(whole) - 72, 3):  # the header; weights may be any bytes
        damaged = bytearray(whole)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        with contextlib.suppress(FileFormatError):
            assert isinstance(xcnn.load(path), nn.Module)
            survived += 1
    assert survived < len(whole) / 30  # a space or an unused key may change


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"\x89PNG\r\n\x1a\n" * 20, b'{"class": "Linear"}', b"\xff" * 64],
    ids=["empty", "zeros", "png", "json", "ones"],
)
def test_files_of_another_kind(path, content):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is not a complete safetensors file"):
        xcnn.load(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be read: not a regular file"):
        xcnn.load(tmp_path)


def test_weights_without_an_architecture(path):
    save_file({"weight": np.ones((3, 5), np.float32), "bias": np.ones(3, np.float32)}, path)
    with pytest.raises(FileFormatError, match="holds weights but no architecture"):
        xcnn.load(path)
    assert xcnn.load(path, nn.Linear(5, 3)).bias.data.tolist() == [1, 1, 1]


# Hostile files

LINEAR = {"class": "Linear", "arguments": {"in_features": 1, "out_features": 1}}
DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE = {
    "system": {"class": "os.system", "arguments": {"command": "touch hacked"}},
    "builtin": {"class": "builtins.eval", "arguments": {}},
    "dunder": {"class": "__import__", "arguments": {"name": "os"}},
    "base": {"class": "Module", "arguments": {}},
    "buffer": {"class": "Buffer", "arguments": {"data": [1]}},
    "function": {"class": "activation", "arguments": {"name": "relu"}},
    "recorder": {"class": "record_activations", "arguments": {"module": LINEAR}},
    "module": {"class": "conv", "arguments": {}},
    "private": {"class": "_Loss", "arguments": {}},
    "model-function": {"class": "models.create", "arguments": {"name": "mlp"}},
    "model-file": {"class": "models.unet.UNet", "arguments": {"in_channels": 1, "num_classes": 1}},
    "model-bare": {"class": "UNet", "arguments": {"in_channels": 1, "num_classes": 1}},
    "model-width": {"class": "models.UNet", "arguments": {"in_channels": 1, "num_classes": "2"}},
    "class-list": {"class": ["Linear"], "arguments": {}},
    "class-none": {"class": None, "arguments": {}},
    "no-class": {"arguments": {}},
    "no-arguments": {"class": "ReLU"},
    "arguments-list": {"class": "ReLU", "arguments": [1]},
    "unknown-argument": {"class": "ReLU", "arguments": {"inplace": True}},
    "self": {"class": "ReLU", "arguments": {"self": LINEAR}},
    "text": {"class": "Linear", "arguments": {"in_features": "1", "out_features": 1}},
    "negative": {"class": "Linear", "arguments": {"in_features": -1, "out_features": 1}},
    "nested": {"class": "Linear", "arguments": {"in_features": LINEAR, "out_features": 1}},
    "wrong-size": {"class": "Linear", "arguments": {"in_features": 2, "out_features": 1}},
    "no-weights": {"class": "ReLU", "arguments": {}},
    "large": {"class": "Linear", "arguments": {"in_features": 10**5, "out_features": 10**5}},
    "huge": {"class": "Linear", "arguments": {"in_features": 10**12, "out_features": 10**12}},
    "kernel": {"class": "Conv2d", "arguments": {"in_channels": 1, "out_channels": 1}},
    "layers-list": {"class": "Sequential", "layers": [LINEAR]},
    "layers-number": {"class": "Sequential", "layers": {"a": 3}},
    "layers-method": {"class": "Sequential", "layers": {"forward": LINEAR}},
    "layers-path": {"class": "Sequential", "layers": {"a.b": LINEAR}},
    "layers-dunder": {"class": "Sequential", "layers": {"__class__": LINEAR}},
    "list": [LINEAR],
    "string": "Linear",
    "null": None,
    "number": 7,
}


@pytest.mark.parametrize("name", [*HOSTILE, "deep", "no-json"])
def test_hostile_architectures(path, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    text = {"deep": DEEP, "no-json": "{"}.get(name) or json.dumps(HOSTILE[name])
    arrays = {"weight": np.ones((1, 1), np.float32), "bias": np.ones(1, np.float32)}
    save_file(arrays, path, {"format": "xcnn", "architecture": text})
    with pytest.raises(FileFormatError, match=r"(?s)the architecture cannot be built: .+; build"):
        xcnn.load(path)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert xcnn.load(path, nn.Linear(1, 1)).weight.data == 1  # the weights can still be loaded


def test_the_harmless_counterpart_of_hostile_files(path):
    arrays = {"weight": np.ones((1, 1), np.float32), "bias": np.ones(1, np.float32)}
    save_file(arrays, path, {"format": "xcnn", "architecture": json.dumps(LINEAR)})
    assert repr(xcnn.load(path)) == "Linear(1, 1)"


# Disks


class FullDisk(io.FileIO):
    """Writes the first bytes of a file, then fails for lack of space."""

    def write(self, content):
        super().write(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    xcnn.save(nn.Linear(1, 1), path)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *arguments: FullDisk(*arguments))
        with pytest.raises(OSError, match="No space left on device") as caught:
            xcnn.save(nn.Linear(5, 5), path)
    assert not isinstance(caught.value, XcnnError)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    path.write_bytes(b"before")

    def interrupted(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == [path.name]


def test_a_layer_in_two_places_stays_one(path):
    shared = nn.Linear(4, 4)
    inner = nn.Sequential(nn.ReLU(), shared)
    model = nn.Sequential(shared, inner, nn.Tanh(), inner)
    xcnn.save(model, path)
    loaded = xcnn.load(path)
    assert loaded[0] is loaded[1][1]
    assert loaded[1] is loaded[3]
    assert loaded[2] is not loaded[0]
    assert len(list(loaded.parameters())) == 2
    x = normal(3, 4, dtype="float32")
    np.testing.assert_array_equal(loaded(x).data, model(x).data)


# Tied weights


class Tied(nn.Module):
    """An autoencoder; its weights are in an attribute, a list and a dict."""

    def __init__(self):
        self.encoder = nn.Linear(4, 4)
        self.more = [nn.Parameter(normal(4, 4, dtype="float32")), nn.ReLU()]
        self.named = {"a": nn.Parameter(normal(4, 4, dtype="float32"))}

    def forward(self, x):
        return self.encoder(x) @ self.more[0] @ self.named["a"]


def tie_all(model):
    model.more[0] = model.named["a"] = model.encoder.weight
    return model


def tied_layers():
    model = nn.Sequential({"a": nn.Linear(4, 4), "act": nn.ReLU(), "b": nn.Linear(4, 4)})
    model.b.weight = model.a.weight
    return model


def test_tied_weights_stay_tied(path):
    model = tied_layers()
    assert len(list(model.parameters())) == 3
    assert list(model.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    xcnn.save(model, path)
    untied = nn.Sequential({"a": nn.Linear(4, 4), "act": nn.ReLU(), "b": nn.Linear(4, 4)})
    x = normal(3, 4, dtype="float32")
    for loaded in (xcnn.load(path), xcnn.load(path, untied), xcnn.load(path, tied_layers())):
        assert loaded.b.weight is loaded.a.weight
        assert loaded.b.bias is not loaded.a.bias
        assert len(list(loaded.parameters())) == 3
        np.testing.assert_array_equal(loaded(x).data, model(x).data)
    assert load_file(path).keys() == model.state_dict().keys()  # for other programs
    xcnn.save(xcnn.load(path).to(dtype="float64"), path)
    assert xcnn.load(path).b.weight is not untied.b.weight
    assert len(list(xcnn.load(path).parameters())) == 3


def test_untied_weights_do_not_fit_a_tied_model(path):
    untied = nn.Sequential({"a": nn.Linear(4, 4), "act": nn.ReLU(), "b": nn.Linear(4, 4)})
    model = tied_layers()
    before = model.state_dict()
    xcnn.save(untied, path)
    with pytest.raises(StateDictError, match=r"b\.weight is shared"):
        xcnn.load(path, model)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    model.a.weight.data[0, 0] = np.nan  # equal to itself here
    tied_layers().load_state_dict(model.state_dict())


def test_tied_weights_count_as_in_pytorch():
    torch = pytest.importorskip("torch")
    peer = torch.nn.Sequential()
    for name in "ab":
        peer.add_module(name, torch.nn.Linear(4, 4))
    peer.b.weight = peer.a.weight
    model = tied_layers()
    assert model.state_dict().keys() == peer.state_dict().keys()
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in peer.named_parameters()]


def test_weights_tied_in_lists_and_dicts(path):
    model = tie_all(Tied())
    xcnn.save(model, path)
    loaded = xcnn.load(path, Tied())
    assert loaded.more[0] is loaded.encoder.weight
    assert loaded.named["a"] is loaded.encoder.weight
    x = normal(3, 4, dtype="float32")
    np.testing.assert_array_equal(loaded(x).data, model(x).data)


def test_tied_running_statistics(path):
    model = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    model[1].running_mean = model[0].running_mean
    xcnn.save(model, path)
    assert xcnn.load(path)[1].running_mean is not model[1].running_mean
    loaded = xcnn.load(path)
    assert loaded[1].running_mean is loaded[0].running_mean


def test_shared_modules_are_not_listed_as_tied():
    shared = nn.Linear(4, 4)
    assert "tied" not in describe(nn.Sequential(shared, nn.ReLU(), shared))


@pytest.mark.parametrize(
    "tied",
    [
        {"a.weight": "c.weight"},
        {"a.weight": "a.bias"},
        {"__class__": "a.weight"},
        {"a.weight": 3},
        {"a.weight": ["a"]},
        ["a.weight"],
        7,
    ],
)
def test_ties_that_do_not_fit(path, tied):
    model = nn.Sequential({"a": nn.Linear(4, 3)})
    description = {**describe(model), "tied": tied}
    path.write_bytes(pack(model.state_dict(), {"architecture": json.dumps(description)}))
    for target in (None, model):
        with pytest.raises(FileFormatError, match=re.escape(str(path))):
            xcnn.load(path, target)


def test_a_reference_to_nowhere_is_refused(path):
    description = {"class": "Sequential", "layers": {"0": {"same": 7}}}
    save_file({}, path, {"architecture": json.dumps(description)})
    with pytest.raises(FileFormatError, match="cannot be built"):
        xcnn.load(path)


def test_a_name_that_the_format_reserves(tmp_path):
    model = nn.Sequential()
    model.__metadata__ = nn.PReLU().weight
    with pytest.raises(ArgumentError, match="__metadata__"):
        xcnn.save(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_save_refuses_swapped_arguments(tmp_path):
    with pytest.raises(DTypeError, match=r"save: model is str: .*save\(model, path\)"):
        xcnn.save(str(tmp_path / "model.safetensors"), nn.Linear(2, 3))


def test_a_state_dict_is_saved_alone(path, backend):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(backend)
    xcnn.save(model.state_dict(), path)
    found = xcnn.load_state(path)
    assert found.keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(found[name], backend.to_host(array))
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert other.load_state_dict(found) == ([], [])
    with pytest.raises(DTypeError, match=r"save: model is dict: expected a Module or its state"):
        xcnn.save({"epoch": 1, "model": model.state_dict()}, path)
