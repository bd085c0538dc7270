"""Modules: what they find in themselves, their state, and what they say of themselves."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    OutOfRangeError,
    ShapeError,
    StateDictError,
)


class Scale(nn.Module):
    """x * weight, counting its calls in a buffer."""

    def __init__(self, size=2):
        self.weight = xcnn.Parameter(np.ones(size, np.float32))
        self.count = nn.Buffer(np.zeros(1, np.int64))

    def forward(self, x):
        self.count.data += 1
        return x * self.weight


class Holder(nn.Module):
    """Tensors and modules in every place where they are looked for."""

    def __init__(self):
        self.own = xcnn.Parameter(np.zeros(3, np.float32))
        self.listed = [Scale(), xcnn.Parameter(np.zeros(1, np.float32)), "neither"]
        self.pair = (Scale(), 5)
        self.named = {"left": Scale(), "deep": [nn.Buffer(np.zeros(2, np.float32))]}
        self.number = 7
        self.plain = xcnn.Tensor(np.zeros(4, np.float32))


HOLDER_PARAMETERS = ["own", "listed.1", "listed.0.weight", "pair.0.weight", "named.left.weight"]
HOLDER_BUFFERS = ["named.deep.0", "listed.0.count", "pair.0.count", "named.left.count"]


class Tied(nn.Module):
    def __init__(self):
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def small():
    return nn.Sequential({"fc1": nn.Linear(3, 4), "act": nn.ReLU(), "fc2": nn.Linear(4, 2)})


# What a module consists of


def test_named_parameters_and_buffers():
    holder = Holder()
    assert [name for name, _ in holder.named_parameters()] == HOLDER_PARAMETERS
    assert [name for name, _ in holder.named_buffers()] == HOLDER_BUFFERS
    own, _, listed, *_ = holder.parameters()
    assert own is holder.own
    assert listed is holder.listed[0].weight
    assert next(holder.buffers()) is holder.named["deep"][0]


def test_named_children_and_modules():
    holder = Holder()
    outer = nn.Sequential({"a": holder, "b": nn.ReLU()})
    assert [name for name, _ in holder.named_children()] == ["listed.0", "pair.0", "named.left"]
    assert list(holder.children()) == [holder.listed[0], holder.pair[0], holder.named["left"]]
    assert [name for name, _ in outer.named_modules()] == [
        "", "a", "a.listed.0", "a.pair.0", "a.named.left", "b",
    ]  # fmt: skip
    assert list(outer.modules())[:2] == [outer, holder]
    assert [name for name, _ in holder.named_modules("top")][:2] == ["top", "top.listed.0"]


def test_a_list_that_grows_later_is_seen():
    holder = Holder()
    holder.listed.append(nn.Linear(2, 2, bias=False))
    assert "listed.3.weight" in dict(holder.named_parameters())


def test_a_shared_parameter_counts_once():
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["first.weight"]
    assert sum(p.numel() for p in model.parameters()) == 4
    assert list(model.state_dict()) == ["first.weight", "second.weight"]  # as in PyTorch
    model(np.ones((1, 2), np.float32)).sum().backward()
    w = model.first.weight.data.astype(np.float64)
    ones = np.ones((1, 2))
    # y = W W x: d(sum y) = 1ᵀ (dW W + W dW) x
    expected = ones.T @ (ones @ w.T) + w.T @ ones.T @ ones
    np.testing.assert_allclose(model.first.weight.grad, expected, rtol=1e-5)


def test_zero_grad():
    model = small()
    model(np.ones((1, 3), np.float32)).sum().backward()
    before = [p.grad for p in model.parameters()]
    assert any(g.data.any() for g in before)
    model.zero_grad(set_to_none=False)
    assert all(
        p.grad is g and not g.data.any() for p, g in zip(model.parameters(), before, strict=True)
    )
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_requires_grad_():
    model = small()
    assert model.requires_grad_(False) is model
    assert not model(np.ones((1, 3), np.float32)).requires_grad
    model.requires_grad_()
    assert model(np.ones((1, 3), np.float32)).requires_grad


# State


def test_state_dict_is_in_the_order_of_pytorch():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Linear(2, 2))
    buffers = ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    parameters = ["0.weight", "0.bias"], ["1.weight", "1.bias"]
    assert list(model.state_dict()) == parameters[0] + buffers + parameters[1]


def test_state_dict_copies(backend):
    model = small().to(backend)
    state = model.state_dict()
    assert {k: v.shape for k, v in state.items()} == {
        "fc1.weight": (4, 3),
        "fc1.bias": (4,),
        "fc2.weight": (2, 4),
        "fc2.bias": (2,),
    }
    state["fc1.bias"][...] = 9
    assert not backend.to_host(model[0].bias.data).any()


@pytest.mark.parametrize("from_host", [True, False])
def test_load_state_dict(backend, from_host):
    source, target = small().to(backend), small().to(backend)
    state = source.state_dict()
    if from_host:
        state = {name: backend.to_host(a) for name, a in state.items()}
    weight = target[0].weight
    array = weight.data
    target.load_state_dict(state)
    assert target[0].weight is weight
    assert weight.data is array
    np.testing.assert_array_equal(backend.to_host(array), backend.to_host(source[0].weight.data))


def test_load_state_dict_from_another_device(strict):
    source, target = small().to(strict), small()
    target.load_state_dict(source.state_dict())
    np.testing.assert_array_equal(target[2].weight.data, source[2].weight.numpy())


def test_load_state_dict_takes_buffers_and_other_dtypes():
    target = Scale()
    target.load_state_dict({"weight": np.array([3.0, 4.0]), "count": np.array([5])})
    assert target.weight.dtype == np.float32
    assert target.weight.data.tolist() == [3, 4]
    assert target.count.data.tolist() == [5]


def test_load_state_dict_names_every_problem_and_changes_nothing():
    model = small()
    before = model.state_dict()
    state = {
        "fc1.weight": np.ones((4, 3), np.float32),  # fits
        "fc1.bias": np.ones(5, np.float32),
        "fc2.bias": 3,
        "other": np.ones(7),
        "another": None,
    }
    with pytest.raises(StateDictError) as caught:
        model.load_state_dict(state)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).splitlines() == [
        "the state does not fit Sequential:",
        "  missing: fc2.weight (2, 4)",
        "  unexpected: other (7,)",
        "  unexpected: another NoneType",
        "  shape: fc1.bias is (5,), the module's is (4,)",
        "  shape: fc2.bias is int, the module's is (2,)",
    ]
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_array_that_cannot_be_converted_changes_nothing():
    model = nn.Linear(1, 1)
    before = model.weight.data.copy()
    with pytest.raises(StateDictError, match="shape: bias is an array of <U4"):
        model.load_state_dict({"weight": np.ones((1, 1)), "bias": np.array(["text"])})
    assert model.weight.data == before


def test_load_state_dict_that_is_not_strict():
    model = small()
    bias = model[2].bias.data.copy()
    model.load_state_dict({"fc1.bias": np.full(4, 2.0), "other": np.ones(1)}, strict=False)
    assert model[0].bias.data.tolist() == [2, 2, 2, 2]
    np.testing.assert_array_equal(model[2].bias.data, bias)
    with pytest.raises(StateDictError, match=r"shape: fc1\.bias is"):
        model.load_state_dict({"fc1.bias": np.ones(1)}, strict=False)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(clone):
    model = nn.Sequential({"conv": nn.Conv2d(1, 2, 3), "scale": Scale(1)})
    twin = clone(model)
    assert repr(twin) == repr(model)
    x = np.random.default_rng(0).standard_normal((2, 1, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(twin(x).data, model(x).data)
    twin[0].weight.data[...] = 0
    assert model[0].weight.data.any()


# Changing all of it


def test_train_and_eval():
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout()))
    assert all(m.training for m in model.modules())
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model[1].train()
    assert [m.training for m in model.modules()] == [False, False, True, True]


def test_apply_visits_inner_modules_first():
    model = nn.Sequential({"a": nn.Sequential({"b": nn.ReLU()}), "c": nn.Tanh()})
    visited = []
    assert model.apply(visited.append) is model
    assert visited == [model[0][0], model[0], model[1], model]


def test_to_a_device_keeps_the_tensors(strict):
    model = Tied()
    model(np.ones((1, 2), np.float32)).sum().backward()
    weight, values, grad = (
        model.first.weight,
        model.first.weight.numpy(),
        model.first.weight.grad.data,
    )
    assert model.device == "cpu"
    assert model.to("strict") is model
    assert model.device == "strict"
    assert model.first.weight is model.second.weight is weight
    assert type(weight.data) is type(weight.grad.data) is strict.xp.ndarray
    np.testing.assert_array_equal(weight.numpy(), values)
    np.testing.assert_array_equal(strict.to_host(weight.grad.data), grad)
    model.to("cpu")
    assert type(weight.data) is np.ndarray


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64")])
def test_to_a_dtype(dtype):
    model = Scale().to(dtype=dtype)
    assert model.weight.dtype == np.float64
    assert model.count.dtype == np.int64  # not a floating-point array
    assert model(np.ones((1, 2))).dtype == np.float64


def test_to_refuses():
    with pytest.raises(DeviceError, match='device=\'tpu\': expected "cpu", "cuda", "cuda:N"'):
        small().to("tpu")
    for dtype in ("int32", "foo", complex):
        with pytest.raises(DTypeError, match="expected one of float16, float32, float64"):
            small().to(dtype=dtype)


def test_a_module_without_parameters_is_on_the_cpu():
    assert nn.ReLU().device == "cpu"


# Text


def test_repr():
    model = nn.Sequential(
        {
            "conv": nn.Conv2d(1, 6, kernel_size=(5, 3), padding="same"),
            "block": nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, stride=1)),
            "drop": nn.Dropout(0.25),
            "fc": nn.Linear(10, 2, bias=False, nonlinearity="softmax"),
        }
    )
    assert repr(model) == inspect.cleandoc(
        """
        Sequential(
          (conv): Conv2d(1, 6, (5, 3), padding='same')
          (block): Sequential(
            (0): ReLU()
            (1): MaxPool2d(2, stride=1)
          )
          (drop): Dropout(p=0.25)
          (fc): Linear(10, 2, bias=False, nonlinearity='softmax')
        )
        """
    )
    assert repr(Tied()) == (
        "Tied(\n  (first): Linear(2, 2, bias=False)\n  (second): Linear(2, 2, bias=False)\n)"
    )


class Net(nn.Module):
    def __init__(self):
        self.features = nn.Sequential({"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU()})
        self.heads = [nn.Linear(5, 2)]

    def forward(self, x):
        return self.heads[0](F.flatten(self.features(x), 1))


def test_errors_carry_the_path_of_the_layer():
    with pytest.raises(ShapeError) as caught:
        Net()(np.zeros((2, 3, 8, 8), np.float32))
    assert str(caught.value) == (
        "layer 'features.conv' (Conv2d(1, 2, 3)): input has 3 channels, but weight (2, 1, 3, 3) "
        "with groups=1 takes 1; check in_channels and data_format"
    )
    with pytest.raises(ShapeError) as caught:
        Net()(np.zeros((2, 1, 4, 4), np.float32))
    assert str(caught.value) == (
        "layer 'heads.0' (Linear(5, 2)): input has shape (2, 8): expected 5 features in the last "
        "axis (images need nn.Flatten() first)"
    )
    with pytest.raises(DTypeError, match=r"^layer 'features\.conv' \(Conv2d\(1, 2, 3\)\): Conv2d"):
        Net()(np.zeros((2, 1, 8, 8), np.float64))
    with pytest.raises(ShapeError, match=r"^layer 'Linear' \(Linear\(3, 2\)\): input has shape"):
        nn.Linear(3, 2)(np.zeros((1, 4), np.float32))


# Hooks and activations


def test_hooks():
    xcnn.manual_seed(0)  # not all of the hidden features are zero
    model = small()
    x = np.ones((1, 3), np.float32)
    seen = []
    watch = model[0].register_forward_hook(lambda *call: seen.append(call))
    replace = model[1].register_forward_hook(lambda module, inputs, output: output * 0)
    y = model(x)
    ((module, inputs, output),) = seen
    assert module is model[0]
    assert inputs[0] is x
    assert output.shape == (1, 4)
    assert y.data.tolist() == [[0, 0]]  # the biases start at zero
    for handle in (watch, replace, watch):  # twice does no harm
        handle.remove()
    assert model(x).data.any()
    assert len(seen) == 1


def test_hooks_run_in_order():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    layer.register_forward_hook(lambda module, inputs, output: output * 10)
    assert layer(np.ones(1, np.float32)).data.tolist() == [20]


def test_record_activations(backend):
    model = Net().to(backend)
    x = backend.asarray(np.arange(10, dtype=np.float32).reshape(2, 1, 1, 5))
    model.features[0].weight.data[...] = 1
    model.features[0].padding = ((1, 1), (0, 0))
    with nn.record_activations(model.features) as activations:
        model.features(x)
    assert list(activations) == ["conv", "act", ""]
    assert backend.to_host(activations["conv"])[0, 0].tolist() == [[3, 6, 9]]
    with nn.record_activations(model) as activations, pytest.raises(ShapeError):
        model(x)
    assert list(activations) == ["features.conv", "features.act", "features"]
    model.features(x)
    assert len(activations) == 3  # the hooks are gone, also after an error


# Sequential


def test_sequential():
    first, second, third = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    model = nn.Sequential(first, second, third)
    assert len(model) == 3
    assert list(model) == [first, second, third]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert model[0] is first
    assert model[-1] is third
    part = model[1:]
    assert isinstance(part, nn.Sequential)
    assert [name for name, _ in part.named_children()] == ["1", "2"]
    assert list(part) == [second, third]
    assert [name for name, _ in part.append(nn.ReLU()).named_children()] == ["1", "2", "3"]
    added = nn.Tanh()
    assert model.append(added) is model
    assert model[3] is added
    x = np.array([[1.0, 2.0]], np.float32)
    expected = np.tanh(third(np.maximum(first(x).data, 0)).data)
    np.testing.assert_allclose(model(x).data, expected, rtol=1e-6)


def test_an_empty_sequential_gives_its_input_back():
    x = np.ones(2)
    assert nn.Sequential()(x) is x
    assert nn.Sequential({})(x) is x


def test_a_sequential_of_names():
    model = nn.Sequential({"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU()})
    assert list(model.state_dict()) == ["conv.weight", "conv.bias"]
    assert model.act is model[1]
    with pytest.raises(IndexError):
        model[2]


@pytest.mark.parametrize(
    ("modules", "text"),
    [
        ([nn.ReLU], "0 is type, expected a Module"),
        ([nn.ReLU(), F.relu], "1 is function, expected a Module"),
        ([[nn.ReLU()]], "0 is list, expected a Module"),
        ([{"a": 3}], "a is int, expected a Module"),
        ([{"a.b": nn.ReLU()}], "'a.b' is not a valid module name"),
        ([{"": nn.ReLU()}], "'' is not a valid module name"),
        ([{"forward": nn.ReLU()}], "'forward' is not a valid module name"),
        ([{"training": nn.ReLU()}], "'training' is not a valid module name"),
    ],
)
def test_a_sequential_refuses(modules, text):
    with pytest.raises(ArgumentError, match=f"^Sequential: {text}"):
        nn.Sequential(*modules)


# Construction


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv2d(1, 2), "Conv2d: missing a required argument: 'kernel_size'"),
        (lambda: nn.Linear(1, 2, biass=True), "Linear: got an unexpected keyword argument 'biass'"),
        (lambda: nn.ReLU(in_place=True), "ReLU: got an unexpected keyword argument 'in_place'"),
        (lambda: nn.Tanh(3), "Tanh: too many positional arguments"),
        (lambda: Scale(1, 2), "Scale: too many positional arguments"),
    ],
)
def test_a_wrong_call_names_class_and_argument(make, text):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv2d(0, 2, 3), "in_channels=0: expected an int >= 1"),
        (lambda: nn.Conv2d(1, 2.5, 3), "out_channels=2.5: expected an int >= 1"),
        (lambda: nn.Conv2d(1, True, 3), "out_channels=True: expected an int >= 1"),
        (lambda: nn.Conv2d(1, 2, 0), "kernel_size=0: expected an int >= 1"),
        (lambda: nn.Conv2d(1, 2, 3, stride=(1, 0)), r"stride=\(1, 0\): expected an int >= 1"),
        (lambda: nn.Conv2d(1, 2, 3, dilation="2"), "dilation='2': expected an int >= 1"),
        (lambda: nn.Conv2d(1, 2, 3, padding="full"), "padding='full': expected an int >= 0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups=2 must divide in_channels=3"),
        (lambda: nn.Conv2d(1, 2, 3, data_format="CHWN"), "data_format='CHWN': expected"),
        (lambda: nn.Conv2d(1, 2, 3, nonlinearity="glu"), "nonlinearity='glu': expected one of"),
        (lambda: nn.Linear(-1, 2), "in_features=-1: expected an int >= 1"),
        (lambda: nn.Linear(2, "3"), "out_features='3': expected an int >= 1"),
        (lambda: nn.MaxPool2d(0), "kernel_size=0: expected an int >= 1"),
        (lambda: nn.MaxPool2d(2, stride=1.5), "stride=1.5: expected an int >= 1"),
        (lambda: nn.AvgPool2d(2, padding=-1), "padding=-1: expected an int >= 0"),
        (lambda: nn.Dropout(1.5), "p=1.5: expected a number from 0 to 1"),
        (lambda: nn.Dropout("half"), "p='half': expected a number from 0 to 1"),
        (lambda: nn.NLLLoss(reduction="middle"), "reduction='middle': expected one of mean"),
        (lambda: nn.activation("swish"), "activation='swish': expected one of"),
    ],
)
def test_a_value_out_of_range_names_the_argument(make, text):
    with pytest.raises(ArgumentError, match=f"^{text}"):
        make()


def test_a_module_without_forward():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty defines no forward method"):
        Empty()(1)


# -- containers and registration, as in PyTorch ----------------------------------------------


class Towers(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(count)])
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Linear(2, 3)})
        self.scales = nn.ParameterList(
            [np.ones(2, "float32"), nn.Parameter(np.zeros(1, "float32"))]
        )
        self.register_buffer("seen", np.zeros((), "int64"))
        self.register_buffer("cache", np.ones(2, "float32"), persistent=False)
        self.register_parameter("gain", np.ones(1, "float32"))
        self.register_parameter("unused", None)

    def forward(self, x):
        self.seen += len(x)
        for layer, scale in zip(self.layers, self.scales, strict=True):
            x = layer(x) * scale
        return self.heads["a"](x)


def test_containers():
    model = Towers(2)
    keys = [
        *(f"layers.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")),
        *(f"heads.{i}.{n}" for i in "ab" for n in ("weight", "bias")),
        *("scales.0", "scales.1", "gain", "seen"),
    ]
    assert sorted(model.state_dict()) == sorted(keys)
    assert sorted(model.state_dict(prefix="net.")) == sorted(f"net.{k}" for k in keys)
    assert [n for n, _ in model.named_buffers()] == ["seen", "cache"]
    model(np.ones((3, 2), "float32")).sum().backward()
    assert model.seen.item() == 3
    assert model.scales[0].grad is not None
    assert model.double().cache.dtype == np.float64
    assert model.float().half().gain.dtype == np.float16


def test_a_module_list_is_a_list():
    a, b, c, d = (nn.Linear(1, 1) for _ in range(4))
    layers = nn.ModuleList([a, b])
    assert layers.append(c) is layers
    layers.insert(1, d)
    assert [m is n for m, n in zip(layers, (a, d, b, c), strict=True)] == [True] * 4
    assert layers[-1] is c
    assert d in layers
    assert type(layers[1:3]) is nn.ModuleList
    assert [m is n for m, n in zip(layers[1:3], (d, b), strict=True)] == [True] * 2
    assert layers.pop(0) is a
    del layers[0]
    layers[0] = a
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    longer = layers + nn.ModuleList([d])
    assert len(longer) == 3
    assert len(nn.Sequential(a, b).extend([c])[1:]) == 2
    with pytest.raises(ArgumentError, match="ModuleList: 2 is int, expected a Module"):
        layers.append(3)
    with pytest.raises(OutOfRangeError, match="index 5: this ModuleList has 2 modules"):
        layers[5]


def test_a_module_dict_is_a_dict():
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    heads = nn.ModuleDict({"x": a})
    heads["y"] = b
    heads.update({"x": b})
    assert list(heads) == list(heads.keys()) == ["x", "y"]
    assert heads["x"] is b
    assert "y" in heads
    assert heads.pop("x") is b
    assert [name for name, _ in heads.items()] == ["y"]
    with pytest.raises(ArgumentError, match="'keys' is not a valid module name"):
        heads["keys"] = a
    with pytest.raises(KeyError):
        heads["z"]


def test_members_by_path():
    model = Towers(1)
    assert model.get_submodule("layers.0") is model.layers[0]
    assert model.get_submodule("") is model
    assert model.get_parameter("scales.0") is model.scales[0]
    assert model.get_buffer("cache") is model.cache
    with pytest.raises(
        AttributeError, match=r"Towers has no module 'layer.0' \(did you mean 'layers.0'"
    ):
        model.get_submodule("layer.0")
    with pytest.raises(ArgumentError, match="'forward' is not a valid name for a member"):
        model.register_buffer("forward", None)
    assert [n for n, _ in model.named_parameters(prefix="m", recurse=False)] == ["m.gain"]
    assert len(list(model.parameters(recurse=False))) == 1


def test_load_state_dict_returns_the_keys_that_do_not_fit():
    model = nn.Linear(2, 2)
    state = model.state_dict()
    state["extra"] = state.pop("bias")
    found = model.load_state_dict(state, strict=False)
    assert found == (["bias"], ["extra"])
    assert found.missing_keys == ["bias"]


def test_pre_hooks():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[0].weight.data[...], model[0].bias.data[...] = np.eye(2), 0
    x = np.float32([[1, -2]])
    handle = model[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 3,))
    assert model(x).tolist() == [[3, 0]]
    other = model[1].register_forward_pre_hook(lambda module, inputs: None)
    handle.remove()
    assert model(x).tolist() == [[1, 0]]
    other.remove()
    assert not model[0].is_observed


def test_to_takes_a_dtype_or_a_device():
    assert nn.Linear(1, 1).to("float64").weight.dtype == np.float64
    assert nn.Linear(1, 1).to("cpu", np.float64).cpu().bias.dtype == np.float64
    assert nn.Linear(1, 1).to(xcnn.zeros(1, dtype="float64")).bias.dtype == np.float64
