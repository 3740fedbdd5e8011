"""What users' tests import: a clean database, time that can be moved, assertions, executors that fail on request.

Everything runs on the real store; there is no second implementation that could disagree with it.
"""

from adapter.testing.database import JobDatabase, embedded_database
from adapter.testing.kit import JobsKit, opened
from adapter.testing.remote import Failure, MemoryExecutor, MemoryRun

__all__ = [
    "Failure",
    "JobDatabase",
    "JobsKit",
    "MemoryExecutor",
    "MemoryRun",
    "embedded_database",
    "opened",
]
