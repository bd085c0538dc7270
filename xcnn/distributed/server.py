"""The key-value store itself: a program that rank 0 starts, which ends with the last rank.

A process of its own: Python threads of rank 0 do not run while it is in ``MPI_Init``, which needs
the store. Only the standard library is imported, so that it starts at once.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections import defaultdict
from contextlib import suppress

LONGEST = 2**24  # characters of a line
INTRODUCTION = 10.0  # seconds in which a new connection must say which rank it is


_NO_PROTOCOL = (
    *(OSError, ValueError, KeyError),
    *(asyncio.IncompleteReadError, asyncio.LimitOverrunError),
)


class Server:
    """The values, and who waits for what; it ends when all ranks have left."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._name = (
            f"xcnn-{secrets.token_hex(8)}"  # MPICH's name for memory that its processes share
        )
        self._values: dict[str, str] = {}
        self._waiting: dict[str, list[asyncio.StreamWriter]] = defaultdict(list)
        self._barriers: dict[str, list[asyncio.StreamWriter]] = defaultdict(list)
        self._clients: dict[int, asyncio.StreamWriter] = {}  # of our own, by rank
        self._open = 0  # connections
        self._is_over = False
        self._came, self._left = asyncio.Event(), asyncio.Event()

    async def serve(self, listener: socket.socket, timeout: float) -> None:
        """Answer until all ranks have left, or if none comes within ``timeout``."""
        server = await asyncio.start_server(self._talk, sock=listener, limit=LONGEST)
        async with server:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), timeout)
                await self._left.wait()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection; one that does not speak the protocol is closed."""
        rank, is_ours, is_known, said_goodbye = -1, False, False, False
        with suppress(*_NO_PROTOCOL):
            while line := await asyncio.wait_for(
                reader.readuntil(), None if is_known else INTRODUCTION
            ):
                request = parse(line)
                command = request["cmd"]
                if not is_known:
                    rank = int(request["pmiid"])
                    is_known = command == "initack" and 0 <= rank < self.size
                    is_ours = is_known and "client" in request
                    if not is_known or (is_ours and rank in self._clients):
                        is_known = is_ours = False
                        break
                    if is_ours:
                        self._clients[rank] = writer
                    self._open += 1
                    self._came.set()
                elif command == "abort":
                    self._abort(int(request.get("exitcode", "1")))
                said_goodbye |= command == "leave"
                self._answer(command, request, rank, writer)
                await writer.drain()
        writer.close()
        if is_ours and not said_goodbye and not self._is_over:
            text = f"xcnn: rank {rank} of {self.size} was killed or has crashed; all ranks end\n"
            os.write(2, text.encode())
            self._abort(1)
        if is_known:
            self._open -= 1
            if not self._open:
                self._left.set()

    def _answer(
        self, command: str, request: dict[str, str], rank: int, writer: asyncio.StreamWriter
    ) -> None:
        to = [writer]
        if command == "initack" and "client" not in request:
            reply = f"initack rc=0\ncmd=set size={self.size}\ncmd=set rank={rank}\ncmd=set debug=0"
        elif command == "put":
            key, value = request["key"], request["value"]
            self._values[key] = value
            _send(self._waiting.pop(key, []), f"get_result rc=0 msg=success value={value}")
            reply = "put_result rc=0 msg=success"
        elif command == "get":
            known = self._values.get(request["key"])
            if known is None and "wait" in request:
                self._waiting[request["key"]].append(writer)
                return
            reply = "get_result rc=-1 msg=key_not_found value=unknown"
            if known is not None:
                reply = f"get_result rc=0 msg=success value={known}"
        elif command == "remove":
            self._values.pop(request["key"], None)
            reply = "remove_result rc=0"
        elif command in ("barrier_in", "leave"):
            group = f"{command} {request.get('client', 'mpi')}"
            self._barriers[group].append(writer)
            if len(self._barriers[group]) < self.size:
                return
            to = self._barriers.pop(group)
            reply = "barrier_out rc=0"  # leaving is the last barrier
        else:
            reply = _ANSWERS[command].format(size=self.size, name=self._name)
        _send(to, reply)

    def _abort(self, status: int) -> None:
        """End all processes."""
        self._is_over = True
        _send([*self._clients.values()], f"abort exitcode={status}")


#: requests of MPICH with the same answer for everyone
_ANSWERS = {
    "initack": "initack rc=0",
    "init": "response_to_init rc=0 pmi_version=1 pmi_subversion=1",
    "get_maxes": "maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024",
    "get_appnum": "appnum rc=0 appnum=0",
    "get_my_kvsname": "my_kvsname rc=0 kvsname={name}",
    "get_universe_size": "universe_size rc=0 size={size}",
    "finalize": "finalize_ack rc=0",
}


def _send(writers: list[asyncio.StreamWriter], reply: str) -> None:
    for writer in writers:
        writer.write(f"cmd={reply}\n".encode())


def parse(line: bytes) -> dict[str, str]:
    """The pairs of a line; a value that may contain spaces comes last."""
    first, has_value, value = line.decode().rstrip("\n").partition(" value=")
    pairs: dict[str, str] = dict(pair.split("=", 1) for pair in first.split(" ") if "=" in pair)
    return pairs | ({"value": value} if has_value else {})


if __name__ == "__main__":  # server.py FILE-DESCRIPTOR SIZE TIMEOUT
    _size, _timeout = int(sys.argv[2]), float(sys.argv[3])

    async def _main() -> None:
        await Server(_size).serve(socket.socket(fileno=int(sys.argv[1])), _timeout)

        os._exit(0)  # MPI keeps its connections open until its processes end

    asyncio.run(_main())
