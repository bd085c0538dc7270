"""Small trainings in float64, for any number of ranks; each returns what the tests compare."""

import contextlib
import io
import os
import shutil
from pathlib import Path

import numpy as np

import xcnn
import xcnn.functional as F
from xcnn import callbacks, data, nn, optim
from xcnn.data import augment

RATE = 0.05
FOLDER = Path(os.environ.get("XCNN_TEST_FOLDER", "."))


def pictures(count):
    """Random pictures of 12 × 12, of five classes."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((count, 1, 12, 12)), rng.integers(0, 5, count)


class LeNet(nn.Module):
    """LeNet-5's layers, smaller, with dropout, frozen weights and a layer that is not used."""

    def __init__(self):
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 3), nn.Dropout2d(0.2), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(24, 16), nn.Dropout(0.3), nn.Tanh(), nn.Linear(16, 5)),
        )
        self.body[0].weight.requires_grad = False
        self.unused = nn.Linear(3, 2)

    def forward(self, x):
        return self.body(x)


class Noisy(LeNet):
    """Draws noise for its inputs, also in the validation."""

    def forward(self, x):
        return super().forward(x + 0.5 * xcnn.randn(len(x), 1, 12, 12, dtype="float64"))


class ResNet(nn.Module):
    """Two residual blocks with batch norm."""

    def __init__(self):
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(4)])
        convolutions = [nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(4)]
        self.convolutions = nn.ModuleList(convolutions)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for i in (0, 2):
            y = F.relu(self.norms[i](self.convolutions[i](x)))
            x = F.relu(self.norms[i + 1](self.convolutions[i + 1](y)) + x)
        return self.head(x.mean((2, 3)))


class Losses(callbacks.Callback):
    """The loss of each batch, over all ranks."""

    def __init__(self):
        self.values = []

    def on_batch_end(self, trainer, step):
        total, divisor = map(float, trainer.loss.total(*step[:3])) if step.examples else (0.0, 0.0)
        total, divisor = trainer.ranks.sums(total, divisor)
        self.values.append(total / divisor)


def train(communicator, model, *data, epochs=5, fit=None, **settings):
    """Train; return the losses of the batches, the columns of the history and all weights."""
    optimizer = optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=1e-3)
    trainer = xcnn.Trainer(model, optimizer, distributed=communicator, **settings)
    losses, fit = Losses(), dict(fit or {})
    used = [*fit.pop("callbacks", ()), losses]
    trainer.fit(*data, epochs=epochs, batch_size=10, progress=False, callbacks=used, **fit)
    rows = [sorted(epoch.row().items()) for epoch in trainer.history]
    floats = [a.reshape(-1) for a in model.state_dict().values() if a.dtype.kind == "f"]
    return {
        "losses": losses.values,
        "history": [v for row in rows for k, v in row if k != "seconds" and v is not None],
        "weights": np.concatenate(floats).tolist(),
        "steps": trainer.steps,
    }


def check_lenet(communicator):
    """With an uneven last batch, dropout, weights without gradients, metrics and clipping."""
    xcnn.manual_seed(0)
    x, y = pictures(103)
    settings = {"metrics": ["f1", "auroc"], "clip_norm": 1.0}
    fit = {"validation": (x[:31], y[:31])}
    return train(communicator, LeNet().to(dtype="float64"), x, y, fit=fit, **settings)


def check_resnet(communicator):
    """With synchronised batch norm and class weights; the last batch has one picture."""
    xcnn.manual_seed(0)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(ResNet().to(dtype="float64"))
    fit = {"class_weight": "balanced", "validation_split": 0.3}
    return train(communicator, model, *pictures(130), fit=fit, epochs=6)


def check_function(communicator):
    """A loss of the user's, other initial weights on each rank, and noise."""
    xcnn.manual_seed(communicator.rank)
    x, y = pictures(41)
    model = Noisy().to(dtype="float64")

    def loss(output, target):
        return F.cross_entropy(output, target) + 0.1 * (output**2).mean()

    evaluated = xcnn.Trainer(model, loss=loss, distributed=communicator).evaluate(x, y)
    found = train(communicator, model, x, y, loss=loss, fit={"validation": (x[:7], y[:7])})
    return found | {"evaluated": evaluated["loss"]}


def check_streamed(communicator):
    """An iterable in parts of two batches, with augmentation."""
    xcnn.manual_seed(0)
    x, y = pictures(45)
    steps = data.Compose([augment.RandomHorizontalFlip(), augment.RandomCrop(12, 2)])
    items = data.IterableDataset(lambda: zip(x, y, strict=True))
    loader = data.DataLoader(items, batch_size=10, shuffle=True, shuffle_buffer=20, transform=steps)
    return train(communicator, LeNet().to(dtype="float64"), loader, epochs=17, accumulate=2)


class Stop(callbacks.Callback):
    """Stops at a step, on the last rank."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, trainer, step):
        if trainer.steps == self.step and trainer.ranks.communicator.rank == trainer.ranks.size - 1:
            trainer.stop(finished=False)


class Finish(callbacks.Callback):
    """Stops for good after the second epoch, on the last rank."""

    def on_epoch_end(self, trainer, epoch):
        if epoch.epoch == 2 and trainer.ranks.communicator.rank == trainer.ranks.size - 1:
            trainer.stop()


def check_finished(communicator):
    """A training that was stopped for good has nothing left to do."""
    folder, (x, y) = FOLDER / f"finished{communicator.size}", pictures(20)
    for used in ([Finish()], []):
        xcnn.manual_seed(0)
        fit = {"callbacks": [*used, callbacks.ModelCheckpoint(folder, "1h")], "resume": folder}
        found = train(communicator, LeNet().to(dtype="float64"), x, y, fit=fit)
    return {k: v for k, v in found.items() if k != "losses"}


def resumed(communicator, folder, step=None):
    """With checkpoints in ``folder``, from which it goes on; stopped at ``step``."""
    xcnn.manual_seed(0)
    x, y = pictures(103)
    used = [callbacks.ModelCheckpoint(folder, "3steps"), callbacks.EMA(0.9)]
    used += [] if step is None else [Stop(step)]
    fit = {"callbacks": used, "resume": folder, "validation": (x[:31], y[:31])}
    model = LeNet().to(dtype="float64")
    return train(communicator, model, x, y, fit=fit, metrics=["auroc"], accumulate=2)


def check_whole(communicator):
    """A training that is not interrupted."""
    return resumed(communicator, FOLDER / f"whole{communicator.size}")


def check_resumed(communicator):
    """The same, interrupted twice, once on one rank only, and with what it had then."""
    for step in (7, 16):
        resumed(communicator, FOLDER / f"again{communicator.size}", step)
    if communicator.is_main:  # for other numbers of ranks
        shutil.copytree(FOLDER / f"again{communicator.size}", FOLDER / f"left{communicator.size}")
    return resumed(communicator, FOLDER / f"again{communicator.size}")


def check_resumed_elsewhere(communicator):
    """The same, begun by one rank less."""
    if communicator.size <= 2:
        return None
    return resumed(communicator, FOLDER / f"left{communicator.size - 1}")


def check_again(communicator):
    """The first one once more, from other initial weights on all ranks but the first."""
    xcnn.manual_seed(communicator.rank)
    x, y = pictures(103)
    settings = {"metrics": ["f1", "auroc"], "clip_norm": 1.0}
    fit = {"validation": (x[:31], y[:31])}
    return train(communicator, LeNet().to(dtype="float64"), x, y, fit=fit, **settings)


def refused(function, *arguments, **settings):
    """The text of the error that a call raises."""
    try:
        function(*arguments, **settings)
    except xcnn.errors.XcnnError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


class Spoil(callbacks.Callback):
    """Gives the last rank an infinite weight, or another one, after the second step."""

    def __init__(self, value):
        self.value = value

    def on_step_end(self, trainer):
        if trainer.steps == 2 and trainer.ranks.communicator.rank == trainer.ranks.size - 1:
            next(trainer.model.parameters()).data[...] = self.value


def check_refused(communicator):
    """What is said where ranks differ."""
    last = communicator.rank == communicator.size - 1
    x, y = pictures(40)

    def fit(x=x, y=y, seed=0, loss="cross_entropy", batch_size=10, used=(), validation=None):
        xcnn.manual_seed(0)
        model = LeNet().to(dtype="float64")
        trainer = xcnn.Trainer(model, "sgd", loss, distributed=communicator)
        used = {"callbacks": used, "progress": False, "validation": validation}
        trainer.fit(x, y, 2, batch_size, seed=seed, **used)

    class Alone(data.IterableDataset):
        def __iter__(self):
            return iter(zip(x[: 10 * (2 + last)], y, strict=False))

    return {
        "seed": refused(fit, seed=int(last)),
        "data": refused(fit, x + 1 if last else x),
        "validation": refused(fit, validation=(x[last:], y[last:])),
        "loss": refused(fit, loss="nll" if last else "cross_entropy"),
        "callbacks": refused(fit, used=[callbacks.EMA()] if last else []),
        "batch": refused(fit, batch_size=communicator.size - 1),
        "nan": refused(fit, used=[Spoil(np.nan)]),
        "weights": refused(fit, used=[Spoil(0.5)]),
        "length": refused(fit, data.DataLoader(Alone(), 10), None),
    }


def check_evaluated(communicator):
    """Fewer examples than ranks, a learning-rate test, and saving without checkpoints."""
    xcnn.manual_seed(0)
    x, y = pictures(43)
    model = LeNet().to(dtype="float64")
    trainer = xcnn.Trainer(model, "sgd", metrics=["f1"], distributed=communicator)
    path = FOLDER / f"saved{communicator.size}.safetensors"
    trainer.save(path)
    found = trainer.find_lr(x, y, steps=9, batch_size=10)
    trainer.load(path)
    evaluated = [trainer.evaluate(x[:n], y[:n]) for n in (1, 2, 43)]
    values = [result[k] for result in evaluated for k in sorted(result)]
    return {"values": [*found.losses, *found.rates, *values]}


def check_shown(communicator):
    """What a training prints into a pipe."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 5)).to(dtype="float64")
    trainer = xcnn.Trainer(model, "sgd", distributed=communicator)
    x, y = pictures(20)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        trainer.fit(x, y, epochs=2, batch_size=10)
    return printed.getvalue()
