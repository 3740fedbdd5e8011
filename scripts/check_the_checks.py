"""Removes one guard of the library at a time and sees whether the tests that are named for it fail.

    .venv/bin/python scripts/check_the_checks.py [--only WORD]

Works in a temporary copy of the tree; the tree itself is never touched. Prints a table and ends with 1
when a guard can be removed without a test noticing, or has been rewritten so that it is not found here.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("adapter", "alembic", "alembic.ini", "examples", "pyproject.toml", "tests", "README.md")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "node_modules", ".pytest_cache", ".hypothesis")


@dataclass(frozen=True)
class Guard:
    """A text in a file, what it is replaced by, and the tests that must fail then.

    ``nth`` counts from 0; ``every``: it stands in several places, which are one guard.
    """

    name: str
    file: str
    text: str
    without: str
    tests: str
    nth: int | None = None
    every: bool = False


I1, I2, I3 = (
    "tests/invariants/test_i1_nothing_is_lost.py",
    "tests/invariants/test_i2_one_holder.py",
    "tests/invariants/test_i3_fenced.py",
)
I4, I5, I6 = (
    "tests/invariants/test_i4_forward_only.py",
    "tests/invariants/test_i5_idempotent_edges.py",
    "tests/invariants/test_i6_flags_steer.py",
)
DISPATCH, RECONCILE = "tests/core/test_dispatch.py", "tests/core/test_reconcile.py"
KEYS = "tests/store/test_keys_and_tags.py"
STRANDED = "tests/cutover/test_stranded.py"
OUTBOX, REPORTS, ENDINGS = "adapter/store/outbox.py", "adapter/store/reports.py", "adapter/store/endings.py"
RESCUING, LIVENESS = "adapter/store/rescuing.py", "adapter/store/liveness.py"
JUDGING, JUDGE = "adapter/core/judge.py", "tests/unit/test_judge.py"
LIMITED, LIMITS = "adapter/store/limited_claims.py", "tests/store/test_limits.py"
SHADOWING, SHADOW = "adapter/core/cutover/shadowing.py", "tests/cutover/test_shadow.py"
RACES, KILLED = "tests/cutover/test_recall_races.py", "tests/cutover/test_recall_killed.py"
SETTLING = "adapter/store/settling.py"
WAIT_TOKENS, TOKENS = "adapter/store/wait_tokens.py", "tests/families/test_tokens.py"
TRY_KEY = "WHERE id = %(id)s AND epoch = %(epoch)s AND dispatch_lease = %(lease)s"
BARE = "WHERE id = %(id)s AND epoch = %(epoch)s"

GUARDS = [
    Guard(
        "no schedule leaves with ticks still to be fired here",
        "adapter/store/hand_overs.py",
        "  AND (%(to)s = 'local' OR next_at = %(cut)s) RETURNING",
        "  RETURNING",
        "tests/cron/test_handover.py::test_ticks_that_are_still_to_be_fired_here_keep_it_here",
    ),
    Guard(
        "a tick that was refused is left alone for a while",
        "adapter/store/schedules.py",
        "  AND COALESCE((extra ->> 'refused_until')::timestamptz <= now(), true)\nORDER BY next_at",
        "ORDER BY next_at",
        "tests/cron/test_contention.py::test_ticks_that_the_database_refuses_starve_no_other_and_are_not_lost",
    ),
    Guard(
        "a schedule whose clock is not ours alone is not changed by its key",
        "adapter/store/schedules.py",
        "WHERE o.owner = 'local' AND o.handover_state IS NULL AND\n",
        "WHERE\n",
        "tests/cron/test_contention.py::test_neither_a_call_nor_a_boot_changes_a_schedule_whose_clock_is_not_ours_alone",
    ),
    Guard(
        "a schedule whose clock is not ours alone does not rest with its declaration",
        "adapter/store/schedules.py",
        "  AND owner = 'local' AND handover_state IS NULL ORDER BY id FOR UPDATE",
        "  ORDER BY id FOR UPDATE",
        "tests/cron/test_contention.py::test_neither_a_call_nor_a_boot_changes_a_schedule_whose_clock_is_not_ours_alone",
    ),
    Guard(
        "recall: a user's cancel wins",
        SETTLING,
        "AND recall_id IS NOT NULL AND NOT cancel_requested\n    AND (%(status)s = 'CANCELED' OR",
        "AND recall_id IS NOT NULL\n    AND (%(status)s = 'CANCELED' OR",
        f"{RACES}::test_a_users_cancel_wins_whenever_it_comes",
    ),
    Guard(
        "recall: what has started moves only if its task is idempotent",
        SETTLING,
        "WHERE NOT held.began OR held.type = ANY(r.idempotent)",
        "WHERE true",
        f"{RACES}::test_a_start_between_look_and_cancel_ends_a_fragile_job_and_is_told_first",
    ),
    Guard(
        "recall: a cancel that does not say whether the run had begun is looked at",
        "adapter/core/applying.py",
        "if write.status is JobStatus.CANCELED and started is None:",
        "if started is not None and started is None:",
        f"{RACES}::test_a_webhook_that_does_not_say_whether_it_began_decides_nothing",
    ),
    Guard(
        "recall: nothing under an intent is submitted",
        OUTBOX,
        "OR (recall_id IS NULL AND (expires_at",
        "OR ((expires_at",
        f"{RACES}::test_what_is_under_a_recall_is_not_submitted_any_more",
    ),
    Guard(
        "recall: a refused submit comes back instead of failing",
        OUTBOX,
        "    AND (recall_id IS NULL OR cancel_requested)\n",
        "",
        f"{RACES}::test_a_try_that_is_under_way_is_waited_for",
    ),
    Guard(
        "recall: a run is not over while its job waits for its end",
        "adapter/store/remote_runs.py",
        "  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open o\n    WHERE o.id = r.job_id AND o.epoch = r.epoch AND o.executor = r.executor AND o.remote_run_id = r.run_id)\n",
        "",
        f"{RACES}::test_a_run_is_not_ended_while_its_job_waits_for_its_end",
    ),
    Guard(
        "recall: the intent stays once a cancel has left",
        "adapter/store/recalls.py",
        "    AND (NOT %(unasked)s OR asked_at IS NULL) AND",
        "    AND",
        f"{KILLED}::test_a_stopped_recall_sees_its_own_cancels_through",
    ),
    Guard(
        "recall: pending jobs that have run stay",
        "adapter/store/taking_back.py",
        "started IS NULL AND attempt = 0 AND (",
        "(",
        "tests/cutover/test_migrate_pending.py::test_what_runs_has_run_or_is_to_be_canceled_stays",
    ),
    Guard(
        "recall: versions without the fence are not believed",
        "adapter/core/cutover/fencing.py",
        " and its >= first",
        "",
        f"{RACES}::test_a_fence_is_believed_of_the_versions_that_have_it",
    ),
    Guard(
        "a drill puts back only the flag it has set",
        "adapter/core/cutover/drilling.py",
        "expected_version=drill.flag_version,",
        "expected_version=None,",
        "tests/cutover/test_drill.py::test_what_nobody_holds_is_put_back_once_by_whoever_comes",
    ),
    Guard(
        "a drill that somebody else has turned the flag of is over",
        "adapter/core/cutover/drilling.py",
        "if not await drills.is_turned(conn, schema, drill):",
        "if drill.finished_at is not None:",
        "tests/cutover/test_drill.py::test_a_flag_that_somebody_turns_meanwhile_stays",
    ),
    Guard(
        "no flag sends jobs to an executor that was left for good",
        "adapter/store/flag_changes.py",
        'if value is not None and key["kind"] in _SENDS:',
        'if value is not None and key["kind"] is None:',
        "tests/cutover/test_finalize.py::test_from_then_on_no_flag_sends_jobs_there",
    ),
    Guard(
        "what one task has left holds for flags of every task",
        "adapter/store/finalizations.py",
        "AND (task IN (%(task)s, '*') OR %(task)s = '*')",
        "AND task IN (%(task)s, '*')",
        "tests/cutover/test_finalize.py::test_from_then_on_no_flag_sends_jobs_there",
    ),
    Guard(
        "an executor that was asked for nothing is not drained by silence",
        "adapter/core/cutover/draining.py",
        "drained = not unknown and not any(each.left for each in shown)",
        "drained = not any(each.left for each in shown)",
        "tests/cutover/test_drain.py::test_an_executor_that_cannot_say_is_not_drained",
    ),
    Guard(
        "a parent goes on under the limit of its key",
        "adapter/store/families.py",
        "COALESCE(running.of_key < (q.limits ->> 'key_limit')::int, true)",
        "true",
        "tests/families/test_races.py::test_two_parents_of_one_key_go_on_after_each_other",
    ),
    Guard(
        "a parent goes on under the limit of its queue",
        "adapter/store/families.py",
        "COALESCE(running.beside < (q.limits ->> 'concurrency_limit')::int, true)",
        "true",
        "tests/families/test_races.py::test_two_parents_of_one_key_go_on_after_each_other",
    ),
    Guard(
        "a parent that nobody holds is woken by its last child only",
        "adapter/store/families.py",
        "    AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open c WHERE c.id = ANY(p.awaiting))\n",
        "",
        "tests/families/test_again.py::test_a_parent_without_holder_is_not_woken_before_its_last_child_ends",
    ),
    Guard(
        "detached children are not canceled",
        "adapter/store/families.py",
        "WHERE NOT c.cancel_requested AND NOT COALESCE((c.extra ->> 'detached')::boolean, false)\nORDER BY",
        "WHERE NOT c.cancel_requested\nORDER BY",
        "tests/families/test_again.py::test_a_cancel_goes_down_every_generation_but_not_to_the_detached",
    ),
    Guard(
        "a token is completed once",
        WAIT_TOKENS,
        """WHERE id = %(id)s AND \"\"\"
    + STILL_WAITS
    + " RETURNING id\"""",
        """WHERE id = %(id)s\"\"\"
    + " RETURNING id\"""",
        TOKENS,
    ),
    Guard(
        "a token whose time is over waits no more, written down or not",
        WAIT_TOKENS,
        "(t.timeout_at IS NULL OR t.timeout_at > now())",
        "true",
        TOKENS,
    ),
    Guard(
        "nobody is woken before its token is there",
        "adapter/store/families.py",
        "WHERE t.id = ANY(p.awaiting) AND",
        "WHERE false AND",
        TOKENS,
    ),
    Guard(
        "a callback URL is compared",
        "adapter/web/trigger_api/wait_tokens.py",
        'if not hmac.compare_digest(token.callback_secret.encode(), shown.encode("utf-8", "replace")):',
        "if not shown:",
        "tests/web/test_trigger_wait_tokens.py",
    ),
    Guard(
        "a waiting parent is rescued with its worker's jobs",
        "adapter/store/liveness.py",
        "OR o.status = 'WAITING' AND o.waiting_for IN ('children', 'token') AND o.worker_id IS NOT NULL",
        "",
        "tests/families/test_again.py::test_a_waiting_parent_of_a_dead_worker_is_rescued_and_its_children_are_not_made_again",
    ),
    Guard(
        "only a database for tests is emptied",
        "adapter/testing/database.py",
        'if "test" not in name.lower() and not any_name:',
        "if any_name is None:",
        "tests/testing/test_kit.py::test_a_database_that_is_not_for_tests_is_not_emptied",
    ),
    Guard(
        "a refused first start is not repeated",
        "adapter/cli/supervision.py",
        "if code == ExitCode.USAGE and starts == 1:",
        "if code == ExitCode.USAGE and starts == 0:",
        "tests/cli/test_workers.py::test_what_can_never_start_is_not_started_again",
    ),
    Guard(
        "epoch in a worker's write",
        ENDINGS,
        "o.epoch = w.epoch AND ",
        "",
        f"{I3}::test_a_stale_epoch_ends_nothing_and_gives_nothing_back",
        every=True,
    ),
    Guard(
        "lease: worker in a worker's write",
        ENDINGS,
        "o.worker_id = w.worker_id AND ",
        "",
        f"{I3}::test_a_stale_lease_ends_nothing_and_gives_nothing_back",
        every=True,
    ),
    Guard(
        "lease: claim number in a worker's write",
        ENDINGS,
        " AND o.claim_number = w.claim_number",
        "",
        f"{I3}::test_a_stale_lease_ends_nothing_and_gives_nothing_back",
        every=True,
    ),
    Guard(
        "status in a worker's write",
        ENDINGS,
        "\n    AND (o.status = 'EXECUTING' OR o.waiting_for IN ('children', 'token'))",
        "",
        f"{I3}::test_a_lease_on_a_row_that_does_not_execute_is_worth_nothing",
    ),
    Guard(
        "lease: worker and status in a completion",
        ENDINGS,
        " AND o.worker_id = %(worker_id)s\n    AND o.claim_number = w.claim_number AND (o.status = 'EXECUTING' OR o.waiting_for IN ('children', 'token'))",
        " AND o.claim_number = w.claim_number",
        f"{I3}::test_a_stale_lease_ends_nothing_and_gives_nothing_back {I3}::test_a_lease_on_a_row_that_does_not_execute_is_worth_nothing",
    ),
    Guard(
        "epoch in a report",
        REPORTS,
        "id = %(id)s AND epoch = %(epoch)s AND executor",
        "id = %(id)s AND executor",
        f"{I3}::test_reports_of_strangers_change_nothing_and_are_counted",
        nth=0,
    ),
    Guard(
        "run id in a report",
        REPORTS,
        "(remote_run_id IS NULL OR remote_run_id = %(run_id)s)",
        "true",
        f"{I3}::test_reports_of_strangers_change_nothing_and_are_counted",
        nth=0,
    ),
    Guard(
        "order of reports",
        REPORTS,
        "> (remote_event_at, remote_rank) END)",
        "IS NOT NULL END)",
        f"{I5}::test_the_end_does_not_depend_on_the_order_of_events",
    ),
    Guard(
        "age of a retrieve",
        REPORTS,
        "%(read_began)s::timestamptz >= updated_at",
        "%(read_began)s::timestamptz IS NOT NULL",
        f"{I5}::test_the_end_does_not_depend_on_the_order_of_events",
    ),
    Guard(
        "dispatch lease after not sent",
        OUTBOX,
        TRY_KEY,
        BARE,
        f"{I3}::test_a_dispatcher_that_lost_its_lease_changes_nothing",
        nth=0,
    ),
    Guard(
        "dispatch lease after unknown",
        OUTBOX,
        TRY_KEY,
        BARE,
        f"{I3}::test_a_dispatcher_that_lost_its_lease_changes_nothing",
        nth=1,
    ),
    Guard(
        "dispatch lease after rejected",
        OUTBOX,
        TRY_KEY,
        BARE,
        f"{I3}::test_a_dispatcher_that_lost_its_lease_changes_nothing",
        nth=2,
    ),
    Guard(
        "dispatch lease in a claim",
        OUTBOX,
        " AND (dispatch_lease_until IS NULL OR dispatch_lease_until < now())",
        "",
        f"{I2}::test_a_row_in_the_hands_of_a_dispatcher_is_not_taken_by_another",
    ),
    Guard(
        "sticky unknown: not sent",
        OUTBOX,
        "CASE submit_state WHEN 'trying' THEN 'never' ELSE submit_state END",
        "'never'",
        f"{DISPATCH}::test_unknown_is_sticky",
    ),
    Guard(
        "sticky unknown: rejected",
        OUTBOX,
        "(submit_state = 'trying' OR submit_state = 'unknown' AND cancel_requested AND %(proven)s)",
        "true",
        f"{DISPATCH} tests/store/test_outbox.py",
    ),
    Guard(
        "sticky unknown: tried again",
        OUTBOX,
        "CASE picked.was WHEN 'never' THEN 'trying' ELSE 'unknown' END",
        "'trying'",
        f"{DISPATCH}::test_unknown_is_sticky",
    ),
    Guard(
        "a re-route takes only what no try has left for",
        OUTBOX,
        "(submit_state = 'never' AND dispatch_lease IS NULL",
        "(submit_state <> 'accepted'",
        f"{I2}::test_a_kill_switch_moves_only_what_no_try_has_left_for",
    ),
    Guard(
        "a re-route leaves what is being recalled or canceled",
        OUTBOX,
        "AND recall_id IS NULL AND NOT cancel_requested",
        "",
        f"{STRANDED}::test_what_was_asked_to_end_or_has_begun_is_not_moved",
    ),
    Guard(
        "a waiting job that has begun is not moved",
        "adapter/store/stranded.py",
        "AND started IS NULL",
        "",
        f"{STRANDED}::test_what_was_asked_to_end_or_has_begun_is_not_moved",
    ),
    Guard(
        "a change that was changed since is not taken back",
        "adapter/store/flag_changes.py",
        "if _says(current) != _says(undone.after):",
        "if _says(current) is None is not _says(undone.after):",
        "tests/cutover/test_changes.py::test_a_change_that_was_changed_since_is_not_taken_back",
    ),
    Guard(
        "environment of the first try",
        OUTBOX,
        "(remote_environment IS NULL OR remote_environment = %(environment)s)",
        "true",
        f"{DISPATCH}::test_a_row_of_another_environment_is_left_alone",
    ),
    Guard(
        "flags version in the dispatch claim",
        OUTBOX,
        "(SELECT version FROM {s}.flags_state) = %(flags_version)s",
        "%(flags_version)s IS NOT NULL",
        f"{I6}::test_a_kill_switch_turned_elsewhere_holds_the_dispatcher",
    ),
    Guard(
        "the switches are looked at again before each submit",
        "adapter/core/dispatch.py",
        "if row.first and self._rerouter.is_held(",
        "if not row.first and self._rerouter.is_held(",
        f"{I6}::test_a_switch_turned_while_a_claimed_job_waits_for_its_turn_keeps_it_here",
    ),
    Guard(
        "flags version in the insert",
        "adapter/store/job_columns.py",
        "WHERE f.version = %(flags_version)s",
        "WHERE %(flags_version)s::bigint IS NOT NULL",
        f"{I6}::test_a_flag_turned_between_decision_and_insert_is_decided_again",
    ),
    Guard(
        "epoch 0 in the route of an unrouted row",
        "adapter/store/inserting.py",
        "o.epoch = 0 AND o.executor IS NULL",
        "true",
        "tests/store/test_sql_function.py::test_a_row_that_was_routed_meanwhile_is_not_routed_again",
    ),
    Guard(
        "only what has not started is replaced",
        "adapter/store/inserting.py",
        "o.started IS NULL AND o.status IN",
        "true OR o.status IN",
        "tests/store/test_uniqueness.py::test_what_starts_while_it_is_to_be_replaced_is_left",
    ),
    Guard(
        "only what no try has left for is replaced",
        "adapter/store/inserting.py",
        "(o.submit_state = 'never' AND o.dispatch_lease IS NULL)",
        "o.submit_state IS NOT NULL",
        "tests/store/test_uniqueness.py::test_what_a_remote_was_given_is_left_and_the_newest_is_a_job_of_its_own",
    ),
    Guard(
        "20 h after the first try",
        "adapter/core/dispatch.py",
        "timedelta(hours=20)",
        "timedelta(hours=2000)",
        f"{DISPATCH}::test_no_submit_starts_later_than_20_h_after_the_first_try",
    ),
    Guard(
        "request key",
        "adapter/executors/trigger_requests.py",
        '{"x-trigger-request-idempotency-key": identity.request_key(submission.job_id, submission.epoch)}',
        "dict[str, str]()",
        f"{DISPATCH}::test_every_submit_of_an_epoch_carries_its_keys_and_its_tag",
    ),
    Guard(
        "the epoch in the request key",
        "adapter/domain/identity.py",
        'f"trigger-adapter:{job_id}:{epoch}"',
        'f"trigger-adapter:{job_id}"',
        "tests/unit/test_identity.py",
    ),
    Guard(
        "the epoch in the idempotency key",
        "adapter/domain/identity.py",
        'return f"{job_id}:{epoch}"',
        'return f"{job_id}"',
        "tests/unit/test_identity.py",
    ),
    Guard(
        "webhook signature",
        "adapter/domain/signing.py",
        "        if fits:\n",
        "        if signatures:\n",
        "tests/web/test_signing.py tests/web/test_webhooks.py::test_a_bad_signature_is_a_401_without_detail",
    ),
    Guard(
        "webhook age",
        "adapter/domain/signing.py",
        "abs(now - sent_at) > tolerance",
        "abs(now - sent_at) < -tolerance",
        "tests/web/test_signing.py",
    ),
    Guard(
        "start fence: cancel and recall",
        REPORTS,
        "AND NOT cancel_requested AND recall_id IS NULL",
        "",
        f"{I2}::test_the_start_fence_refuses",
        nth=1,
    ),
    Guard(
        "an orphan believes engines only",
        "adapter/core/applying.py",
        "if believed and ",
        "if ",
        f"{I4}::test_an_orphan_is_not_revived_by_anything_else",
    ),
    Guard(
        "a lost run: two looks ten minutes apart",
        "adapter/store/remote_runs.py",
        "now() - interval '10 minutes'",
        "now() + interval '10 minutes'",
        f"{RECONCILE}::test_a_lost_run_is_given_up_after_two_looks_ten_minutes_apart",
    ),
    Guard(
        "a key is released by its own job only",
        "adapter/store/finishing.py",
        "\n    AND k.job_id = g.id AND NOT g.new_orphaned",
        "\n    AND NOT g.new_orphaned",
        f"{KEYS}::test_releasing_takes_only_the_key_that_is_still_the_jobs_own",
    ),
    Guard(
        "limits are counted under the queue's lock",
        LIMITED,
        " FOR NO KEY UPDATE OF q SKIP LOCKED",
        "",
        "tests/store/test_claims.py::test_eight_claimers_never_exceed_a_limit_of_five",
    ),
    Guard(
        "a limit counts what runs",
        LIMITED,
        "(q.limits ->> 'concurrency_limit')::int - r.running)",
        "(q.limits ->> 'concurrency_limit')::int)",
        "tests/store/test_claims.py::test_what_executes_already_counts",
    ),
    Guard(
        "a key's limit counts what runs of the key",
        LIMITED,
        "q.of_key - now.running,",
        "q.of_key,",
        f"{LIMITS}::test_each_key_has_its_own_copy_of_the_queues_limit",
    ),
    Guard(
        "a queue's limit holds over its keys",
        LIMITED,
        "of_queue - total,",
        "",
        f"{LIMITS}::test_a_key_limit_makes_the_queues_limit_one_over_all_keys",
    ),
    Guard(
        "a rate's window slides",
        LIMITED,
        "WHERE rate IS NOT NULL AND starts[i][1] > t - period",
        "WHERE rate IS NOT NULL AND starts[i][1] > t - mod(t, period)",
        f"{LIMITS}::test_a_rate_lets_so_many_start_in_any_window",
    ),
    Guard(
        "a rate per key counts the key's starts",
        LIMITED,
        "q.key_rate - rated.n)",
        "q.key_rate)",
        f"{LIMITS}::test_a_rate_per_key_counts_each_key_for_itself",
    ),
    Guard(
        "a start from the future counts as one of now",
        LIMITED,
        "least(starts[i][1], stamp)",
        "starts[i][1]",
        f"{LIMITS}::test_a_clock_that_was_set_back_delays_no_longer_than_one_period",
    ),
    Guard(
        "the next claim goes on behind the keys this one looked at",
        LIMITED,
        "jsonb_build_object('key', key,",
        "jsonb_build_object('key', NULL,",
        f"{LIMITS}::test_a_key_behind_thousands_of_blocked_ones_is_found_within_a_few_claims",
    ),
    Guard(
        "batches lock in one order",
        ENDINGS,
        "  ORDER BY o.id FOR UPDATE OF o\n",
        "",
        f"{I3}::test_two_batches_in_opposite_order_do_not_deadlock",
    ),
    Guard(
        "silence counts from the server's start",
        RESCUING,
        "now() > pg_postmaster_start_time() + w.lease",
        "w.lease IS NOT NULL",
        "tests/store/test_rescuing.py::test_nobody_is_dead_before_the_server_is_up_for_a_lease",
    ),
    Guard(
        "a verdict falls with the next heartbeat",
        RESCUING,
        "extract(epoch FROM w.seen_at)::float8 = j.seen",
        "j.seen IS NOT NULL",
        "tests/store/test_rescuing.py::test_a_verdict_falls_with_the_next_heartbeat",
    ),
    Guard(
        "a beat that is being written keeps the jobs",
        RESCUING,
        "ORDER BY w.id FOR UPDATE OF w SKIP LOCKED",
        "ORDER BY w.id",
        "tests/store/test_rescuing.py::test_a_heartbeat_that_is_being_written_keeps_the_jobs",
    ),
    Guard(
        "an early verdict falls when the lock is held again",
        RESCUING,
        "(NOT j.early OR ",
        "(true OR ",
        "tests/store/test_rescuing.py::test_an_early_verdict_falls_when_the_lock_is_held_again",
    ),
    Guard(
        "a rescue takes the very claim that was looked at",
        RESCUING,
        " AND o.worker_id IS NOT DISTINCT FROM s.worker_id AND o.claim_number IS NOT DISTINCT FROM s.claim_number",
        "",
        "tests/regressions/test_rescue.py",
    ),
    Guard(
        "one bad row does not stop a rescue",
        RESCUING,
        "    except psycopg.Error as error:\n",
        "    except psycopg.InterfaceError as error:\n",
        "tests/store/test_rescuing.py::test_a_row_that_cannot_be_written_costs_the_others_nothing",
    ),
    Guard(
        "jobs that lose a second worker come back apart",
        RESCUING,
        "CASE WHEN again THEN",
        "CASE WHEN again IS NULL THEN",
        "tests/store/test_rescuing.py::test_jobs_that_lose_a_second_worker_come_back_apart",
    ),
    Guard(
        "lock: a worker that told of none has not lost it",
        LIVENESS,
        "w.lock_key IS NOT NULL AND NOT EXISTS",
        "NOT EXISTS",
        "tests/store/test_rescuing.py::test_a_worker_that_told_of_no_lock_never_looks_as_if_it_had_lost_one",
    ),
    Guard(
        "lock: only on the backend the connection was opened with",
        LIVENESS,
        "CASE WHEN pg_backend_pid() = %(pid)s THEN",
        "CASE WHEN %(pid)s > 0 THEN",
        "tests/core/test_heartbeat.py::test_no_lock_is_taken_where_the_backend_is_not_the_connections_own",
    ),
    Guard(
        "lock: never behind a pooler",
        "adapter/core/heartbeat.py",
        "None if database.config.transaction_pooler else lock_key",
        "lock_key",
        "tests/core/test_heartbeat.py::test_a_worker_that_judges_know_by_no_lock_goes_by_its_lease_alone",
    ),
    Guard(
        "retention: detached concurrently",
        "adapter/store/retention.py",
        "DETACH PARTITION {} CONCURRENTLY",
        "DETACH PARTITION {}",
        "tests/fault/test_retention_in_the_way.py::test_a_drop_that_waits_keeps_nobody_from_rescue",
    ),
    Guard(
        "lock: server and connection are older than a lease",
        LIVENESS,
        "now() > w.lease + greatest(pg_postmaster_start_time(),",
        "now() > greatest(pg_postmaster_start_time(),",
        "tests/store/test_rescuing.py::test_a_look_says_whether_server_and_connection_are_older_than_the_lease",
    ),
    Guard(
        "judge: a young server or connection says nothing",
        JUDGING,
        "pulse.lock_is_free and pulse.is_settled",
        "pulse.lock_is_free",
        JUDGE,
    ),
    Guard("judge: six seconds", JUDGING, "FREE_FOR_S = 6.0", "FREE_FOR_S = 3.0", JUDGE),
    Guard(
        "judge: counted from when it first saw the lock free",
        JUDGING,
        "now if before.free_since is None else before.free_since",
        "before.since",
        JUDGE,
    ),
    Guard(
        "judge: a lock that is held ends the count",
        JUDGING,
        "return _Silence(pulse.seen, before.since, None)",
        "return _Silence(pulse.seen, before.since, before.free_since)",
        JUDGE,
    ),
    Guard(
        "judge: a heartbeat ends the count",
        JUDGING,
        "before is None or before.seen != pulse.seen",
        "before is None",
        JUDGE,
    ),
    Guard(
        "judge: a gap in its looks ends all counts",
        JUDGING,
        "began - self._looked_at > LONGEST_GAP_S",
        "began < self._looked_at",
        JUDGE,
    ),
    Guard(
        "no new try after 4 s without a beat",
        "adapter/core/heartbeat.py",
        "not self._is_known_by_lock or self.age < HOLD_AFTER_S",
        "True",
        "tests/core/test_heartbeat.py::test_nothing_begins_when_no_beat_got_through_for_four_seconds",
    ),
    Guard(
        "a held worker starts nothing",
        "adapter/core/worker.py",
        "self._fenced or (self._heartbeat is not None and not self._heartbeat.may_start)",
        "self._fenced",
        "tests/core/test_heartbeat.py",
    ),
    Guard(
        "a dead letter is redriven once",
        "adapter/store/dead_letters.py",
        "WHERE r.times = (SELECT p.seen FROM pairs p WHERE p.job_id = r.job_id)",
        "WHERE true",
        "tests/core/test_dead_letters.py::test_who_redrives_while_another_does_waits_for_it_and_makes_nothing",
    ),
    Guard(
        "the second look, in finished",
        "adapter/store/jobs.py",
        'rows = await fetch(conn, schema, _FINISHED_BY_ID, {"ids": [job_id]})\n    return job_from_row(rows[0]) if rows else None\n',
        "pass\n    return job_from_row(rows[0]) if rows else None\n",
        f"{I3}::test_a_row_that_moved_between_two_looks_is_found_by_the_second",
        nth=-1,
    ),
    Guard(
        "a claim without a reply is found again",
        "adapter/core/surroundings.py",
        "await return_unknown(conn, schema, self._worker_id, known)",
        "0",
        f"{I1}::test_jobs_whose_claim_got_no_reply_are_found_again_by_their_own_worker",
    ),
    Guard(
        "metadata: the lease",
        "adapter/store/job_metadata.py",
        "AND o.worker_id = w.worker_id\n  AND o.claim_number = w.claim_number AND",
        "AND",
        "tests/core/test_progress.py::test_the_write_is_fenced",
    ),
    Guard(
        "metadata: the last of it before the outcome",
        "adapter/core/completion.py",
        "            if patches:\n",
        "            if not patches:\n",
        "tests/core/test_progress.py::test_a_retry_goes_on_from_what_the_try_before_said",
    ),
    Guard(
        "overruns: the worker has the first word",
        "adapter/store/overruns.py",
        "AND deadline < now() - %(margin)s::interval",
        "AND deadline < now() + %(margin)s::interval",
        "tests/core/test_overruns.py::test_its_own_worker_has_the_first_word",
    ),
    Guard(
        "snoozes: their bound",
        "adapter/core/completion.py",
        "if most is not None and snoozes(job) >= most:",
        "if most is not None and snoozes(job) < 0:",
        "tests/unit/test_plan_write.py",
    ),
    Guard(
        "hooks: the outcome stays",
        "adapter/core/hooks.py",
        """            caller.counts["hook_failed"] += 1\n""",
        """            raise\n""",
        "tests/core/test_hooks.py::test_a_hook_of_the_end_that_fails_changes_nothing",
    ),
    Guard(
        "a child dies with its worker",
        "adapter/core/isolation/child.py",
        "ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)",
        "pass",
        "tests/fault/test_killed_children.py::test_a_deaf_child_dies_with_its_worker_before_its_job_runs_again",
    ),
    Guard(
        "only the very words of a process are its own",
        "adapter/store/wakeup.py",
        "if told[payload] and not conn.closed",
        "if not conn.closed",
        "tests/store/test_direct.py::test_what_a_transaction_says_over_a_connection_that_tells_for_this_process_is_heard",
    ),
    Guard(
        "what is claimed begins before limits are looked at",
        "adapter/core/claiming.py",
        "                if claimed:\n",
        "                if not claimed:\n",
        "tests/core/test_claiming.py::test_what_is_claimed_begins_before_the_queues_with_a_limit_are_looked_at",
    ),
    Guard(
        "a single call reads flags that are too old itself",
        "adapter/core/group_commit.py",
        "if self._scheduler.fresh_flags is None:",
        "if False:",
        "tests/core/test_group_commit.py::test_flags_that_are_too_old_are_read_before_the_insert_and_cost_no_transaction",
    ),
    Guard(
        "who begins to listen learns who watches",
        "adapter/core/watching/hub.py",
        "if WHO_WATCHES in topics and self._feeds:",
        "if False:",
        "tests/watching/test_hub.py::test_who_begins_to_listen_asks_once_whether_anybody_watches",
    ),
    Guard(
        "the outlook: what has expired",
        "adapter/store/outlook.py",
        "+ HAS_EXPIRED",
        '+ "false"',
        "tests/store/test_upkeep.py",
    ),
    Guard(
        "the outlook: who is done waiting",
        "adapter/store/outlook.py",
        "+ IS_DONE_WAITING",
        '+ "false"',
        "tests/store/test_upkeep.py",
    ),
    Guard(
        "the outlook: tries that are over their time",
        "adapter/store/outlook.py",
        "+ IS_OVERRUN",
        '+ "false"',
        "tests/store/test_upkeep.py",
    ),
    Guard(
        "the outlook: children of canceled parents",
        "adapter/store/outlook.py",
        "EXISTS (SELECT FROM {s}.family_cancels)",
        "false",
        "tests/store/test_upkeep.py",
    ),
    Guard(
        "the outlook: tokens that time out",
        "adapter/store/outlook.py",
        "return self.timeout_s is not None and self.timeout_s <= 0",
        "return False",
        "tests/store/test_upkeep.py",
    ),
    Guard(
        "what a child has started dies with it",
        "adapter/core/isolation/child_process.py",
        "os.killpg(self._process.pid, signal.SIGKILL)",
        "self._process.kill()",
        "tests/core/test_isolation.py::test_out_of_time_it_is_killed_with_all_that_it_started",
    ),
    Guard(
        "strict jobs do not go to the fallback",
        OUTBOX,
        " AND NOT (%(spare_strict)s AND COALESCE(extra ? 'strict', false))",
        "",
        "tests/cutover/test_failback.py::test_an_open_circuit_sends_new_jobs_and_those_not_handed_over_to_the_fallback",
    ),
    Guard(
        "a resumed executor is judged anew",
        "adapter/store/flag_changes.py",
        """    if key["kind"] == "circuit" and value is None:
        await fetch(conn, schema, FORGET, key)
""",
        "",
        "tests/cutover/test_failback.py::test_without_a_fallback_jobs_wait_until_a_person_resumes",
    ),
    Guard(
        "one canary per beat",
        "adapter/store/executor_health.py",
        "WHERE executor = %(executor)s AND next_at <= now() RETURNING executor",
        "WHERE executor = %(executor)s RETURNING executor",
        "tests/cutover/test_failback.py::test_one_canary_goes_out_per_beat_however_many_processes_send_them",
    ),
    Guard(
        "an error of one job of a batch",
        "adapter/core/batching.py",
        "said = self._said = self._said or (error, result)",
        "said = self._said = (error, result)",
        "tests/core/test_batching.py::test_each_job_has_an_outcome_of_its_own",
    ),
    Guard(
        "no shadow executes what has effects",
        SHADOWING,
        " and (policy.pure or shadow.mode is ShadowMode.ENQUEUE)",
        "",
        f"{SHADOW}::test_effects_are_never_had_twice",
    ),
    Guard(
        "a shadow that is only taken reaches no handler here",
        "adapter/core/tries.py",
        "if is_only_taken(job.extra):",
        "if False:",
        f"{SHADOW}::test_a_copy_that_is_only_taken_goes_the_whole_way_and_calls_no_handler",
    ),
    Guard(
        "a shadow that is only taken goes to another task there",
        "adapter/core/submissions.py",
        "ACKNOWLEDGE if is_only_taken(job.extra) else ",
        "",
        f"{SHADOW}::test_a_copy_that_is_only_taken_goes_the_whole_way_and_calls_no_handler",
    ),
    Guard(
        "so many shadows are open and no more",
        SHADOWING,
        "sampled[: max(0, shadow.most_open - progress.open)]",
        "sampled",
        f"{SHADOW}::test_more_than_may_be_open_are_dropped_and_counted",
    ),
    Guard(
        "shadows say nothing of an executor's health",
        "adapter/core/cutover/tally.py",
        "if is_shadow(job.extra):",
        "if False:",
        f"{SHADOW}::test_copies_do_not_count_in_failback_and_hooks_and_observers_do_not_hear_of_them",
        every=True,
    ),
    Guard(
        "a shadow has no shadow",
        "adapter/store/shadows.py",
        " AND NOT COALESCE(extra ? 'shadow_of', false)",
        "",
        f"{SHADOW}::test_only_jobs_that_ran_elsewhere_since_it_was_switched_on_are_copied",
    ),
    Guard(
        "shadows are not among the jobs of the parity report",
        "adapter/store/parity.py",
        "\n    AND NOT COALESCE(extra ? 'shadow_of', false)",
        "",
        "tests/cutover/test_parity.py::test_copies_are_held_against_their_jobs",
    ),
    Guard(
        "that shadows are taken proves nothing by itself",
        "adapter/domain/parity.py",
        "if verdict is ParityVerdict.PASS and not any(proves for _, proves in found):",
        "if False:",
        "tests/unit/test_parity_verdict.py::test_that_copies_are_taken_can_fail_and_proves_nothing_by_itself",
    ),
    Guard(
        "a bulk action replays a job once, whoever is at it",
        "adapter/store/bulk_actions.py",
        "job_id = ANY(%(jobs)s) AND outcome IS NULL",
        "job_id = ANY(%(jobs)s)",
        "tests/core/test_bulk_actions.py::test_two_processes_at_one_action_replay_each_job_once",
    ),
    Guard(
        "a reschedule is of a delayed job",
        "adapter/store/job_changes.py",
        "AND o.status = 'DELAYED' AND ",
        "AND ",
        "tests/core/test_job_changes.py::test_only_a_job_that_is_delayed_here_is_rescheduled",
    ),
    Guard(
        "a reschedule is of a job that nobody was given",
        "adapter/store/job_changes.py",
        """    + UNSTARTED
""",
        """    + "true"
""",
        "tests/core/test_job_changes.py::test_only_a_job_that_is_delayed_here_is_rescheduled",
    ),
    Guard(
        "a change of metadata counts once per call",
        "adapter/core/job_changes.py",
        "if request_key is not None and not await job_changes.first_time(",
        "if False and not await job_changes.first_time(",
        "tests/core/test_job_changes.py::test_metadata_is_changed_once_per_call_and_counts_no_change_twice",
    ),
]


def patched(content: str, guard: Guard) -> str | None:
    """Return the file without the guard, None when the guard is not found as it is described."""
    pieces = content.split(guard.text)
    found = len(pieces) - 1
    if guard.every and found:
        return guard.without.join(pieces)
    if found == 0 or (guard.nth is None and found > 1):
        return None
    at = found - 1 if guard.nth == -1 else guard.nth or 0
    if at >= found:
        return None
    return guard.text.join(pieces[: at + 1]) + guard.without + guard.text.join(pieces[at + 1 :])


def run(tree: Path, tests: str) -> tuple[bool, str]:
    """Return whether the tests pass in that tree, and their last line or what failed first."""
    options = ["-q", "-x", "-n0", "-p", "no:randomly", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *tests.split()]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode not in {0, 1}:
        raise SystemExit(f"pytest could not run {tests}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    if done.returncode == 0:
        return True, lines[-1] if lines else ""
    # A statement that is broken altogether would be noticed too: the reason shows that it is not that.
    return False, next((line[1:].strip() for line in lines if line.startswith("E  ")), "")[:70]


def main() -> int:
    """Try every guard; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only guards with this in their name or file")
    only = parser.parse_args().only
    chosen = [guard for guard in GUARDS if only in guard.name or only in guard.file]
    rows: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="adapter-checks-") as directory:
        tree = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=LEFT_OUT)
            elif source.exists():
                shutil.copy(source, tree / name)
        sound, line = run(tree, " ".join(dict.fromkeys(" ".join(guard.tests for guard in chosen).split())))
        print(f"untouched: {line}", flush=True)
        if not sound:
            print("The tests fail with every guard in place; nothing can be learned.")
            return 1
        for guard in chosen:
            file = tree / guard.file
            whole = file.read_text(encoding="utf-8")
            without = patched(whole, guard)
            if without is None:
                rows.append((guard.name, "NOT FOUND", "", guard.file))
                continue
            file.write_text(without, encoding="utf-8")
            began = time.monotonic()
            passes, why = run(tree, guard.tests)
            file.write_text(whole, encoding="utf-8")
            verdict = "NOT NOTICED" if passes else "noticed"
            rows.append((guard.name, verdict, f"{time.monotonic() - began:.0f} s", "" if passes else why))
            print(f"{verdict:12} {guard.name}", flush=True)
    print()
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    missed = [row for row in rows if row[1] != "noticed"]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} guards are watched by a test.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
