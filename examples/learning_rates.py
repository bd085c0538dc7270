"""Which learning rate? SGD and Adam on handwritten digits, side by side.

Every rate starts from the same weights and sees the same batches. The best one is chosen on a
validation set held out from training; the test images are used only after that.

Prints a table of validation accuracies with the best rate of each optimiser marked by *, and the
test accuracies of the two best.
"""

import argparse

import xcnn
from xcnn import nn, optim
from xcnn.data import DataLoader, Subset

RATES = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3]


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("digits", limit=args.limit)
    count = len(dataset.train)
    held_out = count // 5  # for validation
    settings = {"seed": args.seed, "transform": dataset.normalize()}
    train = DataLoader(Subset(dataset.train, range(held_out, count)), shuffle=True, **settings)
    validation = DataLoader(Subset(dataset.train, range(held_out)), **settings)
    test = DataLoader(dataset.test, **settings)

    def fit(kind, rate):
        """Train with one optimiser and rate; return the Trainer."""
        xcnn.manual_seed(args.seed)
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32 * 32, 32, nonlinearity="tanh"),
            nn.Tanh(),
            nn.Linear(32, 10, nonlinearity="softmax"),
        ).to(args.device)
        trainer = xcnn.Trainer(model, kind(model.parameters(), lr=rate))
        trainer.fit(train, epochs=args.epochs, progress=False)
        return trainer

    optimizers = {"SGD": optim.SGD, "Adam": optim.Adam}
    trainers = {name: {r: fit(kind, r) for r in RATES} for name, kind in optimizers.items()}
    accuracies = {
        name: {rate: t.evaluate(validation)["accuracy"] for rate, t in column.items()}
        for name, column in trainers.items()
    }
    best = {name: max(column, key=column.get) for name, column in accuracies.items()}

    print(f"{'rate':<8}" + "".join(f" {name:>9} " for name in optimizers).rstrip())
    for rate in RATES:
        cells = [
            f" {column[rate]:>9.2%}{'*' if rate == best[name] else ' '}"
            for name, column in accuracies.items()
        ]
        print(f"{rate:<8}" + "".join(cells).rstrip())
    print(f"* best of {held_out} validation images after {args.epochs} epochs\n")
    test_accuracies = {n: trainers[n][rate].evaluate(test)["accuracy"] for n, rate in best.items()}
    for name, accuracy in test_accuracies.items():
        print(f"{name} at {best[name]}: {accuracy:.2%} on {len(dataset.test)} test images")
    return {"validation": accuracies, "best": best, "test": test_accuracies}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
