"""Three classifier heads with their losses, on two interleaved half moons.

A classifier of two classes can return one probability or two scores:

* one output through a sigmoid, with binary cross-entropy;
* two scores (logits), with cross-entropy, which includes the softmax;
* two log-probabilities from a log-softmax, with the negative log-likelihood: the same function
  as the second, in two steps.

Prints a table of losses and accuracies on held-out points: at least 85 % for each head.
"""

import argparse

import xcnn
from xcnn import nn, optim
from xcnn.data import DataLoader


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("moons", limit=args.limit)
    settings = {"seed": args.seed, "transform": dataset.normalize()}
    train = DataLoader(dataset.train, batch_size=32, shuffle=True, **settings)
    test = DataLoader(dataset.test, **settings)

    heads = {
        "sigmoid + BCE": (1, [nn.Sigmoid()], "binary_cross_entropy"),
        "softmax + CE (logits)": (2, [], "cross_entropy"),
        "log-softmax + NLL": (2, [nn.LogSoftmax()], "nll"),
    }
    print(f"{'head':<22} {'outputs':>7} {'train loss':>11} {'test loss':>10} {'accuracy':>9}")
    accuracies = {}
    for name, (outputs, head, loss) in heads.items():
        xcnn.manual_seed(args.seed)
        model = nn.Sequential(
            nn.Linear(2, 16, nonlinearity="tanh"),
            nn.Tanh(),
            nn.Linear(16, outputs, nonlinearity="sigmoid" if outputs == 1 else "softmax"),
            *head,
        ).to(args.device)
        trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.02), loss)
        history = trainer.fit(train, epochs=args.epochs, progress=False)
        result = trainer.evaluate(test)
        accuracies[name] = result["accuracy"]
        print(
            f"{name:<22} {outputs:>7} {history[-1].train_loss:>11.4f} {result['loss']:>10.4f} "
            f"{result['accuracy']:>9.2%}"
        )
    return accuracies


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit", type=int, help="use the first N points only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
