"""Add a custom operation and a custom layer: swish, and a residual block.

An operation is one class with ``forward`` and ``backward`` side by side, on raw arrays. Written
with ``backend.xp``, it runs on NumPy and CuPy alike. A layer is a Module with a plain Python
``forward``. ``gradcheck`` compares the gradients with finite differences before training.

Prints the relative differences from finite differences (below 1e-6), and the accuracy on the test
digits: at least 95 %.
"""

import argparse

import numpy as np

import xcnn
from xcnn import nn, optim
from xcnn.data import DataLoader
from xcnn.testing import gradcheck


class Swish(xcnn.Function):
    """y = x · s with s = sigmoid(x); dy/dx = s + y · (1 - s)."""

    arguments = ("input",)  # what error texts call the input

    def forward(self, backend, x):
        s = 0.5 + 0.5 * backend.xp.tanh(0.5 * x)  # the sigmoid, without overflow
        y = x * s
        self.save(y=y, s=s)  # for backward, if needed
        return y

    def backward(self, backend, dy):
        y, s = self.saved.y, self.saved.s
        return dy * (s + y * (1 - s))


class Residual(nn.Module):
    """x + conv(swish(conv(x))): the block learns what to add to its input."""

    def __init__(self, channels):
        self.conv1 = nn.Conv2d(channels, channels, 3, padding="same")
        self.conv2 = nn.Conv2d(channels, channels, 3, padding="same", nonlinearity="linear")

    def forward(self, x):
        return x + self.conv2(Swish()(self.conv1(x)))


def main(argv=None):
    args = parse(argv)
    xcnn.manual_seed(args.seed)
    x = np.random.default_rng(args.seed).standard_normal((2, 3, 5, 5))  # float64
    checks = {
        "Swish": gradcheck(Swish(), x),
        "Residual": gradcheck(Residual(3).to(dtype="float64"), x),
    }
    print("relative difference from finite differences")
    for name, difference in checks.items():
        print(f"  {name:<10} {difference:.1e}")

    dataset = xcnn.data.load("digits", limit=args.limit)
    settings = {"seed": args.seed, "transform": dataset.normalize()}
    train = DataLoader(dataset.train, batch_size=32, shuffle=True, **settings)
    test = DataLoader(dataset.test, batch_size=256, **settings)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding="same"),  # (N, 16, 16, 16)
        Residual(16),
        nn.MaxPool2d(2),  # (N, 16, 8, 8)
        Residual(16),
        nn.MaxPool2d(2),  # (N, 16, 4, 4)
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10, nonlinearity="softmax"),
    ).to(args.device)
    print(f"\n{xcnn.summary(model, dataset.image_shape)}")

    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.003), loss="cross_entropy")
    trainer.fit(train, epochs=args.epochs)
    accuracy = trainer.evaluate(test)["accuracy"]
    print(f"\naccuracy on {len(dataset.test)} test images: {accuracy:.2%}")
    return {"accuracy": accuracy, "checks": checks}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
