"""Mixed precision: float16 arithmetic, float32 weights, scaled losses."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import amp, models, nn, optim
from xcnn.errors import ArgumentError, DTypeError, StateDictError
from xcnn.testing import assert_close

from .conftest import normal
from .strict import count_syncs, forbid_float64

IMAGES = normal(24, 1, 16, 16, dtype="float32")
LABELS = np.arange(24) % 10


def make_trainer(backend, precision="float16", lr=1e-3):
    xcnn.manual_seed(0)
    model = models.lenet5(input_shape=(1, 16, 16)).append(nn.Dropout(0.1)).to(backend)
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=lr), precision=precision)
    if precision == "float16":  # with the default scale, the first steps overflow
        trainer.scaler = amp.GradScaler(backend, init_scale=64.0)
    return trainer


def test_weights_stay_float32_and_steps_do_not_wait(strict):
    trainer = make_trainer(strict)
    with count_syncs() as syncs, forbid_float64():
        for _ in range(2):
            loss = trainer.train_step(IMAGES, LABELS).loss
    assert syncs == []
    assert loss.dtype == np.float32
    for parameter in trainer.model.parameters():
        assert parameter.dtype == parameter.grad.dtype == np.float32


def test_activations_are_float16(strict):
    trainer = make_trainer(strict)
    with nn.record_activations(trainer.model) as activations:
        trainer.train_step(IMAGES, LABELS)
    assert {a.dtype.name for a in activations.values()} == {"float16"}


def test_the_scale_adapts(strict):
    trainer = make_trainer(strict)
    trainer.scaler = amp.GradScaler(strict, init_scale=2.0**20)
    for _ in range(12):
        loss = trainer.train_step(IMAGES, LABELS).loss
    assert 1 <= trainer.scaler.skipped <= 8
    assert trainer.scaler.scale == 2.0 ** (20 - trainer.scaler.skipped)
    assert np.isfinite(float(loss.data))


def test_it_learns_like_float32(strict):
    losses = {}
    for precision in ("float32", "float16"):
        trainer = make_trainer(strict, precision)
        losses[precision] = [float(trainer.train_step(IMAGES, LABELS).loss.data) for _ in range(12)]
    np.testing.assert_allclose(losses["float16"], losses["float32"], rtol=0.02)
    assert losses["float16"][-1] < 0.7 * losses["float16"][0]


def test_gradients_are_close_to_float32(strict):
    gradients = {}
    for precision in ("float32", "float16"):
        trainer = make_trainer(strict, precision, lr=0.0)
        trainer.train_step(IMAGES, LABELS)
        gradients[precision] = [p.grad.data.get() for p in trainer.model.parameters()]
    for half, single in zip(gradients["float16"], gradients["float32"], strict=True):
        assert np.linalg.norm(half - single) < 0.02 * np.linalg.norm(single)


def test_prediction_and_evaluation_are_close(strict):
    half, single = make_trainer(strict), make_trainer(strict, "float32")
    p, q = half.predict(IMAGES), single.predict(IMAGES)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, q, atol=5e-3)
    loss = half.evaluate(IMAGES, LABELS)["loss"]
    assert loss == pytest.approx(single.evaluate(IMAGES, LABELS)["loss"], rel=1e-2)


def test_an_overflowing_step_is_skipped_and_counted(strict):
    trainer = make_trainer(strict)
    trainer.train_step(IMAGES, LABELS)
    before = [p.numpy().copy() for p in trainer.model.parameters()]
    scale = trainer.scaler.scale
    trainer.train_step(IMAGES * 1e6, LABELS)  # infinite in float16
    assert (trainer.scaler.skipped, trainer.scaler.scale) == (1, scale / 2)
    for parameter, old in zip(trainer.model.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.numpy(), old)
    loss = trainer.train_step(IMAGES, LABELS).loss
    assert np.isfinite(float(loss.data))
    assert trainer.scaler.skipped == 1
    assert not np.array_equal(next(trainer.model.parameters()).numpy(), before[0])


def test_resuming_from_a_saved_state(strict):
    first = amp.GradScaler(strict, init_scale=8.0)
    parameter = xcnn.Parameter(strict.asarray(np.ones(2, "float32")))
    parameter.grad = strict.asarray(np.array([1, np.inf], "float32"))
    first.step(optim.SGD([parameter]))
    second = amp.GradScaler(strict)
    second.load_state_dict(first.state_dict())
    assert (second.scale, second.skipped) == (4.0, 1)
    with pytest.raises(StateDictError, match="not the state of a GradScaler"):
        second.load_state_dict({"scale": 1.0})


@pytest.mark.parametrize("kind", [optim.Adam, optim.Adagrad])
def test_each_parameter_counts_its_own_skipped_steps(backend, kind):
    """The second one takes part later, after steps that were skipped."""
    settings = {"lr": 0.1, **({"lr_decay": 0.5} if kind is optim.Adagrad else {})}
    values = normal(2, 3, dtype="float32")
    params, alone = ([xcnn.Parameter(backend.asarray(v)) for v in values] for _ in range(2))
    optimizer = kind(params, **settings)
    separate = [kind([p], **settings) for p in alone]
    scaler = amp.GradScaler(backend, init_scale=1.0, growth_interval=99)
    for step, overflow in enumerate([1, 1, 0, 1, 0, 0]):
        for i in (0, 1) if step > 2 else (0,):
            gradient = normal(3, seed=step + 9 * i, dtype="float32")
            params[i].grad = backend.asarray(gradient * np.float32(scaler.scale))
            if overflow:
                params[i].grad.data[0] = np.inf
            else:
                alone[i].grad = backend.asarray(gradient)
                separate[i].step()
        with backend.quiet_overflow():
            scaler.step(optimizer)
        for p in params:
            p.grad = None
    for p, q in zip(params, alone, strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-6)
    assert optimizer.state_dict()["steps"] == [3, 2]


def test_only_autocast_accepts_two_dtypes(backend):
    x = backend.asarray(normal(2, 3).astype("float16"))
    layer = nn.Linear(3, 4).to(backend)
    with pytest.raises(DTypeError, match="input is float16, weight is float32"):
        layer(x)
    with amp.autocast():
        y = layer(x)
        assert y.dtype == np.float16
        F.sum(y).backward()
    assert layer.weight.grad.dtype == np.float32
    with pytest.raises(DTypeError, match="both must have the same dtype"), amp.autocast():
        F.add(backend.asarray(np.ones(2, "float32")), x[0, :2])


def test_autocast_ends_on_an_error(backend):
    layer = nn.Linear(3, 4).to(backend)
    with pytest.raises(ZeroDivisionError), amp.autocast():
        raise ZeroDivisionError
    with pytest.raises(DTypeError):
        layer(backend.asarray(np.ones((2, 3), "float16")))


def test_astype_and_its_gradient(backend):
    x = xcnn.Tensor(backend.asarray(normal(2, 3, dtype="float32")), requires_grad=True)
    y = x.astype("float64")
    assert y.dtype == np.float64
    F.sum(y * y).backward()
    assert x.grad.dtype == np.float32
    assert_close(backend.to_host(x.grad.data), 2 * x.numpy(), rtol=1e-6, atol=0)
    assert x.astype("float32") is x
    assert x.astype("int64").dtype == np.int64
    with pytest.raises(DTypeError, match="dtype='int65': expected one of float16, float32"):
        x.astype("int65")


def test_unknown_precision():
    model = models.create("mlp", input_shape=(4,))
    with pytest.raises(ArgumentError, match="precision='half': expected one of float32, tf32"):
        xcnn.Trainer(model, optim.SGD(model.parameters()), precision="half")
