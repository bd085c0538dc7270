"""Export a trained network to ONNX, run it in onnxruntime, import it and train it further.

The network first learns the digits 0 to 4. The second half uses only the ONNX file: it compares the
outputs with onnxruntime's (if that is installed) and continues training on all ten digits, as with
a model from another library. Needs ``pip install 'xcnn[onnx]'``.

Prints the accuracy on 360 test images before (at most half: it has seen 5 of 10 classes) and
after (at least 90 %), and the largest difference between the two engines.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import xcnn
from xcnn import models, optim


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("digits", limit=args.limit)
    normalize = dataset.normalize()
    (x, y), (x_test, y_test) = dataset.train.arrays, dataset.test.arrays
    x, x_test = normalize(x), normalize(x_test)  # float32 (N, 1, 32, 32)

    xcnn.manual_seed(args.seed)
    model = models.create("small_cnn", num_classes=10, input_shape=x.shape[1:]).to(args.device)
    train(model, x[y < 5], y[y < 5], args)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "digits.onnx")
        xcnn.onnx.export(model, x[:2], path)
        difference = difference_to_onnxruntime(path, model, x_test)
        loaded = xcnn.onnx.load(path).to(args.device)
    print(loaded)

    before = accuracy(loaded, x_test, y_test)
    train(loaded, x, y, args)
    after = accuracy(loaded, x_test, y_test)
    print(f"\nlargest difference to onnxruntime: {difference:.1e}")
    print(f"accuracy on {len(y_test)} test images: {before:.2%} before, {after:.2%} after")
    return {"difference": difference, "before": before, "after": after}


def train(model, x, y, args):
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.003))
    trainer.fit(x, y, epochs=args.epochs, seed=args.seed)


def accuracy(model, x, y):
    predicted = xcnn.Trainer(model).predict(x).argmax(axis=1)
    return float((predicted == y).mean())


def difference_to_onnxruntime(path, model, x):
    """Return the largest difference of the scores; NaN if onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return float("nan")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"input": np.ascontiguousarray(x)})
    ours = xcnn.Trainer(model, loss="mse").predict(x)  # "mse": outputs without softmax
    return float(np.abs(scores - ours).max())


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
