"""Exporting models, running the files with onnxruntime and loading them."""

import re
import threading

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import models, nn
from xcnn.errors import ArgumentError, ExportError, UnsupportedOperatorError
from xcnn.extend import EMITTERS
from xcnn.onnx import export, load
from xcnn.onnx.exporter.parts import NO_FORM, PARTS
from xcnn.tensor import Function, Tracer, current_tracer

from ..conftest import assert_matches, normal
from ..families import networks
from ..test_serialize import LAYERS
from .models import graph_of, model_of, run_file

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

#: of xcnn.functional; a model is exported without its loss
LOSSES = {name for name in F.__all__ if re.search("_loss$|entropy|kl_div", name)}


def run_model(model, *inputs):
    with xcnn.no_grad():
        found = model.eval()(*map(xcnn.Tensor, inputs))
    return [xcnn.Tensor.of(y).numpy() for y in (found if isinstance(found, tuple) else (found,))]


def larger(x, seed=3):
    """A random batch with one more example, positive if ``x`` is."""
    if x.dtype.kind != "f":
        return np.resize(x, (len(x) + 1, *x.shape[1:]))
    found = normal(len(x) + 1, *x.shape[1:], seed=seed, dtype=str(x.dtype))
    return np.abs(found) if x.min() > 0 else found


def exported(path, model, *example, factor=10, **settings):
    """Export, compare with onnxruntime on another batch size, and return the model in the file."""
    export(model, example, path, **settings)
    onnx.checker.check_model(str(path), full_check=True)
    inputs = [larger(x) for x in example]
    expected = run_model(model, *inputs)
    found = run_file(path, *inputs)
    for number, (y, wanted) in enumerate(zip(found, expected, strict=True)):
        assert y.dtype == wanted.dtype, number
        if y.dtype.kind == "f":
            assert_matches(y, wanted, factor=factor)
        else:
            np.testing.assert_array_equal(y, wanted)
    return onnx.load(path)


def randomized(model):
    """Weights and statistics that are neither 0 nor 1."""
    for number, (name, tensor) in enumerate(model._state()):
        if tensor.dtype.kind == "f" and name.rpartition(".")[2] != "places":
            random = np.random.default_rng(number)
            if name.endswith("running_var"):
                tensor.data[...] = random.uniform(0.5, 2, tensor.shape)
            elif tensor.ndim == 1:
                tensor.data[...] += 0.2 * random.standard_normal(tensor.shape)
    return model


#: layers that draw random numbers in evaluation mode too
NOT_EXPORTED = ["FractionalMaxPool2d", "FractionalMaxPool3d"]
LAYERS = [c for c in LAYERS if type(c[0]).__name__ not in NOT_EXPORTED]
FORWARD = [(model, arrays) for model, arrays in LAYERS if not type(model).__name__.endswith("Loss")]
each_layer = pytest.mark.parametrize(
    ("model", "arrays"), FORWARD, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else ""
)


def state_in_file(model):
    """Keys of the state that is exported."""
    return [k for k in model.state_dict() if not k.endswith("num_batches_tracked")]


@each_layer
def test_layers(path, model, arrays):
    made = exported(path, randomized(model), *arrays, check=False)
    assert sorted(i.name for i in made.graph.initializer) == sorted(state_in_file(model))


@each_layer
def test_loaded_layers(path, model, arrays):
    export(model, arrays, path)
    loaded = load(path)
    again = path.with_name("again.onnx")
    exported(again, loaded, *arrays)
    assert set(load(again).state_dict()) == set(loaded.state_dict())


SLOW = ["convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v2"]
SLOW += ["fcn_resnet18", "regnet_y_400mf", "resnet18", "ssdlite320_mobilenet_v3_large"]
SHAPES = {"lenet5_1998": (1, 28, 28)}
SETTINGS = {"unet": {"width": 4}}
LARGE = 30_000_000  # parameters
# the exporter has no emitter of channel_shuffle
WITHOUT = [n for n in models.names() if n.startswith("shufflenet")]
WITHOUT += ["dcgan", "vae"]  # which draw noise: test_generative exports their parts


def network(name):
    shape = SHAPES.get(name, (1, 32, 32))
    model = models.create(name, num_classes=3, input_shape=shape, **SETTINGS.get(name, {}))
    return randomized(model), normal(2, *shape, dtype="float32")


@pytest.mark.parametrize("name", networks(LARGE, WITHOUT, [SLOW[0], SLOW[-1]], variants=False))
def test_networks(path, name):
    model, x = network(name)
    made = exported(path, model, x, factor=100, check=False)
    constants = {node.name for node in made.graph.node if node.op_type == "Constant"}
    buffers = {name for name, _ in model.named_buffers()} & constants
    assert sorted(i.name for i in made.graph.initializer) == sorted(
        key for key in state_in_file(model) if key not in buffers
    )
    assert buffers == ({"c3.places", "output.codes"} if name == "lenet5_1998" else set())


@pytest.mark.parametrize("name", networks(LARGE, WITHOUT, SLOW, variants=False))
def test_loaded_networks(path, name):
    model, x = network(name)
    export(model, x, path)
    before, loaded = model.state_dict(), load(path)
    trained = {key for key, _ in model.named_parameters()}
    assert trained == {key for key, _ in loaded.named_parameters()}
    for key in state_in_file(model):
        np.testing.assert_array_equal(loaded.state_dict()[key], before[key])
    exported(path, loaded, x, factor=100)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "resnet50"])
def test_large_networks(path, name):
    model = models.create(name, num_classes=3, input_shape=(1, 32, 32))
    x = normal(1, 1, 32, 32, dtype="float32")
    made = exported(path, model, x, factor=100)
    assert sorted(i.name for i in made.graph.initializer) == sorted(state_in_file(model))


# -- function by function


class Calling(nn.Module):
    """A model of one function."""

    def __init__(self, function):
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


SQUARE = normal(2, 4, 6, 6, dtype="float32")
TALL = normal(2, 4, 9, 7, seed=1, dtype="float32")
LAST = normal(2, 9, 7, 4, seed=2, dtype="float32")
LINE = normal(2, 4, 11, seed=3, dtype="float32")
FLAT = normal(3, 5, seed=4, dtype="float32")
POSITIVE = np.abs(TALL) + np.float32(0.1)
W2 = normal(6, 4, 3, 2, seed=5, dtype="float32")
W1 = normal(6, 4, 3, seed=6, dtype="float32")
WG = normal(6, 2, 3, 3, seed=7, dtype="float32")
T2 = normal(4, 3, 3, 2, seed=8, dtype="float32")
T1 = normal(4, 3, 3, seed=9, dtype="float32")
B6, B4, B3 = (normal(n, seed=n, dtype="float32") for n in (6, 4, 3))
VAR = np.abs(B4) + np.float32(0.5)
ROWS57 = normal(7, 5, seed=10, dtype="float32")


def each(*calls):
    """One model of several calls: the results of all."""
    return lambda *x: tuple(y for call in calls for y in _flat(call(*x)))


def _flat(y):
    return y if isinstance(y, tuple) else (y,)


def named(names):
    return each(*(getattr(F, name) for name in names.split()))


FLOATS = """abs asinh atan ceil cos cosh deg2rad erf erfc exp exp2 expm1 floor frac neg positive
rad2deg round sign sin sinh square tan trunc celu gelu hardshrink hardsigmoid hardswish hardtanh
leaky_relu logsigmoid mish relu elu log_softmax relu6 rrelu selu sigmoid silu softmax softmin
softplus softshrink softsign tanh tanhshrink isfinite isinf isnan logical_not clone contiguous"""
ABOVE = "log log10 log1p log2 reciprocal rsqrt sqrt logit"
BELOW = "acos asin atanh"
REDUCED = """all any amax amin count_nonzero logsumexp mean nanmean nansum norm prod std
std_mean sum var var_mean max min argmax argmin median"""
TWO = """add sub mul div maximum minimum fmax fmin hypot logaddexp atan2 floor_divide remainder fmod
isclose eq ne lt le gt ge"""
LOGIC = "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor"
BITS = "bitwise_and bitwise_or bitwise_xor floor_divide remainder fmod sub maximum"
INTS = np.array([[-7, 5, 3, 0, 9], [2, -3, 8, 6, -1], [1, 4, -5, -2, 7]])
PLACES = np.array([[2, 0], [1, -1]])
ODD = np.where(FLAT > 1, np.float32(np.nan), np.where(FLAT < -1, np.float32(np.inf), FLAT))
VOLUME = normal(2, 4, 5, 4, 6, seed=11, dtype="float32")
W3 = normal(6, 2, 3, 2, 3, seed=12, dtype="float32")
T3 = normal(4, 3, 3, 2, 3, seed=13, dtype="float32")
GRID = normal(2, 3, 5, 2, seed=14, dtype="float32") / 2
QUERY = normal(2, 4, 3, 6, seed=15, dtype="float32")


def partial(name, *arguments, **settings):
    return lambda x: getattr(F, name)(x, *arguments, **settings)


def of(name, *settings):
    """A row for each function called ``name`` with these settings."""
    return each(*(partial(name, *a, **k) for a, k in settings))


def given(*arguments, **settings):
    return arguments, settings


#: the functions that each row calls, and a model of them with its example
#: x1, y1, x2, y2 and a score
BOXES = np.random.default_rng(0).random((12, 5)).astype("float32") + np.float32([0, 0, 0.5, 0.5, 0])
CALLS = [
    (FLOATS, named(FLOATS), TALL),
    (ABOVE, named(ABOVE), np.minimum(POSITIVE, np.float32(0.9))),
    (BELOW, named(BELOW), np.tanh(FLAT)),
    ("acosh", F.acosh, POSITIVE + 1),
    (
        "gelu softmax log_softmax softmin softplus threshold celu hardshrink softshrink round",
        each(
            partial("gelu", "tanh"),
            partial("softmax", -1, dtype="float64"),
            partial("softmax", None),
            partial("log_softmax", 2),
            partial("softmin", 2),
            lambda x: F.softplus(x * 10, 0.5, 1.0),
            lambda x: F.softplus(x * 10, 2, -1.0),
            partial("threshold", 0.3, 20),
            partial("threshold", -0.3, 0),
            partial("celu", 0.5),
            partial("hardshrink", 0.2),
            partial("softshrink", 0.2),
            partial("round", decimals=1),
            lambda x: F.logit(F.sigmoid(x), 0.4),
        ),
        TALL,
    ),
    (
        "clamp clamp_min clamp_max hardtanh glu prelu",
        each(
            partial("clamp", -0.5, 0.5),
            partial("clamp", max=0.5),
            partial("clamp", min=-0.5),
            partial("clamp", min=B4.reshape(4, 1, 1), max=1),
            partial("clamp_min", 0),
            partial("clamp_max", B4.reshape(4, 1, 1)),
            partial("hardtanh", -0.5, 0.25),
            partial("glu", 1),
            partial("prelu", B4),
            partial("prelu", B4[:1]),
        ),
        TALL,
    ),
    ("prelu", lambda x: F.prelu(x, FLAT[0]), FLAT),
    (
        "nan_to_num nansum nanmean isnan isinf isposinf isneginf isfinite",
        each(
            F.nan_to_num,
            partial("nan_to_num", 1.0, 2.0, -3.0),
            lambda x: F.nansum(F.where(F.isinf(x), 0.0, x), 1),
            lambda x: F.nanmean(F.where(F.isinf(x), 0.0, x), 1),
            *(getattr(F, f) for f in ("isnan", "isinf", "isfinite")),
        ),
        ODD,
    ),
    (TWO, each(*(partial(name, FLAT[0] / 2) for name in TWO.split())), FLAT),
    (
        LOGIC,
        each(*(lambda x, f=f: getattr(F, f)(x > 0, FLAT[0] > 0) for f in LOGIC.split())),
        FLAT,
    ),
    (
        f"{BITS} bitwise_not astype div sum prod cumsum amax any where abs floor",
        each(
            *(partial(f, np.array([2, 3, -3, 7, -2])) for f in BITS.split()),
            F.bitwise_not,
            lambda x: F.bitwise_not(x > 0),
            partial("astype", "float32"),
            partial("div", 2),
            partial("div", 2, rounding_mode="floor"),
            partial("sum", 1),
            partial("prod", -1),
            partial("cumsum", 1),
            partial("amax", 1),
            partial("any", 1),
            lambda x: F.where(x > 0, x, 0.5),
            F.abs,
            F.floor,
            F.sqrt,
            lambda x: x * 2.5,
        ),
        INTS,
    ),
    (
        "add sub mul div pow lerp addcmul addcdiv maximum minimum isclose",
        each(
            lambda x: 2 + x + B4.reshape(4, 1, 1),
            partial("add", B4.reshape(4, 1, 1), alpha=2),
            partial("sub", 3, alpha=0.5),
            lambda x: 1 - x,
            lambda x: -x * 3 * x,
            lambda x: 1 / x / 3,
            partial("div", 0.3, rounding_mode="trunc"),
            partial("div", 0.3, rounding_mode="floor"),
            partial("pow", 1.5),
            lambda x: F.pow(2.0, x),
            partial("lerp", TALL[:1], 0.3),
            partial("addcmul", TALL[0], 2.0, value=0.5),
            partial("addcdiv", TALL[0], 2.0),
            lambda x: F.maximum(x, 0.1) - F.minimum(TALL[0], x),
            partial("isclose", TALL[0], rtol=0.5, equal_nan=True),
        ),
        POSITIVE,
    ),
    (
        "where masked_fill",
        each(
            lambda x: F.where(B4.reshape(4, 1, 1) > 0, x, 2.0),
            lambda x: F.where(x > 0, TALL[0], x),
            lambda x: x.masked_fill(x > 0, -1),
        ),
        TALL,
    ),
    # -- reductions, sorting
    (REDUCED, each(*(partial(name, dim=1) for name in REDUCED.split())), FLAT),
    (
        f"{REDUCED}",
        each(
            *(partial(name, dim=-1, keepdim=True) for name in REDUCED.split() if name != "norm"),
            lambda x: x.sum((-1, 2)),
            lambda x: F.mean(x, (1, 3), dtype="float64"),
            lambda x: F.var(x, (1, 2), correction=0),
            *(lambda x, p=p: F.norm(x, p, (1, 2), dtype="float64") for p in (1, 2, 0, 3.5)),
            *(lambda x, p=p: F.norm(x, p, 2) for p in (np.inf, -np.inf)),
        ),
        TALL,
    ),
    ("sum mean", each(F.sum, F.mean, lambda x: F.sum(x, (), keepdim=True)), TALL),
    (
        "max min median argmax argmin std topk",
        each(
            *(
                lambda x, f=f: getattr(F, f)(x[0])
                for f in ("max", "min", "median", "argmin", "std")
            ),
            lambda x: F.argmax(x[0], keepdim=True),
            lambda x: F.median(x[0], keepdim=True),
            lambda x: F.max(x, TALL[0]),
            lambda x: F.min(x, other=TALL[0]),
            partial("topk", 2, 1),
            partial("topk", 3, largest=False),
        ),
        TALL,
    ),
    (
        "sort argsort cumsum unique",
        each(
            F.sort,
            partial("sort", 1, descending=True),
            F.argsort,
            partial("cumsum", 2),
            lambda x: F.unique(F.round(x[:, 0, 0]), return_inverse=True, return_counts=True),
        ),
        TALL,
    ),
    # -- products
    (
        "matmul mm mv dot outer linear",
        each(
            partial("matmul", ROWS57.T),
            partial("mm", ROWS57.T),
            partial("mv", ROWS57[0]),
            lambda x: F.dot(x[0], x[1]),
            lambda x: F.outer(x[0], x[1]),
            partial("linear", ROWS57, B4.repeat(2)[:7], relu=True),
        ),
        FLAT,
    ),
    (
        "linear matmul bmm bilinear einsum",
        each(
            partial("linear", normal(3, 7, dtype="float32"), B3, relu=True),
            partial("linear", normal(3, 7, dtype="float32")),
            lambda x: TALL[0, 0].T @ x,
            lambda x: F.bmm(x[:, 0], x[:, 1].mT),
            lambda x: F.bilinear(x, x, normal(3, 7, 7, dtype="float32"), B3),
            lambda x: F.einsum("nchw, n...w -> nch", x, x),
            lambda x: F.einsum("...ij,jk", x, ROWS57.T[:, :].T),
        ),
        TALL,
    ),
    (
        "normalize cosine_similarity pairwise_distance cdist pdist",
        each(
            F.normalize,
            partial("normalize", 1, -1),
            partial("cosine_similarity", FLAT[:1]),
            partial("pairwise_distance", FLAT[0], keepdim=True),
            partial("cdist", ROWS57),
            lambda x: F.pdist(x[:3]),
        ),
        FLAT,
    ),
    (
        "scaled_dot_product_attention",
        each(
            lambda x: F.scaled_dot_product_attention(x, x, x),
            lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
            lambda x: F.scaled_dot_product_attention(x, x, x, FLAT[:, :3] > 0),
            lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
        ),
        QUERY,
    ),
    # -- windows
    (
        "conv2d conv_transpose2d unfold fold",
        each(
            partial("conv2d", W2, B6),
            partial("conv2d", W2, B6, (2, 1), "same", relu=True),
            partial("conv2d", W2, None, 3, "same", (1, 3)),
            partial("conv2d", WG, B6, 2, ((0, 2), (1, 3)), groups=2),
            lambda x: F.conv2d(x[0], W2),
            partial("conv_transpose2d", T2, B3),
            partial("conv_transpose2d", T2, B3, (3, 2), ((1, 0), (0, 2)), (2, 1), 1, (1, 2)),
            partial("conv_transpose2d", T2, groups=2),
            partial("unfold", (3, 2), (1, 2), 1, 2),
            lambda x: F.fold(F.flatten(x, 2)[:, :, :9], (8, 3), (2, 1), (1, 2), (1, 1), (3, 2)),
        ),
        TALL,
    ),
    (
        "conv2d conv_transpose2d max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d",
        each(
            partial("conv2d", W2, B6, 1, "valid", data_format="NHWC"),
            partial("conv_transpose2d", T2, B3, data_format="NHWC"),
            partial("max_pool2d", (3, 2), 2, data_format="NHWC"),
            partial("avg_pool2d", 2, 2, data_format="NHWC"),
            partial("adaptive_avg_pool2d", (4, 3), "NHWC"),
            partial("adaptive_max_pool2d", (4, 3), data_format="NHWC"),
            partial("lp_pool2d", 2, 2, data_format="NHWC"),
        ),
        LAST,
    ),
    (
        "conv1d conv_transpose1d max_pool1d avg_pool1d lp_pool1d adaptive_avg_pool1d "
        "adaptive_max_pool1d max_unpool1d",
        each(
            partial("conv1d", W1, B6, 2, "same", 2),
            partial("conv1d", W1, None, 1, (2, 0)),
            partial("conv_transpose1d", T1, B3, 2, (1, 0), 1),
            partial("max_pool1d", 3, 2, (1, 0), 2, ceil_mode=True),
            partial("avg_pool1d", 3, 4, (1, 1), True, True),
            partial("avg_pool1d", 3, 4, 1, True, False),
            partial("lp_pool1d", 2, 3, 2),
            partial("adaptive_avg_pool1d", 4),
            partial("adaptive_max_pool1d", 4),
            lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2),
        ),
        LINE,
    ),
    (
        "conv3d conv_transpose3d max_pool3d avg_pool3d lp_pool3d adaptive_avg_pool3d "
        "adaptive_max_pool3d max_unpool3d dropout3d",
        each(
            partial("conv3d", W3, B6, (1, 2, 1), (1, 0, 2), 1, 2),
            partial("conv_transpose3d", T3, B3, 2, 1, (1, 0, 1)),
            partial("max_pool3d", 2, (1, 2, 2), ceil_mode=True),
            partial("avg_pool3d", 2, divisor_override=3),
            partial("lp_pool3d", 2, 2),
            partial("adaptive_avg_pool3d", (2, 3, 4)),
            partial("adaptive_max_pool3d", (2, 3, 4)),
            partial("adaptive_avg_pool3d", 1),
            lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2),
        ),
        VOLUME,
    ),
    (
        "max_pool2d lp_pool2d max_unpool2d",
        each(
            partial("max_pool2d", 3, 2, 1),
            partial("max_pool2d", 2, ceil_mode=True),
            partial("max_pool2d", 3, (3, 2), 1, ceil_mode=True),
            partial("max_pool2d", 2, 4, 1, 3, ceil_mode=True),
            partial("max_pool2d", 2, 3, "same"),
            partial("max_pool2d", 3, 2, 1, return_indices=True),
            lambda x: F.lp_pool2d(F.abs(x), 3, (2, 3), 2, True),
            lambda x: F.max_unpool2d(
                *F.max_pool2d(x, 2, return_indices=True), 2, output_size=(9, 7)
            ),
        ),
        TALL,
    ),
    (
        "avg_pool2d",
        each(
            *(
                partial("avg_pool2d", (3, 2), s, p, c, i)
                for s in (1, (2, 3))
                for p in (0, 1, ((1, 0), (0, 1)))
                for c in (False, True)
                for i in (False, True)
            ),
            partial("avg_pool2d", 3, 2, 1, True, divisor_override=2),
        ),
        TALL,
    ),
    *(
        (
            f"adaptive_{kind}_pool2d",
            of(
                f"adaptive_{kind}_pool2d",
                *map(given, (1, (3, 7), (4, 3), (3, None), 2, (9, 7), 12)),
            ),
            TALL,
        )
        for kind in ("avg", "max")
    ),
    (
        "interpolate upsample_nearest upsample_bilinear",
        each(
            of(
                "interpolate",
                given(scale_factor=2),
                given(scale_factor=2, mode="bilinear"),
                given(scale_factor=2, mode="bilinear", align_corners=True),
                given((5, 13)),
                given((1, 1), mode="bilinear"),
                given((1, 1), mode="bilinear", align_corners=True),
                given((5, 13), mode="bilinear"),
                given(scale_factor=(0.7, 1.1)),
                given(scale_factor=(0.7, 1.37)),
                given(scale_factor=(0.7, 1.37), mode="bilinear"),
                given(scale_factor=(1.04, 1.37), mode="bilinear"),
                given((5, 13), mode="bicubic"),
                given((5, 13), mode="bicubic", align_corners=True),
                given((5, 3), mode="bicubic", antialias=True),
                given((5, 3), mode="bilinear", antialias=True),
                given(scale_factor=1.3, mode="bicubic"),
                given((5, 13), mode="nearest-exact"),
                given((4, 3), mode="area"),
            ),
            partial("upsample_nearest", (5, 9)),
            partial("upsample_bilinear", (5, 9)),
        ),
        TALL,
    ),
    (
        "interpolate",
        of("interpolate", given(5), given(17, mode="linear"), given(7, mode="area")),
        LINE,
    ),
    (
        "interpolate grid_sample",
        each(
            partial("interpolate", (3, 7, 9), mode="trilinear", align_corners=True),
            partial("interpolate", 4, mode="nearest-exact"),
        ),
        VOLUME,
    ),
    (
        "affine_grid",
        lambda x: F.affine_grid(x, (len(x), 1, 3, 4)),
        FLAT[:, :3][:2, None] + TALL[:2, :2, 0, :3],
    ),
    ("pixel_shuffle", partial("pixel_shuffle", 2), SQUARE),
    ("pixel_unshuffle channel_shuffle", of("pixel_unshuffle", given(3)), SQUARE),
    ("channel_shuffle", partial("channel_shuffle", 2), SQUARE),
    # -- normalisation
    (
        "batch_norm instance_norm group_norm layer_norm local_response_norm rms_norm",
        each(
            partial("batch_norm", B4, VAR, B4, None, eps=0.1),
            partial("instance_norm", B4, VAR, None, B4, False),
            partial("group_norm", 2, None, B4),
            partial("layer_norm", (9, 7)),
            partial("local_response_norm", 3, 0.5, 0.6, 2.0),
            partial("local_response_norm", 4, 0.5),
            partial("rms_norm", (9, 7), TALL[0, 0], 0.1),
            partial("rms_norm", 7),
        ),
        TALL,
    ),
    ("batch_norm", lambda x: F.batch_norm(x, B4, VAR, residual=x, relu=True), TALL),
    ("batch_norm", lambda x: F.batch_norm(x, B4, VAR, relu=True, ceiling=0.5), TALL),
    ("batch_norm", lambda x: F.batch_norm(x, None, None, B4, B4, True), TALL),
    ("batch_norm", lambda x: F.batch_norm(x, None, None, B4, training=True), TALL[:, :, 0, 0]),
    (
        "batch_norm instance_norm group_norm local_response_norm",
        each(
            partial("batch_norm", B4, VAR),
            partial("instance_norm", None, None, B4),
            partial("group_norm", 4),
            partial("local_response_norm", 3, 0.5),
        ),
        LINE,
    ),
    ("group_norm", partial("group_norm", 2, B4), TALL[:, :, 0, 0]),
    ("layer_norm", partial("layer_norm", 5, FLAT[0], FLAT[1]), FLAT),
    # -- shapes
    (
        "concat hstack vstack stack",
        each(
            lambda x: F.concat([x, TALL[:1], x], 0),
            lambda x: F.concat([x, x * 2], -1),
            lambda x: F.stack([x, x * 2], -2),
            lambda x: F.hstack([x, x]),
            lambda x: F.vstack([x, TALL]),
        ),
        TALL,
    ),
    (
        "pad",
        each(
            *(
                partial("pad", pads, mode=m)
                for m in ("constant", "reflect", "replicate", "circular")
                for pads in ((0, 3, 1, 2), (-1, 2, 1, -2))
            ),
            partial("pad", (0, 1, 2, -1, 2, 0), value=1.5),
        ),
        TALL,
    ),
    ("pad", lambda x: F.pad(x, (1, 3), mode="reflect"), LINE),
    (
        "reshape flatten view view_as reshape_as ravel unflatten permute movedim transpose expand "
        "expand_as broadcast_to broadcast_tensors repeat tile",
        each(
            lambda x: x.reshape(len(x), 2, -1),
            lambda x: x.reshape(-1, 7),
            lambda x: x.reshape((-1,)),
            lambda x: x.view(1, len(x), 36, 7),
            lambda x: F.view_as(x, x),
            F.ravel,
            F.flatten,
            lambda x: x.flatten(),
            partial("flatten", 2),
            partial("unflatten", 1, (2, -1)),
            lambda x: F.permute(x, (0, -1, 1, 2)),
            partial("movedim", 1, -1),
            partial("moveaxis", (1, 2), (2, 3)),
            partial("transpose", 1, 2),
            partial("swapdims", 2, 3),
            partial("swapaxes", 2, 3),
            lambda x: x[:, :, :1].expand(-1, 4, 5, 7),
            lambda x: F.expand(xcnn.Tensor(TALL[:1]) * 2 + 0 * x[:1], (len(x), 4, 9, 7)),
            lambda x: F.expand_as(x[:, :1], x),
            lambda x: F.broadcast_to(x[:, :1], (1, len(x), 4, 9, 7)),
            lambda x: F.broadcast_tensors(x[:, :1], TALL[0])[0],
            lambda x: x.repeat(1, 2, 1, 3),
            lambda x: F.tile(x, (2, 1)),
        ),
        TALL,
    ),
    (
        "squeeze unsqueeze t split chunk meshgrid",
        each(
            lambda x: x.T,
            F.t,
            lambda x: F.squeeze(F.unsqueeze(x, 1)),
            partial("unsqueeze", -1),
            partial("split", 3, 1),
            lambda x: F.split(x, [1, 4], -1)[1],
            partial("split", 9, -1),
            partial("chunk", 2, 1),
            lambda x: F.meshgrid(x[0], B3),
        ),
        FLAT,
    ),
    # -- indexing
    (
        "getitem squeeze select narrow unbind gather index_select",
        each(
            lambda x: x[:, 1],
            lambda x: x[..., ::-2, 1:-1],
            lambda x: x[:, None, -1, ..., None, 2],
            lambda x: x[1:],
            lambda x: x[...],
            lambda x: x[:, [2, 0, 2]],
            lambda x: x[:, PLACES],
            lambda x: x[:, [0, 3], 1:4, [1, -1]],
            lambda x: x[:, [0, 3], PLACES],
            lambda x: x[None, :, 0, [4, 1]],
            lambda x: x[:, B4 > 0],
            lambda x: x[:, :, TALL[0, 0] > 0],
            lambda x: F.squeeze(x[:, :, :1], (2, 1)),
            partial("select", 1, 2),
            partial("narrow", 2, -4, 3),
            partial("unbind", 3),
            partial("index_select", 2, np.array([3, 0, 3])),
            lambda x: F.gather(x, 3, F.argsort(x)),
        ),
        TALL,
    ),
    (
        "flip fliplr flipud roll rot90 repeat_interleave tril triu diag diagonal",
        each(
            partial("flip", (1, 3)),
            F.fliplr,
            F.flipud,
            partial("roll", (2, -1), (1, 3)),
            partial("rot90", 1, (2, 3)),
            partial("rot90", 2, (2, 3)),
            partial("repeat_interleave", 2, 1),
            partial("repeat_interleave", np.array([0, 2, 1, 3]), 1),
            F.tril,
            partial("triu", -1),
            lambda x: F.diag(x[0, 0], 1),
            lambda x: F.diag(x[0, 0, 0], -1),
            partial("diagonal", -1, 2, 3),
            partial("diagonal", 2, 3, 1),
            lambda x: x.unfold(2, 3, 2),
        ),
        TALL,
    ),
    (
        "scatter scatter_add index_put",
        each(
            lambda x: F.scatter(x[:2], 1, np.array([[4, 0], [1, 2]]), FLAT),
            lambda x: F.scatter(x[:2], 1, np.array([[4], [2]]), value=7),
            lambda x: F.scatter(x[:2], 1, np.array([[1, 1]]), FLAT, reduce="add"),
            lambda x: F.scatter_add(x[:2], 1, np.array([[1, 1]]), FLAT),
            lambda x: F.index_put(x, (np.array([0, 2]), np.array([1, 1])), 9),
            lambda x: F.index_put(x, (np.array([0, 0]),), x[:1], accumulate=True),
        ),
        FLAT,
    ),
    (
        "embedding one_hot",
        each(partial("embedding", ROWS57), partial("one_hot", 7)),
        np.array([[3, 0], [6, 3]]),
    ),
    (
        "masked_select nonzero argwhere",
        each(
            lambda x: F.masked_select(x, x > 0),
            lambda x: F.nonzero(x > 0),
            lambda x: F.argwhere(F.relu(x)),
            lambda x: F.nonzero(x > 0, as_tuple=True),
            lambda x: x[x > 0],
        ),
        FLAT,
    ),
    (
        "nms batched_nms",
        each(
            lambda x: F.nms(x[:, :4], x[:, 4], 0.3),
            lambda x: F.batched_nms(x[:, :4], x[:, 4], (x[:, 4] * 3).long() - 1, 0.3),
            lambda x: x[F.nms(x[:, :4], x[:, 4], 0.3)],
            lambda x: F.generalized_box_iou(F.box_convert(x[:, :4], "xywh", "xyxy"), BOXES[:, :4]),
            lambda x: F.clip_boxes_to_image(x[:, :4], (1, 2)),
        ),
        BOXES,
    ),
    # -- inactive
    (
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout",
        each(
            partial("dropout", 0.5, training=False),
            partial("dropout2d", 0, training=True),
            lambda x: F.dropout1d(x[:, 0], training=False),
            lambda x: F.dropout3d(x[:, None], training=False),
            F.alpha_dropout,
            F.feature_alpha_dropout,
            lambda x: x * 2,
        ),
        TALL,
    ),
]


@pytest.mark.parametrize(
    ("call", "x"),
    [c[1:] for c in CALLS],
    ids=[f"{c[0].split()[0]}{n}" for n, c in enumerate(CALLS)],
)
def test_functions(path, call, x):
    """Exported, loaded and exported again."""
    model = Calling(call)
    exported(path, model, x)
    exported(path, load(path), x)


def in_place(x):
    y, z = x * 2, F.relu(x)
    y += z
    y *= 0.5
    y[y > 1] = -1
    z.fill_(3)
    return y + 1, z


def test_changes_in_place(path):
    """As in a residual block: x += shortcut(x)."""
    exported(path, Calling(in_place), FLAT)
    exported(path, load(path), FLAT)


def test_assignments_to_parts(path):
    def assigned(x):
        y = x * 2
        y[:, 0] = 7
        return y

    with pytest.raises(UnsupportedOperatorError, match=r"setitem, .*use where or index_put"):
        export(Calling(assigned), FLAT, path)


def test_every_function_has_a_case():
    written = {name for name in {*EMITTERS, *PARTS} if "." not in name and name not in INNER}
    known = written | LOSSES | set(NO_FORM)
    called = {name for names, _, _ in CALLS for name in names.split()}
    assert called <= {*F.__all__, "getitem"}
    assert {operation_name(name) for name in called} >= written - {"getitem"}
    for name in F.__all__:
        is_part = not hasattr(getattr(F, name), "__wrapped__")  # it calls operations
        assert operation_name(name) in known or is_part, name


#: operations behind methods of Tensor, and of networks
INNER = "_store", "setitem", "sliding_windows", "nms_mask"


def operation_name(name):
    function = getattr(F, name, None)
    return getattr(function, "__qualname__", name)


# -- what does not fit


class Doubled(Function):
    def forward(self, backend, x):
        return x * 2

    def backward(self, backend, dy):
        return dy * 2


def test_unsupported_calls_are_all_listed(path):
    def call(x):
        y = Doubled()(Doubled()(x))
        F.mse_loss(x, y)  # does not affect the result
        return F.l1_loss(F.dropout(y, 0.5), y * 2)

    with pytest.raises(UnsupportedOperatorError) as error:
        export(Calling(call), FLAT, path)
    text = str(error.value)
    assert len(text.splitlines()) == 1 + 3
    place = r"called in .*test_export.py:\d+"
    assert re.search(rf"Doubled, {place}, a custom Function; .*: 2 times$", text, re.M)
    assert re.search(rf"dropout, {place}, with training=True.*: 1 time$", text, re.M)
    assert re.search(rf"l1_loss, {place}: 1 time$", text, re.M)
    assert "mse_loss" not in text
    assert not path.exists()


@pytest.mark.parametrize(
    ("model", "arrays"), [c for c in LAYERS if c not in FORWARD], ids=lambda v: type(v).__name__
)
def test_losses_are_refused(path, model, arrays):
    assert type(model).__name__.endswith("Loss")
    with pytest.raises(UnsupportedOperatorError, match=r"_loss|_entropy|kl_div"):
        export(model, arrays, path, dynamic_batch=False)


UNSEEN = {
    "a branch": lambda x: x * 2 if float(x.sum()) > 0 else x * -3,
    "an item": lambda x: x * x.sum().item(),
    "an array": lambda x: xcnn.Tensor(x.data * 2) + x,
    "the batch size": lambda x: x * (1 / len(x)),
    "a constant result": lambda x: xcnn.Tensor(x.data * 2),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_untraced_code_is_detected(path, name):
    path.write_bytes(b"before")
    x = np.abs(FLAT) if name == "a branch" else FLAT
    seen = UNSEEN[name]
    model = Calling(lambda x: seen(x) if name != "a branch" else seen(x + 1000 * (len(x) == 3)))
    with pytest.raises(ExportError, match="Tracing records only calls"):
        export(model, x, path)
    assert path.read_bytes() == b"before"
    export(model, x, path, check=False)


def test_a_fixed_batch_size(path):
    model = Calling(lambda x: x.reshape(5, 3) * 2)
    with pytest.raises(ExportError, match="dynamic_batch=False"):
        export(model, FLAT, path)
    export(model, FLAT, path, dynamic_batch=False)
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [3, 5]
    assert_matches(run_file(path, FLAT)[0], FLAT.reshape(5, 3) * 2)


# -- what is in the file


def test_names_and_metadata(path):
    model = nn.Sequential({"body": nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.MaxPool2d(2))})
    export(model, SQUARE, path, input_names=["image"], output_names=["maps"], metadata={"a": "b"})
    made = onnx.load(path)
    assert [n.name for n in made.graph.node] == ["body.0", "Relu_1", "MaxPool_2"]
    assert [n.op_type for n in made.graph.node] == ["Conv", "Relu", "MaxPool"]
    assert [
        (i.name, [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim])
        for i in (*made.graph.input, *made.graph.output)
    ] == [
        ("image", ["batch", 4, 6, 6]),
        ("maps", ["batch", 3, 2, 2]),
    ]
    assert (made.producer_name, made.producer_version) == ("xcnn", xcnn.__version__)
    assert [(o.domain, o.version) for o in made.opset_import] == [("", 21)]
    assert made.ir_version == 10
    assert [(p.key, p.value) for p in made.metadata_props] == [("a", "b")]
    again = path.with_name("again.onnx")
    export(load(path), SQUARE, again, metadata={"c": "d"})
    made = onnx.load(again)
    assert [n.name for n in made.graph.node] == ["body.0", "Relu_1", "MaxPool_2"]
    assert [i.name for i in (*made.graph.input, *made.graph.output)] == ["image", "maps"]
    assert [(p.key, p.value) for p in made.metadata_props] == [("a", "b"), ("c", "d")]


def test_the_file_is_the_same_each_time(path):
    model = nn.Linear(5, 2)
    export(model, FLAT, path)
    before = path.read_bytes()
    export(model, FLAT, path)
    assert path.read_bytes() == before


def test_several_inputs_and_outputs(path):
    model = Calling(lambda x, y: (x @ ROWS57.T + y, y, F.relu(x), y))
    y = normal(3, 7, dtype="float32")
    made = exported(path, model, FLAT, y)
    assert [i.name for i in made.graph.input] == ["input_0", "input_1"]
    assert [o.name for o in made.graph.output] == [f"output_{n}" for n in range(4)]
    exported(path, load(path), FLAT, y)
    same = Calling(lambda x, y: x - y)  # one array twice is two inputs
    exported(path, same, FLAT, FLAT)


def test_an_input_without_the_batch(path):
    model = Calling(lambda x, scale: x * scale)
    export(model, (FLAT, FLAT[0]), path)
    shapes = [i.type.tensor_type.shape.dim for i in onnx.load(path).graph.input]
    assert [d.dim_param or d.dim_value for dims in shapes for d in dims] == ["batch", 5, 5]


def test_results_that_are_inputs_or_weights(path):
    class Returning(nn.Module):
        def __init__(self):
            self.weight = xcnn.Parameter(FLAT.copy())

        def forward(self, x):
            return x, self.weight, xcnn.Tensor(ROWS57), x * 2, x * 2

    model = Returning()
    export(model, TALL, path)
    for y, wanted in zip(
        run_file(path, TALL), (TALL, FLAT, ROWS57, TALL * 2, TALL * 2), strict=True
    ):
        np.testing.assert_array_equal(y, wanted)


def test_shared_weights_are_written_once(path):
    layer = nn.Linear(5, 5)
    model = nn.Sequential({"a": layer, "b": nn.ReLU(), "c": layer})
    made = exported(path, model, FLAT)
    assert [i.name for i in made.graph.initializer] == ["a.weight", "a.bias"]
    assert [n.name for n in made.graph.node] == ["a", "Relu_1", "a.Gemm"]


def test_constants_are_folded(path):
    model = Calling(lambda x: x + F.exp(F.relu(B4)).reshape(4, 1, 1))
    made = exported(path, model, TALL)
    assert [n.op_type for n in made.graph.node] == ["Constant", "Add"]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions(path, dtype):
    layers = [nn.Conv2d(4, 4, 3, padding=1)] if dtype == "float16" else []  # onnxruntime's has it
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 2), nn.ReLU())
    made = exported(path, model.to(dtype=dtype), SQUARE.astype(dtype))
    assert {i.data_type for i in made.graph.initializer} == {
        onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    }


def test_integers_as_input(path):
    """An integer input."""
    model = Calling(lambda x, labels: (x * 2, labels))
    labels = np.arange(3)
    export(model, (FLAT, labels), path)
    np.testing.assert_array_equal(run_file(path, FLAT, labels)[1], labels)


# -- writing


def test_external_data(path, monkeypatch):
    monkeypatch.setattr("xcnn.onnx.exporter.write.LIMIT", 100)
    model = randomized(nn.Sequential(nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(48, 2)))
    exported(path, model, SQUARE)
    assert {p.name for p in path.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    for key, array in load(path).state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[key])
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(ExportError):
        export(nn.Sequential(model, Calling(UNSEEN["an item"])), SQUARE, path)
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before
    with pytest.raises(FileNotFoundError, match="no such folder"):
        export(model, SQUARE, path.parent / "missing" / "model.onnx")


def test_a_missing_folder(path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        export(nn.ReLU(), FLAT, path.parent / "missing" / "model.onnx")


@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_full_disk(path, monkeypatch, limit):
    monkeypatch.setattr("xcnn.onnx.exporter.write.LIMIT", limit)
    path.write_bytes(b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        export(nn.Linear(5, 2), FLAT, path)
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"input_names": ["a", "b"]}, "expected 1 names"),
        ({"input_names": ["weight"]}, "'weight' is also"),
        ({"output_names": [""]}, "expected 1 names"),
        ({"input_names": ["x"], "output_names": ["x"]}, "'x' is also"),
        ({"metadata": {"a": 1}}, "expected a dict of strings"),
    ],
)
def test_invalid_settings(path, settings, text):
    with pytest.raises(ArgumentError, match=text):
        export(nn.Linear(5, 2), FLAT, path, **settings)


def test_invalid_models_and_examples(path):
    with pytest.raises(ArgumentError, match="expected a Module"):
        export(F.relu, FLAT, path)
    for example in ("model.onnx", path, None):
        with pytest.raises(ArgumentError, match=r"example is .*export\(model, example, path\)"):
            export(nn.ReLU(), example, path)
    with pytest.raises(ArgumentError, match="metadata=\\['a'\\]: expected a dict"):
        export(nn.ReLU(), FLAT, path, metadata=["a"])
    with pytest.raises(ArgumentError, match="a batch of at least one"):
        export(nn.ReLU(), FLAT[:0], path)
    with pytest.raises(ArgumentError, match="dynamic_batch=False"):
        export(nn.ReLU(), np.float32(3), path)
    with pytest.raises(ArgumentError, match="returned dict"):
        export(Calling(lambda x: {"y": x}), FLAT, path)
    assert not path.exists()


# -- what remains of it


def test_modes_are_restored_and_recording_stops(path):
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(5)))
    model[1][1].eval()
    modes = [m.training for m in model.modules()]
    before = model.state_dict()
    exported(path, model, FLAT, check=False)
    model.train()
    model[1][1].eval()
    export(model, FLAT, path)
    assert [m.training for m in model.modules()] == modes
    assert current_tracer() is None
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert model(xcnn.Tensor(FLAT)).requires_grad


def test_an_error_inside_leaves_no_trace(path):
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(5, 4))
    with pytest.raises(xcnn.errors.ShapeError, match="layer '1'"):
        export(model, FLAT, path)
    assert current_tracer() is None
    assert all(m.training for m in model.modules())


def test_other_threads_are_not_recorded():
    tracer, inside, after = Tracer(), threading.Event(), threading.Event()

    def other():
        inside.wait(10)
        F.relu(FLAT)
        after.set()

    thread = threading.Thread(target=other)
    thread.start()
    with tracer.active():
        assert current_tracer() is tracer
        F.sigmoid(FLAT)
        inside.set()
        assert after.wait(10)
    thread.join()
    assert [call.name for call in tracer.calls] == ["sigmoid"]


def test_only_the_outermost_call_is_recorded():
    tracer = Tracer()
    with tracer.active():
        F.flatten(TALL)
        with pytest.raises(xcnn.errors.ShapeError):
            F.reshape(TALL, (5, 5))
        Doubled()(xcnn.Tensor(FLAT)) + 1
    F.relu(FLAT)
    assert [(c.name, c.is_public) for c in tracer.calls] == [
        ("flatten", True),
        ("Doubled", False),
        ("add", True),
    ]
    assert tracer.calls[0].arguments["start_dim"] == 0  # the default
    assert "test_export.py" in tracer.calls[0].where


def test_fused_layers_are_recorded_separately():
    tracer = Tracer()
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.MaxPool2d(2))
    with tracer.active():
        y = model(SQUARE)
    assert [c.name for c in tracer.calls] == ["conv2d", "relu", "max_pool2d"]
    assert_matches(y.data, model(SQUARE).data)


# -- on other devices


def test_from_a_device(backend, path):
    model = randomized(models.create("resnet20", num_classes=3, input_shape=(1, 8, 8))).to(backend)
    x = normal(2, 1, 8, 8, dtype="float32")
    export(model, x, path)
    expected = run_model(model, backend.asarray(x))[0]
    assert_matches(run_file(path, x)[0], expected, factor=100)
    export(load(path).to(backend), x, path)
    assert_matches(run_file(path, x)[0], expected, factor=100)


def test_a_graph_of_an_older_operator_set(path):
    """Nodes whose meaning changed are written as the calls that compute them."""
    make = onnx.helper.make_node
    nodes = [
        make("Softmax", ["x"], ["a"], "soft"),  # over all axes from 1 on
        make("Unsqueeze", ["a"], ["b"], "wider", axes=[1]),
        make("Shape", ["x"], ["s"]),
        make("Reshape", ["b", "s"], ["y"]),
    ]
    old = model_of(nodes, {"x": ["n", 2, 3]}, ["y"], opset=11)
    onnx.save(old, path)
    x = normal(4, 2, 3, dtype="float32")
    expected = run_file(path, x)[0]
    graph = load(path)
    again = path.with_name("again.onnx")
    export(graph, x, again)
    assert onnx.load(again).opset_import[0].version == 21
    for batch in (x, larger(x)):
        assert_matches(run_file(again, batch)[0], run_file(path, batch)[0])
    assert_matches(run_file(again, x)[0], expected)


def test_shapes_that_an_older_graph_computes(path):
    make = onnx.helper.make_node
    nodes = [
        make("Shape", ["x"], ["s"]),
        make("Gather", ["s", "zero"], ["n"], axis=0),
        make("Unsqueeze", ["n"], ["n1"], axes=[0]),
        make("Mul", ["n1", "two"], ["n2"]),
        make("Concat", ["n2", "rest"], ["shape"], axis=0),
        make("Reshape", ["x", "shape"], ["y"]),
    ]
    weights = {"zero": np.int64(0), "two": np.array([2]), "rest": np.array([-1])}
    onnx.save(model_of(nodes, {"x": ["n", 2, 3]}, ["y"], weights, opset=12), path)
    x = normal(4, 2, 3, dtype="float32")
    again = path.with_name("again.onnx")
    export(load(path), x, again)
    assert_matches(run_file(again, larger(x))[0], larger(x).reshape(10, 3))


def test_slopes_of_an_older_graph(path):
    """PRelu had one slope per channel."""
    slopes = {"slope": B4}
    nodes = [onnx.helper.make_node("PRelu", ["x", "slope"], ["y"])]
    onnx.save(model_of(nodes, {"x": ["n", 4, 9, 7]}, ["y"], slopes, opset=6), path)
    again = path.with_name("again.onnx")
    export(load(path), TALL, again)
    expected = np.where(TALL < 0, TALL * B4.reshape(4, 1, 1), TALL)
    assert_matches(run_file(again, TALL)[0], expected)


def test_an_output_that_is_a_constant(path):
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    onnx.save(model_of(nodes, {"x": ["n", 5]}, ["y", "w"], {"w": B4}), path)
    again = path.with_name("again.onnx")
    export(load(path), FLAT, again)
    np.testing.assert_array_equal(run_file(again, FLAT)[1], B4)


def test_random_inputs_stay_in_the_range_of_the_example(path):
    """Logarithms of negative numbers would be NaN on both sides and hide differences."""
    model = Calling(lambda x: F.log(x) * x.sum().item())
    with pytest.raises(ExportError, match="differs from the model's by up to"):
        export(model, POSITIVE, path)
    with pytest.raises(ExportError, match="values other than the example's"):
        export(Calling(_only(FLAT)), FLAT, path, dynamic_batch=False)


def _only(known):
    def call(x):
        if not (x.data == known).all():
            raise ValueError("another input")
        return x * 2

    return call


@pytest.mark.parametrize(
    ("kind", "weights", "settings", "length"),
    [
        ("MaxPool", {}, {"ceil_mode": 1, "kernel_shape": [1], "strides": [3]}, 2),
        ("ConvTranspose", {"w": np.ones((2, 2, 3), "float32")}, {"output_shape": [5]}, 5),
    ],
)
def test_wrong_shape_inference_of_the_checker(tmp_path, kind, weights, settings, length):
    """Its shape inference contradicts the specification and onnxruntime."""
    graph = graph_of(kind, {"x": (None, 2, 6)}, weights, opset=20, **settings)
    x = normal(3, 2, 6, dtype="float32")
    wanted = graph(x).numpy()
    assert wanted.shape == (3, 2, length)
    xcnn.onnx.export(graph, x, tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"))
    (found,) = run_file(tmp_path / "m.onnx", x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


class Attending(nn.Module):
    """A learned token in front of each sequence, and attention with a mask."""

    def __init__(self, **settings):
        self.token = xcnn.Parameter(normal(1, 1, 6, seed=20, dtype="float32"))
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **settings)

    def forward(self, x):
        tokens = xcnn.concat([self.token.expand(len(x), -1, -1), x], 1)
        y, weights = self.attention(tokens, tokens, tokens, attn_mask=~np.tri(4, dtype=bool))
        return y[:, 0], weights


def test_attention(path):
    """The expanded token has the variable batch size."""
    exported(path, randomized(Attending(add_bias_kv=True)), QUERY[:, 0])
    exported(path, load(path), QUERY[:, 0])
