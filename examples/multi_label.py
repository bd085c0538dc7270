"""Several labels for each picture, with a threshold for each label.

Trains on generated pictures that hold any of six symbols. A fifth of the training pictures is held
out, to choose for each label the threshold with the best F1 score; 0.5 is too high for labels that
the network is unsure of.

Prints the average precision of each label and its threshold, then the mean F1 score on the 500
test pictures: with these thresholds, and with 0.5 for all.
"""

import argparse

import numpy as np

import xcnn
from xcnn import metrics, tasks
from xcnn.data import DataLoader


def main(argv=None):
    args = parse(argv)
    symbols = xcnn.data.load("symbols", limit=args.limit)
    task = tasks.MultiLabel.of_data(symbols)
    train, held_out = xcnn.data.split(symbols.train, 0.2, seed=args.seed)

    xcnn.manual_seed(args.seed)
    model = task.create_model(args.network).to(args.device)
    trainer = xcnn.Trainer(model, "adam", task.create_loss(), metrics=task.measured)
    plain = task.transform()
    settings = {"batch_size": 64, "shuffle": True, "seed": args.seed}
    loader = DataLoader(train, transform=task.transform("flip,vflip"), **settings)
    trainer.fit(loader, epochs=args.epochs, validation=DataLoader(held_out, 256, transform=plain))

    scores, labels = predicted(trainer, held_out, plain)
    candidates = np.linspace(0.05, 0.95, 19)
    f1 = [f1_of(scores > threshold, labels) for threshold in candidates]  # (candidates, labels)
    thresholds = candidates[np.argmax(f1, axis=0)]

    scores, labels = predicted(trainer, symbols.test, plain)
    precision = metrics.create("average_precision", trainer.loss, average=None)
    precision.update(scores, labels)
    print("\nlabel     average precision  threshold")
    for name, value, threshold in zip(task.classes, precision.compute(), thresholds, strict=True):
        print(f"{name:<10}{value:17.4f}{threshold:11.2f}")
    chosen = f1_of(scores > thresholds, labels).mean()
    half = f1_of(scores > 0.5, labels).mean()
    print(f"mean F1 on {len(labels)} test pictures: {chosen:.4f} (with 0.5 for all: {half:.4f})")
    return {"precision": precision.compute(), "chosen": chosen, "half": half}


def predicted(trainer, dataset, transform):
    """Probabilities and labels of a dataset, (N, labels) each."""
    x, y = next(iter(DataLoader(dataset, len(dataset), transform=transform)))
    return trainer.predict(x), y


def f1_of(guesses, labels):
    """2 · right / (guessed + actual) for each label."""
    return 2 * (guesses * labels).sum(0) / np.maximum(guesses.sum(0) + labels.sum(0), 1)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet20", help="a network of xcnn.models")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="use the first N pictures only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
