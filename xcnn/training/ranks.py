"""What the processes of a distributed training have to agree on; with one process, nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import backends, fingerprint, random
from ..checks import check_choice
from ..communicator import SINGLE, Communicator, current, name_ranks, using
from ..data import DataLoader, arrays_of
from ..errors import ArgumentError, CommunicationError, DataError
from ..nn import Module
from ..optim import Optimizer
from ..tensor import Tensor
from . import batches
from .reducer import COMPRESSIONS, Reducer, broadcast
from .totals import Totals

_host = backends.get("cpu").xp
_SHOWN = 8  # ranks in an error message
_LONGEST = 80  # characters of a value in one
_ADDRESS = re.compile(" at 0x[0-9a-f]+")  # of an object, another one on each rank


class Ranks:
    """The ranks of a training.

    Parameters
    ----------
    distributed
        Whether there may be several: the communicator of ``xcnn.distributed.init``, or another one.
    compression
        Of gradients, see :class:`Reducer`.

    Attributes
    ----------
    communicator : Communicator
    size : int
        How many there are.
    is_main : bool
        Whether this is the one that writes and prints.
    """

    def __init__(self, distributed: bool | Communicator, compression: str | None = None) -> None:
        self.communicator = distributed if isinstance(distributed, Communicator) else SINGLE
        if distributed is True:
            self.communicator = current()
            if self.communicator is SINGLE:
                raise ArgumentError(
                    "distributed=True: call xcnn.distributed.init() first, which joins the "
                    "processes that mpiexec started"
                )
        elif not isinstance(distributed, bool | Communicator):
            raise ArgumentError(
                f"distributed is {type(distributed).__name__}: expected True, False or the "
                "communicator that xcnn.distributed.init() returned"
            )
        if compression is not None:
            check_choice("compression", compression, COMPRESSIONS)
        self.size = self.communicator.size
        self.is_main = self.communicator.is_main
        self.compression = compression
        self._reducer: Reducer | None = None
        self._reduced: list[int] = []

    @property
    def is_alone(self) -> bool:
        """Whether this process has none to talk to, at least now."""
        return self.communicator.size == 1

    # -- numbers and decisions ------------------------------------------------------------------

    def gathered(self, number: float) -> list[float]:
        """``number`` of each rank."""
        return [number] if self.is_alone else self.communicator.gather(number)

    def sums(self, *numbers: float) -> list[float]:
        """The sum over the ranks of each number."""
        if self.is_alone:
            return list(numbers)
        array = _host.asarray(numbers, "float64")
        self.communicator.all_reduce(array)
        return array.tolist()

    def any(self, condition: bool) -> bool:
        """Whether the condition holds on any rank."""
        return self.sums(condition)[0] > 0

    def from_main(self, function: Callable[[], Any]) -> Any:
        """What ``function`` returns on rank 0; its error there is raised on all ranks.

        Raises
        ------
        CommunicationError
            On the other ranks, for an error on rank 0.
        """
        found, error = None, None
        if self.is_main:
            try:
                found = function()
            except Exception as raised:
                error = raised
        found, text = self.communicator.share((found, error and f"{error}"))
        if error is not None:
            raise error
        if text is not None:
            raise CommunicationError(f"rank 0 failed: {text}")
        return found

    # -- data -----------------------------------------------------------------------------------

    def shard(self, loader: DataLoader) -> DataLoader:
        """A loader of this rank's part of each batch."""
        if self.is_alone:
            return loader
        if loader.batch_size < self.size:
            raise ArgumentError(
                f"batch_size={loader.batch_size} for {self.size} ranks: each batch is split among "
                f"the ranks; pass at least {self.size}"
            )
        return loader.shard(self.communicator.rank, self.size)

    @contextmanager
    def part(self, x: Any, y: Any) -> Iterator[int]:
        """A context for this rank's part of a batch; its value: target elements of all ranks."""
        count, elements = batches.count(x), arrays_of(y)[0].size
        if self.is_alone:
            with using(SINGLE):  # also beside a distributed training
                yield elements
            return
        counts = _host.zeros(self.size + 1)
        counts[self.communicator.rank], counts[-1] = count, elements
        self.communicator.all_reduce(counts)
        if not (counts[:-1] >= 0).all():
            raise DataError("some ranks have fewer batches than others: give all the same data")
        start = int(counts[: self.communicator.rank].sum())
        total = int(counts[:-1].sum())
        try:
            with using(self.communicator), random.shard(start, count, total):
                yield int(counts[-1])
        except Exception as error:
            if count == 0:
                error.add_note(
                    f"rank {self.communicator.rank} has none of the {total} examples of this "
                    "batch: model and loss are called with 0 examples, as in x.flatten(1)"
                )
            raise

    def end(self) -> None:
        """Tell the other ranks that this one has no more batches in this epoch.

        Raises
        ------
        DataError
            Others have.
        """
        if not self.is_alone:
            counts = _host.full(self.size + 1, -1.0)
            self.communicator.all_reduce(counts)
            if (counts != -self.size).any():
                raise DataError("some ranks have fewer batches than others: give all the same data")

    # -- the model ------------------------------------------------------------------------------

    def start(
        self,
        model: Module,
        loader: DataLoader,
        settings: Mapping[str, str] = {},
        validation: DataLoader | None = None,
    ) -> None:
        """Check that all ranks have the same data, and give all the weights of rank 0.

        Parameters
        ----------
        model
            Its parameters and buffers, and the state of the library's random generator, become
            those of rank 0.
        loader, validation
            The training data, and those of the validation.
        settings
            Descriptions of what must be alike, by name.

        Raises
        ------
        CommunicationError
            Data or settings differ.
        """
        if self.is_alone:
            return
        order = {k: v for k, v in loader.state_dict().items() if k not in ("epoch", "start")}
        own = {**settings, "data": fingerprint.of_data(loader.dataset)}
        own["settings of the loader"] = str(order)
        if validation is not None:
            own["validation data"] = fingerprint.of_data(validation.dataset)
        self._compare(own, "give all ranks the same data and settings")
        broadcast(self.communicator, [*model.parameters(), *model.buffers()])
        random.set_state(self.communicator.share(random.get_state()))

    def check_weights(self, model: Module) -> None:
        """Check that all ranks have the same weights and random state.

        Raises
        ------
        CommunicationError
            They differ.
        """
        if not self.is_alone:
            named = {f"weight {k}": p.data for k, p in model.named_parameters()}
            found = {name: fingerprint.of_arrays({name: a}) for name, a in named.items()}
            found["state of xcnn's random generator"] = str(random.get_state())
            advice = "something in the model, the loss or a callback is done on some ranks only"
            self._compare(found, advice)

    def _compare(self, own: dict[str, str], advice: str) -> None:
        own = {name: _ADDRESS.sub("", value) for name, value in own.items()}
        for name, ranks in fingerprint.differences(self.communicator.gather(own)):
            usual_first = sorted(ranks.items(), key=lambda item: (-len(item[1]), item[1]))
            found = "; ".join(f"{name_ranks(r, _SHOWN)}: {_short(v)}" for v, r in usual_first)
            raise CommunicationError(f"the ranks differ in the {name}: {found}: {advice}")

    def start_reduce(self, model: Module, optimizer: Optimizer) -> None:
        """Send gradients while the next backward goes on, the last one of a step."""
        if not self.is_alone:
            self._reducer_of(model, optimizer).start()

    def reduce(self, model: Module, optimizer: Optimizer) -> None:
        """Replace the gradients by their sums over the ranks."""
        if not self.is_alone:
            self._reducer_of(model, optimizer).finish()

    def _reducer_of(self, model: Module, optimizer: Optimizer) -> Reducer:
        """The reducer of the parameters that are trained now."""
        trained = [p for p in optimizer.params if p.requires_grad]
        if self._reducer is None or [*map(id, trained)] != self._reduced:
            self.close()
            self._reduced = [*map(id, trained)]
            order = {id(p): place for place, p in enumerate(model.parameters())}
            trained.sort(key=lambda p: order.get(id(p), len(order)))
            buffers = _statistics(model)
            self._reducer = Reducer(self.communicator, trained, buffers, self.compression)
        return self._reducer

    def total(self, divisor: Any, backend: backends.Backend) -> Any:
        """The sum of a number over the ranks; on the device if it is there."""
        if self.is_alone:
            return divisor
        if isinstance(divisor, int | float):
            return self.sums(divisor)[0]
        array = backend.xp.array(divisor, "float64").reshape(1)
        self.communicator.all_reduce(array)
        return array[0]

    def average(self, model: Module) -> None:
        """Replace the floating-point buffers by their means over the ranks."""
        if not self.is_alone:
            Reducer(self.communicator, [], _statistics(model)).finish()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A context in which rank 0 does something that the others do not."""
        communicator, state = self.communicator, random.get_state()
        self.communicator = SINGLE
        try:
            with using(SINGLE):
                yield
        finally:
            self.communicator = communicator
            random.set_state(state)

    def merged(self, totals: Totals) -> Totals:
        """The sums of all ranks."""
        return totals if self.is_alone else totals.merged(self.communicator)

    def states(self, totals: Totals) -> Any:
        """The states of all ranks, for :meth:`load`."""
        return totals.state_dict() if self.is_alone else totals.states(self.communicator)

    def load(self, totals: Totals, saved: Any, place: Callable[[Any], Any]) -> None:
        """Restore the states of as many ranks, bit for bit, or give rank 0 those of all."""
        states = saved if isinstance(saved, list) else [saved]
        if len(states) == (1 if self.is_alone else self.size):
            totals.load_state_dict(states[0 if self.is_alone else self.communicator.rank], place)
        elif self.is_main:
            totals.load_states(states)

    def close(self) -> None:
        """Forget the parameters."""
        if self._reducer is not None:
            self._reducer.close()
            self._reducer = None


def _statistics(model: Module) -> list[Tensor]:
    """The buffers that batches change differently on each rank, such as running means."""
    return [buffer for buffer in model.buffers() if buffer.dtype.kind == "f"]


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
