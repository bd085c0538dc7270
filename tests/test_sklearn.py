"""xcnn.sklearn: scikit-learn's own checks, its tools, and scikit-learn's models as oracles."""

import copy
import pickle
import subprocess
import sys
import threading
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

import xcnn
from xcnn import callbacks, data, nn, optim
from xcnn.errors import ArgumentError, DTypeError, MissingPackageError, ShapeError
from xcnn.testing import assert_close

sklearn = pytest.importorskip("sklearn")

from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import load_digits, load_wine  # noqa: E402
from sklearn.inspection import permutation_importance  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from xcnn.sklearn import CNNClassifier, CNNRegressor  # noqa: E402

CHECKOUT = Path(__file__).parent.parent

#: checks of scikit-learn that may fail, and why
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "an example of weight 2 is in one batch, an example that occurs twice may be in two; and "
        "float32 sums differ by their order"
    ),
    "check_methods_sample_order_invariance": (
        "BLAS rounds float32 by the place of an example in its batch; the check asks for 1e-7"
    ),
}
if "expected_failed_checks" in signature(parametrize_with_checks).parameters:
    estimators = [CNNClassifier(epochs=10, lr=0.01), CNNRegressor(epochs=10, lr=0.01)]
    checks = parametrize_with_checks(
        estimators, expected_failed_checks=lambda estimator: EXPECTED_FAILURES
    )
else:
    checks = pytest.mark.skip("needs: scikit-learn 1.6, which takes expected failures")


@pytest.fixture(scope="module")
def digits():
    """300 digits, uint8 (N, 8, 8), and their names."""
    pictures, labels = load_digits(return_X_y=True)
    names = np.array([f"a {label}" for label in labels[:300]])
    return (pictures[:300] * 15).astype(np.uint8).reshape(-1, 8, 8), names


@pytest.fixture(scope="module")
def table():
    """Features (N, 3), and noisy labels of three classes that depend on them."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(90, 3))
    return x, (x @ [1, -2, 0.5] + 2 * rng.normal(size=90)).round().clip(-1, 1).astype(int), rng


def linear(outputs, shape):
    return nn.Sequential(nn.Linear(*shape, outputs))


def same_weights(a, b):
    states = [estimator.model_.state_dict() for estimator in (a, b)]
    return all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


# -- scikit-learn's checks -----------------------------------------------------------------


@checks
def test_estimator(estimator, check):
    check(estimator)


# -- scikit-learn's tools ------------------------------------------------------------------


def test_cross_validation(digits):
    classifier = CNNClassifier(epochs=10, lr=0.01, random_state=0)
    assert cross_val_score(classifier, *digits, cv=3).min() > 0.85
    pictures, labels = load_digits(return_X_y=True)
    flat = classifier.set_params(input_shape=(1, 8, 8), scale=16)
    assert cross_val_score(flat, pictures, labels, cv=2).min() > 0.9


def test_grid_search_in_processes(digits):
    search = GridSearchCV(
        CNNClassifier(epochs=3, random_state=0), {"lr": [1e-6, 0.01]}, cv=2, n_jobs=2
    )
    search.fit(*digits)
    assert search.best_params_ == {"lr": 0.01}
    alone = CNNClassifier(epochs=3, lr=0.01, random_state=0).fit(*digits)
    assert np.array_equal(search.predict_proba(digits[0]), alone.predict_proba(digits[0]))


def test_pipeline_of_features():
    x, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), CNNClassifier(lr=0.01, random_state=0))
    assert cross_val_score(pipeline, x, y, cv=3).min() > 0.9
    importance = permutation_importance(pipeline.fit(x, y), x, y, random_state=0).importances_mean
    assert importance.max() > 0.02


def test_calibration(digits):
    classifier = CNNClassifier(epochs=10, lr=0.01, random_state=0)
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(*digits)
    assert calibrated.score(*digits) > 0.9


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_predict_the_same(digits, copied):
    x, y = digits
    fitted = CNNClassifier(epochs=1, class_weight="balanced", random_state=0).fit(x, y)
    other = copied(fitted)
    assert np.array_equal(other.predict_proba(x), fitted.predict_proba(x))
    assert other.history_.to_csv() == fitted.history_.to_csv()
    other.warm_start = True
    assert not same_weights(other.fit(x, y), fitted)
    weights = sum(parameter.data.nbytes for parameter in fitted.model_.parameters())
    assert len(pickle.dumps(fitted)) < weights + 8192  # neither gradients nor data


def test_shows_only_what_was_changed():
    assert repr(CNNClassifier(epochs=3)) == "CNNClassifier(epochs=3)"
    html = CNNClassifier("resnet20")._repr_html_()
    assert "resnet20" in html
    assert "docs/sklearn.md" in html


# -- the results ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"class_weight": {-1: 2, 1: 0.5}}])
@pytest.mark.parametrize("weighted", [False, True])
def test_converges_to_logistic_regression(table, settings, weighted):
    x, y, rng = table
    weight = rng.uniform(size=len(y)) * 3 if weighted else None
    sgd = partial(optim.SGD, momentum=0.9)
    classifier = CNNClassifier(
        linear, optimizer=sgd, lr=0.3, epochs=300, batch_size=len(x), random_state=0, **settings
    )
    oracle = LogisticRegression(C=1e6, max_iter=1000, **settings).fit(x, y, weight)
    found = classifier.fit(x, y, weight).predict_proba(x)
    assert np.abs(found - oracle.predict_proba(x)).max() < 0.01
    assert classifier.score(x, y) == np.mean(classifier.predict(x) == y)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [(), (1,), (2,)])
def test_converges_to_linear_regression(table, weighted, outputs):
    x, _, rng = table
    y = x @ rng.normal(size=(3, *outputs)) + rng.normal(size=(len(x), *outputs))
    weight = rng.uniform(size=len(y)) * 3 if weighted else None
    regressor = CNNRegressor(
        linear, optimizer=partial(optim.SGD, momentum=0.9), lr=0.05, epochs=200, batch_size=len(x)
    )
    found = regressor.fit(x, y, weight).predict(x)
    expected = LinearRegression().fit(x, y, weight).predict(x)
    assert (found.dtype, found.shape) == (y.dtype, y.shape)
    assert np.abs(found - expected).max() < 1e-3


def test_same_random_state_same_bits(digits):
    before = xcnn.random.get_state()
    fits = [CNNClassifier(epochs=1, random_state=seed).fit(*digits) for seed in (1, 1, 2, None)]
    assert same_weights(fits[0], fits[1])
    assert not same_weights(fits[0], fits[2])
    assert not same_weights(fits[0], fits[3])
    with pytest.raises(ZeroDivisionError):
        CNNClassifier(callbacks=[lambda trainer, epoch: 1 / 0]).fit(*digits)
    assert xcnn.random.get_state() == before


def test_threads_get_the_same_bits(digits):
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    fits = [CNNClassifier(network, epochs=3, random_state=1) for _ in range(3)]
    threads = [threading.Thread(target=fit.fit, args=digits) for fit in fits[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fits[2].fit(*digits)
    assert same_weights(fits[0], fits[2])
    assert same_weights(fits[1], fits[2])


def test_devices(backend, digits):
    """The same on every device, and pickles need none."""
    x, y = digits
    settings = {"epochs": 2, "random_state": 0, "class_weight": "balanced"}
    expected = CNNClassifier(device="cpu", **settings).fit(x, y).predict_proba(x)
    fitted = CNNClassifier(device=backend.device, **settings).fit(x, y)
    assert fitted.model_.device == backend.device
    assert_close(fitted.predict_proba(x), expected, atol=1e-3)
    weighted = CNNClassifier(device=backend.device, epochs=1).fit(x, y, np.ones(len(y)))
    assert weighted.n_iter_ == 1
    copied = pickle.loads(pickle.dumps(fitted))
    assert copied.model_.device == "cpu"
    assert fitted.model_.device == backend.device
    assert_close(copied.predict_proba(x), expected, atol=1e-3)


# -- parameters ----------------------------------------------------------------------------


def test_shapes_of_pictures(digits):
    x, y = digits
    settings = {"epochs": 1, "random_state": 0}
    expected = CNNClassifier(**settings).fit(x, y)
    assert expected.input_shape_ == (1, 8, 8)
    assert same_weights(CNNClassifier(**settings).fit(x[:, None], y), expected)
    flat = CNNClassifier(input_shape=(1, 8, 8), **settings).fit(x.reshape(-1, 64), y)
    assert same_weights(flat, expected)
    assert flat.n_features_in_ == 64
    rgb = CNNClassifier(**settings).fit(np.stack([x, x, x], 1), y)
    assert rgb.model_[0].weight.shape == (16, 3, 3, 3)


def test_scale(digits):
    x, y = digits
    settings = {"epochs": 1, "random_state": 0}
    expected = CNNClassifier(scale=1, **settings).fit((x / 255).astype("float32"), y)
    for settings["scale"], values in (("auto", x), ("auto", x.astype(int)), (255, x.astype(float))):
        fitted = CNNClassifier(**settings).fit(values, y)
        for pictures in (x, x.astype(float)):  # of any dtype
            found = fitted.predict_proba(pictures)
            assert_close(found, expected.predict_proba(x / 255), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "layers"), [((20,), 4), ((3, 3), 4), ((8, 8), 5), ((12, 12), 12), ((3, 14, 14), 12)]
)
def test_default_model(shape, layers):
    x, y = np.random.default_rng(0).normal(size=(6, *shape)), np.arange(6) % 2
    assert len(CNNClassifier(epochs=1).fit(x, y).model_) == layers


def test_model_is_a_name_a_function_or_a_module(digits):
    x, y = digits
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = network.state_dict()
    fitted = CNNClassifier(network, epochs=1).fit(x, y)
    assert not np.array_equal(fitted.model_[1].weight.data, before["1.weight"])
    assert np.array_equal(network[1].weight.data, before["1.weight"])
    assert np.array_equal(
        CNNClassifier(network, epochs=0).fit(x, y).model_[1].weight.data, before["1.weight"]
    )
    wide = partial(xcnn.models.mlp, hidden=(7,))
    assert CNNClassifier(wide, epochs=1).fit(x, y).model_[1].weight.shape == (7, 64)
    assert len(CNNClassifier("mlp", epochs=1).fit(x, y).model_) == 4


def test_a_single_left_over_example_is_left_out(digits):
    """Batch norm could not train on it."""
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    x, y = digits
    assert CNNClassifier(network, epochs=1, batch_size=30).fit(x[:61], y[:61]).n_iter_ == 1


@pytest.mark.parametrize("weight", [None, np.ones(300)])
def test_early_stopping(digits, weight):
    classifier = CNNClassifier(
        lr=0.05, epochs=50, early_stopping=True, validation_fraction=0.2, patience=2, random_state=0
    )
    losses = [epoch.val_loss for epoch in classifier.fit(*digits, weight).history_]
    assert len(losses) == classifier.n_iter_ < 50
    assert np.argmin(losses) == len(losses) - 3
    best = classifier.set_params(epochs=len(losses) - 2, early_stopping=True, patience=99)
    expected = best.model_.state_dict()
    again = best.fit(*digits, weight).model_.state_dict()
    assert all(np.array_equal(expected[name], again[name]) for name in expected)


@pytest.mark.parametrize(("schedule", "last"), [(None, 0.01), ("cosine", 0), ("onecycle", 0)])
@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_schedule(digits, schedule, last, optimizer):
    rates = []
    classifier = CNNClassifier(optimizer=optimizer, lr=0.01, schedule=schedule, epochs=3)
    classifier.set_params(callbacks=[lambda trainer, epoch: rates.append(trainer.optimizer.lr)])
    classifier.fit(*digits)
    assert rates[-1] == pytest.approx(last, abs=1e-4)
    assert max(rates) <= 0.01


def test_augmentation_is_for_training_only(digits):
    x, y = digits
    seen = []

    def blank(pictures):
        seen.append(pictures.max())
        return pictures * 0

    fitted = CNNClassifier(augment=blank, epochs=1, random_state=0).fit(x, y)
    assert max(seen) <= 1
    calls = len(seen)
    assert np.ptp(fitted.predict_proba(x), axis=0).max() > 0
    assert len(seen) == calls
    for recipe in ("affine,mixup", data.RandomCrop(8, padding=1)):
        classifier = CNNClassifier(augment=recipe, epochs=10, lr=0.01, random_state=0)
        assert classifier.fit(x, y).score(x, y) > 0.7


def test_warm_start_goes_on(digits):
    x, y = digits
    classifier = CNNClassifier(epochs=2, warm_start=True, random_state=0)
    classifier.fit(x, y)
    first = classifier.history_[-1].train_loss
    classifier.fit(x, y)
    assert [epoch.epoch for epoch in classifier.history_] == [1, 2, 3, 4]
    assert classifier.history_[-1].train_loss < first
    with pytest.raises(ArgumentError, match="as in the first fit"):
        classifier.fit(x, np.arange(len(x)) % 3)
    assert classifier.set_params(warm_start=False).fit(x, y).n_iter_ == 2


def test_dropout_masks_differ_when_training_goes_on(digits):
    masks = []

    class Recorder(nn.Module):
        def forward(self, x):
            if self.training:
                masks.append(x.numpy() == 0)
            return x

    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5), Recorder())
    classifier = CNNClassifier(network, batch_size=300, random_state=0)
    for _ in range(2):
        classifier.partial_fit(*digits)
    assert len(masks) == 2
    assert not np.array_equal(*masks)


def test_partial_fit(digits):
    """As many calls as epochs give the same bits: the optimiser goes on as well."""
    x, y = digits
    settings = {"lr": 0.01, "batch_size": 300, "random_state": 0}  # in any order
    parts = CNNClassifier(**settings)
    for _ in range(3):
        parts.partial_fit(x, y, np.unique(y))
    assert parts.n_iter_ == 3
    whole = CNNClassifier(epochs=3, **settings).fit(x, y)
    assert_close(parts.predict_proba(x), whole.predict_proba(x), atol=1e-4)
    few = CNNClassifier().partial_fit(x[:9], y[:9], classes=np.unique(y))
    assert few.predict_proba(x).shape == (300, 10)
    with pytest.raises(ArgumentError, match="as in the first fit"):
        CNNClassifier().partial_fit(x[:5], y[:5]).partial_fit(x, y)
    assert CNNRegressor().partial_fit(x, x[:, 0, 0]).partial_fit(x, x[:, 0, 0]).n_iter_ == 2


def test_history_has_metrics_and_callbacks_are_used(digits):
    rates = callbacks.LearningRateLog()
    classifier = CNNClassifier(epochs=2, metrics=["f1"], callbacks=[rates], lr=0.25)
    last = classifier.fit(*digits).history_[-1].row()
    assert {"train_loss", "train_accuracy", "train_f1"} <= set(last)
    assert (last["epoch"], last["lr"]) == (2, 0.25)


def test_loss_objects(digits):
    x, y = digits
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    fitted = CNNClassifier(loss=loss, epochs=1).fit(x, y, np.ones(len(y)))
    assert loss.reduction == "mean"
    assert_close(fitted.predict_proba(x).sum(1), np.ones(len(x), "float32"), atol=1e-5)
    own = CNNRegressor(loss=lambda output, target: ((output - target) ** 2).mean(), epochs=1)
    assert own.fit(x, x[:, :2, 0].astype(float)).predict(x).shape == (300, 2)


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": "lenet"}, ArgumentError, "model='lenet': .*did you mean 'lenet5'"),
        ({"model": "autoencoder"}, ArgumentError, "model='autoencoder'"),
        ({"model": lambda n, shape: 3}, DTypeError, "model is int: expected a Module"),
        ({"model": lambda n, _: linear(4, (8,))}, ShapeError, r"returns .* expected \(1, 10\)"),
        ({"loss": "mse"}, ArgumentError, "loss='mse' is not for a CNNClassifier"),
        ({"optimizer": "adm"}, ArgumentError, "optimizer='adm': .*did you mean 'adam'"),
        ({"schedule": "cos"}, ArgumentError, "schedule='cos'"),
        ({"scale": "x"}, ArgumentError, "scale='x'"),
        ({"scale": 0}, ArgumentError, "scale=0"),
        ({"augment": "flop"}, ArgumentError, "augment='flop'"),
        ({"input_shape": (1, 7, 7)}, ShapeError, r"input_shape=\(1, 7, 7\): X has shape"),
        ({"input_shape": 2.5}, ArgumentError, "input_shape=2.5"),
        ({"class_weight": {"eleven": 2}}, ValueError, "class_weight"),
        ({"epochs": -1}, ArgumentError, "epochs=-1"),
        ({"batch_size": 0}, ArgumentError, "batch_size=0"),
        ({"callbacks": [3]}, ArgumentError, "callbacks has 3"),
    ],
)
def test_wrong_parameters(digits, settings, error, message):
    with pytest.raises(error, match=message):
        CNNClassifier(**settings).fit(*digits)


@pytest.mark.parametrize(
    "settings",
    [{"metrics": ["f1"]}, {"augment": "mixup"}, {"augment": data.CutMix(10)}],
)
def test_sample_weight_has_limits(digits, settings):
    with pytest.raises(ArgumentError, match="sample_weight cannot be used with"):
        CNNClassifier(**settings).fit(*digits, np.ones(300))


def test_wrong_data(digits):
    x, y = digits
    for weight in (-np.ones(300), np.zeros(300)):
        with pytest.raises(ValueError, match=r"(?i)sample.?weight"):
            CNNClassifier().fit(x, y, weight)
    with pytest.raises(ArgumentError, match="y has one class"):
        CNNClassifier().fit(x, ["a"] * len(x))
    with pytest.raises(ArgumentError, match="needs pictures"):
        CNNClassifier(augment="crop").fit(x[:, 0], y)
    with pytest.raises(ArgumentError, match="loss='nll' is not for a CNNRegressor"):
        CNNRegressor(loss="nll").fit(x, np.arange(len(x)))
    fitted = CNNClassifier(epochs=1).fit(x, y)
    with pytest.raises(ShapeError, match=r"in fit it was \(8, 8\)"):
        fitted.predict(x[:, :, :5])
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(np.full((2, 8, 8), np.nan))
    with pytest.raises(xcnn.errors.DivergenceError):
        CNNClassifier(optimizer="sgd", lr=1e30).fit(x, y)


def test_needs_scikit_learn():
    """Only this module does, and says how to install it."""
    code = "import sys; sys.modules['sklearn'] = None; import xcnn; import xcnn.sklearn"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert MissingPackageError.__name__ in result.stderr
    assert "pip install 'xcnn[sklearn]'" in result.stderr
