"""Train with several processes, one for each GPU, by the script that also trains with one.

``mpiexec -n 2 python examples/several_processes.py`` starts two of them; it needs mpi4py and MPICH,
``pip install "xcnn[mpi]"``. Each gets a part of every batch. From the checkpoints in ``--out``, any
number of processes can go on, also after Ctrl-C or ``kill -9``.

Prints the number of processes, and the accuracy on 360 test images (at least 95 %), which does not
depend on it.
"""

import argparse

import xcnn
from xcnn import callbacks, distributed, nn, optim


def main(argv=None):
    args = parse(argv)
    ranks = distributed.init()  # alone, a single process
    dataset = xcnn.data.load("digits")
    normalize = dataset.normalize()
    x_train, y_train = dataset.train.arrays
    x_test, y_test = dataset.test.arrays

    xcnn.manual_seed(args.seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 8 * 8, 10)),
    ).to(args.device)  # "cuda" is the GPU of this process
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)

    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=0.002), distributed=True)
    used = [callbacks.ModelCheckpoint(args.out)] if args.out else []
    trainer.fit(
        normalize(x_train),
        y_train,
        epochs=args.epochs,
        batch_size=64,  # of all processes together
        seed=args.seed,
        callbacks=used,
        resume=args.out,
    )
    result = trainer.evaluate(normalize(x_test), y_test)  # each process a part, none twice
    if ranks.is_main:
        print(f"{ranks.size} process{'es' * (ranks.size > 1)}")
        print(f"accuracy on {len(y_test)} test images: {result['accuracy']:.2%}")
    return {"processes": ranks.size, "accuracy": result["accuracy"]}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", help="folder of checkpoints, from which it goes on", metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
