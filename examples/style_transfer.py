"""Style transfer: a small VGG is trained, and a picture takes on the style of another one.

The features are those of a network of five convolutions, trained to classify CIFAR-10 if it is on
this machine, else the digits that ship with xcnn. The pictures are drawn: shapes, and stripes as
the style; or ``--content FILE`` and ``--style FILE``. ``--pictures FILE`` writes them and the
result side by side. Weights of torchvision's VGGs give better results: ``xcnn style``.

Prints the accuracy of the VGG, and the content and style losses before the first and last step.
"""

import argparse
from pathlib import Path

import numpy as np

import xcnn
from xcnn import models, nn, optim, tasks


def main(argv=None):
    args = parse(argv)
    xcnn.manual_seed(args.seed)
    features, accuracy = train(args)

    content, style = pictures(args)
    result = tasks.style_transfer(
        content, style, features, args.steps, style_weight=args.style_weight
    )
    for name in ("content", "style"):
        losses = getattr(result, f"{name}_losses")
        print(f"{name} loss {losses[0]:.4f} before the first step, {losses[-1]:.4f} at the end")
    if args.pictures:
        shown = [content, style, tasks.as_pixels(result.picture.numpy()[0])]
        height = min(picture.shape[1] for picture in shown)
        row = np.concatenate([picture[:, :height] for picture in shown], axis=2)
        Path(args.pictures).write_bytes(xcnn.data.encode_image(row))
        print(f"{args.pictures}: content, style, result")
    return {"accuracy": accuracy, "content": result.content_losses, "style": result.style_losses}


def train(args):
    """Features of a small VGG, on ``args.device``, and its accuracy on test images."""
    is_found = xcnn.data.status("cifar10").state == "found"
    dataset = xcnn.data.load("cifar10" if is_found else "digits", limit=args.limit)
    normalize = xcnn.data.Normalize((0.5,) * 3, (0.25,) * 3)
    (x, y), (x_test, y_test) = (
        (normalize(np.broadcast_to(x, (len(x), 3, 32, 32))), y)  # grey becomes colour
        for x, y in (dataset.train.arrays, dataset.test.arrays)
    )
    layers = []
    for i, o in [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128)]:
        layers += [nn.MaxPool2d(2)] if o == 2 * i else []
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(
        {
            "features": nn.Sequential(*layers),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "classifier": nn.Linear(128, 10),
        }
    ).to(args.device)
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), 0.002))
    trainer.fit(x, y, epochs=args.epochs, batch_size=64, seed=args.seed)
    accuracy = trainer.evaluate(x_test, y_test)["accuracy"]
    print(f"\naccuracy of the small VGG on {dataset.name}: {accuracy:.2%}")
    features = models.Features(model.features, (0.5,) * 3, (0.25,) * 3)
    if args.save:
        xcnn.save(features, args.save)
    return features, accuracy


def pictures(args):
    """The pictures of content and style, uint8 (3, H, W)."""
    read = xcnn.data.read_image
    if args.content:
        content = read(args.content, (3, None, None))
    else:
        content = xcnn.data.load("shapes", limit=1).test.arrays[0][0]
    if args.style:
        style = read(args.style, (3, None, None))
    else:
        rows, columns = np.mgrid[:64, :64]
        waves = [np.sin((rows + k * columns) / 3) for k in (1, -1, 0.5)]
        style = np.uint8(127.5 + 127 * np.array(waves))
    return content, style


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--content", help="the picture to paint", metavar="FILE")
    parser.add_argument("--style", help="the picture in whose style", metavar="FILE")
    parser.add_argument("--pictures", help="write a PNG of the pictures", metavar="FILE")
    parser.add_argument("--save", help="write the features, for xcnn style", metavar="FILE")
    parser.add_argument("--style-weight", type=float, default=1000.0, metavar="X")
    parser.add_argument("--steps", type=int, default=100, help="of L-BFGS", metavar="N")
    parser.add_argument("--epochs", type=int, default=5, help="of the small VGG")
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
