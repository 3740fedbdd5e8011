"""What `adapter jobs show` makes of what handlers said."""

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from adapter.cli.job_views import job_sheet
from tests.rig import a_running_job

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        ({"value": 0.4, "message": "loading"}, "40% loading"),
        ({"value": 1}, "100%"),
        ("half way", None),
        ({"value": "40"}, None),
    ],
)
def test_progress_is_shown_where_it_is_progress(progress: Any, shown: str | None) -> None:
    job = a_running_job(metadata={"progress": progress})
    console = Console(width=200)
    with console.capture() as captured:
        console.print(*job_sheet(job, [], NOW))
    lines = [line.split(maxsplit=1)[1] for line in captured.get().splitlines() if line.startswith("progress")]
    assert [line.strip() for line in lines] == ([] if shown is None else [shown])
