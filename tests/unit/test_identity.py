"""Names under which a job is known elsewhere are contracts: their vectors never change."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain import identity

JOB = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def test_the_keys_of_an_epoch_are_pinned() -> None:
    key = identity.idempotency_key(JOB, 2)
    assert key == "01890a5d-ac96-774b-bcce-b302099a8057:2"
    assert identity.hashed_key(key) == "399af44b64217c6587fd8e724c4d56df6bdc1eabeafe73757a6489b9b782e5d3"
    assert identity.request_key(JOB, 2) == "f4cb1f52-e0b7-59f5-ab85-eb46cd1ce1fd"
    assert identity.epoch_tag(JOB, 2) == "job:01890a5d-ac96-774b-bcce-b302099a8057:2"
    assert identity.tombstone_tag(JOB, 2) == "tombstone:01890a5d-ac96-774b-bcce-b302099a8057:2"


def test_a_key_is_hashed_as_by_the_sdk() -> None:
    expected = "5e78863ed1ffb9fc66b1d61634b126bf8eb20267e7996297eeeb9b19c8c0f732"
    assert identity.hashed_key("my-key") == expected


@given(job=st.uuids(), one=st.integers(1, 99), other=st.integers(1, 99))
def test_every_epoch_has_keys_of_its_own(job: UUID, one: int, other: int) -> None:
    for name in (identity.idempotency_key, identity.request_key, identity.epoch_tag, identity.tombstone_tag):
        assert (name(job, one) == name(job, other)) == (one == other)


@pytest.mark.parametrize(
    ("job", "run_id"),
    [
        (UUID(int=0), "run_11111111111111111111111111"),
        (JOB, "run_11d79fxerwub9zc885x8vc3o3t"),
        (UUID(int=2**128 - 1), "run_2rrj7prif1dmcdvp8syr7stiai"),
    ],
)
def test_run_ids_are_pinned(job: UUID, run_id: str) -> None:
    assert identity.run_id_of(job) == run_id
    assert identity.job_id_of(run_id) == job


@given(st.uuids())
def test_a_run_id_leads_back_to_its_job(job: UUID) -> None:
    assert identity.job_id_of(identity.run_id_of(job)) == job


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_run_ids_sort_as_their_jobs_do(one: int, other: int) -> None:
    ids = identity.run_id_of(UUID(int=one)), identity.run_id_of(UUID(int=other))
    assert (ids[0] < ids[1]) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run_",
        "run_1",
        "11d79fxerwub9zc885x8vc3o3t",
        "run_11d79fxerwub9zc885x8vc3o30",
        "run_11d79fxerwub9zc885x8vc3o3l",
        "run_11d79fxerwub9zc885x8vc3o3T",
        "run_zzzzzzzzzzzzzzzzzzzzzzzzzz",
        "run_feqmkjnbmbaek9zjv17wz",
        "job_11d79fxerwub9zc885x8vc3o3t",
        "run_run_11d79fxerwub9zc885x8vc3o3t",
    ],
)
def test_a_foreign_run_id_is_no_job(text: str) -> None:
    assert identity.job_id_of(text) is None


@given(st.text())
def test_any_text_may_be_asked_for(text: str) -> None:
    assert identity.job_id_of("run_" + text) is None or len(text) == 26
    identity.parse_epoch_tag(text)
    identity.parse_epoch_tag("job:" + text)


@given(st.uuids(), st.integers(1, 10_000))
def test_an_epoch_tag_is_read_back(job: UUID, epoch: int) -> None:
    assert identity.parse_epoch_tag(identity.epoch_tag(job, epoch)) == (job, epoch)


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "job:",
        f"job:{JOB}",
        f"job:{JOB}:",
        f"job:{JOB}:x",
        f"job:{JOB}:-1",
        f"job:{JOB}:1:2",
        "job:nobody:1",
        f"Job:{JOB}:1",
        f"tombstone:{JOB}:1",
    ],
)
def test_another_tag_is_no_epoch_tag(tag: str) -> None:
    assert identity.parse_epoch_tag(tag) is None
