"""What holds for a module during a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..autograd import no_grad
from ..tensor import Tensor
from .module import Module

Array = Any


@contextmanager
def record_activations(module: Module) -> Iterator[dict[str, Array]]:
    """Keep what every module inside ``module`` returns during the ``with`` block.

    Yields
    ------
    dict
        Dotted path to array, in the order of the calls; "" is ``module`` itself. A module that
        is called again overwrites its entry.

    Examples
    --------
    >>> with nn.record_activations(model) as activations:
    ...     model(x)
    >>> activations["conv1"].shape
    """
    activations: dict[str, Array] = {}

    def keep(path: str) -> Callable[[Module, tuple, Any], None]:
        def hook(module: Module, inputs: tuple, output: Any) -> None:
            if isinstance(output, Tensor):
                activations[path] = output.data

        return hook

    with hooked((m, keep(path)) for path, m in module.named_modules()):
        yield activations


@contextmanager
def hooked(hooks: Iterable[tuple[Module, Callable[[Module, tuple, Any], Any]]]) -> Iterator[None]:
    """Call each hook after the forward of its module, during the ``with`` block."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Evaluation mode and no gradients; afterwards each inner module's mode is as before."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with no_grad():
            yield
    finally:
        for inner, mode in modes:
            inner.training = mode
