"""The Trainer: every loss and kind of target against computations by hand, on every device."""

import io
import math
import re

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from tests.strict import count_syncs, forbid_float64
from xcnn import models, nn, optim, schedules
from xcnn.data import ArrayDataset, DataLoader, Subset
from xcnn.errors import ArgumentError, DataError, DTypeError, ShapeError

from . import oracles
from .conftest import normal

N = 23
X = normal(N, 4, dtype="float32")
CLASSES = np.arange(N) * 7 % 3
YES_NO = (np.arange(N) * 5 % 7 < 3).astype(np.int64)
SOFT = oracles.softmax(normal(N, 3, seed=3), 1)
LOSSES = {
    "cross_entropy": (nn.CrossEntropyLoss, F.cross_entropy),
    "nll": (nn.NLLLoss, F.nll_loss),
    "binary_cross_entropy": (nn.BCELoss, F.binary_cross_entropy),
    "binary_cross_entropy_with_logits": (
        nn.BCEWithLogitsLoss,
        F.binary_cross_entropy_with_logits,
    ),
    "mse": (nn.MSELoss, F.mse_loss),
}


def linear(outputs, end=None):
    """A linear layer of known weights, with an activation behind it."""
    layer = nn.Linear(4, outputs)
    layer.weight.data[...] = normal(outputs, 4, seed=1)
    layer.bias.data[...] = normal(outputs, seed=2)
    return nn.Sequential(layer) if end is None else nn.Sequential(layer, end)


def scores(outputs, x=X):
    """What that layer computes, in float64."""
    weight, bias = (np.float32(normal(*s, seed=i)) for s, i in (((outputs, 4), 1), ((outputs,), 2)))
    return oracles.linear(x, weight, bias)


def trainer(model, loss="cross_entropy", lr=0.1, backend=None):
    if backend is not None:
        model.to(backend)
    return xcnn.Trainer(model, optim.SGD(model.parameters(), lr=lr), loss)


def by_hand(loss):
    """Model, targets, and the mean loss, accuracy and predictions that belong to them."""
    if loss in ("cross_entropy", "nll"):
        z = scores(3)
        terms = oracles.cross_entropy_terms(z, oracles.one_hot(CLASSES, 3))
        model = linear(3) if loss == "cross_entropy" else linear(3, nn.LogSoftmax())
        accuracy = (z.argmax(axis=1) == CLASSES).mean()
        return model, CLASSES, terms.mean(), accuracy, oracles.softmax(z, 1)
    z = scores(1)
    p = oracles.sigmoid(z)
    if loss == "mse":
        target = normal(N, 1, seed=4)
        return linear(1), target, ((z - target) ** 2).mean(), None, z
    terms = oracles.binary_cross_entropy_terms(p, YES_NO[:, None])
    model = linear(1) if loss.endswith("logits") else linear(1, nn.Sigmoid())
    return model, YES_NO, terms.mean(), ((p > 0.5)[:, 0] == YES_NO).mean(), p


@pytest.mark.parametrize("form", ["name", "module", "function"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_by_hand(backend, loss, form):
    kind, function = LOSSES[loss]
    given = {"name": loss, "module": kind(), "function": function}[form]
    model, target, mean, accuracy, predicted = by_hand(loss)
    taught = trainer(model, given, backend=backend)
    found = taught.evaluate(X, target, batch_size=5)
    assert found["loss"] == pytest.approx(mean, rel=1e-5)
    assert found["accuracy"] == (None if accuracy is None else pytest.approx(accuracy))
    answers = taught.predict(X, batch_size=6)
    assert type(answers) is np.ndarray
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, predicted, rtol=1e-4, atol=1e-6)
    (epoch,) = taught.fit(X, target, batch_size=N)  # the loss before its only step
    assert epoch.train_loss == pytest.approx(mean, rel=1e-5)
    assert taught.evaluate(X, target)["loss"] < mean


def test_steps_by_hand(backend):
    taught = trainer(linear(3), lr=0.5, backend=backend)
    weight, bias = np.float32(normal(3, 4, seed=1)), np.float32(normal(3, seed=2))
    hot = oracles.one_hot(CLASSES, 3)
    for _ in range(3):
        step = taught.train_step(X, CLASSES)
        z = oracles.linear(X, weight, bias)
        assert step.loss.item() == pytest.approx(
            oracles.cross_entropy_terms(z, hot).mean(), rel=1e-5
        )
        assert step.examples == N
        np.testing.assert_allclose(step.output.numpy(), z, rtol=1e-4, atol=1e-5)
        slope = oracles.cross_entropy_slopes(z, hot) / N
        weight = weight - 0.5 * slope.T @ np.float64(X)
        bias = bias - 0.5 * slope.sum(axis=0)
    np.testing.assert_allclose(taught.model[0].weight.numpy(), weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(taught.model[0].bias.numpy(), bias, rtol=1e-4, atol=1e-5)


# Targets


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_class_indices(backend, dtype):
    expected = trainer(linear(3)).evaluate(X, CLASSES)
    found = trainer(linear(3), backend=backend).evaluate(X, CLASSES.astype(dtype))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_classes(backend, dtype):
    z = scores(3)
    taught = trainer(linear(3), backend=backend)
    found = taught.evaluate(X, SOFT.astype(dtype), batch_size=7)
    assert found["loss"] == pytest.approx(oracles.cross_entropy_terms(z, SOFT).mean(), rel=1e-5)
    assert found["accuracy"] == (z.argmax(axis=1) == SOFT.argmax(axis=1)).mean()
    taught.fit(X, SOFT.astype(dtype))
    assert taught.model[0].weight.grad.dtype == np.float32


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
@pytest.mark.parametrize("dtype", ["int64", "float64", "bool"])
def test_binary_targets(backend, shape, dtype):
    _, _, mean, accuracy, _ = by_hand("binary_cross_entropy_with_logits")
    taught = trainer(linear(1), "binary_cross_entropy_with_logits", backend=backend)
    found = taught.evaluate(X, YES_NO.reshape(shape).astype(dtype))
    assert found == {"loss": pytest.approx(mean, rel=1e-5), "accuracy": pytest.approx(accuracy)}


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_several_binary_targets_each_count(backend, dtype):
    targets = np.stack([YES_NO, 1 - YES_NO, CLASSES % 2], axis=1)
    z = scores(3)
    taught = trainer(linear(3), "binary_cross_entropy_with_logits", backend=backend)
    found = taught.evaluate(X, targets.astype(dtype), batch_size=10)
    assert found["accuracy"] == pytest.approx(((z > 0) == targets).mean())


@pytest.mark.parametrize("soft", [False, True])
def test_every_pixel_counts(backend, soft):
    images = normal(5, 2, 3, 4, dtype="float32")
    labels = np.arange(60).reshape(5, 3, 4) * 3 % 2
    model = nn.Sequential(nn.Conv2d(2, 2, 1))
    model[0].weight.data[...] = np.eye(2)[:, :, None, None]
    targets = oracles.one_hot(labels, 2) if soft else labels
    found = trainer(model, backend=backend).evaluate(images, targets, batch_size=2)
    terms = oracles.cross_entropy_terms(np.float64(images), oracles.one_hot(labels, 2))
    assert found["loss"] == pytest.approx(terms.mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((images.argmax(axis=1) == labels).mean())


def test_ignored_labels_cost_nothing(backend):
    """They are no class, but the labels of the host, which are checked, may hold them."""
    labels, counts = CLASSES.copy(), np.arange(N) % 3 > 0
    labels[~counts] = 255
    loss = nn.CrossEntropyLoss(ignore_index=255)
    found = trainer(linear(3), loss, backend=backend).evaluate(X, labels)
    terms = oracles.cross_entropy_terms(scores(3), oracles.one_hot(CLASSES, 3))
    assert found["loss"] == pytest.approx(terms[counts].mean(), rel=1e-5)
    labels[0] = 3
    with pytest.raises(ArgumentError, match=r"class 3, .*0 to 2, or ignore_index=255"):
        trainer(linear(3), loss, backend=backend).evaluate(X, labels)


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5]])
def test_an_ignored_class_is_never_right(backend, weight):
    """Although the model may predict it."""
    predicted, counts = scores(3).argmax(axis=1), CLASSES != 1
    assert np.any(predicted[~counts] == 1)
    loss = nn.CrossEntropyLoss(weight, ignore_index=1).to(backend)
    found = trainer(linear(3), loss, backend=backend).evaluate(X, CLASSES.astype(np.uint8))
    assert found["accuracy"] == pytest.approx((predicted == CLASSES)[counts].mean())


@pytest.mark.parametrize("loss", [nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss])
def test_targets_of_distances_are_prepared_as_for_mse(backend, loss):
    targets = normal(N, seed=6)  # float64, (N,) for an output (N, 1)
    found = trainer(linear(1), loss(), backend=backend).evaluate(X, targets)
    distance = np.abs(scores(1)[:, 0] - targets)
    parabola = np.where(distance < 1, distance**2 / 2, distance - 0.5)
    terms = distance if loss is nn.L1Loss else parabola
    assert found == {"loss": pytest.approx(terms.mean(), rel=1e-5), "accuracy": None}


def test_a_target_of_another_shape_is_not_reshaped():
    model = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)))
    with pytest.raises(ShapeError, match=r"input has shape \(23, 2, 3\), target \(23, 3, 2\)"):
        trainer(model, "mse").evaluate(X, np.zeros((N, 3, 2)))
    assert trainer(linear(1), "mse").evaluate(X[:1], [0.0])["loss"] == pytest.approx(
        scores(1)[0, 0] ** 2, rel=1e-5
    )


def test_a_loss_of_ones_own(backend):
    def absolute(output, target):
        return ((output - target) * (output - target)).mean() * 3.0

    taught = trainer(linear(1), absolute, backend=backend)
    target = normal(N, 1, seed=4, dtype="float32")
    found = taught.evaluate(X, target, batch_size=4)
    assert found["loss"] == pytest.approx(3 * ((scores(1) - target) ** 2).mean(), rel=1e-5)
    assert found["accuracy"] is None
    np.testing.assert_allclose(taught.predict(X), scores(1), rtol=1e-4, atol=1e-6)
    (epoch,) = taught.fit(X, target)
    assert epoch.train_accuracy is None


# Forms of data


def test_forms_of_data_are_equal():
    def weights(*data, **settings):
        model = linear(3)
        trainer(model).fit(*data, epochs=2, **settings)
        return model[0].weight.data

    settings = {"batch_size": 6, "seed": 4}
    expected = weights(X, CLASSES, **settings)
    assert np.isfinite(expected).all()
    for data in (
        (X.tolist(), CLASSES.tolist()),
        (X.astype(np.float64), CLASSES),
        (np.asfortranarray(X), CLASSES.astype(np.int32)),
        (ArrayDataset(X, CLASSES),),
        (Subset(ArrayDataset(X, CLASSES), np.arange(N)),),
    ):
        np.testing.assert_array_equal(weights(*data, **settings), expected)
    loader = DataLoader((X, CLASSES), shuffle=True, **settings)
    np.testing.assert_array_equal(weights(loader), expected)
    assert not np.array_equal(weights(X, CLASSES, batch_size=6, shuffle=False), expected)
    assert not np.array_equal(weights(X, CLASSES, batch_size=6, seed=5), expected)


def test_evaluate_and_predict_take_a_loader_or_a_data_set():
    taught = trainer(linear(3))
    expected = taught.evaluate(X, CLASSES)
    for data in (DataLoader((X, CLASSES), batch_size=4), ArrayDataset(X, CLASSES)):
        assert taught.evaluate(data) == pytest.approx(expected, rel=1e-6)
    answers = taught.predict(X)
    np.testing.assert_allclose(taught.predict(DataLoader((X, CLASSES))), answers, rtol=1e-5)
    np.testing.assert_allclose(taught.predict(X.tolist(), batch_size=1), answers, rtol=1e-5)


def test_bytes_become_floats(backend):
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8)
    model = nn.Sequential(nn.Flatten())
    taught = xcnn.Trainer(model.to(backend), None, "mse")
    with pytest.warns(UserWarning, match="pictures of integers up to 255") as caught:
        answers = taught.predict(images)
    assert caught[0].filename == __file__
    assert answers.dtype == np.float32
    np.testing.assert_array_equal(answers, images.reshape(2, 64))
    taught.predict(images)  # warns only once


def test_float64_data_and_models(backend):
    taught = trainer(linear(3), backend=backend)
    x = X.astype(np.float64)
    (epoch,) = taught.fit(x, CLASSES, validation=(x, CLASSES))
    assert all(p.dtype == p.grad.dtype == np.float32 for p in taught.model.parameters())
    precise = trainer(linear(3).to(dtype="float64"), backend=backend)
    assert precise.fit(X, CLASSES)[0].train_loss == pytest.approx(epoch.train_loss, rel=1e-6)
    assert precise.predict(X).dtype == np.float64


def test_inputs_are_not_changed():
    x, y = X.copy(), CLASSES.copy()
    trainer(linear(3)).fit(x, y, epochs=2)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, CLASSES)


# History


def test_history(backend):
    taught = trainer(linear(3), backend=backend)
    (first,) = taught.fit(X, CLASSES)
    second, third = taught.fit(X, CLASSES, epochs=2, validation=(X[:5], CLASSES[:5]))
    assert taught.history == [first, second, third]
    assert [e.epoch for e in taught.history] == [1, 2, 3]
    assert first.val_loss is first.val_accuracy is None
    columns = "epoch train_loss train_accuracy val_loss val_accuracy seconds"
    assert list(third.row()) == columns.split()
    assert third.row()["train_loss"] == third.train_loss
    now = taught.evaluate(X[:5], CLASSES[:5])
    assert (third.val_loss, third.val_accuracy) == (now["loss"], now["accuracy"])
    assert 0 <= third.train_accuracy <= 1
    assert third.seconds > 0
    assert taught.fit(X, CLASSES, epochs=0) == []
    with pytest.raises(AttributeError):
        third.epoch = 4


def test_losses_and_accuracies_are_means_over_examples():
    """With a learning rate of 0 each batch sees the same model; the last one is smaller."""
    _, _, mean, accuracy, _ = by_hand("cross_entropy")
    (epoch,) = trainer(linear(3), lr=0).fit(X, CLASSES, batch_size=7, validation=(X, CLASSES))
    assert epoch.train_loss == pytest.approx(mean, rel=1e-5)
    assert epoch.val_loss == pytest.approx(mean, rel=1e-5)
    assert epoch.train_accuracy == epoch.val_accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize("form", [tuple, list, ArrayDataset, DataLoader])
def test_forms_of_validation(form):
    pair = (X[:7], CLASSES[:7])
    validation = form(*pair) if form is ArrayDataset else form(pair)
    (epoch,) = trainer(linear(3), lr=0).fit(X, CLASSES, validation=validation)
    expected = trainer(linear(3)).evaluate(*pair)
    assert epoch.val_loss == pytest.approx(expected["loss"], rel=1e-6)


def test_fitting_in_parts_is_fitting_at_once(backend):
    def weights(*parts):
        xcnn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)).to(backend)
        taught = xcnn.Trainer(model, optim.Adam(model.parameters()))
        for epochs in parts:
            taught.fit(X, CLASSES, epochs=epochs, batch_size=5)
        return [p.numpy() for p in model.parameters()]

    for one, two in zip(weights(3), weights(2, 1), strict=True):
        np.testing.assert_array_equal(one, two)


def test_callbacks():
    calls = []

    def note(taught, epoch):
        calls.append((taught, epoch))

    taught = trainer(linear(3))
    epochs = taught.fit(
        X, CLASSES, epochs=9, callbacks=[lambda t, e: None, lambda t, e: e.epoch == 3, note]
    )
    assert len(epochs) == 3
    assert calls == [(taught, epoch) for epoch in epochs]


def test_the_same_seed_gives_the_same_bits(backend):
    def run():
        xcnn.manual_seed(2)
        model = models.small_cnn(3, (1, 8, 8), filters=4)
        taught = xcnn.Trainer(model.to(backend), optim.Adam(model.parameters(), lr=0.01))
        x = normal(20, 1, 8, 8)
        taught.fit(x, CLASSES[:20], epochs=3, batch_size=8, seed=1, validation=(x, CLASSES[:20]))
        rows = [{**e.row(), "seconds": None} for e in taught.history]
        return rows, [p.numpy() for p in model.parameters()]

    (rows, weights), (rows_again, weights_again) = run(), run()
    assert rows == rows_again
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(np.array_equal(a, b) for a, b in zip(weights, weights_again, strict=True))


# Schedules and clipping


def scheduled(make, backend=None, loss="cross_entropy", **settings):
    model = linear(3 if loss == "cross_entropy" else 1)
    optimizer = optim.SGD((model if backend is None else model.to(backend)).parameters(), lr=0.1)
    return xcnn.Trainer(model, optimizer, loss, schedule=make(optimizer), **settings)


def rates_of(taught, epochs, **settings):
    rates = []
    note = [lambda trainer, epoch: rates.append(trainer.optimizer.lr)]
    taught.fit(X, CLASSES, epochs=epochs, batch_size=8, callbacks=note, **settings)
    return rates


def test_a_schedule_steps_after_each_epoch():
    taught = scheduled(lambda o: schedules.ExponentialLR(o, 0.5))
    assert rates_of(taught, 2) == [0.05, 0.025]
    assert rates_of(taught, 1) == [0.0125]
    by_hand = trainer(linear(3))
    halve = [lambda trainer, epoch: setattr(trainer.optimizer, "lr", trainer.optimizer.lr / 2)]
    by_hand.fit(X, CLASSES, epochs=3, batch_size=8, callbacks=halve)
    losses = [[epoch.train_loss for epoch in each.history] for each in (by_hand, taught)]
    assert losses[0] == losses[1]


def test_a_schedule_steps_after_each_batch():
    """23 examples are 3 batches of 8."""
    taught = scheduled(lambda o: schedules.OneCycleLR(o, 0.1, epochs=2, steps_per_epoch=3))
    rates_of(taught, 2)
    assert taught.schedule.steps == 6
    with pytest.raises(ArgumentError, match="OneCycleLR: step 7 of 6: the cycle is over"):
        rates_of(taught, 1)
    counted = scheduled(lambda o: schedules.ExponentialLR(o, 0.5))
    counted.schedule.per_batch = True
    assert rates_of(counted, 2) == [0.1 / 2**3, 0.1 / 2**6]
    counted.train_step(X, CLASSES)
    assert counted.optimizer.lr == 0.1 / 2**7


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("validated", [False, True])
def test_a_plateau_sees_the_metric(monkeypatch, mode, validated):
    taught = scheduled(lambda o: schedules.ReduceLROnPlateau(o, mode))
    seen = []
    monkeypatch.setattr(taught.schedule, "step", seen.append)
    epochs = taught.fit(
        X, CLASSES, epochs=2, validation=(X[:9], CLASSES[:9]) if validated else None
    )
    name = f"{'val' if validated else 'train'}_{'loss' if mode == 'min' else 'accuracy'}"
    assert seen == [getattr(epoch, name) for epoch in epochs]


def test_a_plateau_needs_what_there_is():
    taught = scheduled(lambda o: schedules.ReduceLROnPlateau(o, "max"), loss="mse")
    with pytest.raises(ArgumentError, match='mode="max" needs a loss with an accuracy'):
        taught.fit(X, normal(N, 1))


@pytest.mark.parametrize("clip_norm", [0.01, 0.5, 1e6])
def test_gradients_are_clipped(backend, clip_norm):
    taught = trainer(linear(3), lr=1.0, backend=backend)
    plain = trainer(linear(3), lr=1.0, backend=backend)
    taught.clip_norm = clip_norm
    before = [p.numpy().copy() for p in plain.model.parameters()]
    for each in (taught, plain):
        each.train_step(X, CLASSES)

    def moved(each):
        pairs = zip(before, each.model.parameters(), strict=True)
        return np.concatenate([(a - p.numpy()).ravel() for a, p in pairs])

    whole, clipped = moved(plain), moved(taught)
    share = min(1, clip_norm / np.linalg.norm(whole))
    np.testing.assert_allclose(clipped, share * whole, rtol=1e-4, atol=1e-6)


def test_clipping_in_half_precision_is_of_the_unscaled_gradients(strict):
    def weights(precision, clip_norm):
        model = linear(3).to(strict)
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        taught = xcnn.Trainer(model, optimizer, precision=precision, clip_norm=clip_norm)
        with count_syncs() as syncs, forbid_float64():
            taught.train_step(X, CLASSES)
        assert syncs == []
        return np.concatenate([p.numpy().ravel() for p in model.parameters()])

    start = np.concatenate([p.numpy().ravel() for p in linear(3).parameters()])
    half, single = (weights(p, 0.25) for p in ("float16", "float32"))
    assert np.linalg.norm(single - start) == pytest.approx(0.25, rel=1e-4)
    np.testing.assert_allclose(half, single, atol=2e-3)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"schedule": "cosine"}, "schedule is str: expected a schedule from xcnn.schedules"),
        (
            {"schedule": schedules.StepLR(optim.SGD(linear(1).parameters()), 2)},
            "schedule belongs to another optimizer",
        ),
        ({"clip_norm": -1}, "clip_norm=-1: expected a number >= 0"),
        ({"clip_norm": "1"}, "clip_norm='1': expected a number >= 0"),
    ],
)
def test_settings_refused(settings, text):
    model = linear(3)
    with pytest.raises(ArgumentError, match=text):
        xcnn.Trainer(model, optim.SGD(model.parameters()), **settings)


def test_a_plateau_does_not_count_batches():
    def make(optimizer):
        schedule = schedules.ReduceLROnPlateau(optimizer)
        schedule.per_batch = True
        return schedule

    with pytest.raises(ArgumentError, match="ReduceLROnPlateau needs a metric of each epoch"):
        scheduled(make)


# Averages


@pytest.mark.parametrize(("start", "first"), [(1, 1), (3, 3), (0.5, 3), (1.0, 5)])
def test_swa_averages_from_an_epoch_or_a_fraction_of_them(start, first):
    model, after = linear(3), {}

    def keep(taught, epoch):
        after[epoch.epoch] = model.state_dict()

    averaging = xcnn.callbacks.StochasticWeightAveraging(start)
    trainer(model).fit(X, CLASSES, epochs=4, callbacks=[keep, averaging])
    for name, weight in model.state_dict().items():
        kept = [np.float64(after[epoch][name]) for epoch in range(first, 5)] or [after[4][name]]
        np.testing.assert_allclose(weight, np.mean(kept, axis=0), rtol=1e-5, atol=1e-7)


# Modes


class Watched(nn.Module):
    """Notes in which mode it was called, and fails when told to."""

    def __init__(self):
        self.modes, self.fails = [], False

    def forward(self, x):
        self.modes.append((self.training, xcnn.is_grad_enabled()))
        if self.fails:
            raise ShapeError("told to fail")
        return x


def test_modes():
    watched = Watched()
    model = nn.Sequential(nn.Linear(4, 3), watched, nn.Dropout())
    taught = trainer(model)
    model[2].eval()
    taught.evaluate(X, CLASSES)
    taught.predict(X)
    assert watched.modes == [(False, False), (False, False)]
    assert [m.training for m in model] == [True, True, False]
    watched.fails = True
    for use in (lambda: taught.predict(X), lambda: taught.evaluate(X, CLASSES)):
        with pytest.raises(ShapeError, match="layer '1'"):
            use()
        assert [m.training for m in model] == [True, True, False]
    watched.fails, watched.modes = False, []
    taught.fit(X, CLASSES, batch_size=N, validation=(X, CLASSES))
    assert watched.modes == [(True, True), (False, False)]


def test_dropout_acts_in_training_only():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(1.0))
    taught = trainer(model, lr=0)
    (epoch,) = taught.fit(X, CLASSES, validation=(X, CLASSES))
    assert epoch.train_loss == pytest.approx(math.log(3), rel=1e-6)
    assert epoch.val_loss != pytest.approx(math.log(3), rel=1e-3)


# On a GPU


IMAGES = normal(12, 1, 16, 16)
LABELS = np.arange(12) % 10


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_a_step_does_not_wait_and_stays_in_float32(strict, kind):
    model = models.lenet5(input_shape=(1, 16, 16)).append(nn.Dropout(0.1)).to(strict)
    settings = {"momentum": 0.9} if kind is optim.SGD else {}
    optimizer = kind(model.parameters(), weight_decay=1e-4, **settings)
    cycle = schedules.OneCycleLR(optimizer, 1e-3, 9)
    taught = xcnn.Trainer(model, optimizer, schedule=cycle, clip_norm=1.0)
    soft = oracles.one_hot(LABELS, 10)
    with count_syncs() as syncs, forbid_float64():
        for targets in (LABELS, LABELS, soft):
            step = taught.train_step(IMAGES, targets)
    assert syncs == []
    assert step.loss.dtype == np.float32
    assert type(step.target) is strict.xp.ndarray


@pytest.mark.parametrize("given", ["balanced", {0: 2.0}])
def test_class_weights_of_data_without_the_last_class(backend, given):
    labels = CLASSES % 2
    expected = nn.CrossEntropyLoss([2.0, 1.0, 1.0])
    if given == "balanced":
        counts = np.bincount(labels)
        expected = nn.CrossEntropyLoss([*(N / (2 * counts)), 1.0])
    taught = trainer(linear(3), backend=backend)
    (epoch,) = taught.fit(X, labels, batch_size=N, class_weight=given)
    found = trainer(linear(3), expected).evaluate(X, labels)
    assert epoch.train_loss == pytest.approx(found["loss"], rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_accumulating_does_not_wait(strict, weighted):
    model = models.small_cnn(10, (1, 16, 16)).to(strict)
    weight = strict.asarray(np.linspace(0.5, 1.5, 10, dtype=np.float32)) if weighted else None
    loss = nn.CrossEntropyLoss(weight)
    taught = xcnn.Trainer(model, "adam", loss, accumulate=2)
    with count_syncs() as syncs:
        for _ in range(4):
            taught.train_step(IMAGES, LABELS)
    assert syncs == []
    assert taught.steps == 2


def test_an_epoch_waits_at_its_end_only(strict):
    def syncs_of(batch_size):
        taught = trainer(models.small_cnn(10, (1, 16, 16)), backend=strict)
        with count_syncs() as syncs, forbid_float64():
            taught.fit(IMAGES, LABELS, batch_size=batch_size, progress=False)
        # the thread that copies batches may wait for the copy before last
        return [line.split(" at ")[0] for line in syncs if "transfer.py" not in line]

    # the loss, the right answers, what they are divided by, and whether the weights are finite
    assert syncs_of(2) == syncs_of(12) == [*["float"] * 4, "bool"]


def test_the_devices_agree(backend):
    def losses(device):
        xcnn.manual_seed(0)
        model = models.small_cnn(10, (1, 16, 16)).to(device)
        taught = xcnn.Trainer(model, optim.Adam(model.parameters()))
        taught.fit(IMAGES, LABELS, epochs=3, batch_size=5, validation=(IMAGES, LABELS))
        return [(e.train_loss, e.val_loss) for e in taught.history]

    np.testing.assert_allclose(losses(backend), losses("cpu"), rtol=1e-4)


# Errors


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda t: t.fit(X), DataError, r"yields 1 arrays per batch, expected \(x, y\)"),
        (lambda t: t.fit(X, CLASSES[:5]), DataError, r"same length, got \[23, 5\]"),
        (lambda t: t.fit(X[:0], CLASSES[:0]), DataError, "no batch to train on"),
        (
            lambda t: t.fit(DataLoader((X, CLASSES), batch_size=99, drop_last=True)),
            DataError,
            "no batch to train on",
        ),
        (lambda t: t.fit(DataLoader((X, CLASSES)), CLASSES), ArgumentError, "already yields"),
        (lambda t: t.fit(ArrayDataset(X), CLASSES), ArgumentError, "ArrayDataset already yields"),
        (lambda t: t.fit(X, CLASSES, epochs=-1), ArgumentError, "epochs=-1: expected an int >= 0"),
        (lambda t: t.fit(X, CLASSES, epochs=1.5), ArgumentError, "epochs=1.5: expected"),
        (lambda t: t.fit(X, CLASSES, epochs="2"), ArgumentError, "epochs='2': expected"),
        (lambda t: t.fit(X, CLASSES, batch_size=0), ArgumentError, "batch_size=0: expected"),
        (lambda t: t.fit(X, CLASSES, seed=-1), ArgumentError, "seed=-1: expected"),
        (lambda t: t.fit(X, CLASSES, validation=X), ArgumentError, "validation is ndarray"),
        (lambda t: t.fit(X, CLASSES, validation=(X,)), ArgumentError, "validation is tuple"),
        (
            lambda t: t.fit(X[:, :3], CLASSES),
            ShapeError,
            r"layer '0' \(Linear\(4, 3\)\): input has",
        ),
        (lambda t: t.fit(X, CLASSES + 1), ArgumentError, "target holds class 3, but the input has"),
        (lambda t: t.fit(X, CLASSES - 1), ArgumentError, "target holds class -1"),
        (lambda t: t.fit(X, CLASSES * 1.0), DTypeError, r"use .astype\('int64'\)"),
        (lambda t: t.fit(X, CLASSES[:, None]), ShapeError, r"target has shape \(23, 1\)"),
        (lambda t: t.evaluate(X, SOFT[:, :2]), ShapeError, "target has shape"),
        (lambda t: t.predict(X[:0]), ShapeError, "x has no examples"),
    ],
)
def test_errors(strict, use, error, text):
    """The same on the CPU and on a GPU, where bad labels are found before they are uploaded."""
    for backend in (None, strict):
        with pytest.raises(error, match=text):
            use(trainer(linear(3), backend=backend))


def test_evaluate_without_examples():
    found = trainer(linear(3)).evaluate(X[:0], CLASSES[:0])
    assert math.isnan(found["loss"])
    assert math.isnan(found["accuracy"])


@pytest.mark.parametrize("loss", ["hinge", None, 3, nn.ReLU])
def test_unknown_losses(loss):
    if loss is nn.ReLU:  # a class can be called, and fails when it is
        with pytest.raises(TypeError, match="ReLU: too many positional arguments"):
            trainer(linear(3), loss).fit(X, CLASSES)
    else:
        with pytest.raises(ArgumentError, match="expected one of cross_entropy, nll, binary"):
            trainer(linear(3), loss)


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_bar_without_a_terminal(capsys):
    trainer(linear(3)).fit(X, CLASSES)
    assert capsys.readouterr() == ("", "")


def test_the_line_of_an_epoch(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    taught = trainer(linear(3))
    taught.fit(X, CLASSES, progress=False)
    assert terminal.getvalue() == ""
    (epoch,) = taught.fit(X, CLASSES, validation=(X, CLASSES))
    last = re.sub(r"\x1b\[\d+m", "", terminal.getvalue()).strip()  # one of unknown width
    numbers, rate = re.fullmatch(
        r"epoch 2/2: (.*), lr [\d.]+, ([\d.]+k?) img/s, .* s", last
    ).groups()
    assert float(rate.rstrip("k")) > 0
    assert numbers == (
        f"loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:.4f}, "
        f"val_loss {epoch.val_loss:.4f}, val_accuracy {epoch.val_accuracy:.4f}"
    )


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64", "bool"])
def test_one_hot_targets_of_any_type_count_as_classes(dtype):
    hot = np.eye(3)[CLASSES].astype(dtype)
    taught = trainer(linear(3))
    assert taught.evaluate(X, hot) == pytest.approx(taught.evaluate(X, CLASSES))


def test_a_loss_function_must_return_a_tensor():
    with pytest.raises(DTypeError, match="the loss function returned float32, expected a Tensor"):
        trainer(linear(3), lambda output, target: np.float32(1)).evaluate(X, CLASSES)


def test_the_optimizer_of_another_model_is_refused():
    model, earlier = nn.Linear(2, 3), nn.Linear(2, 3)
    with pytest.raises(ArgumentError, match=r"none of the parameters .* optim\.SGD\(model\.param"):
        xcnn.Trainer(model, optim.SGD(earlier.parameters(), lr=0.1))
    xcnn.Trainer(model, optim.SGD([model.bias], lr=0.1))  # a part of them is fine


def test_lists_of_examples():
    """Pairs and dicts are read one by one; a list of rows of numbers is an array."""
    expected = trainer(linear(3)).evaluate(X, CLASSES)
    pairs = list(zip(X, CLASSES, strict=True))
    dicts = [{"x": x, "y": int(y)} for x, y in pairs]
    for examples in (pairs, dicts):
        assert trainer(linear(3)).evaluate(examples) == expected
        history = trainer(linear(3)).fit(examples, batch_size=N, progress=False)
        assert history[0].train_loss == pytest.approx(expected["loss"])
    rows = [tuple(map(float, x)) for x in X]
    for examples in (rows, pairs, [{"x": x} for x in X]):
        np.testing.assert_array_equal(
            trainer(linear(3)).predict(examples), trainer(linear(3)).predict(X)
        )


@pytest.mark.parametrize("x", [["a.png"], np.array(["a.png"]), ("a", "b"), np.array([[1j] * 4])])
def test_data_without_numbers(backend, x):
    with pytest.raises(DTypeError, match="expected an array of numbers, got one of"):
        trainer(linear(3), backend=backend).predict(x)
    with pytest.raises(DTypeError, match="expected an array of numbers, got one of"):
        trainer(linear(3), backend=backend).fit(x, np.zeros(len(x), int), progress=False)


def test_targets_without_numbers():
    with pytest.raises(DTypeError, match="expected an array of numbers, got one of <U3"):
        trainer(linear(1), "mse").evaluate(X, np.array(["cat"] * N))
