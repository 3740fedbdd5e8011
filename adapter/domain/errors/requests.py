"""What a caller can mend: nothing was written."""

from __future__ import annotations

from adapter.domain.errors.base import AdapterError


class RequestError(AdapterError):
    """The call cannot be carried out as asked; nothing was written."""

    code = "request"


class InvalidArgumentError(RequestError, ValueError):
    """An argument is out of range, or two arguments exclude each other."""

    code = "invalid_argument"


class MetadataTooLargeError(InvalidArgumentError):
    """A job's metadata would take more bytes than it may."""

    code = "metadata_too_large"

    def __init__(self, size: int, most: int) -> None:
        super().__init__(
            f"Metadata may take {most} bytes; this would be {size}. Keep large things elsewhere, and their place in it."
        )


class TooManyTagsError(InvalidArgumentError):
    """A job would get more tags than it may have."""

    code = "too_many_tags"

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"Runs can only have {most} tags, you're trying to set {count}.")


class InvalidCronError(InvalidArgumentError):
    """A cron expression cannot be read or never fires, or there is no such time zone."""

    code = "invalid_cron"

    def __init__(self, given: str, problem: str) -> None:
        super().__init__(f"{given!r} is no schedule: {problem}. Five fields are read, as in '0 9 * * 1-5'.")
        self.given = given
        self.problem = problem


class InvalidPayloadError(RequestError):
    """The payload does not fit the task's schema, or is no JSON PostgreSQL can keep.

    ``problems`` lists the paths and what is wrong there, never the values.
    """

    code = "invalid_payload"

    def __init__(self, task: str, problems: list[str]) -> None:
        super().__init__(f"The payload of {task!r} is not valid: {'; '.join(problems)}.")
        self.problems = problems


class UnknownTaskError(RequestError):
    """No task of that name is registered."""

    code = "unknown_task"

    def __init__(self, task: str, near: list[str]) -> None:
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        super().__init__(f"No task {task!r} is registered.{hint}")
        self.task = task


class TaskDisabledError(RequestError):
    """The task is declared with ``enabled=False``."""

    code = "task_disabled"

    def __init__(self, task: str) -> None:
        super().__init__(f"Task {task!r} is disabled. Enable it in the registry to schedule it.")


class DuplicateJobError(RequestError):
    """A job holds the key or tag, and the call said ``on_conflict="reject"``. ``job_id`` is the holder."""

    code = "duplicate_job"

    def __init__(self, task: str, held_by: str, job_id: object) -> None:
        super().__init__(
            f"Job {job_id} of {task!r} already holds this {held_by}. Nothing was written; look at that job, "
            "or schedule with on_conflict='keep' or 'replace'."
        )
        self.task = task
        self.job_id = job_id


class NameTakenError(RequestError):
    """A job of somebody else holds the key or tag, and the caller acts for one user only."""

    code = "name_taken"

    def __init__(self, task: str, held_by: str) -> None:
        super().__init__(
            f"This {held_by} of {task!r} is taken by what is not yours. Nothing was written; choose another one."
        )


class JobNotFoundError(RequestError):
    """No job has that id, or it is past its retention."""

    code = "job_not_found"

    def __init__(self, job_id: object) -> None:
        super().__init__(f"There is no job {job_id}.")


class JobStateError(RequestError):
    """The job is in a state in which this cannot be done."""

    code = "job_state"


class BatchNotFoundError(RequestError):
    """No batch has that id, or it is past its retention."""

    code = "batch_not_found"

    def __init__(self, batch_id: object) -> None:
        super().__init__(f"There is no batch {batch_id}.")


class BatchAbortedError(RequestError):
    """The batch waited too long for its items."""

    code = "batch_aborted"

    def __init__(self, batch_id: object) -> None:
        super().__init__(f"Batch {batch_id} was never completed, and is aborted. Open a new one.")


class ReplayMismatchError(RequestError):
    """A handler that runs again has asked for other children than the first time."""

    code = "replay_mismatch"

    def __init__(self, job_id: object, call: str, before: str, now: str) -> None:
        super().__init__(
            f"Job {job_id} runs again, and its waiting call {call} asks for {now!r} where it asked for {before!r}. "
            "Make waiting calls in the same order in every try, or name them with key=."
        )
        self.job_id = job_id


class RecallNotFoundError(RequestError):
    """No recall has that id, or it is past its retention."""

    code = "recall_not_found"

    def __init__(self, recall_id: object) -> None:
        super().__init__(f"There is no recall {recall_id}. `adapter cutover recalls` lists those there are.")


class RecallConflictError(RequestError):
    """Another recall of this task stands. ``recall_id`` is its id."""

    code = "recall_conflict"

    def __init__(self, task: str, recall_id: object, mode: str) -> None:
        super().__init__(
            f"Recall {recall_id} ({mode}) of {task!r} is not done. Let it end, or stop it with "
            f"`adapter cutover stop-recall {recall_id}`."
        )
        self.recall_id = recall_id


class BulkActionNotFoundError(RequestError):
    """No bulk action has that id, or it is past its retention."""

    code = "bulk_action_not_found"

    def __init__(self, bulk_action_id: object) -> None:
        super().__init__(f"There is no bulk action {bulk_action_id}.")


class FlagConflictError(RequestError):
    """Somebody else changed the flag since it was read. Read it again and decide again."""

    code = "flag_conflict"


class ScheduleNotFoundError(RequestError):
    """There is no schedule of that id."""

    code = "schedule_not_found"

    def __init__(self, schedule_id: object) -> None:
        super().__init__(f"There is no schedule {schedule_id}. `adapter cron list` shows those there are.")


class ScheduleStateError(RequestError):
    """The schedule is in a state in which this cannot be done."""

    code = "schedule_state"

    def __init__(self, schedule_id: object, why: str) -> None:
        super().__init__(f"Schedule {schedule_id} cannot be changed now: {why}.")


class QueueNotFoundError(InvalidArgumentError):
    """There is no queue of that name: no task has it, and no job was ever in it."""

    code = "queue_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no queue named {name!r}. `adapter queues list` shows those there are.")


class TokenNotFoundError(RequestError):
    """No wait token has that id, or it is past its retention."""

    code = "token_not_found"

    def __init__(self, token_id: object) -> None:
        super().__init__(f"There is no wait token {token_id}.")


class ChangeNotFoundError(RequestError):
    """The audit has no change of that id."""

    code = "change_not_found"

    def __init__(self, change: object) -> None:
        super().__init__(f"There is no change {change}. `adapter cutover history` lists them.")


class DrillConflictError(RequestError):
    """A drill of this task is running."""

    code = "drill_conflict"

    def __init__(self, task: str) -> None:
        super().__init__(
            f"A drill of {task!r} is running. Wait for its end: `adapter cutover drills {task}`."
        )


class FinalizationError(RequestError):
    """An executor cannot be left for good: the message says by which gate."""

    code = "not_finalized"

    def __init__(self, why: str) -> None:
        super().__init__(f"It cannot be finalized: {why}.")


class ExecutorFinalizedError(RequestError):
    """An executor was left for good; no flag sends jobs there until somebody reopens it."""

    code = "executor_finalized"

    def __init__(self, executor: str, task: str) -> None:
        whose = "every task" if task == "*" else repr(task)
        option = "" if task == "*" else f" --task {task}"
        super().__init__(
            f"{executor!r} was left for good by {whose}, so no flag can send jobs there. "
            f"If that was too early: `adapter cutover reopen {executor}{option} --reason …`."
        )


class KeyNotFoundError(RequestError):
    """There is no key of that id, or it is revoked already."""

    code = "key_not_found"

    def __init__(self, key_id: object) -> None:
        super().__init__(
            f"There is no key {key_id}, or it is revoked. `adapter keys list` shows those there are."
        )


class TokenSpentError(RequestError):
    """A public token that is good for one call has been used by another one."""

    code = "token_spent"

    def __init__(self, for_what: str) -> None:
        super().__init__(f"Cannot trigger {for_what} with a one-time use token as it has already been used.")


class SubscriptionNotFoundError(RequestError):
    """Nobody is subscribed under that id."""

    code = "subscription_not_found"

    def __init__(self, subscription_id: object) -> None:
        super().__init__(
            f"There is no webhook subscription {subscription_id}. `adapter webhooks subscriptions` shows those there are."
        )
