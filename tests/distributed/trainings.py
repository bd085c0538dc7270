"""Small trainings in float64, for any number of ranks; each returns what the tests compare."""

from pathlib import Path

import numpy as np

import xcnn
import xcnn.functional as F
from xcnn import callbacks, data, nn, optim
from xcnn.data import augment

RATE = 0.05


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


def lenet(communicator):
    """With an uneven last batch, dropout, weights without gradients, metrics and clipping."""
    xcnn.manual_seed(0)
    x, y = pictures(103)
    settings = {"metrics": ["f1", "auroc"], "clip_norm": 1.0}
    fit = {"validation": (x[:31], y[:31])}
    return train(communicator, LeNet().to(dtype="float64"), x, y, fit=fit, **settings)


def resnet(communicator):
    """With synchronised batch norm and class weights; the last batch has one picture."""
    xcnn.manual_seed(0)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(ResNet().to(dtype="float64"))
    fit = {"class_weight": "balanced", "validation_split": 0.3}
    return train(communicator, model, *pictures(130), fit=fit, epochs=6)


def streamed(communicator):
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


def resumed(communicator, folder, step=None):
    """With checkpoints in ``folder``, from which it goes on; stopped at ``step``."""
    xcnn.manual_seed(0)
    x, y = pictures(103)
    used = [callbacks.ModelCheckpoint(Path(folder), "3steps"), callbacks.EMA(0.9)]
    used += [] if step is None else [Stop(step)]
    fit = {"callbacks": used, "resume": folder, "validation": (x[:31], y[:31])}
    model = LeNet().to(dtype="float64")
    return train(communicator, model, x, y, fit=fit, metrics=["auroc"], accumulate=2)
