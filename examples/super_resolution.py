"""Super-resolution: EDSR with four blocks doubles the size of photographs.

The data are crops of the photographs that scikit-image and scikit-learn install (``pip install
scikit-image pillow``), or of those in a folder (``--data``). The inputs are made from them by
bicubic interpolation; some photographs are held out for testing. ``--pictures FILE`` writes test
crops in four rows: the input, bicubic interpolation, the network, the original.

Prints the PSNR and the SSIM on the test crops, and the PSNR of bicubic interpolation.
"""

import argparse
from pathlib import Path

import numpy as np

import xcnn
from xcnn import optim, schedules, tasks


def main(argv=None):
    args = parse(argv)
    xcnn.manual_seed(args.seed)
    if args.data:
        photos = tasks.SuperResolution.load_folder(args.data, size=96, limit=args.limit)
    else:
        photos = xcnn.data.load("photo-crops", limit=args.limit)
    task = tasks.SuperResolution.of_data(photos, upscale=args.upscale)
    model = task.create_model("edsr_small").to(args.device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

    loader = xcnn.data.DataLoader(
        photos.train, 16, shuffle=True, seed=args.seed, transform=task.transform("flip,vflip")
    )
    optimizer = optim.Adam(model.parameters(), lr=0.001)
    schedule = schedules.CosineAnnealingLR(optimizer, args.epochs)
    trainer = xcnn.Trainer(
        model, optimizer, task.create_loss(), schedule=schedule, metrics=task.measured
    )
    trainer.fit(loader, epochs=args.epochs)

    test = xcnn.data.DataLoader(photos.test, 60, transform=task.transform())
    values = trainer.evaluate(test)
    print(f"\n{len(photos.test)} test crops: {task.result(values, len(photos.test))}")
    if args.pictures:
        rows = draw(task, trainer, *next(iter(test)))
        Path(args.pictures).write_bytes(xcnn.data.encode_image(rows))
        print(f"{args.pictures}: input, bicubic interpolation, network, original")
    return values


def draw(task, trainer, x, y, count=6):
    """Some examples side by side, uint8 (3, H, W)."""
    x, y = x[:count], y[:count]
    predictions = task.predict(trainer, x)
    shown = [task.show(None, *example) for example in zip(x, y, predictions, strict=True)]
    columns = [np.concatenate(list(pictures.values()), axis=1) for pictures in shown]
    return np.concatenate(columns, axis=2)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder of pictures", metavar="FOLDER")
    parser.add_argument("--upscale", type=int, default=2, help="2, 3 or 4", metavar="N")
    parser.add_argument("--pictures", help="write a PNG of some test crops", metavar="FILE")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, help="use N crops of each split only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
