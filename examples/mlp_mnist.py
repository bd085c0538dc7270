"""A fully connected network, 784-128-10 with tanh, on MNIST.

The shortest way from a dataset to a trained model: load, build, fit. ``fit`` returns the history of
losses and accuracies by epoch.

Prints a line per epoch and the accuracy on the 10,000 test images: at least 97 %.
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
        nn.Flatten(),  # (N, 1, 28, 28) to (N, 784)
        nn.Linear(784, 128, nonlinearity="tanh"),
        nn.Tanh(),
        nn.Linear(128, 10, nonlinearity="softmax"),
    ).to(args.device)
    print(xcnn.summary(model, dataset.image_shape))

    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    trainer = xcnn.Trainer(model, optimizer, loss="cross_entropy")
    history = trainer.fit(train, epochs=args.epochs, validation=test)

    print(f"\n{'epoch':>5} {'train loss':>11} {'test loss':>10} {'test accuracy':>14}")
    for e in history:
        print(f"{e.epoch:>5} {e.train_loss:>11.4f} {e.val_loss:>10.4f} {e.val_accuracy:>14.2%}")
    accuracy = history[-1].val_accuracy
    print(f"\naccuracy on {len(dataset.test):,} test images: {accuracy:.2%}")
    return {"accuracy": accuracy}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
