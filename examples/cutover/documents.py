"""The jobs of the document service, for the walk: the same handlers, which can run there, too.

Its clock is not declared here: the walk finds it kept there, and takes it home.
"""

from __future__ import annotations

from typing import Any

from adapter import Adapter
from examples.document_jobs import jobs

TABLES = jobs.TABLES
CLOCK = "reset-usage"


def declare(adapter: Adapter, home: str) -> None:
    """Declare the seven jobs and the reset of usage on an adapter; they go ``home`` unless a flag says else."""
    for each in jobs.adapter.registry:
        policy = each.policy
        assert each.handler is not None
        options: dict[str, Any] = {
            "queue": policy.queue,
            "retry": policy.retry,
            "idempotent": policy.idempotent,
        }
        if policy.batch is not None:
            options["batch"] = policy.batch
        there = {"trigger": policy.id}
        adapter.task(policy.id, executor=home, remote_id=there, **options)(each.handler)


def of_a_week(week: int) -> dict[str, dict[str, Any]]:
    """Return a payload for each of the seven."""
    name = f"of week {week}"
    return {
        "trigger-ingestion-job": {"ingest_job": f"upload {name}"},
        "re-ingest-job": {"ingest_job": f"manual {name}"},
        "delete-document-job": {"document": f"document {name}"},
        "delete-ingest-job": {"ingest_job": f"leaflet {name}"},
        "delete-namespace-job": {"namespace": f"namespace {name}"},
        "delete-organization-job": {"organization": f"organization {name}"},
        "meter-org-documents-job": {"organization": f"acme {name}", "documents": week},
    }
