"""Backpropagation by hand: each forward step returns its backward function.

``y, back = xcnn.vjp(function, *arrays)`` returns the value of an operation and a function on plain
arrays: ``back(dy)`` maps the gradient of y to one gradient per array. So the chain rule is a few
explicit lines, without Tensors, tape or modules. Images are (N, H, W, C) here.

Every gradient is compared with finite differences, on 4 images in float64.

Prints the shapes of all values and gradients, the largest relative difference from the finite
differences (below 1e-6), and the peak memory (below 4 GiB for 50,000 images).
"""

import argparse
import time
import tracemalloc

import numpy as np

import xcnn
import xcnn.functional as F
from xcnn.testing import gradcheck


def main(argv=None):
    args = parse(argv)
    tracemalloc.start()
    start = time.perf_counter()
    shapes = passes(*draw(args.images, args.seed, "float32", args.device))
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1] / 2**30
    tracemalloc.stop()

    print(f"{'float32':<16} {'forward':<20} backward: dx, dw, db")
    for step, (y, *gradients) in shapes.items():
        print(f"{step:<16} {y!s:<20} {'  '.join(map(str, gradients))}".rstrip())

    differences = check(*draw(4, args.seed, "float64", "cpu"))
    print(f"\n{'float64':<16} relative difference from finite differences")
    for step, difference in differences.items():
        print(f"{step:<16} {difference:.1e}")

    worst = max(differences.values())
    print(
        f"\n{args.images:,} images in {seconds:.1f} s; peak host memory {peak:.2f} GiB; "
        f"largest difference {worst:.1e}"
    )
    return {"shapes": shapes, "peak_gib": peak, "worst": worst}


def draw(count, seed, dtype, device):
    """Draw images and labels, 2 filters of 3×3 pixels, and a dense layer with 10 outputs."""
    rng = np.random.default_rng(seed)
    to_device = xcnn.backends.get(device).asarray
    images = to_device(rng.standard_normal((count, 28, 28, 1), dtype))
    labels = to_device(rng.integers(0, 10, count))
    weight = to_device(rng.standard_normal((2, 1, 3, 3), dtype))  # (filters, channels, 3, 3)
    bias = to_device(rng.standard_normal(2, dtype))
    matrix = to_device(rng.standard_normal((10, 14 * 14 * 2), dtype) / 20)  # (outputs, inputs)
    offset = to_device(rng.standard_normal(10, dtype))
    return images, labels, weight, bias, matrix, offset


def passes(images, labels, weight, bias, matrix, offset):
    """Forward and backward; return the shapes of each step's value and gradients."""
    shapes = {"images": [images.shape]}

    # a single step: a convolution without padding, with its output as the output gradient
    y, back = xcnn.vjp(F.conv2d, images, weight, bias, padding="valid", data_format="NHWC")
    dx, dw, db = back(y)
    shapes["conv, valid"] = [y.shape, dx.shape, dw.shape, db.shape]
    del y, back, dx  # hundreds of megabytes

    # a network, forward
    conv, conv_back = xcnn.vjp(F.conv2d, images, weight, bias, padding="same", data_format="NHWC")
    average, average_back = xcnn.vjp(F.avg_pool2d, conv, kernel_size=2, data_format="NHWC")
    pooled, pool_back = xcnn.vjp(F.max_pool2d, conv, kernel_size=2, data_format="NHWC")
    flat = pooled.reshape(len(pooled), -1)
    scores, dense_back = xcnn.vjp(F.linear, flat, matrix, offset)
    loss, loss_back = xcnn.vjp(F.cross_entropy, scores, labels)

    # the same steps backward
    dscores, _ = loss_back(xcnn.backends.of(loss).xp.ones_like(loss))  # dloss/dloss = 1
    dflat, dmatrix, doffset = dense_back(dscores)
    (dconv,) = pool_back(dflat.reshape(pooled.shape))
    dimages, dweight, dbias = conv_back(dconv)
    (daverage,) = average_back(average)

    shapes["conv, same"] = [conv.shape, dimages.shape, dweight.shape, dbias.shape]
    shapes["average pool"] = [average.shape, daverage.shape]
    shapes["max pool"] = [pooled.shape, dconv.shape]
    shapes["dense"] = [scores.shape, dflat.shape, dmatrix.shape, doffset.shape]
    shapes["cross-entropy"] = [loss.shape, dscores.shape]
    return shapes


def check(images, labels, weight, bias, matrix, offset):
    """Return the largest relative difference from finite differences, per operation."""
    nhwc = {"data_format": "NHWC"}
    flat = images[:, :14].reshape(len(images), -1)  # 14·28 = 14·14·2 numbers
    return {
        "conv, valid": gradcheck(F.conv2d, images, weight, bias, padding="valid", **nhwc),
        "conv, same": gradcheck(F.conv2d, images, weight, bias, padding="same", **nhwc),
        "average pool": gradcheck(F.avg_pool2d, images, kernel_size=2, **nhwc),
        "max pool": gradcheck(F.max_pool2d, images, kernel_size=2, **nhwc),
        "dense": gradcheck(F.linear, flat, matrix, offset),
        "cross-entropy": gradcheck(F.cross_entropy, flat[:, :10], labels),
    }


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000, metavar="N", help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
