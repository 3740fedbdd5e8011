"""The part of Trigger.dev's HTTP API that its SDK needs, answered from our own jobs."""
