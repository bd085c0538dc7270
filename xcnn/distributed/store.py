"""Where processes meet: a small key-value store over TCP at an address of rank 0.

It speaks PMI-1, the protocol by which processes of MPICH find each other, so that they can start
without mpiexec (:meth:`Store.lend_to_mpi`), and our own client, :class:`Store`, speaks it too:
lines of ``name=value`` pairs, each request answered by one line. Two things are added: ``get`` that
waits for its key, and the line ``cmd=abort``, which the server sends to all when a connection
breaks before its process has said goodbye, as after ``kill -9``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from ..errors import ArgumentError, CommunicationError
from ..threads import start
from . import server


class Store:
    """A connection to the store of rank 0, which rank 0 also serves.

    Parameters
    ----------
    host, port
        Where rank 0 listens. Port 0 on rank 0 takes a free one: see ``port`` afterwards.
    rank, size
        Of this process.
    timeout
        Seconds to wait for rank 0, for a key, or for a barrier.

    Raises
    ------
    CommunicationError
        Rank 0 cannot be reached, or its port is taken.
    """

    def __init__(self, host: str, port: int, rank: int, size: int, timeout: float) -> None:
        self.host, self.rank, self.size, self.timeout = host, rank, size, timeout
        self.port = port
        if rank == 0:
            self._serve()
        self._socket = self._connect()
        self._lines = self._socket.makefile("rb")
        self._replies: SimpleQueue[dict[str, str]] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_closing = False
        start(self._read, "xcnn store")
        self._ask(f"cmd=initack pmiid={rank} client=xcnn")

    def put(self, key: str, text: str) -> None:
        """Store ``text`` (up to 16 million characters) under ``key``, which has no spaces."""
        line = f"cmd=put key={key} value={json.dumps(text)}"
        if len(line) >= server.LONGEST:
            raise ArgumentError(f"text of {len(text):,} characters for {key!r}: at most 2**24 fit")
        self._ask(line)

    def get(self, key: str) -> str:
        """The text under ``key``; waits until a rank has put it.

        Raises
        ------
        CommunicationError
            Nobody did so within ``timeout``.
        """
        return json.loads(self._ask(f"cmd=get key={key} wait=1")["value"])

    def look(self, key: str) -> str | None:
        """The text under ``key``, or None if there is none."""
        reply = self._ask(f"cmd=get key={key}")
        return json.loads(reply["value"]) if reply["rc"] == "0" else None

    def remove(self, key: str) -> None:
        """Forget ``key``."""
        self._ask(f"cmd=remove key={key}")

    def barrier(self) -> None:
        """Return when every rank has called it."""
        self._ask("cmd=barrier_in client=xcnn")

    def abort(self, status: int = 1) -> None:
        """End all processes."""
        self._send(f"cmd=abort exitcode={status}")
        time.sleep(1)  # until the server ends this one, too
        os._exit(status)

    def close(self) -> None:
        """Return when every rank has called it: the store ends with rank 0."""
        if not self._is_closing:
            self._is_closing = True
            self._ask("cmd=leave client=xcnn", timeout=None)

    def lend_to_mpi(self) -> None:
        """Let MPICH's ``MPI_Init`` find the other processes through this store."""
        os.environ |= {"PMI_PORT": f"{self.host}:{self.port}", "PMI_ID": str(self.rank)}

    def _serve(self) -> None:
        try:
            family = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.create_server((self.host, self.port), family=family, backlog=1024)
        except OSError as error:
            raise CommunicationError(
                f"rank 0 cannot listen on {self.host}:{self.port} ({error}): set MASTER_ADDR to "
                "the address of the machine of rank 0, and MASTER_PORT to a free port"
            ) from error
        with listener:
            self.port = listener.getsockname()[1]
            handle = listener.fileno()
            numbers = map(str, (handle, self.size, self.timeout))
            # in a session of its own, Ctrl-C does not end it before the ranks
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", server.__file__, *numbers],
                pass_fds=[handle],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            process.returncode = 0  # nobody waits for it: it may outlive this process

    def _connect(self) -> socket.socket:
        end = time.monotonic() + self.timeout
        while True:
            try:
                connection = socket.create_connection((self.host, self.port), timeout=5)
            except OSError as error:
                if time.monotonic() > end:
                    raise CommunicationError(
                        f"rank {self.rank} cannot reach rank 0 at {self.host}:{self.port} within "
                        f"{self.timeout:g} s ({error}): is rank 0 running there, and does a "
                        "firewall let that port through? MASTER_ADDR and MASTER_PORT must be the "
                        "same on all ranks"
                    ) from error
                time.sleep(0.1)
            else:
                connection.settimeout(None)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection

    def _send(self, line: str) -> None:
        try:
            self._socket.sendall(f"{line}\n".encode())
        except OSError as error:
            raise CommunicationError(f"rank {self.rank} lost rank 0: {error}") from error

    def _ask(self, line: str, timeout: float | None = -1) -> dict[str, str]:
        timeout = self.timeout if timeout == -1 else timeout
        with self._lock:
            self._send(line)
            try:
                reply = self._replies.get(timeout=timeout)
            except Empty:
                what = line.partition(" value=")[0]
                raise CommunicationError(
                    f"rank {self.rank} of {self.size} has waited {self.timeout:g} s for an answer "
                    f"to {what!r}: another rank did not start, or hangs"
                ) from None
        return reply

    def _read(self) -> None:
        """Pass replies on; end the process when the run is over."""
        with suppress(OSError):
            for line in self._lines:
                reply = server.parse(line)
                if reply.get("cmd") == "abort":
                    os._exit(int(reply.get("exitcode", "1")))
                self._replies.put(reply)
        if not self._is_closing:
            text = f"rank {self.rank} of {self.size} lost the store at {self.host}:{self.port}"
            reason = "it was killed, its machine is gone, or another process has this rank"
            os.write(2, f"{text}: {reason}\n".encode())
            os._exit(1)
        self._replies.put({})
