"""New digits, drawn by a variational autoencoder or a DCGAN.

Both learn from the pictures alone, without labels. ``--task`` chooses between them: a VAE ("vae")
reconstructs its input from a code to which noise was added, and draws by decoding noise; in a GAN
("gan") a generator learns to draw what a discriminator takes for real. ``--pictures FILE`` writes
a grid of 64 new digits as PNG.

Prints what the task measures on the 360 test images.
"""

import argparse

import xcnn
from xcnn import optim
from xcnn.data import DataLoader, encode_image


def main(argv=None):
    args = parse(argv)
    dataset = xcnn.data.load("digits", limit=args.limit)
    task = xcnn.tasks.get(args.task).of_data(dataset)

    xcnn.manual_seed(args.seed)
    model = task.create_model(task.networks[0]).to(args.device)
    print(xcnn.summary(model, task.input_shape))

    is_gan = args.task == "gan"
    settings = {"lr": 2e-4, "betas": (0.5, 0.999)} if is_gan else {"lr": 2e-3}
    optimizer = optim.Adam(model.parameters(), **settings)
    trainer = xcnn.Trainer(model, optimizer, task.create_loss(), metrics=task.measured)

    shuffled = {"shuffle": True, "seed": args.seed, "drop_last": is_gan}
    train = DataLoader(dataset.train, 32, transform=task.transform("none"), **shuffled)
    test = DataLoader(dataset.test, 256, transform=task.transform())
    trainer.fit(train, epochs=args.epochs, validation=test)

    values = trainer.evaluate(test)
    print(f"\non {len(dataset.test)} test images: {task.result(values, len(dataset.test))}")
    if args.pictures:
        with open(args.pictures, "wb") as file:
            file.write(encode_image(task.samples(trainer)))
        print(f"{args.pictures}: 64 new digits")
    return values


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=["vae", "gan"], default="vae")
    parser.add_argument("--pictures", help="write a PNG of new digits", metavar="FILE")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--limit", type=int, help="use the first N images only", metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
