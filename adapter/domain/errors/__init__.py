"""Every error this library raises, in one tree.

::

    AdapterError                       code: adapter
    ├── ConfigurationError             configuration        stops a boot
    │   ├── UnknownExecutorError       unknown_executor
    │   ├── TaskDefinitionError        task_definition
    │   └── NotOpenError               not_open
    ├── RequestError                   request              the caller can mend it
    │   ├── InvalidArgumentError       invalid_argument     also a ValueError
    │   │   ├── InvalidCronError       invalid_cron
    │   │   ├── MetadataTooLargeError  metadata_too_large
    │   │   ├── QueueNotFoundError     queue_not_found
    │   │   └── TooManyTagsError       too_many_tags
    │   ├── InvalidPayloadError        invalid_payload
    │   ├── UnknownTaskError           unknown_task
    │   ├── TaskDisabledError          task_disabled
    │   ├── DuplicateJobError          duplicate_job
    │   ├── NameTakenError             name_taken
    │   ├── JobNotFoundError           job_not_found
    │   ├── JobStateError              job_state
    │   ├── BatchNotFoundError         batch_not_found
    │   ├── BatchAbortedError          batch_aborted
    │   ├── ReplayMismatchError        replay_mismatch
    │   ├── RecallNotFoundError        recall_not_found
    │   ├── RecallConflictError        recall_conflict
    │   ├── BulkActionNotFoundError    bulk_action_not_found
    │   ├── FlagConflictError          flag_conflict
    │   ├── DrillConflictError         drill_conflict
    │   ├── FinalizationError          not_finalized
    │   ├── ExecutorFinalizedError     executor_finalized
    │   ├── ChangeNotFoundError        change_not_found
    │   ├── KeyNotFoundError           key_not_found
    │   ├── TokenSpentError            token_spent
    │   ├── ScheduleNotFoundError      schedule_not_found
    │   ├── ScheduleStateError         schedule_state
    │   ├── TokenNotFoundError         token_not_found
    │   └── SubscriptionNotFoundError  subscription_not_found
    ├── JobEndedError                  job_ended            raised by ``job.result()``
    │   ├── JobFailedError             job_failed
    │   └── JobCanceledError           job_canceled
    ├── ProcessDiedError               process_died         of a handler with isolation="process"
    ├── ResultTimeoutError             result_timeout       also a TimeoutError
    ├── TokenTimedOutError             token_timed_out      in a handler that waits; also a TimeoutError
    ├── StoreError                     store
    │   ├── DatabaseUnavailableError   database_unavailable   worth trying again
    │   ├── SchemaError                schema
    │   └── EmbeddedPostgresError      embedded_postgres
    ├── ExecutorError                  executor             how a call to a remote ended
    │   ├── NotSentError               not_sent             surely not there, this time
    │   ├── ThrottledError             throttled            a known no for now
    │   ├── RejectedError              rejected             a known no for good
    │   ├── UnknownOutcomeError        unknown_outcome      it may have been taken
    │   └── UnsupportedError           unsupported          this executor cannot do that
    ├── WebhookError                   webhook
    │   ├── SignatureError             invalid_signature
    │   ├── BodyTooLargeError          body_too_large
    │   └── MalformedEventError        malformed_event
    └── JobControl                     job_control          raised by handlers, on purpose
        ├── AbortJobError              abort                do not retry
        ├── RetryJobError              retry                retry at a given time
        ├── SnoozeJobError             snooze               later, and no attempt is spent
        └── JobInterruptedError        interrupted          it is to stop, and stops
"""

from __future__ import annotations

from adapter.domain.errors.base import (
    AdapterError,
)
from adapter.domain.errors.boot import (
    ConfigurationError,
    NotOpenError,
    TaskDefinitionError,
    UnknownExecutorError,
)
from adapter.domain.errors.control import (
    AbortJobError,
    JobControl,
    JobInterruptedError,
    RetryJobError,
    SnoozeJobError,
)
from adapter.domain.errors.endings import (
    JobCanceledError,
    JobEndedError,
    JobFailedError,
    ProcessDiedError,
    ResultTimeoutError,
    TokenTimedOutError,
)
from adapter.domain.errors.remotes import (
    BodyTooLargeError,
    ExecutorError,
    MalformedEventError,
    NotSentError,
    RejectedError,
    SignatureError,
    ThrottledError,
    UnknownOutcomeError,
    UnsupportedError,
    WebhookError,
)
from adapter.domain.errors.requests import (
    BatchAbortedError,
    BatchNotFoundError,
    BulkActionNotFoundError,
    ChangeNotFoundError,
    DrillConflictError,
    DuplicateJobError,
    ExecutorFinalizedError,
    FinalizationError,
    FlagConflictError,
    InvalidArgumentError,
    InvalidCronError,
    InvalidPayloadError,
    JobNotFoundError,
    JobStateError,
    KeyNotFoundError,
    MetadataTooLargeError,
    NameTakenError,
    QueueNotFoundError,
    RecallConflictError,
    RecallNotFoundError,
    ReplayMismatchError,
    RequestError,
    ScheduleNotFoundError,
    ScheduleStateError,
    SubscriptionNotFoundError,
    TaskDisabledError,
    TokenNotFoundError,
    TokenSpentError,
    TooManyTagsError,
    UnknownTaskError,
)
from adapter.domain.errors.stores import (
    DatabaseUnavailableError,
    EmbeddedPostgresError,
    SchemaError,
    StoreError,
)

__all__ = [
    "AbortJobError",
    "AdapterError",
    "BatchAbortedError",
    "BatchNotFoundError",
    "BodyTooLargeError",
    "BulkActionNotFoundError",
    "ChangeNotFoundError",
    "ConfigurationError",
    "DatabaseUnavailableError",
    "DrillConflictError",
    "DuplicateJobError",
    "EmbeddedPostgresError",
    "ExecutorError",
    "ExecutorFinalizedError",
    "FinalizationError",
    "FlagConflictError",
    "InvalidArgumentError",
    "InvalidCronError",
    "InvalidPayloadError",
    "JobCanceledError",
    "JobControl",
    "JobEndedError",
    "JobFailedError",
    "JobInterruptedError",
    "JobNotFoundError",
    "JobStateError",
    "KeyNotFoundError",
    "MalformedEventError",
    "MetadataTooLargeError",
    "NameTakenError",
    "NotOpenError",
    "NotSentError",
    "ProcessDiedError",
    "QueueNotFoundError",
    "RecallConflictError",
    "RecallNotFoundError",
    "RejectedError",
    "ReplayMismatchError",
    "RequestError",
    "ResultTimeoutError",
    "RetryJobError",
    "ScheduleNotFoundError",
    "ScheduleStateError",
    "SchemaError",
    "SignatureError",
    "SnoozeJobError",
    "StoreError",
    "SubscriptionNotFoundError",
    "TaskDefinitionError",
    "TaskDisabledError",
    "ThrottledError",
    "TokenNotFoundError",
    "TokenSpentError",
    "TokenTimedOutError",
    "TooManyTagsError",
    "UnknownExecutorError",
    "UnknownOutcomeError",
    "UnknownTaskError",
    "UnsupportedError",
    "WebhookError",
]
