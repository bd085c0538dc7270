"""Collective calls through the store, for the few values that processes without MPI exchange."""

from __future__ import annotations

import base64
from typing import Any

from ..arrays import Array
from ..backends import get
from ..communicator import Communicator, Work
from .store import Store
from .values import decode, encode

_PIECE = 2**22  # characters of one value in the store
_host = get("cpu").xp


class StoreCommunicator(Communicator):
    """Host arrays and other values, through rank 0: the host communicator of NCCL without MPI.

    Parameters
    ----------
    store
        The store that all processes use.
    local_rank, local_size
        The number of this process, and how many there are, on this machine.
    """

    engine = "tcp"

    def __init__(self, store: Store, local_rank: int = 0, local_size: int = 1) -> None:
        self._store, self.rank, self.size = store, store.rank, store.size
        self.local_rank, self.local_size = local_rank, local_size
        self._turn = 0

    def start_all_reduce(self, array: Array) -> Work:
        # float16 is rounded once
        wide = "float32" if array.dtype == "float16" else array.dtype
        with get("cpu").quiet_overflow():
            array[...] = _host.sum(self.gather(array), axis=0, dtype=wide)
        return Work()

    def broadcast(self, array: Array, root: int = 0) -> None:
        array[...] = self.share(array, root)

    def gather(self, value: Any) -> list[Any]:
        return self._exchange(value, range(self.size))

    def share(self, value: Any, root: int = 0) -> Any:
        return self._exchange(value, [root])[0]

    def barrier(self) -> None:
        self._store.barrier()

    def _exchange(self, value: Any, ranks: Any) -> list[Any]:
        """The values of ``ranks``, whose keys serve again after another barrier."""
        self._turn = 1 - self._turn
        if self.rank in ranks:
            text = base64.b64encode(encode(value)).decode()
            pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)]
            for i, piece in enumerate(pieces):
                self._store.put(self._key(self.rank, i), piece)
            self._store.put(self._key(self.rank, "pieces"), str(len(pieces)))
        self._store.barrier()
        return [self._read(rank) for rank in ranks]

    def _read(self, rank: int) -> Any:
        count = int(self._store.get(self._key(rank, "pieces")))
        pieces = [self._store.get(self._key(rank, i)) for i in range(count)]
        return decode(base64.b64decode("".join(pieces)))

    def _key(self, rank: int, piece: Any) -> str:
        return f"value.{self._turn}.{rank}.{piece}"
