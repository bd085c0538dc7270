"""The page's HTTP server: the standard library's, on this machine only unless there is a token."""

from __future__ import annotations

import errno
import hmac
import io
import ipaddress
import json
import re
import secrets
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
import webbrowser
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from .. import __version__
from ..checks import check_flag, check_int, check_text
from ..errors import ArgumentError, DataError, XcnnError, printable, show
from .classifier import Classifier

PORT = 8000
MAX_BODY = 16 * 2**20  # bytes of a picture
_PATIENCE = 15.0  # seconds for a whole request
_CONNECTIONS = 32  # at the same time
_LOCAL = {"localhost", "127.0.0.1", "::1"}
#: addresses of all interfaces, and of another machine: nothing is sent there
_ALL = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?", re.IGNORECASE)
_BUSY = b"too many connections\n"
_FILES = {
    "/": ("demo.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers


class Server(ThreadingHTTPServer):
    """The server of the page; :func:`serve` runs it.

    Parameters
    ----------
    classifier
        The network.
    host, port
        Address to listen on; port 0: any free one.
    token
        What every request for a prediction must show; None: none on this machine, a new one for
        any other host.

    Attributes
    ----------
    url : str
        What to open; the part after # holds the token, and a browser does not send it.

    Raises
    ------
    ArgumentError
        A setting is not valid.
    OSError
        The address is not available.
    """

    daemon_threads = True
    request_queue_size = _CONNECTIONS

    def __init__(
        self,
        classifier: Classifier,
        host: str = "127.0.0.1",
        port: int = PORT,
        token: str | None = None,
    ) -> None:
        if not isinstance(classifier, Classifier):
            raise ArgumentError(
                f"classifier is {type(classifier).__name__}: expected an xcnn.demo.Classifier"
            )
        if check_int("port", port, 0) > 65535:
            raise ArgumentError(f"port={port}: expected 0 to 65535")
        if token is not None and not (check_text("token", token).isascii() and token.isalnum()):
            raise ArgumentError(f"token={show(token)}: expected ASCII letters and digits")
        self.classifier = classifier
        if not check_text("host", host):
            raise ArgumentError("host='': expected an address, such as 0.0.0.0 for all of them")
        self.host = host
        is_local = host in _LOCAL
        self.token = token if token is not None or is_local else secrets.token_hex(16)
        self.free = threading.BoundedSemaphore(_CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            hint = (
                "; choose another port, or 0 for any free one"
                if error.errno == errno.EADDRINUSE
                else ""
            )
            reason = f"cannot listen on {host}, port {port}: {error.strerror}{hint}"
            raise OSError(error.errno, reason) from error
        self.port = self.server_address[1]
        shown = _own_address(self.address_family, _ALL[host]) if host in _ALL else host
        name = f"[{shown}]" if ":" in shown else shown
        self.url = f"http://{name}:{self.port}/" + (f"#token={self.token}" if self.token else "")

    def server_bind(self) -> None:
        """Bind, without asking a name server for the name of the host, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or refuse it if there are too many."""
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.setblocking(False)
            head = f"HTTP/1.0 503 Service Unavailable\r\nContent-Length: {len(_BUSY)}\r\n"
            request.sendall(f"{head}Content-Type: text/plain\r\n\r\n".encode() + _BUSY)
            request.recv(65536)  # closing with bytes unread may lose the answer
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; anything else is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _complain(error)

    def accepts_host(self, host: str) -> bool:
        """Whether a Host header names this server: a name that was rebound to it does not.

        A server at all addresses takes any of them, localhost, and the name of the machine.
        """
        parts = _HOST.fullmatch(host)
        if not parts or int(parts[3] or 80) != self.port:
            return False
        name = (parts[1] or parts[2]).lower()
        if self.host in _LOCAL:
            return name in _LOCAL
        if self.host not in _ALL:
            return name == self.host.lower()
        machine = socket.gethostname().lower()
        return _is_address(name) or name in _LOCAL | {machine, f"{machine}.local"}


def _own_address(family: Any, other: str) -> str:
    """The address from which this machine reaches others, or else its name."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other, 9))  # of a datagram socket: only looks up the route
        except OSError:
            return socket.gethostname().lower()
        return probe.getsockname()[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _complain(error: BaseException | None) -> None:
    text = printable(f"{type(error).__name__}: {error}")
    print(f"xcnn demo: {text}", file=sys.stderr, flush=True)


class _Patient(io.RawIOBase):
    """Reads from a socket until a deadline, however slowly the client sends."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.deadline = connection, time.monotonic() + _PATIENCE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    server_version, sys_version = f"xcnn/{__version__}", ""
    default_request_version = "HTTP/1.0"  # of a line that is malformed
    error_message_format = "%(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Patient(self.connection))
        self.unread = 0  # bytes of the body

    def handle_one_request(self) -> None:
        """Parse a request and answer it: every method has its own attribute do_NAME."""
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if len(self.raw_requestline) > 65536:
                self.requestline = self.request_version = self.command = ""
                self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            elif self.raw_requestline and self.parse_request():
                self._answer()
        except TimeoutError:
            self.requestline = self.command = ""
            self.request_version = "HTTP/1.0"
            self._send(HTTPStatus.REQUEST_TIMEOUT, "text/plain", b"the request took too long\n")
        self.close_connection = True

    def _answer(self) -> None:
        try:
            status, kind, content, headers = HTTPStatus.OK, *self._result(), {}
        except RefusalError as refusal:
            status, kind, headers = refusal.status, "text/plain; charset=utf-8", refusal.headers
            content = f"{printable(str(refusal))}\n".encode()
        self._send(status, kind, content, **headers)

    def _result(self) -> tuple[str, bytes]:
        """Content type and content."""
        try:
            address = urllib.parse.urlsplit(self.path)
        except ValueError as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "the address is malformed") from error
        self._check_length()
        self._check_origin()
        actions: Any = {"/network": ("GET", self._network), "/predict": ("POST", self._predict)}
        methods, action = actions.get(address.path, ("GET", None))
        if action is None and address.path not in _FILES:
            raise RefusalError(HTTPStatus.NOT_FOUND, "there is no such page")
        allowed = ["GET", "HEAD"] if methods == "GET" else ["POST"]
        if self.command not in allowed:
            text = f"expected {' or '.join(allowed)}"
            raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, text, Allow=", ".join(allowed))
        if action is None:
            name, kind = _FILES[address.path]
            return kind, (resources.files(__package__) / name).read_bytes()
        self._check_token()
        return "application/json", json.dumps(action(address.query)).encode()

    def _check_length(self) -> None:
        length = self.headers.get("Content-Length")
        if "Transfer-Encoding" in self.headers:
            raise RefusalError(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        if length is None:
            if self.command == "POST":
                raise RefusalError(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
            return
        if not (length.isascii() and length.isdecimal() and len(length) < 20):
            raise RefusalError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        self.unread = int(length)

    def _check_origin(self) -> None:
        """Refuse other pages, and other names for this machine."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "expected one Host")
        if not self.server.accepts_host(hosts[0]):
            raise RefusalError(HTTPStatus.FORBIDDEN, "this server has another name")
        origins = self.headers.get_all("Origin", [])
        if [o.lower() for o in origins] not in ([], [f"http://{hosts[0]}".lower()]):
            raise RefusalError(HTTPStatus.FORBIDDEN, "requests from other pages are refused")

    def _check_token(self) -> None:
        wanted, given = self.server.token, self.headers.get("X-Token", "")
        if wanted and not hmac.compare_digest(given.encode(), wanted.encode()):
            text = "wrong or missing token: open the address that xcnn demo printed"
            raise RefusalError(HTTPStatus.FORBIDDEN, text)

    def _network(self, query: str) -> Any:
        return self.server.classifier.describe()

    def _predict(self, query: str) -> Any:
        settings = self._settings(query)
        if self.unread > MAX_BODY:
            limit = f"a picture may have at most {MAX_BODY // 2**20} MiB"
            raise RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, limit)
        content = self._read(self.unread)
        if len(content) < int(self.headers["Content-Length"]):
            raise RefusalError(
                HTTPStatus.BAD_REQUEST, "the picture is shorter than its Content-Length"
            )
        try:
            return self.server.classifier.look(content, **settings)
        except DataError as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except Exception as error:
            _complain(error)
            reason = str(error)[:500] if isinstance(error, XcnnError) else type(error).__name__
            text = f"the prediction failed: {reason}"
            raise RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, text) from error

    def _settings(self, query: str) -> dict[str, Any]:
        """The settings of a prediction: invert=1, cam=1, class=N."""
        names = {"invert": "invert", "cam": "cam", "class": "target"}
        settings: dict[str, Any] = {}
        try:
            given = urllib.parse.parse_qsl(query, True, strict_parsing=True) if query else []
        except ValueError as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "the query is malformed") from error
        for key, value in given:
            largest = len(self.server.classifier.classes) - 1 if key == "class" else 1
            is_number = value.isascii() and value.isdecimal() and len(value) < 8
            if key not in names or not is_number or int(value) > largest:
                raise RefusalError(HTTPStatus.BAD_REQUEST, "expected invert=1, cam=1 or class=N")
            settings[names[key]] = int(value) if key == "class" else bool(int(value))
        return settings

    def _read(self, count: int) -> bytes:
        content = self.rfile.read(count)
        self.unread -= len(content)
        return content

    def _send(self, status: HTTPStatus, kind: str, content: bytes, **headers: str) -> None:
        self.connection.settimeout(_PATIENCE)
        self.send_response(status)
        sizes = {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in {**sizes, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        # a connection that is closed with bytes unread is reset, and the answer may be lost
        with suppress(OSError):
            self._read(min(self.unread, MAX_BODY))

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Do not log requests."""


def serve(
    classifier: Classifier,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    open_browser: bool = True,
) -> None:
    """Show the page until Ctrl-C, and print its address.

    Parameters
    ----------
    classifier
        The network.
    host, port, token
        As for :class:`Server`. Only this machine can reach the default host; for any other, the
        address contains a token. The connection is not encrypted.
    open_browser
        Open the page in the browser.

    Raises
    ------
    ArgumentError
        A setting is not valid.
    OSError
        The address is not available.
    """
    check_flag("open_browser", open_browser)
    with Server(classifier, host, port, token) as server:
        print(f"{printable(classifier.name)}: {server.url} (Ctrl-C ends it)", flush=True)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(flush=True)  # after the terminal's ^C
