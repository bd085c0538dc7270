"""The smallest useful CNN on MNIST: one convolution, one pooling, one dense layer.

16 filters of 3×3 (no padding, stride 1), ReLU, 2×2 max-pooling and a dense layer.

Prints the accuracy on the 10,000 test images: at least 97 % after one epoch.
"""

import argparse

import xcnn
from xcnn import nn, optim
from xcnn.data import DataLoader


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("mnist", limit=args.limit)
    settings = {"seed": args.seed, "transform": dataset.normalize()}
    train = DataLoader(dataset.train, batch_size=64, shuffle=True, **settings)
    test = DataLoader(dataset.test, batch_size=256, **settings)

    xcnn.manual_seed(args.seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3),  # (N, 1, 28, 28) to (N, 16, 26, 26)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 16, 13, 13)
        nn.Flatten(),  # (N, 2704)
        nn.Linear(16 * 13 * 13, 10, nonlinearity="softmax"),
    ).to(args.device)
    print(xcnn.summary(model, dataset.image_shape))

    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.005), loss="cross_entropy")
    trainer.fit(train, epochs=args.epochs)

    accuracy = trainer.evaluate(test)["accuracy"]
    print(f"\naccuracy on {len(dataset.test):,} test images: {accuracy:.2%}")
    return {"accuracy": accuracy}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
