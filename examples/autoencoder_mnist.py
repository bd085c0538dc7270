"""A dense autoencoder: MNIST images of 784 pixels through a code of 32 numbers and back.

The network learns to reproduce its input, so x is also the target, and the loss is the mean
squared error of pixels from 0 to 1. ``--pictures FILE`` writes some test images above their
reconstructions (this needs matplotlib).

Prints the mean squared error on the 10,000 test images: below 0.01.
"""

import argparse

import numpy as np

import xcnn
from xcnn import nn, optim


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("mnist", limit=args.limit)
    train, test = pixels(dataset.train), pixels(dataset.test)

    xcnn.manual_seed(args.seed)
    encoder = nn.Sequential(
        nn.Linear(784, 256),
        nn.ReLU(),
        nn.Linear(256, args.code, nonlinearity="linear"),  # the code
    )
    decoder = nn.Sequential(
        nn.Linear(args.code, 256),
        nn.ReLU(),
        nn.Linear(256, 784, nonlinearity="sigmoid"),
        nn.Sigmoid(),  # pixels from 0 to 1
    )
    model = nn.Sequential({"encoder": encoder, "decoder": decoder}).to(args.device)
    print(xcnn.summary(model, (784,)))

    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.001), loss="mse")
    trainer.fit(train, train, epochs=args.epochs, batch_size=128, seed=args.seed)

    error = trainer.evaluate(test, test)["loss"]
    print(f"\nmean squared error on {len(test):,} test images: {error:.5f}")
    if args.pictures:
        draw(args.pictures, test[:10], trainer.predict(test[:10]))
        print(f"{args.pictures}: 10 test images above their reconstructions")
    return {"error": error}


def pixels(dataset):
    """The images of a dataset as float32 (N, 784) from 0 to 1."""
    images, _ = dataset.arrays
    return images.reshape(len(images), -1).astype("float32") / 255


def draw(file, originals, reconstructions):
    """Write a picture: originals in the first row, reconstructions in the second."""
    from matplotlib.image import imsave

    rows = [np.hstack(row.reshape(-1, 28, 28)) for row in (originals, reconstructions)]
    imsave(file, np.vstack(rows), cmap="gray", vmin=0, vmax=1)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", type=int, default=32, help="numbers in the code", metavar="N")
    parser.add_argument("--pictures", help="write a PNG of some reconstructions", metavar="FILE")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
