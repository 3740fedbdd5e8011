"""One thing done to many jobs: what was asked, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias
from uuid import UUID

BulkVerb: TypeAlias = Literal["cancel", "replay"]


class BulkState(StrEnum):
    """Where a bulk action stands."""

    #: Its jobs are being found, or acted on.
    PENDING = "pending"
    #: Every job was acted on.
    COMPLETED = "completed"
    #: Somebody stopped it; what was done is done.
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAction:
    """One bulk action. ``total`` grows until every job is found; then ``succeeded`` and ``failed`` come to it.

    ``overrides``: what each replay is given over what is copied of its original.
    """

    id: UUID
    action: BulkVerb
    name: str | None
    state: BulkState
    actor: str
    total: int
    succeeded: int
    failed: int
    selected: bool
    overrides: Mapping[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
