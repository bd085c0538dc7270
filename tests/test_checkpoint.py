"""Checkpoints: a training that was interrupted and resumed equals one that was not, bit for bit."""

import json
import os
import signal

import numpy as np
import pytest

import xcnn
from xcnn import callbacks, nn, optim, schedules
from xcnn.data import Compose, DataLoader, MixUp, Normalize, RandomHorizontalFlip
from xcnn.errors import ArgumentError, DTypeError, FileFormatError, StateDictError
from xcnn.training import Epoch, state
from xcnn.training.callbacks.checkpoint import checkpoints

from .conftest import normal

IMAGES = (normal(50, 3, 8, 8) * 40 + 128).clip(0, 255).astype(np.uint8)
LABELS = np.arange(50) * 7 % 4
EPOCHS = 4


class Interrupted(Exception):
    """Stands for a crash."""


class Crash(callbacks.Callback):
    """Raises an error after so many batches, or at the end of an epoch before the others act."""

    order = -2

    def __init__(self, batches, epoch=None):
        self.left, self.epoch = batches, epoch

    def on_batch_start(self, trainer):
        self.left -= 1
        if self.left < 0:
            raise Interrupted

    def on_epoch_end(self, trainer, epoch):
        if epoch.epoch == self.epoch:
            raise Interrupted


def small():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, 4),
    )


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.003, momentum=0.5),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.02),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    **{n: optim.BY_NAME[n] for n in ("adadelta", "adamax")},
    **{n: optim.BY_NAME[n] for n in ("lars", "lion", "nadam", "radam")},
    "rprop": optim.Rprop,
}
SCHEDULES = {
    None: lambda o: None,
    "onecycle": lambda o: schedules.OneCycleLR(
        o, 0.05, 5 * EPOCHS, cycle_momentum=not isinstance(o, optim.Adagrad)
    ),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, EPOCHS),
    "plateau": lambda o: schedules.ReduceLROnPlateau(o, patience=0),
    "sequence": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.5, total_iters=2), schedules.StepLR(o, 1)], [2]
    ),
    "cyclic": lambda o: schedules.CyclicLR(o, 0.01, 0.05, 3, mode="triangular2"),
    "restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 1, 2),
    "polynomial": lambda o: schedules.PolynomialLR(o, EPOCHS),
    "chain": lambda o: schedules.ChainedScheduler(
        [schedules.MultiplicativeLR(o, lambda t: 0.9), schedules.ConstantLR(o, 0.5, 2)]
    ),
}
#: all pairs of these are tested, the others with Adam and without a schedule
PRODUCT = ["sgd", "adamw", "rmsprop", "adagrad"], ["onecycle", "cosine", "plateau", "sequence"]


class Training:
    """A training that can be built again, as a script is run again."""

    def __init__(self, optimizer="adam", schedule=None, device="cpu", augmented=False, **settings):
        self.names = optimizer, schedule
        self.augmented = augmented  # the validation, which is unusual
        self.device = device
        self.settings = settings

    def build(self):
        xcnn.manual_seed(1)
        model = small().to(self.device)
        optimizer = OPTIMIZERS[self.names[0]](model.parameters())
        schedule = SCHEDULES[self.names[1]](optimizer)
        return xcnn.Trainer(model, optimizer, schedule=schedule, clip_norm=2.0, **self.settings)

    def run(self, *more, folder=None, every="1epoch", resume=None, epochs=EPOCHS, extra=list):
        trainer = self.build()
        flip_and_mix = Compose([RandomHorizontalFlip(), Normalize(0.5, 0.5), MixUp(4)])
        loader = DataLoader(
            (IMAGES, LABELS), batch_size=10, shuffle=True, seed=3, transform=flip_and_mix
        )
        used = [*extra(), *more]
        if folder is not None:
            used.append(callbacks.ModelCheckpoint(folder, every=every, best="val_loss"))
        validation = (Normalize(0.5, 0.5)(IMAGES[:9]), LABELS[:9])
        if self.augmented:
            flip = Compose([RandomHorizontalFlip(), Normalize(0.5, 0.5)])
            validation = DataLoader((IMAGES[:9], LABELS[:9]), 4, shuffle=True, transform=flip)
        settings = {"validation": validation, "callbacks": used, "progress": False}
        trainer.fit(loader, epochs=epochs, resume=resume, **settings)
        return trainer


def results(trainer):
    """Everything that must be equal, but for the seconds."""
    saved = trainer.state_dict()
    arrays = {f"model/{k}": v for k, v in saved["model"].items()}
    arrays |= {f"optimizer/{k}": v for k, v in saved["optimizer"]["state"]["arrays"].items()}
    rows = [
        {k: v for k, v in row.items() if k != "seconds"} for row in map(Epoch.row, trainer.history)
    ]
    arrays["predictions"] = trainer.predict(Normalize(0.5, 0.5)(IMAGES))
    rest = {k: saved[k] for k in ("random", "schedule", "steps", "epochs")}
    rest["optimizer"] = {k: saved["optimizer"]["state"][k] for k in ("steps", "param_groups")}
    return {k: xcnn.Tensor(v).numpy() for k, v in arrays.items()}, json.dumps([rows, rest])


def assert_equal(one, two):
    (arrays, rest), (others, other_rest) = results(one), results(two)
    assert rest == other_rest
    assert set(arrays) == set(others)
    for name, array in arrays.items():
        assert array.dtype == others[name].dtype
        assert array.tobytes() == others[name].tobytes(), name


def crash_and_resume(training, folder, batches, every, epoch=None, **settings):
    with pytest.raises(Interrupted):
        training.run(Crash(batches, epoch), folder=folder, every=every, **settings)
    return training.run(folder=folder, every=every, resume=folder, **settings)


EXTRAS = {
    "plain": list,
    "ema": lambda: [callbacks.EMA(0.9)],
    "swa": lambda: [callbacks.StochasticWeightAveraging(2, lr=0.01)],
    "early": lambda: [callbacks.EarlyStopping("train_loss", restore_best=True)],
    "accumulating": lambda: [callbacks.GradientAccumulation({1: 1, 2: 3})],
    "unfreezing": lambda: [callbacks.Unfreeze(2)],
    "logging": lambda: [callbacks.LearningRateLog(), callbacks.GradientNorm()],
}


@pytest.mark.parametrize(
    ("every", "batches"),
    [("1epoch", 0), ("1epoch", 12), ("1step", 3), ("1step", 19), ("3steps", 5)],
)
def test_resuming_after_a_crash(tmp_path, every, batches):
    training = Training()
    assert_equal(training.run(), crash_and_resume(training, tmp_path / "run", batches, every))


def test_resuming_with_random_validation_data(tmp_path):
    training = Training(augmented=True)
    assert_equal(training.run(), crash_and_resume(training, tmp_path / "run", 13, "1epoch"))


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        pytest.param(o, s, marks=[] if o == "adam" or s is None else pytest.mark.exhaustive)
        for o in OPTIMIZERS
        for s in SCHEDULES
        if o == "adam" or s is None or (o in PRODUCT[0] and s in PRODUCT[1])
    ],
)
def test_resuming_every_optimizer_and_schedule(tmp_path, optimizer, schedule):
    training = Training(optimizer, schedule)
    assert_equal(training.run(), crash_and_resume(training, tmp_path / "run", 13, "1step"))


@pytest.mark.parametrize("epoch", [None, 2])
@pytest.mark.parametrize("extra", EXTRAS)
def test_resuming_with_callbacks(tmp_path, extra, epoch):
    training = Training(
        schedule="cosine" if extra == "swa" else None,
        metrics=["top_5_accuracy", "auroc"] if extra == "plain" else [],
    )
    settings = {"extra": EXTRAS[extra]}
    whole = training.run(**settings)
    resumed = crash_and_resume(training, tmp_path / "run", 13, "1step", epoch, **settings)
    assert_equal(whole, resumed)


@pytest.mark.parametrize("accumulate", [3, 7])
def test_resuming_with_accumulation(tmp_path, accumulate):
    training = Training(accumulate=accumulate, schedule="onecycle")
    assert_equal(training.run(), crash_and_resume(training, tmp_path / "run", 14, "1step"))


def test_resuming_twice(tmp_path):
    training = Training("sgd")
    for batches in (4, 9):
        with pytest.raises(Interrupted):
            training.run(Crash(batches), folder=tmp_path, every="2steps", resume=tmp_path)
    assert_equal(training.run(), training.run(folder=tmp_path, resume=tmp_path))


def test_a_finished_training_has_nothing_left_to_do(tmp_path):
    training = Training()
    whole = training.run(folder=tmp_path)
    again = training.run(Crash(0), folder=tmp_path, resume=tmp_path)
    assert_equal(whole, again)
    longer = training.run(folder=tmp_path, resume=tmp_path, epochs=EPOCHS + 2)
    assert_equal(longer, training.run(epochs=EPOCHS + 2))


def test_early_stopping_stays_stopped(tmp_path):
    training = Training()
    settings = {"extra": lambda: [callbacks.EarlyStopping("seconds", patience=1, mode="max")]}

    class Never(callbacks.EarlyStopping):
        pass

    whole = training.run(folder=tmp_path, **settings)
    again = training.run(folder=tmp_path, resume=tmp_path, **settings)
    assert len(again.history) == len(whole.history)


def test_saving_and_loading_by_hand(tmp_path):
    training = Training()
    whole = training.run()
    first = training.run(epochs=2)
    first.save(tmp_path / "two.safetensors")
    second = training.build()
    second.load(tmp_path / "two.safetensors")
    assert [e.epoch for e in second.history] == [1, 2]
    resumed = training.run(resume=tmp_path / "two.safetensors")
    assert_equal(whole, resumed)


@pytest.mark.parametrize(("device", "other"), [("strict", "cpu"), ("cpu", "strict")])
def test_from_another_device(tmp_path, strict, device, other):
    one, two = Training(device=device), Training(device=other)
    one.run(folder=tmp_path, epochs=2)
    resumed = two.run(folder=tmp_path, resume=tmp_path)
    assert resumed.model.device == other
    whole = one.run()
    for epoch, expected in zip(resumed.history, whole.history, strict=True):
        assert epoch.train_loss == pytest.approx(expected.train_loss, rel=1e-4)


def test_the_scaler_of_float16_is_kept(tmp_path, strict):
    training = Training(device="strict", precision="float16")
    whole = training.run()
    resumed = crash_and_resume(training, tmp_path, 13, "1step")
    assert_equal(whole, resumed)
    assert resumed.scaler.scale == whole.scaler.scale


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(tmp_path, number):
    training = Training()

    class Signal(callbacks.Callback):
        def on_batch_end(self, trainer, step):
            if trainer.position == (1, 2, 7):
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    error = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(error) as raised:
        training.run(Signal(), folder=tmp_path)
    assert raised.value.args == (() if number == signal.SIGINT else (143,))
    assert signal.getsignal(number) is before
    assert state.read(callbacks.newest(tmp_path))["loader"]["start"] == 2
    assert_equal(training.run(), training.run(folder=tmp_path, resume=tmp_path))


def test_interrupted_while_validating(tmp_path):
    training = Training()

    class Stop(callbacks.Callback):
        def on_batch_end(self, trainer, step):
            if trainer.position == (1, 5, 10):
                trainer.stop(finished=False)

    training.run(Stop(), folder=tmp_path)
    assert_equal(training.run(), training.run(folder=tmp_path, resume=tmp_path))


def test_stopping_and_fitting_again_in_one_process():
    training = Training()
    trainer = training.build()
    x = Normalize(0.5, 0.5)(IMAGES)

    class Stop(callbacks.Callback):
        def on_batch_end(self, trainer, step):
            if trainer.steps == 3:
                trainer.stop()

    trainer.fit(x, LABELS, epochs=2, batch_size=10, callbacks=[Stop()])
    assert trainer.is_interrupted
    assert (trainer.history, trainer.batch) == ([], 3)
    trainer.fit(x, LABELS, epochs=2, batch_size=10)
    whole = training.build()
    whole.fit(x, LABELS, epochs=2, batch_size=10)
    whole._first = trainer._first
    assert_equal(whole, trainer)


def test_interrupted_while_an_epoch_is_written(tmp_path, monkeypatch):
    """The signal comes after the decision that no checkpoint is due."""
    write, signals = callbacks.ModelCheckpoint.write, []

    def interrupted(self, trainer, *rest):
        write(self, trainer, *rest)
        if not signals:
            signals.append(signal.raise_signal(signal.SIGTERM))

    monkeypatch.setattr(callbacks.ModelCheckpoint, "write", interrupted)
    with pytest.raises(SystemExit):
        Training().run(folder=tmp_path, every="3epochs")
    assert state.read(callbacks.newest(tmp_path))["loader"]["epoch"] == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_moved(tmp_path, replaced):
    run = tmp_path / "run"

    def move(trainer, epoch):
        if epoch.epoch == 2:
            run.rename(tmp_path / "moved")
            if replaced:
                run.mkdir()

    with pytest.raises(FileNotFoundError, match="it was moved or deleted"):
        Training().run(folder=run, extra=lambda: [move])
    assert not run.exists() or not list(run.iterdir())
    whole = Training().run()
    assert_equal(whole, Training().run(folder=tmp_path / "moved", resume=tmp_path / "moved"))


def test_kept_files(tmp_path):
    Training().run(folder=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("best.safetensors", "checkpoints", "history.csv", "model.safetensors"),
    ]
    names = [p.name for p in checkpoints(tmp_path)]
    assert names == [f"{n:010d}.safetensors" for n in (10, 15, 20)]


def test_the_model_is_the_averaged_one(tmp_path):
    trainer = Training().run(folder=tmp_path, extra=EXTRAS["ema"])
    x = Normalize(0.5, 0.5)(IMAGES)
    loaded = xcnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(xcnn.Trainer(loaded).predict(x), trainer.predict(x))
    found = trainer.evaluate(x[:9], LABELS[:9])
    assert found["loss"] == trainer.history[-1].val_loss


def test_the_best_model_is_kept(tmp_path):
    trainer = Training("sgd").run(folder=tmp_path)
    x = Normalize(0.5, 0.5)(IMAGES[:9])
    best = xcnn.Trainer(xcnn.load(tmp_path / "best.safetensors")).evaluate(x, LABELS[:9])
    assert best["loss"] == min(epoch.val_loss for epoch in trainer.history)


# Refusals


def test_a_folder_with_a_run_is_refused(tmp_path):
    Training().run(folder=tmp_path, epochs=1)
    with pytest.raises(ArgumentError, match=r"already holds a run \(model.safetensors.*resume="):
        Training().run(folder=tmp_path)


def test_two_trainings_in_one_folder(tmp_path):
    class Second(callbacks.Callback):
        def on_epoch_start(self, trainer):
            Training().run(folder=tmp_path)

    with pytest.raises(ArgumentError, match="is in use by another training"):
        Training().run(Second(), folder=tmp_path)


@pytest.mark.parametrize(
    ("training", "text"),
    [
        (Training("sgd"), "the state is of optimizer Adam, this Trainer has SGD"),
        (Training("adam", "cosine"), "the state has no schedule"),
        (Training(loss="nll"), "the state is of loss CrossEntropyLoss, this Trainer has NLLLoss"),
    ],
)
def test_another_training_is_refused_and_unchanged(tmp_path, training, text):
    Training().run(folder=tmp_path, epochs=1)
    trainer = training.build()
    before = results(trainer)
    with pytest.raises(StateDictError, match=text):
        trainer.load(callbacks.newest(tmp_path))
    after = results(trainer)
    assert before[1] == after[1]
    assert all((before[0][k] == after[0][k]).all() for k in before[0])


def test_other_data_are_refused(tmp_path):
    Training().run(folder=tmp_path, epochs=1)
    trainer = Training().build()
    with pytest.raises(StateDictError, match="batch_size=7, in the state 10"):
        trainer.fit(Normalize(0, 1)(IMAGES), LABELS, batch_size=7, resume=tmp_path, epochs=2)


def test_missing_callbacks_are_refused(tmp_path):
    Training().run(folder=tmp_path, epochs=1, extra=EXTRAS["ema"])
    with pytest.raises(StateDictError, match="state of a EMA, which this fit does not have"):
        Training().run(folder=tmp_path, resume=tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [({1: 2.0}, "callbacks/0/state/x, a dict with 1 as a key"), ({1, 2}, "state/x, a set")],
)
def test_states_that_a_checkpoint_cannot_hold(tmp_path, value, text):
    class Mine(callbacks.Callback):
        order = -3

        def state_dict(self):
            return {"x": value}

    with pytest.raises(DTypeError, match=text):
        Training().run(Mine(), folder=tmp_path, epochs=1)


def test_files_that_are_no_checkpoints(tmp_path):
    trainer = Training().build()
    xcnn.save(trainer.model, tmp_path / "model.safetensors")
    with pytest.raises(FileFormatError, match="holds weights, but not the state of a training"):
        trainer.load(tmp_path / "model.safetensors")
    trainer.save(tmp_path / "state.safetensors")
    content = (tmp_path / "state.safetensors").read_bytes()
    (tmp_path / "state.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="not a complete safetensors file"):
        trainer.load(tmp_path / "state.safetensors")
    with pytest.raises(FileNotFoundError, match="no such file"):
        trainer.load(tmp_path / "missing.safetensors")
    with pytest.raises(FileNotFoundError, match="no such file"):
        Training().run(resume=tmp_path / "missing.safetensors")


@pytest.mark.parametrize("every", ["often", "0steps", "-1epoch", "", 0.5j, None])
def test_intervals_refused(tmp_path, every):
    with pytest.raises(ArgumentError, match="every"):
        callbacks.ModelCheckpoint(tmp_path, every=every)
