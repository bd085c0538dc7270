"""The joints of stick figures, found as the peaks of heatmaps.

The network returns a picture for each joint, which is to be bright where the joint is. Mirroring
and turning the pictures for training moves the joints with them; in a mirrored picture, the left
hand becomes a right one. ``--pictures FILE`` writes some test pictures with the true joints above,
and the ones that were found below.

Prints the share of the joints of the 300 test pictures that are found within a tenth of their
figure's size: about 96 %.
"""

import argparse

import numpy as np

import xcnn
from xcnn import optim, tasks
from xcnn.data import DataLoader


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("stick-figures", limit=args.limit)
    task = tasks.get("keypoints").of_data(dataset)

    xcnn.manual_seed(args.seed)
    model = task.create_model("hourglass").to(args.device)
    print(xcnn.summary(model, task.input_shape))

    augmented = task.transform("flip,affine")  # (x, y): pictures and joints
    train = DataLoader(dataset.train, 32, shuffle=True, seed=args.seed, transform=augmented)
    test = DataLoader(dataset.test, 32, transform=task.transform("none"))
    trainer = xcnn.Trainer(
        model, optim.Adam(model.parameters(), lr=0.001), task.create_loss(), metrics=["pck"]
    )
    trainer.fit(train, epochs=args.epochs, validation=test)

    found = trainer.evaluate(test)["pck"]
    print(f"\n{found:.1%} of the joints of {len(dataset.test)} test pictures found")
    if args.pictures:
        draw(args.pictures, task, trainer, *dataset.test[:8])
        print(f"{args.pictures}: true joints above, found ones below")
    return {"pck": found}


def draw(file, task, trainer, x, y):
    """Write a picture: the truth in the first row, predictions in the second."""
    found = task.predict(trainer, task.normalize(x))
    rows = [np.dstack([task.draw(*pair) for pair in zip(x, p, strict=True)]) for p in (y, found)]
    picture = np.hstack(rows).repeat(3, axis=1).repeat(3, axis=2)
    with open(file, "wb") as png:
        png.write(xcnn.data.encode_image(picture))


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", help="write a PNG of some predictions", metavar="FILE")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="use the first N pictures only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
