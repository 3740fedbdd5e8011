"""An application whose registry is the guide's, for the command line: ``--app tests.seeds.application:adapter``."""

from typing import Any

from adapter import Adapter

adapter = Adapter.from_env()


async def watch_chain(_payload: Any) -> str:
    return "watched"


adapter.declare(
    {
        "watchChain": {"executor": "internal", "workerJobType": "watchChain"},
        "processLargeDataset": {"executor": "internal", "triggerTaskId": "process-large-dataset"},
    },
    handlers={"watchChain": watch_chain, "processLargeDataset": watch_chain},
)
