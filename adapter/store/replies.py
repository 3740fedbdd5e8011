"""What PostgreSQL says to a statement, read as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult


class Reply:
    """All that PostgreSQL has to say to a statement: a commit may still fail after the rows have come."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._is_over = False
        self.results: list[PGresult] = []
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def read(self) -> None:
        """Read what there is."""
        try:
            self._pgconn.consume_input()
            while not (self._is_over or self._pgconn.is_busy()):
                self._take(self._pgconn.get_result())
        except psycopg.Error as error:
            self._fail(error)

    def write(self) -> bool:
        """Send on; whether there is more to send."""
        try:
            return bool(self._pgconn.flush())
        except psycopg.Error as error:
            self._fail(error)
            return False

    def _take(self, result: PGresult | None) -> None:
        if result is None:
            self._is_over = True
            self._completed()
        else:
            self.results.append(result)

    def _completed(self) -> None:
        if not self.complete.done():
            self.complete.set_result(None)

    def _fail(self, error: psycopg.Error) -> None:
        self._is_over = True
        if not self.complete.done():
            self.complete.set_exception(error)


class ReplyAhead(Reply):
    """The reply to the first of two statements in a pipeline, each with a commit of its own.

    What becomes of the second is told to nobody, but ``on_settled()`` is called once its end is read as well.
    """

    def __init__(self, pgconn: PGconn, on_settled: Callable[[], object]) -> None:
        super().__init__(pgconn)
        self._on_settled = on_settled
        self._commits = 0

    def _take(self, result: PGresult | None) -> None:
        if result is None:
            return
        if result.status == ExecStatus.PIPELINE_SYNC:
            self._commits += 1
            if self._commits == 1:
                self._completed()
            else:
                self._pgconn.exit_pipeline_mode()
                self._is_over = True
                self._on_settled()
        elif self._commits == 0:
            self.results.append(result)

    def _fail(self, error: psycopg.Error) -> None:
        super()._fail(error)
        self._on_settled()
