"""Rows of the migration plan of a document service (S4): its registry is ready to be used."""

import runpy

import pytest

from adapter import Adapter, Batch, Cron
from tests import kit

SEVEN = {
    "trigger-ingestion-job",
    "delete-document-job",
    "delete-ingest-job",
    "delete-namespace-job",
    "delete-organization-job",
    "meter-org-documents-job",
    "re-ingest-job",
}


def test_seven_jobs_and_reset_usage_with_batch_capable_metering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/shop")
    adapter = runpy.run_path(str(kit.ROOT / "examples/document_jobs/jobs.py"))["adapter"]
    assert isinstance(adapter, Adapter)
    assert set(adapter.registry.runnable) == SEVEN | {"reset-usage"}
    assert adapter.registry.get("reset-usage").policy.cron == Cron("0 12 * * *", "UTC")
    assert [each.id for each in adapter.registry if each.policy.batch is not None] == [
        "meter-org-documents-job"
    ]
    assert adapter.registry.get("meter-org-documents-job").policy.batch == Batch(size=100)
