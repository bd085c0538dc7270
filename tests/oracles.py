"""What the library should compute, in plain loops over float64 numbers.

Nothing in here uses xcnn; where a formula has a name, scipy's or NumPy's is not used for it either.
Images are (N, C, H, W), ``padding`` is ((top, bottom), (left, right)), and every pair is
(height, width).
"""

import math

import numpy as np

# -- sizes ---------------------------------------------------------------------------------


def both(value):
    """An int as (int, int)."""
    return tuple(value) if isinstance(value, list | tuple) else (value, value)


def output_size(size, kernel, stride=1, padding=(0, 0), dilation=1, ceil_mode=False):
    """Windows along one axis, counted one after the other; 0 if not one fits."""
    extent = dilation * (kernel - 1) + 1
    start, count = -padding[0], 0
    while start + extent <= size + padding[1]:
        count, start = count + 1, start + stride
    ends_short = start - stride + extent < size + padding[1]
    if ceil_mode and count and ends_short and start < size:
        count += 1
    return count


def same_padding(size, kernel, stride=1, dilation=1):
    """(begin, end) so that the output is ceil(size / stride); the odd pixel is at the end."""
    total = (math.ceil(size / stride) - 1) * stride + dilation * (kernel - 1) + 1 - size
    total = max(total, 0)
    return total // 2, total - total // 2


def sides(padding, size, kernel, stride=1, dilation=1):
    """Any form of padding as ((top, bottom), (left, right))."""
    if padding == "same":
        axes = zip(both(size), both(kernel), both(stride), both(dilation), strict=True)
        return tuple(same_padding(*axis) for axis in axes)
    if padding == "valid":
        return (0, 0), (0, 0)
    return tuple(both(p) for p in both(padding))


def image_output_size(size, kernel, stride, padding, dilation=1, ceil_mode=False):
    """(oH, oW)."""
    axes = zip(size, both(kernel), both(stride), padding, both(dilation), strict=True)
    return tuple(output_size(*axis, ceil_mode=ceil_mode) for axis in axes)


# -- convolution ---------------------------------------------------------------------------


def conv2d(x, weight, bias=None, stride=1, padding=((0, 0), (0, 0)), dilation=1, groups=1):
    """y[n,f,i,j] = bias[f] + sum(what window i,j of f's group reads * weight[f])."""
    x, weight = np.float64(x), np.float64(weight)
    size = image_output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    y = np.zeros((len(x), len(weight), *size))
    for index in np.ndindex(y.shape):
        window = _window(index, weight, stride, dilation, groups)
        y[index] = (padded[window] * weight[index[1]]).sum()
        if bias is not None:
            y[index] += bias[index[1]]
    return y


def conv2d_gradients(dy, x, weight, stride=1, padding=((0, 0), (0, 0)), dilation=1, groups=1):
    """dx, dweight, dbias: each product of the forward sum gives dy to both its factors."""
    dy, x, weight = np.float64(dy), np.float64(x), np.float64(weight)
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    dpadded, dweight, dbias = np.zeros_like(padded), np.zeros_like(weight), np.zeros(len(weight))
    for index in np.ndindex(dy.shape):
        window = _window(index, weight, stride, dilation, groups)
        dpadded[window] += dy[index] * weight[index[1]]
        dweight[index[1]] += dy[index] * padded[window]
        dbias[index[1]] += dy[index]
    (top, _), (left, _) = padding
    return dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]], dweight, dbias


def _window(index, weight, stride, dilation, groups):
    """Index of what output (n, f, i, j) reads in the padded image."""
    n, f, *position = index
    filters, channels, *kernel = weight.shape
    group = f // (filters // groups)
    spans = [
        slice(o * s, o * s + d * (k - 1) + 1, d)
        for o, s, d, k in zip(position, both(stride), both(dilation), kernel, strict=True)
    ]
    return n, slice(group * channels, (group + 1) * channels), *spans


def im2col(x, kernel, stride, padding, dilation, tile):
    """What the windows top:bottom, left:right of ``tile`` read: (N, C, kH, kW, rows, columns)."""
    top, bottom, left, right = tile
    columns = np.zeros((*x.shape[:2], *both(kernel), bottom - top, right - left))
    for column, pixel in _reads(columns.shape[2:], x.shape[2:], stride, padding, dilation, tile):
        columns[(..., *column)] = x[(..., *pixel)]
    return columns


def col2im(columns, size, stride, padding, dilation, tile):
    """Each pixel's sum of what was read from it: (N, C, H, W)."""
    x = np.zeros((*columns.shape[:2], *size))
    for column, pixel in _reads(columns.shape[2:], size, stride, padding, dilation, tile):
        x[(..., *pixel)] += columns[(..., *column)]
    return x


def _reads(shape, size, stride, padding, dilation, tile):
    """Pairs of (element's row, column, window's row, column in the tile) and the pixel read."""
    kernel = shape[:2]
    for i, j in np.ndindex(shape[2:]):
        position = tile[0] + i, tile[2] + j
        pixels = _pixels(position, kernel, stride, padding, dilation)
        for element, pixel in zip(np.ndindex(kernel), pixels, strict=True):
            if _inside(pixel, size):
                yield (*element, i, j), pixel


# -- pooling -------------------------------------------------------------------------------


def _pixels(position, kernel, stride, padding, dilation=1):
    """(row, column) of each element of a window, row by row, also outside the image."""
    top, left = (o * s - p[0] for o, s, p in zip(position, both(stride), padding, strict=True))
    for k in range(both(kernel)[0]):
        for m in range(both(kernel)[1]):
            yield top + k * both(dilation)[0], left + m * both(dilation)[1]


def _inside(pixel, size):
    return all(0 <= p < n for p, n in zip(pixel, size, strict=True))


def max_pool2d(x, kernel, stride, padding=((0, 0), (0, 0)), dilation=1, ceil_mode=False):
    """y, and which pixel each window takes: its first NaN, else the first of the largest.

    Returns
    -------
    y : (N, C, oH, oW)
    chosen : dict of (n, c, i, j) to (n, c, row, column)
    """
    size = image_output_size(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    y, chosen = np.full((*x.shape[:2], *size), -np.inf), {}
    for index in np.ndindex(y.shape):
        for pixel in _pixels(index[2:], kernel, stride, padding, dilation):
            if not _inside(pixel, x.shape[2:]) or math.isnan(y[index]):
                continue
            value = float(x[(*index[:2], *pixel)])
            if value > y[index] or math.isnan(value) or index not in chosen:
                y[index], chosen[index] = value, (*index[:2], *pixel)
    return y, chosen


def max_pool2d_gradient(dy, chosen, shape):
    """Each window's gradient goes to the pixel it took."""
    dx = np.zeros(shape)
    for index, pixel in chosen.items():
        dx[pixel] += dy[index]
    return dx


def avg_pool2d(x, kernel, stride, padding=((0, 0), (0, 0)), ceil_mode=False, include_pad=True):
    """The mean of each window; what ceil_mode reads beyond the padding never counts."""
    size = image_output_size(x.shape[2:], kernel, stride, padding, 1, ceil_mode)
    y = np.zeros((*x.shape[:2], *size))
    for index in np.ndindex(y.shape):
        inside, count = _averaged(index, x.shape, kernel, stride, padding, include_pad)
        y[index] = math.fsum(x[pixel] for pixel in inside) / count
    return y


def avg_pool2d_gradient(dy, shape, kernel, stride, padding=((0, 0), (0, 0)), include_pad=True):
    """Each pixel of a window gets an equal share."""
    dx = np.zeros(shape)
    for index in np.ndindex(dy.shape):
        inside, count = _averaged(index, shape, kernel, stride, padding, include_pad)
        for pixel in inside:
            dx[pixel] += dy[index] / count
    return dx


def _averaged(index, shape, kernel, stride, padding, include_pad):
    """The window's pixels within the image, and what their sum is divided by."""
    size = shape[2:]
    pixels = list(_pixels(index[2:], kernel, stride, padding))
    inside = [(*index[:2], *p) for p in pixels if _inside(p, size)]
    counted = [
        all(-a <= q < n + b for q, n, (a, b) in zip(p, size, padding, strict=True)) for p in pixels
    ]
    return inside, sum(counted) if include_pad else len(inside)


# -- activations and losses ----------------------------------------------------------------


def softmax(x, axis):
    """exp(x) / sum(exp(x)), in long double so that no maximum needs to be taken off."""
    e = np.exp(np.longdouble(x))
    return np.float64(e / e.sum(axis=axis, keepdims=True))


def log_softmax(x, axis):
    """log(softmax(x))."""
    x = np.longdouble(x)
    return np.float64(x - np.log(np.exp(x).sum(axis=axis, keepdims=True)))


def softmax_gradient(dy, x, axis):
    """dx[j] = sum over i of dy[i] * y[i] * ((i == j) - y[j])."""
    y = softmax(x, axis)
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax_gradient(dy, x, axis):
    """dx[j] = dy[j] - softmax(x)[j] * sum(dy)."""
    return dy - softmax(x, axis) * dy.sum(axis=axis, keepdims=True)


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return np.float64(1 / (1 + np.exp(-np.longdouble(x))))


def one_hot(target, classes):
    """(N, ...) class numbers to (N, classes, ...) zeros and ones."""
    hot = np.zeros((len(target), classes, *target.shape[1:]))
    for index in np.ndindex(target.shape):
        hot[(index[0], target[index], *index[1:])] = 1
    return hot


def reduced(terms, reduction):
    """Mean, sum or the terms themselves."""
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](terms)


def reduced_gradient(slopes, dy, reduction, terms):
    """``slopes`` of the terms, times the gradient that reaches each term."""
    scale = 1 / terms if reduction == "mean" else 1
    return slopes * dy * scale


def cross_entropy_terms(x, target):
    """-sum over classes of target * log_softmax(x); ``target`` are probabilities."""
    return -(target * log_softmax(x, 1)).sum(axis=1)


def cross_entropy_slopes(x, target):
    """softmax(x) * sum(target) - target."""
    return softmax(x, 1) * target.sum(axis=1, keepdims=True) - target


def class_cross_entropy(x, target):
    """Of each column of (C, M): log(sum(exp(x))) - x[target], NaN where the class does not exist,
    and softmax(x) - onehot(target).
    """
    with np.errstate(all="ignore"):
        x = np.longdouble(x)
        powers = np.exp(x)
        total = powers.sum(axis=0)
        terms, slope = np.full(len(target), np.nan, np.longdouble), powers / total
        for column, wanted in enumerate(target):
            if 0 <= wanted < len(x):
                terms[column] = np.log(total[column]) - x[wanted, column]
                slope[wanted, column] -= 1
        return np.float64(terms), np.float64(slope)


def binary_cross_entropy_terms(p, target):
    """-(t * log(p) + (1 - t) * log(1 - p)), each logarithm at least -100."""
    with np.errstate(divide="ignore"):
        yes, no = (np.float64(np.log(v)) for v in (np.longdouble(p), 1 - np.longdouble(p)))
    return -(target * np.maximum(yes, -100) + (1 - target) * np.maximum(no, -100))


# -- linear --------------------------------------------------------------------------------


def linear(x, weight, bias=None):
    """y[n,o] = bias[o] + sum over i of weight[o,i] * x[n,i], last axis of any x."""
    y = np.zeros((*x.shape[:-1], len(weight)))
    for index in np.ndindex(y.shape):
        y[index] = (np.float64(x[index[:-1]]) * weight[index[-1]]).sum()
        if bias is not None:
            y[index] += bias[index[-1]]
    return y


def linear_gradients(dy, x, weight):
    """dx, dweight, dbias."""
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(len(weight))
    for index in np.ndindex(dy.shape):
        dx[index[:-1]] += dy[index] * np.float64(weight[index[-1]])
        dweight[index[-1]] += dy[index] * np.float64(x[index[:-1]])
        dbias[index[-1]] += dy[index]
    return dx, dweight, dbias


# -- optimisers ----------------------------------------------------------------------------


def sgd(p, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """The parameter after one step per gradient. Velocity starts at 0."""
    velocity = 0.0
    for grad in grads:
        p, velocity = sgd_step(p, grad, velocity, lr, momentum, nesterov, weight_decay)
    return p


def sgd_step(p, grad, velocity, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """The parameter and the velocity after one step."""
    g = grad + weight_decay * p
    velocity = momentum * velocity + g
    return p - lr * (g + momentum * velocity if nesterov else velocity), velocity


def adam(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """The parameter after one step per gradient (algorithm 1 of arXiv:1412.6980)."""
    m = v = 0.0
    for t, grad in enumerate(grads, start=1):
        p, m, v = adam_step(p, grad, m, v, t, lr, betas, eps, weight_decay)
    return p


def adam_step(p, grad, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """The parameter and the two running means after step number ``t``, from 1."""
    g = grad + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    corrected = v / (1 - betas[1] ** t)
    return p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(corrected) + eps), m, v


def loss_scales(overflows, scale, growth=2.0, backoff=0.5, interval=2000):
    """(scale, good steps in a row, skipped steps) after each step."""
    good, skipped, states = 0, 0, []
    for overflow in overflows:
        if overflow:
            scale, good, skipped = scale * backoff, 0, skipped + 1
        else:
            good += 1
            if good == interval:
                scale, good = scale * growth, 0
        states.append((scale, good, skipped))
    return states


# -- random numbers ------------------------------------------------------------------------


def philox4x64(counter, key, rounds=10):
    """One block of Philox4x64 in Python's integers (Salmon et al. 2011, Random123)."""
    mask = 2**64 - 1
    c, k = list(counter), list(key)
    for _ in range(rounds):
        first, second = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        c = [
            (second >> 64) ^ c[1] ^ k[0],
            second & mask,
            (first >> 64) ^ c[3] ^ k[1],
            first & mask,
        ]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c
