"""The figures as Prometheus reads them.

What is read from the database is the same whichever process is asked; only ``adapter_events_total`` is of the
process itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapter.domain.job import LOCAL
from adapter.store.figures import Figures

__all__ = ["CONTENT_TYPE", "NAMES", "exposition"]

_WHERE = ("task", "queue", "executor", "status")
_HELP = {
    "adapter_jobs_open": "Jobs that have not ended, by task, queue, executor and status.",
    "adapter_jobs_finished": "Jobs that have ended since counting began, by task, queue, executor and status.",
    "adapter_oldest_ready_age_seconds": "How long the first job that is ready has been ready, by queue and executor.",
    "adapter_dispatch_jobs": "Jobs of remote executors by the state of their submit.",
    "adapter_sync_lag_seconds": "How long the run that was heard of least has not been heard of, by executor.",
    "adapter_inbox_pending": "Webhooks that wait to be applied.",
    "adapter_inbox_oldest_age_seconds": "How long the first of them has waited.",
    "adapter_inbox_dead": "Webhooks that could not be applied.",
    "adapter_recall_jobs": "Jobs of recalls that go on, settled or not.",
    "adapter_workers": "Workers that live.",
    "adapter_counting_lag_seconds": "How long ago the jobs that have ended were counted to.",
    "adapter_events": "What this process has counted, by name: stale writes, duplicate events, rescues.",
}
#: Every name a rule may use.
NAMES = frozenset(
    f"{name}_total" if name in {"adapter_jobs_finished", "adapter_events"} else name for name in _HELP
)


def exposition(figures: Figures, events: Mapping[str, int]) -> bytes:
    """Return all metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shown(figures, events))
    return generate_latest(registry)


class _Shown(Collector):
    def __init__(self, figures: Figures, events: Mapping[str, int]) -> None:
        self._figures = figures
        self._events = events

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, also those without a sample."""
        yield from self._jobs()
        yield from self._remotes()
        figures = self._figures
        yield _plain("adapter_inbox_pending", figures.inbox_pending)
        yield _plain("adapter_inbox_oldest_age_seconds", _seconds(figures.inbox_oldest))
        yield _plain("adapter_inbox_dead", figures.inbox_dead)
        recalls = _gauge("adapter_recall_jobs", ("recall", "task", "settled"))
        for each in figures.recalls:
            recalls.add_metric([str(each.id), each.task, "yes"], each.settled)
            recalls.add_metric([str(each.id), each.task, "no"], each.jobs - each.settled)
        yield recalls
        yield _plain("adapter_workers", figures.workers)
        yield _plain("adapter_counting_lag_seconds", _seconds(figures.uncounted))
        events = CounterMetricFamily("adapter_events", _HELP["adapter_events"], labels=("event",))
        for name, count in sorted(self._events.items()):
            events.add_metric([name], count)
        yield events

    def _jobs(self) -> Iterator[Metric]:
        open_ = _gauge("adapter_jobs_open", _WHERE)
        jobs: dict[tuple[str, ...], int] = {}
        oldest: dict[tuple[str, str], float] = {}
        for each in self._figures.open:
            where = (each.task, each.queue, each.executor, each.status)
            jobs[where] = jobs.get(where, 0) + each.jobs
            if each.status in {"QUEUED", "PENDING"}:
                at = (each.queue, each.executor)
                oldest[at] = max(oldest.get(at, 0.0), _seconds(each.oldest))
        for where, count in jobs.items():
            open_.add_metric(where, count)
        yield open_
        finished = CounterMetricFamily("adapter_jobs_finished", _HELP["adapter_jobs_finished"], labels=_WHERE)
        for each in self._figures.ended:
            finished.add_metric((each.task, each.queue, each.executor, each.status), each.jobs)
        yield finished
        ages = _gauge("adapter_oldest_ready_age_seconds", ("queue", "executor"))
        for at, age in oldest.items():
            ages.add_metric(at, age)
        yield ages

    def _remotes(self) -> Iterator[Metric]:
        states: dict[tuple[str, str], int] = {}
        lags: dict[str, float] = {}
        for each in self._figures.open:
            if each.executor in {LOCAL, ""}:
                continue
            state = (each.executor, each.submit_state)
            states[state] = states.get(state, 0) + each.jobs
            if each.unsynced is not None:
                lags[each.executor] = max(lags.get(each.executor, 0.0), _seconds(each.unsynced))
        dispatch = _gauge("adapter_dispatch_jobs", ("executor", "submit_state"))
        for state, count in states.items():
            dispatch.add_metric(state, count)
        yield dispatch
        lag = _gauge("adapter_sync_lag_seconds", ("executor",))
        for executor, seconds in lags.items():
            lag.add_metric([executor], seconds)
        yield lag


def _gauge(name: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, _HELP[name], labels=labels)


def _plain(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, _HELP[name], value=value)


def _seconds(time: timedelta | None) -> float:
    # Two clocks of one server may differ by a little.
    return 0.0 if time is None else max(0.0, time.total_seconds())
