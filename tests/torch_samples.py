"""PyTorch's own samples of its operators, layers, optimisers and schedules, run by xcnn.

``python -m tests.torch_samples --match max_pool --verbose`` runs what has ``max_pool`` in its name
and prints each sample that does not agree; ``--write`` runs all and writes docs/pytorch.md.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import pathlib
import random
import re
import sys
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import xcnn
import xcnn.functional as F
from xcnn import Tensor
from xcnn.errors import XcnnError

from .torch_scope import (
    LAYERS,
    NO_VALUES,
    OPERATORS,
    OPTIMISERS,
    OUT_OF_SCOPE,
    OWN,
    REFUSED,
    ROUNDING,
    SCHEDULES,
    TIES,
    WITH_INTEGERS,
)

ROOT = pathlib.Path(__file__).parent.parent
REPORT = ROOT / "docs" / "pytorch.md"
LIMIT = 60  # samples of an operator per dtype and variant, spread evenly
RANDOM_LIMIT = 6
DRAWS = 400  # of a random operator, whose mean is compared
SLOW = 2.0  # seconds
KINDS = ("agree", "refused", "missing", "differ", "unclear", "slow", "left out")
#: (relative, absolute), the latter times the largest number; float64: PyTorch's own
TOLERANCES = {"float32": (1e-4, 2e-5), "float64": (1e-7, 1e-7)}
#: arguments that mean nothing to xcnn, left out with their samples unless at their default
MEANINGLESS = {
    *("capturable", "differentiable", "foreach", "fused"),
    *("generator", "layout", "memory_format", "out", "pin_memory"),
}
_DEFAULTS = {"None", "False", "torch.strided", "torch.preserve_format", "torch.contiguous_format"}
_MISSING = re.compile(
    r"unexpected keyword argument|positional argument"
    r"|(xcnn\S*|Tensor|Parameter)'? (object )?has no attribute"
)


class Outcome(NamedTuple):
    """What became of one sample; ``kind`` is one of ``KINDS``."""

    kind: str
    text: str = ""


class LeftOut(Exception):
    """A sample that cannot be put to xcnn."""


class Differ(Exception):
    """A result is not PyTorch's."""


# -- one sample ----------------------------------------------------------------------------


def outcome(call: Callable[[], None]) -> Outcome:
    """Run xcnn's side of a sample; any warning is an error."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call()
    except Differ as error:
        return Outcome("differ", str(error))
    except LeftOut as error:
        return Outcome("left out", str(error))
    except XcnnError as error:
        return Outcome("refused", str(error))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        is_missing = isinstance(error, TypeError | AttributeError) and _MISSING.search(text)
        return Outcome("missing" if is_missing else "unclear", text)
    seconds = time.perf_counter() - start
    return Outcome("slow", f"{seconds:.1f} s") if seconds > SLOW else Outcome("agree")


def convert(value: Any, leaves: list) -> Any:
    """PyTorch's arguments as xcnn's; ``leaves`` collects (own, PyTorch's) tensors."""
    import torch

    if isinstance(value, torch.Tensor):
        for own, peer in leaves:
            if peer is value:
                return own
        if value.layout != torch.strided or value.dtype in (torch.bfloat16, torch.float16):
            raise LeftOut(f"{value.layout} {value.dtype}")
        if value.is_complex():
            raise LeftOut("complex numbers")
        own = Tensor(np.array(value.detach().numpy(), order="K"), value.requires_grad)
        leaves.append((own, value))
        return own
    if isinstance(value, torch.layout | torch.memory_format | torch.Generator | complex):
        raise LeftOut(f"a {type(value).__name__}")
    if isinstance(value, torch.dtype):
        if value.is_complex or value == torch.bfloat16:
            raise LeftOut(str(value))
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.nn.Module):
        if repr(value) != f"{type(value).__name__}()":
            raise LeftOut(f"{value}")
        return getattr(xcnn.nn, type(value).__name__)()
    if isinstance(value, types.FunctionType):
        of_tests = value.__module__.startswith("torch.testing")
        return _bound(value, _OwnTorch()) if of_tests else find(value.__name__)
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, dict):
        for name in MEANINGLESS & value.keys():
            if str(value[name]) not in _DEFAULTS:
                raise LeftOut(f"{name}={value[name]}")
        kept = {name: item for name, item in value.items() if name not in MEANINGLESS}
        return {name: convert(item, leaves) for name, item in kept.items()}
    if type(value) in (list, tuple):
        return type(value)(convert(item, leaves) for item in value)
    return value


def flatten(results: Any) -> list:
    """The tensors and numbers in nested results."""
    if isinstance(results, list | tuple):
        return [leaf for item in results for leaf in flatten(item)]
    return [results]


def compare(what: str, own: Any, peer: Any, values: bool = True, atol: float = 0) -> None:
    """Raise Differ unless a result has PyTorch's dtype, shape and values.

    ``atol`` is the absolute tolerance if it is more than that of the dtype.
    """
    import torch

    if not isinstance(peer, torch.Tensor):
        if own != peer and not (own != own and peer != peer):  # NaN is not NaN
            raise Differ(f"{what}: {own!r}, expected {peer!r}")
        return
    if own is None or not hasattr(own, "dtype"):
        raise Differ(f"{what}: {type(own).__name__}, expected a tensor {tuple(peer.shape)}")
    array, expected = np.asarray(getattr(own, "data", own)), peer.detach().numpy()
    if array.dtype != expected.dtype or array.shape != expected.shape:
        found, wanted = (f"{a.dtype.name} {a.shape}" for a in (array, expected))
        raise Differ(f"{what}: {found}, expected {wanted}")
    if not values:
        return
    rtol, least = TOLERANCES.get(array.dtype.name, (0, 0))
    with np.errstate(all="ignore"):
        finite = expected[np.isfinite(expected)]
        largest = max(1, np.abs(finite.astype("float64")).max(initial=0))
        close = np.isclose(array, expected, rtol, max(atol, least * largest), equal_nan=True)
    if not close.all():
        at = tuple(int(i) for i in np.argwhere(~close)[0])
        raise Differ(f"{what}{list(at)}: {array[at]!r}, expected {expected[at]!r}")


def compare_all(
    results: Any, peers: Any, leaves: list, values: bool = True, name: str = "", ties: int = -1
) -> None:
    """Raise Differ unless results, and gradients for random ones of the results, are PyTorch's.

    The values of result ``ties`` are not compared.
    """
    import torch

    results, peers, atol = flatten(results), flatten(peers), ROUNDING.get(name, 0)
    if len(results) != len(peers):
        raise Differ(f"{len(results)} results, expected {len(peers)}")
    for index, (own, peer) in enumerate(zip(results, peers, strict=True)):
        compare(f"result {index}", own, peer, values and index != ties, atol)
    inputs = [peer for _, peer in leaves if peer.requires_grad]
    roots = [
        (own, peer, torch.randn(peer.shape, dtype=peer.dtype))
        for own, peer in zip(results, peers, strict=True)
        if isinstance(peer, torch.Tensor) and peer.grad_fn is not None
    ]
    if not (values and inputs and roots):
        return
    _, outputs, slopes = zip(*roots, strict=True)
    try:
        gradients = torch.autograd.grad(outputs, inputs, slopes, allow_unused=True)
    except RuntimeError:  # PyTorch has no gradient either
        return
    for own, _, slope in roots:
        if own.requires_grad:
            own.backward(slope.numpy(), retain_graph=True)
    own_inputs = [own for own, peer in leaves if peer.requires_grad]
    for index, (own, gradient) in enumerate(zip(own_inputs, gradients, strict=True)):
        if gradient is not None and (own.grad is not None or gradient.count_nonzero()):
            compare(f"gradient {index}", own.grad, gradient, atol=atol)


def compare_draws(own: Callable[[], Any], peer: Callable[[], Any]) -> None:
    """Raise Differ unless the mean of many draws of a random operator is PyTorch's."""
    compare_all(own(), peer(), [], values=False)
    ours = np.array([flatten(own())[0].numpy() for _ in range(DRAWS)], "float64")
    theirs = np.array([flatten(peer())[0].detach().numpy() for _ in range(DRAWS)], "float64")
    deviation = np.maximum(ours.std(0), theirs.std(0))
    distance = np.abs(ours.mean(0) - theirs.mean(0))
    if not np.all(distance <= 1e-5 + 6 * deviation * (2 / DRAWS) ** 0.5):  # 6 standard errors
        raise Differ(f"mean of {DRAWS} draws: off by up to {distance.max():.3g}")


def peer_result(call: Callable[[], Any]) -> Any:
    """PyTorch's result; NotImplemented if it refuses the sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError):
            return NotImplemented


def describe(value: Any) -> str:
    """An argument in a few characters."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={describe(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return f"({', '.join(map(describe, value))})"
    return str(value)[:60]


# -- operators -----------------------------------------------------------------------------


class _OwnTorch:
    """``torch``, for PyTorch's lambdas around an operator, with xcnn's functions."""

    functional, Tensor = F, Tensor

    @property
    def nn(self) -> _OwnTorch:
        return self

    def __getattr__(self, name: str) -> Any:
        return find(name)


def find(name: str) -> Any:
    """xcnn's function of PyTorch's name, without ``torch.``."""
    if name.startswith("__") and name in dir(Tensor):  # not a method of its metaclass
        return getattr(Tensor, name)
    name = name.rpartition(".")[2]
    for place in (F, xcnn):
        if callable(getattr(place, name, None)):  # not a submodule
            return getattr(place, name)
    raise AttributeError(f"module 'xcnn' has no attribute {name!r}")


def _bound(function: Any, torch_module: Any) -> Callable:
    """One of PyTorch's lambdas around an operator, with another ``torch`` and no fixed seed."""
    names = {
        **function.__globals__,
        "torch": torch_module,
        "wrapper_set_seed": lambda op, *args, **kwargs: op(*args, **kwargs),
    }
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


class Operator(NamedTuple):
    """An operator of PyTorch: its function, xcnn's ways to call it, and its samples."""

    name: str
    peer: Callable
    owns: Sequence[Callable]
    samples: Callable[[Any], list]
    is_random: bool

    @classmethod
    def of(cls, info: Any, name: str, function: Any) -> Operator:
        """From an entry of PyTorch's database, or an alias of it."""
        import torch

        is_lambda = isinstance(function, types.FunctionType) and (
            function.__module__.startswith("torch.testing")
        )
        is_random = is_lambda and "wrapper_set_seed" in function.__code__.co_names
        is_random = is_random and name != "item"
        if is_lambda:
            peer, owns = _bound(function, torch), [_bound(function, _OwnTorch())]
        else:
            peer, owns = function, [lambda *a, **k: find(name)(*a, **k)]
            if not name.startswith("__") and hasattr(torch.Tensor, name):
                method = lambda x, *a, **k: getattr(x, name)(*a, **k)  # noqa: E731
                owns = [*(owns if hasattr(torch, name) else []), method]

        def samples(dtype: Any) -> list:
            if not info.supports_dtype(dtype, "cpu"):
                return []
            has_gradient = info.supports_autograd and dtype.is_floating_point
            with torch.no_grad():  # info.sample_inputs does the same, but inspects the stack
                return list(info.sample_inputs_func(info, "cpu", dtype, has_gradient))

        return cls(name, peer, owns, samples, is_random)

    def run(self, dtype: Any) -> Iterator[tuple[str, Outcome]]:
        """(description, outcome) of each sample that PyTorch accepts."""
        import torch

        _seed()
        limit = RANDOM_LIMIT if self.is_random else LIMIT
        for sample in spread(self.samples(dtype), limit):
            arguments = (sample.input, *sample.args)
            call = lambda: self.peer(*arguments, **sample.kwargs)  # noqa: B023, E731
            result = peer_result(call)
            if result is NotImplemented:
                continue
            text = f"{describe(arguments)} {describe(sample.kwargs)}"
            worst = Outcome("agree")
            for number, own in enumerate(self.owns):
                if number and not isinstance(sample.input, torch.Tensor):
                    continue  # has no methods
                found = outcome(lambda: self._check(own, arguments, sample.kwargs, result))  # noqa: B023
                worst = max(worst, found, key=lambda o: KINDS.index(o.kind))
            yield text, worst

    def _check(self, own: Callable, arguments: tuple, kwargs: dict, peer: Any) -> None:
        leaves: list = []
        args, settings = convert(arguments, leaves), convert(kwargs, leaves)
        draws = range(20 if self.is_random and self.name not in NO_VALUES else 0)
        draw = lambda: peer_result(lambda: self.peer(*arguments, **kwargs))  # noqa: E731
        if any(not _same(draw(), peer) for _ in draws):  # not p=0
            compare_draws(lambda: own(*args, **settings), draw)
        else:
            result = own(*args, **settings)
            if result is NotImplemented:
                raise TypeError(f"'Tensor' object has no attribute: {self.name} of these types")
            has_ties = self.name in TIES and not settings.get("stable") and _has_ties(arguments[0])
            ties = TIES[self.name] if has_ties else -1
            compare_all(result, peer, leaves, self.name not in NO_VALUES, self.name, ties)


def _same(one: Any, other: Any) -> bool:
    return all(a.equal(b) for a, b in zip(flatten(one), flatten(other), strict=True))


def _has_ties(tensor: Any) -> bool:
    return tensor.unique().numel() < tensor.numel()


def spread(samples: list, limit: int = LIMIT) -> list:
    """At most ``limit`` of the samples, evenly."""
    step = max(1, len(samples) / limit)
    return [samples[int(i * step)] for i in range(min(limit, len(samples)))]


def _seed() -> None:
    import torch

    torch.default_generator.manual_seed(0)  # torch.manual_seed is slow
    np.random.seed(0)
    random.seed(0)
    xcnn.manual_seed(0)


@functools.cache
def database() -> dict[str, list[tuple[Any, Any]]]:
    """(entry, function) of each name and alias in PyTorch's database of operators."""
    from torch.testing._internal.common_methods_invocations import op_db

    entries: dict[str, list] = {}
    for info in op_db:
        if info.variant_test_name != "in_place":
            entries.setdefault(info.name, []).append((info, info.op))
    for info in op_db:
        for alias in info.aliases:
            if alias.name not in {other.name for other in op_db}:
                entries.setdefault(alias.name, []).append((info, alias.op))
    return entries


def operators(name: str) -> Iterator[Operator]:
    """The entries of PyTorch's database for a name or an alias, or the samples of ``OWN``."""
    import torch
    from torch.testing._internal.opinfo.core import SampleInput

    for info, function in database().get(name, ()):
        yield Operator.of(info, name, function)
    if name in OWN:
        calls = OWN[name]

        def samples(dtype: Any) -> list:
            found = calls(torch, dtype)
            return [SampleInput(args[0], args=tuple(args[1:]), kwargs=k) for args, k in found]

        function = torch
        for part in name.split("."):
            function = getattr(function, part)
        is_random = any(word in name for word in ("rand", "dropout", "gumbel"))
        yield Operator(name, function, [lambda *a, **k: find(name)(*a, **k)], samples, is_random)
    elif name not in database():
        raise KeyError(f"PyTorch has no samples of {name!r}")


def run_operator(name: str, family: str) -> Iterator[tuple[str, Outcome]]:
    import torch

    for operator in operators(name):
        dtypes = [torch.float32, torch.float64]
        if family in WITH_INTEGERS or not operator.samples(torch.float32):
            dtypes += [torch.int64, torch.bool]
        for dtype in dtypes:
            yield from operator.run(dtype)


# -- layers --------------------------------------------------------------------------------


def run_layer(name: str, _: str) -> Iterator[tuple[str, Outcome]]:
    """Value, gradients of inputs and parameters, and state of a layer with PyTorch's weights."""
    import torch
    from torch.testing._internal.common_modules import FunctionInput, ModuleInput, module_db

    infos = {info.name.removeprefix("nn."): info for info in module_db}
    kind = getattr(torch.nn, name)
    for dtype, training in itertools.product((torch.float32, torch.float64), (True, False)):
        _seed()
        if name in LAYERS:
            inputs = [
                ModuleInput(FunctionInput(*args, **kwargs), FunctionInput(*call(torch, dtype)))
                for args, kwargs, call in LAYERS[name]
            ]
        else:
            info = infos[name]
            if not (training or info.train_and_eval_differ):
                continue
            inputs = info.module_inputs_func(
                info, device="cpu", dtype=dtype, requires_grad=True, training=training
            )
        for sample in spread(list(inputs)):
            constructor, forward = sample.constructor_input, sample.forward_input
            if forward is None:
                continue
            text = f"({describe(constructor.args)} {describe(constructor.kwargs)})"
            text += f"({describe(forward.args)} {describe(forward.kwargs)})"
            peer = peer_result(
                lambda: kind(*constructor.args, **constructor.kwargs).to(dtype).train(training)  # noqa: B023
            )
            if peer is not NotImplemented:
                before = {k: v.clone().numpy() for k, v in peer.state_dict().items()}
                result = peer_result(lambda: peer(*forward.args, **forward.kwargs))  # noqa: B023
                if result is not NotImplemented:
                    call = lambda: _check_layer(name, peer, before, sample, result)  # noqa: B023, E731
                    yield text, outcome(call)


def _check_layer(name: str, peer: Any, before: dict, sample: Any, result: Any) -> None:
    leaves: list = []
    arguments = sample.constructor_input
    args, kwargs = convert(arguments.args, leaves), convert(arguments.kwargs, leaves)
    leaves = []
    layer = getattr(xcnn.nn, name)(*args, **kwargs)
    if before.keys() != layer.state_dict().keys():
        raise Differ(f"state: {sorted(layer.state_dict())}, expected {sorted(before)}")
    dtype = next((str(a.dtype) for a in before.values() if a.dtype.kind == "f"), None)
    layer.to(dtype=dtype).load_state_dict(before)
    layer.train(peer.training)
    own = dict(layer.named_parameters())
    leaves += [(own[n], p) for n, p in peer.named_parameters()]
    forward = sample.forward_input
    inputs = convert(forward.args, leaves), convert(forward.kwargs, leaves)
    compare_all(layer(*inputs[0], **inputs[1]), result, leaves, name not in NO_VALUES, name)
    state = layer.state_dict()
    for key, value in peer.state_dict().items():
        compare(f"state {key}", state[key], value)


# -- optimisers and schedules ----------------------------------------------------------------


def run_optimiser(name: str, _: str) -> Iterator[tuple[str, Outcome]]:
    """Ten steps down a bowl, compared after each."""
    import torch
    from torch.testing._internal.common_optimizers import optim_db

    (info,) = (info for info in optim_db if info.optim_cls.__name__ == name)
    for dtype in (torch.float32, torch.float64):
        for sample in spread(info.optim_inputs_func(device="cpu")):
            if "params" not in sample.kwargs:
                call = lambda: _check_optimiser(info.optim_cls, sample.kwargs, dtype)  # noqa: B023, E731
                yield (
                    f"{str(dtype).removeprefix('torch.')} {describe(sample.kwargs)}",
                    outcome(call),
                )


def _check_optimiser(kind: Any, kwargs: dict, dtype: Any) -> None:
    import torch

    _seed()
    theirs = [torch.randn(shape, dtype=dtype).requires_grad_() for shape in ((4, 3), (5, 2))]
    slopes = [torch.randn(p.shape, dtype=dtype) for p in theirs]
    ours = [xcnn.Parameter(p.detach().numpy().copy()) for p in theirs]
    optimiser = getattr(xcnn.optim, kind.__name__)(ours, **convert(kwargs, []))
    peer = kind(theirs, **kwargs)

    def closure(steps: Any, params: list, slopes: list) -> Callable:
        def loss() -> Any:
            steps.zero_grad()
            terms = [(p * p + p * s).sum() for p, s in zip(params, slopes, strict=True)]
            loss = terms[0] + terms[1]
            loss.backward()
            return loss

        return loss

    own_loss = closure(optimiser, ours, [s.numpy() for s in slopes])
    peer_loss = closure(peer, theirs, slopes)
    for step in range(10):
        if kind is torch.optim.LBFGS:
            optimiser.step(own_loss)
            peer.step(peer_loss)
        else:
            own_loss(), peer_loss()
            optimiser.step()
            peer.step()
        for own, expected in zip(ours, theirs, strict=True):
            compare(f"step {step}", own, expected, atol=ROUNDING.get(kind.__name__, 0))


def run_schedule(name: str, _: str) -> Iterator[tuple[str, Outcome]]:
    """Learning rate, and momentum, of two groups over 30 steps."""
    for make in SCHEDULES[name]:
        settings = "" if callable(make) else describe(make)
        yield settings, outcome(lambda: _check_schedule(name, make))  # noqa: B023


def _check_schedule(name: str, make: Any) -> None:
    import torch

    def rates(optim: Any, schedules: Any, parameter: Callable) -> Iterator[list]:
        groups = [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.5}]
        optimiser = optim.SGD(groups, lr=0.05, momentum=0.9)
        is_call = callable(make)
        schedule = (
            make(schedules, optimiser) if is_call else getattr(schedules, name)(optimiser, **make)
        )
        for step in range(30):
            yield [(g["lr"], g["momentum"]) for g in optimiser.param_groups]
            optimiser.step()
            if name == "ReduceLROnPlateau":
                schedule.step(float(abs(12 - step)))  # falls, then rises
            else:
                schedule.step()

    ours = rates(xcnn.optim, xcnn.schedules, lambda: xcnn.Parameter(np.ones(2)))
    theirs = rates(torch.optim, torch.optim.lr_scheduler, lambda: torch.nn.Parameter(torch.ones(2)))
    for step, (own, peer) in enumerate(zip(ours, theirs, strict=True)):
        if not np.allclose(own, peer, rtol=1e-9, atol=1e-12):
            raise Differ(f"step {step}: (lr, momentum) {own}, expected {peer}")


# -- all of them, and the report -------------------------------------------------------------


def runners() -> Iterator[tuple[str, str, Callable]]:
    """(family, name, function that runs its samples) of everything in scope."""
    for family, names in OPERATORS.items():
        run = run_layer if family.startswith("nn:") else run_operator
        yield from ((family, name, run) for name in names.split())
    yield from (("optimisers", name, run_optimiser) for name in OPTIMISERS.split())
    yield from (("schedules", name, run_schedule) for name in SCHEDULES)


def shown(family: str, name: str) -> str:
    """A name as users write it."""
    return f"nn.{name}" if family.startswith("nn:") else name.replace("nn.functional.", "F.")


class Score(NamedTuple):
    """The outcomes of one operator, and the first text of each kind."""

    family: str
    name: str
    counts: Counter
    texts: dict[str, str]

    @property
    def shown(self) -> str:
        """The name in the report."""
        return shown(self.family, self.name)

    @property
    def samples(self) -> int:
        """Number of samples, without those left out."""
        return self.counts.total() - self.counts["left out"]


def scores(match: str = "", family: str = "", verbose: bool = False) -> Iterator[Score]:
    """Run everything whose name contains ``match``, of one family or of all."""
    for of, name, run in runners():
        if match in name and family in ("", of):
            counts: Counter = Counter()
            texts: dict[str, str] = {}
            for text, (kind, message) in run(name, of):
                counts[kind] += 1
                message = " ".join(message.split())[:200]
                texts.setdefault(kind, message)
                if verbose and kind != "agree":
                    print(f"  {name} {kind}: {text[:150]}: {message}", flush=True)
            yield Score(of, name, counts, texts)


def read_report() -> dict[str, int]:
    """Agreeing samples by name, from docs/pytorch.md."""
    text = REPORT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \| \d+ \| (\d+) \|", text, re.MULTILINE)
    rows += re.findall(r"`(\S+)` (\d+)\b", text)
    return {name: int(count) for name, count in rows}


def report(found: list[Score]) -> str:
    """The text of docs/pytorch.md."""
    import torch

    lines = [
        "# PyTorch's samples",
        "",
        f"The samples of PyTorch's own tests (`torch.testing._internal`, PyTorch "
        f"{torch.__version__.split('+')[0]}: `op_db`, `module_db`, `optim_db`), and some of our "
        "own where it has none (schedules, for example), run by xcnn "
        f"{xcnn.__version__} on the CPU with the same names and arguments. Generated by `python "
        "-m tests.torch_samples --write`; the test suite runs the same samples and fails if an "
        "operator agrees less often than here.",
        "",
        f"At most {LIMIT} samples of each operator, dtype and variant are taken, evenly, as "
        "float32, float64 and, where the operator has them, int64 and bool. `F.x` is "
        "`torch.nn.functional.x`; an operator that is a method of `torch.Tensor`, too, must agree "
        "both ways. A sample",
        "",
        "- **agrees** if dtype, shape and values of all results, and the gradients of all "
        "floating-point inputs and parameters for random ones of the results, are PyTorch's "
        f"(relative tolerance {TOLERANCES['float32'][0]:g} in float32, "
        f"{TOLERANCES['float64'][0]:g} in float64). Layers get PyTorch's state, which must have "
        "the same keys, and are compared in it afterwards. Of random operators, the mean of "
        f"{DRAWS} draws is compared; optimisers after each of ten steps; schedules over 30 steps;",
        "- is **refused** by an error of xcnn's that says what to do instead;",
        "- is **missing** if xcnn has no function, method or argument of the name;",
        "- **differs**, is **unclear** (another error, or a warning) or **slow** (more than "
        f"{SLOW:g} s): defects, of which the test suite allows none;",
        "- is **left out** of the count if it asks for what has no meaning here: complex, half or "
        "sparse tensors, `layout`, `memory_format`, `out`, `generator`, `fused`, `foreach`, "
        "`capturable`.",
        "",
        "Refused on purpose:",
        "",
        *REFUSED,
        "",
        f"| family | samples | share | {' | '.join(KINDS)} |",
        f"|---|---|---|{'---|' * len(KINDS)}",
    ]
    families = list(dict.fromkeys(score.family for score in found))
    lines += [_row(f, [s for s in found if s.family == f]) for f in families]
    lines += [_row("**all**", found), ""]
    lines += ["## By operator", "", "Those that agree in all samples, with their number.", ""]
    for family in families:
        lines += _family(family, [score for score in found if score.family == family])
    kinds = " | ".join(KINDS)
    lines += [
        "The others, with the first sample that does not agree:",
        "",
        f"| operator | samples | {kinds} | for example |",
        f"|---|---|{'---|' * len(KINDS)}---|",
        *(_partial(score) for score in found if _state(score) == "partial"),
        "",
        "## Out of scope",
        "",
        *(f"- {reason}" for reason in OUT_OF_SCOPE),
    ]
    return "\n".join([*lines, ""])


def _state(score: Score) -> str:
    if score.samples == score.counts["agree"]:
        return "full"
    return "absent" if score.samples == score.counts["missing"] else "partial"


def _family(family: str, found: list[Score]) -> list[str]:
    full = ", ".join(f"`{s.shown}` {s.samples}" for s in found if _state(s) == "full")
    absent = ", ".join(f"`{s.shown}`" for s in found if _state(s) == "absent")
    title = f"{family[0].upper()}{family[1:]}"
    return [f"- {title}: {full or 'none'}{f'; missing: {absent}' if absent else ''}"]


def _partial(score: Score) -> str:
    worst = max((kind for kind in score.texts if kind != "left out"), key=KINDS.index)
    text = re.sub(r"0x[0-9a-f]+", "", score.texts[worst]).replace("|", "/")[:160]
    counts = " | ".join(str(score.counts[kind]) for kind in KINDS)
    return f"| `{score.shown}` | {score.samples} | {counts} | {text} |"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="", help="run only what contains this in its name")
    parser.add_argument("--verbose", action="store_true", help="print all that does not agree")
    parser.add_argument("--write", action="store_true", help="write docs/pytorch.md")
    arguments = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)  # the samples are small
    found = []
    for score in scores(arguments.match, verbose=arguments.verbose):
        found.append(score)
        counts = ", ".join(f"{score.counts[k]} {k}" for k in KINDS if score.counts[k])
        print(f"{score.family} {score.name}: {counts}", flush=True)
        if not arguments.verbose:
            for kind in KINDS[1:-1]:
                if kind in score.texts:
                    print(f"    {kind}: {score.texts[kind]}")
    print(_row("all", found))
    if arguments.write and not arguments.match:
        REPORT.write_text(report(found), encoding="utf-8")
    return 1 if any(score.counts["differ"] + score.counts["unclear"] for score in found) else 0


def _row(title: str, found: list[Score]) -> str:
    total = sum((score.counts for score in found), Counter())
    samples = sum(score.samples for score in found)
    cells = " | ".join(f"{total[kind]:,}" for kind in KINDS)
    share = f"{total['agree'] / samples:.1%}" if samples else ""
    return f"| {title} | {samples:,} | {share} | {cells} |"


if __name__ == "__main__":
    sys.exit(main())
