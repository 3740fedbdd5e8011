"""What ``--app examples.demo.app:adapter`` names, for the processes of both sides.

The remote is a second adapter with a database, a key and a worker of its own, reached over HTTP like
Trigger.dev.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from adapter import Adapter
from examples.demo.tasks import Ledger, declare

# Some files of the library have warnings on purpose.
warnings.simplefilter("ignore", SyntaxWarning)
warnings.simplefilter("ignore", DeprecationWarning)

adapter = Adapter.from_env()
declare(adapter, Ledger(Path(os.environ["DEMO_LEDGER"]), os.environ["DEMO_SIDE"]))
