"""What the library should compute, in plain loops over float64 numbers.

Nothing in here uses xcnn; where a formula has a name, scipy's or NumPy's is not used for it either.
Images are (N, C, H, W), ``padding`` is ((top, bottom), (left, right)), and every pair is
(height, width). The functions of images also take volumes (N, C, D, H, W), with three settings.
"""

import itertools
import math
from fractions import Fraction

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
    dilation = dilation_of(dilation, len(padding))
    axes = zip(size, both(kernel), both(stride), padding, dilation, strict=True)
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
    inside = [slice(p[0], p[0] + n) for p, n in zip(padding, x.shape[2:], strict=True)]
    return dpadded[:, :, *inside], dweight, dbias


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


def conv_transpose2d(
    x, weight, bias=None, stride=1, padding=((0, 0), (0, 0)), output_padding=0, dilation=1, groups=1
):
    """Each pixel of x adds its multiple of the kernel; the padding is cut off the whole image."""
    x, weight = np.float64(x), np.float64(weight)
    y, inside = _whole_image(x, weight, stride, padding, output_padding, dilation, groups)
    for index in np.ndindex(x.shape):
        y[_reached(index, weight, stride, dilation, groups)] += x[index] * weight[index[1]]
    y = y[inside]
    return y if bias is None else y + np.reshape(bias, (-1,) + (1,) * (x.ndim - 2))


def conv_transpose2d_gradients(
    dy, x, weight, stride=1, padding=((0, 0), (0, 0)), output_padding=0, dilation=1, groups=1
):
    """dx, dweight, dbias; nothing that was cut off has a gradient."""
    x, weight = np.float64(x), np.float64(weight)
    d, inside = _whole_image(x, weight, stride, padding, output_padding, dilation, groups)
    d[inside] = dy
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for index in np.ndindex(x.shape):
        gradient = d[_reached(index, weight, stride, dilation, groups)]
        dx[index] = (gradient * weight[index[1]]).sum()
        dweight[index[1]] += gradient * x[index]
    return dx, dweight, np.float64(dy).sum(axis=(0, *range(2, x.ndim)))


def _whole_image(x, weight, stride, padding, output_padding, dilation, groups):
    """Zeros for all that the kernels reach and the output padding, and the index of what stays."""
    settings = map(both, (stride, dilation, output_padding))
    axes = zip(x.shape[2:], weight.shape[2:], *settings, strict=True)
    size = [(n - 1) * s + d * (k - 1) + 1 + more for n, k, s, d, more in axes]
    inside = [slice(p[0], n - p[1]) for n, p in zip(size, padding, strict=True)]
    whole = np.zeros((len(x), weight.shape[1] * groups, *size))
    return whole, (slice(None), slice(None), *inside)


def _reached(index, weight, stride, dilation, groups):
    """Index of what pixel (n, c, i, j) reaches in the whole image."""
    n, c, *position = index
    channels, filters, *kernel = weight.shape
    group = c // (channels // groups)
    spans = [
        slice(i * s, i * s + d * (k - 1) + 1, d)
        for i, s, d, k in zip(position, both(stride), both(dilation), kernel, strict=True)
    ]
    return n, slice(group * filters, (group + 1) * filters), *spans


def pad(x, padding, mode):
    """Each pixel of the result is one of the last axes of x; the first two are not padded."""
    sizes, padding = x.shape[2:], list(padding)
    y = np.zeros((*x.shape[:2], *(n + sum(p) for n, p in zip(sizes, padding, strict=True))))
    for index in np.ndindex(y.shape[2:]):
        y[(..., *index)] = x[(..., *_pad_source(index, sizes, padding, mode))]
    return y


def pad_gradient(dy, shape, padding, mode):
    """Each pixel gets the gradients of all its copies."""
    dx, padding = np.zeros(shape), list(padding)
    for index in np.ndindex(dy.shape[2:]):
        dx[(..., *_pad_source(index, shape[2:], padding, mode))] += dy[(..., *index)]
    return dx


def _pad_source(index, sizes, padding, mode):
    """Which pixel the padded one at ``index`` is a copy of."""
    for i, n, (begin, _) in zip(index, sizes, padding, strict=True):
        i -= begin
        if mode == "reflect":
            yield -i if i < 0 else 2 * (n - 1) - i if i >= n else i
        elif mode == "replicate":
            yield min(max(i, 0), n - 1)
        else:
            yield i % n


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
    first = [o * s - p[0] for o, s, p in zip(position, both(stride), padding, strict=True)]
    for element in np.ndindex(*both(kernel)):
        steps = zip(first, element, dilation_of(dilation, len(first)), strict=True)
        yield tuple(start + k * d for start, k, d in steps)


def dilation_of(dilation, ndim):
    return dilation if isinstance(dilation, tuple | list) else (dilation,) * ndim


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


def adaptive_windows(shape, output):
    """For each (n, c, i, j) of the result the pixels that its window reads, row by row."""
    spans = [
        [
            range(math.floor(Fraction(o * n, m)), math.ceil(Fraction((o + 1) * n, m)))
            for o in range(m)
        ]
        for n, m in zip(shape[2:], output, strict=True)
    ]
    return {
        (n, c, *position): [
            (n, c, *pixel)
            for pixel in itertools.product(*(s[o] for s, o in zip(spans, position, strict=True)))
        ]
        for n, c, *position in np.ndindex(*shape[:2], *output)
    }


def adaptive_avg_pool2d(x, output):
    """The mean of each window."""
    y = np.zeros((*x.shape[:2], *output))
    for index, pixels in adaptive_windows(x.shape, output).items():
        y[index] = math.fsum(x[p] for p in pixels) / len(pixels)
    return y


def adaptive_avg_pool2d_gradient(dy, shape):
    """Each pixel of a window gets an equal share."""
    dx = np.zeros(shape)
    for index, pixels in adaptive_windows(shape, dy.shape[2:]).items():
        for pixel in pixels:
            dx[pixel] += dy[index] / len(pixels)
    return dx


def adaptive_max_pool2d(x, output):
    """y, and which pixel each window takes: its first NaN, else the first of the largest."""
    y, chosen = np.zeros((*x.shape[:2], *output)), {}
    for index, pixels in adaptive_windows(x.shape, output).items():
        nans = [p for p in pixels if math.isnan(x[p])]
        chosen[index] = nans[0] if nans else max(pixels, key=lambda p: x[p])  # max: the first
        y[index] = x[chosen[index]]
    return y, chosen


# -- resampling ----------------------------------------------------------------------------


def interpolation_matrix(size, output, mode, align_corners=False, factor=None):
    """(output, size): how much of each pixel of an axis every new one takes.

    Nearest in exact arithmetic; bilinear by the tent 1 - |distance|, within the image.
    """
    scale = 1 / Fraction(factor) if factor else Fraction(size, output)
    matrix = np.zeros((output, size))
    for o in range(output):
        if mode == "nearest":
            matrix[o, min(math.floor(o * scale), size - 1)] = 1
            continue
        at = (o + Fraction(1, 2)) * scale - Fraction(1, 2)
        if align_corners:
            at = Fraction(o * (size - 1), output - 1) if output > 1 else Fraction(0)
        at = min(max(at, 0), size - 1)
        for i in range(size):
            matrix[o, i] = max(0, 1 - abs(at - i))
    return matrix


def interpolate(x, output, mode, align_corners=False, factors=(None, None)):
    """y and a function from dy to dx."""
    rows, columns = (
        interpolation_matrix(n, m, mode, align_corners, f)
        for n, m, f in zip(x.shape[2:], output, factors, strict=True)
    )
    y = np.einsum("ncij,oi,pj->ncop", np.float64(x), rows, columns)
    return y, lambda dy: np.einsum("ncop,oi,pj->ncij", np.float64(dy), rows, columns)


def pixel_shuffle(x, r):
    """y[n, c, h*r + i, w*r + j] = x[n, c*r² + i*r + j, h, w], one number after the other."""
    n, channels, height, width = x.shape
    y = np.zeros((n, channels // r**2, height * r, width * r), x.dtype)
    for image, c, row, column in np.ndindex(y.shape):
        source = c * r**2 + (row % r) * r + column % r
        y[image, c, row, column] = x[image, source, row // r, column // r]
    return y


# -- normalisation -------------------------------------------------------------------------


def batch_groups(shape):
    """An index per channel: all of it, over the batch and all pixels."""
    return [(slice(None), channel) for channel in range(shape[1])]


def channel_groups(shape, count):
    """An index per example and group of channels."""
    width = shape[1] // count
    return [
        (example, slice(group * width, (group + 1) * width))
        for example in range(shape[0])
        for group in range(count)
    ]


def layer_groups(shape, axes):
    """An index per part of the last ``axes`` axes."""
    return list(np.ndindex(*shape[: len(shape) - axes]))


def normalized(x, groups, eps):
    """(x - mean) / sqrt(var + eps) of each group."""
    y = np.full(x.shape, np.nan)
    for group in groups:
        mean, deviation = _moments(x[group], eps)
        y[group] = (np.float64(x[group]) - mean) / deviation
    return y


def _moments(values, eps):
    numbers = [float(v) for v in np.ravel(values)]
    mean = math.fsum(numbers) / len(numbers)
    var = math.fsum((v - mean) ** 2 for v in numbers) / len(numbers)
    return mean, math.sqrt(var + eps)


def normalized_gradient(dy, x, groups, eps):
    """dx[j] = sum over i of dy[i] * dy[i]/dx[j], the whole Jacobian of each group."""
    dx = np.full(x.shape, np.nan)
    for group in groups:
        values, slopes = np.ravel(np.float64(x[group])), np.ravel(np.float64(dy[group]))
        mean, deviation = _moments(values, eps)
        count, jacobian = len(values), np.zeros((len(values), len(values)))
        for i, j in np.ndindex(count, count):
            of_mean = (i == j) - 1 / count
            of_deviation = (values[j] - mean) / (count * deviation)
            jacobian[i, j] = of_mean / deviation - (
                (values[i] - mean) * of_deviation / deviation**2
            )
        dx[group] = (slopes @ jacobian).reshape(np.shape(dx[group]))
    return dx


def summed_to(terms, shape):
    """``terms`` added over the axes that a weight of ``shape`` is repeated along."""
    total = np.zeros(shape)
    offset = terms.ndim - len(shape)
    for index in np.ndindex(terms.shape):
        place = tuple(i if n > 1 else 0 for i, n in zip(index[offset:], shape, strict=True))
        total[place] += terms[index]
    return total


def local_response_norm(x, size, alpha, beta, k):
    """x / (k + alpha / size * the squares of the neighbouring channels)^beta."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        n, c, *pixel = index
        first = c - size // 2
        squares = sum(
            float(x[(n, j, *pixel)]) ** 2 for j in range(first, first + size) if 0 <= j < x.shape[1]
        )
        y[index] = x[index] / (k + alpha / size * squares) ** beta
    return y


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


def class_cross_entropy(x, target, ignore_index=-100):
    """Of each column of (C, M): log(sum(exp(x))) - x[target], NaN where the class does not exist,
    and softmax(x) - onehot(target); both 0 where the target is ``ignore_index``.
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
            if wanted == ignore_index:
                terms[column], slope[:, column] = 0, 0
        return np.float64(terms), np.float64(slope)


def weighted_classes(x, target, weight=None, ignore_index=-100, smoothing=0.0, logits=True):
    """Terms (N, ...), their slopes (N, C, ...), and what the mean divides by.

    ``logits`` False: x are log-probabilities already.
    """
    classes = x.shape[1]
    weight = np.ones(classes) if weight is None else np.float64(weight)
    log_p = log_softmax(x, 1) if logits else np.float64(x)
    terms, slopes, total = np.zeros(target.shape), np.zeros(x.shape), 0.0
    for index in np.ndindex(target.shape):
        n, *pixel = index
        if target[index] == ignore_index:
            continue
        total += weight[target[index]]
        for c in range(classes):
            hit = float(c == target[index])
            q = weight[c] * ((1 - smoothing) * hit + smoothing / classes)
            if not logits:
                q = weight[c] * hit
            terms[index] -= q * log_p[(n, c, *pixel)]
            slopes[(n, c, *pixel)] -= q
            if logits:
                for other in range(classes):
                    slopes[(n, other, *pixel)] += q * math.exp(log_p[(n, other, *pixel)])
    return terms, slopes, total


def huber(difference, delta):
    """Term and slope of one difference: a parabola near 0, straight lines beyond delta."""
    if abs(difference) < delta:
        return difference**2 / 2, difference
    return delta * (abs(difference) - delta / 2), math.copysign(delta, difference)


def kl_divergence(log_q, p):
    """p * log(p / q), 0 where p is 0."""
    terms = np.zeros(np.shape(p))
    for index in np.ndindex(terms.shape):
        if p[index] > 0:
            terms[index] = p[index] * (math.log(p[index]) - log_q[index])
    return terms


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


def sgd(p, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0, dampening=0.0):
    """The parameter after one step per gradient. Velocity starts at 0."""
    velocity = 0.0
    for t, grad in enumerate(grads):
        keep = 1 - dampening if t and momentum else 1.0
        pull = keep * weight_decay
        p, velocity = sgd_step(p, keep * grad, velocity, lr, momentum, nesterov, pull)
    return p


def sgd_step(p, grad, velocity, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """The parameter and the velocity after one step."""
    g = grad + weight_decay * p
    velocity = momentum * velocity + g
    return p - lr * (g + momentum * velocity if nesterov else velocity), velocity


def lars(p, grads, lr, momentum=0.9, weight_decay=0.0, nesterov=False, trust_coefficient=1e-3):
    """The parameter after one step per gradient (arXiv:1708.03888, rate outside momentum)."""
    velocity = 0.0
    for grad in grads:
        size, slope = np.linalg.norm(p), np.linalg.norm(grad)
        ratio = trust_coefficient * size / (slope + weight_decay * size + 1e-8)
        g = ratio * (grad + weight_decay * p)
        p, velocity = sgd_step(p, g, velocity, lr, momentum, nesterov)
    return p


def lion(p, grads, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    """The parameter after one step per gradient (algorithm 2 of arXiv:2302.06675)."""
    m = np.zeros_like(p)
    for grad in grads:
        p = p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * grad) + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * grad
    return p


def adam(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    """The parameter after one step per gradient (algorithm 1 of arXiv:1412.6980)."""
    m = v = 0.0
    for t, grad in enumerate(grads, start=1):
        p, m, v = adam_step(p, grad, m, v, t, lr, betas, eps, weight_decay, decoupled)
    return p


def adam_step(
    p, grad, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False
):
    """The parameter and the two running means after step number ``t``, from 1."""
    g = grad if decoupled else grad + weight_decay * p
    p = p - lr * weight_decay * p if decoupled else p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    corrected = v / (1 - betas[1] ** t)
    return p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(corrected) + eps), m, v


def rmsprop(p, grads, lr, **settings):
    """The parameter after one step per gradient."""
    state = (0.0, 0.0, 0.0)
    for grad in grads:
        p, *state = rmsprop_step(p, grad, *state, lr, **settings)
    return p


def rmsprop_step(
    p, grad, s, m, v, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False
):
    """The parameter, the running means of g² and g, and the velocity after one step."""
    g = grad + weight_decay * p
    s = alpha * s + (1 - alpha) * g**2
    m = alpha * m + (1 - alpha) * g
    v = momentum * v + g / (np.sqrt(s - m**2 if centered else s) + eps)
    return p - lr * v, s, m, v


def adagrad(p, grads, lr, initial_accumulator_value=0.0, **settings):
    """The parameter after one step per gradient (Duchi et al. 2011)."""
    total = initial_accumulator_value
    for t, grad in enumerate(grads, start=1):
        p, total = adagrad_step(p, grad, total, t, lr, **settings)
    return p


def adagrad_step(p, grad, total, t, lr, lr_decay=0.0, weight_decay=0.0, eps=1e-10):
    """The parameter and the sum of g² after step number ``t``, from 1."""
    g = grad + weight_decay * p
    total = total + g**2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(total) + eps), total


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


# -- losses of regions, sequences and pairs ------------------------------------------------


def tversky_terms(p, truth, alpha, beta, smooth):
    """(N, C) of probabilities and truths (N, C, P), pixel by pixel; a truth of NaN is ignored."""
    terms = np.empty(p.shape[:2])
    for n, c in np.ndindex(*terms.shape):
        hits = false_positives = false_negatives = 0.0
        for q, t in zip(p[n, c], truth[n, c], strict=True):
            if not np.isnan(t):
                hits += q * t
                false_positives += q * (1 - t)
                false_negatives += (1 - q) * t
        whole = hits + alpha * false_positives + beta * false_negatives + smooth
        terms[n, c] = 1 - (hits + smooth) / whole
    return terms


def lovasz_extension(errors, truth):
    """Of the Jaccard loss, as its definition: the sum over the sorted errors of the increments.

    The loss of a set of mispredicted pixels M is |M| / |truth ∪ M| (Berman et al. 2018, eq. 6, 8).
    """

    def jaccard(wrong):
        union = truth | wrong
        return wrong.sum() / union.sum() if union.any() else 0.0

    wrong, total = np.zeros(truth.shape, bool), 0.0
    for i in np.argsort(-errors):
        before = jaccard(wrong)
        wrong[i] = True
        total += errors[i] * (jaccard(wrong) - before)
    return total


def ctc(log_probs, target, blank):
    """-log of the summed probability of every path (T,) that collapses to the target."""
    steps, classes = log_probs.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        merged = [c for c, _ in itertools.groupby(path) if c != blank]
        if merged == list(target):
            total += np.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
    return -np.log(total) if total else np.inf


# -- windows and grids -----------------------------------------------------------------------


def _columns(shape, kernel, dilation, padding, stride):
    """Yield (row, column, pixel) of the elements of all windows that are not padding."""
    size, (kh, kw) = shape[2:], both(kernel)
    geometry = list(zip(size, (kh, kw), both(dilation), both(padding), both(stride), strict=True))
    outputs = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in geometry]
    for channel, i, j, top, left in np.ndindex(shape[1], kh, kw, *outputs):
        place = [
            o * s - p + e * d
            for o, e, (_, _, d, p, s) in zip((top, left), (i, j), geometry, strict=True)
        ]
        inside = all(0 <= at < n for at, n in zip(place, size, strict=True))
        row, column = (channel * kh + i) * kw + j, top * outputs[1] + left
        yield row, column, (slice(None), channel, *place) if inside else None


def unfold(x, *settings):
    """Each element of each window, one after the other."""
    places = list(_columns(x.shape, *settings))
    y = np.zeros((len(x), 1 + max(p[0] for p in places), 1 + max(p[1] for p in places)))
    for row, column, pixel in places:
        if pixel is not None:
            y[:, row, column] = x[pixel]
    return y


def fold(columns, shape, *settings):
    """Each element of each window, added to its pixel."""
    x = np.zeros(shape)
    for row, column, pixel in _columns(shape, *settings):
        if pixel is not None:
            x[pixel] += columns[:, row, column]
    return x


def grid_sample(x, grid, mode, padding, corners):
    """Each pixel by the product of a kernel along the axes, over a window of the infinite image."""
    kernel = {"bilinear": lambda t: max(0, 1 - abs(t)), "bicubic": _keys}.get(mode)
    sizes = x.shape[2:]
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, *place in np.ndindex(grid.shape[:-1]):
        at = [
            (g + 1) / 2 * (size - 1) if corners else ((g + 1) * size - 1) / 2
            for g, size in zip(grid[(n, *place)][::-1], sizes, strict=True)
        ]
        if mode != "bicubic":
            at = [_sampled(a, size, padding, corners) for a, size in zip(at, sizes, strict=True)]
        near = [np.arange(np.floor(a) - 2, np.floor(a) + 4) for a in at]
        if mode == "nearest":
            near, kernel = [[np.rint(a)] for a in at], lambda t: 1
        for pixel in itertools.product(*near):
            weight = math.prod(kernel(a - p) for a, p in zip(at, pixel, strict=True))
            read = [_sampled(p, s, padding, corners) for p, s in zip(pixel, sizes, strict=True)]
            if all(0 <= r < s for r, s in zip(read, sizes, strict=True)):
                y[(n, slice(None), *place)] += weight * x[(n, slice(None), *map(int, read))]
    return y


def _sampled(position, size, padding, corners):
    """Where a position is read: mirrored until it is inside, then moved to a pixel."""
    low, high = (0, size - 1) if corners else (-0.5, size - 0.5)
    while padding == "reflection" and not low <= position <= high:
        position = 2 * (low if position < low else high) - position
        if low == high:
            position = low
    return position if padding == "zeros" else min(max(position, 0), size - 1)


def _keys(t, a=-0.75):
    """Keys' cubic kernel."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0
