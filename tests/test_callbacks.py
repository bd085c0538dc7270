"""What acts during a fit: callbacks, accumulation, class weights, forms of data, find_lr."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from tests.strict import count_syncs, forbid_float64
from xcnn import callbacks, data, nn, optim, schedules
from xcnn.data import DataLoader, IterableDataset
from xcnn.errors import ArgumentError, DataError, DivergenceError, DTypeError, ShapeError
from xcnn.training import LRFinder
from xcnn.training.callbacks import HOOKS, checkpoint, stopping

from . import oracles
from .conftest import normal

N = 23
X = normal(N, 4, dtype="float32")
Y = np.arange(N) * 7 % 3


def build(loss="cross_entropy", lr=0.1, device="cpu", outputs=3, dtype="float32", **settings):
    xcnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, outputs)).to(device, dtype)
    if isinstance(loss, nn.Loss):
        loss.to(device)
    return xcnn.Trainer(model, optim.SGD(model.parameters(), lr=lr), loss, **settings)


def fit(trainer, *used, x=X, y=Y, **settings):
    return trainer.fit(
        x, y, callbacks=used, **{"batch_size": 5, "progress": False, "epochs": 3, **settings}
    )


def weights(trainer):
    return [p.numpy().copy() for p in trainer.model.parameters()]


def assert_same_bits(one, two):
    for a, b in zip(one, two, strict=True):
        assert a.tobytes() == b.tobytes()


class At(callbacks.Callback):
    """Calls a function once a hook was called so many times."""

    def __init__(self, hook, times, function, order=0):
        self.left, self.order = times, order

        def call(trainer, *arguments):
            self.left -= 1
            if self.left == 0:
                function(trainer)

        self.call = call
        self.__class__ = type("At", (At,), {hook: lambda self, *a: self.call(*a)})


def raise_error(trainer):
    raise ZeroDivisionError("told to fail")


def scores_of(values):
    """A callback that gives each epoch a number as the column "score"."""

    class Score(callbacks.Callback):
        order = -1

        def on_epoch_end(self, trainer, epoch):
            epoch.metrics["score"] = values[epoch.epoch - 1]

    return Score()


# The order of hooks


def recorder(name, events, order=0, fails=None):
    """A callback that notes its hooks, and fails in one of them."""

    def hook(kind):
        def method(self, trainer, *arguments):
            events.append(f"{name}.{kind}")
            if kind == fails:
                raise ZeroDivisionError(f"{name} was told to fail")

        return method

    return type(
        "Recorder", (callbacks.Callback,), {"order": order, **{h: hook(h) for h in HOOKS}}
    )()


def test_the_order_of_hooks():
    events = []
    later, first = recorder("later", events), recorder("first", events, order=-1)
    fit(build(accumulate=2), later, first, batch_size=8, epochs=2, validation=(X, Y))
    batches = ["on_batch_start", "on_batch_end", "on_batch_start", "on_step_end", "on_batch_end"]
    batches += ["on_batch_start", "on_step_end", "on_batch_end"]  # three batches are two steps
    hooks = ["on_fit_start", *2 * ["on_epoch_start", *batches, "on_epoch_end"], "on_fit_end"]
    assert events == [f"{name}.{hook}" for hook in hooks for name in ("first", "later")]


def test_where_the_training_is_in_each_hook():
    seen = []

    class Note(callbacks.Callback):
        def on_epoch_start(self, trainer):
            seen.append(("epoch", trainer.epoch, trainer.batch, trainer.steps))

        def on_batch_start(self, trainer):
            seen.append(("batch", trainer.epoch, trainer.batch, trainer.steps))

        def on_step_end(self, trainer):
            seen.append(("step", trainer.epoch, trainer.steps))

        def on_batch_end(self, trainer, step):
            seen.append(("end", trainer.batch, trainer.steps, step.examples))

        def on_epoch_end(self, trainer, epoch):
            assert trainer.history[-1] is epoch
            seen.append(("done", epoch.epoch, trainer.epoch))

    fit(build(), Note(), batch_size=20, epochs=2)
    assert seen == [
        *[("epoch", 1, 0, 0), ("batch", 1, 0, 0), ("step", 1, 1), ("end", 1, 1, 20)],
        *[("batch", 1, 1, 1), ("step", 1, 2), ("end", 2, 2, 3), ("done", 1, 2)],
        *[("epoch", 2, 0, 2), ("batch", 2, 0, 2), ("step", 2, 3), ("end", 1, 3, 20)],
        *[("batch", 2, 1, 3), ("step", 2, 4), ("end", 2, 4, 3), ("done", 2, 3)],
    ]


def test_stopping_in_the_middle_of_an_epoch():
    events = []
    trainer = build()
    fit(trainer, recorder("a", events), At("on_batch_end", 7, lambda t: t.stop()))
    assert events.count("a.on_batch_end") == 7
    assert events.count("a.on_epoch_end") == 1
    assert events[-1] == "a.on_fit_end"
    assert trainer.is_interrupted
    assert trainer.position == (1, 2, 7)
    fit(trainer, epochs=2)
    whole = build()
    fit(whole, epochs=3)
    assert_same_bits(weights(whole), weights(trainer))


@pytest.mark.parametrize("hook", HOOKS[:-1])
def test_an_error_in_a_hook(hook):
    """The others hear of it, and the trainer can go on."""
    events = []
    trainer = build()
    used = [recorder("a", events), recorder("b", events, fails=hook), recorder("c", events)]
    with pytest.raises(ZeroDivisionError, match="b was told to fail"):
        fit(trainer, *used)
    assert events[-3:] == [f"{name}.on_exception" for name in "abc"]
    assert events.count("a.on_fit_end") == (hook == "on_fit_end")
    epochs = len(trainer.history)
    fit(trainer, epochs=2)
    assert [e.epoch for e in trainer.history] == [*range(1, epochs + 3)]
    assert not trainer.is_interrupted


def test_an_error_in_on_exception_does_not_hide_the_first():
    events = []
    used = [recorder("a", events, fails="on_exception"), recorder("b", events)]
    with pytest.raises(ZeroDivisionError, match="told to fail") as raised:
        fit(build(), *used, At("on_batch_end", 2, raise_error))
    assert events[-1] == "b.on_exception"
    (note,) = raised.value.__notes__
    assert note == "Recorder.on_exception raised ZeroDivisionError('a was told to fail')"


def test_an_error_at_the_end_releases_the_run_folder(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(build(), At("on_fit_end", 1, raise_error), callbacks.ModelCheckpoint(tmp_path))
    trainer = build()
    fit(trainer, callbacks.ModelCheckpoint(tmp_path), resume=tmp_path, epochs=4)
    assert len(trainer.history) == 4


def test_an_error_in_the_validation_and_ctrl_c():
    events = []
    with pytest.raises(ShapeError):
        fit(build(), recorder("a", events), validation=(X[:, :3], Y))
    assert events[-2:] == ["a.on_batch_end", "a.on_exception"]

    def interrupt(trainer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build(), recorder("a", events), At("on_batch_end", 2, interrupt))
    assert events[-1] == "a.on_exception"


# Functions and other objects


@pytest.mark.parametrize("result", [1, "yes", 0, [], np.float32(1)])
def test_functions_return_a_bool_or_nothing(result):
    def judge(trainer, epoch):
        return result

    with pytest.raises(ArgumentError, match=r"callback 'judge' returned .*expected True to stop"):
        fit(build(), judge)


@pytest.mark.parametrize("result", [True, np.bool_(True), np.True_])
def test_functions_that_stop(result):
    assert len(fit(build(), lambda t, e: result)) == 1
    assert len(fit(build(), lambda t, e: False)) == 3


@pytest.mark.parametrize(
    ("used", "text"),
    [
        (callbacks.EarlyStopping, r"the class EarlyStopping: add \(\)"),
        (3, "callbacks has 3: expected a Callback or a function"),
        ("early", "callbacks has 'early'"),
        (None, "callbacks has None"),
    ],
)
def test_what_is_no_callback_is_refused(used, text):
    with pytest.raises(ArgumentError, match=text):
        fit(build(), used)


# EarlyStopping


def keras_epochs(values, patience, min_delta, mode):
    """The best epoch and the last one, as Keras' EarlyStopping counts them."""
    best, best_epoch, wait = None, 0, 0
    for number, value in enumerate(values, 1):
        better = best is None or (
            value < best - min_delta if mode == "min" else value > best + min_delta
        )
        wait += 1
        if better:
            best, best_epoch, wait = value, number, 0
        elif wait >= patience and number > 1:
            return best_epoch, number
    return best_epoch, len(values)


SERIES = {
    "falling": [5, 4, 3, 2, 1, 0],
    "ties": [3, 3, 2, 2, 2, 1],
    "hill": [1, 2, 3, 2, 1, 0],
    "small steps": [3, 2.875, 2.75, 2.625, 2.5, 2.375],
    "waves": [3, 4, 2, 4, 4, 1],
}


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("patience", [0, 1, 2, 3])
@pytest.mark.parametrize("min_delta", [0, 0.25])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_early_stopping_as_in_keras(series, patience, min_delta, mode):
    values = [float(value) for value in SERIES[series]]
    stop = callbacks.EarlyStopping("score", patience, min_delta, mode, restore_best=True)
    after = []
    trainer = build()
    fit(trainer, scores_of(values), stop, lambda t, e: after.append(weights(t)), epochs=6)
    best, last = keras_epochs(values, patience, min_delta, mode)
    assert (stop.best_epoch, len(trainer.history)) == (best, last)
    assert stop.best == values[best - 1]
    assert_same_bits(weights(trainer), after[best - 1])


def test_early_stopping_by_the_usual_direction():
    trainer = build(metrics=["f1"])
    assert [trainer.mode_of(name) for name in ("val_loss", "train_accuracy", "val_f1")] == [
        *("min", "max", "max")
    ]
    with pytest.raises(ArgumentError, match=r"monitor='score': expected one of train_loss"):
        fit(trainer, scores_of([1, 2, 3]), callbacks.EarlyStopping("score"))
    with pytest.raises(ArgumentError, match=r"monitor='val_loss': .*pass validation data to fit"):
        fit(build(), callbacks.EarlyStopping())
    with pytest.raises(ArgumentError, match=r"seconds \(did you mean 'train_loss'\?\);"):
        fit(build(), callbacks.EarlyStopping("train_los"))


def test_early_stopping_does_not_take_nan_for_an_improvement():
    stop = callbacks.EarlyStopping("score", 2, mode="min")
    fit(build(), scores_of([math.nan, 3.0, math.nan, -math.inf, 1.0]), stop, epochs=5)
    assert (stop.best, stop.best_epoch) == (3.0, 2)


@pytest.mark.parametrize("averaging", [callbacks.EMA(0.5), callbacks.StochasticWeightAveraging(1)])
@pytest.mark.parametrize("is_last", [False, True])
def test_the_best_weights_count_more_than_averages(averaging, is_last):
    """Whatever the order of the list."""
    trainer, after = build(), []

    def keep(trainer, epoch):
        with trainer.evaluation_weights():
            after.append(weights(trainer))

    stop = callbacks.EarlyStopping("score", 9, mode="max", restore_best=True)
    used = [averaging, stop] if is_last else [stop, averaging]
    fit(trainer, scores_of([1, 3, 2]), *used, keep, epochs=3)
    assert_same_bits(weights(trainer), after[1])


# TimeLimit


@pytest.mark.parametrize(("limit", "batches"), [(3, 3), ("4s", 4), ("0.1min", 6), (0, 1)])
def test_time_limit(monkeypatch, limit, batches):
    """A clock on which each batch takes a second."""
    trainer = build()
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=lambda: float(trainer.steps)))
    fit(trainer, callbacks.TimeLimit(limit))
    assert trainer.steps == batches
    assert trainer.is_interrupted == (batches % 5 != 0)


@pytest.mark.parametrize("limit", ["soon", "5 weeks", -1, None, "-3s", ""])
def test_times_refused(limit):
    with pytest.raises(ArgumentError, match="limit="):
        callbacks.TimeLimit(limit)


# Trainings that diverge


def explode(trainer):
    trainer.model[0].weight.data[...] = np.inf


@pytest.mark.parametrize("every", [None, 1, 2])
@pytest.mark.parametrize("per_batch", [False, True])
def test_a_training_that_diverges(backend, every, per_batch):
    trainer = build(device=backend)
    trainer.optimizer = optim.Adam(trainer.model.parameters(), lr=0.1)
    trainer.schedule = schedules.ExponentialLR(trainer.optimizer, 0.9)
    trainer.schedule.per_batch = per_batch
    after = []
    used = [callbacks.TerminateOnNaN(every), At("on_batch_end", 13, explode)]
    note = At("on_epoch_end", 2, lambda t: after.append((weights(t), t.schedule.state_dict())))
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="weights after 2 epochs"):
        fit(trainer, note, *used)
    kept, schedule = after[0]
    assert_same_bits(weights(trainer), kept)
    assert trainer.schedule.state_dict() == schedule
    assert len(trainer.history) == 2
    assert not trainer.is_interrupted
    trainer.optimizer.lr = 0.01
    (epoch,) = fit(trainer, epochs=1)
    assert epoch.epoch == 3
    assert math.isfinite(epoch.train_loss)
    assert all(np.isfinite(w).all() for w in weights(trainer))


def test_a_training_that_diverges_in_the_first_epoch():
    trainer = build()
    before = weights(trainer)
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            DivergenceError,
            match=r"the loss is nan after epoch 1; .* 0 epochs, .* rate below 0\.1.* NaN in the",
        ),
    ):
        fit(trainer, At("on_batch_end", 1, explode))
    assert_same_bits(weights(trainer), before)
    assert trainer.history == []


def test_a_batch_of_ignored_labels_is_no_divergence(backend):
    labels = np.where(np.arange(N) // 5 == 1, -100, Y)
    trainer = build(device=backend)
    fit(trainer, callbacks.TerminateOnNaN(every=1), y=labels, shuffle=False)
    assert len(trainer.history) == 3
    found = trainer.find_lr(DataLoader((X, labels), 5), steps=20)
    batches = -(-N // 5)
    assert len(found.rates) == 20 - sum(i % batches == 1 for i in range(20))


def test_a_training_may_diverge():
    with np.errstate(all="ignore"):
        epochs = fit(build(), At("on_batch_end", 1, explode), terminate_on_nan=False)
    assert len(epochs) == 3
    assert math.isnan(epochs[-1].train_loss)


def test_averages_of_a_training_that_diverged_start_afresh():
    average, trainer = callbacks.EMA(0.5), build()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        fit(trainer, average, At("on_batch_end", 8, explode))
    fit(trainer, average, epochs=1)
    assert all(np.isfinite(w).all() for w in weights(trainer))


def test_steps_that_float16_skips_do_not_end_a_training(strict):
    trainer = build(device=strict, precision="float16")
    epochs = fit(trainer, x=X * 3000)
    assert trainer.scaler.skipped > 0
    assert len(epochs) == 3
    assert all(np.isfinite(w).all() for w in weights(trainer))


# Averages


@pytest.mark.parametrize("decay", [0, 0.5, 0.9, 1])
def test_ema_against_a_loop(backend, decay):
    trainer = build(device=backend, dtype="float64")
    steps, losses = [], []
    average = callbacks.EMA(decay)

    class Note(callbacks.Callback):
        def on_step_end(self, trainer):
            steps.append(weights(trainer))

        def on_epoch_end(self, trainer, epoch):
            with trainer.evaluation_weights():
                losses.append(trainer.evaluate(X, Y)["loss"])

    fit(trainer, Note(), average, validation=(X, Y))
    for i, found in enumerate(weights(trainer)):
        expected = steps[0][i]
        for step in steps[1:]:
            expected = decay * expected + (1 - decay) * step[i]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert [e.val_loss for e in trainer.history] == pytest.approx(losses, rel=1e-12)
    fit(trainer, average, epochs=1)
    whole = build(device=backend, dtype="float64")
    fit(whole, callbacks.EMA(decay), epochs=4)
    assert_same_bits(weights(whole), weights(trainer))  # the second fit went on from the weights


@pytest.mark.parametrize(("start", "first"), [(1, 1), (3, 3), (0.5, 3), (0.75, 4), (4, 4)])
def test_stochastic_weight_averaging(backend, start, first):
    xcnn.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).to(backend)
    trainer = xcnn.Trainer(model, optim.SGD(model.parameters(), lr=0.5))
    after, rates = [], []

    def note(trainer, epoch):
        after.append(weights(trainer))
        rates.append(trainer.optimizer.lr)

    swa = callbacks.StochasticWeightAveraging(start, lr=0.25)
    fit(trainer, swa, note, x=X[:20], y=Y[:20], epochs=4)
    assert rates == [0.5 if epoch < first else 0.25 for epoch in range(1, 5)]
    for i, found in enumerate(weights(trainer)):
        mean = np.mean([np.float64(w[i]) for w in after[first - 1 :]], axis=0)
        np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)
    mean = np.float64(X[:20]).mean(axis=0)  # of the batches' means, as all are equally large
    np.testing.assert_allclose(model[0].running_mean.numpy(), mean, rtol=1e-4, atol=1e-6)


def test_a_hook_of_another_library_is_not_ignored_in_silence():
    class Mine(callbacks.Callback):
        def on_epoch_begin(self, trainer):
            """Keras calls it."""

    with pytest.warns(UserWarning, match=r"Mine.on_epoch_begin is never called: .*on_epoch_start"):
        fit(build(), Mine())


def test_two_averages_are_refused():
    two = callbacks.EMA(), callbacks.StochasticWeightAveraging(1)
    with pytest.raises(ArgumentError, match="has EMA and StochasticWeightAveraging: average in"):
        fit(build(), *two)


def test_stochastic_weight_averaging_needs_a_constant_rate():
    trainer = build()
    trainer.schedule = schedules.OneCycleLR(trainer.optimizer, 0.1, 15)
    with pytest.raises(ArgumentError, match="needs a constant learning rate"):
        fit(trainer, callbacks.StochasticWeightAveraging())


@pytest.mark.parametrize("start", [0, -1, 1.5, 0.0, "half", None])
def test_starts_of_averaging_refused(start):
    with pytest.raises(ArgumentError, match="start="):
        callbacks.StochasticWeightAveraging(start)


# Accumulation

LOSSES = {
    "mean": nn.CrossEntropyLoss,
    "sum": lambda: nn.CrossEntropyLoss(reduction="sum"),
    "weights": lambda: nn.CrossEntropyLoss(weight=np.array([1.0, 5.0, 0.2])),
    "ignored": lambda: nn.CrossEntropyLoss(ignore_index=1),
    "weights, ignored": lambda: nn.CrossEntropyLoss(np.array([1.0, 5.0, 0.2]), ignore_index=0),
    "function": lambda: lambda output, target: F.cross_entropy(output, target) * 2.0,
}


class Gradients(callbacks.Callback):
    """Notes the gradients of each step."""

    def __init__(self):
        self.found = []

    def on_step_end(self, trainer):
        parameters = trainer.model.parameters()
        self.found.append([xcnn.Tensor(p.grad).numpy().copy() for p in parameters])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch_size", range(1, 8))
@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_several_batches_are_one_large_one(backend, loss, batch_size, accumulate):
    """The large batch is one call of the loss; the epoch's last steps are smaller."""
    note = Gradients()
    settings = {"accumulate": accumulate, "lr": 0, "dtype": "float64", "device": backend}
    trainer = build(LOSSES[loss](), **settings)
    fit(trainer, note, batch_size=batch_size, shuffle=False, epochs=1)
    size = batch_size * accumulate
    assert len(note.found) == math.ceil(N / size) == trainer.steps
    for start, found in zip(range(0, N, size), note.found, strict=True):
        whole = build(LOSSES[loss](), lr=0, dtype="float64", device=backend)
        whole.train_step(X[start : start + size], Y[start : start + size])
        expected = [xcnn.Tensor(p.grad).numpy() for p in whole.model.parameters()]
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-12)


def test_accumulation_against_pytorch():
    torch = pytest.importorskip("torch")
    note = Gradients()
    trainer = build(nn.CrossEntropyLoss(np.array([1.0, 5.0, 0.2])), accumulate=3, dtype="float64")
    layer = torch.nn.Linear(4, 3, dtype=torch.float64)
    layer.weight.data, layer.bias.data = (torch.tensor(w) for w in weights(trainer))
    fit(trainer, note, batch_size=4, shuffle=False, epochs=1)
    criterion = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]).double())
    criterion(layer(torch.tensor(X[:12]).double()), torch.tensor(Y[:12])).backward()
    np.testing.assert_allclose(note.found[0][0], layer.weight.grad.numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["mean", "weights", "ignored", "sum", "function"])
def test_accumulation_does_not_wait(strict, loss):
    given = LOSSES[loss]()
    if loss == "weights":
        given = nn.CrossEntropyLoss([1.0, 5.0, 0.2])
    trainer = build(given, accumulate=2, device=strict, clip_norm=1.0)
    with count_syncs() as syncs, forbid_float64():
        for _ in range(4):
            trainer.train_step(X, Y)
    assert syncs == []
    assert trainer.steps == 2


def test_batches_of_nothing_but_ignored_labels(backend):
    note = Gradients()
    labels = np.where(np.arange(N) < 15, -100, Y)
    trainer = build(accumulate=2, device=backend)
    (epoch,) = fit(trainer, note, y=labels, shuffle=False, epochs=1)
    assert [all((g == 0).all() for g in found) for found in note.found] == [True, False, False]
    assert math.isfinite(epoch.train_loss)


@pytest.mark.parametrize(
    ("batches", "steps"),
    [(1, [5, 5, 5]), (3, [2, 2, 2]), ({2: 3}, [5, 2, 2]), ({1: 5, 3: 2}, [1, 1, 3])],
)
def test_accumulation_from_an_epoch_on(batches, steps):
    found = []
    used = [callbacks.GradientAccumulation(batches), lambda t, e: found.append(t.steps)]
    fit(build(), *used)
    assert np.diff([0, *found]).tolist() == steps


@pytest.mark.parametrize("batches", [0, {}, {0: 1}, {1: 0}, {1: 1.5}, "2"])
def test_accumulation_refused(batches):
    with pytest.raises(ArgumentError, match=r"batches|epoch"):
        callbacks.GradientAccumulation(batches)


# Learning rates


def test_learning_rate_log():
    trainer = build()
    trainer.schedule = schedules.ExponentialLR(trainer.optimizer, 0.5)
    fit(trainer, callbacks.LearningRateLog())
    assert [e.value("lr") for e in trainer.history] == [0.1, 0.05, 0.025]
    assert trainer.history.to_csv().splitlines()[0].endswith(",lr")
    groups = [{"params": [trainer.model[0].weight]}, {"params": [trainer.model[0].bias], "lr": 1}]
    trainer = xcnn.Trainer(trainer.model, optim.SGD(groups, lr=0.5))
    fit(trainer, callbacks.LearningRateLog(), epochs=1)
    assert trainer.history[0].metrics == {"lr": 0.5, "lr_1": 1.0}


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.3}, {"accumulate": 2}])
def test_gradient_norm(backend, settings):
    """The mean over the steps of the norm that PyTorch computes, with its own training."""
    torch = pytest.importorskip("torch")
    trainer = build(device=backend, dtype="float64", **settings)
    trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=0.1, weight_decay=0.1)
    layer = torch.nn.Linear(4, 3, dtype=torch.float64)
    layer.weight.data, layer.bias.data = (torch.tensor(w) for w in weights(trainer))
    descent = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.1)
    norms, size = [], 5 * settings.get("accumulate", 1)
    for _ in range(2):
        norms.append([])
        for start in range(0, N, size):
            x, y = torch.tensor(X[start : start + size]).double(), torch.tensor(Y[start:][:size])
            descent.zero_grad()
            torch.nn.functional.cross_entropy(layer(x), y).backward()
            limit = settings.get("clip_norm", np.inf)
            norm = torch.nn.utils.clip_grad_norm_(layer.parameters(), limit)
            norms[-1].append(float(norm))
            descent.step()
    fit(trainer, callbacks.GradientNorm(), epochs=2, shuffle=False)
    found = [epoch.value("grad_norm") for epoch in trainer.history]
    np.testing.assert_allclose(found, np.mean(norms, axis=1), rtol=1e-6)


def test_gradient_norm_in_half_precision_leaves_out_skipped_steps(strict):
    """The first scale, 2**16, overflows for this loss; the norm is of the unscaled gradients."""
    x, y = X[:5] * 3, Y[:5] * 0
    trainer = build(device=strict, precision="float16", lr=0.0)
    fit(trainer, callbacks.GradientNorm(), x=x, y=y, epochs=4, class_weight={0: 1.0})
    single = build(device=strict, lr=0.0)
    fit(single, callbacks.GradientNorm(), x=x, y=y, epochs=1)
    norms = [epoch.value("grad_norm") for epoch in trainer.history]
    assert np.isnan(norms[0]) == (trainer.scaler.skipped > 0)
    assert norms[-1] == pytest.approx(single.history[0].value("grad_norm"), rel=1e-2)


def test_gradient_norm_does_not_wait(strict):
    trainer, norm = build(device=strict), callbacks.GradientNorm()
    trainer.callbacks = [norm]
    with count_syncs() as syncs:
        for _ in range(3):
            trainer.train_step(X, Y)
    assert syncs == []
    assert norm.state_dict()["steps"] == 3


def test_gradients_that_are_not_finite():
    trainer = build(lambda output, target: (output * float("nan")).sum())
    x = X[:10]
    fit(trainer, callbacks.GradientNorm(), x=x, y=Y[:10], epochs=1, terminate_on_nan=False)
    assert np.isnan(trainer.history[0].value("grad_norm"))


def test_find_lr_changes_nothing(backend):
    def trained(test):
        xcnn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
        optimizer = optim.Adam(model.to(backend).parameters(), lr=0.01)
        schedule = schedules.CosineAnnealingLR(optimizer, 5)
        trainer = xcnn.Trainer(model, optimizer, schedule=schedule, metrics=["f1"])
        for _ in range(2):
            model[1].eval()
            if test:
                before = str(trainer.state_dict())
                assert len(trainer.find_lr(X, Y, steps=12, batch_size=8).rates) > 2
                assert str(trainer.state_dict()) == before
            fit(trainer, epochs=2)
        return trainer

    one, two = trained(True), trained(False)
    assert_same_bits(weights(one), weights(two))
    assert [e.train_loss for e in one.history] == [e.train_loss for e in two.history]
    assert one.steps == two.steps


@pytest.mark.parametrize("curvature", [0.5, 8.0, 100.0])
def test_find_lr_of_a_parabola(curvature):
    """loss = curvature / 2 · weight²; gradient descent diverges for rates above 2 / curvature."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    model[0].weight.data[...] = 1.0
    trainer = xcnn.Trainer(model, optim.SGD(model.parameters(), lr=1.0), "mse")
    x = np.full((4, 1), math.sqrt(curvature / 2), "float32")
    settings = {"start": 1e-4 / curvature, "end": 100 / curvature, "batch_size": 4}
    found = trainer.find_lr(x, np.zeros((4, 1), "float32"), **settings)
    assert 0.02 / curvature < found.suggestion < 2 / curvature
    assert found.rates[0] == pytest.approx(1e-4 / curvature)
    ratios = np.array(found.rates[1:]) / found.rates[:-1]
    np.testing.assert_allclose(ratios, 1e6 ** (1 / 99), rtol=1e-6)
    weight, losses = 1.0, []
    for rate in found.rates:
        losses.append(curvature / 2 * weight**2)
        weight -= rate * curvature * weight
    stable = np.array(found.rates) < 1 / curvature
    np.testing.assert_allclose(found.losses * stable, losses * stable, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_find_lr_is_not_misled_by_noise(seed):
    """The loss falls from 1 to 0 about the rate 1e-3, with the noise of small batches."""
    rates = np.geomspace(1e-6, 1.0, 100)
    noise = np.random.default_rng(seed).normal(0, 0.2, 100)
    found = LRFinder(list(rates), list(1 / (1 + (rates / 1e-3) ** 2) + noise))
    assert 3e-4 < found.suggestion < 1e-2


def test_find_lr_is_drawn():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    found = build().find_lr(X, Y, start=1e-3, end=10.0, steps=40)
    axes = Figure().subplots()
    assert found.plot(axes) is axes
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), found.rates)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), found.losses)
    new = found.plot()
    assert new.get_xlabel() == "learning rate"
    pyplot.close(new.figure)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"start": 0}, "start=0"),
        ({"start": 1.0, "end": 0.5}, r"end=0.5: expected a rate above start=1.0"),
        ({"steps": 1}, "steps=1"),
    ],
)
def test_find_lr_refused(settings, text):
    with pytest.raises(ArgumentError, match=text):
        build().find_lr(X, Y, **settings)


def test_find_lr_of_a_loss_that_never_falls():
    trainer = build(lambda output, target: (output * 0.0).sum() + 1.0)
    with pytest.raises(ArgumentError, match="the loss did not fall at any rate"):
        trainer.find_lr(X, Y).suggestion  # noqa: B018


def test_find_lr_is_not_misled_by_its_first_batches():
    """The first batch has a hundredth of the loss of the others, whose loss falls steadily."""
    falling = itertools.chain([0.01], np.linspace(1, 0.5, 99))
    found = build(lambda output, target: output.sum() * 0 + float(next(falling))).find_lr(X, Y)
    assert len(found.rates) == 100
    assert found.suggestion > found.rates[10]


@pytest.mark.parametrize(
    "empty", [(X[:0], Y[:0]), (DataLoader((X, Y), 99, drop_last=True),), (IterableDataset([]),)]
)
def test_find_lr_without_a_batch(empty):
    with pytest.raises(DataError, match="find_lr: no batch"):
        build().find_lr(*empty)


def test_find_lr_of_data_that_are_not_finite():
    found = build().find_lr(X * np.nan, Y)
    assert found.rates == []
    with pytest.raises(ArgumentError, match="did not fall"):
        found.suggestion  # noqa: B018


def test_find_lr_without_a_suggestion_is_drawn():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    found = build(lambda output, target: (output * 0.0).sum() + 1.0).find_lr(X, Y)
    assert len(found.plot(figure.subplots()).lines) == 2


# ModelCheckpoint


def written(path):
    return [int(file.stem) for file in checkpoint.checkpoints(path)]


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        ("1epoch", [5, 10, 15, 20]),
        ("2epochs", [10, 20]),
        ("3epochs", [15, 20]),
        ("1step", [*range(1, 21)]),
        ("7steps", [7, 14, 20]),
        ("30 steps", [20]),
        ("4s", [4, 8, 12, 16, 20]),
        ("0.1min", [6, 12, 18, 20]),
        ("1h", [20]),
    ],
)
def test_when_checkpoints_are_written(tmp_path, monkeypatch, every, steps):
    """20 steps of a second each; the last one always."""
    trainer = build()
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: float(trainer.steps)))
    fit(trainer, callbacks.ModelCheckpoint(tmp_path, every, keep=99), epochs=4)
    assert written(tmp_path) == steps


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_how_many_checkpoints_are_kept(tmp_path, keep):
    fit(build(), callbacks.ModelCheckpoint(tmp_path, "1step", keep=keep))
    assert written(tmp_path) == [*range(16 - keep, 16)]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_model_by_a_column_of_ones_own(tmp_path, mode):
    after = []
    used = [
        callbacks.ModelCheckpoint(tmp_path, best="score", mode=mode),
        scores_of([2.0, 1, 2, 3, 3]),
    ]
    fit(build(), *used, lambda t, e: after.append(weights(t)), epochs=5)
    best = xcnn.load(tmp_path / "best.safetensors")
    expected = after[1 if mode == "min" else 3]
    assert_same_bits([p.numpy() for p in best.parameters()], expected)


# Class weights


def weighted_loss(trainer, class_weights):
    z = X @ trainer.model[0].weight.numpy().T + trainer.model[0].bias.numpy()
    terms = oracles.cross_entropy_terms(np.float64(z), oracles.one_hot(Y, 3))
    each = np.array(class_weights)[Y]
    return (each * terms).sum() / each.sum()


BALANCED = N / 3 / np.bincount(Y)


@pytest.mark.parametrize(
    ("class_weight", "expected"),
    [
        ("balanced", BALANCED),
        ({0: 2.0, 2: 0.5}, [2.0, 1.0, 0.5]),
        ({1: 3}, [1.0, 3.0, 1.0]),
        ([1.0, 2.0, 3.0], [1, 2, 3]),
        (np.array([0.0, 1.0, 1.0]), [0, 1, 1]),
    ],
)
def test_class_weights(backend, class_weight, expected):
    trainer = build(lr=0, device=backend)
    for data_ in ((X, Y), (DataLoader((X, Y), batch_size=5), None)):
        (epoch,) = fit(trainer, x=data_[0], y=data_[1], epochs=1, class_weight=class_weight)
        assert epoch.train_loss == pytest.approx(weighted_loss(trainer, expected), rel=1e-5)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0}])
def test_class_weights_of_classes_that_do_not_occur(backend, class_weight):
    weights_ = []
    for outputs in (3, 5):
        trainer = build(outputs=outputs, device=backend)
        fit(trainer, validation=(X, Y), class_weight=class_weight)
        weights_.append(trainer.loss.weight.numpy().tolist())
    assert weights_[1] == [*weights_[0], 1, 1]


def test_balanced_class_weights_leave_out_ignored_labels():
    labels = Y.copy()
    labels[::4] = 255
    counts = np.bincount(labels)[:3]
    trainer = build(nn.CrossEntropyLoss(ignore_index=255))
    fit(trainer, y=labels, class_weight="balanced")
    found = trainer.loss.weight.numpy()
    np.testing.assert_allclose(found, counts.sum() / 3 / counts, rtol=1e-6)
    trainer = build(nn.CrossEntropyLoss(ignore_index=255))
    fit(trainer, y=labels, class_weight={1: 2.0})
    assert trainer.loss.weight.numpy().tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("loss", "class_weight", "text"),
    [
        ("mse", "balanced", "class_weight needs a loss of class indices"),
        ("cross_entropy", "equal", "class_weight='equal': expected 'balanced', a dict or an array"),
    ],
)
def test_class_weights_refused(loss, class_weight, text):
    with pytest.raises(ArgumentError, match=text):
        fit(build(loss), class_weight=class_weight)


# Validation


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_validation_split(fraction):
    train, held = data.split((X, Y), fraction, seed=3, stratify=True)
    one, two = build(), build()
    fit(one, validation_split=fraction, seed=3)
    fit(two, x=train, y=None, validation=held, seed=3)
    assert_same_bits(weights(one), weights(two))
    assert [e.val_loss for e in one.history] == [e.val_loss for e in two.history]
    shares = np.bincount(Y[held.indices]) - fraction * np.bincount(Y)
    assert (abs(shares) < 1).all()
    soft = build()
    fit(soft, y=np.eye(3, dtype="float32")[Y], validation_split=fraction, seed=3)
    np.testing.assert_allclose(
        [e.val_loss for e in soft.history], [e.val_loss for e in one.history], rtol=1e-5
    )
    values = build("mse", outputs=1)
    fit(values, y=normal(N, 1), validation_split=fraction)
    assert values.history[-1].val_loss > 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"validation_split": 0.2, "validation": (X, Y)}, "validation_split needs validation=None"),
        ({"validation_split": 1.5}, "validation_split=1.5"),
        ({"validation_split": -0.1}, "validation_split=-0.1"),
        ({"x": DataLoader((X, Y)), "y": None, "validation_split": 0.2}, "got a DataLoader"),
    ],
)
def test_validation_split_refused(settings, text):
    with pytest.raises(ArgumentError, match=text):
        fit(build(), **settings)


def test_validation_split_of_pixels():
    x, y = normal(10, 2, 3, 3, dtype="float32"), np.arange(90).reshape(10, 3, 3) % 2
    trainer = xcnn.Trainer(nn.Conv2d(2, 2, 1), "sgd")
    (epoch,) = trainer.fit(x, y, validation_split=0.3, seed=1)
    held = data.split((x, y), 0.3, seed=1)[1].indices
    assert epoch.val_loss == pytest.approx(trainer.evaluate(x[held], y[held])["loss"], rel=1e-5)


def test_metrics_are_those_of_the_predictions(backend):
    sklearn = pytest.importorskip("sklearn.metrics")
    trainer = build(device=backend, lr=0, metrics=["f1", "auroc", "top2"])
    fit(trainer, validation=(X[:15], Y[:15]))
    assert set(trainer.history[-1].metrics) == {
        f"{split}_{name}" for split in ("train", "val") for name in (*trainer.metrics,)
    }
    for split, (x, y) in {"train": (X, Y), "val": (X[:15], Y[:15])}.items():
        p = trainer.predict(x).astype("float64")
        p /= p.sum(axis=1, keepdims=True)
        expected = {
            "f1": sklearn.f1_score(y, p.argmax(axis=1), average="macro"),
            "auroc": sklearn.roc_auc_score(y, p, multi_class="ovr", average="macro"),
            "accuracy": sklearn.accuracy_score(y, p.argmax(axis=1)),
        }
        found = {name: trainer.history[-1].value(f"{split}_{name}") for name in expected}
        assert found == pytest.approx(expected, rel=1e-5)


# Forms of data


class Sum(nn.Module):
    """A model of two inputs."""

    def __init__(self):
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, a, b):
        return self.a(a) + self.b(b)


@pytest.mark.parametrize("form", [tuple, dict])
def test_models_of_several_outputs(backend, form):
    class Heads(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)

        def forward(self, x):
            heads = {"a": self.a(x), "b": self.b(x)}
            return heads if form is dict else tuple(heads.values())

    model = Heads().to(backend)
    found = xcnn.Trainer(model).predict(X, batch_size=7)
    assert type(found) is form
    for name, y in found.items() if form is dict else zip("ab", found, strict=True):
        weight = getattr(model, name).weight.numpy(), getattr(model, name).bias.numpy()
        np.testing.assert_allclose(y, np.float64(X) @ weight[0].T + weight[1], atol=1e-5)


def test_items_of_another_library_are_validation_data():
    class Items:
        def __len__(self):
            return 9

        def __getitem__(self, index):
            return X[range(9)[index]], Y[index]

    one, two = build(), build()
    fit(one, validation=Items())
    fit(two, validation=(X[:9], Y[:9]))
    assert [e.val_loss for e in one.history] == [e.val_loss for e in two.history]


@pytest.mark.parametrize("form", [tuple, dict])
def test_models_of_several_inputs(backend, form):
    inputs = (X, normal(N, 2, seed=5, dtype="float32"))
    x = inputs if form is tuple else dict(zip("ab", inputs, strict=True))

    def built():
        xcnn.manual_seed(0)
        model = Sum().to(backend)
        return xcnn.Trainer(model, optim.SGD(model.parameters(), lr=0.1))

    trainer = built()
    fit(trainer, x=x, validation=(x, Y))
    assert len(trainer.history) == 3
    found = trainer.predict(x, batch_size=4)
    w = [p.numpy().astype("float64") for p in trainer.model.parameters()]
    z = inputs[0] @ w[0].T + w[1] + inputs[1] @ w[2].T + w[3]
    np.testing.assert_allclose(found, oracles.softmax(z, 1), rtol=1e-4, atol=1e-6)
    loss = oracles.cross_entropy_terms(z, oracles.one_hot(Y, 3)).mean()
    assert trainer.history[-1].val_loss == pytest.approx(loss, rel=1e-5)
    again = built()
    fit(again, x=DataLoader((x, Y), batch_size=5, shuffle=True), y=None)
    assert_same_bits(weights(again), weights(trainer))


@pytest.mark.parametrize(
    "names", [("x", "y"), ("image", "label"), ("images", "labels"), ("pixel_values", "target")]
)
def test_batches_that_are_dicts(names):
    expected, found = build(), build()
    fit(expected)
    batches = dict(zip(names, (X, Y), strict=True))
    fit(found, x=DataLoader(batches, batch_size=5, shuffle=True), y=None)
    assert_same_bits(weights(found), weights(expected))


def test_dicts_of_other_names_are_refused():
    with pytest.raises(DataError, match=r"expected .x, y. or a dict of 'x' and 'y'"):
        fit(build(), x=DataLoader({"a": X, "b": Y}), y=None)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_loader_without_a_length(accumulate):
    def items():
        yield from zip(X, Y, strict=True)

    expected, found = build(accumulate=accumulate), build(accumulate=accumulate)
    fit(expected, shuffle=False)
    fit(found, x=DataLoader(IterableDataset(items), batch_size=5), y=None)
    assert_same_bits(weights(found), weights(expected))
    assert found.steps == expected.steps == 3 * math.ceil(5 / accumulate)
    assert [e.train_loss for e in found.history] == [e.train_loss for e in expected.history]


def test_pictures_of_bytes_warn_once():
    images = np.arange(6 * 48).reshape(6, 3, 4, 4).astype("uint8")
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    trainer = xcnn.Trainer(model, optim.SGD(model.parameters(), lr=1e-6))
    with pytest.warns(UserWarning, match="scale them") as caught:
        fit(trainer, x=images, y=Y[:6], batch_size=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    fit(trainer, x=images, y=Y[:6])  # warnings are errors here


# Making a Trainer


@pytest.mark.parametrize("model", ["x", None, nn.Linear, 3, X])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(DTypeError, match=r"Trainer: model is .*expected a Module"):
        xcnn.Trainer(model)


@pytest.mark.parametrize("name", optim.BY_NAME)
def test_optimizers_by_name(name):
    model = nn.Sequential(nn.Linear(4, 3))
    trainer = xcnn.Trainer(model, name)
    assert type(trainer.optimizer) is optim.BY_NAME[name]
    assert [id(p) for p in trainer.optimizer.params] == [id(p) for p in model.parameters()]
    before = weights(trainer)
    fit(trainer, epochs=1)
    assert any((a != b).any() for a, b in zip(before, weights(trainer), strict=True))


def test_optimizers_refused():
    model = nn.Sequential(nn.Linear(4, 3))
    for given in ("lbfgs", optim.Adam, 0.1):
        with pytest.raises(
            ArgumentError, match=r"optimizer=.*expected one of adadelta, .*adam, .*sgd"
        ):
            xcnn.Trainer(model, given)
    with pytest.raises(ArgumentError, match="has no optimizer"):
        fit(xcnn.Trainer(model))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("mae", nn.L1Loss), ("l1", nn.L1Loss), ("l1_loss", nn.L1Loss), ("mse_loss", nn.MSELoss)),
        *(("bce", nn.BCELoss), ("nll_loss", nn.NLLLoss), ("huber_loss", nn.HuberLoss)),
    ],
)
def test_names_of_losses(name, kind):
    assert type(build(name).loss) is kind


def test_a_class_of_losses_is_refused():
    with pytest.raises(ArgumentError, match=r"the class CrossEntropyLoss: add \(\), pass an obj"):
        build(nn.CrossEntropyLoss)


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        (["confusion_matrix"], "'confusion_matrix', which is not one number"),
        (["accuracy"], "'accuracy', which is always measured: leave it out"),
        (["f1", "f1"], "'f1', twice: leave it out"),
    ],
)
def test_metrics_refused(metrics, text):
    with pytest.raises(ArgumentError, match=text):
        build(metrics=metrics)


def test_unfreezing_one_layer_after_another():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    for parameter in nn.matching_parameters(model, ["0.*", "1.*"]).values():
        parameter.requires_grad = False
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters()))
    before = {k: p.numpy().copy() for k, p in model.named_parameters()}
    changed = []

    def compare(trainer, epoch):
        found = model.named_parameters()
        changed.append({k[0] for k, p in found if not np.array_equal(p.numpy(), before[k])})

    fit(trainer, callbacks.Unfreeze(2, "1.*"), callbacks.Unfreeze(3), compare)
    assert changed == [{"2"}, {"1", "2"}, {"0", "1", "2"}]
    fit(trainer, callbacks.Unfreeze(2, "0.*"), epochs=1)
    with pytest.raises(
        ArgumentError, match=r"patterns '3.\*' matches no parameter; choose from: 0"
    ):
        fit(trainer, callbacks.Unfreeze(2, ["0.*", "3.*"]))
    trainer = xcnn.Trainer(model, optim.Adam(model[2].parameters()))
    with pytest.raises(
        ArgumentError, match=r"the optimiser does not have 0.weight: create it with"
    ):
        fit(trainer, callbacks.Unfreeze(2))
    with pytest.raises(ArgumentError, match="epoch=0"):
        callbacks.Unfreeze(0)
