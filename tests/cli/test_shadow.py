"""`adapter cutover shadow` and `parity`."""

from types import ModuleType

import psycopg

from tests.cli.commands import adapter

_ENDED = """
INSERT INTO adapter.worker_jobs_finished (id, type, status, success, executor, queue, started, finished, drop_on)
SELECT gen_random_uuid(), 'index', %(status)s, %(status)s = 'COMPLETED', %(executor)s, 'default',
  now() - interval '1 s', now() - interval '1 ms', '9999-12-31' FROM generate_series(1, %(jobs)s)
"""


def ended(database: str, executor: str, status: str, jobs: int) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(_ENDED, {"executor": executor, "status": status, "jobs": jobs})


def test_a_shadow_is_switched_on_shown_and_off(shop: ModuleType) -> None:
    words = ("cutover", "shadow", "index", "--at", "trigger", "--percent", "5")
    done = adapter(*words, "--mode", "enqueue", "--reason", "week 0")
    assert (done.code, done.out) == (0, "5% of the ended jobs of 'index' are copied to trigger: enqueue\n")
    assert "5% copied to trigger" in adapter("cutover", "status").out
    assert "shadow to trigger enqueue 5%" in adapter("cutover", "history", "index").out
    off = adapter(*words, "--mode", "off", "--reason", "enough")
    assert (off.code, off.out) == (0, "no more jobs of 'index' are copied to trigger\n")
    gone = adapter(*words, "--mode", "off", "--reason", "enough")
    assert (gone.code, "There is no shadow of 'index' at trigger" in gone.err) == (6, True)


def test_effects_are_not_had_twice(shop: ModuleType) -> None:
    refused = adapter("cutover", "shadow", "index", "--at", "trigger", "--mode", "execute", "--reason", "x")
    assert (refused.code, "pure=True" in refused.err) == (2, True)


def test_parity_has_a_code_for_each_verdict(shop: ModuleType, database: str) -> None:
    unknown = adapter("cutover", "parity")
    assert (unknown.code, unknown.out) == (3, "")
    assert "No task had jobs or copies at more than one executor" in unknown.err
    assert adapter("cutover", "parity", "indx").code == 6
    assert adapter("cutover", "parity", "--since", "soon").code == 2
    ended(database, "local", "COMPLETED", 5)
    ended(database, "trigger", "COMPLETED", 5)
    few = adapter("--json", "cutover", "parity", "index", "--since", "1h")
    assert (few.code, few.document["verdict"]) == (3, "inconclusive")
    words = ("cutover", "parity", "index", "--at-least", "5", "--margin", "60")
    well = adapter(*words)
    assert (well.code, "local against trigger" in well.out, "pass" in well.out) == (0, True, True), well
    ended(database, "local", "FAILED", 500)
    bad = adapter("--json", *words[:3], "--reference", "trigger", "--at-least", "5")
    assert (bad.code, bad.document["tasks"][0]["verdicts"][0]["verdict"]) == (1, "fail")


def test_copies_are_listed_only_when_asked_for(shop: ModuleType, database: str) -> None:
    ended(database, "trigger", "COMPLETED", 2)
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            "UPDATE adapter.worker_jobs_finished SET extra = jsonb_build_object('shadow_of', id)"
            " WHERE id = (SELECT min(id::text)::uuid FROM adapter.worker_jobs_finished)"
        )
    listed = [adapter("--json", "jobs", "list", *more).document["jobs"] for more in ((), ("--shadows",))]
    assert [len(each) for each in listed] == [1, 2]
