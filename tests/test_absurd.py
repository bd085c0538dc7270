"""Absurd arguments: each call returns within a second or raises an XcnnError."""

import copy
import gc
import inspect
import random
import signal
import sys
import warnings
from contextlib import contextmanager, suppress

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import Parameter, Tensor, Trainer, callbacks, data, init, metrics, nn, optim, schedules
from xcnn.checks import is_int
from xcnn.errors import (
    ArgumentError,
    DataError,
    DTypeError,
    OutOfRangeError,
    ShapeError,
    StateDictError,
    XcnnError,
)

SECONDS, MEMORY = 1.0, 2 * 1024**3
LABELS = np.arange(2)
IMAGES, SIGNALS, ROWS = (
    np.linspace(-1, 1, int(np.prod(shape)), dtype="float32").reshape(shape)
    for shape in ((2, 4, 6, 6), (2, 4, 6), (3, 4))
)
ABSURD = [
    *(None, "x", "", b"x", True, False, 1j, object(), slice(None), range(3), lambda *x, **k: None),
    *(-1, 0, 1, 2, 2**31, 2**40, 2**70, -(2**70)),
    *(0.5, 1e300, -1e300, float("nan"), float("inf"), np.float32(0.5), np.int64(-3)),
    *("float32", "mean", "same", "cpu"),
    *([], {}, (), [1, 2], (1, 2), ("a", "b"), [None], {"a": 1}),
    *((2**31, 2**31), (2**40, 1), ((1, 2), (3, 4)), ((2**31, 0), (0, 0))),
    *(np.zeros(3), np.ones((2, 2)), np.zeros((0, 3), "float32"), np.array(2**40)),
    *(np.array(["a"]), np.array([None]), ROWS, SIGNALS, IMAGES[:0], Tensor(IMAGES)),
    *(IMAGES, IMAGES.astype("int64")),
]
#: a value that makes sense, by the name of the parameter
SENSIBLE = {
    **dict.fromkeys(("input", "a", "b", "x", "tensor", "images", "condition"), IMAGES),
    **dict.fromkeys(("in_channels", "num_features", "num_channels", "in_features", "features"), 4),
    **dict.fromkeys(("out_channels", "out_features", "normalized_shape", "num_parameters"), 4),
    **dict.fromkeys(("kernel_size", "output_size", "size"), 2),
    **dict.fromkeys(("upscale_factor", "downscale_factor"), 2),
    **dict.fromkeys(("stride", "dilation", "groups", "num_groups", "step_size", "batch_size"), 1),
    **dict.fromkeys(("padding", "output_padding", "dim", "dim0", "start_dim", "seed"), 0),
    **dict.fromkeys(("running_mean", "running_var", "bias", "scale_factor", "generator"), None),
    **dict.fromkeys(("lr", "max_lr", "p", "alpha", "eps", "momentum", "gamma", "factor"), 0.5),
    "weight": np.ones((4, 4, 3, 3), "float32"),
    "tensors": [IMAGES, IMAGES],
    "dims": (0, 2, 3, 1),
    "dtype": "float32",
    "reduction": "mean",
    "shape": (2, -1),
    "dim1": 1,
    "unflattened_size": (2, 2),
    "total_steps": 10,
    "mean": [0.5] * 4,
    "std": [0.5] * 4,
    "device": "cpu",
    **dict.fromkeys(("y", "target", "labels"), LABELS),
    **dict.fromkeys(("data", "dataset"), (IMAGES, LABELS)),
    **dict.fromkeys(("k", "epochs", "num_ops", "num_classes"), 2),
    **dict.fromkeys(("loss", "schedule", "resume", "validation"), None),
    "prediction": ROWS[:2, :3],
    "weights": [1, 2],
    "indices": [1, 0],
    "source": [IMAGES[0], IMAGES[1]],
    "name": "f1",
    "path": "file",
}
#: arguments that may be any large number, as they say how long a call takes
DURATIONS = {"epochs", "steps", "num_ops", "chain_depth", "num_samples"}


def parameters():
    return [Parameter(np.ones((4, 4), "float32"))]


#: the same, for objects that a call may change
NEW = {
    "tensor": lambda: parameters()[0],
    "params": parameters,
    "parameters": parameters,
    "optimizer": lambda: optim.SGD(parameters(), 0.1),
    "model": lambda: model(),
}


def sensible(name):
    return NEW[name]() if name in NEW else SENSIBLE[name]


@contextmanager
def limits():
    """At most 2 GiB of new memory, no warnings of overflow, and no collector in older objects.

    Going through those of a whole test process takes a large part of a second.
    """
    resource = pytest.importorskip("resource")
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    gc.freeze()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gc.unfreeze()
        resource.setrlimit(resource.RLIMIT_AS, before)


class TooLong(Exception):
    """A call that computes for more than a second."""


@contextmanager
def alarm():
    """Interrupt a call that computes for more than a second, however busy the machine is."""

    def stop(*_):
        raise TooLong(f"longer than {SECONDS} s")

    handler = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)


# -- what is called ------------------------------------------------------------------------

ABSTRACT = {nn.Module, nn.Loss, optim.Optimizer, schedules.LRScheduler}
ABSTRACT |= {data.Dataset, data.Augmentation, data.Mixing, callbacks.Callback}
ABSTRACT |= {metrics.Metric, metrics.StoringMetric, metrics.ClassMetric}
#: they read files, fetch them or import packages
FILES = {
    "TensorBoardLogger",
    "CocoDetection",
    "ImageFolder",
    "VOCDetection",
    "info",
    "load",
    "load_boxes",
    "load_folder",
    "names",
    "split_folder",
    "status",
}
MODULES = {
    **{"functional": F, "nn": nn, "optim": optim, "schedules": schedules, "data": data},
    **{"metrics": metrics, "callbacks": callbacks},
}
OPERATORS = "add getitem matmul mul pow rmatmul rsub truediv"


def public(module):
    names = [
        name
        for name in module.__all__
        if name not in FILES | {"Batch", "BatchTransform", "Move", "prefetch"}
    ]
    found = {name: getattr(module, name) for name in names}
    return {n: v for n, v in found.items() if callable(v) and v not in ABSTRACT}


def initializers():
    members = inspect.getmembers(init, inspect.isfunction)
    return {n: f for n, f in members if f.__module__ == init.__name__ and n[0] != "_"}


def methods(make, *names):
    """The named methods of a class, each of a new object; by default all, and the operators."""
    kind = type(make())
    names = names or {n for n in dir(kind) if n[0] != "_"} | {f"__{n}__" for n in OPERATORS.split()}
    found = {n: getattr(kind, n, None) for n in sorted(names)}
    return {n: method(make, n) for n, f in found.items() if inspect.isfunction(f)}


def method(make, name):
    def call(*arguments, **settings):
        return getattr(make(), name)(*arguments, **settings)

    call.__signature__ = inspect.signature(getattr(make(), name))
    return call


def model():
    return nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def trainer():
    network = model()
    return Trainer(network, optim.Adam(network.parameters()), metrics=["f1"])


def updates():
    """``update`` of each metric."""
    each = {name: metrics.create(name, loss(name)) for name in metrics.names()}
    return {
        f"{name}.update": method(lambda m=m: copy.deepcopy(m), "update") for name, m in each.items()
    }


def loss(name):
    return nn.L1Loss() if name == "loss" else None


TARGETS = {
    **{name: public(module) for name, module in MODULES.items()},
    "init": initializers(),
    "Tensor": methods(lambda: Tensor(IMAGES.copy(), True)),
    "Module": methods(model),
    "updates": updates(),
    "Trainer": {
        "Trainer": Trainer,
        **methods(trainer, "fit", "evaluate", "predict", "find_lr", "save", "load"),
    },
}


def draw(rng, function):
    """Arguments by position and by name: one of them absurd, or more."""
    called = function.__init__ if inspect.isclass(function) else function
    parameters = [p for p in inspect.signature(called).parameters.values() if p.name != "self"]
    by_position = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    share = rng.choice((0.0, 0.2, 0.5, 1.0))
    replaced = rng.choice(parameters).name if parameters else None
    positional, named, left_out = [], {}, False
    for p in parameters:
        is_absurd = p.name == replaced or rng.random() < share
        if p.kind is p.VAR_KEYWORD or (not is_absurd and p.default is not p.empty):
            left_out = True
            continue
        is_known = p.name in NEW or p.name in SENSIBLE
        value = sensible(p.name) if is_known and not is_absurd else rng.choice(ABSURD)
        value = 2 if p.name in DURATIONS and is_large(value) else value
        if p.kind is p.VAR_POSITIONAL:
            positional += rng.choices(ABSURD, k=rng.randrange(3))
        elif p.kind is p.POSITIONAL_ONLY or (
            p.kind is not p.KEYWORD_ONLY
            and not (named or left_out)
            and (by_position or rng.random() < 0.5)
        ):
            positional.append(value)
        else:
            named[p.name] = value
    return positional, named


def is_large(value):
    return (is_int(value) or isinstance(value, np.ndarray)) and np.shape(value) == () and value > 2


def use(made, rng):
    """Use what a constructor made as it is meant to be used."""
    if isinstance(made, nn.Loss):
        made(ROWS, ROWS)
    elif isinstance(made, nn.ModuleDict | nn.ModuleList | nn.ParameterList):
        len(made)  # not to be called
    elif isinstance(made, nn.Module):
        images = rng.choice([IMAGES, SIGNALS, ROWS])
        is_unpool = type(made).__name__.startswith("MaxUnpool")
        more = [rng.choice([IMAGES, SIGNALS, ROWS]) for _ in range(inputs(made) - 1)]
        made(images, *([np.zeros(images.shape, int)] if is_unpool else more))
    elif isinstance(made, optim.Optimizer):
        for parameter in made.params:
            parameter.grad = np.ones_like(parameter.data)
        made.step()
    elif isinstance(made, schedules.LRScheduler):
        made.step(*[1.0] * isinstance(made, schedules.ReduceLROnPlateau))
    elif isinstance(made, metrics.Metric):
        made.update(*rng.choice([(IMAGES, IMAGES), (ROWS[:2], LABELS), (SIGNALS, SIGNALS > 0)]))
        made.compute()
    elif isinstance(made, callbacks.Callback):
        trainer().fit(IMAGES, LABELS, 2, validation=(IMAGES, LABELS), callbacks=[made])
    elif isinstance(made, Trainer):
        made.fit(IMAGES, LABELS)
    elif isinstance(made, data.Mixing):
        made(IMAGES, LABELS)
    elif isinstance(made, data.Augmentation):
        made(rng.choice([IMAGES, IMAGES[:, :3], IMAGES[:, :1].astype("uint8")]))
    elif isinstance(made, data.IterableDataset):
        next(iter(data.DataLoader(made)), None)
    elif isinstance(made, data.Dataset):
        made.batch(np.arange(min(2, len(made))))
    elif isinstance(made, data.DataLoader):
        next(iter(made), None)
    elif isinstance(made, data.WeightedRandomSampler):
        made.order(0)
    elif isinstance(made, optim.SWA | optim.EMA):
        made.update()
        made.update()
        made.copy_to()
    elif callable(made):
        made(IMAGES)


def inputs(module):
    """How many arrays a module is called with."""
    takes = [*inspect.signature(module.forward).parameters.values()]
    if takes[0].kind is takes[0].VAR_POSITIONAL and hasattr(module, "function"):
        takes = inspect.signature(module.function).parameters.values()
        settings = type(module)._setting_names
        return sum(p.default is p.empty and p.name not in settings for p in takes)
    return sum(p.default is p.empty for p in takes) or 1


def shown(value):
    is_array = isinstance(value, np.ndarray | Tensor)
    return f"<{type(value).__name__} {value.shape}>" if is_array else repr(value)[:60]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by /proc and setrlimit")
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(2, 5))]
)
@pytest.mark.parametrize("group", TARGETS)
def test_absurd_arguments(group, seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, functions, wrong = random.Random(seed), TARGETS[group], []
    with limits():
        for _ in range(max(200, 12 * len(functions))):
            name = rng.choice(list(functions))
            positional, named = draw(rng, functions[name])
            try:
                with alarm():
                    made = functions[name](*positional, **named)
                    if inspect.isclass(functions[name]):
                        use(made, rng)
            except (XcnnError, OSError):  # a file that does not exist, say
                pass
            except Exception as error:  # what the test looks for
                call = [*map(shown, positional), *(f"{k}={shown(v)}" for k, v in named.items())]
                wrong.append(f"{name}({', '.join(call)}): {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


# -- the faults that were found first ------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.adaptive_avg_pool2d(IMAGES, 2**40), ArgumentError, "output_size="),
        (lambda: nn.AdaptiveMaxPool2d((1, 2**31))(IMAGES), ArgumentError, "output_size="),
        (lambda: nn.Upsample(scale_factor=2**31)(IMAGES), ArgumentError, "scale_factor="),
        (lambda: F.interpolate(IMAGES, (2**25, 1)), ArgumentError, "size="),
        (lambda: F.pad(IMAGES, (2**70, 0)), ArgumentError, "pad="),
        (lambda: F.conv2d(IMAGES, IMAGES[:, :, :1, :1], padding=2**40), ArgumentError, "padding="),
        (lambda: F.max_pool2d(IMAGES, 2**32, 1, 2**31), ArgumentError, "kernel_size="),
        (lambda: Tensor(IMAGES, ROWS), ArgumentError, "requires_grad="),
        (lambda: nn.Linear(2**40, 2**40), ArgumentError, "shape="),
        (lambda: nn.Conv2d(4, 4, 2**40), ArgumentError, "shape="),
        (lambda: Tensor(IMAGES).sum(dim="x"), ArgumentError, "dim='x'"),
        (lambda: F.permute(IMAGES, None), ShapeError, "dims=None"),
        (lambda: F.flatten(IMAGES, "x"), ArgumentError, "start_dim='x'"),
        (lambda: F.reshape(IMAGES, "x"), ArgumentError, "64 ints"),
        (lambda: F.reshape(ROWS, (3, 4) + (1,) * 63), ArgumentError, "64 ints"),
        (lambda: F.add(IMAGES, 10**400), DTypeError, "too large for float32"),
        (lambda: F.matmul(IMAGES, IMAGES[:, :3]), ShapeError, "do not broadcast"),
        (lambda: nn.MaxPool2d(2, ceil_mode=ROWS), ArgumentError, "ceil_mode="),
        (lambda: nn.Conv2d(4, 4, 3, bias=ROWS), ArgumentError, "bias="),
        (lambda: init.normal_("x"), DTypeError, "tensor is str"),
        (lambda: init.normal_(Tensor(ROWS), 0, 1, 3), ArgumentError, "generator=3"),
        (lambda: model().load_state_dict(3), StateDictError, "state is int"),
        (lambda: model().apply(3), ArgumentError, "function is int"),
        (lambda: nn.LocalResponseNorm(10**400), ArgumentError, "size="),
        (lambda: F.local_response_norm(IMAGES, 10**400), ArgumentError, "size="),
        (lambda: nn.ConvTranspose2d(4, 4, 3, stride=10**400), ArgumentError, "stride="),
        (lambda: F.pad(IMAGES, (1, 1), value=10**400), ArgumentError, "value="),
        (lambda: optim.EMA(model(), 10**400), ArgumentError, "decay="),
        (lambda: F.linear(ROWS, ROWS, relu=ROWS), ArgumentError, "relu="),
        (lambda: Tensor(ROWS)[2**63], OutOfRangeError, "indexing"),
        (lambda: data.DataLoader(ROWS, prefetch=2**63), ArgumentError, "prefetch="),
        (lambda: data.DataLoader(ROWS, workers=2**31), ArgumentError, "workers="),
        (lambda: xcnn.summary(3, (1,)), ArgumentError, "model is int"),
        (lambda: xcnn.summary(model(), 3), ArgumentError, "input_shape=3"),
        (lambda: Tensor(ROWS).accumulate(ROWS[0]), ShapeError, r"\(4,\).*\(3, 4\)"),
        (lambda: data.Normalize("x", 1), ArgumentError, "mean='x'"),
        (lambda: data.Normalize(0.5, 1)([1, 2]), DTypeError, r"got list.*np.stack"),
        (lambda: data.RandomErasing(value="x"), ArgumentError, "value='x'"),
        (lambda: data.RandAugment(fill="x"), ArgumentError, "fill='x'"),
        (lambda: data.WeightedRandomSampler([1, 2], 2**70), ArgumentError, "num_samples="),
        (lambda: data.class_weights([0, 2**31]), ArgumentError, "labels="),
        (lambda: data.class_weights([0, 1], 2**40), ArgumentError, "num_classes="),
        (lambda: data.map_arrays(ROWS, ROWS), ArgumentError, "function is ndarray"),
        (lambda: data.image_files(3), ArgumentError, "folder=3: expected a path"),
        (lambda: data.read_image("a\0", (1, 2, 2)), ArgumentError, "path="),
        (lambda: data.CSVDataset(3), ArgumentError, "path=3"),
        (lambda: data.CSVDataset("x", label=ROWS), ArgumentError, "label="),
        (lambda: data.CSVDataset("x", features="ab"), ArgumentError, "features='ab'"),
        (lambda: data.DataLoader(ROWS, transform=3), ArgumentError, "transform is int"),
        (lambda: data.DataLoader(ROWS, shuffle=ROWS), ArgumentError, "shuffle="),
        (lambda: list(data.IterableDataset({}.clear)), DTypeError, "returned NoneType"),
        (lambda: optim.Adam(ROWS), ArgumentError, "contains no Tensors"),
        (lambda: optim.Adam([Parameter(ROWS)], ROWS), ArgumentError, "lr="),
        (lambda: optim.update_batch_norm(3, []), ArgumentError, "model is int"),
        (lambda: xcnn.load(3), ArgumentError, "path=3"),
        (lambda: xcnn.save(model(), 3), ArgumentError, "path=3"),
        (lambda: trainer().load(None), ArgumentError, "path=None"),
        (lambda: trainer().find_lr(IMAGES[:0], LABELS[:0]), DataError, "find_lr: no batch"),
        (lambda: trainer().fit(IMAGES, {"a": LABELS}), DTypeError, "target is dict"),
        (lambda: trainer().fit(IMAGES, LABELS, callbacks=3), ArgumentError, "callbacks is int"),
        (lambda: trainer().fit(IMAGES, LABELS, class_weight={"a": 1}), ArgumentError, "class"),
        (lambda: trainer().predict(np.array(["a"])), DTypeError, "array of numbers"),
        (lambda: Trainer(model(), metrics=3), ArgumentError, "metrics is int"),
        (lambda: metrics.MeanLoss("mse"), DTypeError, "loss is str"),
        (lambda: metrics.R2().update(1.0, 1.0), ShapeError, "metric 'r2'"),
        (lambda: callbacks.EarlyStopping(None), ArgumentError, "monitor=None"),
        (lambda: callbacks.StochasticWeightAveraging(1.5), ArgumentError, "start=1.5"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("kernel", [7, 2**16, 2**31])
def test_a_kernel_larger_than_the_image(kernel):
    """With ceil_mode, it reads the whole image; PyTorch gives the same results."""
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(IMAGES)
    for ours, theirs in (
        (F.max_pool2d, torch.nn.functional.max_pool2d),
        (F.avg_pool2d, torch.nn.functional.avg_pool2d),
    ):
        # PyTorch's kernels are 32-bit: the results do not depend on how far one sticks out
        expected = theirs(x, min(kernel, 64), ceil_mode=True).numpy()
        np.testing.assert_allclose(ours(IMAGES, kernel, ceil_mode=True).data, expected, 1e-6)


def with_states():
    optimizer = optim.Adam(model().parameters())
    return [
        optimizer,
        optim.EMA(model()),
        schedules.StepLR(optimizer, 3),
        data.DataLoader(ROWS),
        Trainer(model(), "adam"),
        Trainer(model(), "adam").history,
        metrics.F1(),
    ]


@pytest.mark.parametrize("owner", with_states(), ids=lambda owner: type(owner).__name__)
@pytest.mark.parametrize("state", [3, None, "x", [1], ROWS])
def test_what_is_not_a_state(owner, state):
    with pytest.raises(StateDictError):
        owner.load_state_dict(state)


@pytest.mark.parametrize(
    "value", [3, None, "x", [1], ROWS, {}, {"a": 1}, 10**400], ids=lambda v: str(v)[:9]
)
@pytest.mark.parametrize("owner", with_states(), ids=lambda owner: type(owner).__name__)
def test_a_state_with_one_wrong_value(owner, value):
    state = owner.state_dict()
    for key in state:
        with suppress(XcnnError):
            owner.load_state_dict({**state, key: value})


def test_integers_of_any_kind():
    for layer in (nn.Linear(2, np.array(3)), nn.Conv1d(np.int8(2), np.array(3), 1)):
        assert layer.bias.shape == (3,)
