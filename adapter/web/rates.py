"""A limit on how often each key may call: a token bucket of this process, answered in upstream's form.

Counted per process and not in PostgreSQL: it is a shield, and one that costs a write to the database for
every call is a weaker one. Behind N servers a key has N times the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from adapter.domain.clock import Clock

_MOST_BUCKETS = 10_000
_TYPE = "https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/429"


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """``per_minute`` calls, of which half may come at once (as upstream: 1500 and 750); 0 is no limit."""

    def __init__(self, per_minute: float, clock: Clock) -> None:
        self._per_second = per_minute / 60
        self._most = max(1, round(per_minute / 2))
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, who: str) -> dict[str, str]:
        """Count a call; returns the headers that tell how many more there may be.

        Raises:
            ApiError: 429; ``x-ratelimit-reset`` is in unix milliseconds, which the SDK waits for.
        """
        if not self._per_second:
            return {}
        now = self._clock.monotonic()
        bucket = self._buckets.get(who)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[who] = _Bucket(self._most, now)
        tokens = min(self._most, bucket.tokens + (now - bucket.at) * self._per_second)
        allowed = tokens >= 1
        bucket.tokens, bucket.at = tokens - allowed, now
        wait_s = max(0.0, (1 - bucket.tokens) / self._per_second)
        reset = math.ceil((self._clock.now().timestamp() + wait_s) * 1000)
        headers = {
            "x-ratelimit-limit": str(self._most),
            "x-ratelimit-remaining": str(int(bucket.tokens)),
            "x-ratelimit-reset": str(reset),
        }
        if not allowed:
            raise self._refusal(headers, reset, math.ceil(wait_s))
        return headers

    def _refusal(self, headers: dict[str, str], reset: int, seconds: int) -> ApiError:
        text = f"Rate limit exceeded 0/{self._most} requests remaining. Retry in {seconds} seconds."
        refusal = ApiError(
            429,
            text,
            headers=headers | {"content-type": "application/problem+json", "retry-after": str(seconds)},
        )
        refusal.body |= {
            "title": "Rate Limit Exceeded",
            "status": 429,
            "type": _TYPE,
            "detail": text,
            "reset": reset,
            "limit": self._most,
            "remaining": 0,
            "secondsUntilReset": seconds,
        }
        return refusal

    def _make_room(self, now: float) -> None:
        """Forget those whose buckets are full again: they are as if they had never called."""
        if len(self._buckets) < _MOST_BUCKETS:
            return
        self._buckets = {
            who: each
            for who, each in self._buckets.items()
            if each.tokens + (now - each.at) * self._per_second < self._most
        }
        while len(self._buckets) >= _MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
