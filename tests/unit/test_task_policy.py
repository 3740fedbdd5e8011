"""What a declaration means."""

import pytest

from adapter.core.tasks import policy_of
from adapter.domain.errors import TaskDefinitionError


def test_a_task_that_only_one_other_place_can_run_goes_there() -> None:
    policy = policy_of("report", runs_locally=False, options={"remote_id": {"trigger": "make-report"}})
    assert policy.default_executor == "trigger"
    # Implied, so a process without that executor still boots.
    assert policy.executor is None


def test_a_task_that_can_run_here_stays_here_unless_told_otherwise() -> None:
    policy = policy_of("report", runs_locally=True, options={"remote_id": {"trigger": "make-report"}})
    assert policy.default_executor is None


def test_an_executor_without_an_id_knows_the_task_by_its_own() -> None:
    policy = policy_of("report", runs_locally=False, options={"executor": "trigger"})
    assert policy.remote_ids == {"trigger": "report"}


@pytest.mark.parametrize("remote_id", [{}, {"trigger": "a", "other": "b"}])
def test_a_task_with_nowhere_or_several_places_to_go_must_say_where(remote_id: dict[str, str]) -> None:
    with pytest.raises(TaskDefinitionError, match="executor="):
        policy_of("report", runs_locally=False, options={"remote_id": remote_id})


def test_what_jobs_are_dealt_by_must_name_something() -> None:
    assert policy_of("report", runs_locally=True, options={"hash_by": "data.customer.id"}).hash_by
    with pytest.raises(TaskDefinitionError, match="hash_by"):
        policy_of("report", runs_locally=True, options={"hash_by": "customer"})
