"""Check a small network on a pattern that it must be able to learn: crosses.

The dataset "cross" has crosses (+ and ×) and other strokes, in 16×16 pixels. A correct network
passes two checks: it can memorise one batch, and it tells crosses from other strokes in images it
has not seen. The script also shows how to inspect a network: its layers and their activations.

Prints the steps until the loss of one batch is below 0.001, and the accuracy on held-out
patterns: at least 99 %.
"""

import argparse
import math

import xcnn
from xcnn import nn, optim
from xcnn.data import DataLoader

LEARNING_RATE = {"relu": 0.005, "tanh": 0.005, "sigmoid": 0.02}


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("cross", limit=args.limit)
    settings = {"seed": args.seed, "transform": dataset.normalize()}
    train = DataLoader(dataset.train, batch_size=64, shuffle=True, **settings)
    test = DataLoader(dataset.test, batch_size=256, **settings)

    xcnn.manual_seed(args.seed)
    model = build(args.activation)
    print(xcnn.summary(model, dataset.image_shape))

    x, y = next(iter(train))
    steps, batch_loss = overfit(new_trainer(args), x, y)
    print(f"\none batch of {len(x)}: loss {batch_loss:.5f} after {steps} steps")

    trainer = new_trainer(args)
    trainer.fit(train, epochs=args.epochs)
    accuracy = trainer.evaluate(test)["accuracy"]

    x, y = next(iter(test))
    print(f"\nactivations of {len(x)} held-out patterns")
    show_activations(trainer, x)
    print(f"\naccuracy on {len(dataset.test):,} held-out patterns: {accuracy:.2%}")
    return {"steps": steps, "batch_loss": batch_loss, "accuracy": accuracy}


def build(activation):
    """Two stages of convolution, activation and pooling, then one dense layer.

    ``nonlinearity`` selects the initialisation for the activation that follows: He for relu,
    Glorot for tanh, sigmoid and softmax.
    """
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 8, 3, padding="same", nonlinearity=activation),
            "act1": nn.activation(activation),
            "pool1": nn.MaxPool2d(2),  # 16×16 to 8×8
            "conv2": nn.Conv2d(8, 16, 3, padding="same", nonlinearity=activation),
            "act2": nn.activation(activation),
            "pool2": nn.MaxPool2d(2),  # 8×8 to 4×4
            "flatten": nn.Flatten(),
            "dense": nn.Linear(16 * 4 * 4, 2, nonlinearity="softmax"),
        }
    )


def new_trainer(args):
    """A Trainer for a newly initialised model."""
    model = build(args.activation).to(args.device)
    return xcnn.Trainer(model, optim.Adam(model.parameters(), lr=LEARNING_RATE[args.activation]))


def overfit(trainer, x, y, goal=1e-3, max_steps=2000):
    """Train on one batch until its loss is below ``goal``; return the steps and the loss."""
    steps, loss = 0, math.inf
    while loss >= goal and steps < max_steps:
        loss = trainer.train_step(x, y)[0].item()
        steps += 1
    return steps, loss


def show_activations(trainer, x):
    """Print statistics of each layer's output for the images ``x``."""
    with nn.record_activations(trainer.model) as activations:
        trainer.predict(x, batch_size=len(x))
    activations.pop("")  # the output of the model is that of its last layer
    print(f"{'layer':<8} {'shape':<18} {'mean':>8} {'std':>8} {'min':>8} {'max':>8} {'zeros':>7}")
    for name, a in activations.items():
        numbers = " ".join(f"{float(n):8.3f}" for n in (a.mean(), a.std(), a.min(), a.max()))
        zeros = float((a == 0).mean())
        print(f"{name:<8} {' × '.join(map(str, a.shape)):<18} {numbers} {zeros:7.1%}")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activation", default="relu", choices=list(LEARNING_RATE))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
