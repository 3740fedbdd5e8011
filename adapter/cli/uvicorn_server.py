"""uvicorn as a guest: somebody else handles the signals and the log."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

#: How long answers in hand may take once the server stops, in seconds.
GRACE_S = 10


class Server(uvicorn.Server):
    """Serves an application whose adapter is open already."""

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone: uvicorn would raise them again, and end the process before it is closed."""
        yield

    def ask_to_stop(self) -> None:
        """Answer what has come in, and return from `serve`."""
        self.should_exit = True

    def insist(self) -> None:
        """Return from `serve` at once."""
        self.should_exit = self.force_exit = True
