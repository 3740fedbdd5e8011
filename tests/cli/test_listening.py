"""The socket that `serve` and `dev` listen on."""

import socket

from adapter.cli.serving import listen


def test_answers_on_kept_connections_do_not_wait_for_acknowledgments() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        taken, _ = listener.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
