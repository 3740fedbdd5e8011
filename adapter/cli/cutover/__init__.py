"""`adapter cutover`: moving tasks between executors, told in the order in which it is done.

A verb is a function in a file of its part; this is where it gets its name and its place in the story.
"""

from __future__ import annotations

import typer

from adapter.cli.cutover import (
    changes,
    circuits,
    draining,
    explaining,
    finishing,
    health,
    kills,
    parity,
    recalls,
    rollouts,
    shadows,
    state,
)

_HELP = """Move tasks between executors, see what it does, and be back in a second.

Switches steer new jobs and never touch one that was given away; only `rollback` and `migrate-pending` move those. Every change needs a --reason and is written \
down with who made it; `revert` takes it back.
"""

LOOK = "1. Look: where do jobs go, and why?"
MOVE = "2. Move: a share, then all"
WATCH = "3. Watch: is it equal, is it well?"
BACK = "4. Go back: new jobs at once, the others by recall"
FINISH = "5. Finish: nothing is left there"

app = typer.Typer(no_args_is_help=True, help=_HELP)

app.command("status", rich_help_panel=LOOK)(state.status)
app.command("explain", rich_help_panel=LOOK)(explaining.explain)
app.command("history", rich_help_panel=LOOK)(changes.history)

app.command("rollout", rich_help_panel=MOVE)(rollouts.rollout)
app.command("resalt", rich_help_panel=MOVE)(rollouts.resalt)
app.command("withdraw", rich_help_panel=MOVE)(rollouts.withdraw)
app.command("migrate-pending", rich_help_panel=MOVE)(recalls.migrate_pending)

app.command("shadow", rich_help_panel=WATCH)(shadows.shadow)
app.command("parity", rich_help_panel=WATCH)(parity.parity)
app.command("health", rich_help_panel=WATCH)(health.health)
app.command("trip", rich_help_panel=WATCH)(health.trip)
app.command("resume", rich_help_panel=WATCH)(circuits.resume)

app.command("rollback", rich_help_panel=BACK)(recalls.rollback)
app.command("recalls", rich_help_panel=BACK)(recalls.recalls)
app.command("resume-recall", rich_help_panel=BACK)(recalls.resume_recall)
app.command("stop-recall", rich_help_panel=BACK)(recalls.stop_recall)
app.command("kill", rich_help_panel=BACK)(kills.kill)
app.command("unkill", rich_help_panel=BACK)(kills.unkill)
app.command("revert", rich_help_panel=BACK)(changes.revert)
app.command("can-go-back", rich_help_panel=BACK)(draining.can_go_back)
app.command("drill", rich_help_panel=BACK)(finishing.drill)
app.command("drills", rich_help_panel=BACK)(finishing.drills)

app.command("drain", rich_help_panel=FINISH)(draining.drain)
app.command("wait-drained", rich_help_panel=FINISH)(draining.wait_drained)
app.command("finalize", rich_help_panel=FINISH)(finishing.finalize)
app.command("reopen", rich_help_panel=FINISH)(finishing.reopen)
