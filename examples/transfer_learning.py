"""Transfer learning: a network for five classes of photographs learns five others from 500.

A small CNN is trained on CIFAR-10's airplanes, automobiles, birds, cats and deer. Then it gets a
new last layer for dogs, frogs, horses, ships and trucks, of which it sees 100 pictures each or so:
first only the new layer is trained, then the others too, at a lower learning rate. A network with
random weights is trained on the same pictures for comparison.

Prints the accuracy of both networks on the test pictures of the five new classes.
"""

import argparse

import numpy as np

import xcnn
from xcnn import callbacks, nn, optim, schedules
from xcnn.data import DataLoader
from xcnn.data.augment import training_transform

HEAD = "classifier.*"


def main(argv=None):
    args = parse(argv)
    cifar = xcnn.data.load("cifar10")
    transforms = training_transform("flip,crop", cifar), cifar.normalize()

    old = [five_classes(split, 0, args.limit) for split in (cifar.train, cifar.test)]
    source = network(args.seed, args.device)
    accuracy = train(source, optim.Adam(source.parameters(), lr=3e-3), old, transforms, args)
    print(f"airplane to deer, {len(old[0][1]):,} pictures: {accuracy:.2%}")

    new = [five_classes(split, 5) for split in (cifar.train, cifar.test)]
    chosen = np.random.default_rng(args.seed).permutation(len(new[0][1]))[: args.pictures]
    new[0] = tuple(array[chosen] for array in new[0])
    print(f"dog to truck, {len(chosen):,} pictures:")

    random = network(args.seed, args.device)
    scratch = train(random, optim.Adam(random.parameters(), lr=1e-2), new, transforms, args)
    print(f"  from random weights       {scratch:.2%}")

    model = network(args.seed, args.device)
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("classifier")}
    model.load_state_dict(state, strict=False)
    head = list(nn.matching_parameters(model, HEAD).values())
    body = [p for p in model.parameters() if all(p is not q for q in head)]
    for parameter in body:
        parameter.requires_grad = False
    groups = [{"params": head}, {"params": body, "lr": 3e-3}]
    unfreeze = callbacks.Unfreeze(1 + args.epochs // 5)
    transferred = train(model, optim.Adam(groups, lr=1e-2), new, transforms, args, unfreeze)
    print(f"  from the trained network  {transferred:.2%}")
    return {"scratch": scratch, "transferred": transferred}


def network(seed, device):
    """Three convolutions, and a classifier on the means of 96 maps."""
    xcnn.manual_seed(seed)
    layers, channels = [], 3
    for width in (24, 48, 96):
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts = {"features": features, "classifier": nn.Linear(channels, 5)}
    return nn.Sequential(parts).to(device)


def five_classes(split, first, limit=None):
    """Pictures and labels of the classes ``first`` to ``first + 4``, as 0 to 4."""
    x, y = split.arrays
    chosen = np.flatnonzero((y >= first) & (y < first + 5))[:limit]
    return x[chosen], y[chosen] - first


def train(model, optimizer, splits, transforms, args, *used):
    """Train on the first split, and return the accuracy on the second."""
    schedule = schedules.CosineAnnealingLR(optimizer, args.epochs)
    trainer = xcnn.Trainer(model, optimizer, schedule=schedule)
    settings = {"batch_size": 64, "shuffle": True, "seed": args.seed}
    loader = DataLoader(splits[0], transform=transforms[0], **settings)
    trainer.fit(loader, epochs=args.epochs, callbacks=used)
    return trainer.evaluate(DataLoader(splits[1], 256, transform=transforms[1]))["accuracy"]


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    pictures = "number of pictures of the new classes"
    parser.add_argument("--pictures", type=int, default=500, help=pictures, metavar="N")
    limit = "use the first N pictures of the old classes only"
    parser.add_argument("--limit", type=int, help=limit, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
