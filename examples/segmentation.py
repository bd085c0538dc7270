"""Semantic segmentation: a light U-Net finds circles, squares and triangles, pixel by pixel.

The task puts the parts together: the data's transform, the network, the loss (cross-entropy plus
Dice) and the metric. Generated pictures of 64×64 pixels, whose shapes hide parts of each other.

Prints the mean intersection over union on held-out pictures, and of each class.
"""

import argparse

import xcnn
from xcnn import metrics, optim, tasks
from xcnn.data import DataLoader


def main(argv=None):
    args = parse(argv)
    shapes = xcnn.data.load("shapes", limit=args.limit)
    task = tasks.get("segmentation").of_data(shapes)
    transform = task.transform("flip,vflip")  # masks follow
    train = DataLoader(shapes.train, 16, shuffle=True, seed=args.seed, transform=transform)
    test = DataLoader(shapes.test, 100, transform=task.transform())

    xcnn.manual_seed(args.seed)
    model = task.create_model("unet_light").to(args.device)
    optimizer = optim.Adam(model.parameters(), lr=0.003)
    schedule = xcnn.schedules.CosineAnnealingLR(optimizer, args.epochs)
    trainer = xcnn.Trainer(
        model, optimizer, task.create_loss(), schedule=schedule, metrics=task.measured
    )
    trainer.fit(train, epochs=args.epochs, validation=test)

    of_each = metrics.create("iou", task.create_loss(), average=None)
    for x, y in test:
        of_each.update(trainer.predict(x), y)
    for name, iou in zip(shapes.classes, of_each.compute(), strict=True):
        print(f"IoU of {name}: {iou:.3f}")
    values = trainer.evaluate(test)
    print(f"on {len(shapes.test):,} test pictures: {task.result(values, len(shapes.test))}")
    return {"iou": values["iou"]}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, help="use the first N pictures only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
