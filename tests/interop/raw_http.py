"""Requests as bytes: an HTTP client would mend, or refuse, what is to be sent here."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11

from tests.interop.recording import Recorded

TIMEOUT_S = 20
NO_HTTP = b"Invalid HTTP request received."


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    content_type: str
    body: bytes

    def fault(self, request: Recorded) -> str | None:
        """What is wrong with it, whatever was asked: nothing is our fault, and a refusal says why."""
        if self.status >= 500:
            return "a server error"
        # The server itself refuses what is no HTTP, before the application hears of it.
        if self.status < 400 or request.method == b"HEAD" or self.body == NO_HTTP:
            return None
        try:
            found: Any = json.loads(self.body)
            said = found["error"]
        except (ValueError, LookupError, TypeError):
            return "a refusal without an error"
        return None if isinstance(said, str) and said else "a refusal with an empty error"


def on_the_wire(request: Recorded, host: str) -> bytes:
    """Return the bytes of ``request``, with what a server needs to know its end."""
    added = [(b"host", host.encode()), (b"connection", b"close")]
    if request.body or request.method not in {b"GET", b"HEAD"}:
        added.append((b"content-length", str(len(request.body)).encode()))
    head = b"".join(b"%b: %b\r\n" % each for each in (*added, *request.headers))
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (request.method, request.target, head, request.body)


def send(request: Recorded, port: int) -> Answer:
    """Send on a connection of its own; a server that hangs up without an answer is an error.

    Raises:
        OSError: no connection, or no answer in time.
        h11.RemoteProtocolError: what came back is no whole answer.
    """
    connection = h11.Connection(h11.CLIENT)
    # The parser is told of a request that is as good as ours: what it would not write, we have written.
    connection.send(
        h11.Request(method=request.method, target="/", headers=[("host", "x"), ("connection", "close")])
    )
    connection.send(h11.EndOfMessage())
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as peer:
        # It may be refused before it was read; the answer is there all the same.
        with suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(on_the_wire(request, f"127.0.0.1:{port}"))
        status, content_type, body = 0, "", bytearray()
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(peer.recv(65_536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                content_type = dict(event.headers).get(b"content-type", b"").decode("latin-1")
            elif isinstance(event, h11.Data):
                body += event.data
    return Answer(status, content_type, bytes(body))
