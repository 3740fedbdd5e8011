"""How far ahead of its handlers a worker claims."""

from __future__ import annotations

from collections.abc import Sequence

from adapter.store.claims import Claimed

#: What is claimed ahead is begun within so many seconds, if handlers go on as they have.
_AHEAD_S = 0.2
_SHORTEST_S = 0.02
#: How much payload is held ahead, in characters of JSON, when the next jobs are like the last.
_MOST_PAYLOAD = 16_000_000


class LookAhead:
    """Measures how many jobs end in a second, and says how many may be claimed beyond what can run at once."""

    def __init__(self, most: int) -> None:
        self._limit = most
        self._at, self._ended, self._rate = 0.0, 0, 0.0
        self._payload = 0.0
        #: The last answer.
        self.most = 0

    def measure(self, now: float, ended: int) -> int:
        """Look at the count of all that have ended; returns how many jobs to hold ahead.

        ``now`` in seconds, of a clock that never goes back.
        """
        passed = now - self._at
        if passed >= _SHORTEST_S:
            weight = min(1.0, passed * 2)
            self._rate += weight * ((ended - self._ended) / passed - self._rate)
            self._at, self._ended = now, ended
            self.most = min(self._limit, int(self._rate * _AHEAD_S))
        if self._payload * self.most > _MOST_PAYLOAD:
            self.most = int(_MOST_PAYLOAD / self._payload)
        return self.most

    def saw(self, claimed: Sequence[Claimed]) -> None:
        """Take note of how large the payloads are that come."""
        if claimed:
            mean = sum(len(job.text or "") for job in claimed) / len(claimed)
            # A large one counts at once, and for a while.
            self._payload = max(mean, (self._payload + mean) / 2)
