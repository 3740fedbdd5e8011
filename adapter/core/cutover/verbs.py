"""Every verb of a cutover, as the adapter has them."""

from __future__ import annotations

from adapter.core.cutover.comparing_verbs import ComparesExecutors
from adapter.core.cutover.finishing_verbs import FinishesCutovers
from adapter.core.cutover.health_verbs import WatchesExecutors
from adapter.core.cutover.looking_verbs import ShowsCutover
from adapter.core.cutover.recall_verbs import RecallsJobs
from adapter.core.cutover.steering_verbs import SteersJobs


class CutsOver(ComparesExecutors, FinishesCutovers, RecallsJobs, ShowsCutover, SteersJobs, WatchesExecutors):
    """Mixed into the adapter. Each base is one part of a cutover."""
