"""Which workers are dead: by what this process has seen itself, on its own monotonic clock.

The times that workers write are only held against each other, never against a clock: a failover to a
server whose clock is ahead makes nobody dead, and one to a clock behind keeps nobody alive
(docs/decisions/0007-who-counts-as-dead.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from adapter.domain.clock import Clock
from adapter.store.liveness import Pulse
from adapter.store.rescuing import Verdict

#: How long a lock has to be seen free, without a heartbeat, before its worker counts as dead.
FREE_FOR_S = 6.0
#: After a longer time without a look a judge knows nothing: it may have been cut off or paused itself.
LONGEST_GAP_S = 5.0


@dataclass(frozen=True, slots=True)
class _Silence:
    """One heartbeat that is being watched, and since when; ``free_since``: since when with its lock free."""

    seen: float
    since: float
    free_since: float | None


class Judge:
    """Remembers what it saw. One per process; any number of them judge independently."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_at: float | None = None
        self._silences: dict[UUID, _Silence] = {}

    def judge(self, pulses: Sequence[Pulse], began: float) -> list[Verdict]:
        """Return who is dead by this look, which began at ``began`` of the monotonic clock.

        By its lease: the same heartbeat was watched for so long. Early: its lock was seen free for 6 s in
        which it did not beat, and neither the server nor our connection is younger than its lease.
        """
        ended = self._clock.monotonic()
        if self._looked_at is None or began - self._looked_at > LONGEST_GAP_S:
            self._silences = {}
        self._looked_at = ended
        before, self._silences = self._silences, {}
        dead: list[Verdict] = []
        for pulse in pulses:
            silence = _silence(before.get(pulse.worker_id), pulse, ended)
            self._silences[pulse.worker_id] = silence
            if began - silence.since >= pulse.lease.total_seconds():
                dead.append(Verdict(pulse.worker_id, pulse.seen, early=False))
            elif silence.free_since is not None and began - silence.free_since >= FREE_FOR_S:
                dead.append(Verdict(pulse.worker_id, pulse.seen, early=True))
        return dead


def _silence(before: _Silence | None, pulse: Pulse, now: float) -> _Silence:
    counts = pulse.lock_is_free and pulse.is_settled
    if before is None or before.seen != pulse.seen:
        return _Silence(pulse.seen, now, now if counts else None)
    if not counts:
        return _Silence(pulse.seen, before.since, None)
    return _Silence(pulse.seen, before.since, now if before.free_since is None else before.free_since)
