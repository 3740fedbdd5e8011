"""What a client sends, taken down on its way to the server."""

import re
import socket
import socketserver
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import h11

Headers = tuple[tuple[bytes, bytes], ...]
_HOP_BY_HOP = frozenset({b"connection", b"content-length", b"host", b"keep-alive", b"transfer-encoding"})


_MOST_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request; ``target`` is its path and query as they were on the wire."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes


class Recorder:
    """A door before the server: what comes in by it is passed on as it is, and kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: list[bytearray] = []

    @contextmanager
    def open(self) -> Generator[str]:
        """Yield the URL to send to."""
        streams, server_port = self._streams, self.port

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                stream = bytearray()
                streams.append(stream)
                with socket.create_connection(("127.0.0.1", server_port)) as upstream:
                    answering = threading.Thread(target=_pump, args=(upstream, self.request))
                    answering.start()
                    _pump(self.request, upstream, stream)
                    answering.join()

        class Door(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

        with Door(("127.0.0.1", 0), Connection) as door:
            threading.Thread(target=door.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{door.server_address[1]}"
            door.shutdown()

    def requests(self) -> list[Recorded]:
        """Return what has come in whole, by connection."""
        return [each for stream in self._streams for each in _parsed(bytes(stream))]


def distinct(requests: Iterable[Recorded]) -> list[Recorded]:
    """Return one request of each kind: the same members by the same method and path, whatever the ids; none large."""
    found: dict[tuple[bytes, bytes, frozenset[bytes]], Recorded] = {}
    for each in requests:
        if len(each.body) <= _MOST_BYTES:
            members = frozenset(re.findall(rb'"(\w+)\\*":', each.body))
            found.setdefault((each.method, re.sub(rb"\w{16,}", b"id", each.target), members), each)
    return list(found.values())


def _pump(source: socket.socket, target: socket.socket, copy: bytearray | None = None) -> None:
    """Pass on until ``source`` has nothing more to say, and say so to ``target``."""
    # An error: one of the two has hung up.
    with suppress(OSError):
        while chunk := source.recv(65_536):
            target.sendall(chunk)
            if copy is not None:
                copy += chunk
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _parsed(stream: bytes) -> list[Recorded]:
    """Return the requests of a connection; one that was broken off is left out."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream)
    found: list[Recorded] = []
    while True:
        body = bytearray()
        head: h11.Request | None = None
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return found
        assert head is not None
        headers = tuple((name, value) for name, value in head.headers if name not in _HOP_BY_HOP)
        found.append(Recorded(head.method, head.target, headers, bytes(body)))
        if connection.our_state is h11.MUST_CLOSE:
            return found
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is h11.MUST_CLOSE:
            return found
        connection.start_next_cycle()
