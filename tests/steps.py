"""One optimiser step on lists of arrays, through ``Optimizer.update``."""

from xcnn import Tensor, optim


def _step(optimizer, backend, params, grads, state, step, scaler):
    with backend.active():
        optimizer.update(backend, params, grads, state, step, scaler)


def _tensors(params):
    return [Tensor(p) for p in params] or [Tensor([0.0])]  # an optimiser needs a parameter


def sgd_step(backend, params, grads, velocities, *, scaler=None, **settings):
    optimizer = optim.SGD(_tensors(params), **settings)
    _step(optimizer, backend, params, grads, {"velocity": velocities}, 1, scaler)


def adam_step(
    backend,
    params,
    grads,
    means,
    squares,
    *,
    step,
    beta1,
    beta2,
    decoupled=False,
    scaler=None,
    **settings,
):
    kind = optim.AdamW if decoupled else optim.Adam
    optimizer = kind(_tensors(params), betas=(beta1, beta2), **settings)
    _step(optimizer, backend, params, grads, {"mean": means, "square": squares}, step, scaler)


def rmsprop_step(
    backend, params, grads, squares, means, velocities, *, momentum, scaler=None, **settings
):
    kinds = {"centered": bool(means), "momentum": momentum}
    optimizer = optim.RMSprop(_tensors(params), **kinds, **settings)
    state = {"square": squares, "mean": means, "velocity": velocities}
    _step(optimizer, backend, params, grads, state, 1, scaler)


def adagrad_step(backend, params, grads, sums, *, step, scaler=None, **settings):
    optimizer = optim.Adagrad(_tensors(params), **settings)
    _step(optimizer, backend, params, grads, {"sum": sums}, step, scaler)
