"""Use cases: schedule, dispatch, work, complete, cancel, reconcile. Each loop has ``run_once()``."""
