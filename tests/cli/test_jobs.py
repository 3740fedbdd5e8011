import json
from types import ModuleType
from typing import Any
from uuid import UUID

import psycopg
import pytest

from adapter.domain.identity import run_id_of
from tests.cli.commands import adapter


def schedule(task: str, payload: Any = None, *options: str) -> dict[str, Any]:
    """Schedule a job with the command; returns it."""
    answer = adapter("--json", "jobs", "schedule", task, json.dumps(payload), *options)
    assert answer.code == 0, answer.err
    return answer.document["job"]


def work() -> int:
    answer = adapter("--json", "worker", "--once")
    assert answer.code == 0, answer.err
    return answer.document["ran"]


def test_a_scheduled_job_says_where_it_goes_and_why(shop: ModuleType) -> None:
    job = schedule("send-email", {"to": "ann"}, "--tag", "ann", "--label", "a", "--label", "b")
    assert (job["status"], job["executor"], job["route_reason"]) == ("QUEUED", "local", "default")
    assert (job["tag"], job["tags"], job["data"]) == ("ann", ["a", "b"], {"to": "ann", "text": ""})
    assert job["run_id"] == run_id_of(UUID(job["id"]))


def test_a_schedule_for_people_names_the_job_and_its_route(shop: ModuleType) -> None:
    answer = adapter("jobs", "schedule", "send-email", '{"to": "ann"}', "--delay", "10m")
    assert answer.code == 0
    assert "DELAYED" in answer.out
    assert "local: default" in answer.out
    assert "(in 10m)" in answer.out


def test_a_known_key_finds_the_job_there_was(shop: ModuleType) -> None:
    first = schedule("send-email", {"to": "ann"}, "--idempotency-key", "k")
    again = schedule("send-email", {"to": "bob"}, "--idempotency-key", "k")
    assert (again["id"], again["deduplicated"]) == (first["id"], True)
    answer = adapter("jobs", "schedule", "send-email", '{"to": "bob"}', "--idempotency-key", "k")
    assert "nothing was scheduled" in answer.out


@pytest.mark.parametrize("how", ["-", "@"])
def test_a_payload_may_come_from_a_file_or_standard_input(shop: ModuleType, tmp_path: Any, how: str) -> None:
    (tmp_path / "mail.json").write_text('{"to": "ann"}')
    word = how if how == "-" else f"@{tmp_path}/mail.json"
    answer = adapter("--json", "jobs", "schedule", "send-email", word, given='{"to": "ann"}')
    assert answer.document["job"]["data"]["to"] == "ann"


def test_every_option_of_a_schedule_reaches_the_row(shop: ModuleType) -> None:
    options = {
        "--executor": "trigger",
        "--due": "2100-01-02T03:04:05+0000",
        "--ttl": "1h",
        "--remove-at": "2100-02-03T04:05:06+0000",
        "--priority": "7",
        "--queue": "bulk",
        "--concurrency-key": "customer-1",
        "--max-attempts": "9",
        "--user-id": "17",
        "--context": "plan=pro",
    }
    job = schedule("index", [1], "--strict", *(word for pair in options.items() for word in pair))
    assert (job["executor"], job["due"], job["priority"]) == ("trigger", "2100-01-02T03:04:05Z", 7)
    assert (job["queue"], job["concurrency_key"], job["max_attempts"]) == ("bulk", "customer-1", 9)
    assert (job["user_id"], job["data"], job["remove_at"]) == ("17", [1], "2100-02-03T04:05:06Z")
    assert job["expires_at"] > job["due"]


def test_a_list_is_filtered_and_paged(shop: ModuleType) -> None:
    ids = [schedule("send-email", {"to": name}, "--tag", name)["id"] for name in ("ann", "bob", "eve")]
    schedule("index", None, "--label", "deep")
    assert work() == 4

    def listed(*options: str) -> list[str]:
        answer = adapter("--json", "jobs", "list", *options)
        assert answer.code == 0, answer.err
        return [job["id"] for job in answer.document["jobs"]]

    assert listed("--type", "send-email") == ids[::-1]
    assert listed("--status", "completed", "--queue", "mail", "--executor", "internal") == ids[::-1]
    assert listed("--tag", "bob") == [ids[1]]
    assert listed("--status", "failed", "--status", "queued") == []
    assert len(listed("--label", "deep")) == 1
    page = adapter("--json", "jobs", "list", "--type", "send-email", "--limit", "2").document
    assert [job["id"] for job in page["jobs"]] == ids[:0:-1]
    assert listed("--type", "send-email", "--after", page["next"]) == ids[:1]
    assert "data" not in page["jobs"][0]


def test_a_list_for_people_is_a_table_and_says_how_to_go_on(shop: ModuleType) -> None:
    first, second = (schedule("index")["id"] for _ in range(2))
    answer = adapter("jobs", "list", "--limit", "1")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["ID", "TASK", "STATUS", "EXECUTOR", "QUEUE", "TAG", "TRY", "CREATED"]
    assert lines[1].split()[:4] == [second, "index", "QUEUED", "local"]
    assert "More: --after" in answer.err
    assert first not in answer.out


def test_an_empty_list_is_no_error(shop: ModuleType) -> None:
    answer = adapter("jobs", "list")
    assert (answer.code, answer.out, answer.err) == (0, "", "No jobs.\n")


def test_a_job_is_shown_with_its_result_by_either_id(shop: ModuleType) -> None:
    job = schedule("send-email", {"to": "ann"})
    work()
    for name in (job["id"], job["run_id"]):
        shown = adapter("--json", "jobs", "show", name).document
        assert shown["job"]["result"] == {"sent": "ann"}
        assert shown["events"] == []
    text = adapter("jobs", "show", job["run_id"]).out
    assert "local: default" in text
    assert '"sent": "ann"' in text
    assert "1 of 5" in text


def test_a_failed_job_is_shown_with_its_error(shop: ModuleType) -> None:
    job = schedule("fail")
    work()
    text = adapter("jobs", "show", job["id"]).out
    assert "ValueError: no such mailbox" in text
    assert "Traceback" in text


def test_what_happened_to_a_job_is_shown(shop: ModuleType) -> None:
    job = schedule("index")
    assert adapter("jobs", "cancel", job["id"], "--reason", "not needed").code == 0
    shown = adapter("--json", "jobs", "show", job["id"]).document
    assert shown["job"]["status"] == "CANCELED"
    assert [(each["kind"], each["detail"]["reason"]) for each in shown["events"]] == [
        ("canceled", "not needed")
    ]
    assert "reason=not needed" in adapter("jobs", "show", job["id"]).out


def test_a_job_shows_why_it_waits(shop: ModuleType) -> None:
    job = schedule("send-email", {"to": "ann"}, "--delay", "10m")
    (reason,) = adapter("--json", "jobs", "show", job["id"]).document["waits"]
    assert (reason["code"], reason["until"]) == ("due", job["due"])
    text = adapter("jobs", "show", job["id"]).out
    assert "Why it waits" in text
    assert "It is not due yet." in text
    adapter("jobs", "cancel", job["id"])
    assert adapter("--json", "jobs", "show", job["id"]).document["waits"] == []
    assert "Why it waits" not in adapter("jobs", "show", job["id"]).out


def test_a_parent_shows_its_children_and_which_it_awaits(shop: ModuleType, database: str) -> None:
    parent, child, other = [schedule("index") for _ in range(3)]
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            "UPDATE adapter.worker_jobs_open SET parent_id = %s WHERE id = ANY(%s::uuid[])",
            [parent["id"], [child["id"], other["id"]]],
        )
        conn.execute(
            "UPDATE adapter.worker_jobs_open SET status = 'WAITING', waiting_for = 'children', awaiting = %s::uuid[]"
            " WHERE id = %s",
            [[child["id"]], parent["id"]],
        )
    shown = adapter("--json", "jobs", "show", parent["id"]).document
    assert {each["id"] for each in shown["children"]} == {child["id"], other["id"]}
    assert (shown["more_children"], shown["awaits"]) == (False, [child["id"]])
    text = adapter("jobs", "show", parent["id"]).out
    assert "It awaits 1 of 1 children." in text
    assert "Awaits (1)" in text


def test_control_characters_of_a_stranger_do_not_reach_the_terminal(shop: ModuleType) -> None:
    schedule("index", "\x1b[2J", "--tag", "\x1b[2Jtag")
    answer = adapter("jobs", "list")
    assert "\x1b[2J" not in answer.out
    assert "\\x1b[2Jtag" in answer.out


def test_waiting_for_a_job_that_nobody_runs_ends_with_4(shop: ModuleType) -> None:
    answer = adapter("jobs", "schedule", "index", "--wait", "--timeout", "0s")
    assert answer.code == 4
    assert "[result_timeout]" in answer.err


def test_a_job_that_has_ended_cannot_be_canceled(shop: ModuleType) -> None:
    job = schedule("index")
    work()
    answer = adapter("jobs", "cancel", job["id"])
    assert (answer.code, answer.out) == (5, "")
    assert "had ended before: COMPLETED" in answer.err


def test_a_cancel_that_a_remote_has_to_confirm_says_so(shop: ModuleType) -> None:
    job = schedule("report")
    for _ in range(5):
        shop.remote.next_fault("connect_error", on="cancel")
    answer = adapter("jobs", "cancel", job["id"])
    assert answer.code == 0
    assert "will be confirmed" in answer.out


def test_a_replay_is_a_new_job_that_names_the_old_one(shop: ModuleType) -> None:
    job = schedule("send-email", {"to": "ann"})
    work()
    made = adapter("--json", "jobs", "replay", job["id"]).document["job"]
    assert made["id"] != job["id"]
    assert (made["data"], made["extra"]["replay_of"]) == (job["data"], job["id"])
    answer = adapter("jobs", "replay", made["id"], "--executor", "local")
    assert answer.code == 0
    assert "local: call" in answer.out


@pytest.mark.parametrize(
    ("assume", "status"), [("--assume-lost", "SYSTEM_FAILURE"), ("--assume-not-started", "PENDING")]
)
def test_an_uncertain_job_is_resolved_on_a_persons_word(shop: ModuleType, assume: str, status: str) -> None:
    for _ in range(5):
        shop.remote.next_fault("timeout_before", on="trigger")
    job = schedule("report")
    make_uncertain(shop.adapter.settings.database_url.get_secret_value(), job["id"])
    answer = adapter("--json", "jobs", "resolve", job["id"], assume, "--reason", "the remote's log says so")
    assert answer.code == 0, answer.err
    assert answer.document["job"]["status"] == status
    event = adapter("--json", "jobs", "show", job["id"]).document["events"][-1]
    assert event["detail"]["reason"] == "the remote's log says so"
    assert event["actor"]


def make_uncertain(url: str, job_id: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "UPDATE adapter.worker_jobs_open SET submit_state = 'unknown', dispatch_lease_until = NULL,"
            " next_try_at = now() + interval '1 hour', first_try_at = now() - interval '21 hours' WHERE id = %s",
            [job_id],
        )


def test_only_an_uncertain_job_can_be_resolved(shop: ModuleType) -> None:
    job = schedule("index")
    answer = adapter("jobs", "resolve", job["id"], "--assume-lost", "--reason", "x")
    assert (answer.code, "[job_state]" in answer.err) == (5, True)
    neither = adapter("jobs", "resolve", job["id"], "--reason", "x")
    assert neither.code == 2
