"""Build a network layer by layer, train it on arrays, and classify new images.

The digits come with the library, so nothing is downloaded. The script prints the output shape
after each layer it appends; ``fit`` and ``predict`` take plain NumPy arrays.

Prints the output shape of each layer, the accuracy on 360 test images (at least 95 %), and some
predictions.
"""

import argparse

import xcnn
from xcnn import nn, optim


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("digits", limit=args.limit)
    normalize = dataset.normalize()
    x_train, y_train = dataset.train.arrays
    x_test, y_test = dataset.test.arrays
    x_train, x_test = normalize(x_train), normalize(x_test)  # float32 (N, 1, 32, 32)

    xcnn.manual_seed(args.seed)
    model = nn.Sequential()
    for layer in (
        nn.Conv2d(1, 16, kernel_size=5, stride=2, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 8 * 8, 10, nonlinearity="softmax"),
    ):
        model.append(layer)
        print(f"{model(x_train[:1]).shape!s:<16} after {layer}")

    model.to(args.device)
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.003), loss="cross_entropy")
    trainer.fit(x_train, y_train, epochs=args.epochs, batch_size=32, seed=args.seed)

    probabilities = trainer.predict(x_test)  # (N, 10)
    predicted = probabilities.argmax(axis=1)
    accuracy = float((predicted == y_test).mean())

    print(f"\n{'image':>5} {'label':>5} {'predicted':>9} {'probability':>12}")
    for i, (label, guess) in enumerate(zip(y_test[:5], predicted[:5], strict=True)):
        print(f"{i:>5} {label:>5} {guess:>9} {probabilities[i, guess]:>12.2%}")
    print(f"\naccuracy on {len(y_test)} test images: {accuracy:.2%}")
    return {"accuracy": accuracy, "probabilities": probabilities}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
